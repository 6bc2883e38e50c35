import Models

extension LanguageModel {
  /// The policy that recomputes the fewest layers and still fits `budget` bytes beside what the process holds now.
  /// - Throws: when not even recomputing everything fits, with the number of tokens that would.
  package func recomputePolicy(
    _ wanted: TrainingConfiguration.Recompute, tokens: Int, budget: Int?
  ) throws -> RecomputePolicy {
    switch wanted {
    case .none: return .none
    case .all: return .all
    case .auto: break
    }
    let free: Int
    if let memory = device.memory {
      // A little stays for what operations allocate when they first need it.
      free = min(memory.free - (512 << 20), budget.map { $0 - memory.used } ?? .max)
    } else if let budget {
      free = budget - ProcessMemory.residentByteCount
    } else if let available = ProcessMemory.availableByteCount {
      // The rest is for whatever else the machine is doing.
      free = available / 10 * 9
    } else {
      return .none
    }
    func fits(_ policy: RecomputePolicy, _ tokens: Int) -> Bool {
      activationByteCount(tokens: tokens, recompute: policy) <= free
    }
    if fits(.none, tokens) { return .none }
    guard fits(.all, tokens) else {
      var (fitting, tooMany) = (0, tokens)
      while tooMany - fitting > 32 {
        let middle = (fitting + tooMany) / 2
        if fits(.all, middle) { fitting = middle } else { tooMany = middle }
      }
      let needed = formatByteCount(activationByteCount(tokens: tokens, recompute: .all))
      throw TrainingError(
        "a micro-batch of \(tokens) tokens needs \(needed) of activations and \(formatByteCount(max(0, free))) are free; "
          + (fitting > 0
            ? "at most \(fitting) tokens fit: lower --batch-size or --max-seq-length"
            : "raise --memory or use a smaller model"))
    }
    var (tooFew, enough) = (0, configuration.layerCount)
    while enough - tooFew > 1 {
      let middle = (tooFew + enough) / 2
      if fits(.layers(middle), tokens) { enough = middle } else { tooFew = middle }
    }
    return .layers(enough)
  }
}
