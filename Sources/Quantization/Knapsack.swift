/// What to take so that the least is lost within a budget.
enum Knapsack {
  /// One of the ways to store an item.
  struct Option: Equatable, Sendable {
    var cost: Int
    var loss: Double
  }

  /// Steps that the budget is divided into.
  private static let steps = 20_000

  /// For each item the option to take, so that the summed loss is the smallest within `budget`; nil where even the cheapest
  /// options cost more.
  ///
  /// Exact but for costs being counted in steps of a 20,000th of what the budget has beyond the cheapest options, rounded up.
  static func choose(_ items: [[Option]], budget: Int) -> [Int]? {
    precondition(items.allSatisfy { !$0.isEmpty && $0.count <= 256 })
    let cheapest = items.map { item in item.reduce(Int.max) { min($0, $1.cost) } }
    let room = budget - cheapest.reduce(0, +)
    guard room >= 0 else { return nil }
    let step = max(1, (room + steps - 1) / steps)
    let capacity = room / step
    // best[r]: the smallest loss of the items so far in r steps or fewer.
    var best = [Double](repeating: 0, count: capacity + 1)
    var taken: [[UInt8]] = []
    for (item, cheapest) in zip(items, cheapest) {
      var next = [Double](repeating: .infinity, count: capacity + 1)
      var choice = [UInt8](repeating: 0, count: capacity + 1)
      for (index, option) in item.enumerated() {
        let weight = (option.cost - cheapest + step - 1) / step
        guard weight <= capacity else { continue }
        for room in weight...capacity where best[room - weight] + option.loss < next[room] {
          next[room] = best[room - weight] + option.loss
          choice[room] = UInt8(index)
        }
      }
      best = next
      taken.append(choice)
    }
    var chosen = [Int](repeating: 0, count: items.count)
    var rest = capacity
    for item in items.indices.reversed() {
      chosen[item] = Int(taken[item][rest])
      rest -= (items[item][chosen[item]].cost - cheapest[item] + step - 1) / step
    }
    return chosen
  }

  /// The items of the largest summed value whose costs do not exceed `budget`.
  static func choose(costs: [Int], values: [Double], budget: Int) -> Set<Int> {
    precondition(costs.count == values.count)
    // What has no value is not worth a byte.
    let options = zip(costs, values).map { cost, value in
      [Option(cost: 0, loss: max(value, 0)), Option(cost: max(cost, 1), loss: 0)]
    }
    guard budget > 0, let chosen = choose(options, budget: budget) else { return [] }
    return Set(chosen.indices.filter { chosen[$0] == 1 && values[$0] > 0 })
  }
}
