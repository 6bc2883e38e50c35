import CommandLineParsing
import Export
import Glibc
import ModelFiles
import Models
import Swiftlet
import Tokenization

extension ModelOptions {
  /// The path of the model that a command line names; a repository of the hub is fetched first.
  static func path(_ name: String) throws -> String {
    let line = DownloadLine(name)
    defer { line.finish() }
    Interruption.catchSignals()
    do {
      return try ModelLocation.resolve(
        name, isCancelled: { Interruption.isRequested }, onRemark: line.remark, onProgress: line.show)
    } catch {
      line.finish()
      if Interruption.isRequested { throw Interruption.error }
      throw error
    }
  }

  /// The model that the command line names, with its adapter, or another one without, loaded in the same way.
  static func load(_ arguments: ParsedArguments, instead other: String? = nil) throws -> Model {
    let model = try readingInput {
      var options = LoadOptions()
      options.device = arguments[device]
      options.onFallback = { StandardError.write("swiftlet: \($0)\n") }
      options.compute = arguments[compute]
      options.threads = arguments[threads]
      options.quantization = arguments[quantization]
      options.chatTemplate = try arguments[chatTemplate].map { try ChatTemplate(file: $0) }
      // A run that was interrupted has its adapter in a checkpoint.
      if other == nil {
        options.adapters = try arguments[adapters].map { try AdapterExport.adapterFolder(in: $0) }
      }
      options.strict = arguments[strict]
      let name = other ?? arguments[Self.model]
      return try Model.load(name, at: path(name), options: options)
    }
    announce(model.examination)
    if other == nil { remarkBases(of: arguments[adapters], for: arguments[Self.model]) }
    return model
  }

  /// Says where an adapter names another model than the one that it is used with: shapes alone do not tell two models of
  /// one size apart.
  static func remarkBases(of adapters: [String], for model: String) {
    func name(_ path: String) -> String? { path.split(separator: "/").last?.lowercased() }
    for folder in adapters {
      guard let source = try? AdapterExport.adapterFolder(in: folder),
        let base = (try? AdapterConfiguration(folder: source))?.baseModel, name(base) != name(model)
      else { continue }
      StandardError.write("swiftlet: \(folder) says that it was made for \(base), not for \(model)\n")
    }
  }

  /// Says what was repaired in memory, and what is broken.
  static func announce(_ examination: Examination) {
    for remark in examination.remarks { StandardError.write("swiftlet: \(remark)\n") }
  }

  /// The tokenizer of the model that the command line names; a folder needs no weights for it, and a tokenizer's own
  /// file no model.
  static func loadTokenizer(_ arguments: ParsedArguments) throws -> Tokenizer {
    try loadTokenizer(arguments[model], chatTemplate: arguments[chatTemplate])
  }

  /// The tokenizer of a model by its name; a folder needs no weights for it.
  ///
  /// - Parameters:
  ///   - model: What the model is called.
  ///   - chatTemplate: A file whose template is used instead of the model's own.
  static func loadTokenizer(_ model: String, chatTemplate: String? = nil) throws -> Tokenizer {
    try readingInput {
      let path = try path(model)
      let template = try chatTemplate.map { try ChatTemplate(file: $0) }
      return try isGGUF(path)
        ? Checkpoint.open(path: path).makeTokenizer(chatTemplate: template)
        : Tokenizer(path: path, chatTemplate: template)
    }
  }
}

extension ModelOptions {
  /// Whether a file is, or is meant to be, a GGUF file.
  private static func isGGUF(_ path: String) -> Bool {
    if path.hasSuffix(".gguf") { return true }
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return false }
    defer { close(file) }
    var start = [UInt8](repeating: 0, count: 4)
    return read(file, &start, start.count) == start.count && start == Array("GGUF".utf8)
  }
}

extension SamplingArguments {
  /// What the command line says about generating.
  static func options(_ arguments: ParsedArguments) -> GenerationOptions {
    GenerationOptions(
      maxTokens: arguments[maxTokens],
      sampling: SamplingOptions(
        temperature: arguments[temperature], topP: arguments[topP], topK: arguments[topK], minP: arguments[minP],
        repetitionPenalty: arguments[repetitionPenalty], seed: arguments[seed]),
      stop: arguments[stop], parseSpecialTokens: arguments[ModelOptions.parseSpecial])
  }
}
