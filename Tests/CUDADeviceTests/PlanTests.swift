import CUDAEmulator
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing
import Training

@testable import CUDADevice

// The emulated GPU runs one thing at a time: its suites lie in one that is serialized.
extension EmulatedDeviceTests {
  /// Plans of a training step on a GPU: what they say is allocated, and every one gives the same step.
  @Suite struct PlanTests {
    static let config: JSONObject = [
      "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2,
      "num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": false,
    ]

    private func withModel(
      _ storage: WeightStorage, _ config: JSONObject = Self.config, useDoRA: Bool = false,
      _ body: (CUDADevice, LanguageModel, Adapter) throws -> Void
    ) throws {
      let kernels = try TemporaryFolder()
      let folder = try TemporaryFolder()
      try TinyModel(changing: config, seed: 5).write(to: folder)
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      let model = try LanguageModel(
        Checkpoint.open(path: folder.path), on: device, directions: [.forward, .backward], storage: storage)
      let adapter = try model.makeAdapter(LoRAConfiguration(rank: 8, alpha: 16, useDoRA: useDoRA), training: true)
      try adapter.initialize(seed: 3)
      // B is zero at first, and would hide what A learns.
      var values = try adapter.values()
      var random = SeededRandom(seed: 9)
      for index in values.indices { values[index] += Float.random(in: -0.05...0.05, using: &random) }
      try adapter.set(values)
      model.attach(adapter)
      try body(device, model, adapter)
    }

