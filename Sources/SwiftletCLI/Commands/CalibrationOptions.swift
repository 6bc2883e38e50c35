import CommandLineParsing
import Glibc
import ModelFiles
import Models
import Quantization
import Swiftlet
import Training

/// How calibration text is read: the same words in every command that measures what quantizing costs.
enum CalibrationOptions {
  static let text = Option<String?>(
    "calibration", aliases: ["calibration-data"], "FILE", group: "Calibration",
    "Text like what the model will read, which shows how much each layer matters.")
  static let tokens = Option(
    "calibration-tokens", "N", default: 98_304, in: 1024...100_000_000, group: "Calibration",
    "Tokens of the calibration text to use at most.")
  static let measurements = Option<String?>(
    "measurements", "FILE", group: "Calibration",
    "Where what calibration measures is kept: read when the file is there, so that another budget needs no second "
      + "reading of the text; written otherwise.")
  static let memory = Option<String?>(
    "memory", "SIZE", group: "Calibration",
    "Memory to take beside the model, as 24GB; the text is read more often where that saves some. All that is free when "
      + "not given.")
  static let seed = Option<UInt64>(
    "seed", "N", default: 3407, group: "Calibration", "Seed of calibration's draws and of --choose-by random.")

  static let declarations = [
    text.declaration, tokens.declaration, measurements.declaration, memory.declaration, seed.declaration,
  ]

  /// Whether there is anything to know from.
  static func isGiven(_ arguments: ParsedArguments) -> Bool { arguments[text] != nil || hasMeasurements(arguments) }

  /// Whether the measurements are there already.
  static func hasMeasurements(_ arguments: ParsedArguments) -> Bool {
    arguments[measurements].map { access($0, F_OK) == 0 } ?? false
  }

  /// The text that is named; an empty one is told before a model is loaded.
  static func readText(_ arguments: ParsedArguments) throws -> String? {
    try arguments[text].map { path in
      let text = try TextFiles.text(path)
      if text.allSatisfy(\.isWhitespace) { throw InputFailure("\(path) is empty; there is nothing to calibrate with") }
      return text
    }
  }

  /// Bytes that may be taken beside a model.
  static func memory(_ arguments: ParsedArguments) throws -> Int {
    try ModelOptions.bytes(arguments[memory], of: "memory") ?? Machine.current.availableMemory / 10 * 9
  }
}

/// A model and a calibration text, and what reading it has shown.
struct CalibrationRun {
  let model: Model
  let text: CalibrationText?
  /// What the text showed.
  let calibration: Calibration
  /// The blocks that are still to be read once more for `Rounding.compensated`, some at a time; the first are correlated.
  let passes: [Range<Int>]
  private let calibrator: Calibrator

  /// Reads the text, or the measurements where they are there.
  ///
  /// - Parameter heldWindows: windows of the text that are left for checks.
  init(
    _ arguments: ParsedArguments, on text: String?, of checkpoint: Checkpoint, _ rounding: Rounding, heldWindows: Int
  ) throws {
    let known = CalibrationOptions.hasMeasurements(arguments) ? arguments[CalibrationOptions.measurements] : nil
    if let known, text == nil {
      // What is wrong with the file is said before the model is loaded.
      _ = try readingInput { try Calibration(contentsOf: known, of: checkpoint) }
    }
    let model = try ModelOptions.load(arguments)
    self.model = model
    self.text = try text.map { text in
      try readingInput {
        try model.calibrationText(text, most: arguments[CalibrationOptions.tokens], heldWindows: heldWindows)
      }
    }
    calibrator = Calibrator(model.language, checkpoint, seed: arguments[CalibrationOptions.seed])
    let needs = try calibrator.memory(for: rounding)
    let free = try CalibrationOptions.memory(arguments)
    guard let passes = needs.passes(within: free, device: calibrator.deviceMemory) else {
      throw InputFailure(
        "calibration needs \(Formatting.bytes(needs.byteCount(blocksAtOnce: rounding == .compensated ? 1 : 0))) of memory "
          + "beside the model, and may take \(Formatting.bytes(free))"
          + (rounding == .compensated ? "; take --rounding searched" : ""))
    }
    self.passes = passes
    let most = needs.byteCount(blocksAtOnce: passes.map(\.count).max() ?? 0)
    StandardError.write(
      "swiftlet: calibration takes up to \(Formatting.bytes(most)) of memory beside the model"
        + (passes.count > 1 ? " and reads the text \(passes.count) times\n" : "\n"))
    if let known {
      calibration = try readingInput { [text = self.text] in
        try Calibration(contentsOf: known, of: checkpoint, text: text?.read)
      }
    } else {
      guard let text = self.text else { throw InputFailure("--calibration is missing; name a text file") }
      calibration = try Self.read(
        calibrator, text.read, passes.count == 1 ? passes[0] : 0..<0, measures: true, action: "calibrating")
      if let path = arguments[CalibrationOptions.measurements] {
        try calibration.save(to: path, of: checkpoint, text: text.read)
        StandardError.write("swiftlet: wrote \(path), for other budgets\n")
      }
    }
  }

  /// The calibration with the correlations of the inputs of some blocks.
  func correlated(_ blocks: Range<Int>) throws -> Calibration {
    if calibration.hasCorrelations(of: blocks) { return calibration }
    guard let text else {
      throw InputFailure("--calibration is missing; --rounding compensated reads the text beside the measurements")
    }
    let found = try Self.read(
      calibrator, text.read, blocks, measures: false,
      action: "reading for blocks \(blocks.lowerBound) to \(blocks.upperBound - 1)")
    return calibration.addingCorrelations(of: found)
  }

  private static func read(
    _ calibrator: Calibrator, _ tokens: [Int32], _ blocks: Range<Int>, measures: Bool, action: String
  ) throws -> Calibration {
    var progress = CountProgressLine(action: action, unit: "tokens", total: tokens.count)
    defer { progress.finish() }
    return try calibrator.read(tokens, correlated: blocks, measures: measures) { done in
      if Interruption.isRequested { throw Interruption.error }
      progress.show(done, at: MonotonicClock.now())
    }
  }
}
