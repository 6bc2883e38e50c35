import ModelFiles
import Tokenization

/// A model's tokenizer, with what would spoil training or generation repaired in memory.
public struct TreatedTokenizer: Sendable {
  /// The tokenizer to use.
  public let tokenizer: Tokenizer
  /// What was looked at to get it.
  public let examination: Examination

  /// Loads and examines the tokenizer of a checkpoint.
  ///
  /// - Parameters:
  ///   - source: Where the tokenizer is.
  ///   - chatTemplate: The template to use instead of the model's own, which are then not read.
  public init(_ source: Checkpoint.TokenizerSource, chatTemplate: ChatTemplate? = nil) throws {
    switch source {
    case .folder(let folder):
      let plain = try Tokenizer(folder: folder, chatTemplate: chatTemplate)
      examination = Examination(Patient(folder: folder, tokenizer: plain, chatTemplate: chatTemplate), .tokens)
      tokenizer = try examination.overrides.map { try Tokenizer(folder: folder, overrides: $0) } ?? plain
    case .gguf(let file):
      let metadata = try GGUFTokenizerMetadata(file.metadata, path: file.path)
      let plain = try Tokenizer(gguf: metadata, chatTemplate: chatTemplate)
      examination = Examination(Patient(gguf: file, tokenizer: plain, chatTemplate: chatTemplate), .tokens)
      tokenizer = try examination.overrides.map { try Tokenizer(gguf: metadata, overrides: $0) } ?? plain
    }
  }
}

extension Examination {
  /// What a user of the model in memory should know, each one line: what was repaired, and what is broken and could not be.
  public var remarks: [String] {
    let errors = findings.filter { $0.severity == .error }
    return errors.map { finding in
      finding.isTreatable
        ? "repaired in memory: \(finding.id): \(finding.repair)"
        : "\(finding.id): \(finding.message)"
    } + (errors.isEmpty ? [] : ["'swiftlet doctor \(path)' tells more; --strict refuses such a model"])
  }

  /// Throws a `ModelFileError` when something breaks.
  public func requireSound() throws {
    guard let finding = findings.first(where: { $0.severity == .error }) else { return }
    throw ModelFileError(
      path, "refused because of --strict: \(finding.id): \(finding.evidence); 'swiftlet doctor' tells more and repairs")
  }
}
