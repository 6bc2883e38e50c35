import ModelFiles
import Tokenization

extension GGUFTokenizerMetadata {
  /// Reads `tokenizer.ggml.*`, key by key; an error names the file and the key.
  public init(_ metadata: GGUFMetadata, path: String) throws {
    func key(_ name: String) -> String { "tokenizer.ggml.\(name)" }
    guard let model = try metadata.string(key("model")), let tokens = try metadata.strings(key("tokens")) else {
      throw ModelFileError(path, "the file has no tokenizer (tokenizer.ggml.model and tokenizer.ggml.tokens)")
    }
    self.init(
      model: model, pre: try metadata.string(key("pre")) ?? "", tokens: tokens,
      tokenTypes: (try metadata.integers(key("token_type")) ?? []).map { Int32(truncatingIfNeeded: $0) },
      merges: try metadata.strings(key("merges")) ?? [], scores: try metadata.floats(key("scores")) ?? [],
      bosTokenID: try metadata.integer(key("bos_token_id")), eosTokenID: try metadata.integer(key("eos_token_id")),
      unkTokenID: try metadata.integer(key("unknown_token_id")),
      padTokenID: try metadata.integer(key("padding_token_id")),
      moreEndTokenIDs: try [metadata.integer(key("eot_token_id")), metadata.integer(key("eom_token_id"))]
        .compactMap { $0 },
      addBOS: try metadata.bool(key("add_bos_token")), addEOS: try metadata.bool(key("add_eos_token")),
      addSpacePrefix: try metadata.bool(key("add_space_prefix")),
      chatTemplate: try metadata.string(Self.chatTemplateKey(ChatTemplates.standardName)),
      namedChatTemplates: try Self.chatTemplateNames(metadata).compactMap { name in
        try metadata.string(Self.chatTemplateKey(name)).map { (name, $0) }
      })
    removeExtraWhitespaces = try metadata.bool(key("remove_extra_whitespaces"))
    precompiledCharsmap = (try metadata.integers(key("precompiled_charsmap")) ?? []).map {
      UInt8(truncatingIfNeeded: $0)
    }
    architecture = try metadata.string("general.architecture") ?? ""
  }

  /// The names of the templates beside the default one.
  static func chatTemplateNames(_ metadata: GGUFMetadata) -> [String] {
    (metadata["tokenizer.chat_templates"]?.array?.strings ?? []).filter { $0 != ChatTemplates.standardName }
  }
}
