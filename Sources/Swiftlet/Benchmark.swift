import CPUDevice
import ModelFiles
import Models
import Tensors
import Training

/// Times what users wait for on a loaded model: training steps, reading a prompt, writing an answer.
package final class Benchmark {
  /// What is timed.
  package enum Workload: Sendable, Equatable {
    /// Optimizer steps of LoRA with AdamW on `batch` documents of `length` tokens.
    case train(batch: Int, length: Int)
    /// Reading a prompt of `length` tokens.
    case prefill(length: Int)
    /// The loss of a text of `length` tokens, with the logits of every position.
    case evaluate(length: Int)
    /// Writing `count` tokens, one after the other, of each of `batch` sequences.
    case decode(batch: Int, count: Int)
    /// From a prompt of `length` tokens to the first token of its answer.
    case firstToken(length: Int)

    /// As the command line writes it: `train:4x512`, `prefill:512`, `evaluate:512`, `decode:128`, `decode:8x128`,
    /// `first-token:2048`.
    package init?(_ text: String) {
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      guard parts.count == 2 else { return nil }
      let sizes = parts[1].split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
      guard sizes.allSatisfy({ (1...1_048_576).contains($0) }) else { return nil }
      switch (parts[0], sizes.count) {
      case ("train", 2) where sizes[0] <= 4096 && sizes[1] > 1: self = .train(batch: sizes[0], length: sizes[1])
      case ("prefill", 1): self = .prefill(length: sizes[0])
      case ("evaluate", 1) where sizes[0] > 1: self = .evaluate(length: sizes[0])
      case ("decode", 1): self = .decode(batch: 1, count: sizes[0])
      case ("decode", 2) where sizes[0] <= LanguageModel.mostSequences:
        self = .decode(batch: sizes[0], count: sizes[1])
      case ("first-token", 1): self = .firstToken(length: sizes[0])
      default: return nil
      }
    }

    /// As the command line writes it.
    package var name: String {
      switch self {
      case .train(let batch, let length): "train:\(batch)x\(length)"
      case .prefill(let length): "prefill:\(length)"
      case .evaluate(let length): "evaluate:\(length)"
      case .decode(let batch, let count): batch == 1 ? "decode:\(count)" : "decode:\(batch)x\(count)"
      case .firstToken(let length): "first-token:\(length)"
      }
    }
  }

  /// What was measured.
  package struct Row: Sendable {
    /// The workload's name.
    package var name: String
    /// Tokens per second, from the median repetition.
    package var tokensPerSecond: Double
    /// Seconds of the median repetition.
    package var stepSeconds: Double
    /// The most memory that the process held since the row began; nil where the system does not say.
    package var peakBytes: Int?
    /// What the device itself says is taken of its memory, by everybody, at the row's end; nil on a CPU.
    package var deviceBytes: Int?
    /// What the planner expected of the row; nil where nothing is planned.
    package var predictedBytes: Int?
    package var predictedSeconds: Double?
    /// What layers keep; nil where nothing is trained.
    package var activations: ActivationPlan?
    /// The loss of the last repetition, nats per token; nil where there is none.
    package var loss: Double?
    /// The gradient's norm at the last repetition: a step that does nothing cannot look fast.
    package var gradientNorm: Double?
    /// Where the time of one more repetition went, as fractions that add up to 1.
    package var shares: [(name: String, share: Double)]
    /// Floating-point operations that the work itself needs, per second, nothing counted that is computed again; nil where
    /// nobody counts them.
    package var operationsPerSecond: Double?
  }

  /// What the device calls itself.
  package var device: String { timed.description }
  /// Layers of the model.
  package var layerCount: Int { model.configuration.layerCount }
  let timed: TimedDevice
  let model: LanguageModel
  private let text: [Int32]
  /// Bytes that a run may take; nil: what is free.
  private let memory: Int?
  /// Bytes that it may take of the host's memory beside a device with its own; nil: most of what is free.
  private let hostMemory: Int?
  private var warmUps = 2
  /// The rank of the adapter that learns, and that prompts and answers go through; nil: 16, and through none.
  package var loraRank: Int?

  /// Loads a model.
  ///
  /// `text` is repeated as often as needed; where it is empty, tokens are drawn from a fixed seed.
  package init(
    _ checkpoint: Checkpoint, on device: any Device, storage: WeightStorage = .operands, memory: Int? = nil,
    hostMemory: Int? = nil, text: [Int32] = []
  ) throws {
    timed = TimedDevice(device)
    model = try LanguageModel(checkpoint, on: timed, storage: storage)
    (self.memory, self.hostMemory) = (memory, hostMemory)
    self.text = text
  }

  /// A model of random weights in the shape of `configuration`.
  package init(
    random configuration: ModelConfiguration, on device: any Device, storage: WeightStorage = .operands,
    memory: Int? = nil, hostMemory: Int? = nil
  ) throws {
    timed = TimedDevice(device)
    model = try LanguageModel(random: configuration, on: timed, storage: storage)
    (self.memory, self.hostMemory) = (memory, hostMemory)
    text = []
  }

  /// How weights are best kept for the largest training step among `workloads`; nil where the device's memory is the host's, or
  /// nothing is trained.
  package static func storage(
    of configuration: ModelConfiguration, for workloads: [Workload],
    _ quantization: TrainingConfiguration.Quantization, head: TrainingConfiguration.Head, memory: Int?,
    hostMemory: Int? = nil,
    on device: any Device
  ) throws -> WeightStorage? {
    let steps = workloads.compactMap { workload -> (tokens: Int, context: Int)? in
      guard case .train(let batch, let length) = workload else { return nil }
      return (batch * length, length)
    }
    guard device.memory != nil, let largest = steps.max(by: { $0.tokens < $1.tokens }) else { return nil }
    let planner = try StepPlanning.planner(
      of: configuration, quantization: quantization, head: head, tokens: largest.tokens, context: largest.context,
      memory: memory, hostMemory: hostMemory, on: device)
    return try planner.fitting(on: device)
  }

  /// Times `repetitions` of a workload after `warmUps` that are not timed.
  package func run(_ workload: Workload, repetitions: Int, warmUps: Int = 2) throws -> Row {
    self.warmUps = warmUps
    if case .train = workload {
      _ = try DeviceRates.known(on: timed, for: model.configuration)
    } else if let loraRank {
      let adapter = try model.makeAdapter(LoRAConfiguration(rank: loraRank), training: false)
      try adapter.initialize(seed: 3407)
      model.attach(adapter)
    } else {
      model.attach(nil)
    }
    ProcessMemory.resetPeak()
    timed.resetPeak()
    switch workload {
    case .train(let batch, let length): return try train(workload, batch, length, repetitions)
    case .prefill(let length):
      let tokens = tokens(0..<length)
      return try measure(workload, tokens: length, repetitions) {
        _ = try model.extend(model.makeCache(capacity: length + timed.rowAlignment), with: tokens)
        return (nil, nil)
      }
    case .evaluate(let length):
      let batch = self.batch(1, length, at: 0)
      return try measure(workload, tokens: length, repetitions) {
        (try model.evaluate(batch) / Double(batch.trainedTokenCount), nil)
      }
    case .decode(let batch, let count):
      let length = 32
      let begun = try (0..<batch).map { index in
        let prompt = tokens(index * length..<(index + 1) * length)
        let sequence = try model.begin(
          model.makeCache(capacity: length + count), with: prompt, SamplingOptions(), seen: prompt,
          plannedLength: length + count)
        return (sequence, sequence.last)
      }
      return try measure(workload, tokens: batch * count, repetitions) {
        for (sequence, first) in begun { sequence.rewind(to: length, last: first) }
        for _ in 0..<count { try model.step(begun.map(\.0)) }
        return (nil, nil)
      }
    case .firstToken(let length):
      let tokens = tokens(0..<length)
      return try measure(workload, tokens: length, repetitions) {
        let cache = try model.makeCache(capacity: length + 1)
        _ = try model.begin(cache, with: tokens, SamplingOptions(), seen: tokens)
        return (nil, nil)
      }
    }
  }

  private func train(_ workload: Workload, _ batch: Int, _ length: Int, _ repetitions: Int) throws -> Row {
    let (adapter, optimizer) = try beginLearning()
    defer { model.attach(nil) }
    let tokens = batch * length
    timed.limitMemory(to: memory)
    defer { timed.limitMemory(to: nil) }
    let plan = try model.activationPlan(.auto, tokens: tokens, context: length, budget: memory, hostBudget: hostMemory)
    try model.reserve(tokens: tokens, plan)
    var extent = TrainingExtent(
      model.configuration, storage: model.storage, adapter: adapter.configuration, quantizesMoments: false,
      tokens: tokens)
    extent.hostByteCount = model.checkpoint?.embeddingByteCount ?? 0
    let rates = try DeviceRates.known(on: timed, for: model.configuration)
    var step = 0
    let operations = model.configuration.trainingOperations(context: length) * Double(tokens)
    var row = try measure(workload, tokens: tokens, repetitions, operations: operations) {
      let result = try model.trainingStep(
        [self.batch(batch, length, at: step * batch * length)], optimizer, learningRate: 2e-4, seed: 3407)
      step += 1
      return (result.loss, result.gradientNorm)
    }
    row.activations = plan
    row.predictedBytes = extent.footprint(plan, on: timed).total
    row.predictedSeconds = extent.seconds(of: plan, context: length, rates: rates, on: timed)
    return row
  }

  /// An adapter that learns, attached until another is.
  func beginLearning() throws -> (Adapter, Optimizer) {
    try model.prepareForTraining()
    let adapter = try model.makeAdapter(LoRAConfiguration(rank: loraRank ?? 16), training: true)
    try adapter.initialize(seed: 3407)
    model.attach(adapter)
    return (adapter, try Optimizer(adapter, on: timed, momentsAreOnHost: model.storage.momentsAreOnHost))
  }

  private func measure(
    _ workload: Workload, tokens: Int, _ repetitions: Int, operations: Double? = nil,
    _ work: () throws -> (loss: Double?, norm: Double?)
  ) throws -> Row {
    var result: (loss: Double?, norm: Double?)
    func timing(_ work: () throws -> Void) rethrows -> Double {
      let start = ContinuousClock.now
      try work()
      let elapsed = (ContinuousClock.now - start).components
      return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
    }
    for _ in 0..<warmUps { result = try work() }
    var seconds: [Double] = []
    // Shares come from a repetition of their own, so that the others run without marks; the only one carries them itself.
    if repetitions > 1 {
      for _ in 0..<repetitions { seconds.append(try timing { result = try work() }) }
    }
    var times: [TimeShare: Double] = [:]
    let total = try timing { times = try timed.timing { result = try work() } }
    if repetitions <= 1 { seconds.append(total) }
    let median = seconds.sorted()[seconds.count / 2]
    var shares = TimeShare.allCases.map { ($0.rawValue, (times[$0] ?? 0) / total) }
    // What is left: the device waits for the host, or the host works by itself.
    shares.append(("idle", max(0, 1 - shares.reduce(0) { $0 + $1.1 })))
    return Row(
      name: workload.name, tokensPerSecond: Double(tokens) / median, stepSeconds: median,
      peakBytes: timed.memory?.peak ?? ProcessMemory.peakByteCount, deviceBytes: timed.memory?.taken, loss: result.loss,
      gradientNorm: result.norm,
      shares: shares, operationsPerSecond: operations.map { $0 / median })
  }

  private func batch(_ count: Int, _ length: Int, at start: Int) -> PackedBatch {
    var batch = PackedBatch()
    for document in 0..<count {
      let begin = start + document * length
      batch.append(tokens(begin..<begin + length), isTrained: [Bool](repeating: true, count: length))
    }
    return batch
  }

  private func tokens(_ range: Range<Int>) -> [Int32] {
    if !text.isEmpty { return range.map { text[$0 % text.count] } }
    var random = RandomSource(seed: 3407, stream: UInt64(range.lowerBound))
    return range.map { _ in Int32(clamping: random.next(below: model.configuration.vocabularySize)) }
  }
}

extension ModelConfiguration {
  /// Floating-point operations of one token's training with frozen weights: 4 per weight and token, forward and the
  /// gradient of the input, adapters left out; and attention's seven products over half of all pairs.
  func trainingOperations(context: Int) -> Double {
    let weights = Double(projectionParameterCount + vocabularySize * hiddenSize)
    return 4 * weights + Double(layerCount * 7 * context * headCount * headDimension)
  }
}
