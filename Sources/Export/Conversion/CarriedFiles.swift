import Doctor
import Glibc
import JSONValues
import ModelFiles
import Tokenization

/// What a written model takes along beside its weights: the tokenizer, repaired where it has to be, the settings of
/// generation, the licence.
package struct CarriedFiles {
  /// The `config.json` that the model comes with; `nil` for a GGUF.
  package let configuration: JSONObject?
  /// The model with its special tokens as they are once repaired.
  package let model: ModelConfiguration
  /// Names and contents of the other files.
  package private(set) var files: [(name: String, bytes: [UInt8])] = []

  private static let names: Set = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json", "generation_config.json", "LICENSE",
    "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.md", "NOTICE.txt",
  ]

  /// Reads what lies beside a checkpoint's weights, or what a GGUF says of its tokenizer, and repairs it.
  package init(of checkpoint: Checkpoint, _ examination: Examination) throws {
    switch checkpoint.tokenizerSource {
    case .folder(let folder):
      let changed = try examination.changedFiles()
      func contents(_ name: String) throws -> [UInt8] {
        try changed[name] ?? MappedFile.contents(of: "\(folder)/\(name)")
      }
      configuration = try JSONValue.parse(contents("config.json")).object
      model = checkpoint.configuration
      let names = AtomicFolder.names(in: folder).filter(Self.names.contains)
      for name in names + ChatTemplateSource.namedFiles(in: folder) { files.append((name, try contents(name))) }
    case .gguf(let file):
      configuration = nil
      let changes = examination.metadataChanges
      let metadata = GGUFMetadata(
        changes + file.metadata.entries.filter { entry in !changes.contains { $0.key == entry.key } }, path: file.path)
      model = try checkpoint.configuration.withTokens(of: metadata)
      // A file without a tokenizer is a model all the same.
      if metadata["tokenizer.ggml.model"] != nil {
        let tokenizer = try GGUFTokenizerMetadata(metadata, path: file.path)
        for (name, json) in try tokenizer.files(contextLength: model.contextLength) {
          files.append((name, json.serializedBytes(.pretty) + [0x0A]))
        }
      }
      let generation = Self.generation(model)
      files.append(("generation_config.json", JSONValue.object(generation).serializedBytes(.pretty) + [0x0A]))
    }
  }

  private static func generation(_ model: ModelConfiguration) -> JSONObject {
    var object = JSONObject()
    object["bos_token_id"] = model.bosTokenID.map { .integer($0) }
    if !model.eosTokenIDs.isEmpty { object["eos_token_id"] = .array(model.eosTokenIDs.map { .integer($0) }) }
    object["pad_token_id"] = model.padTokenID.map { .integer($0) }
    return object
  }
}
