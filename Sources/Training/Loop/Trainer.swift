import ModelFiles
import Models
import Tensors

/// A run: steps, evaluations, checkpoints and metrics, in the order that the configuration, the data and the seed decide.
///
/// On one device and thread count the same run gives the same bits, and so does a run that was interrupted and resumed.
public final class Trainer {
  /// The run's folder.
  public let folder: RunFolder
  /// How much is computed twice to fit the memory.
  public let recompute: RecomputePolicy
  private let model: LanguageModel
  private var batches: BatchSource
  private let evalData: TokenizedDataset?
  private let configuration: TrainingConfiguration
  private let learningRates: LearningRateSchedule
  private let adapter: Adapter
  private let optimizer: AdapterOptimizer
  private let metrics: MetricsLog
  private var state: TrainerState
  private var evalLoss: Double?

  /// Prepares a run, or one that goes on where its folder's latest checkpoint stands.
  /// - Parameters:
  ///   - folder: made by `RunFolder.create`, or by `RunFolder.resume` when `configuration.resume`.
  ///   - start: The adapter that a new run goes on from, whose shape the configuration has; `nil`: a fresh one.
  public init(
    _ model: LanguageModel, data: TokenizedDataset, evalData: TokenizedDataset?, configuration: TrainingConfiguration,
    folder: RunFolder, startingFrom start: AdapterSum? = nil
  ) throws {
    self.model = model
    self.evalData = evalData
    self.configuration = configuration
    self.folder = folder
    batches = BatchSource(data, options: BatchSchedule.Options(configuration))
    let totalSteps = batches.schedule.totalSteps(epochs: configuration.epochs, maxSteps: configuration.maxSteps)
    learningRates = LearningRateSchedule(configuration, totalSteps: totalSteps)
    let settings = RunSettings(configuration, data: data.fingerprint)

    try model.prepareForTraining()
    adapter = try model.makeAdapter(
      LoRAConfiguration(
        rank: configuration.loraRank, alpha: configuration.loraAlpha, useRSLoRA: configuration.useRSLoRA,
        dropout: configuration.loraDropout,
        targetModules: Set(configuration.targetModules.compactMap { TargetModule(rawValue: $0) })),
      training: true)
    optimizer = try AdapterOptimizer(
      adapter, on: model.device,
      options: AdapterOptimizer.Options(
        beta1: configuration.adamBeta1, beta2: configuration.adamBeta2, epsilon: configuration.adamEpsilon,
        weightDecay: configuration.weightDecay, maxGradientNorm: configuration.maxGradientNorm))
    state = TrainerState(totalSteps: totalSteps, settings: settings)

    if configuration.resume {
      let (entry, damaged) = folder.checkpoints.latest()
      guard let entry else {
        throw RunError(
          folder.path, damaged.first ?? "no checkpoint to resume from; start the run without --resume")
      }
      let saved = try TrainerState.load(from: entry.path)
      try settings.requireSame(as: saved.settings, in: entry.path)
      state = saved
      try adapter.load(AdapterFile.load(folder: entry.path, for: model.configuration))
      try Self.restore(optimizer, adapter, step: saved.step, from: "\(entry.path)/\(Self.optimizerFileName)")
      metrics = try MetricsLog(path: folder.metricsPath, resumedAtStep: saved.step)
    } else {
      if let start { try adapter.load(start) } else { try adapter.initialize(seed: configuration.seed) }
      metrics = try MetricsLog(path: folder.metricsPath)
    }
    model.attach(adapter)

    let longest = max(data.counts.longest, evalData?.counts.longest ?? 0)
    let row = configuration.packing ? max(configuration.maxSequenceLength, longest) : longest
    let tokens = max(batches.schedule.mostTokens, configuration.batchSize * (evalData?.counts.longest ?? 0))
    recompute = try model.recomputePolicy(
      configuration.recompute, tokens: tokens, context: row, budget: configuration.memory)
    try model.reserve(tokens: tokens, recompute: recompute)
  }

  /// Steps of the whole run.
  public var totalSteps: Int { state.totalSteps }
  /// Steps done, those of earlier processes included.
  public var stepsDone: Int { state.step }
  /// The number of learned parameters.
  public var parameterCount: Int { adapter.count }

  // MARK: The loop

