import Models
import Testing

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
}
