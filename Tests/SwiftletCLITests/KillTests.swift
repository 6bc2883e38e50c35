import Foundation
import Testing

private let sampleModel = ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// A run that is killed with no chance to save.
@Suite(
  .enabled(if: swiftletPath != nil, "the program was not built beside the tests"),
  .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct KillTests {
  @Test func aKilledRunGoesOnAsIfNothingHadHappened() throws {
    try withTemporaryFolder { folder in
      let data = folder + "/chats.jsonl"
      let chats = (0..<10).map { index in
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Say \(index).\"}, "
          + "{\"role\": \"assistant\", \"content\": \"Chirp! \(index).\"}]}\n"
      }
      try chats.joined().write(toFile: data, atomically: true, encoding: .utf8)
      func words(_ run: String) -> [String] {
        [
          "tune", sampleModel, "--data", data, "--output", folder + "/" + run, "--max-steps", "24", "--save-steps", "1",
          "--batch-size", "1", "--gradient-accumulation", "1", "--lora-rank", "4", "--lora-dropout", "0.1",
        ]
      }
      #expect(try swiftlet(words("whole")).status == 0)

      // Every step is saved, so most of these moments lie in the middle of a save, other ones each time.
      let moments = [Int.random(in: 2...6), .random(in: 7...12), .random(in: 13...20)]
      for (round, lines) in moments.enumerated() {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(swiftletPath))
        process.arguments = words("parts") + (round > 0 ? ["--resume"] : [])
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        for _ in 0..<12_000 where process.isRunning {
          let text = (try? String(contentsOfFile: folder + "/parts/metrics.jsonl", encoding: .utf8)) ?? ""
          if text.split(separator: "\n").count >= lines { break }
          Thread.sleep(forTimeInterval: 0.005)
        }
        #expect(process.isRunning, "killed after \(moments) steps")
        Thread.sleep(forTimeInterval: .random(in: 0..<0.03))
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        #expect(process.terminationReason == .uncaughtSignal)
        // At most the step whose save was under way, and the one after it, are lost.
        let saved = (try? FileManager.default.destinationOfSymbolicLink(atPath: folder + "/parts/latest")) ?? "0"
        let step = Int(saved.suffix(6)) ?? 0
        #expect(step >= lines - 2, "killed after \(lines) steps, \(saved) is saved")
      }
      let resumed = try swiftlet(words("parts") + ["--resume"])
      #expect(resumed.status == 0, "\(resumed.errors)")
      for name in [
        "adapter_model.safetensors", "checkpoints/step-000024/optimizer.safetensors",
        "checkpoints/step-000024/trainer_state.json",
      ] {
        let whole = try Data(contentsOf: URL(fileURLWithPath: folder + "/whole/" + name))
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder + "/parts/" + name)) == whole, "\(name)")
      }
    }
  }
}
