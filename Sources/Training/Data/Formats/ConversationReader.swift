import JSONValues

/// Reads the messages of a record into the one shape that chat templates know: `role`, `content`, `tool_calls`.
enum ConversationReader {
  static let roles: Set<String> = ["system", "developer", "user", "assistant", "tool", "function", "ipython"]

  /// ShareGPT's names for the roles.
  static let shareGPTRoles: [String: String] = [
    "system": "system", "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant", "function_call": "assistant",
    "tool": "tool", "observation": "tool", "function_response": "tool",
  ]

  /// The messages under `key`: `role` checked, `content` made a string; other keys stay.
  static func messages(_ record: JSONObject, key: String) throws(FormatProblem) -> [JSONValue] {
    try messages(list(record, key), key)
  }

  /// The messages of a list that stands under `key`.
  static func messages(_ list: [JSONValue], _ key: String) throws(FormatProblem) -> [JSONValue] {
    var messages: [JSONValue] = []
    for (index, value) in list.enumerated() {
      let place = "`\(key)[\(index)]`"
      guard var message = value.object else { throw FormatProblem("\(place) must be an object, it is \(value.kind)") }
      guard let role = message["role"]?.string else { throw FormatProblem("\(place) has no `role`") }
      guard roles.contains(role) else {
        throw FormatProblem(
          "\(place) has the unknown role \(quoted(role)) (known: \(roles.sorted().joined(separator: ", ")))")
      }
      if let calls = message["tool_calls"], !calls.isNull { message["tool_calls"] = try toolCalls(calls, place) }
      if let content = try text(message["content"], place, mayBeMissing: message["tool_calls"]?.array != nil) {
        message["content"] = .string(content)
      }
      messages.append(.object(message))
    }
    return messages
  }

  /// The messages of `conversations` in ShareGPT's words.
  static func shareGPT(_ record: JSONObject) throws(FormatProblem) -> [JSONValue] {
    try shareGPT(list(record, "conversations"), "conversations")
  }

  /// The messages of a list in ShareGPT's words that stands under `key`.
  static func shareGPT(_ list: [JSONValue], _ key: String) throws(FormatProblem) -> [JSONValue] {
    var messages: [JSONValue] = []
    for (index, value) in list.enumerated() {
      let place = "`\(key)[\(index)]`"
      guard let turn = value.object else { throw FormatProblem("\(place) must be an object, it is \(value.kind)") }
      guard let from = turn["from"]?.string else { throw FormatProblem("\(place) has no `from`") }
      guard let role = shareGPTRoles[from] else {
        let known = shareGPTRoles.keys.sorted().joined(separator: ", ")
        throw FormatProblem("\(place) has the unknown role \(quoted(from)) (known: \(known))")
      }
      guard let content = turn["value"]?.string else { throw FormatProblem("\(place) has no text in `value`") }
      var message: JSONObject = ["role": .string(role), "content": .string(content)]
      if from == "function_call" {
        guard let call = try? JSONValue.parse(content), call["name"]?.string != nil else {
          throw FormatProblem("\(place) is a function call, but its `value` is no JSON object with a `name`")
        }
        message["content"] = ""
        message["tool_calls"] = try toolCalls([["type": "function", "function": call]], place)
      }
      messages.append(.object(message))
    }
    return messages
  }

  /// The system message that stands beside the turns.
  static func system(_ record: JSONObject) throws(FormatProblem) -> [JSONValue] {
    guard let value = record["system"], !value.isNull else { return [] }
    guard let system = value.string else { throw FormatProblem("`system` must be a string, it is \(value.kind)") }
    return system.isEmpty ? [] : [["role": "system", "content": .string(system)]]
  }

  /// The tools of a record: a list, or the text of one; a bare function is wrapped as OpenAI's schema has it.
  static func tools(_ record: JSONObject) throws(FormatProblem) -> JSONValue? {
    guard var value = record["tools"], !value.isNull else { return nil }
    if let text = value.string {
      if text.allSatisfy(\.isWhitespace) { return nil }
      guard let parsed = try? JSONValue.parse(text) else { throw FormatProblem("`tools` is a string that is no JSON") }
      value = parsed
    }
    guard let tools = value.array else { throw FormatProblem("`tools` must be a list, it is \(value.kind)") }
    if tools.isEmpty { return nil }
    return .array(
      tools.map { tool in
        tool["name"] != nil && tool["function"] == nil ? ["type": "function", "function": tool] : tool
      })
  }

  static func list(_ record: JSONObject, _ key: String) throws(FormatProblem) -> [JSONValue] {
    guard let value = record[key] else { throw FormatProblem("`\(key)` is missing") }
    guard let list = value.array else { throw FormatProblem("`\(key)` must be a list, it is \(value.kind)") }
    if list.isEmpty { throw FormatProblem("`\(key)` is empty") }
    return list
  }

  /// Arguments that are the text of an object become that object, since templates write them out as JSON themselves.
  private static func toolCalls(_ value: JSONValue, _ place: String) throws(FormatProblem) -> JSONValue {
    guard let calls = value.array else { throw FormatProblem("\(place): `tool_calls` must be a list") }
    return .array(
      calls.map { call in
        guard var object = call.object, var function = object["function"]?.object,
          let text = function["arguments"]?.string, let parsed = try? JSONValue.parse(text), parsed.object != nil
        else { return call }
        function["arguments"] = parsed
        object["function"] = .object(function)
        return .object(object)
      })
  }

  /// The text of a `content`: a string, or parts of type text.
  private static func text(
    _ content: JSONValue?, _ place: String, mayBeMissing: Bool
  ) throws(FormatProblem) -> String? {
    switch content {
    case .string(let text): return text
    case .array(let parts):
      var text = ""
      for part in parts {
        guard let piece = part["text"]?.string else {
          let type = part["type"]?.string.map(quoted) ?? part.kind
          throw FormatProblem("\(place) has content of type \(type); only text is trained")
        }
        text += piece
      }
      return text
    case nil, .null:
      if mayBeMissing { return nil }
      throw FormatProblem("\(place) has no `content`")
    case .some(let other): throw FormatProblem("\(place): `content` must be a string, it is \(other.kind)")
    }
  }
}
