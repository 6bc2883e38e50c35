import ModelFiles
import Models
import Tensors

/// The search for what layers keep, for one or several ways to keep the weights.
struct ActivationSearch {
  /// What is left beside weights that are kept in one way.
  struct Option {
    /// Bytes of the device's memory for activations.
    var free: Int
    /// Bytes of the host's.
    var hostFree: Int
    /// What travels beside what layers keep.
    var traffic: HostTraffic
  }

  /// What was found.
  struct Result {
    var plan: ActivationPlan
    var seconds: Double
    /// The option that it belongs to.
    var option: Int
  }

  let extent: TrainingExtent
  let context: Int
  let rates: DeviceRates
  let options: [Option]

  /// The fastest plan that fits one of the options and takes less than `limit` seconds; nil where none does.
  func best(faster limit: Double? = nil, on device: any Device) -> Result? {
    guard options.contains(where: { $0.free > 0 }) else { return nil }
    var best: Result?
    var seconds: Double? { best?.seconds ?? limit }
    let costs = StepCosts(extent, context: context, rates: rates, on: device)
    for tile in tiles {
      for headRows in [device.headRows, 256, 64] where headRows <= device.headRows {
        for roundsInputs in [false, true] {
          for floor in floors {
            let base = ActivationPlan(
              [], rest: .everything, roundsInputs: roundsInputs, tile: tile, headRows: headRows)
            if let found = Filling(self, base, floor, costs, on: device)?.best(faster: seconds, on: device) {
              best = found
            }
          }
          for kind in hostKinds {
            let base = ActivationPlan(
              [], rest: .everything, roundsInputs: roundsInputs, tile: tile, headRows: headRows)
            let filling = Filling(self, base, ActivationPlan.Layer(.input), sending: kind, costs, on: device)
            if let found = filling?.best(faster: seconds, on: device) { best = found }
          }
        }
        guard extent.tokens >= GroupSearch.leastTokens else { continue }
        let base = ActivationPlan([], rest: .input, roundsInputs: true, tile: tile, headRows: headRows)
        if let found = GroupSearch(self, base, costs, on: device).best(faster: seconds, on: device) { best = found }
      }
    }
    return best
  }

  /// Bytes on the device of the plan that takes least.
  func leastByteCount(on device: any Device) -> Int {
    var base = ActivationPlan([], rest: .input, roundsInputs: true, headRows: 64)
    base.tile = tiles.last ?? nil
    let alone = floors.map { floor in
      var plan = base
      plan.layers = [ActivationPlan.Layer](repeating: floor, count: extent.configuration.layerCount)
      return extent.activationByteCounts(plan, on: device).device
    }
    let least = alone.min() ?? 0
    return extent.tokens < GroupSearch.leastTokens
      ? least : min(least, GroupSearch.leastByteCount(self, base, on: device))
  }

  /// Pieces of a batch: ever smaller ones.
  private var tiles: [Int?] {
    let sizes = stride(from: 15, through: 8, by: -1).map { 1 << $0 }
    return [nil] + sizes.filter { $0 < extent.tokens }.map { Optional($0) }
  }

  /// What some of the layers keep with the host, between others that keep their input.
  private var hostKinds: [LayerMemory] {
    options.allSatisfy { $0.hostFree <= 0 } || extent.configuration.layerCount < 4 ? [] : [.projections, .everything]
  }

  /// What a layer keeps that keeps least.
  private var floors: [ActivationPlan.Layer] {
    let onDevice = [ActivationPlan.Layer(.input)]
    if options.allSatisfy({ $0.hostFree <= 0 }) { return onDevice }
    return onDevice + [ActivationPlan.Layer(.input, isOnHost: true), ActivationPlan.Layer(.attention, isOnHost: true)]
  }
}

/// The plans in which some layers are at a floor and the others keep more: on the device, or, of one kind, with the host.
private struct Filling {
  private let search: ActivationSearch
  private let base: ActivationPlan
  private let floor: ActivationPlan.Layer
  private let costs: StepCosts
  private let count: Int
  /// What the plan takes in which all layers are at the floor.
  private let least: (device: Int, host: Int)
  private let kinds: [LayerMemory]
  /// By kind: what the plan grows by when one layer keeps more than the floor, and what that layer computes again.
  private let extra: [Int]
  private let work: [Double]
  private let floorWork: Double
  /// Of layers that keep more with the host: what they share on the device, what each of them spares there, takes of the host and
  /// computes again.
  private let sent: (kind: LayerMemory, shared: Int, spares: Int, host: Int, work: Double)?
  private let layers: Double
  private let ends: Double

