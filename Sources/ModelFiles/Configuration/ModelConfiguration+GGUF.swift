extension ModelConfiguration {
  /// Reads the metadata of a GGUF.
  public init(gguf: GGUFFile) throws(ModelFileError) {
    let metadata = gguf.metadata
    let path = gguf.path
    guard let name = try metadata.string("general.architecture") else {
      throw ModelFileError(path, "the metadata key 'general.architecture' is missing")
    }
    guard let family = ModelFamily.all.first(where: { $0.ggufName == name }) else {
      let names = ModelFamily.all.compactMap(\.ggufName).joined(separator: ", ")
      throw ModelFileError(path, "the architecture \(quoted(name)) is not supported; supported are \(names)")
    }
    let fields = GGUFFields(metadata: metadata, architecture: name)
    if let parts = try metadata.integer("split.count"), parts > 1 {
      throw ModelFileError(path, "this is one of \(parts) parts of a model; merge them with llama-gguf-split first")
    }
    if let experts = try fields.integer("expert_count"), experts > 0 {
      throw ModelFileError(path, "this model has \(experts) experts; mixtures of experts are not supported")
    }

    let heads = try fields.size("attention.head_count")
    let hidden = try fields.size("embedding_length")
    self.init(
      architecture: family.architecture,
      vocabularySize: try Self.vocabularySize(fields, gguf),
      hiddenSize: hidden,
      intermediateSize: try fields.size("feed_forward_length"),
      layerCount: try fields.size("block_count"),
      headCount: heads,
      keyValueHeadCount: try fields.size("attention.head_count_kv", default: heads))
    headDimension = try Self.headDimension(fields, hidden: hidden, heads: heads)
    rmsNormEpsilon = try fields.number("attention.layer_norm_rms_epsilon") ?? 1e-5
    contextLength = try fields.size("context_length")
    ropeTheta = try fields.number("rope.freq_base") ?? 10000
    let rotated = try fields.size("rope.dimension_count", default: headDimension)
    partialRotaryFactor = Double(rotated) / Double(headDimension)
    tiesEmbeddings = gguf.tensor("output.weight") == nil
    attentionBias = gguf.tensor("blk.0.attn_q.bias") != nil || gguf.tensor("blk.0.attn_qkv.bias") != nil
    outputBias = gguf.tensor("blk.0.attn_output.bias") != nil
    mlpBias = gguf.tensor("blk.0.ffn_down.bias") != nil
    normalizesHeads = family.normalizesHeads
    // llama.cpp has no key for them: every fourth layer of a SmolLM3.
    if family.skipsRotation { unrotatedLayers = Set((0..<layerCount).filter { ($0 + 1) % 4 == 0 }) }
    if let window = try fields.integer("attention.sliding_window"), window > 0 { slidingWindow = window }
    ropeScaling = try Self.scaling(fields, gguf, contextLength: contextLength)
    try readTokens(fields)
    self = try validated(from: path)
  }

  /// The configuration with the special tokens of other metadata, such as a repaired file's.
  package func withTokens(of metadata: GGUFMetadata) throws(ModelFileError) -> ModelConfiguration {
    var other = self
    try other.readTokens(GGUFFields(metadata: metadata, architecture: ""))
    return try other.validated(from: metadata.path)
  }

  private mutating func readTokens(_ fields: GGUFFields) throws(ModelFileError) {
    bosTokenID = try fields.tokenID("bos_token_id")
    padTokenID = try fields.tokenID("padding_token_id")
    eosTokenIDs = []
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
      if let id = try fields.tokenID(key), !eosTokenIDs.contains(id) { eosTokenIDs.append(id) }
    }
  }

  /// The rows of the embedding, which may be more than the tokens that are named.
  private static func vocabularySize(_ fields: GGUFFields, _ gguf: GGUFFile) throws(ModelFileError) -> Int {
    if let embedding = gguf.tensor("token_embd.weight"), embedding.shape.count == 2,
      embedding.rowCount <= ConfigurationFields.largestSize
    {
      return embedding.rowCount
    }
    return try fields.size("vocab_size")
  }

  private static func headDimension(
    _ fields: GGUFFields, hidden: Int, heads: Int
  ) throws(ModelFileError) -> Int {
    let path = fields.metadata.path
    guard try fields.integer("attention.key_length") != nil else {
      if hidden % heads != 0 {
        throw ModelFileError(path, "the width \(hidden) is not divisible by the \(heads) heads")
      }
      return hidden / heads
    }
    let dimension = try fields.size("attention.key_length")
    let values = try fields.size("attention.value_length", default: dimension)
    if values != dimension {
      throw ModelFileError(path, "keys of \(dimension) beside values of \(values) elements per head are not supported")
    }
    return dimension
  }

  private static func scaling(
    _ fields: GGUFFields, _ gguf: GGUFFile, contextLength: Int
  ) throws(ModelFileError) -> RoPEScaling {
    let type = try fields.string("rope.scaling.type") ?? "none"
    let oldFactor = try fields.number("rope.scale_linear")
    if let factors = gguf.tensor("rope_freqs.weight") {
      if type != "none" && type != "linear" {
        throw ModelFileError(
          gguf.path, "rope_freqs.weight beside a rotary scaling of type \(quoted(type)) is not supported")
      }
      return .factors(try factors.decoded())
    }
    // The files of Phi-3 have the factors and no type.
    let hasFactors = gguf.tensor("rope_factors_long.weight") != nil
    switch type {
    case "none" where !hasFactors:
      if let oldFactor, oldFactor != 1 { return .linear(factor: oldFactor) }
      return .none
    case "linear":
      return .linear(factor: try fields.number("rope.scaling.factor") ?? oldFactor ?? 1)
    case "yarn":
      let factor = try fields.number("rope.scaling.factor") ?? oldFactor ?? 1
      let (newer, older) = (
        try fields.number("rope.scaling.yarn_attn_factor"), try fields.number("rope.scaling.attn_factor")
      )
      return .yarn(
        factor: factor,
        originalContextLength: try fields.size("rope.scaling.original_context_length", default: contextLength),
        betaFast: try fields.number("rope.scaling.yarn_beta_fast") ?? 32,
        betaSlow: try fields.number("rope.scaling.yarn_beta_slow") ?? 1, truncates: true,
        attentionFactor: (newer ?? older ?? 1) * yarnAttentionFactor(factor: factor))
    case "longrope", "none":
      let original = try fields.size("rope.scaling.original_context_length", default: contextLength)
      guard let short = gguf.tensor("rope_factors_short.weight"), let long = gguf.tensor("rope_factors_long.weight")
      else {
        throw ModelFileError(
          gguf.path, "the tensors rope_factors_short.weight and rope_factors_long.weight are missing")
      }
      let attention = try fields.number("rope.scaling.attn_factor")
      return .longRoPE(
        shortFactors: try short.decoded().map(Double.init), longFactors: try long.decoded().map(Double.init),
        originalContextLength: original,
        attentionFactor: attention
          ?? longRoPEAttentionFactor(
            factor: Double(contextLength) / Double(original), originalContextLength: original))
    default:
      throw ModelFileError(
        gguf.path, "the rotary scaling is of type \(quoted(type)); supported are none, linear, yarn and longrope")
    }
  }
}

