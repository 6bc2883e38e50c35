/// What is said otherwise than in a model's files: special tokens and templates.
package struct TokenizerOverrides: Sendable {
  /// Special tokens by their names (`eos_token`).
  package var specialTokens: [String: (content: String, id: Int32)] = [:]
  /// The chat template.
  package var chatTemplate: String?
  /// The chat template for conversations with tools.
  package var toolChatTemplate: String?

  /// Changes nothing.
  package init() {}

  func apply(to parts: inout TokenizerParts) throws(TemplateError) {
    for (name, token) in specialTokens.sorted(by: { $0.key < $1.key }) {
      if let index = parts.specialTokens.firstIndex(where: { $0.name == name }) {
        parts.specialTokens[index].content = token.content
      } else {
        parts.specialTokens.append((name, token.content))
      }
      parts.specialTokenIDs[name] = token.id
    }
    if let chatTemplate { parts.chatTemplate = try ChatTemplate(source: chatTemplate) }
    if let toolChatTemplate { parts.toolChatTemplate = try ChatTemplate(source: toolChatTemplate) }
  }
}

extension Tokenizer {
  /// Reads the tokenizer of a model folder, some of it said otherwise.
  package convenience init(folder: String, overrides: TokenizerOverrides) throws {
    var parts = try TokenizerFiles.read(TokenizerSource.find(in: folder), folder: folder)
    try overrides.apply(to: &parts)
    try self.init(parts)
  }

  /// Makes the tokenizer that a GGUF file carries, some of it said otherwise.
  package convenience init(gguf: GGUFTokenizerMetadata, overrides: TokenizerOverrides) throws {
    var parts = try GGUFTokenizer.parts(gguf)
    try overrides.apply(to: &parts)
    try self.init(parts)
  }
}
