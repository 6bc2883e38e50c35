@testable import Export

/// The part of Go's text/template that Ollama's templates of ours use, by the rules of Go's documentation.
///
/// Ollama gives a template `.Messages`, each with `.Role` and `.Content`, neighbours of one role joined, and `.System`,
/// the system messages joined.
struct GoTemplate {
  struct Failure: Error { let reason: String }

  private enum Value: Equatable {
    case integer(Int), string(String), bool(Bool)
    case messages([[String: String]]), message([String: String])

    var isTrue: Bool {
      switch self {
      case .integer(let value): value != 0
      case .string(let text): !text.isEmpty
      case .bool(let value): value
      case .messages(let list): !list.isEmpty
      case .message: true
      }
    }
  }

  private indirect enum Node {
    case text(String)
    case action([String])
    case assign(String, [String])
    case branch([(condition: [String]?, body: [Node])])
    case loop(index: String, element: String, [String], [Node])
  }

  private let body: [Node]

  init(_ source: String) throws {
    var parts: [(isAction: Bool, text: String)] = []
    var rest = source[...]
    while let open = rest.firstRange(of: "{{") {
      parts.append((false, String(rest[..<open.lowerBound])))
      rest = rest[open.upperBound...]
      guard let close = Self.close(rest) else { throw Failure(reason: "unclosed action") }
      let action = String(rest[..<close])
      if action.hasPrefix("-") || action.hasSuffix("-") { throw Failure(reason: "trim markers are not expected") }
      parts.append((true, action))
      rest = rest[rest.index(close, offsetBy: 2)...]
    }
    parts.append((false, String(rest)))
    var position = 0
    body = try Self.parse(parts, &position, isOuter: true).body
    guard position == parts.count else { throw Failure(reason: "more ends than beginnings") }
  }

  /// Where an action ends; braces within quotation marks are text.
  private static func close(_ text: Substring) -> Substring.Index? {
    var isQuoted = false
    var index = text.startIndex
    while index < text.endIndex {
      if text[index] == "\"" { isQuoted.toggle() }
      if !isQuoted, text[index...].hasPrefix("}}") { return index }
      index = text.index(after: index)
    }
    return nil
  }

  private static func words(_ action: String) -> [String] {
    var words: [String] = []
    var word = ""
    var isQuoted = false
    func end() {
      if !word.isEmpty { words.append(word) }
      word = ""
    }
    for character in action {
      if character == "\"" {
        isQuoted.toggle()
        word.append(character)
      } else if isQuoted {
        word.append(character)
      } else if character == "(" || character == ")" {
        end()
        words.append(String(character))
      } else if character == " " {
        end()
      } else {
        word.append(character)
      }
    }
    end()
    return words
  }

  private static func parse(
    _ parts: [(isAction: Bool, text: String)], _ position: inout Int, isOuter: Bool
  ) throws -> (body: [Node], ending: [String]) {
    var nodes: [Node] = []
    while position < parts.count {
      let part = parts[position]
      position += 1
      guard part.isAction else {
        nodes.append(.text(part.text))
        continue
      }
      let words = words(part.text)
      switch words.first {
      case "end", "else": return (nodes, words)
      case "if":
        var branches: [(condition: [String]?, body: [Node])] = []
        var condition: [String]? = Array(words.dropFirst())
        while true {
          let (body, ending) = try parse(parts, &position, isOuter: false)
          branches.append((condition, body))
          if ending == ["end"] { break }
          condition = ending.count > 1 ? Array(ending.dropFirst(2)) : nil
        }
        nodes.append(.branch(branches))
      case "range":
        guard words.count > 4, words[3] == ":=", words[1].hasSuffix(",") else {
          throw Failure(reason: "range without variables")
        }
        let (body, ending) = try parse(parts, &position, isOuter: false)
        guard ending == ["end"] else { throw Failure(reason: "range ends with \(ending)") }
        nodes.append(.loop(index: String(words[1].dropLast()), element: words[2], Array(words[4...]), body))
      default:
        if words.count > 2, words[1] == ":=" {
          nodes.append(.assign(words[0], Array(words[2...])))
        } else {
          nodes.append(.action(words))
        }
      }
    }
    if !isOuter { throw Failure(reason: "an end is missing") }
    return (nodes, [])
  }

  // MARK: Execution

  private struct Scope {
    let system: String
    let messages: [[String: String]]
    var dot: [String: String]?
    var variables: [String: Value] = [:]
  }

