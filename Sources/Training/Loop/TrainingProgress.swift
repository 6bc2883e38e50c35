/// Where a run stands after a step.
public struct TrainingProgress: Sendable, Equatable {
  /// Steps done.
  public var step: Int
  /// Steps of the whole run.
  public var totalSteps: Int
  /// Mean loss of the step's trained tokens, in nats.
  public var loss: Double
  /// The step's learning rate.
  public var learningRate: Double
  /// Norm of the step's gradient before clipping.
  public var gradientNorm: Double
  /// Tokens per second of the last steps.
  public var tokensPerSecond: Double
  /// Tokens seen since the run began.
  public var tokens: Int
  /// Mean loss on the held-out data, when it was measured after this step.
  public var evalLoss: Double?
  /// Seconds until the last step, at this pace.
  public var eta: Double
  /// Peak resident memory of the process so far, in bytes.
  public var peakBytes: Int
}

/// What the caller wants after a step.
public enum TrainingDecision: Sendable {
  /// Goes on.
  case `continue`
  /// Saves and ends the run; it can be resumed.
  case stop
}

/// What a run did.
public struct TrainingSummary: Sendable, Equatable {
  /// Steps done, counted from the run's beginning.
  public var steps: Int
  /// Steps of the whole run.
  public var totalSteps: Int
  /// Loss of the first step.
  public var firstLoss: Double?
  /// Loss of the last step.
  public var lastLoss: Double?
  /// Mean loss on the held-out data before the first step.
  public var evalBefore: Double?
  /// Mean loss on the held-out data at the end.
  public var evalAfter: Double?
  /// Tokens seen since the run began.
  public var tokens: Int
  /// Tokens per second, evaluation and saving left out.
  public var tokensPerSecond: Double
  /// Seconds that this process trained.
  public var seconds: Double
  /// Peak resident memory of the process, in bytes.
  public var peakBytes: Int
  /// The folder with the adapter.
  public var adapterPath: String
  /// Whether the caller stopped the run before its last step.
  public var stoppedEarly: Bool
}
