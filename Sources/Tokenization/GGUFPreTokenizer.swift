/// How a GGUF file's texts are cut before BPE: what its key `tokenizer.ggml.pre` names.
///
/// GGUF carries no pattern, only a name; the patterns are those of the models' own tokenizer.json, which llama.cpp
/// applies one after the other, each cutting what the ones before it left.
struct GGUFPreTokenizer {
  var patterns: [String]
  /// Whether a word that is a token stays whole.
  var ignoresMerges = false
  /// Whether BOS goes before a text unless the file says otherwise.
  var addsBOS = false

  private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  private static let signsAndSpaces = #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  /// GPT-4's pattern (cl100k), with up to `digits` digits together.
  private static func cl100k(digits: String) -> String {
    contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"# + digits + "|" + signsAndSpaces
  }
  /// GPT-4o's pattern (o200k), which also cuts where the case changes.
  private static func o200k(contractions: String, digits: String) -> String {
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    return #"[^\r\n\p{L}\p{N}]?"# + upper + "*" + lower + "+" + contractions + #"|[^\r\n\p{L}\p{N}]?"# + upper + "+"
      + lower
      + "*" + contractions + #"|\p{N}"# + digits + #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  static func named(_ name: String) throws(TokenizationError) -> GGUFPreTokenizer {
    let gpt2 = PreTokenizer.gpt2Pattern
    switch name {
    case "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2":
      return GGUFPreTokenizer(patterns: [cl100k(digits: "{1,3}")], ignoresMerges: true, addsBOS: true)
    case "dbrx", "smaug-bpe", "phi-4", "glm4", "chatglm-bpe", "cl100k", "cl100k_base":
      return GGUFPreTokenizer(patterns: [cl100k(digits: "{1,3}")])
    case "qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "grok-2", "solar-open":
      return GGUFPreTokenizer(patterns: [cl100k(digits: "")])
    case "gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4", "trillion",
      "granite-docling":
      return GGUFPreTokenizer(patterns: [gpt2])
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2":
      return GGUFPreTokenizer(patterns: [#"\p{N}"#, gpt2])
    case "gpt-4o", "llama4", "kanana2":
      return GGUFPreTokenizer(patterns: [o200k(contractions: contractions + "?", digits: "{1,3}")])
    case "tekken":
      return GGUFPreTokenizer(patterns: [o200k(contractions: "", digits: "")], ignoresMerges: true, addsBOS: true)
    case "falcon":
      return GGUFPreTokenizer(patterns: [#"[\p{P}\$\+<=>\^~\|`]+"#, gpt2, "[0-9][0-9][0-9]"])
    case "default", "":
      return GGUFPreTokenizer(patterns: [#"[\p{P}\$\+<=>\^~\|]+"#, gpt2, #"\p{N}+"#, "[0-9][0-9][0-9]"])
    default:
      throw TokenizationError(
        "tokenizer.ggml.pre: \"\(name)\" is not known; known are llama-bpe, qwen2, gpt-2, smollm, dbrx, gpt-4o, tekken, "
          + "falcon, default and their kin")
    }
  }
}
