import Glibc

/// The shape of a model: what `config.json` or the metadata of a GGUF say of it.
///
/// Every number was checked to be positive and consistent with the others.
public struct ModelConfiguration: Sendable, Equatable {
  /// The class that Hugging Face's transformers would load, `LlamaForCausalLM` for one.
  public var architecture: String
  /// Rows of the embedding.
  public var vocabularySize: Int
  /// The width of the residual stream.
  public var hiddenSize: Int
  /// The width within the feed-forward block.
  public var intermediateSize: Int
  /// The number of blocks.
  public var layerCount: Int
  /// Heads that ask.
  public var headCount: Int
  /// Heads that are asked; divides `headCount`.
  public var keyValueHeadCount: Int
  /// The width of a head; even.
  public var headDimension: Int
  /// What RMSNorm adds to the mean square.
  public var rmsNormEpsilon: Double
  /// The base of the rotary frequencies.
  public var ropeTheta: Double
  /// How rotary positions are stretched.
  public var ropeScaling: RoPEScaling
  /// Which part of each head is rotated, from the start; 1 is all of it.
  public var partialRotaryFactor: Double
  /// The longest sequence that the model is made for.
  public var contextLength: Int
  /// Whether the head is the embedding.
  public var tiesEmbeddings: Bool
  /// Whether the projections to queries, keys and values add a bias.
  public var attentionBias: Bool
  /// Whether the projection of attention's output adds a bias.
  public var outputBias = false
  /// Whether the projections of the feed-forward block add a bias.
  public var mlpBias = false
  /// Whether each query and key head goes through an RMSNorm of its own before it is rotated.
  public var normalizesHeads = false
  /// How many tokens back attention reaches, itself included; `nil` is all the way.
  public var slidingWindow: Int?
  /// The layers whose attention reaches all the way although there is a sliding window.
  public var fullAttentionLayers: Set<Int> = []
  /// The layers without rotary positions.
  public var unrotatedLayers: Set<Int> = []
  /// The token that starts a text.
  public var bosTokenID: Int?
  /// The tokens that end a text.
  public var eosTokenIDs: [Int]
  /// The token that fills unused places.
  public var padTokenID: Int?

  /// Makes a configuration; what most models of the family share has a default.
  public init(
    architecture: String = "LlamaForCausalLM", vocabularySize: Int, hiddenSize: Int, intermediateSize: Int,
    layerCount: Int, headCount: Int, keyValueHeadCount: Int, headDimension: Int? = nil,
    rmsNormEpsilon: Double = 1e-5, ropeTheta: Double = 10000, ropeScaling: RoPEScaling = .none,
    partialRotaryFactor: Double = 1, contextLength: Int = 2048, tiesEmbeddings: Bool = false,
    attentionBias: Bool = false, slidingWindow: Int? = nil, bosTokenID: Int? = nil, eosTokenIDs: [Int] = [],
    padTokenID: Int? = nil
  ) {
    self.architecture = architecture
    self.vocabularySize = vocabularySize
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.layerCount = layerCount
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headDimension = headDimension ?? (headCount > 0 ? hiddenSize / headCount : 0)
    self.rmsNormEpsilon = rmsNormEpsilon
    self.ropeTheta = ropeTheta
    self.ropeScaling = ropeScaling
    self.partialRotaryFactor = partialRotaryFactor
    self.contextLength = contextLength
    self.tiesEmbeddings = tiesEmbeddings
    self.attentionBias = attentionBias
    self.slidingWindow = slidingWindow
    self.bosTokenID = bosTokenID
    self.eosTokenIDs = eosTokenIDs
    self.padTokenID = padTokenID
  }

  /// The width of the part of each head that is rotated.
  public var rotaryDimension: Int { Int(Double(headDimension) * partialRotaryFactor) }

  /// How many tokens back a layer's attention reaches, itself included; `nil` is all the way.
  public func slidingWindow(layer: Int) -> Int? { fullAttentionLayers.contains(layer) ? nil : slidingWindow }

  /// Whether a layer's queries and keys turn with their position.
  public func rotates(layer: Int) -> Bool { !unrotatedLayers.contains(layer) }

