import Foundation
import JSONValues
import Testing

private let sampleModel = ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] ?? ""

/// The commands on a real model, as a user runs them.
@Suite(
  .serialized, .enabled(if: swiftletPath != nil, "the program was not built beside the tests"),
  .enabled(if: !sampleModel.isEmpty, "SWIFTLET_SAMPLE_MODEL is not set; script/test sets it"))
struct EndToEndTests {
  private static let chats = (0..<8).map { index in
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Say the number \(index).\"}, "
      + "{\"role\": \"assistant\", \"content\": \"Chirp! The number is \(index).\"}]}\n"
  }

  /// Tiny runs: 8 chats, one per step.
  private static let tiny = ["--batch-size", "1", "--gradient-accumulation", "1", "--lora-rank", "4", "--lr", "1e-3"]

  private func chats(in folder: String, _ lines: [String] = Self.chats) throws -> String {
    let path = folder + "/chats.jsonl"
    try lines.joined().write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  @Test func tokenize() throws {
    let ids = try swiftlet(["tokenize", sampleModel, "--text", "Hello world", "--json"])
    #expect(try JSONValue.parse(ids.output)["ids"] == .array([.integer(19556), .integer(905)]))
    #expect(ids.errors.isEmpty)
    #expect(try swiftlet(["tokenize", sampleModel, "--text", "Hello world"]).output == "19556 905\n")
    #expect(try swiftlet(["tokenize", sampleModel, "--file", "-", "--count"], input: "Hello world").output == "2\n")
  }

  @Test func quantizeAndCompare() throws {
    try withTemporaryFolder { folder in
      let text = folder + "/text.txt"
      try String(repeating: Self.chats.joined(), count: 8).write(toFile: text, atomically: true, encoding: .utf8)
      func divergence(_ model: String) throws -> JSONValue {
        let result = try swiftlet([
          "eval", model, "--kl", text, "--reference", sampleModel, "--max-tokens", "256", "--window", "128", "--json",
        ])
        #expect(result.status == 0)
        return try JSONValue.parse(result.output)
      }
      let same = try divergence(sampleModel)
      #expect(same["mean_kl"]?.double.map { abs($0) < 1e-6 } == true && same["top1_agreement"]?.double == 1)
      #expect(same["perplexity_ratio"]?.double == 1 && same["tokens"] == 254)
      let (plain, dynamic) = (folder + "/nf4", folder + "/dynamic")
      #expect(try swiftlet(["quantize", sampleModel, "--method", "nf4", "--output", plain]).status == 0)
      let made = try swiftlet([
        "quantize", sampleModel, "--method", "dynamic", "--calibration", text, "--calibration-tokens", "1024",
        "--budget", "5", "--output", dynamic, "--json",
      ])
      #expect(made.status == 0)
      let json = try JSONValue.parse(made.output)
      let (bytes, least) = (try #require(json["bytes"]?.integer), try #require(json["nf4_bytes"]?.integer))
      let more = Double(bytes) / Double(least) - 1
      #expect(more > 0.0484 && more <= 0.05 && json["rounding"] == "searched")
      let (far, near) = (try divergence(plain), try divergence(dynamic))
      let (a, b) = (try #require(far["mean_kl"]?.double), try #require(near["mean_kl"]?.double))
      #expect(a > 0.02 && a < 1 && b < 0.85 * a)
      let missing = try swiftlet(["quantize", sampleModel, "--method", "dynamic", "--output", folder + "/x"])
      #expect(missing.status == 2 && missing.message?.hasPrefix("--calibration is missing") == true)
      try "short".write(toFile: text, atomically: true, encoding: .utf8)
      let short = try swiftlet([
        "quantize", sampleModel, "--method", "dynamic", "--calibration", text, "--output", folder + "/x",
      ])
      #expect(short.status == 2 && short.errors.contains("the calibration text has 1 tokens"))
      #expect(!FileManager.default.fileExists(atPath: folder + "/x"))
    }
  }

  @Test func tokenizeMany() throws {
    let texts = "\"Hello world\"\n{\"text\": \"Hello\"}\n\"\"\n"
    let lines = try swiftlet(["tokenize", sampleModel, "--file", "-", "--batch"], input: texts)
    #expect(lines.output == "19556 905\n19556\n\n")
    let more = try swiftlet(
      ["tokenize", sampleModel, "--file", "-", "--batch", "--offsets", "--decoded"], input: "\"Hello world\"")
    #expect(
      more.output == "{\"ids\": [19556, 905], \"offsets\": [[0, 5], [5, 11]], \"text\": \"Hello world\"}\n")
    let wrong = try swiftlet(["tokenize", sampleModel, "--file", "-", "--batch"], input: "\"a\"\n[1]\n")
    #expect(wrong.status == 2 && wrong.message?.hasPrefix("-: text 2 must be a JSON string") == true)
  }

  @Test func template() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/messages.json"
      let messages = "[{\"role\": \"system\", \"content\": \"Be kind.\"}, {\"role\": \"user\", \"content\": \"Hi\"}]"
      try messages.write(toFile: path, atomically: true, encoding: .utf8)
      let expected = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
      #expect(try swiftlet(["template", sampleModel, "--messages", path]).output == expected)
      let open = try swiftlet(["template", sampleModel, "--messages", path, "--generation-prompt"])
      #expect(open.output == expected + "<|im_start|>assistant\n")
      try "{\"a\": 1".write(toFile: path, atomically: true, encoding: .utf8)
      let broken = try swiftlet(["template", sampleModel, "--messages", path])
      #expect(broken.status == 2)
      #expect(broken.message?.hasPrefix("\(path):1:") == true)
    }
  }