/// The metadata keys of one architecture.
private struct GGUFFields {
  let metadata: GGUFMetadata
  let architecture: String

  func integer(_ key: String) throws(ModelFileError) -> Int? { try metadata.integer("\(architecture).\(key)") }
  func number(_ key: String) throws(ModelFileError) -> Double? { try metadata.double("\(architecture).\(key)") }
  func string(_ key: String) throws(ModelFileError) -> String? { try metadata.string("\(architecture).\(key)") }

  /// A size; some files give one per layer, which must then all be the same.
  func size(_ key: String, default fallback: Int? = nil) throws(ModelFileError) -> Int {
    let full = "\(architecture).\(key)"
    var value: Int?
    if metadata[full]?.array != nil {
      let values = try metadata.integers(full) ?? []
      if let first = values.first, values.allSatisfy({ $0 == first }) {
        value = first
      } else {
        throw ModelFileError(metadata.path, "the metadata key '\(full)' differs between layers, which is not supported")
      }
    } else {
      value = try metadata.integer(full)
    }
    guard let value = value ?? fallback else {
      throw ModelFileError(metadata.path, "the metadata key '\(full)' is missing")
    }
    guard value > 0, value <= ConfigurationFields.largestSize else {
      throw ModelFileError(metadata.path, "the metadata key '\(full)' is \(value), a positive integer was expected")
    }
    return value
  }

  func tokenID(_ key: String) throws(ModelFileError) -> Int? {
    guard let id = try metadata.integer("tokenizer.ggml.\(key)"), id >= 0, id != Int(UInt32.max) else { return nil }
    return id
  }
}