  /// Trains until the last step, or until `onProgress` says stop; then the run is saved either way.
  ///
  /// A step whose loss or gradient is not finite throws; the folder then holds what was saved before it.
  public func run(onProgress: (TrainingProgress) -> TrainingDecision = { _ in .continue }) throws -> TrainingSummary {
    let adapterBytes = adapter.count * 4
    try folder.checkSpace(byteCount: adapterBytes * 4 + (1 << 20))
    let began = MonotonicClock.now()
    var trainingSeconds = 0.0
    var trainingTokens = 0
    var stopped = false
    if let evalData, state.step == 0 {
      evalLoss = try evaluate(evalData)
      state.firstEvalLoss = evalLoss
      try metrics.append(MetricsLine(step: 0, evalLoss: evalLoss))
    }
    while state.step < state.totalSteps, !stopped {
      let microBatches = try batches.microBatches(ofStep: state.step)
      let learningRate = learningRates.learningRate(atStep: state.step)
      let stepBegan = MonotonicClock.now()
      let result = try model.trainingStep(microBatches, optimizer, learningRate: learningRate, seed: configuration.seed)
      let seconds = MonotonicClock.now() - stepBegan
      trainingSeconds += seconds
      trainingTokens += result.tokens
      note(result)
      evalLoss = nil
      let isLast = state.step == state.totalSteps
      if let evalData, isLast || configuration.evalSteps.map({ state.step % $0 == 0 }) ?? false {
        let loss = try evaluate(evalData)
        evalLoss = loss
      }
      let progress = TrainingProgress(
        step: state.step, totalSteps: state.totalSteps, loss: result.loss, learningRate: learningRate,
        gradientNorm: result.gradientNorm, tokensPerSecond: Double(result.tokens) / max(seconds, 1e-9),
        tokens: state.tokens, evalLoss: evalLoss,
        eta: trainingSeconds / Double(max(1, trainingTokens)) * Double(result.tokens)
          * Double(state.totalSteps - state.step),
        peakBytes: (model.device.memory?.peak ?? ProcessMemory.peakByteCount))
      if state.step % max(1, configuration.logSteps) == 0 || isLast || evalLoss != nil {
        try metrics.append(
          MetricsLine(
            step: state.step, loss: result.loss, learningRate: learningRate, gradientNorm: result.gradientNorm,
            tokensPerSecond: progress.tokensPerSecond, tokens: state.tokens, evalLoss: evalLoss))
      }
      stopped = onProgress(progress) == .stop && !isLast
      let due = configuration.saveSteps > 0 && state.step % configuration.saveSteps == 0
      let best = evalLoss.map { $0 < state.bestEvalLoss ?? .infinity } ?? false
      if best {
        state.bestEvalLoss = evalLoss
        state.bestStep = state.step
      }
      if due || stopped || isLast || best {
        try save()
        if best { try folder.checkpoints.markBest(step: state.step) }
      }
    }
    try adapter.save(to: folder.path, baseModel: configuration.model)
    return TrainingSummary(
      steps: state.step, totalSteps: state.totalSteps, firstLoss: state.firstLoss, lastLoss: state.lastLoss,
      evalBefore: state.firstEvalLoss, evalAfter: evalLoss, tokens: state.tokens,
      tokensPerSecond: trainingSeconds > 0 ? Double(trainingTokens) / trainingSeconds : 0,
      seconds: MonotonicClock.now() - began, peakBytes: (model.device.memory?.peak ?? ProcessMemory.peakByteCount),
      adapterPath: folder.path,
      stoppedEarly: stopped)
  }

  private func note(_ result: StepResult) {
    state.step += 1
    let next = batches.schedule.position(ofStep: state.step)
    (state.epoch, state.stepInEpoch) = next
    state.tokens += result.tokens
    state.trainedTokens += result.trainedTokens
    if state.firstLoss == nil { state.firstLoss = result.loss }
    state.lastLoss = result.loss
  }

  /// Mean loss of a dataset's trained tokens.
  private func evaluate(_ dataset: TokenizedDataset) throws -> Double {
    var loss = 0.0
    var tokens = 0
    for start in stride(from: 0, to: dataset.count, by: configuration.batchSize) {
      let batch = try dataset.batch(of: start..<min(start + configuration.batchSize, dataset.count))
      guard batch.trainedTokenCount > 0 else { continue }
      loss += try model.evaluate(batch)
      tokens += batch.trainedTokenCount
    }
    return loss / Double(max(1, tokens))
  }

  // MARK: Saving

  private static let optimizerFileName = "optimizer.safetensors"

  private func save() throws {
    let (first, second) = try optimizer.moments()
    try metrics.synchronize()
    _ = try folder.checkpoints.save(step: state.step, byteCount: adapter.count * 12 + (1 << 20)) { path in
      try adapter.save(to: path, baseModel: configuration.model)
      try first.withUnsafeBufferPointer { first in
        try second.withUnsafeBufferPointer { second in
          let tensors = Self.momentNames(adapter).map { name, part, isFirst in
            (
              name: name, shape: [part.rows, part.columns],
              values: UnsafeBufferPointer(rebasing: (isFirst ? first : second)[part.range])
            )
          }
          try StateTensors.write(tensors, to: "\(path)/\(Self.optimizerFileName)")
        }
      }
      try state.save(to: path)
    }
  }

  private static func restore(_ optimizer: AdapterOptimizer, _ adapter: Adapter, step: Int, from path: String) throws {
    var first = [Float](repeating: 0, count: adapter.count)
    var second = first
    try first.withUnsafeMutableBufferPointer { first in
      try second.withUnsafeMutableBufferPointer { second in
        let tensors = momentNames(adapter).map { name, part, isFirst in
          (
            name: name, shape: [part.rows, part.columns],
            values: UnsafeMutableBufferPointer(rebasing: (isFirst ? first : second)[part.range])
          )
        }
        try StateTensors.read(path, into: tensors)
      }
    }
    try optimizer.restore(first: first, second: second, step: step)
  }

  private static func momentNames(_ adapter: Adapter) -> [(String, Adapter.Part, Bool)] {
    adapter.parts.flatMap { [("\($0.name).first_moment", $0, true), ("\($0.name).second_moment", $0, false)] }
  }
}
