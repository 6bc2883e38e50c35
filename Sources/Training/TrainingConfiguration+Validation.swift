/// A value that no run can use: the option and what is wrong with it, in one line.
public struct TrainingConfigurationError: Error, Equatable, CustomStringConvertible {
  /// The option's name, as in ``TrainingOption/name``.
  public let option: String
  /// What is wrong and what to do.
  public let reason: String

  /// Names the option and the reason.
  public init(option: String, reason: String) {
    self.option = option
    self.reason = reason
  }

  /// One line for the user.
  public var description: String { "\(option): \(reason)" }
}

extension TrainingConfiguration {
  /// This configuration, when every value can be used; else throws the first that cannot.
  public func validated() throws(TrainingConfigurationError) -> TrainingConfiguration {
    try require(!model.isEmpty, "model", "missing; name a model folder or a .gguf file")
    try require(!data.isEmpty, "data", "missing; name at least one dataset")
    try require(!data.contains(""), "data", "empty; name a file")
    _ = try FieldMapping(fields)
    try require(evalData != "", "eval-data", "empty; name a file")
    if let evalShare {
      try require(evalShare > 0 && evalShare < 1, "eval-share", "\(evalShare) is not between 0 and 1")
      try require(evalData == nil, "eval-share", "eval-data names held-out data already; give one of them")
    }
    try require(!output.isEmpty, "output", "empty; name a folder")

    try require(threads, in: 1...4096, "threads")
    if let memory {
      try require(memory >= 64 << 20, "memory", "\(formatByteCount(memory)) is too little; give at least 64MiB")
    }
    try require(adapter != "", "adapter", "empty; name a folder")
    try require(
      quantization != .dynamic || calibration?.isEmpty == false, "calibration",
      "missing; name a text file like what the model will read")
    try require(budget > 0 && budget <= 1000, "budget", "\(budget) is no percentage above 0 and up to 1000")
    try require(loraRank, in: 1...65536, "lora-rank")
    try require(
      loraAlpha.isFinite && loraAlpha > 0, "lora-alpha", "\(loraAlpha) is not a positive number; the default is 16")
    try require(loraDropout >= 0 && loraDropout < 1, "lora-dropout", "\(loraDropout) is not in 0 ..< 1")
    try validateTargetModules()

    try require(
      learningRate.isFinite && learningRate > 0, "learning-rate",
      "\(learningRate) is not a positive number; the default is 2e-4")
    try require(learningRate <= 1, "learning-rate", "\(learningRate) is absurdly large; the default is 2e-4")
    try require(warmupSteps, in: 0...1_000_000_000, "warmup-steps")
    try requireFraction(warmupRatio, "warmup-ratio")
    try requireFraction(minLearningRateRatio, "min-lr-ratio")
    try require(decayRatio > 0 && decayRatio <= 1, "decay-ratio", "\(decayRatio) is not above 0 and at most 1")
    try require(
      loraPlusRatio > 0 && loraPlusRatio <= 1e4, "loraplus-ratio", "\(loraPlusRatio) is not a positive number; try 16")
    try require(beta > 0 && beta <= 1e3, "beta", "\(beta) is not a positive number; the default is 0.1")
    try require(
      !full || method != .dpo, "full", "dpo compares with the model as it was, which only an adapter leaves; use orpo")
    try require(!full || adapter == nil, "full", "goes on from no adapter; merge it first with export --format merged")
    try require(!full || quantization == .none, "full", "weights in 4 bits cannot learn; leave out quantization")
    try require(!full || !useDoRA, "full", "there is no adapter that could have magnitudes; leave out use-dora")
    try require(!full || loraPlusRatio == 1, "full", "there is no adapter for loraplus-ratio; leave it out")
    if let emaDecay {
      try require(emaDecay > 0 && emaDecay < 1, "ema-decay", "\(emaDecay) is not between 0 and 1; try 0.999")
    }
    if let neftuneAlpha {
      try require(
        neftuneAlpha > 0 && neftuneAlpha <= 1e6, "neftune-alpha", "\(neftuneAlpha) is not a positive number; try 5")
    }
    try require(maxSkippedSteps, in: 0...1_000_000, "max-skipped-steps")
    try require(batchSize, in: 1...65536, "batch-size")
    try require(gradientAccumulation, in: 1...65536, "gradient-accumulation")
    try require(batchTokens, in: 2...1_073_741_824, "batch-tokens")
    try require(maxSequenceLength, in: 2...16_777_216, "max-seq-length")
    try require(
      epochs.isFinite && epochs > 0 && epochs <= 1e6, "epochs", "\(epochs) is not a positive number up to a million")
    try require(maxSteps, in: 1...1_000_000_000, "max-steps")
    try require(weightDecay >= 0 && weightDecay <= 1, "weight-decay", "\(weightDecay) is not in 0 ... 1")
    try require(
      maxGradientNorm.isFinite && maxGradientNorm >= 0, "max-grad-norm",
      "\(maxGradientNorm) is not a number from 0; 0 switches clipping off")
    try require(adamBeta1 >= 0 && adamBeta1 < 1, "adam-beta1", "\(adamBeta1) is not in 0 ..< 1")
    try require(adamBeta2 >= 0 && adamBeta2 < 1, "adam-beta2", "\(adamBeta2) is not in 0 ..< 1")
    try require(
      adamEpsilon > 0 && adamEpsilon < 1, "adam-epsilon", "\(adamEpsilon) is not a small positive number like 1e-8")

    try require(evalSteps, in: 1...1_000_000_000, "eval-steps")
    try require(
      evalSteps == nil || isEvaluated, "eval-steps", "nothing to evaluate; give eval-data or eval-share")
    try require(earlyStoppingPatience, in: 1...1_000_000, "early-stopping-patience")
    try require(
      earlyStoppingPatience == nil || evalSteps != nil, "early-stopping-patience",
      "needs evaluations in between; give eval-steps")
    try require(
      earlyStoppingThreshold >= 0 && earlyStoppingThreshold.isFinite, "early-stopping-threshold",
      "\(earlyStoppingThreshold) is not a number from 0")
    try require(!loadBestAtEnd || isEvaluated, "load-best-at-end", "nothing is best without eval-data or eval-share")
    try require(!samplePrompts.contains(""), "sample-prompt", "empty; give a text")
    try require(sampleSteps, in: 1...1_000_000_000, "sample-steps")
    try require(sampleSteps == nil || !samplePrompts.isEmpty, "sample-steps", "nothing to answer; give sample-prompt")
    try require(sampleTokens, in: 1...1_000_000, "sample-tokens")
    if let maxTime {
      try require(maxTime > 0 && maxTime <= 1e9, "max-time", "\(maxTime) seconds is no time to train in")
    }
    try require(saveSteps, in: 0...1_000_000_000, "save-steps")
    try require(saveLimit, in: 1...1_000_000_000, "save-limit")
    try require(logSteps, in: 1...1_000_000_000, "log-steps")
    return self
  }

