import CommandLineParsing
import Doctor
import Export
import ModelFiles

/// `swiftlet export`: writes a tuned model where other tools expect it.
enum ExportCommand: RunnableCommand {
  private enum Format: String, CommandChoice { case adapter, merged }

  private static let format = Option(
    "format", "adapter|merged", default: Format.adapter,
    "What to write: an adapter folder as PEFT lays it out, or a model's folder with the adapters added.")
  private static let type = Option<Conversion.ElementType?>(
    "type", "bf16|f16|f32", "What a merged model's weights are stored as; f16 stays, all others become bf16.")
  private static let layout = Option<Conversion.Layout?>(
    "to", "llama|phi3",
    "How projections are stored: each by itself, or fused as Phi-3 has them; a merged model's stay as they are.")
  private static let output = Option<String?>("output", aliases: ["output-dir", "o"], "PATH", "Where to write.")

  static let command = Command(
    name: "export", summary: "Write an adapter in PEFT's layout, or the model with adapters added.",
    examples: [
      "model.gguf --adapter run/checkpoints/step-000100 --format adapter --output adapter",
      "phi-4 --adapter run --format merged --output phi-4-tuned",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      ModelOptions.adapters.declaration, format.declaration, type.declaration, layout.declaration, output.declaration,
      ModelOptions.strict.declaration,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    guard let path = arguments[output], !path.isEmpty else { throw InputFailure("--output is missing; name a folder") }
    switch arguments[format] {
    case .adapter: try writeAdapter(arguments, to: path)
    case .merged: try writeMerged(arguments, to: path)
    }
  }

  private static func writeAdapter(_ arguments: ParsedArguments, to path: String) throws {
    let adapters = arguments[ModelOptions.adapters]
    guard !adapters.isEmpty else {
      throw InputFailure("--adapter is missing; name a run's folder or one of its checkpoints")
    }
    if arguments[type] != nil { throw InputFailure("--type goes with --format merged; an adapter is stored in fp32") }
    let checkpoint = try readingInput { try Checkpoint.open(path: ModelOptions.path(arguments[ModelOptions.model])) }
    let examination = try readingInput { try Examination(of: checkpoint.path, depth: .tokens) }
    if arguments[ModelOptions.strict] { try readingInput { try examination.requireSound() } }
    for adapter in adapters { _ = try readingInput { try AdapterExport.adapterFolder(in: adapter) } }
    ModelOptions.remarkBases(of: adapters, for: arguments[ModelOptions.model])
    let result = try AdapterExport.export(
      adapters, to: path, for: checkpoint.configuration, in: arguments[layout] ?? .llama, examination: examination)
    let sources = result.sources.joined(separator: " and ")
    StandardError.write("swiftlet: wrote the adapter of \(sources) to \(path)\n")
  }

  private static func writeMerged(_ arguments: ParsedArguments, to path: String) throws {
    let adapters = arguments[ModelOptions.adapters]
    let conversion = try readingInput {
      try AtomicFolder.requireEmpty(path)
      return try Conversion(
        of: ModelOptions.path(arguments[ModelOptions.model]), to: arguments[layout],
        weights: arguments[type].map { .type($0) } ?? .sixteenBits, adding: adapters)
    }
    ModelOptions.remarkBases(of: adapters, for: arguments[ModelOptions.model])
    let result = try ConvertCommand.write(
      conversion, to: path, action: "merging", strict: arguments[ModelOptions.strict])
    ConvertCommand.say(result, path)
  }
}
