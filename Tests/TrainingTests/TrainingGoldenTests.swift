import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import Training

/// Training against what reference implementations make of it (`Tests/Golden/training.py`).
@Suite struct TrainingGoldenTests {
  private let golden: JSONValue

  init() throws {
    golden = try JSONValue.parse(try #require(TemporaryFolder.text(of: goldenPath("training.json"))))
  }

  private func numbers(_ value: JSONValue?) throws -> [Double] { try #require(value?.array).compactMap(\.double) }
  private func tokens(_ value: JSONValue?) throws -> [Int32] {
    try #require(value?.array).compactMap(\.integer).map { Int32($0) }
  }

  private func relativeError(_ a: some Sequence<Float>, _ b: [Double]) -> Double {
    let (difference, norm) = zip(a, b).reduce((0.0, 0.0)) { sum, pair in
      (sum.0 + (Double(pair.0) - pair.1) * (Double(pair.0) - pair.1), sum.1 + pair.1 * pair.1)
    }
    return (difference / max(norm, 1e-300)).squareRoot()
  }

  private func model(_ case: JSONValue?) throws -> (LanguageModel, TinyModel) {
    let tiny = TinyModel(
      config: try #require(`case`?["config"]?.object), seed: UInt64(try #require(`case`?["seed"]?.integer)))
    let folder = try TemporaryFolder()
    try tiny.write(to: folder)
    let model = try LanguageModel(
      Checkpoint.open(path: folder.path), on: CPUDevice(compute: .float32), directions: [.forward, .backward])
    return (model, tiny)
  }

  /// The adapter whose values the script's rule gives.
  private func attachAdapter(
    to model: LanguageModel, seed: UInt64, useDoRA: Bool, dropout: Double = 0
  ) throws -> Adapter {
    let adapter = try model.makeAdapter(
      LoRAConfiguration(rank: 3, alpha: 6, useDoRA: useDoRA, dropout: dropout), training: true)
    try adapter.set(
      adapter.parts.flatMap { part in
        TinyModel.uniform(part.name, count: part.range.count, seed: seed).map { u in
          Float(part.role == .vector ? 1.2 + u / 2 : u / 2)
        }
      })
    model.attach(adapter)
    return adapter
  }

  private func compareGradients(_ adapter: Adapter, _ expected: JSONValue?, on device: any Device) throws {
    try adapter.finishGradients()
    let gradients = try device.floats(try #require(adapter.gradients))
    for part in adapter.parts {
      #expect(relativeError(gradients[part.range], try numbers(expected?[part.name])) < 2e-4, "\(part.name)")
    }
  }

  // MARK: 8-bit AdamW

  /// A flat vector that learns from gradients it is given.
  private final class Flat: LearnedParameters {
    let parts: [LearnedPart]
    let parameters: Tensor
    let gradients: Tensor?
    init(_ values: [Float], on device: any Device) throws {
      parts = [LearnedPart(name: "p", rows: 1, columns: values.count, range: 0..<values.count, role: .matrix)]
      parameters = try device.tensor(values)
      gradients = try device.tensor(values)
    }
    func finishGradients() {}
    func refresh() {}
    func load(folder: String) {}
    func snapshot(of vector: Tensor, baseModel: String?) throws -> any LearnedSnapshot { throw ModelError("no file") }
  }

  @Test func mapsAreThoseOfBitsandbytes() throws {
    for (map, key) in [(DynamicMap.signed, "signed_map"), (DynamicMap.unsigned, "unsigned_map")] {
      let expected = try numbers(golden["adamw8bit"]?[key])
      #expect(map.count == 256 && map == map.sorted())
      for (mine, theirs) in zip(map, expected) { #expect(abs(Double(mine) - theirs) <= 1e-6 * abs(theirs)) }
    }
  }

  @Test func eightBitStepsAreThoseOfBitsandbytes() throws {
    let device = CPUDevice(compute: .float32)
    let count = try #require(golden["adamw8bit"]?["count"]?.integer)
    let flat = try Flat(TinyModel.uniform("parameters", count: count, seed: 5).map { Float($0) }, on: device)
    let optimizer = try Optimizer(
      flat, on: device, options: .init(beta2: 0.99, weightDecay: 0.1, maxGradientNorm: 0, isQuantized: true))
    let powers = [0.01, 0.1, 1, 10]
    for (step, expected) in try #require(golden["adamw8bit"]?["steps"]?.array).enumerated() {
      let gradient = TinyModel.uniform("gradient \(step)", count: count, seed: 5).enumerated().map {
        Float($1 * $1 * $1 * powers[$0 % 4])
      }
      try gradient.withUnsafeBytes { try device.upload($0, to: try #require(flat.gradients)) }
      try optimizer.apply(learningRate: 1e-2, gradientNorm: 1)
      #expect(relativeError(try device.floats(flat.parameters), try numbers(expected["parameters"])) < 1e-5)
      let state = Dictionary(uniqueKeysWithValues: try optimizer.state().map { ($0.name, $0.bytes) })
      for moment in ["first", "second"] {
        let codes = try #require(state["p.\(moment)_codes"]).map { Double($0) }
        let theirs = try numbers(expected["\(moment)_codes"])
        let different = zip(codes, theirs).filter { $0 != $1 }
        // A value between two codes may round to either.
        #expect(different.count <= count / 200 && different.allSatisfy { abs($0 - $1) <= 1 }, "\(different)")
        let scales = try #require(state["group0.\(moment)_scales"]).withUnsafeBytes {
          Array($0.bindMemory(to: Float.self))
        }
        #expect(relativeError(scales, try numbers(expected["\(moment)_scales"])) < 1e-5)
      }
    }
  }

  // MARK: DoRA

  @Test func doraIsThatOfPEFT() throws {
    let (model, tiny) = try model(golden["dora"])
    let adapter = try attachAdapter(to: model, seed: tiny.seed, useDoRA: true)
    let ids = try tokens(golden["dora"]?["tokens"])
    var batch = PackedBatch()
    batch.append(ids, isTrained: ids.map { _ in true })
    let expected = try #require(golden["dora"]?["loss"]?.double)
    #expect(abs(try model.evaluate(batch) / expected - 1) < 1e-5)
    #expect(abs(try model.forwardBackward(batch, lossScale: 1) / expected - 1) < 1e-5)
    try compareGradients(adapter, golden["dora"]?["gradients"], on: model.device)
    // One token after the other, through the cache.
    let cache = try model.makeCache(capacity: 64)
    var loss = 0.0
    for (token, next) in zip(ids, ids.dropFirst()) {
      let logits = try model.extend(cache, with: [token]).map { Double($0) }
      let top = try #require(logits.max())
      loss += top + log(logits.reduce(0) { $0 + exp($1 - top) }) - logits[Int(next)]
    }
    #expect(abs(loss / expected - 1) < 1e-5)

    // The same files, and back.
    let folder = try TemporaryFolder()
    try adapter.save(to: folder.path, baseModel: nil)
    let file = try SafetensorsFile(path: "\(folder.path)/adapter_model.safetensors")
    let names = try #require(golden["dora"]?["files"]?.object)
    #expect(file.tensors.count == names.count)
    for (name, shape) in names {
      #expect(file.tensor(name)?.shape == shape.array?.compactMap(\.integer), "\(name)")
    }
    model.attach(nil)
    let loaded = try model.loadAdapter(from: folder.path)
    #expect(loaded.configuration.useDoRA)
    #expect(abs(try model.evaluate(batch) / expected - 1) < 1e-5)
    #expect(try loaded.values() == adapter.values())
  }

  /// PEFT's, with the elements dropped that Swiftlet drops.
  @Test func doraWithDropoutIsThatOfPEFT() throws {
    let (model, tiny) = try model(golden["dora"])
    let dropped = golden["dora"]?["dropout"]
    let adapter = try attachAdapter(
      to: model, seed: tiny.seed, useDoRA: true, dropout: try #require(dropped?["probability"]?.double))
    let key = DropoutKey(
      seed: UInt64(try #require(dropped?["seed"]?.integer)), counter: UInt64(try #require(dropped?["counter"]?.integer))
    )
    let ids = try tokens(golden["dora"]?["tokens"])
    var batch = PackedBatch()
    batch.append(ids, isTrained: ids.map { _ in true })
    let expected = try #require(dropped?["loss"]?.double)
    #expect(abs(try model.forwardBackward(batch, lossScale: 1, dropout: key) / expected - 1) < 1e-5)
    try compareGradients(adapter, dropped?["gradients"], on: model.device)
    // Where nothing is trained, nothing is dropped.
    #expect(abs(try model.evaluate(batch) / (try #require(golden["dora"]?["loss"]?.double)) - 1) < 1e-5)
  }

  @Test func doraBeginsWithTheModelAsItIs() throws {
    let (model, _) = try model(golden["dora"])
    let ids = try tokens(golden["dora"]?["tokens"])
    var batch = PackedBatch()
    batch.append(ids, isTrained: ids.map { _ in true })
    let plain = try model.evaluate(batch)
    let adapter = try model.makeAdapter(LoRAConfiguration(rank: 3, useDoRA: true), training: true)
    try adapter.initialize(seed: 1)
    model.attach(adapter)
    #expect(abs(try model.evaluate(batch) / plain - 1) < 1e-6)
    #expect(try model.withoutAdapter { try model.evaluate(batch) } == plain)
  }

  // MARK: Preferences

  @Test(arguments: [TrainingConfiguration.Method.dpo, .orpo])
  func preferencesAreThoseOfTRL(_ method: TrainingConfiguration.Method) throws {
    let preference = golden["preference"]
    let (model, tiny) = try model(preference)
    let adapter = try attachAdapter(to: model, seed: tiny.seed, useDoRA: false)
    let pairs = try #require(preference?["pairs"]?.array)
    // Two micro-batches: their parts add up.
    let batches = try [pairs[..<2], pairs[2...]].map { pairs in
      var batch = PackedBatch()
      for pair in pairs {
        let prompt = try tokens(pair[0])
        for answer in [try tokens(pair[1]), try tokens(pair[2])] {
          batch.append(prompt + answer, isTrained: prompt.map { _ in false } + answer.map { _ in true })
        }
      }
      return batch
    }
    let objective = Objective(method: method, beta: try #require(preference?["beta"]?.double))
    let totals = objective.totals(batches)
    let key = DropoutKey(seed: 1, counter: 1)
    let results = try batches.map { try objective.forwardBackward(model, $0, totals, key: key) }
    let expected = preference?[method.rawValue]
    let loss = try #require(expected?["loss"]?.double)
    #expect(abs(results.reduce(0) { $0 + $1.loss } / loss - 1) < 1e-5)
    let margins = try numbers(expected?["margins"])
    #expect(abs(results.reduce(0) { $0 + $1.margin } - margins.reduce(0, +)) < 1e-4)
    #expect(results.reduce(0) { $0 + $1.won } == margins.count { $0 > 0 })
    try compareGradients(adapter, expected?["gradients"], on: model.device)
    #expect(abs(try batches.reduce(0) { try $0 + objective.evaluate(model, $1, totals) } / loss - 1) < 1e-5)
  }

  @Test func preferencesOfAnUntrainedAdapterAreEven() {
    let even = Preference.dpo([3, 5, 2, 2], reference: [3, 5, 2, 2], beta: 0.1, pairs: 2)
    #expect(abs(even.loss - 0.6931471805599453) < 1e-12 && even.margin == 0)
    #expect(even.scales == [0.025, -0.025, 0.025, -0.025])
    // Answers that are certain, or impossible, stay numbers.
    let extreme = Preference.orpo([0, 1e6], counts: [3, 4], beta: 0.1, pairs: 1, chosenTokens: 3)
    #expect(extreme.loss.isFinite && extreme.scales.allSatisfy(\.isFinite))
  }

  // MARK: All weights

  @Test func fullStepsAreThoseOfTorch() throws {
    for (index, entry) in try #require(golden["full"]?.array).enumerated() {
      let (model, _) = try model(entry)
      let full = try model.makeFullParameters()
      let optimizer = try Optimizer(
        full, on: model.device, options: .init(epsilon: 1e-6, weightDecay: 0.1, maxGradientNorm: 0))
      let ids = try tokens(entry["tokens"])
      var batch = PackedBatch()
      batch.append(ids, isTrained: ids.map { _ in true })
      for (number, step) in try #require(entry["steps"]?.array).enumerated() {
        let loss = try model.forwardBackward(batch, lossScale: 1 / Float(batch.trainedTokenCount))
        let expected = try #require(step["loss"]?.double)
        #expect(
          abs(loss / Double(batch.trainedTokenCount) / expected - 1) < 1e-5, "case \(index), step \(number)")
        let norm = try optimizer.gradientNorm()
        let gradients = try model.device.floats(try #require(full.gradients))
        for part in full.parts {
          let gradient = gradients[part.range].map { Double($0) }
          let weights = TinyModel.uniform(part.name, count: gradient.count, seed: 7)
          let theirs = try numbers(step["gradients"]?[part.name])
          let size = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()
          #expect(abs(size / theirs[0] - 1) < 1e-3, "\(part.name)")
          let along = zip(gradient, weights).reduce(0) { $0 + $1.0 * $1.1 }
          #expect(abs(along - theirs[1]) < 2e-3 * theirs[0], "\(part.name)")
        }
        try optimizer.apply(learningRate: 1e-3, gradientNorm: norm)
      }
    }
  }

  // MARK: Averages and noise

  @Test func aRunningAverageTakesThePlaceOfTheParametersForAWhile() throws {
    let device = CPUDevice(compute: .float32)
    let flat = try Flat([1, 2, 3], on: device)
    let average = try RunningAverage(of: flat, decay: 0.9, on: device)
    var expected: [Float] = [1, 2, 3]
    for step in 1...200 {
      let values = (0..<3).map { Float(step * ($0 + 1)) }
      try values.withUnsafeBytes { try device.upload($0, to: flat.parameters) }
      try average.update(step: step)
      let keep = min(0.9, Float(1 + step) / Float(10 + step))
      for index in 0..<3 { expected[index] = keep * expected[index] + (1 - keep) * values[index] }
    }
    let seen = try average.inPlace { try device.floats(flat.parameters) }
    #expect(relativeError(seen, expected.map { Double($0) }) < 1e-5)
    #expect(try device.floats(flat.parameters) == [200, 400, 600])
    struct Failure: Error {}
    #expect(throws: Failure.self) { try average.inPlace { throw Failure() } }
    #expect(try device.floats(flat.parameters) == [200, 400, 600])
  }

  @Test func noiseIsOfItsSizeAndFollowsItsKey() throws {
    let (model, tiny) = try model(golden["preference"])
    let adapter = try attachAdapter(to: model, seed: tiny.seed, useDoRA: false)
    let ids = (0..<40).map { Int32($0 % 24) }
    var batch = PackedBatch()
    batch.append(ids, isTrained: ids.map { _ in true })
    func loss(_ noise: EmbeddingNoise?) throws -> Double {
      try model.device.zero(try #require(adapter.gradients))
      return try model.forwardBackward(batch, lossScale: 1, noise: noise)
    }
    let key = DropoutKey(seed: 3, counter: 4)
    let plain = try loss(nil)
    let noisy = try loss(EmbeddingNoise(alpha: 5, key: key))
    #expect(noisy != plain && abs(noisy / plain - 1) < 0.5)
    #expect(try loss(EmbeddingNoise(alpha: 5, key: key)) == noisy)
    #expect(try loss(EmbeddingNoise(alpha: 5, key: DropoutKey(seed: 3, counter: 5))) != noisy)
    #expect(try loss(EmbeddingNoise(alpha: 0, key: key)) == plain)
    // Uniform in ±bound: the mean square is a third of the bound's.
    let device = model.device
    let x = try device.tensor([Float](repeating: 0, count: 64 * 100), rows: 100, columns: 64)
    try EmbeddingNoise(alpha: 5, key: key).add(to: x, [0..<100], on: device)
    let values = try device.floats(x)
    let bound = 5 / Float(6400).squareRoot()
    #expect(values.allSatisfy { abs($0) <= bound })
    let square = values.reduce(0) { $0 + Double($1 * $1) } / 6400
    #expect(abs(square / Double(bound * bound / 3) - 1) < 0.05)
  }
}
