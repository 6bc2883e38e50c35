import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import Training

/// Whole runs of a tiny model.
@Suite struct TrainerTests {
  let folder: TemporaryFolder
  private let modelFolder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    modelFolder = try TemporaryFolder()
    try TinyModel(changing: ["vocab_size": 128]).write(to: modelFolder)
  }

  /// Eleven texts of several lengths: three steps an epoch, so that runs cross epochs.
  private static let texts = (1...11).map { "{\"text\": \"\(String(repeating: "ab\($0)", count: $0))\"}\n" }.joined()

  private func data(_ text: String = Self.texts, limit: Int = 32) throws -> TokenizedDataset {
    let path = try folder.write("data-\(text.utf8.count).jsonl", text)
    return try TokenizedDataset(
      Dataset(paths: [path]), encoder: ByteEncoder(), options: .init(maxSequenceLength: limit))
  }

  private func configuration(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
    var configuration = TrainingConfiguration(model: "tiny", data: "data.jsonl")
    configuration.batchSize = 2
    configuration.gradientAccumulation = 2
    configuration.maxSequenceLength = 32
    configuration.loraRank = 4
    configuration.learningRate = 5e-3
    configuration.warmupSteps = 2
    configuration.maxSteps = 11
    configuration.saveSteps = 4
    change(&configuration)
    return configuration
  }

  /// What a new process would do: loads the model and opens the run.
  private func trainer(
    _ configuration: TrainingConfiguration, _ name: String, data: TokenizedDataset? = nil,
    evalData: TokenizedDataset? = nil, model: LanguageModel? = nil, compute: CPUDevice.Compute = .float32,
    startingFrom start: AdapterSum? = nil, sampler: Trainer.Sampler? = nil,
    began: Double = MonotonicClock.now()
  ) throws -> Trainer {
    let path = "\(folder.path)/\(name)"
    let model = try model ?? LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: compute))
    return try Trainer(
      model, data: data ?? self.data(), evalData: evalData, configuration: configuration,
      folder: configuration.resume
        ? .resume(path, saveLimit: configuration.saveLimit) : .create(path, saveLimit: configuration.saveLimit),
      startingFrom: start, sampler: sampler, began: began)
  }

  /// Everything that a finished run leaves, times apart.
  private func remains(_ name: String, step: Int) throws -> [String: [UInt8]] {
    let run = "\(folder.path)/\(name)"
    let checkpoint = "\(run)/checkpoints/step-0000\(step)"
    var files: [String: [UInt8]] = [:]
    let names = Folders.names(in: checkpoint)
    #expect(names.contains("optimizer.safetensors") && names.contains("trainer_state.json"))
    let results = ["adapter_model.safetensors", "model.safetensors"].filter { names.contains($0) }
    #expect(results.count == 1)
    for file in results.map({ "\(run)/\($0)" }) + names.map({ "\(checkpoint)/\($0)" }) {
      let bytes = try #require(TemporaryFolder.bytes(of: file))
      files[String(file.dropFirst(run.utf8.count))] = bytes
    }
    let metrics = try #require(TemporaryFolder.text(of: "\(run)/metrics.jsonl"))
    files["metrics"] = try metrics.split(separator: "\n").flatMap { line in
      var object = try #require(try JSONValue.parse(String(line)).object)
      object["tokens_per_second"] = nil
      object["memory_bytes"] = nil
      return Array(JSONValue.object(object).serialized().utf8) + [10]
    }
    return files
  }

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
    let model = try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
    let error = #expect(throws: ModelFileError.self) { try model.loadAdapter(from: "\(folder.path)/run") }
    #expect(error?.path == path && error?.message.contains("holds values that are no finite numbers") == true)
  }

  @Test func aTinyTaskIsLearned() throws {
    let data = try data("{\"text\": \"swiftlet\"}\n{\"text\": \"cave\"}\n")
    let overfit = configuration {
      $0.maxSteps = 120
      $0.learningRate = 2e-2
      $0.gradientAccumulation = 1
      $0.loraRank = 8
      $0.evalSteps = 40
      $0.saveSteps = 0
    }
    let summary = try trainer(overfit, "run", data: data, evalData: data).run()
    let (first, last) = (summary.firstLoss ?? 0, summary.lastLoss ?? .infinity)
    #expect(first > 2 && last < 0.1 * first)
    #expect(abs((summary.evalBefore ?? 0) - first) < 1e-4 && (summary.evalAfter ?? .infinity) < 0.1 * first)
    // The adapter of the run's folder gives the loss that the run ended with.
    let model = try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
    try model.loadAdapter(from: summary.adapterPath)
    let batch = try data.batch(of: 0..<2)
    #expect(abs(try model.evaluate(batch) / Double(batch.trainedTokenCount) - (summary.evalAfter ?? 0)) < 1e-6)
  }

  @Test func aRunGoesOnFromAnAdapter() throws {
    let data = try data()
    func run(_ name: String, from start: AdapterSum? = nil, _ change: (inout TrainingConfiguration) -> Void) throws
      -> TrainingSummary
    {
      try trainer(configuration(change), name, data: data, evalData: data, startingFrom: start).run()
    }
    let first = try run("first") {
      $0.useRSLoRA = true
      $0.targetModules = ["v_proj", "q_proj"]
    }
    let model = try ModelConfiguration(
      json: readJSON("\(modelFolder.path)/config.json"), path: "\(modelFolder.path)/config.json")
    func sum(_ names: String...) throws -> AdapterSum {
      try AdapterSum(names.map { try AdapterFile.load(folder: "\(folder.path)/\($0)", for: model) })
    }
    let start = try sum("first")
    var plain = TrainingConfiguration(model: "tiny", data: "data.jsonl")
    let taken = try plain.continuing(start, from: "first")
    #expect(taken.loraRank == 4 && taken.loraAlpha == 16 && taken.useRSLoRA)
    #expect(taken.targetModules == ["q_proj", "v_proj"])
    let second = try run("second", from: start) {
      $0.loraRank = taken.loraRank
      $0.useRSLoRA = taken.useRSLoRA
      $0.targetModules = taken.targetModules
    }
    #expect(second.evalBefore == first.evalAfter, "it starts where the other ended")
    #expect((second.evalAfter ?? .infinity) < (first.evalAfter ?? 0))
    // Ranks, scales and places of its own: one of a single rank stands for it, and its zeros stay zeros.
    let other = TinyAdapter(
      [("model.layers.1.self_attn.q_proj", 16, 16), ("model.layers.2.mlp.up_proj", 24, 16)], rank: 3, alpha: 2,
      bound: 0.1)
    try other.write(to: folder, "other")
    let both = try sum("first", "other")
    let shape = try plain.continuing(both, from: "both")
    #expect(shape.loraRank == 7 && !shape.useRSLoRA && shape.targetModules == ["q_proj", "v_proj", "up_proj"])
    let third = try run("third", from: both) {
      ($0.loraRank, $0.loraAlpha, $0.targetModules) = (shape.loraRank, shape.loraAlpha, shape.targetModules)
    }
    let loaded = try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
    try loaded.loadAdapters(from: ["first", "other"].map { "\(folder.path)/\($0)" })
    let batch = try data.batch(of: 0..<2)
    let before = try loaded.evaluate(batch)
    try loaded.loadAdapter(from: "\(folder.path)/third")
    #expect(try loaded.evaluate(batch) < before && (third.evalAfter ?? .infinity) < (third.evalBefore ?? 0))
    let learned = try #require(try sum("third").decode(layer: 0, module: .up))
    #expect(learned.a.allSatisfy { $0 == 0 } && learned.b.allSatisfy { $0 == 0 })

    // Another shape that was asked for is refused by its name.
    func refused(_ chosen: Set<String> = [], _ change: (inout TrainingConfiguration) -> Void) -> String? {
      var configuration = plain
      change(&configuration)
      do {
        _ = try configuration.continuing(start, from: "first", chosen: chosen)
        return nil
      } catch { return error.description }
    }
    #expect(
      refused { $0.loraRank = 8 } == "lora-rank: 8, but the adapter in first has 4; leave it out to go on from it")
    #expect(refused(["lora-rank"]) { _ in }?.hasPrefix("lora-rank: 16, but the adapter in first has 4") == true)
    #expect(refused { $0.loraAlpha = 1 }?.hasPrefix("lora-alpha: 1.0, but the adapter in first has 16.0") == true)
    #expect(refused { $0.targetModules = ["q_proj"] }?.hasPrefix("target-modules: q_proj, but") == true)
    #expect(
      refused(["target-modules"]) { $0.targetModules = ["v_proj", "q_proj"] } == nil, "the order does not matter")
    #expect(refused(["use-rslora"]) { $0.useRSLoRA = true } == nil)
    plain.adapter = ""
    #expect(throws: TrainingConfigurationError.self) { try plain.validated() }
  }

  /// Two micro-batches with different numbers of trained tokens are one batch of twice the size.
  @Test func accumulationIsOneLargeBatch() throws {
    func learned(_ batchSize: Int, _ accumulation: Int) throws -> (TrainingSummary, [Float]) {
      let name = "run-\(batchSize)"
      let summary = try trainer(
        configuration {
          $0.batchSize = batchSize
          $0.gradientAccumulation = accumulation
          $0.maxSteps = 3
        }, name
      ).run()
      let model = try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
      return (summary, try model.loadAdapter(from: summary.adapterPath).values())
    }
    let (one, ones) = try learned(8, 1)
    let (many, manys) = try learned(2, 4)
    #expect(abs((one.lastLoss ?? 0) - (many.lastLoss ?? 1)) < 1e-5)
    #expect(one.tokens == many.tokens)
    let distance = zip(ones, manys).reduce(0) { max($0, abs($1.0 - $1.1)) }
    // Adam divides by the gradient's size: what rounding leaves of a gradient near zero counts in full.
    #expect(distance < 1e-3)
  }

  @Test func clippingBoundsTheGradientAndReportsItsNorm() throws {
    let batch = try data().batch(of: 0..<4)
    func step(_ bound: Double) throws -> (norm: Double, firstMoment: Double) {
      let model = try LanguageModel(
        Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32), directions: [.forward, .backward])
      let adapter = try model.makeAdapter(LoRAConfiguration(rank: 4), training: true)
      try adapter.initialize(seed: 1)
      model.attach(adapter)
      let optimizer = try Optimizer(
        adapter, on: model.device, options: Optimizer.Options(maxGradientNorm: bound))
      let result = try model.trainingStep([batch], optimizer, learningRate: 1e-3, seed: 1)
      let first = try optimizer.state().filter { $0.name.hasSuffix("first_moment") }.flatMap { tensor in
        tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
      }
      let squares = first.reduce(0) { $0 + Double($1) * Double($1) }
      return (result.gradientNorm, squares.squareRoot())
    }
    let free = try step(0)
    // The first moment begins as a tenth of the gradient.
    #expect(abs(free.firstMoment / (0.1 * free.norm) - 1) < 1e-5)
    let clipped = try step(free.norm / 4)
    #expect(clipped.norm == free.norm)
    #expect(abs(clipped.firstMoment / (0.1 * free.norm / 4) - 1) < 1e-4)
    #expect(try step(free.norm * 2).firstMoment == free.firstMoment)
  }

  // MARK: Guards

  /// A step whose gradient is no number is skipped; the others are learned from as if it were not there.
  @Test func aStepThatIsNoNumberIsSkippedAndCounted() throws {
    func model() throws -> LanguageModel {
      try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
    }
    /// After steps 2 and 3 something is left among the gradients, which the next step adds to.
    func poison(_ model: LanguageModel) -> Trainer.Sampler {
      var step = 0
      return { _, _ in
        defer { step += 1 }
        if step == 2 || step == 3, let gradients = model.adapter?.gradients {
          try [Float.nan].withUnsafeBytes { try model.device.upload($0, to: gradients.columns(0..<1)) }
        }
        return ""
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
    _ = try trainer(resumed, "parts") { _, _ in "" }.run()
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
    #expect(TemporaryFolder.text(of: "\(folder.path)/run/metrics.jsonl") == "")
    // With a limit the same run needs little.
    let needs = DiskNeeds(checkpoint: 1000, result: 10, saves: 1_000_000_000, limit: 2, metricsLines: 5)
    #expect(needs.byteCount(existing: 0) == 4 * 1000 + 10 + 2000 + 1 << 20)
    #expect(needs.byteCount(existing: 3) == 1000 + 10 + 2000 + 1 << 20)
    #expect(
      DiskNeeds(checkpoint: .max, result: 1, saves: 2, limit: nil, metricsLines: 0).byteCount(existing: 0) == .max)
  }

  // MARK: Stop and go

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

  // MARK: Evaluation

  @Test func aShareIsHeldOutAndEvaluated() throws {
    let share = try HeldOutShare(of: 11, share: 0.25, seed: 7)
    #expect(share.heldOut.count == 3 && (share.heldOut + share.training).sorted() == Array(0..<11))
    #expect(try HeldOutShare(of: 11, share: 0.25, seed: 7) == share)
    #expect(try HeldOutShare(of: 11, share: 0.25, seed: 8) != share)
    #expect(try HeldOutShare(of: 2, share: 0.99, seed: 1).training.count == 1)
    #expect(try HeldOutShare(of: 2, share: 0.01, seed: 1).heldOut.count == 1)
    #expect(throws: TrainingError.self) { try HeldOutShare(of: 1, share: 0.5, seed: 1) }

    let shared = configuration {
      $0.evalShare = 0.25
      $0.maxSteps = nil
      $0.epochs = 1
    }
    let run = try trainer(shared, "run")
    #expect(run.heldOutCount == 3 && run.totalSteps == 2)
    let data = try data()
    let model = try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
    let heldOut = try data.batch(of: try HeldOutShare(of: 11, share: 0.25, seed: 3407).heldOut)
    let expected = try model.evaluate(heldOut) / Double(heldOut.trainedTokenCount)
    let summary = try run.run()
    #expect(abs((summary.evalBefore ?? 0) / expected - 1) < 1e-5)
    // One epoch sees every other example once.
    #expect(summary.tokens == data.counts.tokens - heldOut.tokens.count)
  }

  @Test func aRunEndsWhenTheHeldOutLossNoLongerFalls() throws {
    let change: (inout TrainingConfiguration) -> Void = {
      $0.maxSteps = 400
      $0.learningRate = 3e-2
      $0.scheduler = .constant
      $0.evalSteps = 3
      $0.earlyStoppingPatience = 3
      $0.saveSteps = 2
      $0.saveLimit = 2
      $0.loadBestAtEnd = true
    }
    // What is learned has nothing to do with what is held out, so the loss rises soon.
    let (learned, heldOut) = (try data("{\"text\": \"aaaaaaaa\"}\n"), try data("{\"text\": \"zyxwv qrst\"}\n"))
    let summary = try trainer(configuration(change), "run", data: learned, evalData: heldOut).run()
    let best = try #require(summary.best)
    #expect(summary.end == .earlyStopping && !summary.stoppedEarly && summary.steps == best.step + 9)
    let store = CheckpointStore(runPath: "\(folder.path)/run", limit: 2)
    #expect(store.bestStep == best.step)
    // The best one and the last two, of which the end is one.
    let steps = store.entries.map(\.step)
    #expect(steps.count == 3 && steps.first == best.step && steps.last == summary.steps)
    for entry in store.entries { try store.verify(entry) }
    // The folder's adapter is the best one.
    let model = try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32))
    try model.loadAdapter(from: summary.adapterPath)
    let batch = try heldOut.batch(of: 0..<1)
    #expect(abs(try model.evaluate(batch) / Double(batch.trainedTokenCount) - best.loss) < 1e-6)
    // Resumed, it ends at once.
    let resumed = configuration {
      change(&$0)
      $0.resume = true
    }
    let again = try trainer(resumed, "run", data: learned, evalData: heldOut).run()
    #expect(again.end == .earlyStopping && again.steps == summary.steps)
  }

  @Test func promptsAreAnsweredOnTheWay() throws {
    let asked = configuration {
      $0.maxSteps = 5
      $0.samplePrompts = ["one", "two"]
      $0.sampleSteps = 2
      $0.sampleTokens = 9
      $0.logSteps = 100
    }
    var calls: [String] = []
    let run = try trainer(asked, "run") { prompt, limit in
      calls.append(prompt)
      #expect(limit == 9)
      return "\(prompt) \(calls.count)\n"
    }
    var seen: [Int: [SampleAnswer]] = [:]
    try _ = run.run {
      seen[$0.step] = $0.samples
      return .continue
    }
    #expect(calls == Array(repeating: ["one", "two"], count: 4).flatMap(\.self))
    #expect(seen[2]?.map(\.answer) == ["one 3\n", "two 4\n"] && seen[3] == [])
    let metrics = try #require(TemporaryFolder.text(of: "\(folder.path)/run/metrics.jsonl"))
    let lines = try metrics.split(separator: "\n").map { try JSONValue.parse(String($0)) }
    #expect(lines.map { $0["step"]?.integer } == [0, 2, 4, 5])
    #expect(lines[1]["samples"]?[1]?["answer"]?.string == "two 4\n")
    #expect(lines[1]["loss"]?.double != nil)
  }

  // MARK: Groups

  @Test func bLearnsFasterWithLoRAPlusAndVectorsAreNotDecayed() throws {
    let model = try LanguageModel(
      Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32), directions: [.forward, .backward])
    func learned(_ options: Optimizer.Options) throws -> (adapter: Adapter, before: [Float], after: [Float]) {
      let adapter = try model.makeAdapter(LoRAConfiguration(rank: 2), training: true)
      var random = SeededRandom(seed: 5)
      try adapter.set((0..<adapter.count).map { _ in Float.random(in: -1..<1, using: &random) })
      model.attach(adapter)
      let before = try adapter.values()
      let optimizer = try Optimizer(adapter, on: model.device, options: options)
      _ = try model.trainingStep([data().batch(of: 0..<4)], optimizer, learningRate: 1e-3, seed: 1)
      return (adapter, before, try adapter.values())
    }
    let plain = try learned(.init(weightDecay: 0))
    let plus = try learned(.init(weightDecay: 0, loraPlusRatio: 16))
    let boundary = plain.adapter.boundary
    #expect(plus.after[..<boundary] == plain.after[..<boundary])
    for index in boundary..<plain.after.count {
      let (one, many) = (plain.after[index] - plain.before[index], plus.after[index] - plus.before[index])
      #expect(abs(many - 16 * one) < 1e-5)
    }
    let optimizer = try Optimizer(
      VectorsAndMatrices(on: model.device), on: model.device, options: .init(weightDecay: 0.5))
    #expect(optimizer.groups.map(\.range) == [0..<6, 6..<9] && optimizer.groups.map(\.weightDecay) == [0.5, 0])
  }
}

/// Six elements of two matrices and a vector of three.
private final class VectorsAndMatrices: LearnedParameters {
  let parts = [
    LearnedPart(name: "a", rows: 2, columns: 2, range: 0..<4, role: .matrix),
    LearnedPart(name: "b", rows: 1, columns: 2, range: 4..<6, role: .matrix),
    LearnedPart(name: "c", rows: 1, columns: 3, range: 6..<9, role: .vector),
  ]
  let parameters: Tensor
  let gradients: Tensor? = nil
  init(on device: any Device) throws { parameters = try device.tensor([Float](repeating: 1, count: 9)) }
  func finishGradients() {}
  func refresh() {}
  func load(folder: String) {}
  func snapshot(of vector: Tensor, baseModel: String?) throws -> any LearnedSnapshot { throw ModelError("no file") }
}
