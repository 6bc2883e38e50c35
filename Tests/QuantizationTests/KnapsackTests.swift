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

  @Test func theBestOfAllChoices() throws {
    for _ in 0..<200 {
      let items = (0..<Int.random(in: 1...5)).map { _ in
        (0..<Int.random(in: 1...4)).map { _ in
          Knapsack.Option(cost: .random(in: 1...40), loss: .random(in: 0...1))
        }
      }
      let budget = Int.random(in: 10...150)
      var best = Double.infinity
      func visit(_ item: Int, _ cost: Int, _ loss: Double) {
        if cost > budget { return }
        guard item < items.count else { return best = min(best, loss) }
        for option in items[item] { visit(item + 1, cost + option.cost, loss + option.loss) }
      }
      visit(0, 0, 0)
      guard let chosen = Knapsack.choose(items, budget: budget) else {
        #expect(best == .infinity)
        continue
      }
      let taken = zip(items, chosen).map { $0[$1] }
      #expect(taken.reduce(0) { $0 + $1.cost } <= budget)
      #expect(abs(taken.reduce(0) { $0 + $1.loss } - best) < 1e-9)
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
