extension GGUFPreTokenizer {
  /// llama.cpp's names for ways to cut texts; of those that do the same, the one that its converter writes.
  private static let names = [
    "llama-bpe", "dbrx", "qwen2", "gpt-2", "smollm", "gpt-4o", "tekken", "qwen35", "seed-coder", "deepseek-v3",
    "deepseek-llm", "deepseek-coder", "minicpm5", "bloom", "viking", "falcon",
  ]

  /// llama.cpp's name for the way in which byte-level BPE cuts texts; `nil` where it has none.
  ///
  /// Whether a word that is a token stays whole is part of what a name says.
  static func name(of preTokenizer: PreTokenizer?, ignoresMerges: Bool) throws(TokenizationError) -> String? {
    let wanted = signature(preTokenizer)
    var other: String?
    for name in names {
      let known = try named(name)
      guard signature(try KnownPatterns.byteLevel(known.patterns)) == wanted else { continue }
      if known.ignoresMerges == ignoresMerges { return name }
      other = other ?? name
    }
    return other
  }

  /// What the steps do, the same for steps that do the same.
  private static func signature(_ preTokenizer: PreTokenizer?) -> [String] {
    (preTokenizer?.steps ?? []).flatMap { step in
      switch step {
      case .words(let scanner): [words(scanner)]
      case .byteLevel(let addsSpace, let cuts): (cuts ? [words(.gpt2)] : []) + ["bytes \(addsSpace)"]
      // As files made of a GGUF have it.
      case .digits(individual: true): [#"\p{N}"#]
      case .split(.expression(let expression), let behavior, let invert):
        // What a pattern matches is a word, whether the rest is kept apart or there is none.
        [behavior == .isolated || (behavior == .removed && invert) ? expression.pattern : "\(step)"]
      default: ["\(step)"]
      }
    }
  }

  /// GPT-4's pattern is written in two ways that differ in white space at the very end of a text only.
  private static func words(_ scanner: WordScanner) -> String {
    scanner == .tiktokenCL100K ? words(.cl100k) : "words \(scanner.kind.rawValue)"
  }
}
