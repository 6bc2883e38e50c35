import Glibc
import JSONValues

extension ModelConfiguration {
  /// The `config.json` that describes this model to transformers as `architecture`, one that it can be expressed as, with
  /// weights that are not quantized.
  ///
  /// - Parameters:
  ///   - original: The `config.json` that the model comes with: its other keys and their order stay.
  ///   - storedAs: What the weights are converted to; `nil` when they stay as they are.
  public func json(
    as architecture: String, original: JSONObject? = nil, storedAs format: StorageFormat? = nil
  ) throws(ModelFileError) -> JSONObject {
    guard let family = ModelFamily.named(architecture) else {
      throw ModelFileError("config.json", "the architecture \(quoted(architecture)) is not supported")
    }
    var object = original ?? JSONObject()
    if original == nil || self.architecture != architecture {
      describe(family, in: &object)
    }
    setType(format, in: &object)
    object["quantization_config"] = nil
    return object
  }

  /// What keeps this model from being a plain Llama, in words that complete "its …"; `nil` for nothing.
  public var reasonAgainstLlama: String? {
    if partialRotaryFactor != 1 {
      return "heads rotate by \(rotaryDimension) of their \(headDimension) elements only (partial_rotary_factor)"
    }
    if case .longRoPE = ropeScaling { return "rotary positions are scaled by longrope" }
    if let slidingWindow { return "attention sees the last \(slidingWindow) tokens only (sliding_window)" }
    if hiddenSize % headCount != 0 { return "width \(hiddenSize) is no multiple of its \(headCount) heads" }
    if attentionBias != outputBias { return "queries, keys and values have biases that its attention output has not" }
    if normalizesHeads { return "query and key heads have norms of their own" }
    if !unrotatedLayers.isEmpty { return "layers are not all rotated" }
    return nil
  }

  /// What keeps this model from being a Phi-3, in words that complete "its …"; `nil` for nothing.
  public var reasonAgainstPhi3: String? {
    if attentionBias || outputBias || mlpBias { return "projections have biases" }
    if normalizesHeads { return "query and key heads have norms of their own" }
    if !unrotatedLayers.isEmpty { return "layers are not all rotated" }
    if slidingWindow != nil, !fullAttentionLayers.isEmpty { return "sliding window holds for some layers only" }
    switch ropeScaling {
    case .none: return nil
    case .longRoPE:
      if headDimension * headCount == hiddenSize { return nil }
      return "heads are \(headDimension) wide, not \(hiddenSize) / \(headCount), beside longrope"
    default: return "rotary positions are scaled by another method than longrope"
    }
  }

  private func describe(_ family: ModelFamily, in object: inout JSONObject) {
    let isPhi3 = family.rotatesPartially
    object["architectures"] = [.string(family.architecture)]
    for key in ["auto_map", "embd_pdrop", "resid_pdrop", "layer_types", "max_window_layers", "use_sliding_window"] {
      object[key] = nil
    }
    object["model_type"] = .string(family.modelType)
    object["vocab_size"] = .integer(vocabularySize)
    object["hidden_size"] = .integer(hiddenSize)
    object["intermediate_size"] = .integer(intermediateSize)
    object["num_hidden_layers"] = .integer(layerCount)
    object["num_attention_heads"] = .integer(headCount)
    object["num_key_value_heads"] = .integer(keyValueHeadCount)
    // Phi-3's class has no such key, but reads it where it is not the quotient.
    let isQuotient = headDimension * headCount == hiddenSize
    object["head_dim"] = isPhi3 && isQuotient ? nil : .integer(headDimension)
    object["hidden_act"] = "silu"
    object["max_position_embeddings"] = .integer(contextLength)
    object["rms_norm_eps"] = .number(rmsNormEpsilon)
    object["tie_word_embeddings"] = .bool(tiesEmbeddings)
    object["attention_dropout"] = 0.0
    switch family.bias {
    case .none: object["attention_bias"] = isPhi3 ? false : nil
    case .queryKeyValue: object["attention_bias"] = nil
    case .attention, .attentionAndMLP: object["attention_bias"] = .bool(attentionBias)
    }
    object["mlp_bias"] = family.bias == .attentionAndMLP ? .bool(mlpBias) : nil
    describeWindow(family, in: &object)
    if family.skipsRotation {
      object["no_rope_layers"] = .array((0..<layerCount).map { rotates(layer: $0) ? 1 : 0 })
    }
    describeRotation(isPhi3, in: &object)
    describeTokens(in: &object)
  }

  private func describeWindow(_ family: ModelFamily, in object: inout JSONObject) {
    let window = slidingWindow.map { JSONValue.integer($0) } ?? .null
    switch family.window {
    case .none: object["sliding_window"] = nil
    case .everywhere: object["sliding_window"] = window
    case .fromLayer, .unrotated:
      object["use_sliding_window"] = .bool(slidingWindow != nil)
      object["sliding_window"] = window
      if slidingWindow != nil {
        object["layer_types"] = .array(
          (0..<layerCount).map { slidingWindow(layer: $0) == nil ? "full_attention" : "sliding_attention" })
      }
    }
  }

