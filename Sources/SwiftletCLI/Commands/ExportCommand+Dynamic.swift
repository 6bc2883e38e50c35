import CommandLineParsing
import Export
import ModelFiles
import Quantization
import Training

extension ExportCommand {
  /// The types that lose least in `percent` more bytes than `type` alone takes.
  static func chooseTypes(
    _ arguments: ParsedArguments, of path: String, type: GGUFType, percent: Double
  ) throws -> [String: StorageFormat] {
    guard arguments[ModelOptions.adapters].isEmpty else {
      throw InputFailure(
        "--dynamic measures a model as it is; write it with --format merged first, and export that without --adapter")
    }
    guard !type.holdsFloats else {
      throw InputFailure("--dynamic needs a type of fewer than 16 bits to start from; name one with --type")
    }
    guard CalibrationOptions.isGiven(arguments) else {
      throw InputFailure("--calibration is missing; name a text file like what the model will read")
    }
    let text = try CalibrationOptions.readText(arguments)
    var choice = try readingInput { try GGUFTypeChoice(of: path, type: type) }
    Interruption.catchSignals()
    let run = try CalibrationRun(arguments, on: text, of: choice.checkpoint, .nearest, heldWindows: 0)
    var progress = CountProgressLine(action: "measuring types of", unit: "layers", total: choice.layerCount)
    defer { progress.finish() }
    try choice.measure(run.calibration) { done in
      if Interruption.isRequested { throw Interruption.error }
      progress.show(done, at: MonotonicClock.now())
    }
    progress.finish()
    try readingInput { try choice.choose(percent: percent) }
    let (usual, chosen) = (choice.usual, choice.chosen)
    let more = Double(chosen.byteCount - usual.byteCount) / Double(usual.byteCount) * 100
    StandardError.write(
      "swiftlet: \(type.rawValue) alone is predicted to have a KL of \(Formatting.fixed(usual.predictedKL, 4)), the types "
        + "chosen \(Formatting.fixed(chosen.predictedKL, 4)) in \(Formatting.fixed(more, 2))% more bytes\n")
    return choice.formats
  }
}
