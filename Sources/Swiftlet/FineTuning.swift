import Export
import ModelFiles
import Models
import Training

/// A fine-tuning run of a model: data, adapter, folder.
public final class FineTuning {
  /// The model that learns.
  public let model: Model
  /// What decides the run, checked.
  public let configuration: TrainingConfiguration
  /// The training data, tokenized.
  public let data: TokenizedDataset
  /// The held-out data, tokenized.
  public let evalData: TokenizedDataset?
  /// The formats that the data files were recognized as, one line each.
  public let dataDescription: String
  private let trainer: Trainer
  private let recorder: RunRecorder

  /// Reads the data and makes the run's folder, or opens that of the run to resume.
  ///
  /// The adapter is attached to `model`.
  /// - Parameters:
  ///   - chosen: Names of options that a user gave: they must not contradict the adapter that the run goes on from.
  ///   - began: When the run's time began to count (`max-time`), by `MonotonicClock`.
  public init(
    model: Model, configuration: TrainingConfiguration, chosen: Set<String> = [], began: Double = MonotonicClock.now()
  ) throws {
    var configuration = try configuration.validated()
    var start: AdapterSum?
    if let folder = configuration.adapter {
      let sum = try AdapterSum([
        AdapterFile.load(folder: AdapterExport.adapterFolder(in: folder), for: model.configuration)
      ])
      configuration = try configuration.continuing(sum, from: folder, chosen: chosen)
      start = sum
    }
    self.model = model
    self.configuration = configuration
    let known = model.runData.flatMap { $0.serves(configuration) ? $0 : nil }
    model.runData = nil
    let read = try known ?? RunData(configuration, tokenizer: model.tokenizer)
    (data, dataDescription, evalData) = (read.training, read.description, read.evaluation)
    try Self.require(data, for: configuration.method, configuration.data[0])
    if let evalData, let path = configuration.evalData {
      try Self.require(evalData, for: configuration.method, path)
    }
    let folder =
      configuration.resume
      ? try RunFolder.resume(configuration.output, saveLimit: configuration.saveLimit)
      : try RunFolder.create(configuration.output, saveLimit: configuration.saveLimit)
    let companions = try Self.companions(of: model, configuration)
    trainer = try Trainer(
      model.language, data: data, evalData: evalData, configuration: configuration, folder: folder,
      startingFrom: start, companions: companions,
      sampler: { prompts, maxTokens, goesOn in
        try model.generate(
          prompts.map { model.tokenizer.chatTemplate == nil ? .text($0) : .user($0) },
          options: GenerationOptions(maxTokens: maxTokens), batchSize: LanguageModel.mostSequences, onToken: goesOn
        ).map(\.text)
      }, began: began)
    try writeAtomically(configuration.yaml(), to: folder.configurationPath)
    recorder = RunRecorder(
      folder,
      remarks: ["\(configuration.model): \(trainer.parameterCount) parameters learn on \(model.deviceDescription)"],
      totalSteps: trainer.totalSteps, stepsDone: trainer.stepsDone, data: data.facts(dataDescription, configuration),
      settings: configuration.settings, writesEvents: configuration.tensorBoard)
    // Who loads the adapter needs the tokenizer that it was trained with.
    try writeAtomically(companions, into: configuration.output)
  }

  /// The files beside what is learned: the tokenizer as it should be, and with a whole model what belongs to one.
  private static func companions(
    of model: Model, _ configuration: TrainingConfiguration
  ) throws -> [(name: String, bytes: [UInt8])] {
    let own = try model.examination.tokenizerFiles()
    guard configuration.full, let checkpoint = model.language.checkpoint else { return own }
    let carried = try CarriedFiles(of: checkpoint, model.examination).files
    return carried.filter { file in !own.contains { $0.name == file.name } } + own
  }

  private static func require(
    _ data: TokenizedDataset, for method: TrainingConfiguration.Method, _ path: String
  ) throws {
    if method.learnsFromPairs == data.options.pairs { return }
    throw DatasetError(
      path: path,
      data.options.pairs
        ? "preference pairs (`chosen`/`rejected`) have no single answer to train on; give --method dpo or orpo"
        : "--method \(method.rawValue) learns from preference pairs (`chosen`/`rejected`), and these samples are none")
  }

  /// Steps of the whole run.
  public var totalSteps: Int { trainer.totalSteps }
  /// Steps done before this process.
  public var stepsDone: Int { trainer.stepsDone }
  /// Examples that are held out.
  public var heldOutCount: Int { trainer.heldOutCount }
  /// The number of learned parameters.
  public var parameterCount: Int { trainer.parameterCount }
  /// Asked within steps, evaluations and answers: true drops what is under way, saves, and ends the run.
  public var isStopRequested: () -> Bool {
    get { trainer.isStopRequested }
    set { trainer.isStopRequested = newValue }
  }
  /// What is kept between the passes to fit the memory.
  public var activationPlan: ActivationPlan { trainer.activationPlan }

  /// Trains to the end, or until `onProgress` says stop; the run is saved either way, and the model keeps the adapter.
  @discardableResult
  public func run(onProgress: (TrainingProgress) -> TrainingDecision = { _ in .continue }) throws -> TrainingSummary {
    defer { recorder.finish() }
    return try trainer.run { progress in
      recorder.update()
      return onProgress(progress)
    }
  }
}
