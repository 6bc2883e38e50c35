import Glibc
import JSONValues
import ModelFiles

/// One line of `metrics.jsonl`, as it is written and as charts and comparisons read it; a value that a line does not have is
/// left out.
public struct MetricsLine: Sendable, Equatable {
  /// Steps done.
  public var step: Int
  /// Mean loss of the step's trained tokens.
  public var loss: Double?
  /// Learning rate of the step.
  public var learningRate: Double?
  /// Norm of the gradient before clipping.
  public var gradientNorm: Double?
  /// Tokens per second since the line before.
  public var tokensPerSecond: Double?
  /// Tokens seen since the start of the run.
  public var tokens: Int?
  /// Bytes of memory in use: of the device where it has memory of its own, else of the process.
  public var memoryBytes: Int?
  /// Mean loss on the held-out data.
  public var evalLoss: Double?
  /// Of pairs of answers: β times what the better ones are likelier by, on average.
  public var rewardMargin: Double?
  /// Of pairs of answers: the share in which the better one is the likelier.
  public var rewardAccuracy: Double?
  /// Whether the step changed nothing, because its loss or gradient was not finite.
  public var isSkipped = false
  /// Whether the loss leapt out of its course.
  public var isSpike = false
  /// Answers to the run's prompts after this step.
  public var samples: [SampleAnswer] = []

  /// A line of a step.
  public init(
    step: Int, loss: Double? = nil, learningRate: Double? = nil, gradientNorm: Double? = nil,
    tokensPerSecond: Double? = nil, tokens: Int? = nil, evalLoss: Double? = nil
  ) {
    self.step = step
    self.loss = loss
    self.learningRate = learningRate
    self.gradientNorm = gradientNorm
    self.tokensPerSecond = tokensPerSecond
    self.tokens = tokens
    self.evalLoss = evalLoss
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
    memoryBytes = json["memory_bytes"]?.integer
    evalLoss = json["eval_loss"]?.double
    rewardMargin = json["reward_margin"]?.double
    rewardAccuracy = json["reward_accuracy"]?.double
    isSkipped = json["skipped"]?.bool ?? false
    isSpike = json["spike"]?.bool ?? false
    samples = (json["samples"]?.array ?? []).compactMap { sample in
      guard let prompt = sample["prompt"]?.string, let answer = sample["answer"]?.string else { return nil }
      return SampleAnswer(prompt: prompt, answer: answer)
    }
  }

  /// The line as JSON; a number that is not finite becomes null.
  public var json: JSONValue {
    func number(_ value: Double) -> JSONValue { value.isFinite ? .number(value) : .null }
    var object: JSONObject = ["step": .integer(step)]
    if let loss { object["loss"] = number(loss) }
    if let learningRate { object["learning_rate"] = number(learningRate) }
    if let gradientNorm { object["grad_norm"] = number(gradientNorm) }
    if let tokensPerSecond { object["tokens_per_second"] = number(tokensPerSecond) }
    if let tokens { object["tokens"] = .integer(tokens) }
    if let memoryBytes { object["memory_bytes"] = .integer(memoryBytes) }
    if let evalLoss { object["eval_loss"] = number(evalLoss) }
    if let rewardMargin { object["reward_margin"] = number(rewardMargin) }
    if let rewardAccuracy { object["reward_accuracy"] = number(rewardAccuracy) }
    if isSkipped { object["skipped"] = true }
    if isSpike { object["spike"] = true }
    if !samples.isEmpty {
      object["samples"] = .array(samples.map { ["prompt": .string($0.prompt), "answer": .string($0.answer)] })
    }
    return .object(object)
  }
}

/// What the model answers to a prompt on its way through a run.
public struct SampleAnswer: Sendable, Equatable {
  /// The prompt.
  public var prompt: String
  /// The answer.
  public var answer: String

  /// An answer to a prompt.
  public init(prompt: String, answer: String) {
    self.prompt = prompt
    self.answer = answer
  }
}

/// Appends to `metrics.jsonl`, a whole line by one write each, so that a reader never sees half of one.
public final class MetricsLog: Sendable {
  /// The file.
  public let path: String
  private let descriptor: Int32

  /// Opens the log.
  ///
  /// A run resumed after `step` steps drops the lines that it will write again, and a torn last one.
  public init(path: String, resumedAtStep step: Int? = nil) throws(RunError) {
    self.path = path
    descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw .system(path, "write") }
    guard let step else { return }
    let end: Int
    do { end = try Self.end(ofLinesUpTo: step, in: path) } catch { throw RunError(path, "\(error)") }
    if ftruncate(descriptor, off_t(end)) != 0 { throw .system(path, "write") }
  }

  deinit { close(descriptor) }

  /// Appends a line.
  public func append(_ line: MetricsLine) throws(RunError) {
    let bytes = Array((line.json.serialized() + "\n").utf8)
    let start = lseek(descriptor, 0, SEEK_END)
    var written = 0
    while written < bytes.count {
      let count = bytes.withUnsafeBytes { bytes in
        write(descriptor, bytes.baseAddress.map { $0 + written }, bytes.count - written)
      }
      if count < 0 {
        if errno == EINTR { continue }
        let error = RunError.system(path, "write")
        // What is there of the line goes again: the log holds whole lines only.
        if start >= 0 { _ = ftruncate(descriptor, start) }
        throw error
      }
      written += count
    }
  }

  /// Brings the lines to the disk.
  public func synchronize() throws(RunError) {
    if fdatasync(descriptor) != 0, errno != EINVAL { throw .system(path, "write") }
  }

  /// Where the first line begins that is of a later step, torn, or no metrics at all.
  private static func end(ofLinesUpTo step: Int, in path: String) throws -> Int {
    let file = try MappedFile(path: path)
    var start = 0
    while start < file.bytes.count, let end = file.bytes[start...].firstIndex(of: 0x0A) {
      let line = try? JSONValue.parse(UnsafeRawBufferPointer(rebasing: file.bytes[start..<end]))
      guard let found = line?["step"]?.integer, found <= step else { return start }
      start = end + 1
    }
    return start
  }
}
