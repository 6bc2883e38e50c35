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
  /// What each token's share of the draw is, as a part of the likeliest one's; kept, so that its memory is.
  private var weights: [Float] = []

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
    logits.withUnsafeBufferPointer { logits in
      let best = logits.largest { $0 .== $0 }
      return logits.firstIndex(of: best).map { Int32($0) }
    }
  }

  private mutating func draw(_ logits: [Float]) -> Int32? {
    if weights.count != logits.count { weights = [Float](repeating: 0, count: logits.count) }
    return logits.withUnsafeBufferPointer { logits in
      let top = logits.largest { ($0 .< .infinity) .& ($0 .> -.infinity) }
      guard top.isFinite else { return nil }
      let total = weights.withUnsafeMutableBufferPointer { weights in
        logits.weigh(top, sharpness: Float(min(1 / options.temperature, 1e30)), least: Float(options.minP), weights)
      }
      let order = candidates(logits, total)
      guard var count = order?.count else {
        // All take part: in any order, so that nothing is sorted.
        return chosen(logits.indices, random.uniform() * total)
      }
      guard let order else { return nil }
      if options.topP < 1 {
        let wanted = options.topP * (options.topK > 0 ? order.reduce(0) { $0 + Double(weights[$1]) } : total)
        var sum = 0.0
        var needed = 0
        while needed < count, sum < wanted || needed == 0 {
          sum += Double(weights[order[needed]])
          needed += 1
        }
        count = needed
      }
      let kept = order.prefix(count)
      return chosen(kept, random.uniform() * kept.reduce(0) { $0 + Double(weights[$1]) })
    }
  }

  /// The tokens that top-k and top-p choose from, the likeliest first; nil where neither applies.
  private func candidates(_ logits: UnsafeBufferPointer<Float>, _ total: Double) -> [Int]? {
    guard options.topK > 0 || options.topP < 1 else { return nil }
    // All tokens below this weight together hold less than top-p leaves out, or there are enough above it.
    let least =
      options.topK > 0 ? leastWeight(of: options.topK) : Float((1 - options.topP) * total / Double(logits.count)) * 0.5
    var heap = Heap(logits)
    weights.withUnsafeBufferPointer { weights in
      for index in weights.indices where weights[index] > least { heap.indices.append(index) }
    }
    heap.build()
    var order: [Int] = []
    var sum = 0.0
    while let next = heap.removeFirst() {
      order.append(next)
      sum += Double(weights[next])
      if options.topK > 0 ? order.count == options.topK : sum >= options.topP * total { break }
    }
    return order
  }

  /// A number below the weights of the `count` likeliest tokens, or of all that have any.
  private func leastWeight(of count: Int) -> Float {
    // Of that many groups each holds a weight as large as the least of their largest.
    let groups = stride(from: 0, to: weights.count, by: 64).map { weights[$0..<min($0 + 64, weights.count)].max() ?? 0 }
    guard count <= groups.count else { return 0 }
    return max(0, groups.sorted(by: >)[count - 1].nextDown)
  }

  /// The token at which the weights, added up in that order, pass `point`.
  private func chosen(_ tokens: some Sequence<Int>, _ point: Double) -> Int32? {
    var (rest, last) = (point, Int?.none)
    for token in tokens where weights[token] > 0 {
      rest -= Double(weights[token])
      last = token
      if rest < 0 { break }
    }
    return last.map { Int32($0) }
  }
}

/// Tokens from which the likeliest is taken one by one; the first of equals first.
private struct Heap {
  private let logits: UnsafeBufferPointer<Float>
  var indices: [Int] = []

  init(_ logits: UnsafeBufferPointer<Float>) { self.logits = logits }

  private func isBefore(_ a: Int, _ b: Int) -> Bool {
    logits[a] == logits[b] ? a < b : logits[a] > logits[b]
  }

  /// Puts `indices` in a heap's order.
  mutating func build() { for start in (0..<indices.count / 2).reversed() { sink(start) } }

  mutating func removeFirst() -> Int? {
    guard let first = indices.first, let last = indices.popLast() else { return nil }
    if !indices.isEmpty {
      indices[0] = last
      sink(0)
    }
    return first
  }

  private mutating func sink(_ start: Int) {
    var place = start
    while true {
      var child = 2 * place + 1
      guard child < indices.count else { return }
      if child + 1 < indices.count, isBefore(indices[child + 1], indices[child]) { child += 1 }
      guard isBefore(indices[child], indices[place]) else { return }
      indices.swapAt(child, place)
      place = child
    }
  }
}

extension UnsafeBufferPointer<Float> {
  /// Eight of them from `index` on, `filler` behind the end.
  private func eight(_ index: Int, filler: Float) -> SIMD8<Float> {
    if index + 8 <= count {
      return UnsafeRawBufferPointer(self).loadUnaligned(fromByteOffset: index * 4, as: SIMD8<Float>.self)
    }
    var result = SIMD8<Float>(repeating: filler)
    for lane in 0..<Swift.max(0, count - index) { result[lane] = self[index + lane] }
    return result
  }

  /// The largest of those that `counts` accepts; -∞ where there are none.
  fileprivate func largest(_ counts: (SIMD8<Float>) -> SIMDMask<SIMD8<Int32>>) -> Float {
    var best = SIMD8<Float>(repeating: -.infinity)
    for index in stride(from: 0, to: count, by: 8) {
      let values = eight(index, filler: -.infinity)
      best.replace(with: values, where: counts(values) .& (values .> best))
    }
    return best.max()
  }

  /// Writes e^((x - top) · sharpness) of each, 0 where that is less than `least` or x is no number; returns the sum.
  fileprivate func weigh(
    _ top: Float, sharpness: Float, least: Float, _ weights: UnsafeMutableBufferPointer<Float>
  ) -> Double {
    var total = 0.0
    // Far below the likeliest a token has no measurable probability.
    let floor = Swift.max(least, 4e-18)
    for index in stride(from: 0, to: count, by: 8) {
      let values = eight(index, filler: -.infinity)
      var exponents = (values - top) * sharpness
      // Also what is no number.
      exponents.replace(with: -80, where: .!(exponents .> -80))
      var result = exponential(exponents)
      result.replace(with: 0, where: .!((values .< .infinity) .& (values .> -.infinity)) .| (result .< floor))
      total += Double(result.sum())
      for lane in 0..<Swift.min(8, count - index) { weights[index + lane] = result[lane] }
    }
    return total
  }
}

/// eˣ for -80...0, within 2e-7 of it; what it gives for NaN is not used.
private func exponential(_ x: SIMD8<Float>) -> SIMD8<Float> {
  // 2ⁿ · eʳ with |r| ≤ ln 2 / 2, ln 2 in two parts (Cody and Waite); the polynomial is Cephes' expf. Adding 1.5 · 2²³
  // rounds to an integer, which stands in the low bits then.
  let shifted = x * 1.442_695_04 + 12_582_912
  let n = shifted - 12_582_912
  let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4
  var p = r * 1.987_569_15e-4 + 1.398_199_95e-3
  p = p * r + 8.333_451_9e-3
  p = p * r + 4.166_579_6e-2
  p = p * r + 1.666_666_55e-1
  p = p * r + 0.5
  p = p * (r * r) + r + 1
  let bits = unsafeBitCast(shifted, to: SIMD8<UInt32>.self)
  return p * unsafeBitCast((bits &- (0x4B40_0000 - 127)) &<< 23, to: SIMD8<Float>.self)
}
