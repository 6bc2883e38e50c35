import JSONValues

/// Small tokenizers of known kinds as Hugging Face's files.
public enum TinyTokenizer {
  /// The 256 characters of byte-level BPE, in the order of GPT-2's vocabulary.
  public static let bytes: [String] = {
    let plain = Array(33...126) + Array(161...172) + Array(174...255)
    let count = 256 - plain.count
    return (plain + (0..<count).map { 256 + $0 }).compactMap { Unicode.Scalar($0).map { String($0) } }
  }()

  /// The tokens that byte-level tokenizers begin with.
  public static let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|dummy|>"]
  private static let byteMerges = [("h", "e"), ("l", "l"), ("ll", "o"), ("he", "llo"), ("Ġ", "w"), ("1", "2")]
  private static let byteLevel: JSONValue = [
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
  ]

  /// The pattern of GPT-4 and Phi-4.
  public static let cl100k =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

  /// A step that cuts at the matches of a pattern.
  public static func split(_ pattern: String) -> JSONValue {
    ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false]
  }

  /// SmolLM's way to cut: digits, then GPT-2's pattern.
  public static let smollm: [JSONValue] = [
    ["type": "Digits", "individual_digits": true],
    ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true],
  ]

  /// Byte-level BPE; the special tokens come first, 266 tokens in all.
  public static func byteLevel(_ steps: [JSONValue]? = nil, normalizer: JSONValue = .null) -> JSONValue {
    var vocabulary = JSONObject()
    for token in special + bytes + byteMerges.map({ $0.0 + $0.1 }) {
      vocabulary[token] = .integer(vocabulary.count)
    }
    return [
      "version": "1.0", "added_tokens": .array(special.enumerated().map { added($1, $0) }), "normalizer": normalizer,
      "pre_tokenizer": ["type": "Sequence", "pretokenizers": .array(steps ?? [split(cl100k), byteLevel])],
      "post_processor": byteLevel, "decoder": byteLevel,
      "model": [
        "type": "BPE", "vocab": .object(vocabulary),
        "merges": .array(byteMerges.map { [.string($0.0), .string($0.1)] }),
      ],
    ]
  }

  private static func added(_ text: String, _ id: Int) -> JSONValue {
    [
      "id": .integer(id), "content": .string(text), "single_word": false, "lstrip": false, "rstrip": false,
      "normalized": false, "special": true,
    ]
  }

  /// Merges that scores of their tokens can express.
  public static let pieceMerges = [
    ("▁", "h"), ("e", "l"), ("▁h", "el"), ("l", "o"), ("▁hel", "lo"), ("▁h", "ello"), ("el", "lo"),
  ]

  /// SentencePiece's BPE as tokenizer.json has it: `<unk>`, `<s>`, `</s>`, bytes, letters, merges.
  public static func sentencePieces(_ merges: [(String, String)] = pieceMerges, addsSpace: Bool = true) -> JSONValue {
    var vocabulary = JSONObject()
    let hex = (0..<256).map { "<0x\($0 < 16 ? "0" : "")\(String($0, radix: 16, uppercase: true))>" }
    let letters = ["▁", "h", "e", "l", "o"]
    for token in ["<unk>", "<s>", "</s>"] + hex + letters + merges.map({ $0.0 + $0.1 }) where vocabulary[token] == nil {
      vocabulary[token] = .integer(vocabulary.count)
    }
    let replace: JSONValue = ["type": "Replace", "pattern": ["String": " "], "content": "▁"]
    return [
      "version": "1.0", "added_tokens": [added("<unk>", 0), added("<s>", 1), added("</s>", 2)],
      "normalizer": [
        "type": "Sequence",
        "normalizers": .array((addsSpace ? [["type": "Prepend", "prepend": "▁"]] : []) + [replace]),
      ],
      "pre_tokenizer": .null,
      "post_processor": [
        "type": "TemplateProcessing",
        "single": [["SpecialToken": ["id": "<s>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]]],
        "special_tokens": ["<s>": ["id": "<s>", "ids": [1], "tokens": ["<s>"]]],
      ],
      "decoder": [
        "type": "Sequence",
        "decoders": .array(
          [
            ["type": "Replace", "pattern": ["String": "▁"], "content": " "], ["type": "ByteFallback"], ["type": "Fuse"],
          ] + (addsSpace ? [["type": "Strip", "content": " ", "start": 1, "stop": 0]] : [])),
      ],
      "model": [
        "type": "BPE", "vocab": .object(vocabulary), "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
        "merges": .array(merges.map { [.string($0.0), .string($0.1)] }),
      ],
    ]
  }

  /// The template of ChatML.
  public static let chatML =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

  /// Writes a tokenizer and what transformers has beside it into a model's folder.
  public static func write(
    _ json: JSONValue = byteLevel(),
    config: JSONObject = [
      "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>",
      "pad_token": "<|dummy|>", "unk_token": "<|endoftext|>", "chat_template": .string(chatML),
    ], to folder: TemporaryFolder
  ) throws {
    _ = try folder.write("tokenizer.json", json.serialized())
    _ = try folder.write("tokenizer_config.json", JSONValue.object(config).serialized())
  }
}
