import CommandLineParsing
import JSONValues
import ModelFiles
import Quantization
import Swiftlet
import Training

extension Rounding: CommandChoice {}
extension LayerMeasure: CommandChoice {}

/// `swiftlet quantize`: writes a model in four bits as a folder that transformers and bitsandbytes load.
enum QuantizeCommand: RunnableCommand {
  private enum Method: String, CommandChoice {
    case nf4, dynamic
  }
  private enum Template: String, CommandChoice {
    case unsloth
  }

  private static let method = Option<Method?>(
    "method", "nf4|dynamic",
    "nf4: every linear layer of the blocks in NF4; dynamic: all but those that it would hurt, which stay in 16 bits.")
  private static let output = Option<String?>("output", aliases: ["output-dir", "o"], "DIR", "Folder to write.")
  private static let calibration = Option<String?>(
    "calibration", aliases: ["calibration-data"], "FILE",
    "Text that shows which layers matter; for dynamic, and for roundings but nearest.")
  private static let calibrationTokens = Option(
    "calibration-tokens", "N", default: 98_304, in: 1024...100_000_000, "Tokens of the calibration text to use at most."
  )
  private static let budget = Option<Double?>(
    "budget", "PERCENT", in: 0...1000,
    "How many per cent more bytes than plain NF4 dynamic may take; 10 when not given.")
  private static let like = Option<Template?>(
    "like", "unsloth", "Keep a published list in 16 bits instead of measuring: unsloth's, for Phi-4.")
  private static let rounding = Option<Rounding?>(
    "rounding", "nearest|searched|compensated",
    "How elements find their codes; nearest for nf4 and --like, searched for dynamic when not given.")
  private static let measure = Option(
    "choose-by", "estimate|weight-error|random", default: LayerMeasure.estimate,
    "What decides which layers stay in 16 bits; all but estimate are for comparison.")
  private static let seed = Option<UInt64>("seed", "N", default: 3407, "Seed of calibration's draws and of random.")

  static let command = Command(
    name: "quantize", summary: "Write a model in four bits, as transformers and bitsandbytes load it.",
    examples: [
      "phi-4 --method nf4 --output phi-4-nf4",
      "phi-4 --method dynamic --calibration wiki.txt --budget 10 --output phi-4-dynamic",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      method.declaration, output.declaration, calibration.declaration, calibrationTokens.declaration,
      budget.declaration, like.declaration, rounding.declaration, measure.declaration, seed.declaration,
      JSONOption.json.declaration,
    ] + ModelOptions.machine)

  static func run(_ arguments: ParsedArguments) throws {
    guard let method = arguments[method] else { throw InputFailure("--method is missing; name nf4 or dynamic") }
    guard let path = arguments[output], !path.isEmpty else { throw InputFailure("--output is missing; name a folder") }
    let isListed = arguments[like] != nil
    if method == .nf4, isListed || arguments[budget] != nil {
      throw InputFailure("\(isListed ? "--like" : "--budget") goes with --method dynamic")
    }
    if isListed, arguments[budget] != nil {
      throw InputFailure("--like is a list of its own, --budget goes without it")
    }
    let rounding = arguments[rounding] ?? (method == .dynamic && !isListed ? .searched : .nearest)
    let measures = method == .dynamic && !isListed
    let needsText = rounding != .nearest || (measures && arguments[measure] == .estimate)
    if needsText, arguments[calibration] == nil {
      throw InputFailure(
        "--calibration is missing; name a text file like what the model will read"
          + (method == .dynamic ? ", or take --like unsloth" : ", or take --rounding nearest"))
    }
    let text = try needsText ? arguments[calibration].map { try TextFiles.text($0) } : nil
    var export = try readingInput {
      try AtomicFolder.requireEmpty(path)
      return try BitsAndBytesExport(of: ModelOptions.path(arguments[ModelOptions.model]))
    }
    if let format = export.earlierQuantization {
      StandardError.write(
        "swiftlet: these weights were quantized before, to \(format.name); the original weights would lose less\n")
    }
    Interruption.catchSignals()
    let found = try text.map { try calibrate(arguments, on: $0, for: export, correlates: rounding == .compensated) }
    if found != nil || measures {
      var progress = CountProgressLine(action: "rounding", unit: "layers", total: export.layers.count)
      try export.quantize(rounding, found) { done in
        if Interruption.isRequested { throw Interruption.error }
        progress.show(done, at: MonotonicClock.now())
      }
      progress.finish()
    }
    let percent = arguments[budget] ?? 10
    try readingInput {
      if isListed { try export.keepLikeUnsloth() }
      if measures { try export.keepBest(percent: percent, by: arguments[measure], seed: arguments[seed]) }
    }
    let report =
      found == nil && method == .nf4
      ? nil
      : QuantizationReport(
        of: export, method: method.rawValue, model: arguments[ModelOptions.model], budget: measures ? percent : nil,
        calibrationTokens: found?.tokens ?? 0)
    try write(export, to: path, method, report, asJSON: arguments[JSONOption.json])
  }

  /// Loads the model and reads the text with it.
  private static func calibrate(
    _ arguments: ParsedArguments, on text: String, for export: BitsAndBytesExport, correlates: Bool
  ) throws -> Calibration {
    let model = try ModelOptions.load(arguments)
    let tokens = try readingInput {
      try model.calibrationTokens(of: text, most: arguments[calibrationTokens])
    }
    var progress = CountProgressLine(action: "calibrating", unit: "tokens", total: tokens.count)
    defer { progress.finish() }
    return try export.calibrate(model.language, on: tokens, correlates: correlates, seed: arguments[seed]) { done in
      if Interruption.isRequested { throw Interruption.error }
      progress.show(done, at: MonotonicClock.now())
    }
  }

  private static func write(
    _ export: BitsAndBytesExport, to path: String, _ method: Method, _ report: QuantizationReport?, asJSON: Bool
  ) throws {
    var progress = CountProgressLine(action: "quantizing", bytes: export.byteCount)
    let result = try export.write(to: path, report: report) { written in
      if Interruption.isRequested { throw Interruption.error }
      progress.show(written, at: MonotonicClock.now())
    }
    progress.finish()
    if asJSON {
      var json: JSONObject = [
        "output": .string(path), "method": .string(method.rawValue), "rounding": .string(export.rounding.rawValue),
        "bytes": .integer(result.byteCount), "nf4_bytes": .integer(export.plainByteCount),
        "quantized": .integer(result.quantizedCount), "kept": .array(result.kept.map { .string($0) }),
        "files": .array(result.fileNames.map { .string($0) }),
      ]
      if let report, report.calibrationTokens > 0 { json["predicted_kl"] = .number(report.predictedKL.asChosen) }
      return try StandardOutput.write(JSONValue.object(json).serialized() + "\n")
    }
    let files = result.fileNames.count == 1 ? "one file" : "\(result.fileNames.count) files"
    let more = Double(result.byteCount - export.plainByteCount) / Double(export.plainByteCount) * 100
    let kept = result.kept.isEmpty ? "" : ", \(result.kept.count) in 16 bits (\(Formatting.fixed(more, 2))% more bytes)"
    StandardError.write(
      "swiftlet: wrote \(path): \(result.quantizedCount) linear layers in NF4\(kept), "
        + "\(Formatting.bytes(result.byteCount)) in \(files)\n")
    if report != nil { StandardError.write("swiftlet: \(path)/quantization.html shows what each layer costs\n") }
  }
}