  /// The text that Ollama makes of a conversation.
  func execute(_ messages: [TurnShape.Message]) throws -> String {
    var collated: [[String: String]] = []
    for message in messages {
      if let last = collated.last, last["Role"] == message.role {
        collated[collated.count - 1]["Content"] = (last["Content"] ?? "") + "\n\n" + message.content
      } else {
        collated.append(["Role": message.role, "Content": message.content])
      }
    }
    let system = messages.filter { $0.role == "system" }.map(\.content).joined(separator: "\n\n")
    var scope = Scope(system: system, messages: collated)
    return try run(body, &scope)
  }

  private func run(_ nodes: [Node], _ scope: inout Scope) throws -> String {
    var text = ""
    for node in nodes {
      switch node {
      case .text(let literal): text += literal
      case .action(let words):
        switch try evaluate(words, scope) {
        case .string(let value): text += value
        case .integer(let value): text += "\(value)"
        default: throw Failure(reason: "\(words) is no text")
        }
      case .assign(let name, let words): scope.variables[name] = try evaluate(words, scope)
      case .branch(let branches):
        for (condition, body) in branches {
          if let condition, try !evaluate(condition, scope).isTrue { continue }
          var inner = scope
          text += try run(body, &inner)
          break
        }
      case .loop(let index, let element, let words, let body):
        guard case .messages(let list) = try evaluate(words, scope) else { throw Failure(reason: "range over no list") }
        for (position, message) in list.enumerated() {
          var inner = scope
          inner.dot = message
          inner.variables[index] = .integer(position)
          inner.variables[element] = .message(message)
          text += try run(body, &inner)
        }
      }
    }
    return text
  }

  private func evaluate(_ words: [String], _ scope: Scope) throws -> Value {
    var position = 0
    let value = try call(words, &position, scope)
    guard position == words.count else { throw Failure(reason: "\(words) goes on after its value") }
    return value
  }

  /// A function and its arguments, or a single operand.
  private func call(_ words: [String], _ position: inout Int, _ scope: Scope) throws -> Value {
    guard position < words.count else { throw Failure(reason: "an operand is missing") }
    let function = words[position]
    guard ["eq", "ne", "le", "and", "or", "not", "len", "slice"].contains(function) else {
      return try operand(words, &position, scope)
    }
    position += 1
    var arguments: [Value] = []
    while position < words.count, words[position] != ")" { arguments.append(try operand(words, &position, scope)) }
    switch (function, arguments.count) {
    case ("eq", 2): return .bool(arguments[0] == arguments[1])
    case ("ne", 2): return .bool(arguments[0] != arguments[1])
    case ("and", 1...): return arguments.first { !$0.isTrue } ?? arguments[arguments.count - 1]
    case ("or", 1...): return arguments.first(where: \.isTrue) ?? arguments[arguments.count - 1]
    case ("not", 1): return .bool(!arguments[0].isTrue)
    default: break
    }
    switch (function, arguments.first, arguments.dropFirst().first) {
    case ("le", .integer(let left)?, .integer(let right)?): return .bool(left <= right)
    case ("len", .messages(let list)?, nil): return .integer(list.count)
    case ("slice", .messages(let list)?, .integer(let start)?) where start <= list.count:
      return .messages(Array(list[start...]))
    default: throw Failure(reason: "\(function) of \(arguments)")
    }
  }

  private func operand(_ words: [String], _ position: inout Int, _ scope: Scope) throws -> Value {
    let word = words[position]
    position += 1
    if word == "(" {
      let value = try call(words, &position, scope)
      guard position < words.count, words[position] == ")" else { throw Failure(reason: "a bracket is not closed") }
      position += 1
      return value
    }
    if word.hasPrefix("\"") { return .string(String(word.dropFirst().dropLast())) }
    if let number = Int(word) { return .integer(number) }
    if let value = scope.variables[word] { return value }
    switch word {
    case "$.System": return .string(scope.system)
    case "$.Messages": return .messages(scope.messages)
    case ".Messages" where scope.dot == nil: return .messages(scope.messages)
    case ".System" where scope.dot == nil: return .string(scope.system)
    case ".Role", ".Content":
      if let value = scope.dot?[String(word.dropFirst())] { return .string(value) }
    default: break
    }
    throw Failure(reason: "\(word) is not there")
  }
}
