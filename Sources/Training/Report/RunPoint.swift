import JSONValues
import ModelFiles

/// One line of a run's `metrics.jsonl`, as charts and comparisons read it.
public struct RunPoint: Sendable, Equatable {
  /// Steps done.
  public var step: Int
  /// Mean loss of the step's trained tokens.
  public var loss: Double?
  /// Learning rate of the step.
  public var learningRate: Double?
  /// Norm of the gradient before clipping.
  public var gradientNorm: Double?
  /// Tokens per second.
  public var tokensPerSecond: Double?
  /// Tokens seen since the start of the run.
  public var tokens: Int?
  /// Mean loss on the held-out data.
  public var evalLoss: Double?
  /// Bytes of memory in use.
  public var memoryBytes: Double?
  /// Of pairs of answers: by how much the better ones are rewarded more.
  public var rewardMargin: Double?
  /// Of pairs of answers: the share in which the better one is the likelier.
  public var rewardAccuracy: Double?
  /// Whether the step changed nothing.
  public var isSkipped: Bool
  /// Whether the loss leapt out of its course.
  public var isSpike: Bool
  /// Prompts and what the model answered after this step.
  public var samples: [Sample]

  /// A prompt and its answer.
  public struct Sample: Sendable, Equatable {
    /// What was asked.
    public var prompt: String
    /// What the model said.
    public var answer: String
  }

  /// Reads a line; `nil` when it is none.
  public init?(_ json: JSONValue) {
    guard let step = json["step"]?.integer else { return nil }
    self.step = step
    loss = json["loss"]?.double
    learningRate = json["learning_rate"]?.double
    gradientNorm = json["grad_norm"]?.double
    tokensPerSecond = json["tokens_per_second"]?.double
    tokens = json["tokens"]?.integer
    evalLoss = json["eval_loss"]?.double
    memoryBytes = json["memory_bytes"]?.double
    rewardMargin = json["reward_margin"]?.double
    rewardAccuracy = json["reward_accuracy"]?.double
    isSkipped = json["skipped"]?.bool ?? false
    isSpike = json["spike"]?.bool ?? false
    samples = (json["samples"]?.array ?? []).compactMap { sample in
      guard let prompt = sample["prompt"]?.string, let answer = sample["answer"]?.string else { return nil }
      return Sample(prompt: prompt, answer: answer)
    }
  }
}

/// Reads `metrics.jsonl` as it grows: each whole line once.
public struct MetricsReader: Sendable {
  private let path: String
  private var position = 0

  /// A reader from the file's beginning.
  public init(path: String) { self.path = path }

  /// The lines that came since the last call; a line that is not whole yet, or no metrics, is left out.
  public mutating func newPoints() -> [RunPoint] {
    guard let file = try? MappedFile(path: path), file.bytes.count > position else { return [] }
    var points: [RunPoint] = []
    while position < file.bytes.count, let end = file.bytes[position...].firstIndex(of: 0x0A) {
      let line = try? JSONValue.parse(UnsafeRawBufferPointer(rebasing: file.bytes[position..<end]))
      if let point = line.flatMap(RunPoint.init) { points.append(point) }
      position = end + 1
    }
    return points
  }
}

/// The running mean of a noisy series, as TensorBoard draws it: exponential, without a bias towards its start.
public struct SmoothedSeries: Sendable, Equatable {
  private let keep: Double
  private var sum = 0.0
  private var weight = 0.0

  /// A mean that keeps this share of its past with each value.
  public init(keep: Double = 0.9) { self.keep = keep }

  /// The mean so far; `nil` before the first value.
  public var value: Double? { weight > 0 ? sum / weight : nil }

  /// Takes in a value, unless it is not finite, and gives the mean.
  public mutating func add(_ value: Double) -> Double {
    if value.isFinite {
      sum = keep * sum + (1 - keep) * value
      weight = keep * weight + (1 - keep)
    }
    return self.value ?? value
  }
}
