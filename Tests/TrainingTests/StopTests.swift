import Glibc
import JSONValues
import Synchronization
import TestSupport
import Testing

@testable import Training

/// Runs that are told to stop while something is under way, and runs that died early.
@Suite final class StopTests: TinyRuns {
  private static let heldOut = (1...5).map { "{\"text\": \"held out \($0)\"}\n" }.joined()

  /// Answers letter by letter.
  private static func answer(_ prompts: [String], _ limit: Int, _ goesOn: () -> Bool) -> [String] {
    prompts.map { prompt in
      var answer = ""
      for letter in prompt.prefix(limit) where goesOn() { answer.append(letter) }
      return answer
    }
  }

  private func watched(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
    configuration {
      $0.evalSteps = 2
      $0.samplePrompts = ["one", "two"]
      $0.saveLimit = 2
      $0.earlyStoppingPatience = 50
      change(&$0)
    }
  }

  /// Says stop from the n-th question on.
  private static func stopping(after questions: Int) -> () -> Bool {
    var asked = 0
    return {
      asked += 1
      return asked > questions
    }
  }

  /// The numbers of each step's lines together, times apart.
  private func metrics(_ name: String) throws -> [Int: [String: String]] {
    var steps: [Int: [String: String]] = [:]
    let text = try #require(TemporaryFolder.text(of: "\(folder.path)/\(name)/metrics.jsonl"))
    for line in text.split(separator: "\n") {
      let object = try #require(try JSONValue.parse(String(line)).object)
      let step = try #require(object["step"]?.integer)
      for (key, value) in object where key != "tokens_per_second" && key != "memory_bytes" {
        let known = steps[step]?.updateValue(value.serialized(), forKey: key)
        #expect(known == nil || known == value.serialized())
        if steps[step] == nil { steps[step] = [key: value.serialized()] }
      }
    }
    return steps
  }

  @Test func aStopAnywhereIsMadeUpFor() throws {
    let evalData = try data(Self.heldOut)
    let whole = try trainer(watched(), "whole", evalData: evalData, sampler: Self.answer).run()
    #expect(whole.end == .finished)
    // An evaluation, two answers and a step take about fifteen questions: stops fall into all of them.
    var stops: [Int] = []
    var last: TrainingSummary?
    while last?.end != .finished, stops.count < 200 {
      let part = try trainer(
        watched { $0.resume = !stops.isEmpty }, "parts", evalData: evalData, sampler: Self.answer)
      stops.append(stops.isEmpty ? 1 : .random(in: 0...40))
      part.isStopRequested = Self.stopping(after: stops[stops.count - 1])
      let summary = try part.run()
      #expect(summary.end == .finished || summary.stoppedEarly)
      // What was done is on the disk.
      #expect(CheckpointStore(runPath: "\(folder.path)/parts").latest().entry?.step == summary.steps, "\(stops)")
      last = summary
    }
    #expect(last?.lastLoss == whole.lastLoss && last?.evalBefore == whole.evalBefore, "\(stops)")
    #expect(last?.evalAfter == whole.evalAfter && last?.best?.step == whole.best?.step, "\(stops)")
    for file in [
      "adapter_model.safetensors", "checkpoints/step-000011/adapter_model.safetensors",
      "checkpoints/step-000011/optimizer.safetensors", "best/adapter_model.safetensors",
    ] {
      let bytes = try #require(TemporaryFolder.bytes(of: "\(folder.path)/whole/\(file)"))
      #expect(TemporaryFolder.bytes(of: "\(folder.path)/parts/\(file)") == bytes, "\(file) \(stops)")
    }
    #expect(try metrics("parts") == metrics("whole"), "\(stops)")
  }

  @Test func aStopWithinTheFirstEvaluationIsSavedBeforeTheFirstStep() throws {
    let run = try trainer(watched(), "run", evalData: data(Self.heldOut), sampler: Self.answer)
    run.isStopRequested = Self.stopping(after: 1)
    let summary = try run.run()
    #expect(summary.steps == 0 && summary.end == .stopped && summary.evalBefore == nil)
    #expect(CheckpointStore(runPath: "\(folder.path)/run").entries.map(\.step) == [0])
    #expect(TemporaryFolder.text(of: "\(folder.path)/run/metrics.jsonl") == "")
  }

  /// A run that died before its first checkpoint has nothing to go on from, and need not be cleared away.
  @Test func aRunThatDiedEarlyBeginsAnew() throws {
    _ = try trainer(configuration(), "whole").run()
    do {
      // Made, and not begun.
      _ = try trainer(configuration(), "parts")
    }
    struct Death: Error {}
    let dying = try trainer(
      configuration {
        $0.samplePrompts = ["?"]
        $0.sampleSteps = 3
      }, "parts"
    ) { _, _, _ in
      if TemporaryFolder.text(of: "\(self.folder.path)/parts/metrics.jsonl")?.contains("\"step\": 2") == true {
        throw Death()
      }
      return []
    }
    #expect(throws: Death.self) { try dying.run() }
    _ = consume dying
    let again = #expect(throws: RunError.self) { try trainer(configuration(), "parts") }
    #expect(again?.description.contains("go on with --resume") == true)
    let resumed = try trainer(configuration { $0.resume = true }, "parts")
    #expect(resumed.stepsDone == 0)
    _ = try resumed.run()
    let (expected, found) = (try remains("whole", step: 11), try remains("parts", step: 11))
    for (name, bytes) in expected { #expect(found[name] == bytes, "\(name)") }
  }

  /// While a checkpoint is being written, steps are done.
  @Test func stepsGoOnWhileACheckpointIsWritten() throws {
    let mayGoOn = Mutex(false)
    let path = "\(folder.path)/run"
    let run = try RunFolder.create(path, saveLimit: nil) { moment in
      guard moment == .written else { return }
      // For ten seconds at most: a run that waited for the save would wait for ever.
      for _ in 0..<10_000 where !mayGoOn.withLock({ $0 }) { usleep(1000) }
    }
    let trainer = try Trainer(
      model(), data: data(), evalData: nil, configuration: configuration { $0.saveSteps = 3 }, folder: run)
    var published: [Int: [Int]] = [:]
    _ = try trainer.run { progress in
      published[progress.step] = run.checkpoints.entries.map(\.step)
      if progress.step == 5 { mayGoOn.withLock { $0 = true } }
      return .continue
    }
    #expect(published[4] == [] && published[5] == [])
    #expect(run.checkpoints.entries.map(\.step) == [3, 6, 9, 11])
  }
}
