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
  private static let finalists = Option(
    "finalists", "N", default: 4, in: 1...64,
    "Near choices of dynamic whose true KL divergence is compared on 4,096 tokens of the text that are not read; 1: none, "
      + "the predicted best is taken.")
  /// Windows that finalists are compared on.
  private static let heldWindows = 8

  static let command = Command(
    name: "quantize", summary: "Write a model in four bits, as transformers and bitsandbytes load it.",
    examples: [
      "phi-4 --method nf4 --output phi-4-nf4",
      "phi-4 --method dynamic --calibration wiki.txt --budget 10 --output phi-4-dynamic",
      "phi-4 --method dynamic --measurements measured --budget 20 --output phi-4-20",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      method.declaration, output.declaration, budget.declaration, like.declaration, rounding.declaration,
      finalists.declaration, measure.declaration, JSONOption.json.declaration,
    ] + CalibrationOptions.declarations + ModelOptions.machine)

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
    if needsText, !CalibrationOptions.isGiven(arguments) {
      throw InputFailure(
        "--calibration is missing; name a text file like what the model will read"
          + (method == .dynamic ? ", or, for Phi-4, take --like unsloth" : ", or take --rounding nearest"))
    }
    let text = try needsText ? CalibrationOptions.readText(arguments) : nil
    var export = try readingInput {
      try AtomicFolder.requireEmpty(path)
      return try BitsAndBytesExport(of: ModelOptions.path(arguments[ModelOptions.model]))
    }
    if let format = export.earlierQuantization {
      StandardError.write(
        "swiftlet: these weights were quantized before, to \(format.name); the original weights would lose less\n")
    }
    Interruption.catchSignals()
    let percent = arguments[budget] ?? 10
    // What no calibration can mend is said before it begins.
    if measures { _ = try readingInput { try export.budget(percent: percent) } }
    let isEstimated = measures && arguments[measure] == .estimate
    let checks = isEstimated && arguments[finalists] > 1 && text != nil
    let found =
      try needsText
      ? CalibrationRun(arguments, on: text, of: export.checkpoint, rounding, heldWindows: checks ? heldWindows : 0)
      : nil
    if found != nil || measures { try round(&export, rounding, found) }
    try readingInput {
      if isListed { try export.keepLikeUnsloth() }
      if measures {
        try export.keepBest(percent: percent, by: arguments[measure], seed: arguments[CalibrationOptions.seed])
      }
    }
    if checks, let found { try check(&export, found, percent: percent, arguments) }
    let report =
      found == nil && method == .nf4
      ? nil
      : QuantizationReport(
        of: export, method: method.rawValue, model: arguments[ModelOptions.model], budget: measures ? percent : nil,
        calibrationTokens: found?.calibration.tokens ?? 0)
    try write(export, to: path, method, report, asJSON: arguments[JSONOption.json])
  }

  /// Finds the codes, of all layers at once or, where correlations take much memory, of some blocks after the other.
  private static func round(_ export: inout BitsAndBytesExport, _ rounding: Rounding, _ run: CalibrationRun?) throws {
    var progress = CountProgressLine(action: "rounding", unit: "layers", total: export.layers.count)
    defer { progress.finish() }
    func show(_ done: Int) throws {
      if Interruption.isRequested { throw Interruption.error }
      progress.show(done, at: MonotonicClock.now())
    }
    guard let run, rounding == .compensated else {
      return try export.quantize(rounding, run?.calibration, onProgress: show)
    }
    for blocks in run.passes {
      try export.quantize(rounding, run.correlated(blocks), blocks: blocks, onProgress: show)
    }
  }

  /// Compares near choices by what they really do.
  private static func check(
    _ export: inout BitsAndBytesExport, _ run: CalibrationRun, percent: Double, _ arguments: ParsedArguments
  ) throws {
    guard let held = run.text?.held, !held.isEmpty else { return }
    let choices = try export.finalists(
      percent: percent, run.calibration, count: arguments[finalists], seed: arguments[CalibrationOptions.seed])
    guard choices.count > 1 else { return }
    var progress = CountProgressLine(
      action: "checking on \(held.count) tokens", unit: "choices", total: choices.count)
    defer { progress.finish() }
    progress.show(0, at: MonotonicClock.now())
    try export.keepBest(of: choices, by: run.model.language, on: held) { done in
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
      if export.finalists.count > 1 {
        json["finalists"] = .array(
          export.finalists.map {
            ["predicted_kl": .number($0.predictedKL), "measured_kl": $0.measuredKL.map { .number($0) } ?? .null]
          })
      }
      if let report, report.calibrationTokens > 0 { json["predicted_kl"] = .number(report.predictedKL.asChosen) }
      return try StandardOutput.write(JSONValue.object(json).serialized() + "\n")
    }
    let files = result.fileNames.count == 1 ? "one file" : "\(result.fileNames.count) files"
    let more = Double(result.byteCount - export.plainByteCount) / Double(export.plainByteCount) * 100
    let kept = result.kept.isEmpty ? "" : ", \(result.kept.count) in 16 bits (\(Formatting.fixed(more, 2))% more bytes)"
    StandardError.write(
      "swiftlet: wrote \(path): \(result.quantizedCount) linear layers in NF4\(kept), "
        + "\(Formatting.bytes(result.byteCount)) in \(files)\n")
    let checked = export.finalists.compactMap(\.measuredKL)
    if let best = checked.min(), let first = checked.first {
      StandardError.write(
        "swiftlet: of \(checked.count) choices the best has a mean KL of \(Formatting.fixed(best, 4)), the predicted best "
          + "\(Formatting.fixed(first, 4))\n")
    }
    if report != nil { StandardError.write("swiftlet: \(path)/quantization.html shows what each layer costs\n") }
  }
}
