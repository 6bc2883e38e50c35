import CPUDevice
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
    options.pairs = dataset.sources.allSatisfy { $0.format == .preference }
    let data = try TokenizedDataset(
      dataset, tokenizer: tokenizer, options: options, isCached: configuration.dataCache)
    return (data, dataset.description)
  }
}
