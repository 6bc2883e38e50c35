import JSONValues

/// Tokens of a conversation and which of them are the assistant's.
public struct MaskedTokens: Sendable, Equatable {
  /// The ids of the whole rendered conversation.
  public var ids: [Int32]
  /// For each id whether the assistant says it; the token that ends its turn belongs to it.
  public var isResponse: [Bool]
  /// The rendered conversation.
  public var text: String
  /// For each id its range in the text's UTF-8 bytes.
  public var ranges: [Range<Int>]

  /// Makes masked tokens.
  public init(ids: [Int32], isResponse: [Bool], text: String, ranges: [Range<Int>]) {
    self.ids = ids
    self.isResponse = isResponse
    self.text = text
    self.ranges = ranges
  }
}

extension Tokenizer {
  /// The special tokens under the names by which templates know them (`bos_token`, `eos_token`, …).
  public var templateVariables: JSONObject {
    var variables = JSONObject()
    for (name, content) in specialTokens { variables[name] = .string(content) }
    return variables
  }

  /// Renders a conversation with the model's own template.
  ///
  /// Throws a `TokenizationError` when the model has no template, a `TemplateError` when the template refuses.
  public func renderConversation(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, addGenerationPrompt: Bool = false,
    variables: JSONObject = [:]
  ) throws -> String {
    try Conversation(self, messages, tools, documents, variables).render(addGenerationPrompt: addGenerationPrompt).text
  }

  /// The ids of a conversation that ends where the assistant is to answer.
  public func encodePrompt(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, variables: JSONObject = [:]
  ) throws -> [Int32] {
    let text = try renderConversation(
      messages, tools: tools, documents: documents, addGenerationPrompt: true, variables: variables)
    return encode(text, addSpecialTokens: false)
  }

  /// Tokens of a conversation, and which of them are the assistant's.
  ///
  /// The template writes BOS itself where it wants one: none is added. What is the assistant's is what the template
  /// marks with `{% generation %}`; without that, it is derived from what the template writes before and after.
  /// Throws as ``renderConversation(_:tools:documents:addGenerationPrompt:variables:)``.
  public func encodeConversation(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, variables: JSONObject = [:]
  ) throws -> MaskedTokens {
    try Conversation(self, messages, tools, documents, variables).encode()
  }
}

/// One conversation while its mask is found.
private struct Conversation {
  private let tokenizer: Tokenizer
  private let template: ChatTemplate
  private let messages: [JSONValue]
  private let values: [TemplateValue]
  private let tools: TemplateValue?
  private let documents: TemplateValue?
  private let variables: JSONObject

  init(
    _ tokenizer: Tokenizer, _ messages: JSONValue, _ tools: JSONValue?, _ documents: JSONValue?, _ more: JSONObject
  ) throws(TokenizationError) {
    let hasTools = tools?.array?.isEmpty == false
    guard let template = (hasTools ? tokenizer.toolChatTemplate : nil) ?? tokenizer.chatTemplate else {
      throw TokenizationError("the model has no chat template")
    }
    guard let messages = messages.array else {
      throw TokenizationError("messages must be an array of objects with role and content, not \(messages.kind)")
    }
    for (index, message) in messages.enumerated() {
      guard message.object != nil else {
        throw TokenizationError("messages[\(index)] must be an object with role and content, not \(message.kind)")
      }
      guard message["role"]?.string != nil else { throw TokenizationError("messages[\(index)] has no role") }
    }
    self.tokenizer = tokenizer
    self.template = template
    self.messages = messages
    values = messages.map { ChatTemplate.value(ofMessage: $0) }
    self.tools = tools.map(TemplateValue.init)
    self.documents = documents.map(TemplateValue.init)
    var variables = tokenizer.templateVariables
    for (name, value) in more { variables[name] = value }
    self.variables = variables
  }

  func render(
    _ values: [TemplateValue]? = nil, addGenerationPrompt: Bool = false
  ) throws(TemplateError) -> ChatTemplate.Rendering {
    try template.render(
      values ?? self.values, tools: tools, documents: documents, addGenerationPrompt: addGenerationPrompt,
      variables: variables, limits: ChatTemplate.Limits())
  }

  /// A rendering of other messages as bytes; `nil` where the template refuses them.
  private func bytes(_ values: some Sequence<TemplateValue>, addGenerationPrompt: Bool = false) -> [UInt8]? {
    (try? render(Array(values), addGenerationPrompt: addGenerationPrompt)).map { Array($0.text.utf8) }
  }

  // MARK: The mask

