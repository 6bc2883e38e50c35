import Testing

@testable import Quantization

@Suite struct KnapsackTests {
  @Test func theBestOfAllSubsets() {
    for _ in 0..<200 {
      let count = Int.random(in: 1...10)
      let costs = (0..<count).map { _ in Int.random(in: 1...40) }
      let values = (0..<count).map { _ in Double.random(in: -0.2...1) }
      let budget = Int.random(in: 1...120)
      let chosen = Knapsack.choose(costs: costs, values: values, budget: budget)
      var best = 0.0
      for subset in 0..<1 << count {
        let items = (0..<count).filter { subset >> $0 & 1 == 1 }
        if items.reduce(0, { $0 + costs[$1] }) <= budget { best = max(best, items.reduce(0) { $0 + values[$1] }) }
      }
      #expect(chosen.reduce(0) { $0 + costs[$1] } <= budget)
      #expect(abs(chosen.reduce(0) { $0 + values[$1] } - best) < 1e-9)
    }
  }

  @Test func edges() {
    #expect(Knapsack.choose(costs: [], values: [], budget: 5).isEmpty)
    #expect(Knapsack.choose(costs: [3], values: [1], budget: 0).isEmpty)
    #expect(Knapsack.choose(costs: [3], values: [1], budget: 2).isEmpty)
    #expect(Knapsack.choose(costs: [3, 4], values: [1, 0], budget: 100) == [0])
    // Costs beyond what is counted one by one.
    let costs = [500_000_000, 400_000_000, 300_000_000]
    let chosen = Knapsack.choose(costs: costs, values: [3, 2, 2], budget: 701_000_000)
    #expect(chosen == [1, 2])
  }
}
