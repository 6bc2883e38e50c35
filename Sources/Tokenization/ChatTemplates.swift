/// The chat templates of a model by their names: most have one, some others for tools (`tool_use`) or documents (`rag`).
public struct ChatTemplates: Sendable {
  /// The name of the template that is used unless another is asked for.
  public static let standardName = "default"
  /// The name of the template that is used when tools are given.
  public static let toolName = "tool_use"

  /// Names and templates in the order of the model's files.
  public private(set) var entries: [(name: String, template: ChatTemplate)] = []

  /// Makes a collection without templates.
  public init() {}

  /// Makes a collection of one template, which is used for everything.
  public init(_ template: ChatTemplate) { self[Self.standardName] = template }

  /// The template of a name.
  public subscript(_ name: String) -> ChatTemplate? {
    get { entries.first { PythonText.isSame($0.name, name) }?.template }
    set {
      let index = entries.firstIndex { PythonText.isSame($0.name, name) }
      switch (index, newValue) {
      case (nil, nil): break
      case (nil, .some(let template)): entries.append((name, template))
      case (.some(let index), nil): entries.remove(at: index)
      case (.some(let index), .some(let template)): entries[index].template = template
      }
    }
  }

  /// The template for a conversation: the one named, else the one for tools where tools are given, else the default.
  ///
  /// Throws a `TokenizationError` when there is none.
  public func template(named name: String? = nil, hasTools: Bool = false) throws(TokenizationError) -> ChatTemplate {
    let names = entries.map(\.name).joined(separator: ", ")
    if let name {
      if let template = self[name] { return template }
      throw TokenizationError(
        entries.isEmpty
          ? "the model has no chat template" : "the model has no chat template named \"\(name)\"; it has \(names)")
    }
    if hasTools, let template = self[Self.toolName] { return template }
    if let template = self[Self.standardName] { return template }
    throw TokenizationError(
      entries.isEmpty
        ? "the model has no chat template" : "the model has no default chat template; name one of \(names)")
  }
}

extension TokenizerParts {
  var chatTemplate: ChatTemplate? {
    get { chatTemplates[ChatTemplates.standardName] }
    set { chatTemplates[ChatTemplates.standardName] = newValue }
  }

  var toolChatTemplate: ChatTemplate? {
    get { chatTemplates[ChatTemplates.toolName] }
    set { chatTemplates[ChatTemplates.toolName] = newValue }
  }
}

extension Tokenizer {
  /// The template that turns messages into text unless another is asked for.
  public var chatTemplate: ChatTemplate? { chatTemplates[ChatTemplates.standardName] }

  /// The template to use when tools are given, where the model has one of its own.
  public var toolChatTemplate: ChatTemplate? { chatTemplates[ChatTemplates.toolName] }
}
