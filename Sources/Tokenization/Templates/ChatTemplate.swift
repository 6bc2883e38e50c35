import JSONValues

/// A model's chat template: Jinja source that turns messages into the text that the model was trained on.
///
/// ```swift
/// let template = try ChatTemplate(source: source)
/// let text = try template.render([["role": "user", "content": "Hello"]], addGenerationPrompt: true)
/// ```
///
/// It is rendered as Hugging Face's `apply_chat_template` renders it. A template is a stranger's program: it reaches
/// nothing but its values, and its steps, output, depth and time are limited.
public struct ChatTemplate: Sendable {
  /// What a template may use before it is stopped.
  public struct Limits: Sendable, Equatable {
    /// Steps of the interpreter; making text counts one more per 32 bytes.
    public var steps: Int
    /// Bytes of the output and of any text on the way.
    public var bytes: Int
    /// Levels of statements, expressions and calls within each other.
    public var depth: Int
    /// Seconds of processor time.
    public var seconds: Double

    /// Makes limits; the defaults are far from what an honest template needs.
    public init(steps: Int = 5_000_000, bytes: Int = 64 << 20, depth: Int = 800, seconds: Double = 0.5) {
      self.steps = steps
      self.bytes = bytes
      self.depth = depth
      self.seconds = seconds
    }
  }

  /// The source as the model's file has it.
  public let source: String
  /// Whether the template itself says what is the assistant's (`{% generation %}`).
  public let marksGeneration: Bool
  /// The texts within its tags: what it may look for in messages.
  let strings: [[UInt8]]
  private let body: [Statement]

  /// Parses a template.
  ///
  /// Throws a `TemplateError` with line and column.
  public init(source: String) throws(TemplateError) {
    self.source = source
    (body, marksGeneration) = try Parser.parse(source)
    strings = (TemplateSource(source)?.literals ?? []).filter { $0.quote != nil }.map(\.value)
  }

  /// Renders a conversation.
  ///
  /// Throws a `TemplateError`.
  ///
  /// - Parameters:
  ///   - messages: An array of objects with `role`, `content` and what else the template knows.
  ///   - tools: An array of tool descriptions, or `nil`.
  ///   - documents: An array of documents, or `nil`.
  ///   - addGenerationPrompt: Whether to open the assistant's turn at the end.
  ///   - continuesFinalMessage: Whether to stop right after the last message's words, for an answer that is begun.
  ///   - variables: More variables, such as `bos_token` (see ``Tokenizer/templateVariables``) or `enable_thinking`.
  ///   - limits: What the template may use.
  public func render(
    _ messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil, addGenerationPrompt: Bool = false,
    continuesFinalMessage: Bool = false, variables: JSONObject = [:], limits: Limits = Limits()
  ) throws(TemplateError) -> String {
    var values = (messages.array ?? []).map { Self.value(ofMessage: $0) }
    let final = continuesFinalMessage ? try FinalMessage(in: &values, of: source) : nil
    let rendered = try render(
      values, tools: tools.map(TemplateValue.init), documents: documents.map(TemplateValue.init),
      addGenerationPrompt: addGenerationPrompt, variables: variables, limits: limits
    ).text
    return try final?.cut(rendered) ?? rendered
  }

  /// A rendered text, and the stretches of its UTF-8 bytes that the template marks as the assistant's.
  struct Rendering {
    var text: String
    var generationRanges: [Range<Int>]
    /// Whether each marked stretch is among the ranges.
    var isComplete: Bool
    /// Places in the text's UTF-8, in order: what ends there is a message's, and no part of a special token.
    var seams: [Int] = []
  }

  func render(
    _ messages: [TemplateValue], tools: TemplateValue?, documents: TemplateValue?, addGenerationPrompt: Bool,
    variables: JSONObject, limits: Limits, now: TemplateTime = .now
  ) throws(TemplateError) -> Rendering {
    var values: [String: TemplateValue] = [:]
    for (name, value) in variables { values[name] = TemplateValue(value) }
    values["messages"] = .list(messages)
    values["tools"] = tools ?? TemplateValue.none
    values["documents"] = documents ?? TemplateValue.none
    values["add_generation_prompt"] = .boolean(addGenerationPrompt)
    let interpreter = Interpreter(limits: limits, variables: values, now: now)
    do {
      let text = try interpreter.render(body)
      return Rendering(
        text: text, generationRanges: interpreter.generationRanges, isComplete: !interpreter.hasUnplacedGeneration)
    } catch let error as TemplateError {
      throw error
    } catch {
      throw TemplateError(line: 0, column: 0, message: "\(error)")
    }
  }

  /// A message as templates see it: reasoning is known under each of its names.
  static func value(ofMessage message: JSONValue) -> TemplateValue {
    guard case .dictionary(let items) = TemplateValue(message) else { return TemplateValue(message) }
    let names = ["reasoning_content", "thinking", "reasoning"]
    let reasoning = names.lazy.compactMap { items[$0] }.first { if case .none = $0 { false } else { true } }
    guard let reasoning else { return .dictionary(items) }
    var result = TemplateDictionary()
    result["thinking"] = reasoning
    for (key, value) in zip(items.keys, items.values) { result[key] = value }
    result["reasoning_content"] = reasoning
    return .dictionary(result)
  }
}
