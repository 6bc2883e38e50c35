import JSONValues
import Tokenization

/// Finds out what a template does by rendering small conversations with it.
struct TemplateProbe {
  /// A message of a small conversation; each has words of its own.
  enum Turn {
    case system
    case user(Int)
    case assistant(Int)
    /// The assistant calls a tool.
    case call
    case tool

    var role: String {
      switch self {
      case .system: "system"
      case .user: "user"
      case .assistant, .call: "assistant"
      case .tool: "tool"
      }
    }

    var words: String {
      switch self {
      case .system: "Zq7 system"
      case .user(let number): "Zq7 question \(number)"
      case .assistant(let number): "Zq7 reply \(number)"
      case .call: ""
      case .tool: "Zq7 result"
      }
    }

    var message: JSONValue {
      var message: JSONObject = ["role": .string(role), "content": .string(words)]
      switch self {
      case .call:
        message["tool_calls"] = [
          ["id": "callZq700", "type": "function", "function": ["name": "lookup", "arguments": ["key": "value"]]]
        ]
      case .tool:
        message["name"] = "lookup"
        message["tool_call_id"] = "callZq700"
      default: break
      }
      return .object(message)
    }
  }

  let template: ChatTemplate
  let variables: JSONObject

  /// A conversation as the template writes it.
  func text(_ turns: [Turn], prompt: Bool = false) throws(TemplateError) -> [UInt8] {
    Array(
      try template.render(
        .array(turns.map(\.message)), addGenerationPrompt: prompt, variables: variables,
        limits: ChatTemplate.Limits(seconds: 0.25)
      ).utf8)
  }

  /// A conversation as the template writes it; `nil` where it refuses.
  func render(_ turns: [Turn], prompt: Bool = false) -> [UInt8]? { try? text(turns, prompt: prompt) }

  /// What a template writes from the end of one turn's words on.
  static func after(_ turn: Turn, in text: [UInt8]?) -> [UInt8]? {
    guard let text else { return nil }
    let words = Array(turn.words.utf8)
    return find(words, in: text).map { Array(text[($0 + words.count)...]) }
  }

  /// What a template writes between two turns' words.
  static func between(_ first: Turn, _ second: Turn, in text: [UInt8]?) -> [UInt8]? {
    guard let rest = after(first, in: text) else { return nil }
    return find(second.words.utf8, in: rest).map { Array(rest[..<$0]) }
  }

  /// What closes the assistant's turn, both at the end of a conversation and within one; `nil` where it cannot be seen.
  var turnClose: (close: [UInt8], rest: [UInt8])? {
    let turns = [Turn.user(1), .assistant(1)]
    guard let last = Self.after(.assistant(1), in: render(turns)) else { return nil }
    guard let middle = Self.after(.assistant(1), in: render(turns + [.user(2)])) else { return (last, []) }
    let count = zip(last, middle).prefix { $0 == $1 }.count
    return (Array(last.prefix(count)), Array(last.dropFirst(count)))
  }

  /// What stands before the user's words in a conversation that goes on.
  var userHeader: [UInt8]? {
    let text = render([.user(1), .assistant(1), .user(2)])
    guard let between = Self.between(.assistant(1), .user(2), in: text), let close = turnClose?.close else {
      return nil
    }
    return between.starts(with: close) ? Array(between.dropFirst(close.count)) : between
  }
}

/// Whether bytes are white space alone.
func isBlank(_ bytes: some Sequence<UInt8>) -> Bool { bytes.allSatisfy { $0 == 0x20 || (0x09...0x0D).contains($0) } }

/// Bytes without white space at both ends.
func trimmed(_ bytes: [UInt8]) -> [UInt8] {
  func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
  var result = bytes[...]
  while let first = result.first, isSpace(first) { result.removeFirst() }
  while let last = result.last, isSpace(last) { result.removeLast() }
  return Array(result)
}
