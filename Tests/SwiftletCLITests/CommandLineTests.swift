import Foundation
import JSONValues
import Testing

@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct CommandLineTests {
  @Test func helpAndVersion() throws {
    let help = try swiftlet(["--help"])
    #expect(help.status == 0 && help.errors.isEmpty)
    for command in [
      "tune", "generate", "chat", "doctor", "convert", "quantize", "plan", "eval", "export", "tokenize", "template",
      "pull",
      "bench", "selftest", "runs", "info",
    ] {
      #expect(help.output.contains("\n  \(command) "))
      let own = try swiftlet([command, "--help"])
      #expect(own.status == 0 && own.output.contains("Usage: swiftlet \(command)"))
      #expect(own.output.split(separator: "\n").allSatisfy { $0.count <= 100 })
    }
    #expect(try swiftlet(["--version"]).output.hasPrefix("swiftlet "))
  }

  @Test(arguments: [
    (["tune"], "MODEL: missing; name a model folder or a .gguf file"),
    (["tune", "m"], "--data: missing; name at least one dataset"),
    (["tune", "m", "--data", "d", "--lr", "0"], "--learning-rate: 0.0 is not a positive number; the default is 2e-4"),
    (["tune", "m", "--data", "d", "--lora-r", "x"], "--lora-rank: \"x\" is not a whole number"),
    (
      ["tune", "m", "--data", "d", "--learnin-rate", "1"],
      "unknown option --learnin-rate of tune; did you mean --learning-rate?"
    ),
    (["tnue"], "unknown command tnue; did you mean tune?"),
    (["generate", "m"], "--prompt is missing; give a text, or a conversation with --messages"),
    (["tokenize", "m"], "give either --text or --file"),
    (["tokenize", "m", "--batch"], "--batch needs --file, a file with a JSON string on each line"),
    (["export", "m", "--format", "docx"], "--format: \"docx\" is not one of adapter, merged, gguf"),
    (["eval", "m", "--perplexity", "/nonexistent"], "/nonexistent cannot be opened: No such file or directory"),
    (["tune", "--config", "/nonexistent"], "/nonexistent: cannot be opened: No such file or directory"),
  ])
  func mistakesAreOneLineAndStatus2(words: [String], message: String) throws {
    let result = try swiftlet(words)
    #expect(result.status == 2)
    #expect(result.message == message)
    #expect(result.output.isEmpty)
  }

  @Test(arguments: [
    ["generate", "M", "--prompt", "x"], ["tokenize", "M", "--text", "x"], ["tune", "M", "--data", "D"],
  ])
  func aMissingModelIsNamed(words: [String]) throws {
    let result = try swiftlet(words.map { $0 == "M" ? "/nonexistent/model.gguf" : $0 })
    #expect(result.status == 2)
    #expect(result.errors.contains("swiftlet: error: "))
    #expect(result.errors.contains("/nonexistent/model.gguf"))
  }

  @Test func dryRunResolvesFileThenFlags() throws {
    try withTemporaryFolder { folder in
      let config = folder + "/run.yaml"
      try "lr: 1e-3\nlora_rank: 4\ndata: [a.jsonl]\n".write(toFile: config, atomically: true, encoding: .utf8)
      let words = ["tune", "model", "--config", config, "--rank", "8", "--no_shuffle", "--data", "b", "--data", "c"]
      let result = try swiftlet(words + ["--dry-run"])
      #expect(result.status == 0)
      for line in ["model: model", "learning_rate: 0.001", "lora_rank: 8", "shuffle: false", "data: [b, c]"] {
        #expect(result.output.split(separator: "\n").contains(Substring(line)))
      }
      // What is printed is itself a configuration.
      let again = folder + "/again.yaml"
      try result.output.write(toFile: again, atomically: true, encoding: .utf8)
      #expect(try swiftlet(["tune", "--config", again, "--dry-run"]).output == result.output)
    }
  }

  @Test func mistakesInAFileNameItsLine() throws {
    try withTemporaryFolder { folder in
      let config = folder + "/run.yaml"
      try "data: d\nlearning_rate: -1\n".write(toFile: config, atomically: true, encoding: .utf8)
      let result = try swiftlet(["tune", "m", "--config", config])
      #expect(result.status == 2)
      #expect(result.message == "\(config):2: learning_rate: -1.0 is not a positive number; the default is 2e-4")
      // A flag overrides the bad value, and is then the one to blame.
      #expect(try swiftlet(["tune", "m", "--config", config, "--lr", "1e-3", "--dry-run"]).status == 0)
      #expect(
        try swiftlet(["tune", "m", "--config", config, "--lr", "9"]).message?.hasPrefix("--learning-rate") == true)
    }
  }

  @Test func infoAsJSON() throws {
    let result = try swiftlet(["info", "--json"])
    let value = try JSONValue.parse(result.output)
    #expect(value["threads"]?.integer ?? 0 >= 1)
    #expect(value["memory_bytes"]?.integer ?? 0 > 0)
    #expect(result.errors.isEmpty)
  }

  @Test func aFullDiskBehindStandardOutputIsAnError() throws {
    let program = try #require(swiftletPath)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "exec \"$0\" info >/dev/full 2>/dev/null", program]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 1)
  }
}
