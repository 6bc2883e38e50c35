import CPUDevice
import Foundation
import ModelFiles
import Models
import Testing

/// A quantized folder's logits against those of transformers with bitsandbytes, which `Tests/Comparison/bitsandbytes_logits.py`
/// computes; on request alone, for it needs Python.
///
/// SWIFTLET_LOGITS="FOLDER LOGITS.safetensors". Prints one line of JSON.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["SWIFTLET_LOGITS"] != nil, "SWIFTLET_LOGITS is not set"))
struct BitsAndBytesLogitsTests {
  @Test func logitsAreThoseOfTransformersWithBitsAndBytes() throws {
    let words = (ProcessInfo.processInfo.environment["SWIFTLET_LOGITS"] ?? "").split(separator: " ").map(String.init)
    try #require(words.count == 2)
    let golden = try SafetensorsFile(path: words[1])
    let tokens = try #require(golden.tensor("ids")?.bytes).withUnsafeBytes { Array($0.bindMemory(to: Int32.self)) }
    let expected = try #require(golden.tensor("logits")).decoded()
    // In four bits, as `generate` loads a folder: dense matrices would be rounded to the type they had.
    let checkpoint = try Checkpoint.open(path: words[0])
    let model = try LanguageModel(
      checkpoint, on: CPUDevice(compute: .float32),
      storage: .nf4(resident: false, except: #require(checkpoint.modulesBesideNF4)))
    let found = try model.logits(tokens)
    try #require(found.count == expected.count)
    let largest = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
    let relative = Self.relativeError(found, expected)
    let width = found.count / tokens.count
    let agreeing = tokens.indices.count { row in
      let range = row * width..<(row + 1) * width
      return found[range].firstIndex(of: found[range].max() ?? 0)
        == expected[range].firstIndex(of: expected[range].max() ?? 0)
    }
    print(
      "{\"tokens\": \(tokens.count), \"largest_difference\": \(largest), \"largest_logit\": "
        + "\(expected.map(abs).max() ?? 0), \"relative\": \(relative), \"same_top\": \(agreeing)}")
    #expect(relative < 1e-5)
    #expect(agreeing == tokens.count)
  }

  /// ‖a - b‖ / ‖b‖.
  private static func relativeError(_ a: [Float], _ b: [Float]) -> Double {
    let (difference, norm) = zip(a, b).reduce((0.0, 0.0)) { sum, pair in
      let (a, b) = (Double(pair.0), Double(pair.1))
      return (sum.0 + (a - b) * (a - b), sum.1 + b * b)
    }
    return (difference / norm).squareRoot()
  }
}
