import JSONValues

/// Under which keys a file has what a format calls otherwise: `--field instruction=question`.
public struct FieldMapping: Sendable, Equatable {
  /// One name of a format and the file's key for it.
  struct Field: Sendable, Equatable {
    var name: String
    var key: String
  }

  let fields: [Field]

  /// No other names than the formats' own.
  public static let none = FieldMapping(fields: [])

  /// Names of a record.
  static let recordNames = [
    "messages", "conversations", "instruction", "input", "output", "system", "question", "answer", "prompt",
    "completion", "chosen", "rejected", "text", "tools",
  ]
  /// Names of a message in a conversation.
  static let messageNames = ["role", "content", "from", "value"]

  private init(fields: [Field]) { self.fields = fields }

  /// Reads words like `instruction=question`.
  public init(_ words: [String]) throws(TrainingConfigurationError) {
    var fields: [Field] = []
    for word in words {
      guard let equals = word.firstIndex(of: "="), equals != word.startIndex, word.index(after: equals) != word.endIndex
      else {
        throw TrainingConfigurationError(
          option: "field", reason: "\"\(word)\" is not NAME=KEY, such as instruction=question")
      }
      let name = String(word[..<equals])
      guard (Self.recordNames + Self.messageNames).contains(name) else {
        throw TrainingConfigurationError(
          option: "field",
          reason: "no format reads \(quoted(name)); NAME is one of "
            + (Self.recordNames + Self.messageNames).joined(separator: ", "))
      }
      guard !fields.contains(where: { $0.name == name }) else {
        throw TrainingConfigurationError(option: "field", reason: "\"\(name)\" is given twice")
      }
      fields.append(Field(name: name, key: String(word[word.index(after: equals)...])))
    }
    self.fields = fields
  }

  /// A record under the names that formats read.
  func apply(to record: JSONObject) throws(FormatProblem) -> JSONObject {
    if fields.isEmpty { return record }
    var result = record
    let ofRecord = fields.filter { Self.recordNames.contains($0.name) }
    for field in ofRecord { result[field.key] = nil }
    for field in ofRecord {
      guard let value = record[field.key] else {
        throw FormatProblem(
          "the record has no `\(field.key)` (--field \(field.name)=\(field.key)); its keys are "
            + record.keys.prefix(8).map(quoted).joined(separator: ", "))
      }
      result[field.name] = value
    }
    let ofMessages = fields.filter { Self.messageNames.contains($0.name) }
    guard !ofMessages.isEmpty else { return result }
    func renamed(_ message: JSONValue) -> JSONValue {
      guard var object = message.object else { return message }
      for field in ofMessages {
        guard let value = message[field.key] else { continue }
        object[field.key] = nil
        object[field.name] = value
      }
      return .object(object)
    }
    for key in ["messages", "conversations", "prompt", "completion", "chosen", "rejected"] {
      switch result[key] {
      case .array(let messages)?: result[key] = .array(messages.map(renamed))
      case .object?: result[key] = result[key].map(renamed)
      default: break
      }
    }
    return result
  }
}
