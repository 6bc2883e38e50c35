import JSONValues

extension ModelConfiguration {
  /// Reads a `config.json`; `generation` is the `generation_config.json` beside it, whose end tokens are added.
  public init(
    json: JSONValue, path: String, generation: JSONValue? = nil, generationPath: String = "generation_config.json"
  ) throws(ModelFileError) {
    guard case .object = json else { throw ModelFileError(path, "this is \(json.kind), an object was expected") }
    let fields = ConfigurationFields(json: json, path: path)
    let family = try ModelFamily.of(json, path: path)
    try Self.refuseWhatIsNotComputed(fields, family)

    let rope = try RoPEFields(fields, family)
    self.init(
      architecture: family.architecture,
      vocabularySize: try fields.size("vocab_size"),
      hiddenSize: try fields.size("hidden_size"),
      intermediateSize: try fields.size("intermediate_size"),
      layerCount: try fields.size("num_hidden_layers"),
      headCount: try fields.size("num_attention_heads"),
      keyValueHeadCount: 1)
    // A key that says null is not one that is missing: transformers then takes as many as heads.
    let sharedByDefault = json["num_key_value_heads"] == nil ? family.keyValueHeadCount : nil
    keyValueHeadCount = try fields.size("num_key_value_heads", default: sharedByDefault ?? headCount)
    headDimension = try Self.headDimension(fields, family, hidden: hiddenSize, heads: headCount)
    rmsNormEpsilon = try fields.number("rms_norm_eps") ?? family.rmsNormEpsilon
    contextLength = try fields.size("max_position_embeddings", default: family.contextLength)
    tiesEmbeddings = try fields.flag("tie_word_embeddings") ?? family.tiesEmbeddings
    let biases = try Self.biases(fields, family)
    (attentionBias, outputBias, mlpBias) = (biases.attention, biases.output, biases.mlp)
    normalizesHeads = family.normalizesHeads
    unrotatedLayers = try Self.unrotatedLayers(fields, family, layerCount: layerCount)
    (slidingWindow, fullAttentionLayers) = try Self.slidingWindow(
      fields, family, layerCount: layerCount, unrotated: unrotatedLayers)
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

  /// What would change the model's mathematics, but is not part of it here, is refused and never ignored.
  private static func refuseWhatIsNotComputed(
    _ fields: ConfigurationFields, _ family: ModelFamily
  ) throws(ModelFileError) {
    let activation = fields["hidden_act"]?.string ?? "silu"
    if activation != "silu" && activation != "swish" {
      throw ModelFileError(fields.path, "hidden_act is \(quoted(activation)), only 'silu' is supported")
    }
    for key in ["attention_dropout", "resid_pdrop", "embd_pdrop"] {
      if let rate = try fields.number(key), rate != 0 {
        throw ModelFileError(
          fields.path,
          "\(key) is \(rate): dropout in the model itself is not computed; set it to 0 (--lora-dropout drops in the adapter)"
        )
      }
    }
    for key in ["qk_layernorm", "use_qk_norm", "qk_norm"] where fields[key]?.bool == true && !family.normalizesHeads {
      throw ModelFileError(fields.path, "\(key) is true, which \(family.architecture) does not have")
    }
    for key in ["num_local_experts", "num_experts", "n_routed_experts"] {
      if let count = try fields.integer(key), count > 0 {
        throw ModelFileError(fields.path, "\(key) is \(count): mixtures of experts are not supported")
      }
    }
    try refuseUnknownQuantization(fields)
  }

  /// Weights that bitsandbytes quantized to NF4 can be read; other quantized weights cannot.
  private static func refuseUnknownQuantization(_ fields: ConfigurationFields) throws(ModelFileError) {
    guard let quantization = fields["quantization_config"] else { return }
    let method = quantization["quant_method"]?.string
    var name = method.map { " (\(quoted($0)))" } ?? ""
    if method == "bitsandbytes" {
      if quantization["load_in_4bit"]?.bool == true {
        // transformers' own default, where the key is missing, is FP4.
        let type = quantization["bnb_4bit_quant_type"]?.string ?? "fp4"
        if type == "nf4" { return }
        name = " (bitsandbytes, \(quoted(type)))"
      } else if quantization["load_in_8bit"]?.bool == true {
        name = " (bitsandbytes, 8 bits)"
      }
    }
    throw ModelFileError(
      fields.path,
      "these weights are already quantized\(name), and only bitsandbytes' NF4 can be read; use the checkpoint with the "
        + "original weights")
  }

  private static func headDimension(
    _ fields: ConfigurationFields, _ family: ModelFamily, hidden: Int, heads: Int
  ) throws(ModelFileError) -> Int {
    if try fields.has("head_dim") { return try fields.size("head_dim") }
    if let dimension = family.headDimension { return dimension }
    if hidden % heads != 0 {
      throw ModelFileError(
        fields.path,
        "hidden_size \(hidden) is not divisible by num_attention_heads \(heads), and there is no head_dim")
    }
    return hidden / heads
  }

  private static func biases(
    _ fields: ConfigurationFields, _ family: ModelFamily
  ) throws(ModelFileError) -> (attention: Bool, output: Bool, mlp: Bool) {
    let (attention, mlp) = (try fields.flag("attention_bias") ?? false, try fields.flag("mlp_bias") ?? false)
    func refuse(_ key: String) -> ModelFileError {
      ModelFileError(fields.path, "\(key) is true, but \(family.architecture) has no such biases")
    }
    if mlp && family.bias != .attentionAndMLP { throw refuse("mlp_bias") }
    switch family.bias {
    case .none:
      if attention { throw refuse("attention_bias") }
      return (false, false, false)
    case .queryKeyValue:
      if attention { throw refuse("attention_bias") }
      return (true, false, false)
    case .attention, .attentionAndMLP:
      return (attention, attention, mlp)
    }
  }

  /// The layers whose entry of `no_rope_layers` is 0, or every `no_rope_layer_interval`th.
  private static func unrotatedLayers(
    _ fields: ConfigurationFields, _ family: ModelFamily, layerCount: Int
  ) throws(ModelFileError) -> Set<Int> {
    guard family.skipsRotation else { return [] }
    let key = "no_rope_layers"
    guard let value = fields[key] else {
      let interval = try fields.size("no_rope_layer_interval", default: 4)
      return Set((0..<layerCount).filter { ($0 + 1) % interval == 0 })
    }
    let marks = (value.array ?? []).compactMap { $0.integer ?? $0.bool.map { $0 ? 1 : 0 } }
    guard marks.count == value.array?.count, marks.count >= layerCount else {
      throw fields.wrong(key, value, "a list of 0 and 1 for each of the \(layerCount) layers")
    }
    return Set((0..<layerCount).filter { marks[$0] == 0 })
  }

  /// The window, and the layers that it does not hold for.
  private static func slidingWindow(
    _ fields: ConfigurationFields, _ family: ModelFamily, layerCount: Int, unrotated: Set<Int>
  ) throws(ModelFileError) -> (window: Int?, fullLayers: Set<Int>) {
    let listed = try layerTypes(fields, layerCount)
    func checked(_ window: Int?, _ full: Set<Int>) throws(ModelFileError) -> (Int?, Set<Int>) {
      if let listed, family.window == .none || family.isWindowedEverywhere {
        if listed != (window == nil ? Set(0..<layerCount) : full) {
          throw ModelFileError(
            fields.path, "layer_types asks for attention that \(family.architecture) does not have")
        }
      }
      let full = listed ?? full
      return window == nil || full.count == layerCount ? (nil, []) : (window, full)
    }
    switch family.window {
    case .none:
      return try checked(nil, [])
    case .everywhere(let fallback):
      let isMissing = fields.json["sliding_window"] == nil
      return try checked(
        try fields.has("sliding_window") ? fields.size("sliding_window") : isMissing ? fallback : nil, [])
    case .fromLayer, .unrotated:
      guard try fields.flag("use_sliding_window") == true else { return (nil, []) }
      let isMissing = fields.json["sliding_window"] == nil
      guard try fields.has("sliding_window") || (isMissing && family.window == .fromLayer) else { return (nil, []) }
      let window = try fields.size("sliding_window", default: 4096)
      if family.window == .unrotated { return try checked(window, Set(0..<layerCount).subtracting(unrotated)) }
      let first = try fields.integer("max_window_layers") ?? 28
      return try checked(window, Set(0..<min(max(first, 0), layerCount)))
    }
  }

  /// The layers that `layer_types` calls "full_attention"; `nil` where there is no such list.
  private static func layerTypes(
    _ fields: ConfigurationFields, _ layerCount: Int
  ) throws(ModelFileError) -> Set<Int>? {
    guard let value = fields["layer_types"] else { return nil }
    let names = (value.array ?? []).compactMap(\.string)
    let known = ["full_attention", "sliding_attention"]
    guard names.count == layerCount, names.count == value.array?.count, names.allSatisfy(known.contains) else {
      throw fields.wrong(
        "layer_types", value, "a list of 'full_attention' or 'sliding_attention' for each of the \(layerCount) layers")
    }
    return Set(names.indices.filter { names[$0] == "full_attention" })
  }
}

extension ModelFamily {
  /// The family that a `config.json` names.
  fileprivate static func of(_ json: JSONValue, path: String) throws(ModelFileError) -> ModelFamily {
    let names = json["architectures"]?.array?.compactMap(\.string) ?? []
    for name in names { if let known = named(name) { return known } }
    if names.isEmpty, let type = json["model_type"]?.string {
      if let known = all.first(where: { $0.modelType == type }) { return known }
      throw unsupported(type, path)
    }
    guard let name = names.first else {
      throw ModelFileError(path, "the key 'architectures' is missing; is this the config.json of a language model?")
    }
    throw unsupported(name, path)
  }

  private static func unsupported(_ architecture: String, _ path: String) -> ModelFileError {
    let names = all.map(\.architecture).joined(separator: ", ")
    return ModelFileError(
      path, "the architecture \(quoted(architecture)) is not supported; supported are \(names)")
  }

  fileprivate var isWindowedEverywhere: Bool { if case .everywhere = window { true } else { false } }
}
