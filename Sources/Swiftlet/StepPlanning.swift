import ModelFiles
import Models
import Tensors
import Training

/// What a training step of a model takes on a device, before the model is loaded.
public enum StepPlanning {
  /// A planner of micro-batches of `tokens` tokens in documents of `context` of them.
  /// - Parameters:
  ///   - checkpoint: What the model is stored in; what it holds in NF4 stays so. nil: nothing is known but the shape.
  ///   - memory: Bytes of the device's memory to stay within; nil: what is free.
  ///   - hostMemory: Bytes of the host's that a device with memory of its own may use beside it; nil: most of what is free.
  public static func planner(
    of configuration: ModelConfiguration, storedIn checkpoint: Checkpoint? = nil,
    quantization: TrainingConfiguration.Quantization = .none, keeping kept: Set<String> = [],
    head: TrainingConfiguration.Head = .auto, adapter: LoRAConfiguration = LoRAConfiguration(),
    quantizesMoments: Bool = false, tokens: Int, context: Int, memory: Int?, hostMemory: Int? = nil,
    on device: any Device
  ) throws -> StepPlanner {
    let others = kept.isEmpty ? checkpoint?.modulesBesideNF4 : kept
    let isNF4 = quantization != .none || others != nil
    let storages: [(isResident: Bool, storage: WeightStorage)] =
      isNF4
      ? (device.memory == nil ? [false] : [true, false]).map { ($0, .nf4(resident: $0, except: others ?? [])) }
      : [(true, .operands)]
    var extent = TrainingExtent(
      configuration, storage: storages[storages.count - 1].storage, adapter: adapter,
      quantizesMoments: quantizesMoments, tokens: tokens)
    // A tokenizer takes about 320 bytes for each of its tokens.
    extent.hostByteCount =
      (checkpoint?.embeddingByteCount ?? 0) + 320 * configuration.vocabularySize + extent.checkpointByteCount
    var planner = StepPlanner(
      extent, context: context, budget: MemoryAllowance.whole(memory, on: device),
      hostBudget: MemoryAllowance.host(hostMemory, beside: device),
      rates: try DeviceRates.known(on: device, for: configuration), storages: storages)
    planner.heads = try head.storages(for: configuration, on: device)
    return planner
  }

  /// How the weights of a run of `data` are best kept on a device with memory of its own, found before any is read; nil where the
  /// device has none, or nothing is left to choose.
  /// - Throws: where no step of the run fits, with the context that would.
  static func storage(
    for run: TrainingConfiguration, of data: @autoclosure () throws -> RunData, _ checkpoint: Checkpoint,
    keeping kept: Set<String>, on device: any Device
  ) throws -> WeightStorage? {
    guard device.memory != nil, !run.full, run.recompute == .auto else { return nil }
    let (tokens, context) = try data().largestBatch(of: run)
    let planner = try planner(
      of: checkpoint.configuration, storedIn: checkpoint, quantization: run.quantization, keeping: kept,
      head: run.head, adapter: LoRAConfiguration(run), quantizesMoments: run.optimizer == .adamw8bit, tokens: tokens,
      context: context, memory: run.memory, on: device)
    return try planner.fitting(on: device)
  }
}

extension StepPlanner {
  /// The storage of the fastest plan.
  /// - Throws: where none fits, with the context that would.
  func fitting(on device: any Device) throws -> WeightStorage {
    guard let plan = plan(on: device) else {
      let longest = longestContext(on: device)
      throw TrainingError(
        "no step of \(extent.tokens) tokens at once fits \(roundedByteCount(budget)): "
          + (longest > 0
            ? "one sample of \(longest) does; lower --batch-size or --max-seq-length"
            : "the model alone is too large; use --quantization nf4 or a smaller one"))
    }
    return plan.storage
  }
}