  func encode() throws(TemplateError) -> MaskedTokens {
    let rendering = try render()
    let encoding = tokenizer.encodeWithOffsets(rendering.text, addSpecialTokens: false)
    let text = Array(rendering.text.utf8)
    let responses: [Range<Int>]
    if template.marksGeneration, rendering.isComplete {
      responses = rendering.generationRanges.map { range in
        guard let end = endOfTurn(encoding, text, after: range.upperBound, before: text.count, mayFollowText: false)
        else {
          return range
        }
        return range.lowerBound..<end
      }
    } else {
      responses = derivedResponses(text, encoding)
    }
    return MaskedTokens(
      ids: encoding.ids, isResponse: Self.mask(encoding.ranges, responses), text: rendering.text,
      ranges: encoding.ranges)
  }

  /// Which ranges have a part in one of the responses.
  ///
  /// Both come in order.
  private static func mask(_ ranges: [Range<Int>], _ responses: [Range<Int>]) -> [Bool] {
    var mask = [Bool](repeating: false, count: ranges.count)
    for response in responses where !response.isEmpty {
      var low = 0
      var high = ranges.count
      while low < high {
        let middle = (low + high) / 2
        if ranges[middle].upperBound < response.lowerBound { low = middle + 1 } else { high = middle }
      }
      while low < ranges.count, ranges[low].lowerBound < response.upperBound {
        mask[low] =
          mask[low]
          || (ranges[low].isEmpty ? ranges[low].lowerBound >= response.lowerBound : ranges[low].overlaps(response))
        low += 1
      }
    }
    return mask
  }

  /// The stretches that are the assistant's, from what the template writes with and without each turn.
  private func derivedResponses(_ text: [UInt8], _ encoding: Tokenizer.Encoding) -> [Range<Int>] {
    var result: [Range<Int>] = []
    for index in messages.indices
    where messages[index]["role"]?.string == "assistant" || messages[index]["role"]?.string == "model" {
      guard let response = derivedResponse(index, text, encoding, after: result.last?.upperBound ?? 0) else { continue }
      result.append(response)
    }
    return result
  }

  /// Where turn `index` lies.
  ///
  /// It starts where the template stops when it is asked to open the assistant's turn after the messages before. It
  /// ends after the token that ends the turn, the first such after the message's own words.
  private func derivedResponse(
    _ index: Int, _ text: [UInt8], _ encoding: Tokenizer.Encoding, after previousEnd: Int
  ) -> Range<Int>? {
    let prompt = index == 0 ? nil : bytes(values[..<index], addGenerationPrompt: true)
    var start: Int?
    if let prompt, prompt.count >= previousEnd, text.starts(with: prompt) { start = prompt.count }
    var words: Range<Int>?
    if let start, let content = messages[index]["content"]?.string, !content.isEmpty,
      messages[index]["tool_calls"] == nil,
      text[start...].starts(with: content.utf8)
    {
      words = start..<start + content.utf8.count
    } else {
      words = wordsOfMessage(index, text)
      if let found = words {
        if let given = start {
          // A template that does not open the turn on request writes its header here: that is not the assistant's.
          if tokenizer.ignoresGenerationPrompt, given < found.lowerBound,
            hasSpecialToken(encoding, given..<found.lowerBound)
          {
            start = found.lowerBound
          }
        } else {
          start = startWithinHeader(index, text, encoding, prompt, found, after: previousEnd)
        }
      }
    }
    guard let start else { return nil }
    let end = words.map { max(start, $0.upperBound) } ?? start
    if let turnEnd = endOfTurn(encoding, text, after: end, before: text.count, mayFollowText: false) {
      return start..<turnEnd
    }
    // The end of the turn does not follow at once: it must come before the next message's own words.
    var limit = text.count
    if index + 1 < messages.count, let next = wordsOfMessage(index + 1, text), next.lowerBound >= end {
      limit = next.lowerBound
    }
    return start..<(endOfTurn(encoding, text, after: end, before: limit, mayFollowText: true) ?? end)
  }

  /// Where a turn starts whose prompt is not what the template writes later.
  ///
  /// That is after the opening of the turn, if it is there before the turn's words; else after what the text and the
  /// prompt have in common of the turn's header.
  private func startWithinHeader(
    _ index: Int, _ text: [UInt8], _ encoding: Tokenizer.Encoding, _ prompt: [UInt8]?, _ words: Range<Int>,
    after previousEnd: Int
  ) -> Int {
    guard let prompt else { return words.lowerBound }
    let header = max(previousEnd, index > 0 ? wordsOfMessage(index - 1, text)?.upperBound ?? 0 : 0)
    guard header <= words.lowerBound else { return words.lowerBound }
    if let closed = bytes(values[..<index]), closed.count < prompt.count, prompt.starts(with: closed) {
      let opening = Array(prompt[closed.count...])
      if let place = PythonText.find(opening, in: Array(text[header..<words.lowerBound])) {
        return header + place + opening.count
      }
    }
    let common = zip(text, prompt).prefix { $0 == $1 }.count
    // What is common ends with a whole token.
    let boundary = encoding.ranges.last { $0.upperBound <= common }?.upperBound ?? 0
    return boundary > header && boundary <= words.lowerBound ? boundary : words.lowerBound
  }