  /// Throws when the numbers contradict each other; `path` is the file they come from.
  func validated(from path: String) throws(ModelFileError) -> ModelConfiguration {
    func require(_ holds: Bool, _ message: @autoclosure () -> String) throws(ModelFileError) {
      if !holds { throw ModelFileError(path, message()) }
    }
    try require(
      headCount % keyValueHeadCount == 0,
      "\(headCount) attention heads cannot be shared by \(keyValueHeadCount) key and value heads")
    try require(headDimension % 2 == 0, "the width of a head is \(headDimension), it must be even for rotary positions")
    // Attention keeps a tile of keys and values on the stack.
    try require(headDimension <= 1024, "the width of a head is \(headDimension), at most 1024 can be computed")
    try require(
      rmsNormEpsilon.isFinite && rmsNormEpsilon >= 0,
      "the epsilon of RMSNorm is \(rmsNormEpsilon), which is no small number"
    )
    try require(ropeTheta.isFinite && ropeTheta > 0, "the rotary base is \(ropeTheta), it must be positive")
    try require(
      partialRotaryFactor > 0 && partialRotaryFactor <= 1 && rotaryDimension >= 2 && rotaryDimension % 2 == 0,
      "the rotated part of a head is \(partialRotaryFactor) of \(headDimension), which is no even number of elements")
    for id in eosTokenIDs + [bosTokenID, padTokenID].compactMap(\.self) {
      try require(
        id >= -1 && id < vocabularySize,
        "a special token has the id \(id), but the vocabulary has only \(vocabularySize) tokens")
    }
    try validateScaling(require)
    return self
  }

  private func validateScaling(
    _ require: (Bool, @autoclosure () -> String) throws(ModelFileError) -> Void
  ) throws(ModelFileError) {
    func isPositive(_ value: Double) -> Bool { value.isFinite && value > 0 }
    switch ropeScaling {
    case .none: break
    case .linear(let factor), .dynamic(let factor):
      try require(isPositive(factor), "the factor of the rotary scaling is \(factor), it must be positive")
    case .llama3(let factor, let low, let high, let original):
      try require(isPositive(factor), "the factor of the rotary scaling is \(factor), it must be positive")
      try require(
        isPositive(low) && isPositive(high) && high > low,
        "the rotary scaling has low_freq_factor \(low) and high_freq_factor \(high), the second must be larger")
      try require(original > 0, "original_max_position_embeddings is \(original), it must be positive")
    case .longRoPE(let short, let long, let original, let attention):
      for (name, factors) in [("short", short), ("long", long)] {
        try require(
          factors.count == rotaryDimension / 2,
          "the rotary scaling has \(factors.count) \(name) factors, \(rotaryDimension / 2) are needed")
        try require(factors.allSatisfy(isPositive), "a \(name) factor of the rotary scaling is not positive")
      }
      try require(original > 1, "original_max_position_embeddings is \(original), it must be more than 1")
      try require(isPositive(attention), "the attention factor is \(attention), it must be positive")
    case .yarn(let factor, let original, let fast, let slow, _, let attention):
      try require(isPositive(factor), "the factor of the rotary scaling is \(factor), it must be positive")
      try require(original > 0, "original_max_position_embeddings is \(original), it must be positive")
      try require(
        isPositive(fast) && isPositive(slow),
        "the rotary scaling has beta_fast \(fast) and beta_slow \(slow), they must be positive")
      try require(isPositive(attention), "the attention factor is \(attention), it must be positive")
    case .factors(let factors):
      try require(
        factors.count == rotaryDimension / 2,
        "the rotary scaling has \(factors.count) factors, \(rotaryDimension / 2) are needed")
      try require(factors.allSatisfy { isPositive(Double($0)) }, "a factor of the rotary scaling is not positive")
    }
  }

  /// The attention factor of longRoPE for a checkpoint that names none.
  static func longRoPEAttentionFactor(factor: Double, originalContextLength: Int) -> Double {
    if !(factor > 1) || originalContextLength < 2 { return 1 }
    return (1 + log(factor) / log(Double(originalContextLength))).squareRoot()
  }

  /// The attention factor of YaRN for a checkpoint that names none.
  static func yarnAttentionFactor(factor: Double, mscale: Double? = nil, mscaleAllDim: Double? = nil) -> Double {
    func scale(_ weight: Double) -> Double { factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1 }
    guard let mscale, let mscaleAllDim, mscale != 0, mscaleAllDim != 0 else { return scale(1) }
    return scale(mscale) / scale(mscaleAllDim)
  }
}
