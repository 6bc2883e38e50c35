import CommandLineParsing
import Export
import JSONValues
import ModelFiles
import Training

/// `swiftlet convert`: writes a model as a Hugging Face folder in the Llama or the Phi-3 layout.
enum ConvertCommand: RunnableCommand {
  private static let layout = Option<Conversion.Layout?>(
    "to", "llama|phi3", "How to store projections: each by itself, or fused as Phi-3 has them.")
  private static let output = Option<String?>("output", aliases: ["output-dir", "o"], "DIR", "Folder to write.")
  private static let type = Option<Conversion.ElementType?>(
    "type", "bf16|f16|f32", "What to store weights as; a folder's stay as they are, a quantized GGUF's become bf16.")

  static let command = Command(
    name: "convert", summary: "Write a model as a Hugging Face folder in the Llama or the Phi-3 layout.",
    examples: ["phi-4 --to llama --output phi-4-llama", "model.gguf --to llama --type bf16 --output model"],
    arguments: [ModelOptions.model.declaration],
    options: [
      layout.declaration, output.declaration, type.declaration, ModelOptions.strict.declaration,
      JSONOption.json.declaration,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    guard let layout = arguments[layout] else { throw InputFailure("--to is missing; name llama or phi3") }
    guard let path = arguments[output], !path.isEmpty else { throw InputFailure("--output is missing; name a folder") }
    let conversion = try readingInput {
      try AtomicFolder.requireEmpty(path)
      return try Conversion(
        of: ModelOptions.path(arguments[ModelOptions.model]), to: layout,
        weights: arguments[type].map { .type($0) } ?? .asStored)
    }
    let result = try write(conversion, to: path, action: "converting", strict: arguments[ModelOptions.strict])
    if arguments[JSONOption.json] {
      let json: JSONValue = [
        "output": .string(path), "architecture": .string(result.architecture),
        "tensors": .integer(result.tensorCount), "bytes": .integer(result.byteCount),
        "files": .array(result.fileNames.map { .string($0) }),
      ]
      try StandardOutput.write(json.serialized() + "\n")
    } else {
      say(result, path)
    }
  }

  /// Writes the folder with a line of progress, and says what is repaired in it.
  static func write(
    _ conversion: Conversion, to path: String, action: String, strict: Bool
  ) throws -> Conversion.Result {
    if strict { try readingInput { try conversion.examination.requireSound() } }
    for repair in conversion.repairs { StandardError.write("swiftlet: repaired in \(path): \(repair)\n") }
    Interruption.catchSignals()
    var progress = CountProgressLine(action: action, bytes: conversion.byteCount)
    defer { progress.finish() }
    return try conversion.write(to: path) { written in
      if Interruption.isRequested { throw Interruption.error }
      progress.show(written, at: MonotonicClock.now())
    }
  }

  /// What was written, for people.
  static func say(_ result: Conversion.Result, _ path: String) {
    let files = result.fileNames.count == 1 ? "one file" : "\(result.fileNames.count) files"
    StandardError.write(
      "swiftlet: wrote \(path): \(result.architecture), \(result.tensorCount) tensors in \(files), "
        + "\(Formatting.bytes(result.byteCount))\n")
  }
}

extension Conversion.Layout: CommandChoice {}
extension Conversion.ElementType: CommandChoice {}
