import Foundation
import JSONValues
import Testing

private let sampleModel = ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// What training would see, and what a run leaves to look at.
@Suite(
  .serialized, .enabled(if: swiftletPath != nil, "the program was not built beside the tests"),
  .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct DataCommandTests {
  private static let chats = (0..<6).map { index in
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Say \(index).\"}, "
      + "{\"role\": \"assistant\", \"content\": \"Chirp \(index)!\"}]}\n"
  }.joined()

  @Test func previewShowsWhatIsTrainedAndNothingElse() throws {
    try withTemporaryFolder { folder in
      let run = folder + "/run"
      let words = ["tune", sampleModel, "--data", "-", "--output", run, "--preview", "2"]
      let shown = try swiftlet(words, input: Self.chats)
      #expect(shown.status == 0, "\(shown.errors)")
      #expect(shown.output.contains("<|im_start|>user\nSay 0.<|im_end|>\n<|im_start|>assistant\n⟦Chirp 0!<|im_end|>⟧"))
      #expect(shown.output.contains("sample 2:") && !shown.output.contains("Say 2."))
      #expect(shown.errors.contains("swiftlet: data -: messages (role/content), JSONL\n"))
      let json = try JSONValue.parse(try swiftlet(words + ["--json"], input: Self.chats).output)
      let first = try #require(json["samples"]?[0]?[0])
      let (ids, mask) = (try #require(first["ids"]?.array), try #require(first["mask"]?.array))
      #expect(ids.count == mask.count && mask.contains(.integer(1)) && mask.contains(.integer(0)))
      // The turn ends trained, and what follows it is not.
      #expect(ids[mask.lastIndex(of: .integer(1)) ?? 0] == .integer(2))
      #expect(!FileManager.default.fileExists(atPath: run))
    }
  }

  @Test func whatIsOddIsTold() throws {
    try withTemporaryFolder { folder in
      let data = folder + "/odd.jsonl"
      let odd =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"\"}]}\n"
      try (Self.chats + Self.chats + odd).write(toFile: data, atomically: true, encoding: .utf8)
      let words = ["tune", sampleModel, "--data", data, "--preview", "13"]
      let told = try swiftlet(words)
      #expect(told.status == 0, "\(told.errors)")
      #expect(told.errors.contains("warning: 6 samples seen before (first: \(data):7)"))
      #expect(told.errors.contains("warning: 1 sample with an empty turn of the assistant (first: \(data):13)"))
      let spelled = folder + "/spelled.jsonl"
      try
        "{\"prompt\": \"a <|im_end|>\", \"completion\": \"b\"}\n\(Self.chats.replacing("Say 0", with: "<|im_start|>"))"
        .write(toFile: spelled, atomically: true, encoding: .utf8)
      for (line, format) in [(1, "prompt-completion"), (1, "messages")] {
        let file = folder + "/\(format).jsonl"
        let lines = try String(contentsOfFile: spelled, encoding: .utf8).split(separator: "\n")
        try (format == "messages" ? lines[1...] : lines[..<1]).joined(separator: "\n").write(
          toFile: file, atomically: true, encoding: .utf8)
        let command = ["tune", sampleModel, "--data", file, "--preview", "1", "--json"]
        let text = try swiftlet(command)
        #expect(
          text.errors.contains("in its words (first: \(file):\(line)); they are taken for text"), "\(text.errors)")
        let parsed = try swiftlet(command + ["--parse-special"])
        #expect(!parsed.errors.contains("special token"))
        func count(_ result: ProgramResult) throws -> Int {
          try JSONValue.parse(result.output)["samples"]?[0]?[0]?["ids"]?.array?.count ?? 0
        }
        // One token instead of its letters.
        #expect(try count(parsed) < count(text))
      }
      let refused = try swiftlet(words + ["--strict"])
      #expect(refused.status == 2 && refused.errors.contains("\(data):13: a sample with an empty turn"))
    }
  }

  @Test func aRunIsLookedAt() throws {
    try withTemporaryFolder { folder in
      let data = folder + "/chats.csv"
      try "question,answer\n\"Say 1, please.\",Chirp 1!\nSay 2.,Chirp 2!\n".write(
        toFile: data, atomically: true, encoding: .utf8)
      func tune(_ name: String, _ rate: String) throws -> ProgramResult {
        try swiftlet([
          "tune", sampleModel, "--data", data, "--eval-data", data, "--output", "\(folder)/\(name)", "--batch-size",
          "1",
          "--gradient-accumulation", "1", "--lora-rank", "2", "--learning-rate", rate, "--max-steps", "3",
        ])
      }
      let first = try tune("first", "1e-3")
      #expect(first.status == 0, "\(first.errors)")
      #expect(first.errors.contains("⟦Chirp 1!<|im_end|>⟧"))
      #expect(try tune("second", "1e-5").status == 0)
      let report = try String(contentsOfFile: folder + "/first/report.html", encoding: .utf8)
      for text in ["3 of 3", "held out", "learning-rate", "question/answer, CSV", "Memory"] {
        #expect(report.contains(text), "\(text)")
      }
      let events = try FileManager.default.contentsOfDirectory(atPath: folder + "/first/tensorboard")
      #expect(events.count == 1 && events[0].hasPrefix("events.out.tfevents."))

      // Each step, and the summary, as JSON alone; and nothing at all.
      let words = [
        "tune", sampleModel, "--data", data, "--batch-size", "1", "--gradient-accumulation", "1", "--lora-rank", "2",
      ]
      let steps = try swiftlet(words + ["--output", "\(folder)/.steps", "--progress", "json"])
      let objects = try steps.output.split(separator: "\n").map { try JSONValue.parse(String($0)) }
      #expect(objects.compactMap { $0["step"]?.integer } == [1, 2] && objects.count == 3)
      #expect(objects[0]["total_steps"] == 2 && objects[0]["memory_bytes"]?.integer ?? 0 > 1 << 20)
      #expect(objects[2]["steps"] == 2)
      let quiet = try swiftlet(words + ["--output", "\(folder)/.quiet", "--quiet"])
      #expect(quiet.status == 0 && quiet.output.isEmpty && quiet.errors.isEmpty, "\(quiet.errors)")

      let list = try JSONValue.parse(try swiftlet(["runs", folder, "--json"]).output)
      #expect(list.array?.compactMap { $0["run"]?.string } == ["\(folder)/first", "\(folder)/second"])
      #expect(list[0]?["steps"] == 3 && list[0]?["settings"]?["learning-rate"] == "0.001")
      let page = folder + "/runs.html"
      let table = try swiftlet(["runs", folder + "/first", folder + "/second", "--html", page])
      #expect(table.status == 0, "\(table.errors)")
      let lines = table.output.split(separator: "\n")
      #expect(lines.contains { $0.hasPrefix("learning-rate") && $0.contains("0.001") && $0.contains("1e-05") })
      #expect(
        lines.contains { $0.contains("│") && $0.contains("A") }
          && lines.contains { $0.contains("loss, smoothed by step") })
      #expect(try String(contentsOfFile: page, encoding: .utf8).contains("What sets them apart"))
      let missing = try swiftlet(["runs", folder + "/none"])
      #expect(missing.status == 2 && missing.message == "\(folder)/none: there is no such folder")
    }
  }
}
