import CPUDevice
import JSONValues
import Tokenization
import Training

extension TokenizedDataset {
  /// The samples of data files in tokens as a configuration asks for; also the files' formats, one line each.
  static func make(
    _ paths: [String], _ configuration: TrainingConfiguration, tokenizer: Tokenizer, sampleLimit: Int = .max
  ) throws -> (data: TokenizedDataset, description: String) {
    let dataset = try Dataset(paths: paths, options: .init(configuration))
    var options = TokenizedDataset.Options(configuration, threads: CPUDevice.threadCount)
    options.sampleLimit = sampleLimit
    options.pairs = dataset.holdsPairs
    let data = try TokenizedDataset(
      dataset, tokenizer: tokenizer, options: options, isCached: configuration.dataCache)
    return (data, dataset.description)
  }

  /// What a run's report says of its data: formats, counts, lengths, warnings.
  func facts(_ formats: String, _ configuration: TrainingConfiguration) -> JSONValue {
    [
      "files": .array(formats.split(separator: "\n").map { .string(String($0)) }), "counts": counts.json,
      "lengths": LengthStatistics(self, batchSize: configuration.batchSize, seed: configuration.seed).json,
      "warnings": .array(remarks.map { .string($0.description) }),
    ]
  }
}
