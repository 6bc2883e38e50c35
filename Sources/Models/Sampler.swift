#if canImport(Glibc)
  import Glibc
#endif

/// How the next token is chosen from its logits.
public struct SamplingOptions: Sendable, Equatable {
  /// Logits are divided by it; 0 takes the likeliest token.
  public var temperature: Double
  /// Only the likeliest tokens whose probabilities add up to this are drawn from.
  public var topP: Double
  /// Only this many of the likeliest tokens are drawn from; 0: all.
  public var topK: Int
  /// Only tokens at least this share of the likeliest one's probability are drawn from.
  public var minP: Double
  /// Logits of tokens seen before are divided (negative ones multiplied) by it (Keskar et al., 2019); 1: unchanged.
  public var repetitionPenalty: Double
  /// Seed of the draws.
  public var seed: UInt64

  /// Options; by default the likeliest token is taken.
  public init(
    temperature: Double = 0, topP: Double = 1, topK: Int = 0, minP: Double = 0, repetitionPenalty: Double = 1,
    seed: UInt64 = 3407
  ) {
    self.temperature = temperature
    self.topP = topP
    self.topK = topK
    self.minP = minP
    self.repetitionPenalty = repetitionPenalty
    self.seed = seed
  }
}

/// Draws tokens, reproducibly.
public struct Sampler: Sendable {
  private let options: SamplingOptions
  private var random: RandomSource
  private var seen: Set<Int32> = []

  /// A sampler that has seen `tokens` already.
  public init(_ options: SamplingOptions, seen tokens: [Int32] = []) {
    self.options = options
    random = RandomSource(seed: options.seed)
    if options.repetitionPenalty != 1 { seen = Set(tokens) }
  }

  /// Chooses a token.
  ///
  /// Logits that are not numbers are never chosen; when none is one, nil.
  public mutating func next(_ logits: [Float]) -> Int32? {
    var logits = logits
    if options.repetitionPenalty != 1 {
      let penalty = Float(options.repetitionPenalty)
      for token in seen where Int(token) < logits.count {
        let value = logits[Int(token)]
        logits[Int(token)] = value > 0 ? value / penalty : value * penalty
      }
    }
    guard let chosen = options.temperature > 0 ? draw(logits) : likeliest(logits) else { return nil }
    if options.repetitionPenalty != 1 { seen.insert(chosen) }
    return chosen
  }

  private func likeliest(_ logits: [Float]) -> Int32? {
    var best: Int?
    for index in logits.indices where !logits[index].isNaN {
      if best.map({ logits[index] > logits[$0] }) ?? true { best = index }
    }
    return best.map { Int32($0) }
  }

  private mutating func draw(_ logits: [Float]) -> Int32? {
    var candidates = logits.indices.filter { logits[$0].isFinite }
    guard let top = candidates.map({ logits[$0] }).max() else { return nil }
    // Far below the likeliest a token has no measurable probability; leaving those out makes sorting cheap.
    let floor = Double(top) - max(40 * options.temperature, 1e-6)
    candidates = candidates.filter { Double(logits[$0]) >= floor }
    candidates.sort { logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1] }
    if options.topK > 0 { candidates = Array(candidates.prefix(options.topK)) }
    var weights = candidates.map { exp(Double(logits[$0] - top) / options.temperature) }
    if options.minP > 0 {
      let count = max(1, weights.prefix { $0 >= options.minP }.count)
      weights = Array(weights.prefix(count))
    }
    if options.topP < 1 {
      let wanted = weights.reduce(0, +) * options.topP
      var sum = 0.0
      var count = 0
      while count < weights.count, sum < wanted || count == 0 {
        sum += weights[count]
        count += 1
      }
      weights = Array(weights.prefix(count))
    }
    var rest = random.uniform() * weights.reduce(0, +)
    for (index, weight) in weights.enumerated() {
      rest -= weight
      if rest < 0 { return Int32(candidates[index]) }
    }
    return candidates.first.map { Int32($0) }
  }
}
