import Glibc
import JSONValues
import TestSupport
import Testing

@testable import Training

@Suite struct RunFolderTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  @Test func aNewRunNeedsAFolderOfItsOwn() throws {
    let path = "\(folder.path)/a/b/run/"
    do {
      let run = try RunFolder.create(path)
      #expect(run.path == "\(folder.path)/a/b/run")
      let error = #expect(throws: RunError.self) { try RunFolder.create(path) }
      #expect(error?.message.hasPrefix("another process is training in this folder") == true)
    }
    do {
      let run = try RunFolder.create(path)
      try run.checkpoints.save(step: 1, write: CheckpointStoreTests.writeFiles("a"))
    }
    let error = #expect(throws: RunError.self) { try RunFolder.create(path) }
    #expect(error?.message.hasPrefix("the folder holds a run already (checkpoints)") == true)
    #expect(try RunFolder.resume(path).checkpoints.latest().entry?.step == 1)
    #expect(throws: RunError.self) { try RunFolder.resume("\(folder.path)/absent") }
  }

  @Test func metricsAreWholeLines() throws {
    let path = "\(folder.path)/metrics.jsonl"
    let log = try MetricsLog(path: path)
    try log.append(.init(step: 0, evalLoss: 2.5))
    try log.append(
      .init(
        step: 1, loss: 2.25, learningRate: 2e-4, gradientNorm: 0.5, tokensPerSecond: 1000.5, tokens: 4096,
        evalLoss: .nan))
    #expect(
      TemporaryFolder.text(of: path) == """
        {"step": 0, "eval_loss": 2.5}
        {"step": 1, "loss": 2.25, "learning_rate": 0.0002, "grad_norm": 0.5, "tokens_per_second": 1000.5, \
        "tokens": 4096, "eval_loss": null}

        """)
    try log.synchronize()
  }

  @Test func metricsAreCutBackToTheResumedStep() throws {
    let lines = (0...5).map { "{\"step\": \($0), \"loss\": 1.5}\n" }
    func resumed(_ text: String, _ step: Int) throws -> String? {
      let path = try folder.write("metrics.jsonl", text)
      try MetricsLog(path: path, resumedAtStep: step).append(.init(step: 9))
      return TemporaryFolder.text(of: path)
    }
    let last = "{\"step\": 9}\n"
    #expect(try resumed(lines.joined(), 3) == lines[...3].joined() + last)
    #expect(try resumed(lines.joined(), 7) == lines.joined() + last)
    #expect(try resumed(lines.joined() + "{\"step\": 6, \"lo", 6) == lines.joined() + last)
    #expect(try resumed(lines.joined() + "\u{0}\u{0}\n" + lines[5], 6) == lines.joined() + last)
    #expect(try resumed("", 3) == last)
  }

  @Test func statesReadBackAsTheyWere() throws {
    var settings = RunSettings(TrainingConfiguration(model: "m", data: "d"), data: "10 examples")
    settings["weights"] = "abc"
    var state = TrainerState(totalSteps: 60, settings: settings, randomState: [UInt64.max, 0, 1, 1 << 63])
    #expect(try saved(state) == state)
    state.step = 7
    state.epoch = 1
    state.stepInEpoch = 2
    state.tokens = 12345
    state.trainedTokens = 999
    state.firstLoss = 1.1
    state.lastLoss = 0.1 + 0.2
    state.firstEvalLoss = 3
    state.bestEvalLoss = .leastNonzeroMagnitude
    state.bestStep = 4
    #expect(try saved(state) == state)
    state.lastLoss = .nan
    #expect(try saved(state).lastLoss == nil)
  }

  private func saved(_ state: TrainerState) throws -> TrainerState {
    try state.save(to: folder.path)
    return try TrainerState.load(from: folder.path)
  }

  @Test(arguments: [
    "", "{}", "[]", "{\"version\": 2}", "{\"version\": 1, \"step\": -1}", "{\"version\": 1, \"step\": 1e99}",
  ])
  func damagedStates(text: String) throws {
    _ = try folder.write("trainer_state.json", text)
    let error = #expect(throws: RunError.self) { try TrainerState.load(from: folder.path) }
    #expect(error?.path.hasSuffix("trainer_state.json") == true)
  }

  @Test func otherSettingsAreRefusedByName() throws {
    let configuration = TrainingConfiguration(model: "m", data: "d")
    let earlier = RunSettings(configuration, data: "10 examples")
    var free = configuration
    free.data = ["elsewhere"]
    free.output = "elsewhere"
    free.resume = true
    free.saveSteps = 7
    free.threads = 3
    try RunSettings(free, data: "10 examples").requireSame(as: earlier, in: "run")
    var other = configuration
    other.learningRate = 1e-3
    other.maxSteps = 10
    let settings = RunSettings(other, data: "11 examples")
    let error = #expect(throws: RunError.self) { try settings.requireSame(as: earlier, in: "run") }
    let message = error?.description ?? ""
    #expect(message.hasPrefix("run: the run cannot be resumed with other settings: learning-rate was "))
    #expect(message.contains("; max-steps was not set and is 10; data was 10 examples and is 11 examples; restore"))
    var more = earlier
    more["weights"] = "abc"
    #expect(more.differences(from: earlier) == ["weights was not set and is abc"])
  }

  @Test func buffersReadBackBitForBit() throws {
    let path = "\(folder.path)/optimizer.safetensors"
    let values: [Float] = [1, -0.0, .leastNonzeroMagnitude, 3.14159, .infinity, 1e-30]
    let bytes = values.withUnsafeBytes { Array($0) }
    func tensor(_ name: String, _ shape: [Int]) -> StateTensor {
      StateTensor(name: name, shape: shape, format: .float32, bytes: bytes)
    }
    try StateTensors.write([tensor("a/exp_avg", [2, 3]), tensor("b", [6])], to: path)
    func read(_ shapes: [(String, [Int])]) throws -> [[Float]] {
      var found: [[Float]] = []
      try StateTensors.read(path, shapes.map { ($0.0, $0.1, .float32) }) { _, bytes in
        found.append(Array(bytes.bindMemory(to: Float.self)))
      }
      return found
    }
    let back = try read([("b", [6]), ("a/exp_avg", [2, 3])])
    for buffer in back { #expect(buffer.map(\.bitPattern) == values.map(\.bitPattern)) }
    for (shapes, message) in [
      ([("b", [6])], "tensor 'a/exp_avg' is none that the run has"),
      ([("b", [3, 2]), ("a/exp_avg", [2, 3])], "tensor 'b' is F32 [6], the run needs F32 [3, 2]"),
      ([("c", [6]), ("a/exp_avg", [2, 3])], "tensor 'c' is missing"),
    ] {
      let error = #expect(throws: RunError.self) { try read(shapes) }
      #expect(error?.message == message)
    }
  }
}
