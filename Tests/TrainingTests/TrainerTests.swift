import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import Training

/// What whole runs of a tiny model learn.
@Suite final class TrainerTests: TinyRuns {
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
    let model = try self.model()
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
    let loaded = try self.model()
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
      let model = try self.model()
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
      let model = try self.model([.forward, .backward])
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

  @Test func bLearnsFasterWithLoRAPlusAndVectorsAreNotDecayed() throws {
    let model = try self.model([.forward, .backward])
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
