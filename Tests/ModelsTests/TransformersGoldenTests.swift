import CPUDevice
import JSONValues
import ModelFiles
import TestSupport
import Testing

@testable import Models

/// Logits of tiny random models against those of transformers (`Tests/Golden/tiny_models.py`): every rotary scaling,
/// biases, shared keys, sliding windows, heads of a width of their own.
@Suite struct TransformersGoldenTests {
  struct Golden: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let tiny: TinyModel
    let tokens: [Int32]
    /// Expected logits by position.
    let logits: [(position: Int, values: [Double])]
  }

  static func load() throws -> [Golden] {
    let text = try #require(TemporaryFolder.text(of: goldenPath("tiny_models.json")))
    return try #require(try JSONValue.parse(text).array).map { entry in
      let positions = try #require(entry["positions"]?.array).compactMap(\.integer)
      let rows = try #require(entry["logits"]?.array).map { $0.array?.compactMap(\.double) ?? [] }
      return Golden(
        testDescription: try #require(entry["name"]?.string),
        tiny: TinyModel(
          config: try #require(entry["config"]?.object), seed: UInt64(try #require(entry["seed"]?.integer))),
        tokens: try #require(entry["tokens"]?.array).compactMap(\.integer).map { Int32($0) },
        logits: zip(positions, rows).map { (position: $0, values: $1) })
    }
  }

  @Test func logitsAreThoseOfTransformers() throws {
    let cases = try Self.load()
    #expect(cases.count == 33)
    for golden in cases {
      let folder = try TemporaryFolder()
      try golden.tiny.write(to: folder)
      let checkpoint = try Checkpoint.open(path: folder.path)
      let vocabulary = golden.tiny.size("vocab_size")
      for (compute, tolerance) in [(CPUDevice.Compute.float32, 1e-4), (.bfloat16, 5e-2)] {
        let model = try LanguageModel(checkpoint, on: CPUDevice(compute: compute))
        let logits = try model.logits(golden.tokens)
        let found = golden.logits.flatMap { logits[$0.position * vocabulary..<($0.position + 1) * vocabulary] }
        let error = relativeError(found, golden.logits.flatMap(\.values))
        #expect(error < tolerance, "\(golden.testDescription), \(compute)")
        print("GOLDEN", compute, error, golden.testDescription)
      }
    }
  }
}
