import Export
import Foundation
import Testing

@testable import Swiftlet

private let sampleModel = ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// The root of the repository.
private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

/// The facade on the sample model.
@Suite(.serialized, .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct SampleModelTests {
  // perplexity.py MODEL_FOLDER Examples/data/swiftlet-persona-eval.jsonl --window 256 --tokens 1024
  @Test(arguments: [TrainingConfiguration.Compute.fp32, .bf16])
  func perplexityIsThatOfTransformers(_ compute: TrainingConfiguration.Compute) throws {
    let text = try String(
      contentsOf: root.appendingPathComponent("Examples/data/swiftlet-persona-eval.jsonl"), encoding: .utf8)
    let model = try Model.load(sampleModel, options: LoadOptions(compute: compute))
    let result = try model.perplexity(of: text, window: 256, maxTokens: 1024)
    #expect(result.tokens == 1020)
    let ratio = result.perplexity / 7.302615114199632
    // A thousand tokens: bf16's rounding has not averaged out.
    #expect(abs(ratio - 1) < (compute == .fp32 ? 1e-5 : 5e-3))
  }

  // divergence.py compare Q4_0.gguf REFERENCE.gguf IDS.json --window 128 --tokens 1024, both files exported as fp32: llama.cpp
  // rounds what it multiplies with four bits to eight (its numbers of the files as they are: 0.28601 and 1.14950).
  @Test func divergenceIsThatOfLlamaCpp() throws {
    let text = try String(
      contentsOf: root.appendingPathComponent("Examples/data/swiftlet-persona-eval.jsonl"), encoding: .utf8)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("swiftlet-" + UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("q4_0.gguf").path
    try GGUFExport(of: sampleModel, type: .q4_0).write(to: path)
    let options = LoadOptions(compute: .fp32)
    let found = try Model.load(path, options: options).divergence(
      from: Model.load(sampleModel, options: options), on: text, window: 128, maxTokens: 1024)
    let expected: [(found: Double, theirs: Double, tolerance: Double)] = [
      (found.mean, 0.27947732078766446, 3e-4), (found.median, 0.1976016674723206, 2e-3),
      (found.percentile99, 1.4071287686252143, 2e-3), (found.percentile999, 2.099099605741038, 4e-3),
      (found.maximum, 2.315931172286586, 4e-3), (found.topAgreement, 0.75, 2e-3),
      (found.perplexityRatio, 1.1514802947413498, 3e-4),
    ]
    #expect(found.tokens == 1016)
    for value in expected { #expect(abs(value.found / value.theirs - 1) < value.tolerance, "\(value)") }
  }

  /// The program in Examples/FineTune, as it was built beside the tests.
  @Test func theExampleTunesGeneratesAndSaves() throws {
    let program = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appendingPathComponent("FineTune")
    try #require(FileManager.default.isExecutableFile(atPath: program.path), "the example was not built")
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("swiftlet-" + UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: folder) }
    let process = Process()
    process.executableURL = program
    process.arguments = [
      sampleModel, root.appendingPathComponent("Examples/data/swiftlet-persona.jsonl").path, folder.path, "2",
    ]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(text.contains("before: ") && text.contains("step 2 of 2: loss ") && text.contains("after: "), "\(text)")
    for name in ["adapter_model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"] {
      #expect(FileManager.default.fileExists(atPath: folder.appendingPathComponent(name).path))
    }
    // What was saved is what the run learned.
    let own = try Data(contentsOf: folder.appendingPathComponent("adapter_model.safetensors"))
    #expect(try Data(contentsOf: folder.appendingPathComponent("adapter/adapter_model.safetensors")) == own)
  }
}
