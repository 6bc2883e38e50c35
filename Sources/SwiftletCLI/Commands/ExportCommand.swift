import CommandLineParsing
import Doctor
import Export
import ModelFiles

/// `swiftlet export`: writes a tuned model where other tools expect it.
enum ExportCommand: RunnableCommand {
  private enum Format: String, CommandChoice { case adapter, merged, gguf }

  private static let format = Option(
    "format", "adapter|merged|gguf", default: Format.adapter,
    "What to write: an adapter folder as PEFT lays it out, a model's folder with the adapters added, or such a model as a "
      + "GGUF with Ollama's Modelfile.")
  private static let type = Option<GGUFType?>(
    "type", "TYPE",
    "What weights are stored as. GGUF: \(GGUFType.names) (f16 unless given). Merged: bf16, f16, f32 (f16 stays, all others "
      + "become bf16).")
  private static let layout = Option<Conversion.Layout?>(
    "to", "llama|phi3",
    "How projections are stored: each by itself, or fused as Phi-3 has them; a merged model's stay as they are.")
  private static let dynamic = Option(
    flag: "dynamic",
    "GGUF: measure what each layer's type costs, and give each the type that lets all together lose least in the bytes of "
      + "--type. Takes --calibration or --measurements.")
  private static let budget = Option<Double?>(
    "budget", "PERCENT", in: 0...1000,
    "How many per cent more bytes than --type alone --dynamic may take; 0 when not given.")
  private static let output = Option<String?>("output", aliases: ["output-dir", "o"], "PATH", "Where to write.")

  static let command = Command(
    name: "export", summary: "Write an adapter in PEFT's layout, or the model with adapters added, also as a GGUF.",
    examples: [
      "model.gguf --adapter run/checkpoints/step-000100 --format adapter --output adapter",
      "phi-4 --adapter run --format merged --output phi-4-tuned",
      "phi-4 --adapter run --format gguf --type q4_k_m --output phi-4-tuned.gguf",
      "phi-4 --format gguf --type q4_k_m --dynamic --calibration wiki.txt -o phi-4.gguf",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      ModelOptions.adapters.declaration, format.declaration, type.declaration, dynamic.declaration, budget.declaration,
      layout.declaration, output.declaration, ModelOptions.strict.declaration,
    ] + CalibrationOptions.declarations + ModelOptions.machine)

  static func run(_ arguments: ParsedArguments) throws {
    guard let path = arguments[output], !path.isEmpty else {
      throw InputFailure("--output is missing; name a folder, or for a GGUF a file")
    }
    if arguments[dynamic], arguments[format] != .gguf { throw InputFailure("--dynamic goes with --format gguf") }
    if arguments[budget] != nil, !arguments[dynamic] { throw InputFailure("--budget goes with --dynamic") }
    switch arguments[format] {
    case .adapter: try writeAdapter(arguments, to: path)
    case .merged: try writeMerged(arguments, to: path)
    case .gguf: try writeGGUF(arguments, to: path)
    }
  }

  private static func writeAdapter(_ arguments: ParsedArguments, to path: String) throws {
    let adapters = arguments[ModelOptions.adapters]
    guard !adapters.isEmpty else {
      throw InputFailure("--adapter is missing; name a run's folder or one of its checkpoints")
    }
    if arguments[type] != nil {
      throw InputFailure("--type goes with --format merged and gguf; an adapter is stored in fp32")
    }
    let checkpoint = try readingInput { try Checkpoint.open(path: ModelOptions.path(arguments[ModelOptions.model])) }
    let examination = try readingInput { try Examination(of: checkpoint.path, depth: .tokens) }
    if arguments[ModelOptions.strict] { try readingInput { try examination.requireSound() } }
    for adapter in adapters { _ = try readingInput { try AdapterExport.adapterFolder(in: adapter) } }
    ModelOptions.remarkBases(of: adapters, for: arguments[ModelOptions.model])
    let result = try AdapterExport.export(
      adapters, to: path, for: checkpoint.configuration, in: arguments[layout] ?? .llama, weights: checkpoint,
      examination: examination)
    let sources = result.sources.joined(separator: " and ")
    StandardError.write("swiftlet: wrote the adapter of \(sources) to \(path)\n")
  }

  private static func writeMerged(_ arguments: ParsedArguments, to path: String) throws {
    let adapters = arguments[ModelOptions.adapters]
    let element = try arguments[type].map { type in
      guard let element = Conversion.ElementType(rawValue: type.rawValue) else {
        throw InputFailure("--type \(type.rawValue) goes with --format gguf; a merged model is bf16, f16 or f32")
      }
      return element
    }
    let conversion = try readingInput {
      try AtomicFolder.requireEmpty(path)
      return try Conversion(
        of: ModelOptions.path(arguments[ModelOptions.model]), to: arguments[layout],
        weights: element.map { .type($0) } ?? .sixteenBits, adding: adapters)
    }
    ModelOptions.remarkBases(of: adapters, for: arguments[ModelOptions.model])
    let result = try ConvertCommand.write(
      conversion, to: path, action: "merging", strict: arguments[ModelOptions.strict])
    ConvertCommand.say(result, path)
  }

  private static func writeGGUF(_ arguments: ParsedArguments, to path: String) throws {
    let adapters = arguments[ModelOptions.adapters]
    if arguments[layout] != nil {
      throw InputFailure("--to goes with the other formats; a GGUF has llama.cpp's layout")
    }
    let model = try readingInput {
      let model = try ModelOptions.path(arguments[ModelOptions.model])
      if arguments[ModelOptions.strict] { try Examination(of: model, depth: .tokens).requireSound() }
      return model
    }
    ModelOptions.remarkBases(of: adapters, for: arguments[ModelOptions.model])
    let type = arguments[type] ?? .f16
    try writeGGUF(of: model, adapters: adapters, type: type, to: path) {
      try arguments[dynamic] ? chooseTypes(arguments, of: model, type: type, percent: arguments[budget] ?? 0) : [:]
    }
  }
}

extension GGUFType: CommandChoice {}
