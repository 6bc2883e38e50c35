import Doctor
import Glibc
import JSONValues
import ModelFiles
import Tokenization

/// What a converted model takes along beside its weights: the tokenizer, the settings of generation, the licence.
package struct CarriedFiles {
  /// The `config.json` that the model comes with; `nil` for a GGUF.
  package let configuration: JSONObject?
  /// Names and contents of the other files.
  package private(set) var files: [(name: String, bytes: [UInt8])] = []

  private static let names: Set = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json", "generation_config.json", "LICENSE",
    "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.md", "NOTICE.txt",
  ]

  /// Reads what lies beside a checkpoint's weights, or what a GGUF says of its tokenizer.
  package init(of checkpoint: Checkpoint) throws {
    switch checkpoint.tokenizerSource {
    case .folder(let folder):
      configuration = try readJSON("\(folder)/config.json").object
      for name in AtomicFolder.names(in: folder) where Self.names.contains(name) {
        files.append((name, try MappedFile.contents(of: "\(folder)/\(name)")))
      }
      for name in ChatTemplateSource.namedFiles(in: folder) {
        files.append((name, try MappedFile.contents(of: "\(folder)/\(name)")))
      }
    case .gguf(let file):
      configuration = nil
      // A file without a tokenizer is a model all the same.
      if file.metadata["tokenizer.ggml.model"] != nil {
        let metadata = try GGUFTokenizerMetadata(file.metadata, path: file.path)
        for (name, json) in try metadata.files(contextLength: checkpoint.configuration.contextLength) {
          files.append((name, json.serializedBytes(.pretty) + [0x0A]))
        }
      }
      let generation = Self.generation(checkpoint.configuration)
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
