import CPUDevice
import Glibc
import ModelFiles
import Models
import TestSupport
import Testing

@testable import Training

/// What a run does about numbers that are none, leaps, and a full disk.
@Suite final class GuardTests: TinyRuns {
  @Test func aLossThatIsNoNumberStopsTheRunAndSparesItsCheckpoints() throws {
    let wild = configuration {
      $0.warmupSteps = 0
      $0.learningRate = 1e30
      $0.saveSteps = 1
    }
    let run = try trainer(wild, "run")
    let error = #expect(throws: TrainingError.self) { try run.run() }
    let message = error?.description ?? ""
    // Five steps may be skipped in a row.
    #expect(message.hasPrefix("step 7: the ") && message.contains("lower --learning-rate") && !message.contains("\n"))
    #expect(message.contains("for 6 steps in a row") && message.contains("step-000001 is the last good checkpoint"))
    let store = CheckpointStore(runPath: "\(folder.path)/run")
    #expect(store.entries.map(\.step) == [1])
    #expect(store.latest().entry?.step == 1 && store.latest().damaged.isEmpty)
    #expect(TemporaryFolder.bytes(of: "\(folder.path)/run/adapter_model.safetensors") == nil)

    // A weight whose products overflow shows at the first step.
    let broken = try TemporaryFolder()
    try TinyModel(changing: ["vocab_size": 128]).write(to: broken) { name, values in
      if name == "model.layers.1.post_attention_layernorm.weight" { values[3] = .greatestFiniteMagnitude }
    }
    let model = try LanguageModel(Checkpoint.open(path: broken.path), on: CPUDevice(compute: .float32))
    let first = #expect(throws: TrainingError.self) {
      try trainer(configuration { $0.maxSkippedSteps = 0 }, "broken", model: model).run()
    }
    #expect(first?.description.hasPrefix("step 1: the loss is ") == true)
    #expect(CheckpointStore(runPath: "\(folder.path)/broken").entries.isEmpty)
  }

  @Test func anAdapterThatIsNoNumberIsRefused() throws {
    _ = try trainer(configuration { $0.maxSteps = 1 }, "run").run()
    let path = "\(folder.path)/run/adapter_model.safetensors"
    var bytes = try #require(TemporaryFolder.bytes(of: path))
    bytes.replaceSubrange(bytes.count - 4..<bytes.count, with: GGUFBuilder.bytes([Float.nan]))
    _ = try folder.write("run/adapter_model.safetensors", bytes)
    let model = try self.model()
    let error = #expect(throws: ModelFileError.self) { try model.loadAdapter(from: "\(folder.path)/run") }
    #expect(error?.path == path && error?.message.contains("holds values that are no finite numbers") == true)
  }

  /// A step whose gradient is no number is skipped; the others are learned from as if it were not there.
  @Test func aStepThatIsNoNumberIsSkippedAndCounted() throws {
    /// After steps 2 and 3 something is left among the gradients, which the next step adds to.
    func poison(_ model: LanguageModel) -> Trainer.Sampler {
      var step = 0
      return { prompts, _, _ in
        defer { step += 1 }
        if step == 2 || step == 3, let gradients = model.adapter?.gradients {
          try [Float.nan].withUnsafeBytes { try model.device.upload($0, to: gradients.columns(0..<1)) }
        }
        return prompts.map { _ in "" }
      }
    }
    let one = configuration {
      $0.maxSteps = 8
      $0.saveSteps = 1
      $0.samplePrompts = ["?"]
      $0.sampleSteps = 1
    }
    var seen: [TrainingProgress] = []
    let first = try model()
    let whole = try trainer(one, "whole", model: first, sampler: poison(first)).run {
      seen.append($0)
      return .continue
    }
    #expect(seen.map(\.isSkipped) == [false, false, true, true, false, false, false, false])
    #expect(whole.skippedSteps == 2 && whole.steps == 8 && whole.lastLoss?.isFinite == true)
    // Nothing is saved while steps are skipped, and every skipped one has its line.
    let store = CheckpointStore(runPath: "\(folder.path)/whole")
    #expect(store.entries.map(\.step) == [1, 2, 5, 6, 7, 8])
    let metrics = try #require(TemporaryFolder.text(of: "\(folder.path)/whole/metrics.jsonl"))
    #expect(metrics.split(separator: "\n").count { $0.contains("\"skipped\": true") } == 2)
    #expect(metrics.contains("\"grad_norm\": null"))

    // Interrupted after the two, it ends with the same bits.
    let second = try model()
    _ = try trainer(one, "parts", model: second, sampler: poison(second)).run { $0.step == 4 ? .stop : .continue }
    var resumed = one
    resumed.resume = true
    _ = try trainer(resumed, "parts") { prompts, _, _ in prompts.map { _ in "" } }.run()
    for file in ["adapter_model.safetensors", "checkpoints/step-000008/optimizer.safetensors"] {
      #expect(
        TemporaryFolder.bytes(of: "\(folder.path)/whole/\(file)")
          == TemporaryFolder.bytes(of: "\(folder.path)/parts/\(file)"))
    }
    // One fewer may be skipped: the run stops, with the checkpoint from before.
    var strict = one
    strict.maxSkippedSteps = 1
    strict.saveSteps = 2
    let third = try model()
    let error = #expect(throws: TrainingError.self) {
      try trainer(strict, "strict", model: third, sampler: poison(third)).run()
    }
    #expect(error?.description.contains("for 2 steps in a row") == true)
    #expect(CheckpointStore(runPath: "\(folder.path)/strict").latest().entry?.step == 2)
  }

  @Test func aLossThatLeapsIsFlaggedAndARisingOneIsNot() {
    var random = SeededRandom(seed: 3)
    var watch = LossWatch()
    var flagged: [Int] = []
    for step in 0..<200 {
      let noise = Double.random(in: -0.2..<0.2, using: &random)
      let leap = step == 5 || step == 100 || step == 101 ? 4.0 : 0
      if watch.isSpike(2 + 2 / Double(step + 1) + noise + leap) { flagged.append(step) }
    }
    // Step 5 is within the warm-up, in which nothing is known yet.
    #expect(flagged == [100, 101])
    let before = watch
    let isSpike = watch.isSpike(.nan)
    #expect(!isSpike && watch == before)
    // A new level is accepted after a while, and a slow rise is none.
    var (leaps, rises) = (0, 0)
    for _ in 0..<100 where watch.isSpike(6) { leaps += 1 }
    for step in 0..<500 where watch.isSpike(6 + Double(step) * 0.01) { rises += 1 }
    #expect(leaps > 0 && leaps < 40 && rises == 0)
  }

  @Test func aRunForWhichTheDiskIsTooSmallDoesNotBegin() throws {
    let endless = configuration {
      $0.maxSteps = 1_000_000_000
      $0.saveSteps = 1
    }
    let run = try trainer(endless, "run")
    let error = #expect(throws: RunError.self) { try run.run() }
    #expect(error?.description.contains("too little space") == true)
    #expect(error?.description.contains("--save-limit") == true)
    // Answers count as well.
    let talkative = configuration {
      $0.maxSteps = 1_000_000_000
      $0.saveSteps = 0
      $0.logSteps = 1_000_000_000
      $0.samplePrompts = ["?"]
      $0.sampleSteps = 1
      $0.sampleTokens = 1_000_000
    }
    #expect(throws: RunError.self) {
      try trainer(talkative, "talkative") { prompts, _, _ in prompts.map { _ in "" } }.run()
    }
    #expect(TemporaryFolder.text(of: "\(folder.path)/run/metrics.jsonl") == "")
    // With a limit the same run needs little.
    let needs = DiskNeeds(
      checkpoint: 1000, result: 10, saves: 1_000_000_000, limit: 2, lines: (5, 400), answers: (3, 7))
    #expect(needs.byteCount(existing: 0) == 4 * 1000 + 10 + 2000 + 21 + 2 << 20)
    #expect(needs.byteCount(existing: 3) == 1000 + 10 + 2000 + 21 + 2 << 20)
    #expect(
      DiskNeeds(checkpoint: .max, result: 1, saves: 2, limit: nil, lines: (0, 1)).byteCount(existing: 0) == .max)
    #expect(
      DiskNeeds(checkpoint: 1, result: 1, saves: 2, limit: nil, lines: (.max, 2)).byteCount(existing: 0) == .max)
  }
}
