/// Makes a tokenizer of a list of tokens by rank, whose pattern and special tokens are known by name.
enum RankedTokenizer {
  /// What the list itself does not say.
  private struct Scheme: Sendable {
    /// What a file's name or a model's type starts with.
    var names: [String]
    /// How many ranks the published lists have.
    var counts: [Int]
    var pattern: String
    /// Special tokens and their ids.
    var specialTokens: @Sendable (_ count: Int) -> [(text: String, id: Int)]
    var bos: String?
    var eos: String
    var addsBOS = false
  }

  private static func list(_ texts: [String], from id: Int) -> [(text: String, id: Int)] {
    texts.enumerated().map { ($1, id + $0) }
  }

  private static let endOfText = "<|endoftext|>"
  private static let schemes = [
    Scheme(
      names: ["cl100k", "phi4", "phi-4"], counts: [100_256], pattern: KnownPatterns.tiktokenCL100K,
      specialTokens: { _ in
        [
          (endOfText, 100_257), ("<|fim_prefix|>", 100_258), ("<|fim_middle|>", 100_259), ("<|fim_suffix|>", 100_260),
          ("<|endofprompt|>", 100_276),
        ]
      }, eos: endOfText),
    Scheme(
      names: ["o200k"], counts: [199_998], pattern: KnownPatterns.o200k,
      specialTokens: { _ in [(endOfText, 199_999), ("<|endofprompt|>", 200_018)] }, eos: endOfText),
    Scheme(
      names: ["p50k", "r50k", "gpt2", "gpt-2"], counts: [50_256, 50_280], pattern: KnownPatterns.gpt2,
      specialTokens: { _ in [(endOfText, 50_256)] }, eos: endOfText),
    Scheme(
      names: ["llama4", "llama-4"], counts: [200_000], pattern: KnownPatterns.o200k, specialTokens: llama4,
      bos: "<|begin_of_text|>", eos: "<|end_of_text|>", addsBOS: true),
    Scheme(
      names: ["llama3", "llama-3", "llama", "mllama"], counts: [128_000],
      pattern: KnownPatterns.cl100k(digits: "{1,3}"),
      specialTokens: llama3, bos: "<|begin_of_text|>", eos: "<|end_of_text|>", addsBOS: true),
    Scheme(
      names: ["qwen"], counts: [151_643], pattern: KnownPatterns.cl100k(digits: ""),
      specialTokens: { count in
        list([endOfText, "<|im_start|>", "<|im_end|>"] + (0..<205).map { "<|extra_\($0)|>" }, from: count)
      }, eos: endOfText),
  ]

  /// Llama 3.1's names; the reserved tokens that it named were reserved in 3.0 too.
  @Sendable private static func llama3(_ count: Int) -> [(text: String, id: Int)] {
    let named = [
      "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
      "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>",
      "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
    ]
    return list(named + (3..<248).map { "<|reserved_special_token_\($0)|>" }, from: count)
  }

  /// Llama 4's names of the tokens that texts use.
  @Sendable private static func llama4(_ count: Int) -> [(text: String, id: Int)] {
    list(
      [
        "<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
        "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>",
      ], from: count)
  }

  /// The parts of a tokenizer.
  ///
  /// The scheme is the one that the file's name or the model's type names, else the one whose lists have as many ranks.
  static func parts(_ ranks: TokenRanks, _ path: String, modelType: String?) throws(TokenizationError) -> TokenizerParts
  {
    let count = ranks.tokens.count
    let file = (path.split(separator: "/").last.map(String.init) ?? path).lowercased()
    guard
      let scheme = schemes.first(where: { $0.names.contains(where: file.hasPrefix) })
        ?? schemes.first(where: { $0.counts.contains(count) })
        ?? schemes.first(where: { scheme in
          modelType.map { type in scheme.names.contains(where: type.lowercased().hasPrefix) } ?? false
        })
    else {
      throw TokenizationError(
        "\(path): a list of \(count) tokens is none of cl100k, o200k, p50k, r50k, gpt2, llama3, llama4 and qwen; "
          + "name the file after the one whose pattern it has, such as cl100k_base.tiktoken")
    }
    var parts = TokenizerParts(place: path)
    ranks.apply(to: &parts)
    parts.preTokenizer = try KnownPatterns.byteLevel([scheme.pattern])
    let highest = ranks.tokens.map(\.rank).max() ?? 0
    let taken = Set(ranks.tokens.lazy.map(\.rank).filter { $0 >= count })
    for (text, id) in scheme.specialTokens(count) where id > highest || !taken.contains(id) && id >= count {
      parts.addedTokens.append(AddedToken(id: Int32(truncatingIfNeeded: id), content: text, isSpecial: true))
    }
    for (name, text) in [("bos_token", scheme.bos), ("eos_token", scheme.eos)] {
      guard let text, let token = parts.addedTokens.first(where: { $0.content == text }) else { continue }
      parts.specialTokens.append((name, text))
      parts.specialTokenIDs[name] = token.id
      if name == "bos_token", scheme.addsBOS { parts.prefix = [token.id] }
    }
    return parts
  }
}
