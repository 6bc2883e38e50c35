import ModelFiles
import Models
import Tensors

/// The search for what layers keep.
struct ActivationSearch {
  let extent: TrainingExtent
  let context: Int
  /// Bytes for activations.
  let free: Int
  let hostBudget: Int
  let rates: DeviceRates

  /// The fastest plan that fits `free`; nil where none does.
  func best(on device: any Device) -> (plan: ActivationPlan, seconds: Double)? {
    guard free > 0 else { return nil }
    var best: (plan: ActivationPlan, seconds: Double)?
    let costs = StepCosts(extent, context: context, rates: rates, on: device)
    for tile in tiles {
      for headRows in [device.headRows, 256, 64] where headRows <= device.headRows {
        for roundsInputs in [false, true] {
          for floor in floors {
            let base = ActivationPlan(
              [], rest: .everything, roundsInputs: roundsInputs, tile: tile, headRows: headRows)
            guard let found = fill(base, floor, costs, on: device),
              found.seconds < (best?.seconds ?? .infinity)
            else { continue }
            best = found
          }
        }
      }
    }
    return best
  }

  /// Bytes on the device of the plan that takes least.
  func leastByteCount(on device: any Device) -> Int {
    floors.map { floor in
      var plan = ActivationPlan(
        [ActivationPlan.Layer](repeating: floor, count: extent.configuration.layerCount), roundsInputs: true,
        headRows: 64)
      plan.tile = tiles.last ?? nil
      return extent.activationByteCounts(plan, on: device).device
    }.min() ?? 0
  }

  /// Pieces of a batch: ever smaller ones.
  private var tiles: [Int?] {
    let sizes = stride(from: 15, through: 8, by: -1).map { 1 << $0 }
    return [nil] + sizes.filter { $0 < extent.tokens }.map { Optional($0) }
  }

  /// What a layer keeps that keeps least.
  private var floors: [ActivationPlan.Layer] {
    let onDevice = [ActivationPlan.Layer(.input)]
    if hostBudget <= 0 { return onDevice }
    return onDevice + [ActivationPlan.Layer(.input, isOnHost: true), ActivationPlan.Layer(.attention, isOnHost: true)]
  }

  /// The fastest plan in which some layers are at the floor and the others keep more.
  private func fill(
    _ base: ActivationPlan, _ floor: ActivationPlan.Layer, _ costs: StepCosts, on device: any Device
  ) -> (plan: ActivationPlan, seconds: Double)? {
    let count = extent.configuration.layerCount
    let tiles = base.tile.map { (extent.tokens + $0 - 1) / $0 } ?? 1
    func plan(_ layers: [ActivationPlan.Layer]) -> ActivationPlan {
      var plan = base
      plan.layers = layers
      return plan
    }
    let all = [ActivationPlan.Layer](repeating: floor, count: count)
    let least = extent.activationByteCounts(plan(all), on: device)
    guard least.device <= free else { return nil }
    // What the plan grows by when one layer keeps more than the floor.
    let kinds = LayerMemory.allCases.filter { floor.isOnHost ? true : $0 > floor.keeps }
    let extra = kinds.map { kind -> Int in
      var layers = all
      layers[count - 1] = ActivationPlan.Layer(kind)
      return max(0, extent.activationByteCounts(plan(layers), on: device).device - least.device)
    }
    let perHostLayer = floor.isOnHost ? least.host / max(count, 1) : 0
    let work = kinds.map { costs.again(keeping: $0, tiles: tiles) }
    let floorWork = costs.again(keeping: floor.keeps, tiles: tiles)
    let fixed = Double(count) * costs.layer(tiles: tiles) + costs.ends(extent, base, on: device)
    var best: (counts: [Int], seconds: Double)?
    // The last kind keeps everything and takes what is left; the others are enumerated.
    func search(_ index: Int, _ left: Int, _ spent: Int, _ again: Double, _ counts: [Int]) {
      guard index < kinds.count - 1 else {
        let most = extra[index] > 0 ? min(left, (free - least.device - spent) / extra[index]) : left
        let atFloor = left - most
        guard !floor.isOnHost || atFloor * perHostLayer <= hostBudget else { return }
        let seconds = costs.together(
          fixed + again + Double(atFloor) * floorWork, hostBytes: atFloor * perHostLayer)
        if seconds < (best?.seconds ?? .infinity) { best = (counts + [most], seconds) }
        return
      }
      for number in 0...left {
        let bytes = spent + number * extra[index]
        if least.device + bytes > free { break }
        search(index + 1, left - number, bytes, again + Double(number) * work[index], counts + [number])
      }
    }
    search(0, count, 0, 0, [])
    guard let best else { return nil }
    let more = zip(kinds, best.counts).flatMap { [ActivationPlan.Layer](repeating: .init($0), count: $1) }
    let layers = [ActivationPlan.Layer](repeating: floor, count: count - more.count) + more
    let result = plan(layers)
    // Layers are not quite independent: what they share depends on which kinds there are.
    let fits = extent.activationByteCounts(result, on: device).device <= free
    guard fits || least.host <= hostBudget else { return nil }
    let fitting = fits ? result : plan(all)
    return (fitting, costs.seconds(of: fitting, extent, on: device))
  }
}
