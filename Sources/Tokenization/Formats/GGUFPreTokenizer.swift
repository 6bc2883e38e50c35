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

  private static let bloom = #" ?[^(\s|.,!?…。，、।۔،)]+"#

  static func named(_ name: String) throws(TokenizationError) -> GGUFPreTokenizer {
    let gpt2 = KnownPatterns.gpt2
    switch name {
    case "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "jina-v5-nano":
      return GGUFPreTokenizer(patterns: [KnownPatterns.cl100k(digits: "{1,3}")], ignoresMerges: true, addsBOS: true)
    case "dbrx", "smaug-bpe", "phi-4", "glm4", "chatglm-bpe", "cl100k", "cl100k_base":
      return GGUFPreTokenizer(patterns: [KnownPatterns.cl100k(digits: "{1,3}")])
    case "qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "grok-2", "solar-open", "kormo", "f2llmv2":
      return GGUFPreTokenizer(patterns: [KnownPatterns.cl100k(digits: "")])
    case "qwen35": return GGUFPreTokenizer(patterns: [KnownPatterns.qwen35])
    case "gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4", "trillion",
      "granite-docling":
      return GGUFPreTokenizer(patterns: [gpt2])
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2":
      return GGUFPreTokenizer(patterns: [#"\p{N}"#, gpt2])
    case "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2":
      return GGUFPreTokenizer(patterns: [KnownPatterns.o200k])
    case "tekken":
      return GGUFPreTokenizer(patterns: [KnownPatterns.tekken], ignoresMerges: true, addsBOS: true)
    case "deepseek-llm":
      return GGUFPreTokenizer(patterns: [
        #"[\r\n]"#, #"\s?\p{L&}+"#, #"\s?[!-/:-~！-／：-～‘-‟　-。]+"#, #"\s+$"#, "[一-龥ࠀ-一가-퟿]+", #"\p{N}+"#,
      ])
    case "deepseek-coder":
      return GGUFPreTokenizer(patterns: [#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, "[一-龥ࠀ-一가-퟿]+", #"\p{N}"#])
    case "deepseek-v3", "hunyuan-dense", "joyai-llm":
      return GGUFPreTokenizer(patterns: [
        #"\p{N}{1,3}"#, "[一-龥぀-ゟ゠-ヿ]+",
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##
          + #"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
      ])
    case "seed-coder":
      return GGUFPreTokenizer(patterns: [
        KnownPatterns.seedCoder
      ])
    case "minicpm5":
      return GGUFPreTokenizer(patterns: [#"\p{N}{1,3}"#, KnownPatterns.cl100k(digits: "+")], ignoresMerges: true)
    case "poro-chat", "bloom", "gpt3-finnish": return GGUFPreTokenizer(patterns: [bloom])
    case "viking": return GGUFPreTokenizer(patterns: [bloom, #"\p{N}"#])
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
