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
  /// Of pairs of answers: β times what the better ones are likelier by, on average.
  public var rewardMargin: Double?
  /// Of pairs of answers: the share in which the better one is the likelier.
  public var rewardAccuracy: Double?
  /// Whether the step changed nothing, because its loss or gradient was no finite number.
  public var isSkipped = false
  /// Whether the loss leapt out of its course.
  public var isSpike = false
  /// Answers to the run's prompts after this step.
  public var samples: [SampleAnswer] = []
  /// Seconds until the last step, at this pace.
  public var eta: Double
  /// Peak resident memory of the process so far, in bytes.
  public var peakBytes: Int
  /// Bytes of memory in use: of the device where it has memory of its own, else of the process.
  public var memoryBytes: Int
}

/// What the caller wants after a step.
public enum TrainingDecision: Sendable {
  /// Goes on.
  case `continue`
  /// Saves and ends the run; it can be resumed.
  case stop
}

/// Why a run ended.
public enum TrainingEnd: String, Sendable {
  /// All steps are done.
  case finished
  /// The caller asked; the run can be resumed.
  case stopped
  /// `maxTime` is over; the run can be resumed.
  case timeLimit = "time_limit"
  /// The held-out loss no longer falls.
  case earlyStopping = "early_stopping"
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
  /// Why it ended.
  public var end: TrainingEnd
  /// Steps that were skipped because their loss or gradient was no finite number.
  public var skippedSteps: Int
  /// Steps whose loss leapt out of its course.
  public var lossSpikes: Int
  /// The lowest loss on the held-out data after a step, and the step.
  public var best: (step: Int, loss: Double)? {
    bestStep.flatMap { step in bestEvalLoss.map { (step, $0) } }
  }
  var bestStep: Int?
  var bestEvalLoss: Double?
  /// The most seconds that a step has waited for a checkpoint's copy, or for the writing of the one before.
  public var longestSaveStall: Double
  /// Whether the run ended before its last step and can go on.
  public var stoppedEarly: Bool { end == .stopped || end == .timeLimit }
}
