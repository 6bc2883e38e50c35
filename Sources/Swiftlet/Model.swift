import CPUDevice
import Doctor
import Export
import ModelFiles
import Models
import Quantization
import Tokenization

/// How a model is loaded.
public struct LoadOptions: Sendable {
  /// Where to compute.
  public var device: TrainingConfiguration.DeviceChoice
  /// Operand type of matrix products.
  public var compute: TrainingConfiguration.Compute
  /// How the frozen weights are kept.
  public var quantization = TrainingConfiguration.Quantization.none
  /// Text that shows dynamic quantization which layers matter.
  public var calibrationText: String?
  /// How many per cent more bytes than NF4 dynamic quantization may take.
  public var budget = 10.0
  /// Whether the same run gives the same bits on a GPU too, at some speed.
  public var isDeterministic = false
  /// Bytes that the model and what is done with it may take on its device; nil: what is free.
  public var memory: Int?
  /// The run that the model is loaded for: on a GPU, what cannot fit is then refused before any weight is read, and weights are
  /// kept as suits its steps.
  public var training: TrainingConfiguration?
  /// Threads; nil: one per CPU.
  public var threads: Int?
  /// Folders of PEFT adapters whose sum is put beside the weights.
  public var adapters: [String]
  /// Chat template to use instead of the model's own.
  public var chatTemplate: ChatTemplate?
  /// Whether defects of tokenizer and template are refused instead of repaired in memory.
  public var strict: Bool
  /// Receives one line where a GPU is there and cannot be used.
  public var onFallback: @Sendable (String) -> Void = { _ in }

  /// Options with the defaults of every command.
  public init(
    device: TrainingConfiguration.DeviceChoice = .auto, compute: TrainingConfiguration.Compute = .auto,
    threads: Int? = nil, adapters: [String] = [], chatTemplate: ChatTemplate? = nil, strict: Bool = false
  ) {
    self.device = device
    self.compute = compute
    self.threads = threads
    self.adapters = adapters
    self.chatTemplate = chatTemplate
    self.strict = strict
  }
}

/// A language model with its tokenizer, ready to generate, to be evaluated and to be fine-tuned.
///
/// ```swift
/// let model = try Model.load("SmolLM2-135M-Instruct.Q4_1.gguf")
/// let tuning = try FineTuning(model: model, configuration: TrainingConfiguration(model: model.path, data: "chats.jsonl"))
/// try tuning.run { progress in print(progress.step, progress.loss); return .continue }
/// print(try model.generate(.user("Who are you?")).text)
/// ```
///
/// Use a model from one thread at a time.
public final class Model {
  /// What it was called when it was loaded: a path, or a repository of the hub.
  public let path: String
  /// Texts to tokens and back, with the chat template.
  public let tokenizer: Tokenizer
  /// What was found out about the tokenizer and the template; what spoils training or generation is repaired in memory.
  public let examination: Examination
  /// The weights on their device.
  public let language: LanguageModel
  /// The data of the run that the model was loaded for, where its plan asked for it; the run takes it over.
  var runData: RunData?

  /// What the checkpoint says of the model.
  public var configuration: ModelConfiguration { language.configuration }
  /// What a person calls the device that computes.
  public var deviceDescription: String { language.device.description }

  /// Loads a Hugging Face folder, a `.gguf` file, or a repository of the hub (`OWNER/NAME`), which is fetched first.
  public static func load(_ name: String, options: LoadOptions = LoadOptions()) throws -> Model {
    try load(name, at: ModelLocation.resolve(name), options: options)
  }

  /// Loads the model that lies at `path` and is called `name`.
  public static func load(_ name: String, at path: String, options: LoadOptions = LoadOptions()) throws -> Model {
    let checkpoint = try Checkpoint.open(path: path)
    let treated = try TreatedTokenizer(checkpoint.tokenizerSource, chatTemplate: options.chatTemplate)
    if options.strict { try treated.examination.requireSound() }
    let device = try DeviceSelection.device(
      options.device, compute: options.compute, threads: options.threads,
      isDeterministic: options.isDeterministic, note: options.onFallback)
    // The model in 16 bits is gone before it is loaded in four.
    let kept =
      options.quantization == .dynamic
      ? try modulesToKeep(
        of: Model(path: name, treated, language: LanguageModel(checkpoint, on: device)), at: path, options)
      : []
    var runData: RunData?
    func data(of run: TrainingConfiguration) throws -> RunData {
      let made = try RunData(run, tokenizer: treated.tokenizer)
      runData = made
      return made
    }
    let planned = try options.training.flatMap { run in
      try StepPlanning.storage(for: run, of: data(of: run), checkpoint, keeping: kept, on: device)
    }
    let head = try (options.training?.head ?? .auto).storages(for: checkpoint.configuration, on: device)[0]
    let storage =
      planned
      ?? DeviceSelection.storage(
        options.quantization, storedIn: checkpoint, keeping: kept
      ).withHead(head)
    if let bits = storage.head.headBits, options.training?.head == .auto {
      options.onFallback(
        "nothing fits with the head in 16 bits: it is kept in \(bits), which changes the model a little")
    }
    let model = Model(
      path: name, treated, language: try LanguageModel(checkpoint, on: device, storage: storage))
    model.runData = runData
    if !options.adapters.isEmpty { try model.loadAdapters(from: options.adapters) }
    return model
  }

  /// The projections that dynamic quantization leaves in 16 bits.
  private static func modulesToKeep(of model: Model, at path: String, _ options: LoadOptions) throws -> Set<String> {
    guard let text = options.calibrationText else {
      throw ModelError(
        "dynamic quantization needs calibration text, which tune takes; for other commands write the model with quantize"
      )
    }
    var export = try BitsAndBytesExport(of: path)
    let calibration = try export.calibrate(
      model.language, on: model.calibrationTokens(of: text, most: 98_304), correlates: false)
    try export.quantize(.nearest, calibration)
    try export.keepBest(percent: options.budget)
    return Set(
      export.layers.filter(\.isKept).flatMap { layer in layer.modules.map { $0.path(layer: layer.layer) } })
  }

  private init(path: String, _ treated: TreatedTokenizer, language: LanguageModel) {
    self.path = path
    tokenizer = treated.tokenizer
    examination = treated.examination
    self.language = language
  }

  /// Puts the PEFT adapter in `folder` beside the weights, in place of any other.
  public func loadAdapter(from folder: String) throws { try loadAdapters(from: [folder]) }

  /// Puts the sum of the PEFT adapters in `folders` beside the weights, in place of any other.
  public func loadAdapters(from folders: [String]) throws { try language.loadAdapters(from: folders) }

  /// Takes the adapter away.
  public func removeAdapter() { language.attach(nil) }

  /// Writes the adapter in use as PEFT's files.
  public func saveAdapter(to folder: String) throws {
    guard let adapter = language.adapter else {
      throw ModelError("there is no adapter to save: none is loaded or tuned")
    }
    try adapter.save(to: folder, baseModel: path)
  }
}

extension Checkpoint {
  /// The tokenizer that belongs to the checkpoint, as its files say.
  /// - Parameter chatTemplate: used instead of the model's own.
  public func makeTokenizer(chatTemplate: ChatTemplate? = nil) throws -> Tokenizer {
    switch tokenizerSource {
    case .folder(let folder): try Tokenizer(folder: folder, chatTemplate: chatTemplate)
    case .gguf(let file):
      try Tokenizer(gguf: GGUFTokenizerMetadata(file.metadata, path: file.path), chatTemplate: chatTemplate)
    }
  }
}
