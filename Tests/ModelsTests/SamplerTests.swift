import Models
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct SamplerTests {
  private let logits: [Float] = [1, 3, 2, -1, 2.5]

  private func counts(_ options: SamplingOptions, draws: Int = 20_000) -> [Int] {
    var sampler = Sampler(options)
    var counts = [Int](repeating: 0, count: logits.count)
    for _ in 0..<draws { if let token = sampler.next(logits) { counts[Int(token)] += 1 } }
    return counts
  }

  @Test func greedyTakesTheLikeliestAndTheFirstOfEquals() {
    var sampler = Sampler(SamplingOptions())
    #expect(sampler.next(logits) == 1)
    #expect(sampler.next([2, 5, 5]) == 1)
    #expect(sampler.next([.nan, -3, .nan]) == 1)
    #expect(sampler.next([.nan, .nan]) == nil)
  }

  @Test func frequenciesFollowTheSoftmax() {
    let found = counts(SamplingOptions(temperature: 1, seed: 1))
    // Softmax of the logits, computed apart: e^x / Σ e^x.
    let expected = [0.0629, 0.4648, 0.1710, 0.0085, 0.2819]
    var total = 0.0
    for (count, share) in zip(found, expected) { total += abs(Double(count) / 20_000 - share) }
    #expect(total < 0.04, "\(found)")
  }

  @Test func limitsLeaveTokensOut() {
    let topK = counts(SamplingOptions(temperature: 1, topK: 2))
    #expect(topK[1] > 0 && topK[4] > 0 && topK[0] == 0 && topK[2] == 0 && topK[3] == 0)
    let topP = counts(SamplingOptions(temperature: 1, topP: 0.7))
    #expect(topP[1] > 0 && topP[4] > 0 && topP[0] == 0 && topP[2] == 0)
    let minP = counts(SamplingOptions(temperature: 1, minP: 0.3))
    #expect(minP[1] > 0 && minP[4] > 0 && minP[2] > 0 && minP[0] == 0 && minP[3] == 0)
  }

  @Test func aSeedRepeatsAndAnotherDoesNot() {
    func draw(_ seed: UInt64) -> [Int32?] {
      var sampler = Sampler(SamplingOptions(temperature: 1, seed: seed))
      return (0..<50).map { _ in sampler.next(logits) }
    }
    #expect(draw(1) == draw(1))
    #expect(draw(1) != draw(2))
  }

  @Test func repetitionIsPenalized() {
    var sampler = Sampler(SamplingOptions(repetitionPenalty: 2), seen: [1])
    #expect(sampler.next(logits) == 4, "3 / 2 falls behind 2.5")
    #expect(sampler.next(logits) == 2, "and so does 2.5 / 2 now")
  }

  @Test func aTinyTemperatureIsGreedy() {
    #expect(counts(SamplingOptions(temperature: 1e-4), draws: 200) == [0, 200, 0, 0, 0])
  }

  /// The definitions in float64, on a vocabulary of a usual size: which tokens may be drawn, and how often.
  @Test(arguments: [
    SamplingOptions(temperature: 0.7), SamplingOptions(temperature: 0.7, topP: 0.95),
    SamplingOptions(temperature: 1.5, topP: 0.3), SamplingOptions(temperature: 0.9, topK: 40),
    SamplingOptions(temperature: 2, topP: 0.8, topK: 7), SamplingOptions(temperature: 1, minP: 0.02),
    SamplingOptions(temperature: 1, topP: 0.9, topK: 900, minP: 0.001), SamplingOptions(temperature: 0.01, topK: 5000),
    SamplingOptions(temperature: 1, topK: 1), SamplingOptions(temperature: 1, topP: 0),
  ])
  func drawsAreThoseOfTheDefinition(_ options: SamplingOptions) {
    var options = options
    options.seed = UInt64.random(in: 0...UInt64.max)
    // A few likely tokens before a long tail, with what is no number among them.
    var logits = (0..<49_153).map { index in
      Float.random(in: -8...0) + (index % 5000 == 3 ? Float.random(in: 4...8) : 0)
    }
    for index in stride(from: 11, to: logits.count, by: 997) {
      logits[index] = [.nan, .infinity, -.infinity][index % 3]
    }
    let finite = logits.indices.filter { logits[$0].isFinite }
    var order = finite.sorted { logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1] }
    let top = Double(logits[order[0]])
    if options.topK > 0 { order = Array(order.prefix(options.topK)) }
    var weights = order.map { exp((Double(logits[$0]) - top) / options.temperature) }
    weights = Array(weights.prefix { $0 >= options.minP })
    if options.topP < 1 {
      let wanted = weights.reduce(0, +) * options.topP
      var sum = 0.0
      weights = Array(
        weights.prefix { weight in
          defer { sum += weight }
          return sum < wanted
        })
      if weights.isEmpty { weights = [1] }
    }
    let total = weights.reduce(0, +)
    // At a border rounding decides.
    let allowed = Set(order.prefix(weights.count + 1))
    var sampler = Sampler(options)
    var counts: [Int32: Int] = [:]
    let draws = 3000
    for _ in 0..<draws { if let token = sampler.next(logits) { counts[token, default: 0] += 1 } }
    #expect(counts.values.reduce(0, +) == draws)
    #expect(counts.keys.allSatisfy { allowed.contains(Int($0)) })
    for (token, weight) in zip(order, weights).prefix(5) {
      let (expected, found) = (weight / total, Double(counts[Int32(token)] ?? 0) / Double(draws))
      // Five standard deviations.
      #expect(abs(found - expected) <= 5 * (expected * (1 - expected) / Double(draws)).squareRoot() + 1e-3)
    }
  }
}
