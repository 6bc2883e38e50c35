import Tokenization
import Training

/// A run's data, tokenized: once for its plan and its steps.
struct RunData {
  /// The training data.
  var training: TokenizedDataset
  /// The formats that its files were recognized as, one line each.
  var description: String
  /// The held-out data.
  var evaluation: TokenizedDataset?
  /// What it was made for.
  private let configuration: TrainingConfiguration

  /// Reads and tokenizes the data that `configuration` names.
  init(_ configuration: TrainingConfiguration, tokenizer: Tokenizer) throws {
    self.configuration = configuration
    (training, description) = try TokenizedDataset.make(configuration.data, configuration, tokenizer: tokenizer)
    evaluation = try configuration.evalData.map {
      try TokenizedDataset.make([$0], configuration, tokenizer: tokenizer).data
    }
  }

  /// Whether this is the data of `other` too: all that concerns data is alike.
  func serves(_ other: TrainingConfiguration) -> Bool {
    TrainingOption.all.allSatisfy { option in
      option.group != .data || option.text(in: configuration) == option.text(in: other)
    }
  }

  /// The most tokens of a run's micro-batches, and of its samples.
  func largestBatch(of run: TrainingConfiguration) -> (tokens: Int, context: Int) {
    let schedule = BatchSource(training, options: BatchSchedule.Options(run)).schedule
    let longest = evaluation?.counts.longest ?? 0
    return (max(schedule.mostTokens, run.batchSize * longest), max(training.counts.longest, longest))
  }
}
