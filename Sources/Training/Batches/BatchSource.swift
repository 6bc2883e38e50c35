import Models

/// The packed batches of each step of a run, laid out when they are asked for.
///
/// Steps may be asked for in any order; one epoch's plan is kept, so that going on in order costs no planning.
public struct BatchSource: Sendable {
  /// The examples.
  public let examples: TokenizedDataset
  /// Which of them each step sees.
  public let schedule: BatchSchedule
  /// The examples that are trained on, where not all are.
  private let chosen: [Int]?
  private var plan: (number: Int, epoch: BatchSchedule.Epoch)?

  /// The batches of `examples`, or of those that are `chosen`; their limit of tokens is the limit of a packed row.
  public init(_ examples: TokenizedDataset, chosen: [Int]? = nil, options: BatchSchedule.Options) {
    var options = options
    options.maxSequenceLength = examples.options.maxSequenceLength
    self.examples = examples
    self.chosen = chosen
    let lengths = examples.lengths
    var first = 0
    let parts = examples.sources.map { source in
      defer { first += source.count }
      let range = first..<first + source.count
      return BatchSchedule.Part(
        count: chosen.map { $0.count { range.contains($0) } } ?? source.count, weight: source.weight)
    }
    schedule = BatchSchedule(
      lengths: chosen.map { $0.map { lengths[$0] } } ?? lengths, options: options, parts: parts)
  }

  /// The micro-batches of step `step` of the run, counted from 0; at least one, each with at least one trained token.
  public mutating func microBatches(ofStep step: Int) throws -> [PackedBatch] {
    let position = schedule.position(ofStep: step)
    if plan?.number != position.epoch { plan = (position.epoch, schedule.epoch(position.epoch)) }
    return try plan?.epoch.microBatches(ofStep: position.step).map { batch in
      try examples.batch(of: chosen.map { chosen in batch.map { chosen[$0] } } ?? batch)
    } ?? []
  }
}

extension BatchSchedule.Options {
  /// The options that a configuration asks for.
  public init(_ configuration: TrainingConfiguration) {
    self.init(
      batchSize: configuration.batchSize, gradientAccumulation: configuration.gradientAccumulation,
      maxSequenceLength: configuration.maxSequenceLength, packing: configuration.packing,
      shuffle: configuration.shuffle, seed: configuration.seed, batchTokens: configuration.batchTokens)
  }
}

extension TokenizedDataset.Options {
  /// The options that a configuration asks for.
  public init(_ configuration: TrainingConfiguration, threads: Int = 1) {
    self.init(
      maxSequenceLength: configuration.maxSequenceLength, longSamples: configuration.longSamples,
      trainOn: configuration.trainOn, strict: configuration.strict, threads: threads)
    parsesSpecialTokens = configuration.parseSpecial
  }
}

extension Dataset.Options {
  /// The options that a configuration asks for.
  public init(_ configuration: TrainingConfiguration) throws(TrainingConfigurationError) {
    self.init(format: configuration.dataFormat, fields: try FieldMapping(configuration.fields))
  }
}

extension LearningRateSchedule {
  /// The schedule that a configuration asks for over `totalSteps` steps.
  public init(_ configuration: TrainingConfiguration, totalSteps: Int) {
    let warmup =
      configuration.warmupRatio.map { Self.warmupSteps(ratio: $0, totalSteps: totalSteps) }
      ?? configuration.warmupSteps
    self.init(
      shape: configuration.scheduler, peak: configuration.learningRate, warmupSteps: warmup, totalSteps: totalSteps,
      minimumRatio: configuration.minLearningRateRatio, decayRatio: configuration.decayRatio)
  }
}
