import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
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
    startingFrom start: AdapterSum? = nil
  ) throws -> Trainer {
    let path = "\(folder.path)/\(name)"
    let model = try model ?? LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: compute))
    return try Trainer(
      model, data: data ?? self.data(), evalData: evalData, configuration: configuration,
      folder: configuration.resume ? .resume(path) : .create(path), startingFrom: start)
  }

  /// Everything that a finished run leaves, times apart.
  private func remains(_ name: String, step: Int) throws -> [String: [UInt8]] {
    let run = "\(folder.path)/\(name)"
    let checkpoint = "\(run)/checkpoints/step-0000\(step)"
    var files: [String: [UInt8]] = [:]
    for file in [
      "\(run)/adapter_model.safetensors", "\(checkpoint)/adapter_model.safetensors",
      "\(checkpoint)/optimizer.safetensors", "\(checkpoint)/trainer_state.json",
    ] {
      let bytes = try #require(TemporaryFolder.bytes(of: file))
      files[String(file.dropFirst(run.utf8.count))] = bytes
    }
    let metrics = try #require(TemporaryFolder.text(of: "\(run)/metrics.jsonl"))
    files["metrics"] = try metrics.split(separator: "\n").flatMap { line in
      var object = try #require(try JSONValue.parse(String(line)).object)
      object["tokens_per_second"] = nil
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
      #expect(TemporaryFolder.bytes(of: "\(folder.path)/parts/adapter_model.safetensors") != nil)
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
    #expect(message.hasPrefix("step 2: the ") && message.contains("lower --learning-rate") && !message.contains("\n"))
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
      try trainer(configuration(), "broken", model: model).run()
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
    let batch = data.batch(of: 0..<2)
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
      let optimizer = try AdapterOptimizer(
        adapter, on: model.device, options: AdapterOptimizer.Options(maxGradientNorm: bound))
      let result = try model.trainingStep([batch], optimizer, learningRate: 1e-3, seed: 1)
      let squares = try optimizer.moments().first.reduce(0) { $0 + Double($1) * Double($1) }
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
}
