import JSONValues

/// Reads `tekken.json`, the file of Mistral's newer tokenizers: tokens by rank, a pattern, special tokens.
enum TekkenFile {
  static func parts(_ json: JSONValue, _ path: String) throws(TokenizationError) -> TokenizerParts {
    guard let list = json["vocab"]?.array, let config = json["config"], let pattern = config["pattern"]?.string else {
      throw TokenizationError("\(path): \"vocab\" and \"config.pattern\" must be there; the file is no tekken.json")
    }
    let specialCount = config["default_num_special_tokens"]?.integer ?? 1000
    let size = config["default_vocab_size"]?.integer ?? list.count + specialCount
    guard (0...highestSpecialCount).contains(specialCount), (0...TokenizerParts.highestID).contains(size) else {
      throw TokenizationError("\(path): config.default_num_special_tokens or default_vocab_size is out of range")
    }
    // The file lists more tokens than the model has.
    let count = min(list.count, max(0, size - specialCount))
    var tokens: [(bytes: [UInt8], rank: Int)] = []
    tokens.reserveCapacity(count)
    var known = Set<[UInt8]>()
    for (index, entry) in list.prefix(count).enumerated() {
      guard let text = entry["token_bytes"]?.string, let bytes = Base64.decode(text.utf8), !bytes.isEmpty,
        entry["rank"]?.integer ?? index == index
      else {
        throw TokenizationError(
          "\(path): vocab[\(index)] must have its \"token_bytes\" in base64 and its place as \"rank\"")
      }
      guard known.insert(bytes).inserted else {
        throw TokenizationError("\(path): vocab[\(index)] is a token for the second time")
      }
      tokens.append((bytes, index))
    }
    var parts = TokenizerParts(place: path)
    for byte in UInt8.min...UInt8.max where !known.contains([byte]) {
      throw TokenizationError("\(path): no token stands for the byte \(byte); the list is cut short or damaged")
    }
    TokenRanks(tokens).apply(to: &parts, offset: specialCount)
    do {
      parts.preTokenizer = try KnownPatterns.byteLevel([pattern])
    } catch {
      throw TokenizationError("\(path): config.pattern: \(error)")
    }
    try readSpecialTokens(json["special_tokens"], specialCount, path, &parts)
    return parts
  }

  /// The most special tokens that a file may ask for: each takes memory even if it has no name.
  private static let highestSpecialCount = 1 << 16

  /// The names of special tokens in files that do not list them.
  private static let standardSpecialTokens = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
  ]

  private static func readSpecialTokens(
    _ list: JSONValue?, _ count: Int, _ path: String, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    var texts: [Int: String] = [:]
    for (id, text) in Self.standardSpecialTokens.enumerated() where list?.array == nil { texts[id] = text }
    for (index, entry) in (list?.array ?? []).enumerated() {
      guard let text = entry["token_str"]?.string, let id = entry["rank"]?.integer, (0..<count).contains(id) else {
        throw TokenizationError(
          "\(path): special_tokens[\(index)] must have a \"token_str\" and a \"rank\" below \(count)")
      }
      texts[id] = text
    }
    for id in 0..<count {
      parts.addedTokens.append(
        AddedToken(
          id: Int32(truncatingIfNeeded: id), content: texts[id] ?? "<SPECIAL_\(id)>", isSpecial: true))
    }
    for (name, text) in [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")] {
      guard let token = parts.addedTokens.first(where: { $0.content == text }) else { continue }
      parts.specialTokens.append((name, text))
      parts.specialTokenIDs[name] = token.id
      if name == "bos_token" { parts.prefix = [token.id] }
    }
  }
}
