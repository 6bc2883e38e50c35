import Models
import Tensors

/// The search over plans whose layers are grouped, for one size of tiles and of the head's pieces.
///
/// How large groups are, of how many layers attention's output is kept, and where: what a plan takes grows by the same bytes with
/// every input or output that is kept on the device, so that a few layouts say what all of them take; the one that is chosen is
/// counted by its own.
struct GroupSearch {
  /// The largest group that is looked at: beyond, what a group keeps for itself outweighs what it spares.
  private static let most = 8

  /// The least tokens at once that are grouped: of fewer, inputs are little beside weights and head.
  static let leastTokens = 8192

  private let search: ActivationSearch
  private let base: ActivationPlan
  private let costs: StepCosts
  private let layers: Int
  private let tiles: Int
  private let ends: Double

  init(_ search: ActivationSearch, _ base: ActivationPlan, _ costs: StepCosts, on device: any Device) {
    (self.search, self.base, self.costs) = (search, base, costs)
    layers = search.extent.configuration.layerCount
    tiles = base.tile.map { (search.extent.tokens + $0 - 1) / $0 } ?? 1
    ends = costs.ends(search.extent, base, on: device)
  }

  /// The plan with `groups`: the last ones' inputs are those that stay on the device.
  private func plan(_ groups: StepCosts.Groups) -> ActivationPlan {
    var plan = base
    plan.grouping = groups.grouping
    plan.layers = groups.grouping.groups(of: layers).enumerated().flatMap { index, range in
      range.map { _ in ActivationPlan.Layer(.input, isOnHost: index < groups.onHost) }
    }
    return plan
  }

  private func bytes(_ groups: StepCosts.Groups, on device: any Device) -> (device: Int, host: Int) {
    search.extent.activationByteCounts(plan(groups), on: device)
  }

  /// The fastest plan of all options, where it takes less than `limit` seconds.
  func best(faster limit: Double?, on device: any Device) -> ActivationSearch.Result? {
    let hasHost = search.options.contains { $0.hostFree > 0 }
    var best: ActivationSearch.Result?
    for size in 1...max(1, min(Self.most, layers / 2)) {
      let count = ActivationPlan.Grouping(size).groups(of: layers).count
      for isOnHost in size > 1 && hasHost ? [true, false] : [false] {
        // All that can be is with the host; nothing of attention's.
        let bare = StepCosts.Groups(
          grouping: ActivationPlan.Grouping(size, isOnHost: isOnHost), onHost: hasHost ? count : 0)
        let least = bytes(bare, on: device)
        guard search.options.contains(where: { least.device <= $0.free }) else { continue }
        let sizes = costs.keptByteCounts(rounds: base.roundsInputs)
        for attentions in 0...size - 1 {
          let grouping = ActivationPlan.Grouping(size, attentions: attentions, isOnHost: isOnHost)
          for (index, option) in search.options.enumerated() where option.hostFree >= 0 {
            let spare = option.free - least.device - (isOnHost ? 0 : attentions * sizes.attention)
            guard spare >= 0 else { continue }
            var groups = StepCosts.Groups(
              grouping: grouping, onHost: hasHost ? max(0, count - spare / sizes.input) : 0)
            guard costs.hostByteCount(groups, rounds: base.roundsInputs) <= option.hostFree else { continue }
            let seconds = { (groups: StepCosts.Groups) in
              costs.seconds(groups, rounds: base.roundsInputs, tiles: tiles, ends: ends, option.traffic)
            }
            guard seconds(groups) < best?.seconds ?? limit ?? .infinity else { continue }
            var taken = bytes(groups, on: device)
            // What is padded to whole rows or lines is not in those sizes.
            while taken.device > option.free, hasHost, groups.onHost < count {
              groups.onHost += 1
              taken = bytes(groups, on: device)
            }
            guard taken.device <= option.free, taken.host <= option.hostFree else { continue }
            let found = seconds(groups)
            guard found < best?.seconds ?? limit ?? .infinity else { continue }
            best = ActivationSearch.Result(plan: plan(groups), seconds: found, option: index)
          }
        }
      }
    }
    return best
  }

  /// Bytes on the device of the plan that takes least.
  static func leastByteCount(_ search: ActivationSearch, _ base: ActivationPlan, on device: any Device) -> Int {
    let hasHost = search.options.contains { $0.hostFree > 0 }
    let layers = search.extent.configuration.layerCount
    return (1...max(1, min(most, layers / 2))).map { size in
      var plan = base
      plan.grouping = ActivationPlan.Grouping(size, isOnHost: hasHost)
      plan.layers = [ActivationPlan.Layer](repeating: .init(.input, isOnHost: hasHost), count: layers)
      return search.extent.activationByteCounts(plan, on: device).device
    }.min() ?? .max
  }
}
