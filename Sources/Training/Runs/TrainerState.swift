import JSONValues
import ModelFiles

/// Where a run stands, beside its weights and moments: everything that resuming it exactly needs.
public struct TrainerState: Sendable, Equatable {
  /// Steps done.
  public var step: Int
  /// Steps of the whole run.
  public var totalSteps: Int
  /// The epoch of the next step, counted from 0.
  public var epoch: Int
  /// The next step within that epoch, counted from 0.
  public var stepInEpoch: Int
  /// Tokens seen.
  public var tokens: Int
  /// Tokens seen that the loss counted.
  public var trainedTokens: Int
  /// The state of the random source.
  public var randomState: [UInt64]
  /// Loss of the first step.
  public var firstLoss: Double?
  /// Loss of the last step done.
  public var lastLoss: Double?
  /// Loss on the held-out data before the first step.
  public var firstEvalLoss: Double?
  /// The lowest loss on the held-out data.
  public var bestEvalLoss: Double?
  /// The step after which it was measured.
  public var bestStep: Int?
  /// Steps that were skipped because their loss or gradient was not finite.
  public var skippedSteps = 0
  /// How many of them were the last ones, one after the other.
  public var skippedInARow = 0
  /// Steps whose loss leapt out of its course.
  public var lossSpikes = 0
  /// Whether the evaluation and the answers of this step are still to be done.
  public var isLookDue: Bool
  /// Evaluations since the lowest loss.
  public var evaluationsWithoutProgress = 0
  var lossWatch = LossWatch()
  /// The settings that the run began with.
  public var settings: RunSettings

  /// The state of a run before its first step.
  public init(totalSteps: Int, settings: RunSettings, randomState: [UInt64] = []) {
    step = 0
    isLookDue = true
    self.totalSteps = totalSteps
    epoch = 0
    stepInEpoch = 0
    tokens = 0
    trainedTokens = 0
    self.randomState = randomState
    self.settings = settings
  }

  /// The name of its file in a checkpoint.
  public static let fileName = "trainer_state.json"

  /// Writes the state into a checkpoint's folder.
  public func save(to folder: String) throws {
    try writeAtomically(json.serialized(pretty: true) + "\n", to: "\(folder)/\(Self.fileName)")
  }

  /// Reads the state of a checkpoint's folder.
  public static func load(from folder: String) throws -> TrainerState {
    let path = "\(folder)/\(fileName)"
    let file = try MappedFile(path: path)
    do { return try TrainerState(JSONValue.parse(file.bytes)) } catch let error as FormatProblem {
      throw RunError(path, error.message)
    } catch {
      throw RunError(path, "\(error)")
    }
  }

  var json: JSONValue {
    var object: JSONObject = [
      "version": 1, "step": .integer(step), "total_steps": .integer(totalSteps), "epoch": .integer(epoch),
      "step_in_epoch": .integer(stepInEpoch), "tokens": .integer(tokens), "trained_tokens": .integer(trainedTokens),
      // Hexadecimal: JSON's numbers do not hold 64 bits everywhere.
      "random_state": .array(randomState.map { .string(String($0, radix: 16)) }),
      "skipped_steps": .integer(skippedSteps), "skipped_in_a_row": .integer(skippedInARow),
      "loss_spikes": .integer(lossSpikes), "evaluations_without_progress": .integer(evaluationsWithoutProgress),
      "loss_watch": [
        "count": .integer(lossWatch.count), "mean": .number(lossWatch.mean), "variance": .number(lossWatch.variance),
      ],
    ]
    for (key, value) in optionals { if let value, value.isFinite { object[key] = .number(value) } }
    if isLookDue { object["look_due"] = true }
    if let bestStep { object["best_step"] = .integer(bestStep) }
    object["settings"] = .object(JSONObject(settings.entries.map { ($0.name, .string($0.value)) }))
    return .object(object)
  }

  init(_ json: JSONValue) throws(FormatProblem) {
    func integer(_ key: String) throws(FormatProblem) -> Int {
      guard let value = json[key]?.integer, value >= 0 else {
        throw FormatProblem("`\(key)` must be a whole number that is not negative")
      }
      return value
    }
    guard try integer("version") == 1 else { throw FormatProblem("`version` is of a later program") }
    step = try integer("step")
    totalSteps = try integer("total_steps")
    isLookDue = json["look_due"]?.bool ?? false
    epoch = try integer("epoch")
    stepInEpoch = try integer("step_in_epoch")
    tokens = try integer("tokens")
    trainedTokens = try integer("trained_tokens")
    randomState = []
    for word in json["random_state"]?.array ?? [] {
      guard let value = word.string.flatMap({ UInt64($0, radix: 16) }) else {
        throw FormatProblem("`random_state` must be a list of hexadecimal words")
      }
      randomState.append(value)
    }
    firstLoss = json["first_loss"]?.double
    lastLoss = json["last_loss"]?.double
    firstEvalLoss = json["first_eval_loss"]?.double
    bestEvalLoss = json["best_eval_loss"]?.double
    bestStep = json["best_step"]?.integer
    skippedSteps = try integer("skipped_steps")
    skippedInARow = try integer("skipped_in_a_row")
    lossSpikes = try integer("loss_spikes")
    evaluationsWithoutProgress = try integer("evaluations_without_progress")
    guard let watch = json["loss_watch"], let count = watch["count"]?.integer, let mean = watch["mean"]?.double,
      let variance = watch["variance"]?.double
    else { throw FormatProblem("`loss_watch` must hold `count`, `mean` and `variance`") }
    lossWatch = LossWatch(count: count, mean: mean, variance: variance)
    guard let settings = json["settings"]?.object else { throw FormatProblem("`settings` is missing") }
    self.settings = RunSettings(settings.map { .init(name: $0.key, value: $0.value.string ?? "") })
  }

  private var optionals: [(String, Double?)] {
    [
      ("first_loss", firstLoss), ("last_loss", lastLoss), ("first_eval_loss", firstEvalLoss),
      ("best_eval_loss", bestEvalLoss),
    ]
  }
}
