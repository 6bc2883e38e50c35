/// The last message of a conversation whose answer is begun: the text ends with its words.
struct FinalMessage {
  /// What marks the end of the words while they are rendered.
  private static let tag = "CONTINUE_FINAL_MESSAGE_TAG "
  private let words: String

  /// Puts the mark behind the words of the last message.
  init(in messages: inout [TemplateValue], of source: String) throws(TemplateError) {
    guard case .dictionary(var message)? = messages.last, let content = message["content"], !content.isNone else {
      throw Self.error("there is no last message with content to continue")
    }
    guard source.contains("content") else { throw Self.error("the template writes no content to continue") }
    switch content {
    case .string(let text):
      words = text
      message["content"] = .string(text + Self.tag)
    case .list(var parts):
      var found: String?
      for index in parts.indices.reversed() {
        guard case .dictionary(var part) = parts[index], case .string(let text)? = part["text"] else { continue }
        part["text"] = .string(text + Self.tag)
        parts[index] = .dictionary(part)
        found = text
        break
      }
      guard let found else { throw Self.error("the last message has no text to continue") }
      words = found
      message["content"] = .list(parts)
    default: throw Self.error("the content of the last message is no text to continue")
    }
    messages[messages.count - 1] = .dictionary(message)
  }

  /// The text up to the mark.
  func cut(_ text: String) throws(TemplateError) -> String {
    let bytes = Array(text.utf8)
    let tag = Array(Self.tag.utf8)
    let bare = Array(tag.dropLast())
    guard PythonText.contains(text, PythonText.strip(words, nil)),
      let fromEnd = PythonText.find(bare.reversed(), in: bytes.reversed())
    else { throw Self.error("the last message, which is to be continued, is not in what the template writes") }
    let place = bytes.count - fromEnd - bare.count
    let head = String(decoding: bytes[..<place], as: UTF8.self)
    // Where the template strips words, the mark's own space is gone, and so is what was before it.
    return bytes[place...].starts(with: tag) ? head : PythonText.strip(head, nil, left: false)
  }

  private static func error(_ message: String) -> TemplateError {
    TemplateError(line: 0, column: 0, message: message)
  }
}