    private func batch(_ lengths: [Int], vocabulary: Int) -> PackedBatch {
      var random = SeededRandom(seed: 17)
      var batch = PackedBatch()
      for length in lengths {
        batch.append(
          (0..<length).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) },
          isTrained: (0..<length).map { $0 % 3 != 0 })
      }
      return batch
    }

    private func step(_ model: LanguageModel, _ adapter: Adapter, _ batch: PackedBatch) throws -> (
      loss: Double, gradient: [Float]
    ) {
      guard let gradients = adapter.gradients else { throw ModelError("no gradients") }
      try model.device.zero(gradients)
      let loss = try model.forwardBackward(batch, lossScale: 1 / Float(batch.trainedTokenCount))
      try adapter.finishGradients()
      var values = [Float](repeating: .nan, count: gradients.count)
      try values.withUnsafeMutableBytes { try model.device.download(gradients, to: $0) }
      return (loss, values)
    }

    /// Copies to and from the host are done only when something waits for them: one that nobody waits for is not done.
    @Test func plansChangeNothing() throws {
      func host(_ keeps: LayerMemory) -> ActivationPlan.Layer { ActivationPlan.Layer(keeps, isOnHost: true) }
      let four = 0..<4
      let plans: [ActivationPlan] = [
        .inputs, ActivationPlan(four.map { _ in host(.input) }), ActivationPlan(four.map { _ in host(.everything) }),
        ActivationPlan(four.map { _ in host(.attention) }, roundsInputs: true, tile: 64, headRows: 64),
        ActivationPlan([host(.projections), host(.input), host(.projections), host(.input)], tile: 64),
      ]
      try withModel(.nf4(resident: false)) { device, model, adapter in
        let batch = batch([90, 30, 7], vocabulary: model.configuration.vocabularySize)
        try model.reserve(tokens: batch.tokens.count)
        let kept = try step(model, adapter, batch)
        #expect(kept.gradient.contains { $0 != 0 })
        for plan in plans {
          try model.reserve(tokens: batch.tokens.count, plan)
          for _ in 0..<2 {
            let again = try step(model, adapter, batch)
            #expect(abs(again.loss / kept.loss - 1) < 1e-3, "\(plan)")
            let norm = kept.gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            let difference = zip(again.gradient, kept.gradient).reduce(0) { sum, pair in
              sum + (Double(pair.0) - Double(pair.1)) * (Double(pair.0) - Double(pair.1))
            }.squareRoot()
            #expect(difference < 0.02 * norm, "\(plan)")
          }
        }
      }
    }

    @Test(arguments: [true, false]) func footprintsAreWhatIsAllocated(_ isNF4: Bool) throws {
      let storage = isNF4 ? WeightStorage.nf4(resident: false) : .operands
      let storages = [
        storage, storage.withEmbeddingOnHost(), storage.withStreamedLayers(3, of: 4, places: 1),
        storage.withStreamedLayers(4, of: 4, places: 2).withEmbeddingOnHost(),
      ]
      for storage in storages {
        try withModel(storage) { device, model, adapter in
          let optimizer = try Optimizer(adapter, on: device)
          defer { withExtendedLifetime(optimizer) {} }
          let extent = TrainingExtent(
            model.configuration, storage: storage, adapter: adapter.configuration, quantizesMoments: false, tokens: 256)
          let plan = ActivationPlan([], rest: .attention, roundsInputs: true, tile: 64)
          try model.reserve(tokens: 256, plan)
          _ = try step(model, adapter, batch([256], vocabulary: model.configuration.vocabularySize))
          let footprint = extent.footprint(plan, on: device)
          // Norms, rotary tables, positions: small things, for which there is some room.
          let rest = device.peakBytes - (footprint.total - extent.scratchByteCount(on: device))
          #expect(rest >= 0 && rest < 1 << 20, "\(footprint), \(device.peakBytes)")
          #expect(
            footprint.activations == model.activationByteCount(tokens: 256, plan))
        }
      }
    }

    /// Weights that take turns on the GPU are those that lie there: the same bits, whichever layers travel, in how many places,
    /// in training, evaluation and generation.
    @Test(arguments: [false, true]) func streamedWeightsChangeNothing(_ useDoRA: Bool) throws {
      var changed = Self.config
      changed["num_hidden_layers"] = 5
      // DoRA reads every matrix once more after each step.
      let storage =
        useDoRA ? WeightStorage.operands : .nf4(resident: false, except: ["model.layers.2.mlp.up_proj"])
      let ways = useDoRA ? [(0, 0), (5, 3)] : [(0, 0), (1, 1), (3, 1), (3, 2), (5, 1), (5, 2)]
      var kept: (losses: [Double], gradients: [[Float]], evaluated: Double, logits: [Float])?
      for (count, places) in ways {
        let streamed = storage.withStreamedLayers(count, of: 5, places: places)
        #expect(streamed.streamedLayers.count == count)
        try withModel(streamed, changed, useDoRA: useDoRA) { device, model, adapter in
          let optimizer = try Optimizer(adapter, on: device)
          let batch = batch([40, 17], vocabulary: model.configuration.vocabularySize)
          try model.reserve(tokens: batch.tokens.count, ActivationPlan([], rest: .attention))
          var (losses, gradients): ([Double], [[Float]]) = ([], [])
          for _ in 0..<2 {
            let found = try step(model, adapter, batch)
            losses.append(found.loss)
            gradients.append(found.gradient)
            try optimizer.apply(learningRate: 0.01, gradientNorm: 1)
          }
          let evaluated = try model.evaluate(batch) + model.evaluate(batch)
          let logits = try model.logits(Array(batch.tokens[0..<5]))
          if let kept {
            #expect(losses == kept.losses && gradients == kept.gradients, "\(count) layers in \(places) places")
            #expect(evaluated == kept.evaluated && logits == kept.logits, "\(count) layers in \(places) places")
          } else {
            #expect(Set(losses).count == 2 && losses.allSatisfy(\.isFinite))
            kept = (losses, gradients, evaluated, logits)
          }
        }
      }
    }

    // As measured on an H200 (GPU.md's figures): what plans are expected to take and to cost there.
    static let rates = DeviceRates(
      products: 670e12, shortContext: 1024, shortAttention: 300e12, longContext: 8192, longAttention: 600e12,
      shortAttentionBackward: 240e12, longAttentionBackward: 480e12, elements: 3.9e12, host: 50e9)
    static let phi4 = ModelConfiguration(
      vocabularySize: 100_352, hiddenSize: 5120, intermediateSize: 17_920, layerCount: 40, headCount: 40,
      keyValueHeadCount: 10, ropeTheta: 250_000, contextLength: 16_384)

    /// Phi-4's shape within the memory of small cards.
    @Test func phi4FitsSmallCards() throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      let gigabyte = 1_073_741_824.0
      for (batch, length, memory, speed) in [
        (2, 2048, 10.4, 5856.0), (8, 2048, 14.3, 6218), (1, 16_384, 14.2, 4781), (1, 65_536, 29.9, 2827),
        (1, 131_072, 48, 1707), (1, 2048, 8, 4468), (1, 2048, 7.6, 4468),
      ] {
        let planner = StepPlanner(
          TrainingExtent(
            Self.phi4, storage: .nf4(resident: false), adapter: LoRAConfiguration(), quantizesMoments: false,
            tokens: batch * length), context: length, budget: Int(memory * gigabyte), hostBudget: 110 << 30,
          rates: Self.rates,
          storages: [(true, .nf4(resident: true)), (false, .nf4(resident: false))])
        let plan = try #require(planner.plan(on: device), "\(batch) × \(length) in \(memory) GiB")
        #expect(plan.footprint.total <= planner.budget && plan.footprint.host <= planner.hostBudget)
        let rate = Double(batch * length) / plan.seconds
        #expect(rate > speed, "\(batch) × \(length) in \(memory) GiB: \(rate) tokens/s, \(plan)")
      }
    }
  }
}
