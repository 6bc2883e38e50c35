import Doctor
import ModelFiles
import Tokenization

/// The tokenizer of a model as a GGUF's metadata, repaired by the doctor.
struct ExportedTokenizer {
  /// The metadata; of a GGUF all that the file has, the architecture's included.
  let entries: [(key: String, value: GGUFValue)]
  let tokenizer: Tokenizer
  let addsBOS: Bool
  /// Whether it is Phi-3's: special tokens take in the white space that follows them, and some have known names.
  let isPhi3: Bool
  /// What was repaired, each one line.
  let remarks: [String]

  init(of checkpoint: Checkpoint) throws {
    let examination = try Examination(of: checkpoint.path, depth: .tokens)
    let metadata: GGUFTokenizerMetadata
    let strips: Bool
    switch checkpoint.tokenizerSource {
    case .gguf(let file):
      let changes = examination.metadataChanges
      var entries = file.metadata.entries
      for change in changes {
        if let index = entries.firstIndex(where: { $0.key == change.key }) {
          entries[index] = change
        } else {
          entries.append(change)
        }
      }
      self.entries = entries
      metadata = try GGUFTokenizerMetadata(GGUFMetadata(entries, path: file.path), path: file.path)
      strips = false
    case .folder(let folder):
      metadata = try GGUFTokenizerMetadata(
        folder: folder, overrides: examination.allOverrides, rowCount: checkpoint.configuration.vocabularySize)
      entries = Self.entries(metadata)
      strips = examination.tokenizer?.addedTokens.contains { $0.takesSpaceOnRight && $0.isSpecial } ?? false
    }
    let tokenizer = try Tokenizer(gguf: metadata)
    self.tokenizer = tokenizer
    isPhi3 =
      strips && metadata.model == "llama"
      && ["<unk>", "<s>", "</s>", "<|endoftext|>"].allSatisfy { tokenizer.tokenID($0) != nil }
    addsBOS = tokenizer.bosTokenID.map { tokenizer.encode("a").first == $0 } ?? false
    remarks = examination.repairs.map { "repaired: \($0)" }
  }

  private static func entries(_ tokenizer: GGUFTokenizerMetadata) -> [(key: String, value: GGUFValue)] {
    var entries: [(key: String, value: GGUFValue)] = []
    func add(_ key: String, _ value: GGUFValue) { entries.append(("tokenizer.ggml.\(key)", value)) }
    add("model", .string(tokenizer.model))
    add("pre", .string(tokenizer.pre))
    add("tokens", .array(.string(tokenizer.tokens)))
    if !tokenizer.scores.isEmpty { add("scores", .array(.float32(tokenizer.scores))) }
    add("token_type", .array(.int32(tokenizer.tokenTypes)))
    if !tokenizer.merges.isEmpty { add("merges", .array(.string(tokenizer.merges))) }
    let ids: [(String, Int?)] = [
      ("bos_token_id", tokenizer.bosTokenID), ("eos_token_id", tokenizer.eosTokenID),
      ("unknown_token_id", tokenizer.unkTokenID), ("padding_token_id", tokenizer.padTokenID),
      ("eot_token_id", tokenizer.moreEndTokenIDs.first), ("eom_token_id", tokenizer.moreEndTokenIDs.dropFirst().first),
    ]
    for (key, id) in ids { if let id { add(key, .uint32(UInt32(clamping: id))) } }
    if let adds = tokenizer.addBOS { add("add_bos_token", .bool(adds)) }
    if let adds = tokenizer.addEOS { add("add_eos_token", .bool(adds)) }
    if let adds = tokenizer.addSpacePrefix { add("add_space_prefix", .bool(adds)) }
    if let template = tokenizer.chatTemplate { entries.append((chatTemplateKey, .string(template))) }
    if !tokenizer.namedChatTemplates.isEmpty {
      let names = tokenizer.namedChatTemplates.map(\.name)
      entries.append(("tokenizer.chat_templates", .array(.string(names))))
      for (name, source) in tokenizer.namedChatTemplates {
        entries.append((GGUFTokenizerMetadata.chatTemplateKey(name), .string(source)))
      }
    }
    return entries
  }

  private static let chatTemplateKey = GGUFTokenizerMetadata.chatTemplateKey(ChatTemplates.standardName)
}
