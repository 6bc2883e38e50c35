import CommandLineParsing
import JSONValues
import ModelFiles
import Quantization
import Training

/// `swiftlet quantize`: writes a model in four bits as a folder that transformers and bitsandbytes load.
enum QuantizeCommand: RunnableCommand {
  private enum Method: String, CommandChoice {
    case nf4
  }

  private static let method = Option<Method?>(
    "method", "nf4", "nf4: every linear layer of the blocks in NF4 with double quantization.")
  private static let output = Option<String?>("output", aliases: ["output-dir", "o"], "DIR", "Folder to write.")

  static let command = Command(
    name: "quantize", summary: "Write a model in four bits, as transformers and bitsandbytes load it.",
    examples: ["phi-4 --method nf4 --output phi-4-nf4"],
    arguments: [ModelOptions.model.declaration],
    options: [method.declaration, output.declaration, JSONOption.json.declaration])

  static func run(_ arguments: ParsedArguments) throws {
    guard let method = arguments[method] else { throw InputFailure("--method is missing; name nf4") }
    guard let path = arguments[output], !path.isEmpty else { throw InputFailure("--output is missing; name a folder") }
    let export = try readingInput {
      try AtomicFolder.requireEmpty(path)
      return try BitsAndBytesExport(of: ModelOptions.path(arguments[ModelOptions.model]))
    }
    if let format = export.earlierQuantization {
      StandardError.write(
        "swiftlet: these weights were quantized before, to \(format.name); the original weights would lose less\n")
    }
    Interruption.catchSignals()
    var progress = ByteProgressLine(action: "quantizing", total: export.byteCount)
    let result = try export.write(to: path) { written in
      if Interruption.isRequested { throw Interruption.error }
      progress.show(written, at: MonotonicClock.now())
    }
    progress.finish()
    if arguments[JSONOption.json] {
      let json: JSONValue = [
        "output": .string(path), "method": .string(method.rawValue), "bytes": .integer(result.byteCount),
        "quantized": .integer(result.quantizedCount), "kept": .array(result.kept.map { .string($0) }),
        "files": .array(result.fileNames.map { .string($0) }),
      ]
      try StandardOutput.write(json.serialized() + "\n")
    } else {
      let files = result.fileNames.count == 1 ? "one file" : "\(result.fileNames.count) files"
      StandardError.write(
        "swiftlet: wrote \(path): \(result.quantizedCount) linear layers in NF4, "
          + "\(Formatting.bytes(result.byteCount)) in \(files)\n")
    }
  }
}
