import ModelFiles
import Models
import Tensors

extension LanguageModel {
  /// The plan of the fastest step that fits `budget` bytes beside what the process holds now.
  /// - Parameters:
  ///   - context: tokens of a document, which decide what attention costs.
  ///   - copy: bytes of the host's memory that a checkpoint is copied to while steps go on.
  ///   - hostBudget: bytes of the host's memory, for weights and moments that lie there too; nil: most of what is free now.
  /// - Throws: when no plan fits, with the number of tokens that would.
  package func activationPlan(
    _ wanted: TrainingConfiguration.Recompute, tokens: Int, context: Int, budget: Int?, copy: Int = 0,
    hostBudget: Int? = nil
  ) throws -> ActivationPlan {
    switch wanted {
    case .none: return .everything
    case .all: return .inputs
    case .auto: break
    }
    guard var free = MemoryAllowance.left(of: budget, on: device) else { return .everything }
    func extent(_ tokens: Int) -> TrainingExtent {
      var extent = TrainingExtent(
        configuration, storage: storage, adapter: adapter?.configuration, quantizesMoments: false, tokens: tokens)
      // Rows that no token has asked for yet are still in the file alone.
      extent.hostByteCount = (checkpoint?.embeddingByteCount ?? 0) + copy
      return extent
    }
    free -= extent(tokens).lateByteCount(on: device)
    if activationByteCount(tokens: tokens, .everything) <= free { return .everything }
    let rates = try DeviceRates.known(on: device, for: configuration)
    let hostFree = MemoryAllowance.host(
      hostBudget.map { $0 - extent(tokens).fixedFootprint(on: device).host }, beside: device)
    func search(_ tokens: Int) -> ActivationSearch {
      let extent = extent(tokens)
      return ActivationSearch(
        extent: extent, context: min(context, tokens), rates: rates,
        options: [.init(free: free, hostFree: hostFree, traffic: HostTraffic(extent, on: device))])
    }
    if let found = search(tokens).best(on: device) { return found.plan }
    var (fitting, tooMany) = (0, tokens)
    while tooMany - fitting > 32 {
      let middle = (fitting + tooMany) / 2
      if search(middle).best(on: device) != nil { fitting = middle } else { tooMany = middle }
    }
    let needed = roundedByteCount(search(tokens).leastByteCount(on: device))
    throw TrainingError(
      "a micro-batch of \(tokens) tokens needs \(needed) of activations and \(roundedByteCount(max(0, free))) are free; "
        + (fitting > 0
          ? "at most \(fitting) tokens fit: lower --batch-size or --max-seq-length"
          : "raise --memory or use a smaller model"))
  }
}
