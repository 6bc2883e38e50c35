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
  /// The assistant's messages of which the template leaves something out: their places in the conversation, and what.
  public var losses: [Loss]

  /// A message of which the template does not write everything.
  public struct Loss: Sendable, Equatable {
    /// The message's place in the conversation, counted from 0.
    public var message: Int
    /// The key whose value is not written: `content` or `tool_calls`.
    public var key: String

    /// Makes a loss.
    public init(message: Int, key: String) {
      self.message = message
      self.key = key
    }
  }

  /// Makes masked tokens.
  public init(ids: [Int32], isResponse: [Bool], text: String, ranges: [Range<Int>], losses: [Loss] = []) {
    self.ids = ids
    self.isResponse = isResponse
    self.text = text
    self.ranges = ranges
    self.losses = losses
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
  /// Throws a `TokenizationError` when the model has no such template, a `TemplateError` when the template refuses.
  ///
  /// - Parameters:
  ///   - messages: An array of objects with `role`, `content` and what else the template knows.
  ///   - tools: An array of tool descriptions, or `nil`.
  ///   - documents: An array of documents, or `nil`.
  ///   - addGenerationPrompt: Whether to open the assistant's turn at the end.
  ///   - continuesFinalMessage: Whether to stop right after the last message's words.
  ///   - templateName: Which of the model's templates; `nil`: the one for tools where tools are given and the model has
  ///     one, else the default.
  ///   - variables: More variables, such as `enable_thinking`.
  public func renderConversation(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, addGenerationPrompt: Bool = false,
    continuesFinalMessage: Bool = false, templateName: String? = nil, variables: JSONObject = [:]
  ) throws -> String {
    try Conversation(self, messages, tools, documents, templateName, variables, guardsContent: false).text(
      addGenerationPrompt: addGenerationPrompt, continuesFinalMessage: continuesFinalMessage
    ).text
  }

  /// The ids of a conversation that ends where the assistant is to answer.
  ///
  /// Special tokens that messages, tools or documents spell stay text, unless `parseSpecialTokens` asks for their ids, as
  /// transformers gives them. Throws as ``renderConversation(_:tools:documents:addGenerationPrompt:continuesFinalMessage:templateName:variables:)``.
  public func encodePrompt(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, templateName: String? = nil,
    variables: JSONObject = [:], parseSpecialTokens: Bool = false
  ) throws -> [Int32] {
    try encodeRendering(
      messages, tools: tools, documents: documents, addGenerationPrompt: true, templateName: templateName,
      variables: variables, parseSpecialTokens: parseSpecialTokens
    ).ids
  }

  /// The text of a conversation, and its ids.
  ///
  /// The parameters are those of ``renderConversation(_:tools:documents:addGenerationPrompt:continuesFinalMessage:templateName:variables:)``
  /// and of ``encodePrompt(_:tools:documents:templateName:variables:parseSpecialTokens:)``.
  public func encodeRendering(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, addGenerationPrompt: Bool = false,
    continuesFinalMessage: Bool = false, templateName: String? = nil, variables: JSONObject = [:],
    parseSpecialTokens: Bool = false
  ) throws -> (text: String, ids: [Int32]) {
    let conversation = try Conversation(
      self, messages, tools, documents, templateName, variables, guardsContent: !parseSpecialTokens)
    let rendered = try conversation.text(
      addGenerationPrompt: addGenerationPrompt, continuesFinalMessage: continuesFinalMessage)
    return (rendered.text, encode(rendered: rendered.text, seams: rendered.seams, tracksRanges: false).ids)
  }

  /// Tokens of a conversation, and which of them are the assistant's.
  ///
  /// The template writes BOS itself where it wants one: none is added. What is the assistant's is what the template
  /// marks with `{% generation %}`; without that, it is derived from what the template writes before and after. A turn
  /// whose calls of tools the template does not write, and nothing else either, is no response: an empty answer is not
  /// what the data says. Special tokens that messages spell stay text, unless `parseSpecialTokens` asks for their ids.
  /// Throws as ``renderConversation(_:tools:documents:addGenerationPrompt:continuesFinalMessage:templateName:variables:)``.
  public func encodeConversation(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, templateName: String? = nil,
    variables: JSONObject = [:], parseSpecialTokens: Bool = false
  ) throws -> MaskedTokens {
    try Conversation(
      self, messages, tools, documents, templateName, variables, guardsContent: !parseSpecialTokens
    ).encode()
  }
}

/// One conversation while its mask is found.
private struct Conversation {
  private let tokenizer: Tokenizer
  private let template: ChatTemplate
  private let messages: [JSONValue]
  private var values: [TemplateValue]
  private var tools: TemplateValue?
  private var documents: TemplateValue?
  private let variables: JSONObject
  /// Keeps special tokens in messages text; its marks are in the values.
  private var contentGuard: ContentGuard?
  /// The same for each rendering, so that a clock in the template does not make them differ.
  private let now = TemplateTime.now

