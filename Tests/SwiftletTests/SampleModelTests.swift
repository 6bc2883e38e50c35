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