  private func hasSpecialToken(_ encoding: Tokenizer.Encoding, _ range: Range<Int>) -> Bool {
    zip(encoding.ids, encoding.ranges).contains { id, place in
      place.lowerBound >= range.lowerBound && place.upperBound <= range.upperBound && tokenizer.isSpecial(id)
    }
  }

  /// Where the token that ends a turn ends: the first one after `start`, or a control token that follows at once.
  private func endOfTurn(
    _ encoding: Tokenizer.Encoding, _ text: [UInt8], after start: Int, before limit: Int, mayFollowText: Bool
  ) -> Int? {
    var low = 0
    var high = encoding.ranges.count
    while low < high {
      let middle = (low + high) / 2
      if encoding.ranges[middle].lowerBound < start { low = middle + 1 } else { high = middle }
    }
    while low < encoding.ids.count, encoding.ranges[low].lowerBound < limit {
      let (id, range) = (encoding.ids[low], encoding.ranges[low])
      let isNext = text[start..<range.lowerBound].allSatisfy { $0 == 0x20 || (0x09...0x0D).contains($0) }
      if !isNext, !mayFollowText { return nil }
      let isAdjacentControl = range.lowerBound == start && tokenizer.isSpecial(id) && id != tokenizer.bosTokenID
      if tokenizer.endOfTurnTokenIDs.contains(id) || isAdjacentControl { return range.upperBound }
      low += 1
    }
    return nil
  }

  /// Where the words of a message lie in the text: what changes when the message says something else.
  private func wordsOfMessage(_ index: Int, _ text: [UInt8]) -> Range<Int>? {
    let mark = Self.mark(notIn: text)
    guard let changed = Self.replacingWords(of: values[index], with: mark) else { return nil }
    var others = values
    others[index] = changed
    guard let other = bytes(others), other != text else { return nil }
    var start = zip(text, other).prefix { $0 == $1 }.count
    while start > 0, start < text.count, text[start] & 0xC0 == 0x80 { start -= 1 }
    let room = min(text.count, other.count) - start
    var tail = zip(text.reversed(), other.reversed()).prefix(max(0, room)).prefix { $0 == $1 }.count
    while tail > 0, text[text.count - tail] & 0xC0 == 0x80 { tail -= 1 }
    return start..<text.count - tail
  }

  /// A character that a text has not: from a private area.
  private static func mark(notIn text: [UInt8]) -> String {
    for value in UInt32(0xE0F0)...0xE0FF {
      guard let scalar = Unicode.Scalar(value) else { continue }
      if PythonText.find(Array(String(scalar).utf8), in: text) == nil { return String(scalar) }
    }
    return "\u{E0F0}"
  }

  /// The message with other words; `nil` when it has none.
  private static func replacingWords(of message: TemplateValue, with mark: String) -> TemplateValue? {
    guard case .dictionary(var items) = message else { return nil }
    var hasWords = false
    switch items["content"] {
    case .string(let content)? where !content.isEmpty:
      items["content"] = .string(mark)
      hasWords = true
    case .list(let parts)?:
      items["content"] = .list(
        parts.map { part in
          guard case .dictionary(var part) = part, part["text"] != nil else { return part }
          part["text"] = .string(mark)
          hasWords = true
          return .dictionary(part)
        })
    default: break
    }
    if case .list(let calls)? = items["tool_calls"], !calls.isEmpty {
      items["tool_calls"] = .list(calls.map { replacingCall($0, with: mark) })
      hasWords = true
    }
    return hasWords ? .dictionary(items) : nil
  }

  private static func replacingCall(_ call: TemplateValue, with mark: String) -> TemplateValue {
    guard case .dictionary(var call) = call else { return call }
    if let function = call["function"] { call["function"] = replacingCall(function, with: mark) }
    if call["name"] != nil { call["name"] = .string(mark) }
    switch call["arguments"] {
    case .string?: call["arguments"] = .string(mark)
    case .dictionary?:
      var arguments = TemplateDictionary()
      arguments[mark] = .string(mark)
      call["arguments"] = .dictionary(arguments)
    default: break
    }
    return .dictionary(call)
  }
}
