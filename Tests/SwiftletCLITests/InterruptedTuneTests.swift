import Foundation
import Testing

private let sampleModel = ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// Signals that come while something long is under way.
@Suite(
  .enabled(if: swiftletPath != nil, "the program was not built beside the tests"),
  .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct InterruptedTuneTests {
  /// Starts a run whose held-out data would take minutes, ends it once standard error holds `text`, and gives back its status
  /// and what it said.
  private func interrupted(_ signal: Int32, after text: String, in folder: String) throws -> (Int32, String) {
    let data = folder + "/chats.jsonl"
    let chats = (0..<6000).map { index in
      "{\"messages\": [{\"role\": \"user\", \"content\": \"Say the number \(index).\"}, "
        + "{\"role\": \"assistant\", \"content\": \"Chirp! The number is \(index), and no other one.\"}]}\n"
    }
    try chats.joined().write(toFile: data, atomically: true, encoding: .utf8)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(swiftletPath))
    process.arguments = [
      "tune", sampleModel, "--data", data, "--eval-data", data, "--output", folder + "/run", "--max-steps", "2",
      "--no-data-cache",
    ]
    let errors = folder + "/errors"
    #expect(FileManager.default.createFile(atPath: errors, contents: nil))
    process.standardError = FileHandle(forWritingAtPath: errors)
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    func said() -> String { (try? String(contentsOfFile: errors, encoding: .utf8)) ?? "" }
    for _ in 0..<12_000 where process.isRunning && !said().contains(text) { Thread.sleep(forTimeInterval: 0.01) }
    #expect(process.isRunning, "\(said())")
    kill(process.processIdentifier, signal)
    process.waitUntilExit()
    return (process.terminationStatus, said())
  }

  @Test(arguments: [SIGINT, SIGTERM]) func aLongEvaluationStopsAtOnce(_ signal: Int32) throws {
    try withTemporaryFolder { folder in
      let (status, said) = try interrupted(signal, after: "/run\n", in: folder)
      #expect(status == 0)
      let lines = said.split(separator: "\n")
      #expect(lines.dropLast().last == "swiftlet: stopped, saved at step 0; this goes on:", "\(said)")
      #expect(lines.last?.hasSuffix(" --resume") == true)
      // The evaluation was not over, and is not lost: the run that goes on begins with it.
      #expect(try String(contentsOfFile: folder + "/run/metrics.jsonl", encoding: .utf8) == "")
      #expect(FileManager.default.fileExists(atPath: folder + "/run/checkpoints/step-000000/trainer_state.json"))
    }
  }

  @Test func nothingIsWaitedForBeforeTrainingBegins() throws {
    try withTemporaryFolder { folder in
      let (status, said) = try interrupted(SIGTERM, after: "loading", in: folder)
      #expect(status == 0)
      let lines = said.split(separator: "\n")
      #expect(lines.dropLast().last == "swiftlet: stopped before training began; this begins it:", "\(said)")
      #expect(lines.last?.contains(" tune ") == true && lines.last?.contains("--resume") == false)
      #expect(!FileManager.default.fileExists(atPath: folder + "/run/checkpoints"))
    }
  }
}
