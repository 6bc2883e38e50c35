import ModelFiles
import Models
import Tensors

/// A run: steps, evaluations, checkpoints and metrics, in the order that the configuration, the data and the seed decide.
///
/// On one device and thread count the same run gives the same bits, and so does a run that was interrupted and resumed.
public final class Trainer {
  /// Answers prompts with the model as it is, as long as `goesOn` says so: an answer for each, in their order.
  public typealias Sampler = (_ prompts: [String], _ maxTokens: Int, _ goesOn: () -> Bool) throws -> [String]

  /// The run's folder.
  public let folder: RunFolder
  /// What is kept between the passes to fit the memory.
  public let activationPlan: ActivationPlan
  /// Asked before every micro-batch, evaluated batch and token of an answer: true drops what is under way, to be done by the
  /// run that goes on, and the run ends as when a progress closure says stop.
  public var isStopRequested: () -> Bool = { false }
  let model: LanguageModel
  let configuration: TrainingConfiguration
  let learned: any LearnedParameters
  let optimizer: Optimizer
  let metrics: MetricsLog
  let saving = BackgroundWork()
  let average: RunningAverage?
  /// What lies beside the weights of a whole model.
  let companions: [(name: String, bytes: [UInt8])]
  let objective: Objective
  var state: TrainerState
  private var batches: BatchSource
  let heldOut: (data: TokenizedDataset, examples: [Int])?
  private let learningRates: LearningRateSchedule
  let sampler: Sampler?
  private let began: Double
  /// The step of the last checkpoint; nil while there is none.
  var savedStep: Int?
  /// The most seconds that a step has waited for a save.
  var longestSaveStall = 0.0

  /// Prepares a run, or one that goes on where its folder's latest checkpoint stands.
  /// - Parameters:
  ///   - folder: made by `RunFolder.create`, or by `RunFolder.resume` when `configuration.resume`.
  ///   - start: The adapter that a new run goes on from, whose shape the configuration has; `nil`: a fresh one.
  ///   - companions: Files that a model needs beside its weights, for runs that write models.
  ///   - sampler: answers `configuration.samplePrompts`.
  ///   - began: when the run's time began to count (`configuration.maxTime`), by ``MonotonicClock``.
  public init(
    _ model: LanguageModel, data: TokenizedDataset, evalData: TokenizedDataset?, configuration: TrainingConfiguration,
    folder: RunFolder, startingFrom start: AdapterSum? = nil, companions: [(name: String, bytes: [UInt8])] = [],
    sampler: Sampler? = nil, began: Double = MonotonicClock.now()
  ) throws {
    self.model = model
    self.configuration = configuration
    self.folder = folder
    self.sampler = sampler
    self.companions = configuration.full ? companions : []
    self.began = began
    let share = try configuration.evalShare.map {
      try HeldOutShare(of: data.count, share: $0, seed: configuration.seed)
    }
    heldOut = share.map { (data, $0.heldOut) } ?? evalData.map { ($0, Array(0..<$0.count)) }
    batches = BatchSource(data, chosen: share?.training, options: BatchSchedule.Options(configuration))
    let totalSteps = batches.schedule.totalSteps(epochs: configuration.epochs, maxSteps: configuration.maxSteps)
    learningRates = LearningRateSchedule(configuration, totalSteps: totalSteps)
    let settings = RunSettings(configuration, data: data.fingerprint)

    try model.prepareForTraining()
    objective = Objective(configuration)
    let adapter = configuration.full ? nil : try model.makeAdapter(LoRAConfiguration(configuration), training: true)
    let parameters: any LearnedParameters = try adapter ?? model.makeFullParameters()
    learned = parameters
    optimizer = try Optimizer(
      parameters, on: model.device, options: Optimizer.Options(configuration),
      momentsAreOnHost: model.storage.momentsAreOnHost)
    state = TrainerState(totalSteps: totalSteps, settings: settings)

    if configuration.resume, let saved = try Self.latest(in: folder, settings) {
      state = saved.state
      savedStep = state.step
      try learned.load(folder: saved.path)
      average = try configuration.emaDecay.map {
        let average = try RunningAverage(of: parameters, decay: $0, on: model.device)
        try average.restore(from: "\(saved.path)/\(Self.parametersFileName)")
        return average
      }
      try optimizer.restore(
        from: "\(saved.path)/\(Self.optimizerFileName)", step: state.step - state.skippedSteps)
      metrics = try MetricsLog(path: folder.metricsPath, resumedAtStep: state.step)
    } else {
      if let start, let adapter {
        try adapter.load(start)
      } else {
        try adapter?.initialize(seed: configuration.seed)
      }
      average = try configuration.emaDecay.map {
        try RunningAverage(of: parameters, decay: $0, on: model.device)
      }
      // Nothing stays of a run that ended before its first checkpoint.
      metrics = try MetricsLog(path: folder.metricsPath, resumedAtStep: configuration.resume ? -1 : nil)
    }
    if let adapter { model.attach(adapter) }

    let evalLengths = heldOut.map { heldOut in
      let lengths = heldOut.data.lengths
      return heldOut.examples.map { lengths[$0] }
    }
    let tokens = max(batches.schedule.mostTokens, configuration.batchSize * (evalLengths?.max() ?? 0))
    // Answers take memory that no step does.
    if configuration.samplePrompts.isEmpty { model.device.limitMemory(to: configuration.memory) }
    activationPlan = try model.activationPlan(
      configuration.recompute, tokens: tokens, context: max(data.counts.longest, evalData?.counts.longest ?? 0),
      budget: configuration.memory,
      copy: Self.copyByteCount(of: learned, average: average, optimizer: optimizer))
    try model.reserve(tokens: tokens, activationPlan)
  }

