import ModelFiles
import Models
import Tensors

/// What a training step is planned to do, and what that is expected to take.
public struct StepPlan: Sendable {
  /// What is kept between the passes.
  public var activations: ActivationPlan
  /// Whether quantized matrices are dequantized once and kept so.
  public var weightsAreResident: Bool
  /// How the weights are kept.
  public var storage: WeightStorage
  /// Bytes, part by part.
  public var footprint: TrainingFootprint
  /// Seconds of a step of one micro-batch.
  public var seconds: Double
}

/// Finds the fastest training step that fits a budget of memory.
///
/// All layers are alike: of each kind of memory there are some, and a step is the sum of its layers. The search goes over how
/// many of each there are, and over what concerns all of them; what a plan takes is counted by the layout itself.
public struct StepPlanner {
  /// The model, its adapter, and the most tokens of a micro-batch; its storage where nothing is chosen.
  public var extent: TrainingExtent
  /// Tokens of a document: what attention costs.
  public var context: Int
  /// Bytes of the device's memory.
  public var budget: Int
  /// Bytes of the host's memory that layers may use; 0: none.
  public var hostBudget: Int
  /// How fast the device is.
  public var rates: DeviceRates
  /// How the head may be kept, what changes it least first: others are tried only where nothing fits with those before.
  public var heads: [FrozenStorage] = [.operands]
  /// Storages to choose from; true: dequantized once.
  public var storages: [(isResident: Bool, storage: WeightStorage)]

  /// A planner for what `extent` says.
  public init(
    _ extent: TrainingExtent, context: Int, budget: Int, hostBudget: Int, rates: DeviceRates,
    storages: [(isResident: Bool, storage: WeightStorage)]
  ) {
    self.extent = extent
    self.context = context
    self.budget = budget
    self.hostBudget = hostBudget
    self.rates = rates
    self.storages = storages
  }

  /// The fastest plan; nil where none fits.
  public func plan(on device: any Device) -> StepPlan? {
    for head in heads {
      if let plan = plan(head: head, on: device) { return plan }
    }
    return nil
  }

  private func plan(head: FrozenStorage, on device: any Device) -> StepPlan? {
    let count = extent.configuration.layerCount
    let step = max(1, count / 10)
    guard let first = plan(streaming: Array(stride(from: 0, to: count, by: step)) + [count], head, on: device)
    else {
      return nil
    }
    let streamed = first.storage.streamedLayers.count
    guard streamed > 0, step > 1 else { return first }
    // Between the numbers that were tried.
    let near = max(1, streamed - step + 1)...min(count, streamed + step - 1)
    guard let second = plan(streaming: Array(near), head, on: device), second.seconds < first.seconds else {
      return first
    }
    return second
  }

  /// The fastest plan with one of these numbers of layers whose weights come from the host.
  private func plan(streaming counts: [Int], _ head: FrozenStorage, on device: any Device) -> StepPlan? {
    var best: StepPlan?
    for (isResident, storage) in storages {
      for onHost in [false, true] where !onHost || (device.embedsTokens && !extent.configuration.tiesEmbeddings) {
        let kept = (onHost ? storage.withEmbeddingOnHost() : storage).withHead(head)
        let storages = streamings(counts, of: kept, isResident: isResident, on: device)
        let extents = storages.map { storage in
          var extent = extent
          extent.storage = storage
          return extent
        }
        let options = extents.map { extent -> ActivationSearch.Option in
          let fixed = extent.fixedFootprint(on: device)
          return ActivationSearch.Option(
            free: budget - fixed.total, hostFree: hostBudget - fixed.host,
            traffic: HostTraffic(extent, on: device))
        }
        let search = ActivationSearch(extent: extents[0], context: context, rates: rates, options: options)
        guard let found = search.best(faster: best?.seconds, on: device) else { continue }
        best = StepPlan(
          activations: found.plan, weightsAreResident: isResident, storage: storages[found.option],
          footprint: extents[found.option].footprint(found.plan, on: device), seconds: found.seconds)
      }
    }
    return best
  }

  /// A storage with each of some numbers of layers whose weights come from the host; as it is first, where that is asked for.
  private func streamings(
    _ counts: [Int], of storage: WeightStorage, isResident: Bool, on device: any Device
  ) -> [WeightStorage] {
    let isNF4 = extent.storage[TargetModule.down.path(layer: 0)] != .operands
    // What is dequantized once is there for its speed.
    guard device.memory != nil, hostBudget > 0, !(isResident && isNF4) else { return [storage] }
    let layers = extent.configuration.layerCount
    return counts.flatMap { count in
      let streamed =
        count == 0 ? [storage] : (1...2).map { storage.withStreamedLayers(count, of: layers, places: $0) }
      return streamed + streamed.map { $0.withMomentsOnHost() }
    }
  }

  /// The most tokens of a micro-batch of one document that some plan fits; 0 where none does.
  public func longestContext(on device: any Device) -> Int {
    func fits(_ tokens: Int) -> Bool {
      var planner = self
      planner.extent.tokens = tokens
      planner.context = tokens
      return heads.contains {
        planner.plan(streaming: [0, extent.configuration.layerCount], $0, on: device) != nil
      }
    }
    var (fitting, tooMany) = (0, 256)
    while tooMany < 1 << 24, fits(tooMany) { (fitting, tooMany) = (tooMany, tooMany * 2) }
    while tooMany - fitting > max(64, fitting / 64) {
      let middle = (fitting + tooMany) / 2 / 64 * 64
      if middle <= fitting || middle >= tooMany { break }
      if fits(middle) { fitting = middle } else { tooMany = middle }
    }
    return fitting
  }
}

extension TrainingExtent {
  /// What a step by `plan` is expected to take: seconds, for documents of `context` tokens at the device's rates.
  public func seconds(of plan: ActivationPlan, context: Int, rates: DeviceRates, on device: any Device) -> Double {
    StepCosts(self, context: context, rates: rates, on: device).seconds(
      of: plan, self, HostTraffic(self, on: device), on: device)
  }
}
