/// How bad a finding is.
public enum Severity: String, Sendable, CaseIterable, Comparable {
  /// Training or generation goes wrong.
  case error
  /// It can go wrong with other programs, or with some data.
  case warning
  /// Nothing is wrong; it is good to know.
  case note

  /// The worse comes first.
  public static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }

  private var rank: Int {
    switch self {
    case .error: 0
    case .warning: 1
    case .note: 2
    }
  }
}

/// Something that a model's files say and that is not right.
public struct Finding: Sendable {
  /// What kind of finding this is; `docs/doctor.md` lists all.
  public let id: String
  /// How bad it is.
  public let severity: Severity
  /// What is wrong and what it breaks, in plain words.
  public let message: String
  /// What was seen, and where.
  public let evidence: String
  /// What mends it.
  public let repair: String
  /// The changes of the files that mend it; none where it cannot be mended by changing them.
  let edits: [Edit]

  init(_ id: String, _ severity: Severity, _ message: String, evidence: String, repair: String, edits: [Edit] = []) {
    self.id = id
    self.severity = severity
    self.message = message
    self.evidence = evidence
    self.repair = repair
    self.edits = edits
  }

  /// Makes a finding that no change of the model's files mends.
  public init(id: String, severity: Severity, message: String, evidence: String, repair: String) {
    self.init(id, severity, message, evidence: evidence, repair: repair)
  }

  /// Whether `--fix` mends it.
  public var isRepairable: Bool { !edits.isEmpty }

  /// Whether it is mended in memory when a model is loaded: what spoils training and generation is.
  var isTreatable: Bool { severity == .error && isRepairable && Self.treatable.contains(id) }

  private static let treatable: Set = [
    "eos-not-end-of-turn", "template-opens-turn-unasked", "template-ignores-generation-prompt",
    "special-token-splits",
  ]
}
