import Testing
import Training

@testable import Swiftlet

private func configuration(_ text: String) throws -> TrainingConfiguration {
  var configuration = TrainingConfiguration()
  try YAMLConfiguration(text: text, file: "run.yaml").apply(to: &configuration)
  return configuration
}

private func message(_ text: String) -> String? {
  do {
    _ = try configuration(text)
    return nil
  } catch { return "\(error)" }
}

@Suite struct YAMLConfigurationTests {
  @Test func keysAreTheOptions() throws {
    let read = try configuration(
      """
      # a comment
      model: model.gguf
      data: [a.jsonl, "b, c.jsonl"]
      lr: 1e-3
      lora_r: 8
      target-modules: q_proj, v_proj
      packing: yes
      memory: 24GB
      eval_data: ~
      max_steps: null
      lr_scheduler: 'cosine'
      """)
    #expect(read.model == "model.gguf")
    #expect(read.data == ["a.jsonl", "b, c.jsonl"])
    #expect(read.learningRate == 1e-3)
    #expect(read.loraRank == 8)
    #expect(read.targetModules == ["q_proj", "v_proj"])
    #expect(read.packing)
    #expect(read.memory == 24_000_000_000)
    #expect(read.evalData == nil)
    #expect(read.maxSteps == nil)
    #expect(read.scheduler == .cosine)
  }

  @Test func emptyFilesChangeNothing() throws {
    #expect(try configuration("") == TrainingConfiguration())
    #expect(try configuration("# nothing\n---\n") == TrainingConfiguration())
    #expect(try configuration("\u{FEFF}seed: 1").seed == 1)
  }

  @Test(arguments: [
    ("seed: 1\nlearning_rat: 1", "run.yaml:2: unknown key \"learning_rat\"; did you mean learning_rate?"),
    ("qqqq: 1", "run.yaml:1: unknown key \"qqqq\"; the keys are the options of tune with _ for -"),
    ("\n\nlearning_rate: fast", "run.yaml:3: learning_rate: \"fast\" is not a number"),
    ("lora_rank: [1, 2]", "run.yaml:1: lora_rank: a list is not a whole number"),
    ("lora_rank:\n  x: 1", "run.yaml:2: lora_rank: a mapping is not a value; keys are not nested"),
    ("data: [[a]]", "run.yaml:1: data: a list may hold texts only"),
    ("seed: 1\nlr: 1\nlearning_rate: 2", "run.yaml:3: learning_rate repeats lr of line 2; remove one"),
    ("- a\n- b", "run.yaml:1: is not a mapping of keys to values, like \"learning_rate: 2e-4\""),
    ("text", "run.yaml:1: is not a mapping of keys to values, like \"learning_rate: 2e-4\""),
    ("model: &a x\ndata: *a", "run.yaml:2: aliases (*name) are not used here; write the value again"),
    ("seed: 1\n---\nseed: 2", "run.yaml:2: a second document begins here; keep one"),
    ("[a]: 1", "run.yaml:1: a key must be a word"),
  ])
  func mistakesNameTheLine(text: String, expected: String) {
    #expect(message(text) == expected)
  }

  @Test(arguments: ["seed: 'open", "a: b: c", "\tseed: 1", "{", "%YAML 9.9\n---\n", "seed: \u{1}"])
  func brokenTextIsRefused(text: String) {
    let line = message(text)
    #expect(line?.hasPrefix("run.yaml") == true)
    #expect(line?.contains("\n") == false)
  }

  @Test func hostileFilesCostNoMoreThanTheirLength() {
    #expect(message(String(repeating: "[", count: 100_000))?.hasPrefix("run.yaml") == true)
    #expect(message("data: " + String(repeating: "[", count: 100_000))?.contains("list") == true)
    #expect(message(String(repeating: "x", count: YAMLMapping.byteLimit + 1))?.contains("longer") == true)
    #expect(throws: YAMLError.self) { try YAMLConfiguration(bytes: [0xff, 0xfe, 0xff, 0xd8, 0x41], file: "run.yaml") }
    #expect(throws: YAMLError.self) { try YAMLConfiguration(path: "/nonexistent/run.yaml") }
    #expect(throws: YAMLError.self) { try YAMLConfiguration(path: "/") }
  }

  @Test func whatIsWrittenReadsBack() throws {
    var original = TrainingConfiguration(model: "null", data: "a: b #c.jsonl")
    original.data += ["1e3", "ü — \"quoted\" 'too'", "- dash", "line\nbreak", "", " space ", "yes", "0x10"]
    original.evalData = "~"
    original.output = "true"
    original.learningRate = 1.0 / 3
    original.memory = 3 << 30
    original.warmupRatio = 0.1
    original.packing = true
    let text = try original.yaml()
    #expect(try configuration(text) == original)
    #expect(text.contains("\nlearning_rate: 0.3333333333333333\n"))
    #expect(try configuration(try TrainingConfiguration().yaml()) == TrainingConfiguration())
  }

  @Test func linesOfOptions() throws {
    let yaml = try YAMLConfiguration(text: "seed: 1\nlr: 0", file: "run.yaml")
    #expect(yaml.line(of: "learning-rate") == 2)
    #expect(yaml.line(of: "model") == nil)
  }
}
