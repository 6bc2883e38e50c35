import JSONValues
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct ModelConfigurationTests {
  static let llama: JSONValue = [
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "rope_theta": 100000, "hidden_act": "silu",
    "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": .null,
  ]

  /// The configuration of a changed `config.json`; `null` stands for a key that is missing.
  func read(
    _ changes: KeyValuePairs<String, JSONValue> = [:], generation: JSONValue? = nil
  ) throws -> ModelConfiguration {
    var object = Self.llama.object ?? JSONObject()
    for (key, value) in changes { object[key] = value }
    return try ModelConfiguration(json: .object(object), path: "config.json", generation: generation)
  }

  func refuses(
    _ message: String, _ changes: KeyValuePairs<String, JSONValue>, _ location: SourceLocation = #_sourceLocation
  ) {
    expectError(message, location, naming: "config.json") { _ = try read(changes) }
  }

  @Test func readsALlama() throws {
    let expected = ModelConfiguration(
      vocabularySize: 49152, hiddenSize: 576, intermediateSize: 1536, layerCount: 30, headCount: 9,
      keyValueHeadCount: 3, rmsNormEpsilon: 1e-5, ropeTheta: 100000, contextLength: 8192, tiesEmbeddings: true,
      bosTokenID: 1, eosTokenIDs: [2])
    #expect(try read() == expected)
    #expect(expected.headDimension == 64 && expected.rotaryDimension == 64)
  }

  @Test func defaultsAreThoseOfTransformers() throws {
    let read = try read([
      "num_key_value_heads": .null, "rms_norm_eps": .null, "rope_theta": .null, "max_position_embeddings": .null,
      "tie_word_embeddings": .null, "bos_token_id": .null, "eos_token_id": .null,
    ])
    #expect(read.keyValueHeadCount == 9 && read.rmsNormEpsilon == 1e-6 && read.ropeTheta == 10000)
    #expect(read.contextLength == 2048 && !read.tiesEmbeddings && read.bosTokenID == nil && read.eosTokenIDs == [])
  }

  @Test func headDimensionMayDifferFromTheQuotient() throws {
    #expect(try read(["head_dim": 128]).headDimension == 128)
    refuses("hidden_size 577 is not divisible by num_attention_heads 9, and there is no head_dim", ["hidden_size": 577])
    refuses("the width of a head is 63, it must be even", ["head_dim": 63])
    refuses("the width of a head is 2048, at most 1024", ["head_dim": 2048])
  }

  @Test func endTokensOfTheGenerationConfigurationAreAdded() throws {
    let read = try read(generation: ["eos_token_id": [2, 7, -1], "bos_token_id": 5, "pad_token_id": 3])
    #expect(read.eosTokenIDs == [2, 7] && read.bosTokenID == 1 && read.padTokenID == 3)
    expectError("the key 'eos_token_id' is \"x\", a token id or a list of them", naming: "generation_config.json") {
      _ = try self.read(generation: ["eos_token_id": "x"])
    }
  }

  @Test func readsEveryRotaryScaling() throws {
    for key in ["rope_scaling", "rope_parameters"] {
      func scaling(_ value: JSONValue) throws -> RoPEScaling { try read([key: value]).ropeScaling }
      #expect(try scaling(.null) == .none)
      #expect(try scaling(["rope_type": "default"]) == .none)
      #expect(try scaling(["type": "linear", "factor": 2]) == .linear(factor: 2))
      #expect(try scaling(["rope_type": "dynamic", "factor": 4.0]) == .dynamic(factor: 4))
      #expect(
        try scaling([
          "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192,
        ])
          == .llama3(factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 8192))
      let factors = JSONValue.array([JSONValue](repeating: 1.5, count: 32))
      let longRoPE: JSONValue = [
        "type": "longrope", "short_factor": factors, "long_factor": factors, "original_max_position_embeddings": 4096,
      ]
      // √(1 + ln 2 / ln 4096)
      guard case .longRoPE(let short, let long, 4096, let attention) = try scaling(longRoPE) else {
        Issue.record("no longRoPE")
        return
      }
      #expect(short.count == 32 && long[31] == 1.5 && abs(attention - 1.0408329997330663) < 1e-12)
      guard
        case .longRoPE(_, _, 4096, 1.25) = try read([key: longRoPE, "x": 1]).withAttention(1.25, longRoPE, key, self)
      else {
        Issue.record("no longRoPE with its own attention factor")
        return
      }
    }
    #expect(try read(["rope_parameters": ["rope_type": "default", "rope_theta": 5e5]]).ropeTheta == 5e5)
    // transformers takes no notice of it in a Llama's plain rotation.
    #expect(try read(["partial_rotary_factor": 0.5]).rotaryDimension == 64)
    refuses(
      "partial_rotary_factor is 0.5 beside a rotary scaling, which LlamaForCausalLM cannot compute",
      ["partial_rotary_factor": 0.5, "rope_scaling": ["type": "linear", "factor": 2]])
    // What a file of both spellings means, transformers 5 decides this way.
    #expect(
      try read(["rope_scaling": [:], "rope_parameters": ["rope_type": "linear", "factor": 3]]).ropeScaling
        == .linear(factor: 3))
    refuses(
      "the rotary settings differ between layers ('full_attention')",
      ["rope_parameters": ["full_attention": ["rope_type": "default"]]])
  }

  @Test func rotaryScalingIsChecked() {
    func refuses(_ message: String, scaling: JSONValue, _ location: SourceLocation = #_sourceLocation) {
      self.refuses(message, ["rope_scaling": scaling], location)
    }
    refuses("the key 'rope_scaling' is 1, an object was expected", scaling: 1)
    refuses(
      "the key 'rope_type' is \"proportional\", default, linear, dynamic, llama3, longrope or yarn was",
      scaling: ["type": "proportional"])
    refuses("the factor of the rotary scaling is 0.0", scaling: ["type": "yarn", "factor": 0])
    refuses(
      "beta_fast 32.0 and beta_slow -1.0, they must be positive",
      scaling: ["type": "yarn", "factor": 2, "beta_slow": -1])
    refuses("the rotary scaling has no 'factor'", scaling: ["type": "linear"])
    refuses("the factor of the rotary scaling is 0.0, it must be positive", scaling: ["type": "linear", "factor": 0])
    refuses("the key 'factor' is \"2\", a number was expected", scaling: ["type": "linear", "factor": "2"])
    refuses(
      "the second must be larger",
      scaling: [
        "rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
        "original_max_position_embeddings": 8192,
      ])
    refuses(
      "the rotary scaling has 1 short factors, 32 are needed",
      scaling: ["type": "su", "short_factor": [1], "long_factor": [1]])
    refuses(
      "the key 'short_factor' is [\"1\"], a list of numbers was expected",
      scaling: ["type": "su", "short_factor": ["1"], "long_factor": [1]])
  }

  @Test func mistralAndQwenAreSwitches() throws {
    let mistral = try read(["architectures": ["MistralForCausalLM"], "sliding_window": 4096])
    #expect(mistral.slidingWindow == 4096 && mistral.architecture == "MistralForCausalLM" && !mistral.attentionBias)
    #expect(try read(["architectures": ["MistralForCausalLM"], "sliding_window": .null]).slidingWindow == nil)
    let qwen = try read(["architectures": ["Qwen2ForCausalLM"], "sliding_window": 4096, "use_sliding_window": false])
    #expect(qwen.attentionBias && qwen.slidingWindow == nil)
    func window(_ first: JSONValue) throws -> Int? {
      try read([
        "architectures": ["Qwen2ForCausalLM"], "sliding_window": 4096, "use_sliding_window": true,
        "max_window_layers": first,
      ]).slidingWindow
    }
    #expect(try window(0) == 4096)
    #expect(try window(30) == nil)
    let some = try read([
      "architectures": ["Qwen3ForCausalLM"], "sliding_window": 4096, "use_sliding_window": true,
      "max_window_layers": 10,
    ])
    #expect(some.slidingWindow(layer: 9) == nil && some.slidingWindow(layer: 10) == 4096)
    #expect(some.normalizesHeads && some.headDimension == 128 && !some.attentionBias)
    refuses(
      "layer_types asks for attention that LlamaForCausalLM does not have",
      ["layer_types": .array([JSONValue](repeating: "sliding_attention", count: 30))])
    refuses("the key 'layer_types' is [\"full_attention\"], a list of", ["layer_types": ["full_attention"]])
    // A key that is missing is not one that says null.
    #expect(try read(["architectures": ["MistralForCausalLM"]]).slidingWindow == 4096)
    #expect(try read(["architectures": .null, "model_type": "qwen2"]).architecture == "Qwen2ForCausalLM")
  }

  @Test func phi3IsAFamilyOfItsOwn() throws {
    let phi: KeyValuePairs<String, JSONValue> = ["architectures": ["Phi3ForCausalLM"], "rms_norm_eps": .null]
    let plain = try read(phi)
    #expect(plain.architecture == "Phi3ForCausalLM" && plain.slidingWindow == nil && plain.rmsNormEpsilon == 1e-5)
    func changed(_ changes: KeyValuePairs<String, JSONValue>) throws -> ModelConfiguration {
      var object = Self.llama.object ?? JSONObject()
      for (key, value) in changes { object[key] = value }
      object["architectures"] = ["Phi3ForCausalLM"]
      return try ModelConfiguration(json: .object(object), path: "config.json")
    }
    #expect(try changed(["sliding_window": 2047]).slidingWindow == 2047)
    #expect(try changed(["partial_rotary_factor": 0.75]).rotaryDimension == 48)
    let factors = JSONValue.array([JSONValue](repeating: 2, count: 24))
    for type in ["longrope", "su", "yarn"] as [JSONValue] {
      let scaled = try changed([
        "partial_rotary_factor": 0.75,
        "rope_scaling": ["type": type, "short_factor": factors, "long_factor": factors],
      ])
      // The class has an original length of its own, 4096.
      guard case .longRoPE(_, _, 4096, _) = scaled.ropeScaling else {
        Issue.record("no longrope: \(scaled.ropeScaling)")
        return
      }
    }
    expectError("the key 'rope_type' is \"linear\", default or longrope was expected") {
      _ = try changed(["rope_scaling": ["type": "linear", "factor": 2]])
    }
    expectError("attention_bias is true, but Phi3ForCausalLM has no such biases") {
      _ = try changed(["attention_bias": true])
    }
    expectError("resid_pdrop is 0.1: dropout in the model itself is not computed") {
      _ = try changed(["resid_pdrop": 0.1])
    }
  }

  @Test func smolLM3SkipsTheRotationOfSomeLayers() throws {
    func smol(_ changes: KeyValuePairs<String, JSONValue>) throws -> ModelConfiguration {
      var object = Self.llama.object ?? JSONObject()
      for (key, value) in changes { object[key] = value }
      object["architectures"] = ["SmolLM3ForCausalLM"]
      return try ModelConfiguration(json: .object(object), path: "config.json")
    }
    #expect(try smol([:]).unrotatedLayers == [3, 7, 11, 15, 19, 23, 27])
    #expect(try smol(["no_rope_layer_interval": 10]).unrotatedLayers == [9, 19, 29])
    let marks = JSONValue.array((0..<30).map { $0 == 4 ? 0 : 1 })
    #expect(try smol(["no_rope_layers": marks]).unrotatedLayers == [4])
    let windowed = try smol(["no_rope_layers": marks, "use_sliding_window": true, "sliding_window": 9])
    #expect(windowed.slidingWindow(layer: 4) == 9 && windowed.slidingWindow(layer: 5) == nil)
    #expect(try smol(["sliding_window": 9]).slidingWindow == nil)
    expectError("the key 'no_rope_layers' is [0, 1], a list of 0 and 1 for each of the 30 layers") {
      _ = try smol(["no_rope_layers": [0, 1]])
    }
  }

  @Test func whatIsNotSupportedIsNamed() throws {
    refuses(
      "the architecture 'GPT2LMHeadModel' is not supported; supported are LlamaForCausalLM, MistralForCausalLM, Phi3",
      ["architectures": ["GPT2LMHeadModel"]])
    refuses("the architecture 'gpt2' is not supported", ["architectures": [], "model_type": "gpt2"])
    refuses("the key 'architectures' is missing", ["architectures": .null, "model_type": .null])
    refuses("hidden_act is 'gelu', only 'silu' is supported", ["hidden_act": "gelu"])
    let biased = try read(["mlp_bias": true, "attention_bias": true])
    #expect(TargetModule.allCases.allSatisfy(biased.hasBias))
    refuses(
      "mlp_bias is true, but Qwen3ForCausalLM has no such biases",
      ["architectures": ["Qwen3ForCausalLM"], "mlp_bias": true])
    refuses(
      "attention_bias is true, but MistralForCausalLM has no such biases",
      ["architectures": ["MistralForCausalLM"], "attention_bias": true])
    refuses("attention_dropout is 0.1: dropout in the model itself is not computed", ["attention_dropout": 0.1])
    refuses("qk_layernorm is true, which LlamaForCausalLM does not have", ["qk_layernorm": true])
    refuses("num_local_experts is 8: mixtures of experts are not supported", ["num_local_experts": 8])
    refuses(
      "these weights are already quantized ('bitsandbytes')",
      [
        "quantization_config": ["quant_method": "bitsandbytes"]
      ])
  }

  @Test func sizesAreChecked() {
    refuses("the key 'hidden_size' is missing", ["hidden_size": .null])
    for value in [0, -1, 1.5, "576", true, [576], 1e30, .integer(1 << 31)] as [JSONValue] {
      refuses("the key 'hidden_size' is \(value.serialized()), a positive integer was expected", ["hidden_size": value])
    }
    refuses("9 attention heads cannot be shared by 2 key and value heads", ["num_key_value_heads": 2])
    refuses("the key 'tie_word_embeddings' is \"no\", true or false was expected", ["tie_word_embeddings": "no"])
    refuses("the epsilon of RMSNorm is -1.0", ["rms_norm_eps": -1])
    refuses("the rotary base is 0.0, it must be positive", ["rope_theta": 0])
    refuses("a special token has the id 49152, but the vocabulary has only 49152 tokens", ["eos_token_id": 49152])
    refuses(
      "the rotated part of a head is 0.01 of 64",
      ["architectures": ["Phi3ForCausalLM"], "partial_rotary_factor": 0.01])
    expectError("this is an array, an object was expected") {
      _ = try ModelConfiguration(json: [], path: "config.json")
    }
  }
}

extension ModelConfiguration {
  /// The scaling after the attention factor was named in the file.
  fileprivate func withAttention(
    _ factor: Double, _ scaling: JSONValue, _ key: String, _ tests: ModelConfigurationTests
  ) throws -> RoPEScaling {
    var object = scaling.object ?? JSONObject()
    object["attention_factor"] = .number(factor)
    return try tests.read([key: .object(object)]).ropeScaling
  }
}