  init(
    _ tokenizer: Tokenizer, _ messages: JSONValue, _ tools: JSONValue?, _ documents: JSONValue?,
    _ templateName: String?, _ more: JSONObject, guardsContent: Bool
  ) throws {
    let tools = tools.flatMap { $0.isNull ? nil : $0 }
    let documents = documents.flatMap { $0.isNull ? nil : $0 }
    let template = try tokenizer.chatTemplates.template(named: templateName, hasTools: tools != nil)
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
    if guardsContent { try guardContent() }
  }

  /// Puts marks behind what special tokens in messages could begin with.
  private mutating func guardContent() throws {
    let candidates = try ContentGuard.candidates(
      tokenizer, template, values + [tools, documents].compactMap { $0 }, variables)
    guard !candidates.isEmpty else { return }
    let plain = try render().text
    for candidate in candidates {
      var guarded = self
      guarded.values = values.map(candidate.marking)
      guarded.tools = tools.map(candidate.marking)
      guarded.documents = documents.map(candidate.marking)
      guarded.contentGuard = candidate
      if let text = try? guarded.render().text, PythonText.isSame(text, plain) {
        self = guarded
        return
      }
      guard candidate.marksLittle else { continue }
      if candidate.hasEscapedMark(try guarded.render().text) {
        throw TokenizationError(
          "the template writes special tokens of messages in another spelling; take them out of the messages, or allow "
            + "them there (--parse-special)")
      }
      self = guarded
    }
  }

  private func renderMarked(
    _ values: [TemplateValue]?, addGenerationPrompt: Bool
  ) throws(TemplateError) -> ChatTemplate.Rendering {
    try template.render(
      values ?? self.values, tools: tools, documents: documents, addGenerationPrompt: addGenerationPrompt,
      variables: variables, limits: ChatTemplate.Limits(), now: now)
  }

  func render(
    _ values: [TemplateValue]? = nil, addGenerationPrompt: Bool = false
  ) throws(TemplateError) -> ChatTemplate.Rendering {
    var rendering = try renderMarked(values, addGenerationPrompt: addGenerationPrompt)
    if let contentGuard {
      let bare = contentGuard.removingMarks(rendering.text, ranges: rendering.generationRanges)
      (rendering.text, rendering.seams, rendering.generationRanges) = (bare.text, bare.seams, bare.ranges)
    }
    return rendering
  }

  func text(
    addGenerationPrompt: Bool, continuesFinalMessage: Bool
  ) throws(TemplateError) -> (text: String, seams: [Int]) {
    guard continuesFinalMessage else {
      let rendering = try render(addGenerationPrompt: addGenerationPrompt)
      return (rendering.text, rendering.seams)
    }
    var values = values
    let final = try FinalMessage(in: &values, of: template.source)
    let text = try final.cut(renderMarked(values, addGenerationPrompt: addGenerationPrompt).text)
    guard let bare = contentGuard?.removingMarks(text) else { return (text, []) }
    return (bare.text, bare.seams)
  }

  /// A rendering of other messages as bytes; `nil` where the template refuses them.
  private func bytes(_ values: some Sequence<TemplateValue>, addGenerationPrompt: Bool = false) -> [UInt8]? {
    (try? render(Array(values), addGenerationPrompt: addGenerationPrompt)).map { Array($0.text.utf8) }
  }

  // MARK: The mask

