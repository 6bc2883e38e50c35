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

  /// The model that the command line names, with its adapter.
  static func load(_ arguments: ParsedArguments) throws -> Model {
    try readingInput {
      var options = LoadOptions()
      options.compute = arguments[compute]
      options.threads = arguments[threads]
      // A run that was interrupted has its adapter in a checkpoint.
      options.adapter = try arguments[adapter].map { try AdapterExport.adapterFolder(in: $0) }
      return try Model.load(arguments[model], at: path(arguments[model]), options: options)
    }
  }

  /// The tokenizer of the model that the command line names; a folder needs no weights for it.
  static func loadTokenizer(_ arguments: ParsedArguments) throws -> Tokenizer {
    try readingInput {
      let path = try path(arguments[model])
      var status = stat()
      let isFolder = stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
      return try isFolder ? Tokenizer(folder: path) : Checkpoint.open(path: path).makeTokenizer()
    }
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
      stop: arguments[stop])
  }
}
