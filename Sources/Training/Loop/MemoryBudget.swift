import ModelFiles
import Models

extension LanguageModel {
  /// The policy that computes least again and still fits `budget` bytes beside what the process holds now.
  /// - Parameter context: tokens of a document, which decide what attention costs.
  /// - Throws: when not even recomputing everything fits, with the number of tokens that would.
  package func recomputePolicy(
    _ wanted: TrainingConfiguration.Recompute, tokens: Int, context: Int, budget: Int?
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
    return cheapestPolicy(tokens: tokens, context: context, free: free)
  }

  /// What layers keep so that the least is computed again and `free` bytes are enough; keeping only inputs is.
  ///
  /// All layers are alike: of each level there are some, the first layers keeping least. A layer's bytes are those that the
  /// plan grows by when one layer keeps more.
  private func cheapestPolicy(tokens: Int, context: Int, free: Int) -> RecomputePolicy {
    let layers = configuration.layerCount
    func policy(_ counts: [Int]) -> RecomputePolicy {
      .levels(zip(LayerMemory.allCases, counts).flatMap { [LayerMemory](repeating: $0, count: $1) })
    }
    func bytes(_ policy: RecomputePolicy) -> Int { activationByteCount(tokens: tokens, recompute: policy) }
    let least = bytes(.all)
    let extra = LayerMemory.allCases.map {
      bytes(.levels([$0] + [LayerMemory](repeating: .input, count: layers - 1))) - least
    }
    let work = LayerMemory.allCases.map { configuration.recomputedWork(keeping: $0, context: context) }
    var best: (work: Double, counts: [Int]) = (.infinity, [layers, 0, 0, 0])
    for attention in 0...layers {
      for projections in 0...layers - attention {
        let spent = attention * extra[1] + projections * extra[2]
        guard least + spent <= free else { break }
        // As many as fit keep everything: nothing else takes their memory.
        let rest = layers - attention - projections
        let everything = extra[3] > 0 ? min(rest, (free - least - spent) / extra[3]) : rest
        let counts = [rest - everything, attention, projections, everything]
        let total = zip(counts, work).reduce(0) { $0 + Double($1.0) * $1.1 }
        if total < best.work { best = (total, counts) }
      }
    }
    return policy(best.counts)
  }
}

extension ModelConfiguration {
  /// Floating-point operations per token and layer that a layer which keeps `level` computes again.
  func recomputedWork(keeping level: LayerMemory, context: Int) -> Double {
    func product(_ modules: TargetModule...) -> Double {
      modules.reduce(0) { $0 + 2 * Double(size(of: $1).outputs) * Double(size(of: $1).inputs) }
    }
    // Causal: half of the pairs, two products each; and attention runs at about 0.85 of the products' rate.
    let attention = 2 * Double(context) * Double(headCount * headDimension) / 0.85
    return switch level {
    case .everything: 0
    case .projections: product(.gate, .up)
    case .attention: product(.gate, .up, .query, .key, .value, .output)
    case .input: product(.gate, .up, .query, .key, .value, .output) + attention
    }
  }
}