  /// The latest whole checkpoint, whose settings must be these; nil where the run ended before its first one, and begins anew.
  private static func latest(in folder: RunFolder, _ settings: RunSettings) throws -> (
    state: TrainerState, path: String
  )? {
    let (entry, damaged) = folder.checkpoints.latest()
    guard let entry else {
      if let reason = damaged.first { throw RunError(folder.path, reason) }
      return nil
    }
    let saved = try TrainerState.load(from: entry.path)
    try settings.requireSame(as: saved.settings, in: entry.path)
    return (saved, entry.path)
  }

  /// Steps of the whole run.
  public var totalSteps: Int { state.totalSteps }
  /// Steps done, those of earlier processes included.
  public var stepsDone: Int { state.step }
  /// The number of learned parameters.
  public var parameterCount: Int { learned.count }
  /// Examples that are held out.
  public var heldOutCount: Int { heldOut?.examples.count ?? 0 }

  // MARK: The loop

  /// What this process has done so far.
  struct Session {
    var began = MonotonicClock.now()
    var trainingSeconds = 0.0
    var trainingTokens = 0
    var lastStepSeconds = 0.0
    var evalLoss: Double?
  }

  /// Trains until the last step, or until `onProgress` says stop; then the run is saved either way.
  ///
  /// A step whose loss or gradient is not finite is skipped. More of them in a row than the configuration allows stop the run
  /// with an error; its folder then holds the checkpoints from before.
  public func run(onProgress: (TrainingProgress) -> TrainingDecision = { _ in .continue }) throws -> TrainingSummary {
    defer { model.device.limitMemory(to: nil) }
    try folder.checkSpace(diskNeeds)
    var session = Session()
    var end = TrainingEnd.finished
    do {
      if state.isLookDue { try lookBetweenSteps(&session) }
      try steps(&session, &end, onProgress)
    } catch is StopRequest {
      end = .stopped
      if savedStep != state.step { try save(isBest: false) }
    }
    try saving.finish()
    try writeResult()
    return summary(session, end)
  }

  private func steps(
    _ session: inout Session, _ end: inout TrainingEnd, _ onProgress: (TrainingProgress) -> TrainingDecision
  ) throws {
    while state.step < state.totalSteps, end == .finished {
      if isPatienceSpent {
        end = .earlyStopping
        break
      }
      let progress = try step(&session)
      let isLast = state.step == state.totalSteps
      if state.isLookDue || (onProgress(progress) == .stop || isStopRequested()) && !isLast {
        end = .stopped
      } else if let limit = configuration.maxTime, !isLast,
        // The next step would not be over in time.
        MonotonicClock.now() - began + session.lastStepSeconds > limit
      {
        end = .timeLimit
      }
      let isBest = progress.evalLoss != nil && state.bestStep == state.step
      let isDue = configuration.saveSteps > 0 && state.step % configuration.saveSteps == 0
      // What a run leaves that breaks off for want of finite numbers is from before them.
      let isSound = state.skippedInARow == 0
      if state.skippedInARow > configuration.maxSkippedSteps { throw try tooManySkipped(progress) }
      if end != .finished || isLast || isPatienceSpent || ((isDue || isBest) && isSound) { try save(isBest: isBest) }
    }
  }

  /// One step, with all that its number asks for; what a stop breaks off of looking is due then.
  private func step(_ session: inout Session) throws -> TrainingProgress {
    let microBatches = try batches.microBatches(ofStep: state.step)
    let learningRate = learningRates.learningRate(atStep: state.step)
    let began = MonotonicClock.now()
    let result = try model.trainingStep(
      microBatches, objective, optimizer, learningRate: learningRate, seed: configuration.seed, number: state.step,
      beforeEach: goOn)
    if !result.isSkipped { try average?.update(step: optimizer.step) }
    let seconds = MonotonicClock.now() - began
    session.trainingSeconds += seconds
    session.trainingTokens += result.tokens
    let isSpike = note(result)
    // Where the run stops for them, nothing more is asked of numbers that are none.
    let seen = state.skippedInARow > configuration.maxSkippedSteps ? Look() : try look()
    session.evalLoss = seen.loss
    let progress = TrainingProgress(
      step: state.step, totalSteps: state.totalSteps, loss: result.loss, learningRate: learningRate,
      gradientNorm: result.gradientNorm, tokensPerSecond: Double(result.tokens) / max(seconds, 1e-9),
      tokens: state.tokens, evalLoss: seen.loss, rewardMargin: result.rewardMargin,
      rewardAccuracy: result.rewardAccuracy, isSkipped: result.isSkipped, isSpike: isSpike, samples: seen.samples,
      eta: session.trainingSeconds / Double(max(1, session.trainingTokens)) * Double(result.tokens)
        * Double(state.totalSteps - state.step),
      peakBytes: model.device.memory?.peak ?? ProcessMemory.peakByteCount,
      memoryBytes: model.device.memory?.used ?? ProcessMemory.residentByteCount)
    let isLast = state.step == state.totalSteps
    if state.step % max(1, configuration.logSteps) == 0 || isLast || progress.isWorthALine {
      try metrics.append(MetricsLine(progress))
    }
    session.lastStepSeconds = MonotonicClock.now() - began
    return progress
  }

