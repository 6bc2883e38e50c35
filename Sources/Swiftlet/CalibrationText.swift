import Models
import Quantization

/// The tokens of a calibration text: what is read, and what choices are checked on.
public struct CalibrationText: Sendable {
  /// Whole windows to read.
  public let read: [Int32]
  /// Whole windows that are not read.
  public let held: [Int32]
}

extension Model {
  /// The first tokens of a calibration text to read, and behind them `held` windows; where the text is too short for both,
  /// at most an eighth of it is held back.
  public func calibrationText(_ text: String, most: Int, heldWindows held: Int) throws -> CalibrationText {
    let length = Calibrator.window
    let windows = try calibrationTokens(of: text, most: most + held * length)
    let back = windows.count >= most + held * length ? held : min(held, windows.count / length / 8)
    let read = min(most / length * length, windows.count - back * length)
    return CalibrationText(
      read: Array(windows[..<read]), held: Array(windows[read..<read + back * length]))
  }

  /// The first tokens of a calibration text, as many as fill whole windows; text that the tokenizer does not cover is
  /// refused.
  public func calibrationTokens(of text: String, most: Int) throws -> [Int32] {
    let bytes = text.utf8.count
    // Tokens are at most as many as bytes; more text than can be used is not cut into tokens.
    let part = bytes > 64 * most ? String(text.unicodeScalars.prefix(64 * most)) : text
    let tokens = tokenizer.encode(part, addSpecialTokens: false)
    guard tokens.count >= 2 * Calibrator.window else {
      throw ModelError(
        "the calibration text has \(tokens.count) tokens; at least \(2 * Calibrator.window), better 100,000, are needed"
      )
    }
    let length = part.unicodeScalars.count
    if tokens.count > length {
      throw ModelError(
        "the calibration text falls apart into more tokens (\(tokens.count)) than characters (\(length)): this tokenizer "
          + "does not know its language; take a text like what the model will read")
    }
    return Array(tokens.prefix(min(most, tokens.count) / Calibrator.window * Calibrator.window))
  }
}
