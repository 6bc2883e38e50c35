import Testing

@testable import CPUDevice

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct DistributionTests {
  @Test(arguments: [3, 40, 1024, 5003]) func divergenceIsItsDefinition(_ vocabulary: Int) {
    let rows = 7
    let p = (0..<rows * vocabulary).map { _ in Float.random(in: -8...8) }
    let q = p.map { $0 + Float.random(in: -0.5...0.5) }
    let (found, agrees) = Distributions.divergence(p, q, rows: rows, vocabulary: vocabulary)
    for row in 0..<rows {
      let own = row * vocabulary..<(row + 1) * vocabulary
      func logProbabilities(_ x: [Float]) -> [Double] {
        let sum = log(own.reduce(0.0) { $0 + exp(Double(x[$1])) })
        return own.map { Double(x[$0]) - sum }
      }
      let (a, b) = (logProbabilities(p), logProbabilities(q))
      let expected = zip(a, b).reduce(0.0) { $0 + exp($1.0) * ($1.0 - $1.1) }
      #expect(abs(found[row] - expected) < 1e-5 * (1 + expected))
      #expect(agrees[row] == (a.firstIndex(of: a.max() ?? 0) == b.firstIndex(of: b.max() ?? 0)))
    }
    let (same, all) = Distributions.divergence(p, p, rows: rows, vocabulary: vocabulary)
    #expect(same.allSatisfy { abs($0) < 1e-6 } && all.allSatisfy { $0 })
  }

  @Test func tokensAreDrawnAsOftenAsTheyAreLikely() {
    let probabilities: [Float] = [0.1, 0.2, 0, 0.3, 0.4]
    let count = 20_000
    let logits = (0..<count).flatMap { _ in probabilities.map { logf($0) } }
    let uniform = (0..<count).map { _ in Double.random(in: 0..<1) }
    let tokens = Distributions.draw(logits, rows: count, vocabulary: probabilities.count, uniform: uniform)
    for (token, probability) in probabilities.enumerated() {
      let share = Double(tokens.count { $0 == Int32(token) }) / Double(count)
      #expect(abs(share - Double(probability)) < 0.02)
    }
    #expect(!tokens.contains(2))
    // The edges of what is drawn with.
    #expect(Distributions.draw(logits, rows: 1, vocabulary: 5, uniform: [0]) == [0])
    #expect(Distributions.draw(logits, rows: 1, vocabulary: 5, uniform: [Double(1).nextDown]) == [4])
  }
}
