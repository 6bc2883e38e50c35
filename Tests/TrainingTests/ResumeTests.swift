import CPUDevice
import TestSupport
import Testing

@testable import Training

/// Runs that stop, die and go on.
@Suite final class ResumeTests: TinyRuns {
  struct Variant: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var compute = CPUDevice.Compute.float32
    var change: @Sendable (inout TrainingConfiguration) -> Void = { _ in }
  }

  @Test(arguments: [
    Variant(testDescription: "plain"), Variant(testDescription: "dropout") { $0.loraDropout = 0.2 },
    Variant(testDescription: "packed, bf16, cosine", compute: .bfloat16) {
      $0.packing = true
      $0.scheduler = .cosine
    },
    Variant(testDescription: "8-bit AdamW, LoRA+, noise") {
      $0.optimizer = .adamw8bit
      $0.loraPlusRatio = 4
      $0.neftuneAlpha = 5
    },
    Variant(testDescription: "running average, DoRA") {
      $0.emaDecay = 0.8
      $0.useDoRA = true
    },
    Variant(testDescription: "all weights, early stopping") {
      $0.full = true
      $0.learningRate = 1e-3
      $0.earlyStoppingPatience = 5
      $0.evalSteps = 3
    },
  ])
  func anInterruptedRunEndsAsAnUnbrokenOne(_ variant: Variant) throws {
    let configuration = configuration(variant.change)
    let evalData = try data("{\"text\": \"abcabc\"}\n")
    let whole = try trainer(configuration, "whole", evalData: evalData, compute: variant.compute).run()
    #expect(whole.steps == 11 && !whole.stoppedEarly)

    var resumed = configuration
    for stop in [1, 2, 6, 9] {
      resumed.resume = stop > 1
      let part = try trainer(resumed, "parts", evalData: evalData, compute: variant.compute)
      let summary = try part.run { $0.step == stop ? .stop : .continue }
      #expect(summary.steps == stop && summary.stoppedEarly)
      #expect(Folders.names(in: "\(folder.path)/parts").contains { $0.hasSuffix("model.safetensors") })
    }
    // As if the process had died after step 9 was logged and before it was saved: back to step 8.
    TemporaryFolder.removeAll("\(folder.path)/parts/checkpoints/step-000009")
    resumed.resume = true
    // Threads, memory and what is recomputed may change.
    resumed.recompute = .all
    let last = try trainer(resumed, "parts", evalData: evalData, compute: variant.compute)
    #expect(last.stepsDone == 8)
    let summary = try last.run()
    #expect(summary.steps == 11 && summary.lastLoss == whole.lastLoss && summary.firstLoss == whole.firstLoss)
    #expect(summary.evalAfter == whole.evalAfter && summary.evalBefore == whole.evalBefore)
    let (expected, found) = (try remains("whole", step: 11), try remains("parts", step: 11))
    for (name, bytes) in expected { #expect(found[name] == bytes, "\(name)") }
  }

  @Test func resumingWithOtherSettingsIsRefusedByName() throws {
    _ = try trainer(configuration { $0.maxSteps = 2 }, "run").run()
    let changes: [(String, (inout TrainingConfiguration) -> Void)] = [
      ("learning-rate was 0.005 and is 0.004", { $0.learningRate = 0.004 }),
      ("seed was 3407 and is 1", { $0.seed = 1 }),
      ("lora-rank was 4 and is 8", { $0.loraRank = 8 }), ("batch-size was 2 and is 4", { $0.batchSize = 4 }),
    ]
    for (line, change) in changes {
      let changed = configuration {
        $0.maxSteps = 2
        $0.resume = true
        change(&$0)
      }
      let error = #expect(throws: RunError.self) { try trainer(changed, "run") }
      let message = error?.description ?? ""
      #expect(message.contains("cannot be resumed with other settings") && !message.contains("\n"))
      #expect(message.contains(line), "\(message)")
    }
    let same = configuration {
      $0.maxSteps = 2
      $0.resume = true
    }
    let error = #expect(throws: RunError.self) {
      try trainer(same, "run", data: data("{\"text\": \"other\"}\n"))
    }
    #expect(error?.description.contains("data was ") == true)
    #expect(try trainer(same, "run").stepsDone == 2)
    let absent = #expect(throws: RunError.self) { try trainer(same, "absent") }
    #expect(absent?.description.contains("no run to resume") == true)
  }

  @Test func theTimeLimitSavesAndTheRunGoesOn() throws {
    _ = try trainer(configuration(), "whole").run()
    var limited = configuration { $0.maxTime = 1000 }
    // The time began long ago: every process does one step.
    for step in 1...3 {
      limited.resume = step > 1
      let summary = try trainer(limited, "parts", began: MonotonicClock.now() - 2000).run()
      #expect(summary.end == .timeLimit && summary.stoppedEarly && summary.steps == step)
      #expect(CheckpointStore(runPath: "\(folder.path)/parts").latest().entry?.step == step)
    }
    let rest = try trainer(limited, "parts").run()
    #expect(rest.end == .finished && rest.steps == 11)
    let (expected, found) = (try remains("whole", step: 11), try remains("parts", step: 11))
    for (name, bytes) in expected where name != "metrics" { #expect(found[name] == bytes, "\(name)") }
  }

  @Test(arguments: [
    ("90", 90.0), ("90s", 90), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172_800), ("0.5", 0.5),
  ])
  func durations(text: String, seconds: Double) { #expect(parseDuration(text) == seconds) }

  @Test(arguments: ["", "h", "1x", "-3", "nan", "1h30", "1 h", "inf"]) func noDurations(text: String) {
    #expect(parseDuration(text) == nil)
  }

  /// A failure to write ends the run with its error, and is not lost with the thread that met it.
  @Test func aSaveThatFailsIsToldAtTheNext() throws {
    struct Full: Error {}
    let work = BackgroundWork()
    try work.start { throw Full() }
    #expect(throws: Full.self) { try work.start {} }
    try work.start {}
    try work.finish()
    try work.finish()
  }
}
