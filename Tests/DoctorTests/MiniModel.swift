import JSONValues
import ModelFiles
import TestSupport
import Tokenization

@testable import Doctor

/// A model folder of a few kilobytes in the shape of a real one: byte-level BPE of single bytes, added tokens, template.
struct MiniModel {
  var tokenizer: JSONObject = [:]
  var configuration: JSONObject = [:]
  var config: JSONObject? = [:]
  var generation: JSONObject?
  var files: [String: String] = [:]

  /// Byte-level BPE with these added tokens after its 256 bytes and a few merges.
  init(tokens: [String], spaces: Bool = false) {
    var vocabulary = JSONObject()
    for letter in Self.alphabet { vocabulary[letter] = .integer(vocabulary.count) }
    for merged in ["ï¿", "ï¿½", "Ġï¿½"] { vocabulary[merged] = .integer(vocabulary.count) }
    let first = vocabulary.count
    let added = tokens.enumerated().map { index, content -> JSONValue in
      [
        "id": .integer(first + index), "content": .string(content), "single_word": false, "lstrip": .bool(spaces),
        "rstrip": .bool(spaces), "normalized": false, "special": true,
      ]
    }
    tokenizer = [
      "version": "1.0", "added_tokens": .array(added), "normalizer": .null,
      "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true],
      "post_processor": .null,
      "decoder": ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true],
      "model": [
        "type": "BPE", "unk_token": .null, "vocab": .object(vocabulary), "merges": ["ï ¿", "ï¿ ½", "Ġ ï¿½"],
      ],
    ]
    config = ["model_type": "phi3", "vocab_size": .integer(first + tokens.count), "max_position_embeddings": 1024]
  }

  /// The printable names of the 256 bytes, as GPT-2 has them.
  static let alphabet: [String] = {
    let printable = Array(33...126) + Array(161...172) + Array(174...255)
    var next = 256
    return (0...255).map { byte -> String in
      if printable.contains(byte) { return String(Unicode.Scalar(UInt8(byte))) }
      defer { next += 1 }
      return Unicode.Scalar(UInt32(next)).map { String($0) } ?? ""
    }
  }()

  /// The id of an added token.
  func id(_ content: String) -> Int? {
    tokenizer["added_tokens"]?.array?.first { $0["content"]?.string == content }?["id"]?.integer
  }

  /// Writes the folder.
  func write() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    try write(to: folder)
    return folder
  }

  func write(to folder: TemporaryFolder) throws {
    if !tokenizer.isEmpty { _ = try folder.write("tokenizer.json", JSONValue.object(tokenizer).serialized()) }
    if !configuration.isEmpty {
      _ = try folder.write("tokenizer_config.json", JSONValue.object(configuration).serialized(pretty: true))
    }
    if let config { _ = try folder.write("config.json", JSONValue.object(config).serialized(pretty: true)) }
    if let generation {
      _ = try folder.write("generation_config.json", JSONValue.object(generation).serialized(pretty: true))
    }
    for (name, text) in files { _ = try folder.write(name, text) }
  }

  /// What the doctor finds in it.
  func findings() throws -> [Finding] {
    let folder = try write()
    return try withExtendedLifetime(folder) { try Examination(of: folder.path).findings }
  }
}

extension MiniModel {
  /// Phi-4 as it was first published.
  static func phi4() -> MiniModel {
    let tokens =
      ["<|dummy_0|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"]
      + (80...87).map { "<|dummy_\($0)|>" }
    var model = MiniModel(tokens: tokens, spaces: true)
    let end = JSONValue.integer(model.id("<|endoftext|>") ?? 0)
    model.config?["bos_token_id"] = end
    model.config?["eos_token_id"] = end
    model.config?["pad_token_id"] = end
    var decoder = JSONObject()
    for token in model.tokenizer["added_tokens"]?.array ?? [] {
      var fields = token.object ?? [:]
      let id = fields["id"]?.integer ?? 0
      fields["id"] = nil
      decoder["\(id)"] = .object(fields)
    }
    model.configuration = [
      "add_prefix_space": false, "added_tokens_decoder": .object(decoder), "bos_token": "<|endoftext|>",
      "chat_template": .string(phi4Template), "eos_token": "<|endoftext|>", "model_max_length": 1024,
      "pad_token": "<|endoftext|>", "tokenizer_class": "GPT2Tokenizer",
    ]
    return model
  }

  /// In the manner of Phi-4's: the user's turn opens the assistant's.
  static let phi4Template = """
    {% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + \
    message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + \
    message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'}}{% elif (message['role'] == 'assistant') \
    %}{{message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}
    """

  /// What it should be.
  static let soundTemplate = """
    {% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' \
    }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}
    """

  /// ChatML, sound in all but what a test changes.
  static func chatML(more: [String] = []) -> MiniModel {
    var model = MiniModel(tokens: ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<pad>"] + more)
    model.configuration = [
      "bos_token": "<s>", "chat_template": .string(chatMLTemplate), "eos_token": "<|im_end|>", "pad_token": "<pad>",
      "unk_token": "<unk>",
    ]
    return model
  }

  static let chatMLTemplate = """
    {% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
    """

  /// Llama 3: BOS from the post-processor, many reserved tokens.
  static func llama3(instruct: Bool) -> MiniModel {
    let tokens =
      ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
      + (0...4).map { "<|reserved_special_token_\($0)|>" }
    var model = MiniModel(tokens: tokens)
    let begin = JSONValue.integer(model.id("<|begin_of_text|>") ?? 0)
    let end = JSONValue.integer(model.id("<|end_of_text|>") ?? 0)
    model.tokenizer["post_processor"] = [
      "type": "TemplateProcessing",
      "single": [
        ["SpecialToken": ["id": "<|begin_of_text|>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
      ],
      "pair": [],
      "special_tokens": [
        "<|begin_of_text|>": ["id": "<|begin_of_text|>", "ids": [begin], "tokens": ["<|begin_of_text|>"]]
      ],
    ]
    model.configuration = ["bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"]
    model.config?["bos_token_id"] = begin
    model.config?["eos_token_id"] = end
    if instruct {
      model.configuration["chat_template"] = .string(
        """
        {{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + \
        '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
        """)
      model.generation = [
        "eos_token_id": [
          .integer(model.id("<|end_of_text|>") ?? 0), .integer(model.id("<|eot_id|>") ?? 0),
        ]
      ]
    }
    return model
  }
}

/// The ids of findings that are worse than a note.
func defects(_ findings: [Finding]) -> [String] { findings.filter { $0.severity != .note }.map(\.id) }
