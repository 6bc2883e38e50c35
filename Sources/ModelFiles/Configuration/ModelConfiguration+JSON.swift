import JSONValues

extension ModelConfiguration {
  /// Reads a `config.json`; `generation` is the `generation_config.json` beside it, whose end tokens are added.
  public init(
    json: JSONValue, path: String, generation: JSONValue? = nil, generationPath: String = "generation_config.json"
  ) throws(ModelFileError) {
    guard case .object = json else { throw ModelFileError(path, "this is \(json.kind), an object was expected") }
    let fields = ConfigurationFields(json: json, path: path)
    let architecture = try Self.architecture(of: json, path: path)
    try Self.refuseWhatIsNotRead(fields)

    let rope = try RoPEFields(fields)
    self.init(
      architecture: architecture,
      vocabularySize: try fields.size("vocab_size"),
      hiddenSize: try fields.size("hidden_size"),
      intermediateSize: try fields.size("intermediate_size"),
      layerCount: try fields.size("num_hidden_layers"),
      headCount: try fields.size("num_attention_heads"),
      keyValueHeadCount: 1)
    keyValueHeadCount = try fields.size("num_key_value_heads", default: headCount)
    if try fields.has("head_dim") {
      headDimension = try fields.size("head_dim")
    } else {
      if hiddenSize % headCount != 0 {
        throw ModelFileError(
          path,
          "hidden_size \(hiddenSize) is not divisible by num_attention_heads \(headCount), and there is no head_dim")
      }
      headDimension = hiddenSize / headCount
    }
    rmsNormEpsilon = try fields.number("rms_norm_eps") ?? 1e-6
    contextLength = try fields.size(
      "max_position_embeddings", default: architecture == "LlamaForCausalLM" ? 2048 : 32768)
    tiesEmbeddings = try fields.flag("tie_word_embeddings") ?? false
    attentionBias = architecture == "Qwen2ForCausalLM"
    slidingWindow = try Self.slidingWindow(fields, architecture: architecture, layerCount: layerCount)
    ropeTheta = rope.theta
    partialRotaryFactor = rope.partialRotaryFactor
    ropeScaling = try rope.scaling(contextLength: contextLength)
    bosTokenID = try fields.tokenIDs("bos_token_id").first
    padTokenID = try fields.tokenIDs("pad_token_id").first
    eosTokenIDs = try fields.tokenIDs("eos_token_id")
    if let generation {
      let more = ConfigurationFields(json: generation, path: generationPath)
      for id in try more.tokenIDs("eos_token_id") where !eosTokenIDs.contains(id) { eosTokenIDs.append(id) }
      if bosTokenID == nil { bosTokenID = try more.tokenIDs("bos_token_id").first }
      if padTokenID == nil { padTokenID = try more.tokenIDs("pad_token_id").first }
    }
    self = try validated(from: path)
  }

  private static func architecture(of json: JSONValue, path: String) throws(ModelFileError) -> String {
    let names = json["architectures"]?.array?.compactMap(\.string) ?? []
    if let known = names.first(where: supported.contains) { return known }
    if names.isEmpty, let type = json["model_type"]?.string {
      let byType = ["llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM"]
      if let known = byType[type] { return known }
      throw unsupported(type, path)
    }
    guard let name = names.first else {
      throw ModelFileError(path, "the key 'architectures' is missing; is this the config.json of a language model?")
    }
    throw unsupported(name, path)
  }

  static func unsupported(_ architecture: String, _ path: String) -> ModelFileError {
    ModelFileError(
      path,
      "the architecture \(quoted(architecture)) is not supported; supported are \(supported.joined(separator: ", "))")
  }

  /// What would change the model's mathematics, but is not part of it here, is refused and never ignored.
  private static func refuseWhatIsNotRead(_ fields: ConfigurationFields) throws(ModelFileError) {
    let activation = fields["hidden_act"]?.string ?? "silu"
    if activation != "silu" && activation != "swish" {
      throw ModelFileError(fields.path, "hidden_act is \(quoted(activation)), only 'silu' is supported")
    }
    for key in ["attention_bias", "mlp_bias"] where try fields.flag(key) == true {
      throw ModelFileError(
        fields.path, "\(key) is true: a bias on the output or feed-forward projections is not supported")
    }
    if let quantization = fields["quantization_config"], !quantization.isNull {
      let method = quantization["quant_method"]?.string.map { " (\(quoted($0)))" } ?? ""
      throw ModelFileError(
        fields.path, "these weights are already quantized\(method); use the checkpoint with the original weights")
    }
  }

  private static func slidingWindow(
    _ fields: ConfigurationFields, architecture: String, layerCount: Int
  ) throws(ModelFileError) -> Int? {
    if architecture == "LlamaForCausalLM" { return nil }
    guard try fields.has("sliding_window") else { return nil }
    if architecture == "Qwen2ForCausalLM" {
      // The window of Qwen2 holds from a layer on, and only when it is switched on.
      guard try fields.flag("use_sliding_window") == true else { return nil }
      let first = try fields.integer("max_window_layers") ?? 28
      if first >= layerCount { return nil }
      if first > 0 {
        throw ModelFileError(
          fields.path, "max_window_layers is \(first): a sliding window in some of the layers is not supported")
      }
    }
    return try fields.size("sliding_window")
  }
}

