import Glibc
import ModelFiles
import Tokenization

/// A look at a model's tokenizer, special tokens and chat template: what is wrong, and what would mend it.
///
/// ```swift
/// let examination = try Examination(of: "phi-4")
/// for finding in examination.findings { print(finding.severity, finding.message) }
/// try examination.repair(into: "phi-4-repaired")
/// ```
public struct Examination: Sendable {
  /// How much is looked at.
  public enum Depth: Sendable {
    /// What concerns training and generation with a tokenizer that is loaded already; no weights are read.
    case tokens
    /// Everything.
    case full
  }

  /// The folder or file.
  public let path: String
  /// What was found, the worst first.
  public let findings: [Finding]
  let patient: Patient
  let plan: Plan

  private static let quickChecks: [any Check.Type] = [
    TemplateSyntaxCheck.self, GenerationPromptCheck.self, LostMessageCheck.self, EndOfTurnCheck.self,
    PaddingCheck.self, IdentifierCheck.self, DoubleBOSCheck.self, SplitTokenCheck.self, EmbeddingRowCheck.self,
    LabelCheck.self, ContextLengthCheck.self,
  ]
  private static let slowChecks: [any Check.Type] = [UntrainedRowCheck.self, TokenizerFilesCheck.self]

  /// Looks at a model: a Hugging Face folder, with or without weights, or a `.gguf` file.
  ///
  /// Throws a `ModelFileError` when there is no model at the path.
  public init(of path: String, depth: Depth = .full) throws {
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw ModelFileError(path, "cannot be opened: \(String(cString: strerror(errno)))")
    }
    if status.st_mode & S_IFMT == S_IFDIR {
      var patient = Patient(folder: path)
      guard !patient.files.isEmpty || !patient.findings.isEmpty || patient.tokenizer != nil else {
        throw ModelFileError(path, "this is no model: there is neither a configuration nor a tokenizer here")
      }
      if patient.files.isEmpty, patient.tokenizer == nil, patient.templates.isEmpty,
        patient.findings.allSatisfy({ $0.id == "tokenizer-missing" })
      {
        throw ModelFileError(path, "this is no model: there is neither a configuration nor a tokenizer here")
      }
      if depth == .full { patient.readWeights() }
      self.init(patient, depth)
    } else {
      self.init(Patient(gguf: try GGUFFile(path: path)), depth)
    }
  }

  init(_ patient: Patient, _ depth: Depth) {
    var plan = Plan()
    var findings = patient.findings
    for check in Self.quickChecks + (depth == .full ? Self.slowChecks : []) {
      findings += check.examine(patient, &plan)
    }
    path = patient.path
    // Stable: checks come in the order of what they say.
    self.findings = Severity.allCases.sorted().flatMap { severity in findings.filter { $0.severity == severity } }
    self.patient = patient
    self.plan = plan
  }

  /// The model's tokenizer as its files have it, where they make one.
  public var tokenizer: Tokenizer? { patient.tokenizer }

  /// Whether nothing breaks: there may be warnings and notes.
  public var isSound: Bool { !findings.contains { $0.severity == .error } }

  /// The changes of files that mend what can be mended.
  var edits: [Edit] { findings.filter { $0.severity != .note }.flatMap(\.edits) }
}
