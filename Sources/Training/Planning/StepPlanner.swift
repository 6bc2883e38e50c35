import ModelFiles
import Models
import Tensors

/// What a training step is planned to do, and what that is expected to take.
public struct StepPlan: Sendable {
  /// What is kept between the passes.
  public var activations: ActivationPlan
  /// Whether quantized matrices are dequantized once and kept so.
  public var weightsAreResident: Bool
  /// Whether embedding rows are gathered in the host's memory.
  public var embeddingIsOnHost: Bool
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
    var best: StepPlan?
    for (isResident, storage) in storages {
      for onHost in [false, true] where !onHost || (device.embedsTokens && !extent.configuration.tiesEmbeddings) {
        var extent = extent
        extent.storage = onHost ? storage.withEmbeddingOnHost() : storage
        let fixed = extent.fixedFootprint(on: device)
        let search = ActivationSearch(
          extent: extent, context: context, free: budget - fixed.total, hostBudget: hostBudget, rates: rates)
        guard let found = search.best(on: device) else { continue }
        if let best, best.seconds <= found.seconds { continue }
        best = StepPlan(
          activations: found.plan, weightsAreResident: isResident, embeddingIsOnHost: onHost,
          footprint: extent.footprint(found.plan, on: device), seconds: found.seconds)
      }
    }
    return best
  }

  /// The most tokens of a micro-batch of one document that some plan fits; 0 where none does.
  public func longestContext(on device: any Device) -> Int {
    func fits(_ tokens: Int) -> Bool {
      var planner = self
      planner.extent.tokens = tokens
      planner.context = tokens
      return planner.plan(on: device) != nil
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
    StepCosts(self, context: context, rates: rates, on: device).seconds(of: plan, self, on: device)
  }
}
