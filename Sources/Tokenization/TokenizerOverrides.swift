/// What is said otherwise than in a model's files: special tokens and templates.
package struct TokenizerOverrides: Sendable {
  /// Special tokens by their names (`eos_token`).
  package var specialTokens: [String: (content: String, id: Int32)] = [:]
  /// Added tokens that are found wherever they stand.
  package var wholeTokens: [String] = []
  /// The chat templates, which stand for all of the model's own.
  package var chatTemplates: ChatTemplates?

  /// Changes nothing.
  package init() {}

  func apply(to parts: inout TokenizerParts) {
    for (name, token) in specialTokens.sorted(by: { $0.key < $1.key }) {
      if let index = parts.specialTokens.firstIndex(where: { $0.name == name }) {
        parts.specialTokens[index].content = token.content
      } else {
        parts.specialTokens.append((name, token.content))
      }
      parts.specialTokenIDs[name] = token.id
    }
    for content in wholeTokens {
      for index in parts.addedTokens.indices where parts.addedTokens[index].content.utf8.elementsEqual(content.utf8) {
        parts.addedTokens[index].isNormalized = false
        parts.addedTokens[index].isSingleWord = false
      }
    }
  }
}

extension Tokenizer {
  /// Reads the tokenizer of a model folder, some of it said otherwise.
  package convenience init(folder: String, overrides: TokenizerOverrides) throws {
    var parts = try TokenizerFiles.read(
      TokenizerSource.find(in: folder), folder: folder, templates: overrides.chatTemplates)
    overrides.apply(to: &parts)
    try self.init(parts)
  }

  /// Makes the tokenizer that a GGUF file carries, some of it said otherwise.
  package convenience init(gguf: GGUFTokenizerMetadata, overrides: TokenizerOverrides) throws {
    var parts = try GGUFTokenizer.parts(gguf, templates: overrides.chatTemplates)
    overrides.apply(to: &parts)
    try self.init(parts)
  }
}