  private var isPatienceSpent: Bool {
    configuration.earlyStoppingPatience.map { state.evaluationsWithoutProgress >= $0 } ?? false
  }

  private func tooManySkipped(_ progress: TrainingProgress) throws -> TrainingError {
    try saving.finish()
    let what =
      progress.loss.isFinite ? "the gradient's norm is \(progress.gradientNorm)" : "the loss is \(progress.loss)"
    let count = state.skippedInARow
    let kept = folder.checkpoints.latest().entry.map { "; \($0.path) is the last good checkpoint" } ?? ""
    return TrainingError(
      "step \(state.step): \(what), \(count == 1 ? "and no step may be skipped" : "for \(count) steps in a row")"
        + "; lower --learning-rate or look at the data of these steps\(kept)")
  }

  /// Takes in what a step did; true where its loss leapt out of its course.
  private func note(_ result: StepResult) -> Bool {
    state.step += 1
    (state.epoch, state.stepInEpoch) = batches.schedule.position(ofStep: state.step)
    state.tokens += result.tokens
    state.trainedTokens += result.trainedTokens
    if result.isSkipped {
      state.skippedSteps += 1
      state.skippedInARow += 1
      return false
    }
    state.skippedInARow = 0
    if state.firstLoss == nil { state.firstLoss = result.loss }
    state.lastLoss = result.loss
    let isSpike = state.lossWatch.isSpike(result.loss)
    if isSpike { state.lossSpikes += 1 }
    return isSpike
  }

  private func summary(_ session: Session, _ end: TrainingEnd) -> TrainingSummary {
    TrainingSummary(
      steps: state.step, totalSteps: state.totalSteps, firstLoss: state.firstLoss, lastLoss: state.lastLoss,
      evalBefore: state.firstEvalLoss, evalAfter: session.evalLoss, tokens: state.tokens,
      tokensPerSecond: session.trainingSeconds > 0 ? Double(session.trainingTokens) / session.trainingSeconds : 0,
      seconds: MonotonicClock.now() - session.began,
      peakBytes: model.device.memory?.peak ?? ProcessMemory.peakByteCount, adapterPath: folder.path, end: end,
      skippedSteps: state.skippedSteps, lossSpikes: state.lossSpikes, bestStep: state.bestStep,
      bestEvalLoss: state.bestEvalLoss, longestSaveStall: longestSaveStall)
  }
}

extension TrainingProgress {
  /// Whether `metrics.jsonl` gets a line for it even between two that are due.
  var isWorthALine: Bool { evalLoss != nil || isSkipped || isSpike || !samples.isEmpty }
}

extension MetricsLine {
  /// The line of a step.
  public init(_ progress: TrainingProgress) {
    self.init(
      step: progress.step, loss: progress.loss, learningRate: progress.learningRate,
      gradientNorm: progress.gradientNorm, tokensPerSecond: progress.tokensPerSecond, tokens: progress.tokens,
      evalLoss: progress.evalLoss)
    memoryBytes = progress.memoryBytes
    rewardMargin = progress.rewardMargin
    rewardAccuracy = progress.rewardAccuracy
    isSkipped = progress.isSkipped
    isSpike = progress.isSpike
    samples = progress.samples
  }
}

extension LoRAConfiguration {
  /// The adapter that a configuration asks for.
  package init(_ configuration: TrainingConfiguration) {
    self.init(
      rank: configuration.loraRank, alpha: configuration.loraAlpha, useRSLoRA: configuration.useRSLoRA,
      useDoRA: configuration.useDoRA, dropout: configuration.loraDropout,
      targetModules: Set(configuration.targetModules.compactMap { TargetModule(rawValue: $0) }))
  }
}

extension Optimizer.Options {
  /// The rule that a configuration asks for.
  init(_ configuration: TrainingConfiguration) {
    self.init(
      beta1: configuration.adamBeta1, beta2: configuration.adamBeta2, epsilon: configuration.adamEpsilon,
      weightDecay: configuration.weightDecay, maxGradientNorm: configuration.maxGradientNorm,
      loraPlusRatio: configuration.loraPlusRatio, isQuantized: configuration.optimizer == .adamw8bit)
  }
}