  /// nil where not even the floor fits.
  init?(
    _ search: ActivationSearch, _ base: ActivationPlan, _ floor: ActivationPlan.Layer, sending kind: LayerMemory? = nil,
    _ costs: StepCosts, on device: any Device
  ) {
    let extent = search.extent
    let count = extent.configuration.layerCount
    let tiles = base.tile.map { (extent.tokens + $0 - 1) / $0 } ?? 1
    func bytes(_ layers: [ActivationPlan.Layer]) -> (device: Int, host: Int) {
      var plan = base
      plan.layers = layers
      return extent.activationByteCounts(plan, on: device)
    }
    let all = [ActivationPlan.Layer](repeating: floor, count: count)
    let least = bytes(all)
    guard search.options.contains(where: { least.device <= $0.free }) else { return nil }
    (self.search, self.base, self.floor, self.costs, self.count, self.least) = (
      search, base, floor, costs, count, least
    )
    kinds = kind == nil ? LayerMemory.allCases.filter { floor.isOnHost ? true : $0 > floor.keeps } : [.everything]
    sent = kind.map { kind in
      func sending(_ number: Int) -> (device: Int, host: Int) {
        let hosts = [ActivationPlan.Layer](repeating: .init(kind, isOnHost: true), count: number)
        return bytes(all.dropLast(number) + hosts)
      }
      let (two, three) = (sending(2), sending(3))
      let spares = two.device - three.device
      return (
        kind, two.device - least.device + 2 * spares, spares, three.host - two.host,
        costs.again(keeping: kind, tiles: tiles)
      )
    }
    extra = kinds.map { kind -> Int in
      var layers = all
      layers[count - 1] = ActivationPlan.Layer(kind)
      return max(0, bytes(layers).device - least.device)
    }
    work = kinds.map { costs.again(keeping: $0, tiles: tiles) }
    floorWork = costs.again(keeping: floor.keeps, tiles: tiles)
    layers = Double(count) * costs.layer(tiles: tiles)
    ends = costs.ends(extent, base, on: device)
  }

  /// The fastest plan of all options, where it takes less than `limit` seconds.
  func best(faster limit: Double?, on device: any Device) -> ActivationSearch.Result? {
    var best: ActivationSearch.Result?
    for (index, option) in search.options.enumerated()
    where least.device <= option.free && option.hostFree >= 0 {
      guard let (hosts, counts) = counts(option, faster: best?.seconds ?? limit) else { continue }
      let more = zip(kinds, counts).flatMap { [ActivationPlan.Layer](repeating: .init($0), count: $1) }
      var plan = base
      // Those that travel lie evenly among those that do not, which give them time.
      let others = count - more.count
      plan.layers = (0..<others).map { index in
        guard let sent, (index + 1) * hosts / others > index * hosts / others else { return floor }
        return ActivationPlan.Layer(sent.kind, isOnHost: true)
      }
      plan.layers += more
      // Layers are not quite independent: what they share depends on which kinds there are.
      if search.extent.activationByteCounts(plan, on: device).device > option.free {
        guard least.host <= option.hostFree else { continue }
        plan.layers = [ActivationPlan.Layer](repeating: floor, count: count)
      }
      let seconds = costs.seconds(of: plan, search.extent, option.traffic, on: device)
      if seconds < best?.seconds ?? limit ?? .infinity {
        best = ActivationSearch.Result(plan: plan, seconds: seconds, option: index)
      }
    }
    return best
  }

  /// How many layers keep more with the host, and how many what of ``kinds``, in the fastest plan.
  private func counts(_ option: ActivationSearch.Option, faster limit: Double?) -> (hosts: Int, counts: [Int])? {
    let perHostLayer = floor.isOnHost ? least.host / max(count, 1) : 0
    var best: (hosts: Int, counts: [Int], seconds: Double)?
    var hosts = 0
    var counts = [Int](repeating: 0, count: kinds.count)
    // The last kind keeps everything and takes what is left; the others are enumerated.
    func search(_ index: Int, _ left: Int, _ spent: Int, _ again: Double) {
      guard index < kinds.count - 1 else {
        let most = extra[index] > 0 ? min(left, (option.free - least.device - spent) / extra[index]) : left
        let atFloor = left - most
        guard !floor.isOnHost || atFloor * perHostLayer <= option.hostFree else { return }
        let seconds = costs.together(
          layers, again: again + Double(atFloor) * floorWork, ends: ends,
          hostBytes: atFloor * perHostLayer + hosts * (sent?.host ?? 0), option.traffic)
        if seconds < best?.seconds ?? limit ?? .infinity {
          counts[index] = most
          best = (hosts, counts, seconds)
        }
        return
      }
      for number in 0...left {
        let bytes = spent + number * extra[index]
        if least.device + bytes > option.free { break }
        counts[index] = number
        search(index + 1, left - number, bytes, again + Double(number) * work[index])
      }
    }
    if let sent {
      for number in 2...count {
        if number * sent.host > option.hostFree { break }
        let spent = sent.shared - number * sent.spares
        if least.device + spent > option.free { continue }
        hosts = number
        search(0, count - number, spent, Double(number) * sent.work)
      }
    } else {
      search(0, count, 0, 0)
    }
    return best.map { ($0.hosts, $0.counts) }
  }
}