  func encode() throws(TemplateError) -> MaskedTokens {
    let rendering = try render()
    let encoding = tokenizer.encode(rendered: rendering.text, seams: rendering.seams)
    let text = Array(rendering.text.utf8)
    var responses: [Range<Int>] = []
    var losses: [MaskedTokens.Loss] = []
    if template.marksGeneration, rendering.isComplete {
      responses = rendering.generationRanges.map { withEndOfTurn($0, encoding, text) }
    } else {
      for index in messages.indices where isAssistant(index) {
        let turn = Turn(index, lost: unwritten(index, text))
        losses += turn.lost
        // Nothing of the turn is written: its end alone is nothing to learn.
        if !turn.lost.isEmpty, !isWritten(index, but: turn.lost, text) { continue }
        if let response = derivedResponse(turn, text, encoding, after: responses.last?.upperBound ?? 0) {
          responses.append(response)
        }
      }
    }
    return MaskedTokens(
      ids: encoding.ids, isResponse: Self.mask(encoding.ranges, responses), text: rendering.text,
      ranges: encoding.ranges, losses: losses)
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

  /// Whether a message is the assistant's, which some templates call the model.
  private func isAssistant(_ index: Int) -> Bool {
    messages[index]["role"]?.string == "assistant" || messages[index]["role"]?.string == "model"
  }

  /// One of the assistant's messages.
  private struct Turn {
    let index: Int
    let lost: [MaskedTokens.Loss]

    init(_ index: Int, lost: [MaskedTokens.Loss]) {
      self.index = index
      self.lost = lost
    }
  }

  // MARK: What is written

  /// The message's keys that say something.
  private func spokenKeys(_ index: Int) -> [String] {
    guard case .dictionary(let items) = values[index] else { return [] }
    return ["content", "tool_calls"].filter { key in
      switch items[key] {
      case .string(let text)?: !PythonText.strip(text, nil).isEmpty
      case .list(let parts)?: !parts.isEmpty
      default: false
      }
    }
  }

  /// What of a message makes no difference to the text.
  private func unwritten(_ index: Int, _ text: [UInt8]) -> [MaskedTokens.Loss] {
    spokenKeys(index).filter { key in
      if key == "content", let content = messages[index][key]?.string {
        // Most often the words stand there as they are.
        if PythonText.find(Array(PythonText.strip(content, nil).utf8), in: text) != nil { return false }
      }
      return isWithoutEffect(key, index, text)
    }.map { MaskedTokens.Loss(message: index, key: $0) }
  }

  private func isWithoutEffect(_ key: String, _ index: Int, _ text: [UInt8]) -> Bool {
    guard let changed = Self.replacingWords(of: values[index], in: [key], with: Self.mark(notIn: text)) else {
      return false
    }
    var others = values
    others[index] = changed
    return bytes(others) == text
  }

  /// Whether anything else of a message is in the text.
  private func isWritten(_ index: Int, but lost: [MaskedTokens.Loss], _ text: [UInt8]) -> Bool {
    guard case .dictionary(let items) = values[index] else { return false }
    if spokenKeys(index).count > lost.count { return true }
    return items["reasoning_content"] != nil && !isWithoutEffect("reasoning_content", index, text)
  }

  // MARK: Turns without marks

  /// Where a turn lies.
  ///
  /// It starts where the template stops when it is asked to open the assistant's turn after the messages before. It
  /// ends after the token that ends the turn, the first such after the message's own words.
  private func derivedResponse(
    _ turn: Turn, _ text: [UInt8], _ encoding: Tokenizer.Encoding, after previousEnd: Int
  ) -> Range<Int>? {
    let index = turn.index
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
      if let given = start {
        if let words { start = startAfterHeader(index, text, prompt, given, words) }
      } else if let words {
        start = startWithinHeader(index, text, encoding, prompt, words, after: previousEnd)
      }
    }
    guard let start else { return nil }
    let end = words.map { max(start, $0.upperBound) } ?? start
    if let turnEnd = endOfTurn(encoding, text, after: end, before: text.count, mayFollowText: false) {
      return start..<turnEnd
    }
    let limit = limitOfTurn(index, text, end)
    return
      start..<(endOfTurn(encoding, text, after: end, before: limit.place, mayFollowText: true)
      ?? (limit.isExact ? endOfControl(encoding, after: end, before: limit.place) : nil) ?? end)
  }

  /// Before which place the end of a turn must be that does not follow the words at once, and whether the turn ends
  /// there.
  private func limitOfTurn(_ index: Int, _ text: [UInt8], _ end: Int) -> (place: Int, isExact: Bool) {
    // Most templates write the same up to here when the conversation ends with this message.
    if let closed = bytes(values[...index]), closed.count > end, text.starts(with: closed) {
      return (closed.count, true)
    }
    if index + 1 < messages.count, let next = wordsOfMessage(index + 1, text), next.lowerBound >= end {
      return (next.lowerBound, false)
    }
    return (text.count, false)
  }

  /// The text where a message of the assistant's says nothing but a mark.
  private func textWithMark(at index: Int, _ text: [UInt8]) -> [UInt8]? {
    guard case .dictionary(let message) = values[index], let role = message["role"] else { return nil }
    var plain = TemplateDictionary()
    plain["role"] = role
    plain["content"] = .string(Self.mark(notIn: text))
    var others = values
    others[index] = .dictionary(plain)
    return bytes(others)
  }

  /// How many bytes two texts have in common at their beginning, whole characters only.
  private static func common(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var count = zip(a, b).prefix { $0 == $1 }.count
    while count > 0, count < a.count, a[count] & 0xC0 == 0x80 { count -= 1 }
    return count
  }