  private func describeRotation(_ isPhi3: Bool, in object: inout JSONObject) {
    object["rope_theta"] = .number(ropeTheta)
    object["partial_rotary_factor"] = isPhi3 && partialRotaryFactor != 1 ? .number(partialRotaryFactor) : nil
    let scaling = scalingFields(isPhi3)
    // A file of transformers 5 gathers the rotary settings; where there are both spellings, the older one counts.
    if object["rope_parameters"] != nil {
      var gathered = scaling ?? ["rope_type": "default"]
      gathered["rope_theta"] = .number(ropeTheta)
      if isPhi3 { gathered["partial_rotary_factor"] = .number(partialRotaryFactor) }
      object["rope_parameters"] = .object(gathered)
    }
    object["rope_scaling"] = scaling.map { .object($0) } ?? .null
    if case .longRoPE(_, _, let original, _) = ropeScaling {
      object["original_max_position_embeddings"] = .integer(original)
    } else {
      object["original_max_position_embeddings"] = isPhi3 ? .integer(contextLength) : nil
    }
  }

  private func scalingFields(_ isPhi3: Bool) -> JSONObject? {
    func numbers(_ values: [Double]) -> JSONValue { .array(values.map { .number($0) }) }
    switch ropeScaling {
    case .none: return nil
    case .linear(let factor): return ["rope_type": "linear", "factor": .number(factor)]
    case .dynamic(let factor): return ["rope_type": "dynamic", "factor": .number(factor)]
    case .llama3(let factor, let low, let high, let original):
      return [
        "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": .number(low),
        "high_freq_factor": .number(high), "original_max_position_embeddings": .integer(original),
      ]
    case .yarn(let factor, let original, let fast, let slow, let truncates, let attention):
      var fields: JSONObject = [
        "rope_type": "yarn", "factor": .number(factor), "original_max_position_embeddings": .integer(original),
        "beta_fast": .number(fast), "beta_slow": .number(slow), "attention_factor": .number(attention),
      ]
      if !truncates { fields["truncate"] = false }
      return fields
    case .longRoPE(let short, let long, let original, let attention):
      var fields: JSONObject = ["short_factor": numbers(short), "long_factor": numbers(long)]
      fields[isPhi3 ? "type" : "rope_type"] = "longrope"
      let usual = Self.longRoPEAttentionFactor(
        factor: Double(contextLength) / Double(original), originalContextLength: original)
      if abs(attention - usual) > 1e-6 { fields["attention_factor"] = .number(attention) }
      return fields
    case .factors(let factors):
      if let known = knownLlama3Scaling(factors) {
        var configuration = self
        configuration.ropeScaling = known
        return configuration.scalingFields(isPhi3)
      }
      // Factors of their own for every length are longrope's with both lists alike.
      let values = numbers(factors.map { Double($0) })
      return [
        "rope_type": "longrope", "short_factor": values, "long_factor": values, "factor": 1.0,
        "attention_factor": 1.0, "original_max_position_embeddings": .integer(contextLength),
      ]
    }
  }

  /// The scaling of Llama 3.1 or 3.2 whose factors a GGUF keeps instead of its settings.
  private func knownLlama3Scaling(_ factors: [Float]) -> RoPEScaling? {
    for factor in [8.0, 32.0] {
      let original = 8192.0
      let expected = factors.indices.map { index in
        let wavelength = 2 * Double.pi * pow(ropeTheta, 2 * Double(index) / Double(rotaryDimension))
        if wavelength < original / 4 { return 1.0 }
        if wavelength > original { return factor }
        let smooth = (original / wavelength - 1) / 3
        return 1 / ((1 - smooth) / factor + smooth)
      }
      if zip(factors, expected).allSatisfy({ abs(Double($0) / $1 - 1) < 1e-4 }) {
        return .llama3(factor: factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 8192)
      }
    }
    return nil
  }

  /// The ids of special tokens, also where the other class's defaults said them so far.
  private func describeTokens(in object: inout JSONObject) {
    func set(_ key: String, _ ids: [Int]) {
      if object[key] != nil { return }
      object[key] = ids.isEmpty ? .null : ids.count == 1 ? .integer(ids[0]) : .array(ids.map { .integer($0) })
    }
    set("bos_token_id", [bosTokenID].compactMap(\.self))
    set("eos_token_id", eosTokenIDs)
    set("pad_token_id", [padTokenID].compactMap(\.self))
  }

  private func setType(_ format: StorageFormat?, in object: inout JSONObject) {
    guard let format else { return }
    let names: [StorageFormat: JSONValue] = [.bfloat16: "bfloat16", .float16: "float16", .float32: "float32"]
    guard let name = names[format] else { return }
    object[object["dtype"] == nil ? "torch_dtype" : "dtype"] = name
  }
}
