import Models
import Tensors

/// What one optimizer step saw and did.
public struct StepResult: Sendable, Equatable {
  /// Mean cross-entropy of the step's trained tokens, in nats.
  public var loss: Double
  /// Norm of the gradient before clipping.
  public var gradientNorm: Double
  /// Tokens that went through the model.
  public var tokens: Int
  /// Tokens that the loss counts.
  public var trainedTokens: Int
  /// Of pairs of answers: mean margin of the better one, and the share of pairs in which it is the likelier one.
  public var preference: (margin: Double, accuracy: Double)? { rewardMargin.map { ($0, rewardAccuracy ?? 0) } }
  var rewardMargin: Double?
  var rewardAccuracy: Double?

  /// Whether the loss or the gradient was no finite number, and the parameters were therefore left as they were.
  public var isSkipped: Bool { !loss.isFinite || !gradientNorm.isFinite }
}

extension LanguageModel {
  /// One optimizer step over several micro-batches.
  ///
  /// Every trained token of the step has the same weight, in whichever micro-batch it lies: the result is that of one
  /// large batch, to rounding.
  ///
  /// A loss or gradient that is not finite leaves parameters and moments as they were (``StepResult/isSkipped``).
  ///
  /// `number`: of the step, which decides what is dropped; the optimizer's own when nil.
  public func trainingStep(
    _ microBatches: [PackedBatch], _ optimizer: Optimizer, learningRate: Double, seed: UInt64, number: Int? = nil
  ) throws -> StepResult {
    try trainingStep(
      microBatches, Objective(method: .sft, beta: 0), optimizer, learningRate: learningRate, seed: seed, number: number)
  }

  /// One optimizer step towards an objective; an error of `beforeEach` micro-batch leaves everything as it was.
  func trainingStep(
    _ microBatches: [PackedBatch], _ objective: Objective, _ optimizer: Optimizer, learningRate: Double, seed: UInt64,
    number: Int? = nil, beforeEach: () throws -> Void = {}
  ) throws -> StepResult {
    let number = number ?? optimizer.step
    let totals = objective.totals(microBatches)
    guard totals.trainedTokens > 0 else {
      throw TrainingError("step \(number + 1): no token of the batch is trained on")
    }
    var whole = Preference.Result()
    do {
      for (index, batch) in microBatches.enumerated() where batch.trainedTokenCount > 0 {
        try beforeEach()
        let key = DropoutKey(seed: seed, counter: UInt64(number) << 16 | UInt64(index))
        let part = try objective.forwardBackward(self, batch, totals, key: key)
        whole.loss += part.loss
        whole.margin += part.margin
        whole.won += part.won
      }
    } catch {
      try? optimizer.clearGradients()
      throw error
    }
    var result = StepResult(
      loss: whole.loss, gradientNorm: try optimizer.gradientNorm(),
      tokens: microBatches.reduce(0) { $0 + $1.tokens.count }, trainedTokens: totals.trainedTokens)
    if totals.pairs > 0 {
      result.rewardMargin = whole.margin / Double(totals.pairs)
      result.rewardAccuracy = Double(whole.won) / Double(totals.pairs)
    }
    if result.isSkipped {
      try optimizer.clearGradients()
    } else {
      try optimizer.apply(learningRate: learningRate, gradientNorm: result.gradientNorm)
    }
    return result
  }
}

/// What stops a run, in one line.
public struct TrainingError: Error, CustomStringConvertible, Equatable {
  /// One line for the user.
  public let description: String
  /// An error with its line.
  public init(_ description: String) { self.description = description }
}
