import JSONValues

/// Something odd about the samples of a dataset that a user should know before training on them.
public struct DataRemark: Sendable, Equatable {
  /// What is odd.
  public enum Kind: Sendable, Hashable {
    /// A turn of the assistant without words.
    case emptyAnswer
    /// A message whose words the chat template does not write, by its role.
    case lostMessage(role: String)
    /// The spelling of a special token in somebody's words.
    case specialToken(String)
    /// A sample that came before, token for token.
    case duplicate
  }

  /// What is odd.
  public var kind: Kind
  /// Samples it was found in.
  public var count: Int
  /// File of the first of them.
  public var path: String
  /// Its line.
  public var line: Int

  /// One line for people: what, how often, where first, and what it does.
  public var description: String {
    "\(count) sample\(count == 1 ? "" : "s") \(kind.description) (first: \(path):\(line)); \(kind.consequence)"
  }
}

extension DataRemark.Kind {
  /// What a sample does, after "it" or "they".
  var description: String {
    switch self {
    case .emptyAnswer: "with an empty turn of the assistant"
    case .lostMessage(let role): "with a message of \(quoted(role)) that the chat template does not write"
    case .specialToken(let token): "with the special token \(quoted(token)) in its words"
    case .duplicate: "seen before"
    }
  }

  /// What comes of it.
  var consequence: String {
    switch self {
    case .emptyAnswer: "they teach the model to say nothing"
    case .lostMessage: "the model never reads those words"
    case .specialToken: "they are taken for text, not for tokens (--parse-special)"
    case .duplicate: "they weigh more than the others"
    }
  }

  /// The kind as two words for a file.
  var words: [String] {
    switch self {
    case .emptyAnswer: ["empty-answer", ""]
    case .lostMessage(let role): ["lost-message", role]
    case .specialToken(let token): ["special-token", token]
    case .duplicate: ["duplicate", ""]
    }
  }

  init?(words: [String]) {
    guard words.count == 2 else { return nil }
    switch words[0] {
    case "empty-answer": self = .emptyAnswer
    case "lost-message": self = .lostMessage(role: words[1])
    case "special-token": self = .specialToken(words[1])
    case "duplicate": self = .duplicate
    default: return nil
    }
  }
}

extension DataRemark {
  /// The remark for a file.
  var json: JSONValue {
    [
      "kind": .string(kind.words[0]), "detail": .string(kind.words[1]), "count": .integer(count),
      "path": .string(path), "line": .integer(line),
    ]
  }

  init?(_ json: JSONValue) {
    guard let id = json["kind"]?.string, let detail = json["detail"]?.string,
      let kind = Kind(words: [id, detail]), let count = json["count"]?.integer, let path = json["path"]?.string,
      let line = json["line"]?.integer
    else { return nil }
    self.init(kind: kind, count: count, path: path, line: line)
  }
}
