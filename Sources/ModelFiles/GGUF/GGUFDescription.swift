import Glibc

/// A model's shape as llama.cpp wants it told: the metadata of its architecture, tables, names and orders of tensors.
public struct GGUFDescription: Sendable {
  /// `general.architecture`.
  public let architecture: String
  /// The keys of the architecture.
  public private(set) var entries: [(key: String, value: GGUFValue)] = []
  /// Tensors of fp32 that no checkpoint has: factors of the rotary frequencies.
  public private(set) var tables: [(name: String, values: [Float])] = []
  /// Whether queries, keys and values are one tensor, gate and up another.
  public let fusesProjections: Bool
  /// What llama.cpp will compute otherwise, each one line.
  public private(set) var remarks: [String] = []
  private let configuration: ModelConfiguration
  private let pairsNeighbours: Bool

  /// Describes a model; throws with the reason where llama.cpp has no architecture that computes the same.
  public init(_ model: ModelConfiguration, path: String) throws(ModelFileError) {
    // llama.cpp calls Mistral's models "llama".
    let own = ModelFamily.named(model.architecture)
    guard let family = own?.ggufName == nil ? ModelFamily.named("LlamaForCausalLM") : own, let name = family.ggufName
    else { throw ModelFileError(path, "llama.cpp has no architecture for \(model.architecture)") }
    configuration = model
    architecture = name
    pairsNeighbours = family.pairsNeighboursInGGUF
    fusesProjections = family.rotatesPartially
    if let reason = Self.reason(against: model, family) {
      throw ModelFileError(path, "llama.cpp's architecture '\(name)' cannot express this model: its \(reason)")
    }
    describe(family)
    try describeScaling(family, path)
  }

  /// What keeps llama.cpp's architecture from computing this model, in words that complete "its …".
  private static func reason(against model: ModelConfiguration, _ family: ModelFamily) -> String? {
    switch family.architecture {
    case "Qwen2ForCausalLM":
      if !model.attentionBias { return "queries, keys and values have no biases" }
      if model.outputBias || model.mlpBias { return "attention output or feed-forward block has biases" }
    case "LlamaForCausalLM": break
    default: if model.attentionBias || model.outputBias || model.mlpBias { return "projections have biases" }
    }
    let unrotated = Set((0..<model.layerCount).filter { family.skipsRotation && ($0 + 1) % 4 == 0 })
    if model.unrotatedLayers != unrotated {
      return family.skipsRotation
        ? "layers without rotation are not every fourth (no_rope_layers)" : "layers are not all rotated"
    }
    return nil
  }

  private mutating func add(_ key: String, _ value: GGUFValue) { entries.append(("\(architecture).\(key)", value)) }

  private mutating func add(_ key: String, _ value: Int) { add(key, .uint32(UInt32(clamping: value))) }

  private mutating func add(_ key: String, _ value: Double) { add(key, .float32(Float(value))) }

  private mutating func describe(_ family: ModelFamily) {
    let model = configuration
    add("vocab_size", model.vocabularySize)
    add("context_length", model.contextLength)
    add("embedding_length", model.hiddenSize)
    add("block_count", model.layerCount)
    add("feed_forward_length", model.intermediateSize)
    add("attention.head_count", model.headCount)
    add("attention.head_count_kv", model.keyValueHeadCount)
    add("attention.key_length", model.headDimension)
    add("attention.value_length", model.headDimension)
    add("attention.layer_norm_rms_epsilon", model.rmsNormEpsilon)
    add("rope.dimension_count", model.rotaryDimension)
    add("rope.freq_base", model.ropeTheta)
    // For phi3 the key must be there: without it older programs take Phi-3's window for granted.
    if let window = model.slidingWindow ?? (fusesProjections ? 0 : nil) { add("attention.sliding_window", window) }
    if let window = model.slidingWindow, window < model.contextLength {
      remarks.append(
        "attention sees the last \(window) tokens only; llama.cpp attends to all of a text, which differs beyond them")
    }
  }

  private mutating func describeScaling(_ family: ModelFamily, _ path: String) throws(ModelFileError) {
    let model = configuration
    switch model.ropeScaling {
    case .none: break
    case .linear(let factor):
      add("rope.scaling.type", .string("linear"))
      add("rope.scaling.factor", factor)
    case .dynamic:
      remarks.append(
        "rotary positions grow with the length ('dynamic'), which llama.cpp does not do beyond \(model.contextLength) "
          + "tokens")
    case .llama3(let factor, let low, let high, let original):
      try addFrequencyFactors(llama3(factor, low, high, Double(original)), family, path)
    case .factors(let factors): try addFrequencyFactors(factors, family, path)
    case .longRoPE(let short, let long, let original, let attention):
      guard ["phi3", "llama"].contains(architecture) else {
        throw ModelFileError(path, "llama.cpp's architecture '\(architecture)' has no longrope")
      }
      add("rope.scaling.type", .string("longrope"))
      add("rope.scaling.original_context_length", original)
      add("rope.scaling.attn_factor", attention)
      tables = [
        ("rope_factors_long.weight", long.map { Float($0) }), ("rope_factors_short.weight", short.map { Float($0) }),
      ]
    case .yarn(let factor, let original, let fast, let slow, let truncates, let attention):
      guard truncates else {
        throw ModelFileError(path, "llama.cpp cannot compute YaRN with \"truncate\": false")
      }
      add("rope.scaling.type", .string("yarn"))
      add("rope.scaling.factor", factor)
      add("rope.scaling.original_context_length", original)
      add("rope.scaling.yarn_beta_fast", fast)
      add("rope.scaling.yarn_beta_slow", slow)
      // Relative to the factor that YaRN names itself.
      let relative = attention / ModelConfiguration.yarnAttentionFactor(factor: factor)
      if abs(relative - 1) > 1e-6 { add("rope.scaling.yarn_attn_factor", relative) }
    }
  }

  private mutating func addFrequencyFactors(
    _ factors: [Float], _ family: ModelFamily, _ path: String
  ) throws(ModelFileError) {
    guard architecture == "llama" else {
      throw ModelFileError(path, "llama.cpp's architecture '\(architecture)' has no factors of rotary frequencies")
    }
    tables = [("rope_freqs.weight", factors)]
  }

  /// What Llama 3.1 divides each frequency by.
  private func llama3(_ factor: Double, _ low: Double, _ high: Double, _ original: Double) -> [Float] {
    (0..<configuration.rotaryDimension / 2).map { index in
      let exponent = 2 * Double(index) / Double(configuration.rotaryDimension)
      let wavelength = 2 * Double.pi * pow(configuration.ropeTheta, exponent)
      if wavelength < original / high { return 1 }
      if wavelength > original / low { return Float(factor) }
      let smooth = (original / wavelength - low) / (high - low)
      return Float(1 / ((1 - smooth) / factor + smooth))
    }
  }

  // MARK: Tensors

  /// llama.cpp's name of a tensor, which Hugging Face's class calls `name`; `nil` when it has none.
  public func tensorName(_ name: String) -> String? { GGUFTensorNames.gguf(name) }

  /// How the rows of a tensor are reordered; `nil` where they stay.
  package func pairing(_ name: String) -> NeighbourPairing? {
    guard pairsNeighbours else { return nil }
    let heads =
      name.contains(".self_attn.q_proj.")
      ? configuration.headCount : name.contains(".self_attn.k_proj.") ? configuration.keyValueHeadCount : 0
    return heads > 0 ? NeighbourPairing(heads: heads, rotated: configuration.rotaryDimension) : nil
  }
}