/// The keys of a `config.json`, read with a clear line for each that is wrong.
struct ConfigurationFields {
  let json: JSONValue
  let path: String

  /// Sizes beyond 31 bits are nonsense, and below them no product of two overflows.
  static let largestSize = Int(Int32.max)

  /// The value of a key; `null` counts as missing.
  subscript(key: String) -> JSONValue? { json[key].flatMap { $0.isNull ? nil : $0 } }

  func has(_ key: String) throws(ModelFileError) -> Bool { self[key] != nil }

  func size(_ key: String, default fallback: Int? = nil) throws(ModelFileError) -> Int {
    guard let value = self[key] else {
      if let fallback { return fallback }
      throw ModelFileError(path, "the key '\(key)' is missing")
    }
    guard let size = value.integer, size > 0, size <= Self.largestSize else {
      throw wrong(key, value, "a positive integer")
    }
    return size
  }

  func integer(_ key: String) throws(ModelFileError) -> Int? {
    guard let value = self[key] else { return nil }
    guard let integer = value.integer else { throw wrong(key, value, "an integer") }
    return integer
  }

  func number(_ key: String) throws(ModelFileError) -> Double? {
    guard let value = self[key] else { return nil }
    guard let number = value.double else { throw wrong(key, value, "a number") }
    return number
  }

  func numbers(_ key: String) throws(ModelFileError) -> [Double]? {
    guard let value = self[key] else { return nil }
    guard let array = value.array else { throw wrong(key, value, "a list of numbers") }
    let numbers = array.compactMap(\.double)
    if numbers.count != array.count { throw wrong(key, value, "a list of numbers") }
    return numbers
  }

  func flag(_ key: String) throws(ModelFileError) -> Bool? {
    guard let value = self[key] else { return nil }
    guard let flag = value.bool else { throw wrong(key, value, "true or false") }
    return flag
  }

  /// A token id or a list of them; negative ones mean "none".
  func tokenIDs(_ key: String) throws(ModelFileError) -> [Int] {
    guard let value = self[key] else { return [] }
    let ids = (value.array ?? [value]).map(\.integer)
    var found: [Int] = []
    for id in ids {
      guard let id, id <= Self.largestSize else { throw wrong(key, value, "a token id or a list of them") }
      if id >= 0, !found.contains(id) { found.append(id) }
    }
    return found
  }

  func wrong(_ key: String, _ value: JSONValue, _ expected: String) -> ModelFileError {
    let text = value.serialized()
    return ModelFileError(
      path, "the key '\(key)' is \(text.utf8.count > 60 ? value.kind : text), \(expected) was expected")
  }
}

/// The rotary settings, which are spread over the configuration or gathered under `rope_parameters` (transformers 5).
private struct RoPEFields {
  let outer: ConfigurationFields
  let inner: ConfigurationFields?
  let theta: Double
  let partialRotaryFactor: Double

  init(_ fields: ConfigurationFields) throws(ModelFileError) {
    outer = fields
    var found: ConfigurationFields?
    for key in ["rope_parameters", "rope_scaling"] {
      guard let value = fields[key] else { continue }
      guard case .object = value else { throw fields.wrong(key, value, "an object") }
      found = ConfigurationFields(json: value, path: fields.path)
      break
    }
    inner = found
    let (outerTheta, outerPart) = (try fields.number("rope_theta"), try fields.number("partial_rotary_factor"))
    theta = try inner?.number("rope_theta") ?? outerTheta ?? 10000
    partialRotaryFactor = try inner?.number("partial_rotary_factor") ?? outerPart ?? 1
  }

  func scaling(contextLength: Int) throws(ModelFileError) -> RoPEScaling {
    guard let inner else { return .none }
    let type = inner["rope_type"] ?? inner["type"] ?? "default"
    switch type.string {
    case "default": return .none
    case "linear": return .linear(factor: try factor("factor"))
    case "dynamic": return .dynamic(factor: try factor("factor"))
    case "llama3":
      return .llama3(
        factor: try factor("factor"), lowFrequencyFactor: try factor("low_freq_factor"),
        highFrequencyFactor: try factor("high_freq_factor"),
        originalContextLength: try inner.size("original_max_position_embeddings"))
    case "longrope", "su":
      let original =
        try outer.has("original_max_position_embeddings")
        ? outer.size("original_max_position_embeddings")
        : inner.size("original_max_position_embeddings", default: contextLength)
      let named = try inner.number("attention_factor")
      let factor = try inner.number("factor") ?? Double(contextLength) / Double(original)
      return .longRoPE(
        shortFactors: try factors("short_factor"), longFactors: try factors("long_factor"),
        originalContextLength: original,
        attentionFactor: named
          ?? ModelConfiguration.longRoPEAttentionFactor(factor: factor, originalContextLength: original))
    default:
      throw inner.wrong("rope_type", type, "default, linear, dynamic, llama3 or longrope")
    }
  }

  private func factor(_ key: String) throws(ModelFileError) -> Double {
    guard let value = try inner?.number(key) else {
      throw ModelFileError(outer.path, "the rotary scaling has no '\(key)'")
    }
    return value
  }

  private func factors(_ key: String) throws(ModelFileError) -> [Double] {
    guard let values = try inner?.numbers(key) else {
      throw ModelFileError(outer.path, "the rotary scaling has no '\(key)'")
    }
    return values
  }
}
