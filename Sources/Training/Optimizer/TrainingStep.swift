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
}

extension LanguageModel {
  /// One optimizer step over several micro-batches.
  ///
  /// Every trained token of the step has the same weight, in whichever micro-batch it lies: the result is that of one
  /// large batch, to rounding.
  ///
  /// A loss or gradient that is not finite throws, and leaves the parameters as they were.
  public func trainingStep(
    _ microBatches: [PackedBatch], _ optimizer: AdapterOptimizer, learningRate: Double, seed: UInt64
  ) throws -> StepResult {
    let trained = microBatches.reduce(0) { $0 + $1.trainedTokenCount }
    guard trained > 0 else { throw TrainingError("step \(optimizer.step + 1): no token of the batch is trained on") }
    var loss = 0.0
    for (index, batch) in microBatches.enumerated() where batch.trainedTokenCount > 0 {
      let key = DropoutKey(seed: seed, counter: UInt64(optimizer.step) << 16 | UInt64(index))
      loss += try forwardBackward(batch, lossScale: 1 / Float(trained), dropout: key)
    }
    let norm = try optimizer.gradientNorm()
    guard loss.isFinite, norm.isFinite else {
      try optimizer.clearGradients()
      let what = loss.isFinite ? "the gradient's norm is \(norm)" : "the loss is \(loss / Double(trained))"
      throw TrainingError("step \(optimizer.step + 1): \(what); lower --learning-rate or look at the data of this step")
    }
    try optimizer.apply(learningRate: learningRate, gradientNorm: norm)
    return StepResult(
      loss: loss / Double(trained), gradientNorm: norm, tokens: microBatches.reduce(0) { $0 + $1.tokens.count },
      trainedTokens: trained)
  }
}

/// What stops a run, in one line.
public struct TrainingError: Error, CustomStringConvertible, Equatable {
  /// One line for the user.
  public let description: String
  /// An error with its line.
  public init(_ description: String) { self.description = description }
}