  private func validateTargetModules() throws(TrainingConfigurationError) {
    let option = "target-modules"
    try require(!targetModules.isEmpty, option, "empty; name at least one of \(Self.projectionList)")
    var seen: Set<String> = []
    for module in targetModules {
      try require(
        Self.allProjections.contains(module), option, "\"\(module)\" is not one of \(Self.projectionList)")
      try require(seen.insert(module).inserted, option, "\"\(module)\" is named twice")
    }
  }

  /// Whether the run has held-out data.
  var isEvaluated: Bool { evalData != nil || evalShare != nil }

  private static var projectionList: String { allProjections.joined(separator: ", ") }

  private func require(_ condition: Bool, _ option: String, _ reason: @autoclosure () -> String)
    throws(TrainingConfigurationError)
  {
    if !condition { throw TrainingConfigurationError(option: option, reason: reason()) }
  }

  private func require(_ value: Int?, in range: ClosedRange<Int>, _ option: String)
    throws(TrainingConfigurationError)
  {
    guard let value else { return }
    try require(
      range.contains(value), option, "\(value) is not in \(range.lowerBound) ... \(range.upperBound)")
  }

  private func requireFraction(_ value: Double?, _ option: String) throws(TrainingConfigurationError) {
    guard let value else { return }
    try require(value >= 0 && value <= 1, option, "\(value) is not in 0 ... 1")
  }
}
