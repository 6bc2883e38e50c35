/// What to keep so that most value fits a budget.
enum Knapsack {
  /// Steps that the budget is divided into.
  private static let steps = 20_000

  /// The items of the largest summed value whose costs do not exceed `budget`, exactly but for costs being counted in
  /// steps of a 20,000th of the budget, rounded up.
  static func choose(costs: [Int], values: [Double], budget: Int) -> Set<Int> {
    precondition(costs.count == values.count)
    guard budget > 0 else { return [] }
    let step = max(1, (budget + steps - 1) / steps)
    let capacity = budget / step
    var best = [Double](repeating: 0, count: capacity + 1)
    var takes = [[Bool]](repeating: [], count: costs.count)
    for item in costs.indices where values[item] > 0 && costs[item] >= 0 {
      let weight = (costs[item] + step - 1) / step
      guard weight <= capacity else { continue }
      var taken = [Bool](repeating: false, count: capacity + 1)
      for room in stride(from: capacity, through: weight, by: -1) where best[room - weight] + values[item] > best[room]
      {
        best[room] = best[room - weight] + values[item]
        taken[room] = true
      }
      takes[item] = taken
    }
    var chosen: Set<Int> = []
    var room = capacity
    for item in costs.indices.reversed() where !takes[item].isEmpty && takes[item][room] {
      chosen.insert(item)
      room -= (costs[item] + step - 1) / step
    }
    return chosen
  }
}
