import CommandLineParsing
import Doctor
import Export
import ModelFiles

/// `swiftlet export`: writes a tuned model where other tools expect it.
enum ExportCommand: RunnableCommand {
  private enum Format: String, CommandChoice { case adapter }

  private static let format = Option(
    "format", "adapter", default: Format.adapter, "What to write: an adapter folder as PEFT lays it out.")
  private static let output = Option<String?>("output", aliases: ["output-dir", "o"], "PATH", "Where to write.")

  static let command = Command(
    name: "export", summary: "Write the adapter of a run or checkpoint in PEFT's layout.",
    examples: ["model.gguf --adapter run/checkpoints/step-000100 --format adapter --output adapter"],
    arguments: [ModelOptions.model.declaration],
    options: [
      ModelOptions.adapter.declaration, format.declaration, output.declaration, ModelOptions.strict.declaration,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    guard let adapter = arguments[ModelOptions.adapter] else {
      throw InputFailure("--adapter is missing; name a run's folder or one of its checkpoints")
    }
    guard let path = arguments[output], !path.isEmpty else { throw InputFailure("--output is missing; name a folder") }
    let checkpoint = try readingInput { try Checkpoint.open(path: ModelOptions.path(arguments[ModelOptions.model])) }
    let configuration = checkpoint.configuration
    let examination = try readingInput { try Examination(of: checkpoint.path, depth: .tokens) }
    if arguments[ModelOptions.strict] { try readingInput { try examination.requireSound() } }
    _ = try readingInput { try AdapterExport.adapterFolder(in: adapter) }
    switch arguments[format] {
    case .adapter:
      let result = try AdapterExport.export(adapter, to: path, for: configuration)
      try examination.writeTokenizerFiles(to: path)
      StandardError.write("swiftlet: wrote the adapter of \(result.source) to \(path)\n")
    }
  }
}