  @Test func generateIsReproducibleAndStreams() throws {
    let words = ["generate", sampleModel, "--prompt", "What is the capital of France?", "--max-tokens", "12"]
    let plain = try swiftlet(words + ["--temperature", "0"])
    #expect(plain.status == 0)
    #expect(plain.output.contains("Paris"))
    let json = try JSONValue.parse(try swiftlet(words + ["--temperature", "0", "--json"]).output)
    #expect(json["text"]?.string.map { $0 + "\n" } == plain.output)
    #expect(json["tokens"]?.integer ?? 0 > 0)
    let drawn = words + ["--temperature", "1", "--seed", "7"]
    #expect(try swiftlet(drawn).output == swiftlet(drawn).output)
  }

  @Test func chatKeepsTheConversation() throws {
    let result = try swiftlet(
      ["chat", sampleModel, "--temperature", "0", "--max-tokens", "8"], input: "Hi\n/reset\n/nonsense\n/exit\nunread\n")
    #expect(result.status == 0)
    #expect(!result.output.isEmpty)
    #expect(result.errors == "swiftlet: /reset forgets the conversation, /exit ends\n")
  }

  @Test func evalPerplexity() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/text.txt"
      let text = String(repeating: "The quick brown fox jumps over the lazy dog. ", count: 20)
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      let result = try swiftlet(["eval", sampleModel, "--perplexity", path, "--window", "64", "--json"])
      let value = try JSONValue.parse(result.output)
      let perplexity = try #require(value["perplexity"]?.double)
      #expect(perplexity > 1 && perplexity < 100)
      #expect(abs(perplexity - Foundation.exp(try #require(value["nll"]?.double))) < 1e-6 * perplexity)
      #expect(value["tokens"]?.integer ?? 0 > 60)
    }
  }

  @Test func tuneStopResumeExport() throws {
    try withTemporaryFolder { folder in
      let data = try chats(in: folder)
      let run = folder + "/run"
      let words = ["tune", sampleModel, "--data", data, "--output", run, "--eval-data", data] + Self.tiny
      let tuned = try swiftlet(words + ["--json"])
      #expect(tuned.status == 0, "\(tuned.errors)")
      let summary = try JSONValue.parse(tuned.output)
      #expect(summary["steps"]?.integer == 8)
      let (before, after) = (summary["eval_before"]?.double ?? 0, summary["eval_after"]?.double ?? .infinity)
      #expect(after < before - 0.5)
      let metrics = try String(contentsOfFile: run + "/metrics.jsonl", encoding: .utf8).split(separator: "\n")
      let steps = try metrics.compactMap { try JSONValue.parse(String($0))["step"]?.integer }
      #expect(Set(1...8).isSubset(of: steps))

      // The folder keeps its configuration, and is not overwritten.
      #expect(try swiftlet(["tune", "--config", run + "/config.yaml", "--dry-run"]).status == 0)
      let again = try swiftlet(words)
      #expect(again.status != 0)
      #expect(again.errors.contains(run))

      // The adapter changes the answer, from the run's folder and exported.
      let adapter = folder + "/adapter"
      let export = ["export", sampleModel, "--adapter", run, "--format", "adapter", "--output", adapter]
      let exported = try swiftlet(export)
      #expect(exported.status == 0, "\(exported.errors)")
      let question = ["--prompt", "Say the number 5.", "--temperature", "0", "--max-tokens", "8"]
      let prompt = ["generate", sampleModel] + question
      let own = try swiftlet(prompt + ["--adapter", run]).output
      #expect(try swiftlet(prompt).output != own)
      #expect(try swiftlet(prompt + ["--adapter", adapter]).output == own)

      // Added to the weights it says the same.
      let merged = folder + "/merged"
      let merge = ["export", sampleModel, "--adapter", run, "--format", "merged", "--type", "f32", "--output", merged]
      let written = try swiftlet(merge)
      #expect(written.status == 0 && written.output.isEmpty, "\(written.errors)")
      let exact = ["--compute", "fp32"]
      #expect(
        try swiftlet(["generate", merged] + question + exact).output
          == swiftlet(prompt + ["--adapter", run] + exact).output)

      // Another run goes on from it; a shape that contradicts it is refused.
      let more = ["tune", sampleModel, "--data", data, "--eval-data", data, "--adapter", run, "--max-steps", "2"]
      let options = ["--batch-size", "1", "--gradient-accumulation", "1", "--json"]
      let second = try swiftlet(more + options + ["--output", folder + "/second"])
      #expect(second.status == 0, "\(second.errors)")
      #expect(try JSONValue.parse(second.output)["eval_before"] == summary["eval_after"])
      let refused = try swiftlet(more + ["--lora-rank", "8", "--output", folder + "/third"])
      #expect(refused.status == 2)
      #expect(
        refused.errors.split(separator: "\n").last
          == "swiftlet: error: --lora-rank: 8, but the adapter in \(run) has 4; leave it out to go on from it")
      #expect(!FileManager.default.fileExists(atPath: folder + "/third"))

      // Two at once; one that is named for another model is said.
      let two = try swiftlet(prompt + ["--adapter", run, "--adapter", folder + "/second"])
      #expect(two.status == 0 && two.errors.isEmpty)
      let path = adapter + "/adapter_config.json"
      let text = try String(contentsOfFile: path, encoding: .utf8)
      try text.replacingOccurrences(of: sampleModel, with: "someone/else").write(
        toFile: path, atomically: true, encoding: .utf8)
      #expect(
        try swiftlet(prompt + ["--adapter", adapter]).errors
          == "swiftlet: \(adapter) says that it was made for someone/else, not for \(sampleModel)\n")
    }
  }

  @Test func pairsOfAnswersAreLearnedFrom() throws {
    try withTemporaryFolder { folder in
      let pairs = (0..<6).map { index in
        "{\"prompt\": \"Say the number \(index).\", \"chosen\": \"Chirp! \(index).\", \"rejected\": \"No.\"}\n"
      }
      let data = folder + "/pairs.jsonl"
      try pairs.joined().write(toFile: data, atomically: true, encoding: .utf8)
      let words = [
        "tune", sampleModel, "--data", data, "--output", folder + "/run", "--max-steps", "4", "--use-dora",
        "--optimizer", "adamw8bit", "--eval-share", "0.2", "--eval-steps", "2", "--sample-prompt", "Say the number 5.",
        "--sample-tokens", "4", "--warmup-steps", "0",
      ]
      let tuned = try swiftlet(words + Self.tiny + ["--method", "dpo", "--json"])
      #expect(tuned.status == 0, "\(tuned.errors)")
      #expect(tuned.errors.contains("swiftlet: answered ") && tuned.errors.contains("1 examples are held out"))
      let summary = try JSONValue.parse(tuned.output)
      // An adapter that has learned nothing prefers nothing: log 2, but for what scaling rounds in bf16.
      #expect(abs((summary["first_loss"]?.double ?? 0) - 0.6931472) < 0.05)
      #expect(summary["last_loss"]?.double ?? 1 < 0.68 && summary["end"]?.string == "finished")
      let metrics = try String(contentsOfFile: folder + "/run/metrics.jsonl", encoding: .utf8)
      #expect(metrics.contains("\"reward_accuracy\": ") && metrics.contains("\"samples\": [{\"prompt\""))
      let answer = ["generate", sampleModel, "--adapter", folder + "/run", "--prompt", "Hi", "--max-tokens", "4"]
      #expect(try swiftlet(answer).status == 0)

      // What does not fit the method is refused.
      let plain = try swiftlet(words + ["--output", folder + "/plain"])
      #expect(plain.status == 2 && plain.errors.contains("give --method dpo or orpo"))
      let wrong = try swiftlet([
        "tune", sampleModel, "--data", try chats(in: folder), "--output", folder + "/wrong", "--method", "orpo",
      ])
      #expect(wrong.status == 2 && wrong.errors.contains("learns from preference pairs"))
    }
  }

  /// All weights of the sample model: the loss falls, and what is left is a model like any other.
  @Test func allWeightsAreTrained() throws {
    try withTemporaryFolder { folder in
      let data = try chats(in: folder)
      let run = folder + "/run"
      let tuned = try swiftlet([
        "tune", sampleModel, "--data", data, "--eval-data", data, "--output", run, "--full", "--batch-size", "4",
        "--gradient-accumulation", "1", "--max-steps", "4", "--warmup-steps", "0", "--lr", "1e-4", "--optimizer",
        "adamw8bit", "--save-steps", "0", "--json",
      ])
      #expect(tuned.status == 0, "\(tuned.errors)")
      let summary = try JSONValue.parse(tuned.output)
      let (before, after) = (summary["eval_before"]?.double ?? 0, summary["eval_after"]?.double ?? .infinity)
      #expect(after < before - 0.5)
      let text = folder + "/text.txt"
      try Self.chats.joined().write(toFile: text, atomically: true, encoding: .utf8)
      func perplexity(_ model: String) throws -> Double {
        let result = try swiftlet(["eval", model, "--perplexity", text, "--json"])
        #expect(result.status == 0, "\(result.errors)")
        return try JSONValue.parse(result.output)["perplexity"]?.double ?? .nan
      }
      let learned = try perplexity(run)
      #expect(try learned < perplexity(sampleModel))
      let gguf = folder + "/learned.gguf"
      let exported = try swiftlet(["export", run, "--format", "gguf", "--type", "f16", "--output", gguf])
      #expect(exported.status == 0, "\(exported.errors)")
      #expect(try abs(perplexity(gguf) / learned - 1) < 0.02)
    }
  }

  @Test func aSignalSavesAndResumeGoesOn() throws {
    try withTemporaryFolder { folder in
      let data = try chats(in: folder)
      func words(_ run: String) -> [String] {
        ["tune", sampleModel, "--data", data, "--output", folder + "/" + run, "--epochs", "3"] + Self.tiny
      }
      #expect(try swiftlet(words("whole")).status == 0)

      let process = Process()
      process.executableURL = URL(fileURLWithPath: try #require(swiftletPath))
      process.arguments = words("parts")
      let errors = folder + "/errors"
      #expect(FileManager.default.createFile(atPath: errors, contents: nil))
      process.standardError = FileHandle(forWritingAtPath: errors)
      process.standardOutput = FileHandle.nullDevice
      try process.run()
      let metrics = folder + "/parts/metrics.jsonl"
      for _ in 0..<2000 where process.isRunning {
        if let text = try? String(contentsOfFile: metrics, encoding: .utf8), text.contains("\"step\"") { break }
        Thread.sleep(forTimeInterval: 0.02)
      }
      process.terminate()
      process.waitUntilExit()
      // Stopped and saved is no failure; the last line is the command that goes on.
      #expect(process.terminationStatus == 0)
      let said = try String(contentsOfFile: errors, encoding: .utf8).split(separator: "\n")
      #expect(said.dropLast().last?.contains("stopped, saved at step") == true)
      let path = try #require(swiftletPath)
      #expect(said.last?.hasSuffix(" --resume") == true && said.last?.hasPrefix(path) == true)
      let resumed = try shell(try #require(said.last.map(String.init)))
      #expect(resumed.status == 0, "\(resumed.errors)")

      // Bit for bit what the run without a break learned.
      let name = "/adapter_model.safetensors"
      let whole = try Data(contentsOf: URL(fileURLWithPath: folder + "/whole" + name))
      let parts = try Data(contentsOf: URL(fileURLWithPath: folder + "/parts" + name))
      #expect(whole == parts)
    }
  }

  @Test(arguments: [
    ("", 1), ("{\"messages\": 5}\n", 1), ("{\"text\": \"fine\"}\n{\"text\": \n", 2), ("not json\n", 1),
  ])
  func aBadDatasetIsNamedWithItsLine(text: String, line: Int) throws {
    try withTemporaryFolder { folder in
      let data = try chats(in: folder, [text])
      let result = try swiftlet(["tune", sampleModel, "--data", data, "--output", folder + "/run"])
      #expect(result.status == 2)
      let last = result.errors.split(separator: "\n").last ?? ""
      #expect(last.hasPrefix("swiftlet: error: \(data)"))
      #expect(text.isEmpty || last.contains(":\(line): "))
      #expect(!FileManager.default.fileExists(atPath: folder + "/run/adapter_model.safetensors"))
    }
  }

  @Test func anUnwritableOutputIsNamed() throws {
    try withTemporaryFolder { folder in
      let data = try chats(in: folder)
      let result = try swiftlet(["tune", sampleModel, "--data", data, "--output", "/proc/run"])
      #expect(result.status != 0)
      #expect(result.errors.split(separator: "\n").last?.contains("/proc/run") == true)
    }
  }
}
