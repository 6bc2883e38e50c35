/// The patterns by which well-known tokenizers cut texts into words.
///
/// They are written as the models' own tokenizer.json has them.
enum KnownPatterns {
  static let gpt2 = PreTokenizer.gpt2Pattern
  private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  private static let signs = #" ?[^\s\p{L}\p{N}]+[\r\n]*"#
  private static let spaces = #"\s*[\r\n]+|\s+(?!\S)|\s+"#

  /// GPT-4's pattern, with up to `digits` digits together: Llama 3's and Phi-4's (`{1,3}`), Qwen's (one).
  static func cl100k(digits: String) -> String {
    "\(contractions)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}\(digits)|\(signs)|\(spaces)"
  }

  /// GPT-4's pattern as tiktoken has it since 0.7: white space at the very end is one word.
  static let tiktokenCL100K =
    "\(contractions)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\(signs)|\\s+\\z|\(spaces)"

  /// Qwen 3.5's pattern, which keeps marks with their letters.
  static let qwen35 =
    "\(contractions)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\(spaces)"

  /// Seed-Coder's pattern: line ends are no part of a run of signs.
  static let seedCoder =
    "\(contractions)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\(spaces)"

  private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
  private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#

  /// GPT-4o's pattern, which also cuts where the case changes.
  static let o200k = caseSensitive(contractions: contractions + "?", digits: "{1,3}")
  /// Mistral's Tekken pattern.
  static let tekken = caseSensitive(contractions: "", digits: "")

  private static func caseSensitive(contractions: String, digits: String) -> String {
    let start = #"[^\r\n\p{L}\p{N}]?"#
    return "\(start)\(upper)*\(lower)+\(contractions)|\(start)\(upper)+\(lower)*\(contractions)|\\p{N}\(digits)"
      + #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|"# + spaces
  }

  /// Steps that cut at each match of patterns, one after the other, then the byte alphabet.
  static func byteLevel(
    _ patterns: [String], addsPrefixSpace: Bool = false
  ) throws(TokenizationError) -> PreTokenizer {
    var steps: [PreTokenizer] = []
    for pattern in patterns {
      // The models whose GGUF says `\p{N}` have `Digits` in their tokenizer.json.
      steps.append(pattern == #"\p{N}"# ? .digits(individual: true) : try .isolating(pattern))
    }
    return .sequence(steps + [.byteLevel(addPrefixSpace: addsPrefixSpace, cuts: false)])
  }
}
