/// What a special token is for.
enum SpecialRole: String, CaseIterable, Sendable {
  case bos, eos, unk, pad

  /// Its key in tokenizer_config.json and special_tokens_map.json.
  var tokenKey: String { rawValue + "_token" }
  /// Its key in config.json and generation_config.json.
  var idKey: String { rawValue + "_token_id" }

  /// Its key in a GGUF.
  var metadataKey: String {
    switch self {
    case .bos: "tokenizer.ggml.bos_token_id"
    case .eos: "tokenizer.ggml.eos_token_id"
    case .unk: "tokenizer.ggml.unknown_token_id"
    case .pad: "tokenizer.ggml.padding_token_id"
    }
  }

  /// For people.
  var name: String {
    switch self {
    case .bos: "BOS"
    case .eos: "EOS"
    case .unk: "UNK"
    case .pad: "padding"
    }
  }
}

/// A token by text and id.
struct SpecialToken: Sendable, Equatable {
  var content: String
  /// `nil` where no vocabulary at hand knows it.
  var id: Int?

  static func == (left: SpecialToken, right: SpecialToken) -> Bool { isSame(left.content, right.content) }

  /// For people: `` `<|im_end|>` (100265) ``.
  var description: String { "`\(content)`" + (id.map { " (\($0))" } ?? "") }
}

/// Whether two texts are the same bytes; `==` also equates other spellings of the same characters.
func isSame(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }

/// Where some bytes first stand in others.
func find(_ needle: some Collection<UInt8>, in bytes: [UInt8], from start: Int = 0) -> Int? {
  let needle = Array(needle)
  guard let first = needle.first else { return start }
  var index = start
  while index + needle.count <= bytes.count {
    if bytes[index] == first, bytes[index..<index + needle.count].elementsEqual(needle) { return index }
    index += 1
  }
  return nil
}

/// A text for a message: quoted, one line, not too long.
func shown(_ text: some StringProtocol, limit: Int = 80) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    if result.unicodeScalars.count >= limit {
      result += "…"
      break
    }
    switch scalar {
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    case _ where scalar.value < 0x20 || scalar.value == 0x7F: result += "\\u{\(String(scalar.value, radix: 16))}"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return "\"\(result)\""
}

/// Bytes as a text for a message.
func shown(_ bytes: some Sequence<UInt8>, limit: Int = 80) -> String {
  shown(String(decoding: Array(bytes), as: UTF8.self), limit: limit)
}
