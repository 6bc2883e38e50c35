import Doctor
import ModelFiles
import Tokenization
import Training

/// The first samples of a run's data as training would see them, without the model's weights.
public struct DataPreview: Sendable {
  /// The samples, tokenized.
  public let data: TokenizedDataset
  /// The files with their formats, one line each.
  public let description: String
  /// The tokenizer that made them.
  public let tokenizer: Tokenizer
  /// What was found out about the tokenizer.
  public let examination: Examination

  /// Reads the first samples, at most `count`.
  /// - Parameter path: where the model lies.
  public init(modelAt path: String, configuration: TrainingConfiguration, count: Int) throws {
    let template = try configuration.chatTemplate.map { try ChatTemplate(file: $0) }
    let treated = try TreatedTokenizer(Checkpoint.open(path: path).tokenizerSource, chatTemplate: template)
    if configuration.strict { try treated.examination.requireSound() }
    (tokenizer, examination) = (treated.tokenizer, treated.examination)
    (data, description) = try TokenizedDataset.make(
      configuration.data, configuration, tokenizer: tokenizer, sampleLimit: count)
  }
}