  /// Where a turn starts whose template may not open turns on request, but writes their header with their words.
  ///
  /// The header is what the template writes before any words of the assistant's; a blank alone is none.
  private func startAfterHeader(
    _ index: Int, _ text: [UInt8], _ prompt: [UInt8]?, _ given: Int, _ words: Range<Int>
  ) -> Int {
    guard given < words.lowerBound, bytes(values[..<index]) == prompt, let other = textWithMark(at: index, text) else {
      return given
    }
    let header = min(Self.common(text, other), words.lowerBound)
    guard header > given, !text[given..<header].allSatisfy(Self.isBlank) else { return given }
    return header
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
    // What words of the assistant's begin with is no header, though the prompt begin alike.
    let common = min(
      Self.common(text, prompt), textWithMark(at: index, text).map { Self.common(text, $0) } ?? text.count)
    // What is common ends with a whole token.
    let boundary = encoding.ranges.last { $0.upperBound <= common }?.upperBound ?? 0
    return boundary > header && boundary <= words.lowerBound ? boundary : words.lowerBound
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  // MARK: Ends of turns

  /// A stretch that the template marks, with the token that ends the turn where that stands behind it.
  private func withEndOfTurn(_ range: Range<Int>, _ encoding: Tokenizer.Encoding, _ text: [UInt8]) -> Range<Int> {
    let last = index(of: range.upperBound, encoding) - 1
    if last >= 0, encoding.ranges[last].lowerBound >= range.lowerBound {
      let id = encoding.ids[last]
      if tokenizer.endOfTurnTokenIDs.contains(id) { return range }
      // A control token at the end is the end, unless one that is known for it follows.
      let next = last + 1
      if tokenizer.isSpecial(id), next < encoding.ids.count,
        !tokenizer.endOfTurnTokenIDs.contains(encoding.ids[next])
      {
        return range
      }
    }
    let end = endOfTurn(encoding, text, after: range.upperBound, before: text.count, mayFollowText: false)
    return range.lowerBound..<(end ?? range.upperBound)
  }

  /// The first token that begins at a place or after it.
  private func index(of place: Int, _ encoding: Tokenizer.Encoding) -> Int {
    var low = 0
    var high = encoding.ranges.count
    while low < high {
      let middle = (low + high) / 2
      if encoding.ranges[middle].lowerBound < place { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Where the first control token between two places ends.
  private func endOfControl(_ encoding: Tokenizer.Encoding, after start: Int, before limit: Int) -> Int? {
    var index = index(of: start, encoding)
    while index < encoding.ids.count, encoding.ranges[index].lowerBound < limit {
      if tokenizer.isSpecial(encoding.ids[index]) { return encoding.ranges[index].upperBound }
      index += 1
    }
    return nil
  }

  /// Where the token that ends a turn ends: the first one after `start`, or a control token that follows at once.
  private func endOfTurn(
    _ encoding: Tokenizer.Encoding, _ text: [UInt8], after start: Int, before limit: Int, mayFollowText: Bool
  ) -> Int? {
    var low = index(of: start, encoding)
    while low < encoding.ids.count, encoding.ranges[low].lowerBound < limit {
      let (id, range) = (encoding.ids[low], encoding.ranges[low])
      let isNext = text[start..<range.lowerBound].allSatisfy(Self.isBlank)
      if !isNext, !mayFollowText { return nil }
      let isAdjacentControl = range.lowerBound == start && tokenizer.isSpecial(id) && id != tokenizer.bosTokenID
      if tokenizer.endOfTurnTokenIDs.contains(id) || isAdjacentControl { return range.upperBound }
      low += 1
    }
    return nil
  }

  /// Where the words of a message lie in the text: what changes when the message says something else.
  ///
  /// Those of an answer without words lie where words would.
  private func wordsOfMessage(_ index: Int, _ text: [UInt8]) -> Range<Int>? {
    let changed = Self.replacingWords(
      of: values[index], in: ["content", "tool_calls", "reasoning_content"], with: Self.mark(notIn: text))
    let other: [UInt8]?
    if let changed {
      var others = values
      others[index] = changed
      other = bytes(others)
    } else {
      other = isAssistant(index) ? textWithMark(at: index, text) : nil
    }
    guard let other, other != text else { return nil }
    let start = Self.common(text, other)
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

  /// The message with other words under some of its keys; `nil` when it has none there.
  private static func replacingWords(
    of message: TemplateValue, in keys: [String], with mark: String
  ) -> TemplateValue? {
    guard case .dictionary(var items) = message else { return nil }
    var hasWords = false
    for key in keys {
      switch items[key] {
      case .string(let text)? where !text.isEmpty:
        items[key] = .string(mark)
        // Templates know reasoning under two names.
        if key == "reasoning_content", items["thinking"] != nil { items["thinking"] = .string(mark) }
        hasWords = true
      case .list(let calls)? where key == "tool_calls" && !calls.isEmpty:
        items[key] = .list(calls.map { replacingCall($0, with: mark) })
        hasWords = true
      case .list(let parts)?:
        items[key] = .list(
          parts.map { part in
            guard case .dictionary(var part) = part, part["text"] != nil else { return part }
            part["text"] = .string(mark)
            hasWords = true
            return .dictionary(part)
          })
      default: break
      }
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
