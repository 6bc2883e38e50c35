import CUDAEmulator
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import CUDADevice
@testable import Training

// The emulated GPU runs one thing at a time: its suites lie in one that is serialized.
extension EmulatedDeviceTests {
  /// Plans of a training step on a GPU: what they say is allocated, and every one gives the same step.
  @Suite struct PlanTests {
    static let config: JSONObject = [
      "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2,
      "num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": false,
    ]

    private func withModel(
      _ storage: WeightStorage, _ config: JSONObject = Self.config, useDoRA: Bool = false, headTileBytes: Int? = nil,
      _ body: (CUDADevice, LanguageModel, Adapter) throws -> Void
    ) throws {
      let kernels = try TemporaryFolder()
      let folder = try TemporaryFolder()
      try TinyModel(changing: config, seed: 5).write(to: folder)
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      if let headTileBytes { device.headTileBytes = headTileBytes }
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
        ActivationPlan(
          four.map { _ in host(.input) }, roundsInputs: true, tile: 64, headRows: 64,
          grouping: .init(2, attentions: 1, isOnHost: true)),
        ActivationPlan(
          four.map { _ in host(.input) }, roundsInputs: true, tile: 64,
          grouping: .init(3, attentions: 1, isOnHost: true)),
        ActivationPlan([host(.input)], rest: .input, grouping: .init(4, attentions: 2)),
        ActivationPlan(four.map { _ in host(.input) }, tile: 64, grouping: .init(1)),
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
        storage.withStreamedLayers(4, of: 4, places: 2).withEmbeddingOnHost(), storage.withMomentsOnHost(),
        storage.withHead(.tiled(.int8)), storage.withHead(.tiled(.nf4)).withMomentsOnHost(),
      ]
      for storage in storages {
        try withModel(storage) { device, model, adapter in
          let optimizer = try Optimizer(adapter, on: device, momentsAreOnHost: storage.momentsAreOnHost)
          defer { withExtendedLifetime(optimizer) {} }
          let extent = TrainingExtent(
            model.configuration, storage: storage, adapter: adapter.configuration, quantizesMoments: false, tokens: 128)
          for plan in [
            ActivationPlan([], rest: .attention, roundsInputs: true, tile: 64),
            ActivationPlan(
              [.init(.input, isOnHost: true), .init(.input, isOnHost: true)], rest: .input, roundsInputs: true,
              tile: 64,
              grouping: .init(2, attentions: 1, isOnHost: true)),
          ] {
            try model.reserve(tokens: 128, plan)
            device.resetPeak()
            _ = try step(model, adapter, batch([128], vocabulary: model.configuration.vocabularySize))
            let footprint = extent.footprint(plan, on: device)
            // Norms, rotary tables, positions: small things, for which there is some room.
            let rest = device.peakBytes - (footprint.total - extent.scratchByteCount(on: device))
            #expect(rest >= 0 && rest < 1 << 20, "\(footprint), \(device.peakBytes)")
            #expect(
              footprint.activations == model.activationByteCount(tokens: 128, plan))
          }
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
            #expect(Set(losses).count == 2 && losses.allSatisfy { $0.isFinite })
            kept = (losses, gradients, evaluated, logits)
          }
        }
      }
    }

    /// Layers in groups with weights that take turns, moments with the host and gradients of several micro-batches: the bits of
    /// groups whose weights and moments stay.
    @Test func groupsTakeWeightsInTurn() throws {
      var changed = Self.config
      changed["num_hidden_layers"] = 5
      let storage = WeightStorage.nf4(resident: false)
      let plan = ActivationPlan(
        (0..<5).map { ActivationPlan.Layer(.input, isOnHost: $0 < 3) }, roundsInputs: true, tile: 64, headRows: 64,
        grouping: .init(2, attentions: 1, isOnHost: true))
      var kept: (losses: [Double], gradients: [[Float]])?
      for storage in [
        storage, storage.withStreamedLayers(3, of: 5, places: 1).withMomentsOnHost(),
        storage.withStreamedLayers(5, of: 5, places: 2),
      ] {
        try withModel(storage, changed) { device, model, adapter in
          let optimizer = try Optimizer(adapter, on: device, momentsAreOnHost: storage.momentsAreOnHost)
          let batches = [[90, 17], [64], [30, 50, 40]].map { batch($0, vocabulary: model.configuration.vocabularySize) }
          try model.reserve(tokens: 128, plan)
          let gradients = try #require(adapter.gradients)
          var found: (losses: [Double], gradients: [[Float]]) = ([], [])
          for _ in 0..<2 {
            try device.zero(gradients)
            for batch in batches { found.losses.append(try model.forwardBackward(batch, lossScale: 0.01)) }
            try adapter.finishGradients()
            var values = [Float](repeating: .nan, count: gradients.count)
            try values.withUnsafeMutableBytes { try device.download(gradients, to: $0) }
            found.gradients.append(values)
            try optimizer.apply(learningRate: 0.01, gradientNorm: 1)
          }
          if let kept {
            #expect(found.losses == kept.losses && found.gradients == kept.gradients, "\(storage.streamedLayers)")
          } else {
            #expect(Set(found.losses).count == 6 && found.losses.allSatisfy { $0.isFinite })
            kept = found
          }
        }
      }
    }

    /// A head in few bits is that head whether it is opened whole or some rows at a time; the model is a little another one.
    @Test func headsInFewBitsAreOpenedInTiles() throws {
      var changed = Self.config
      changed["vocab_size"] = 300
      changed["num_hidden_layers"] = 1
      func run(_ head: FrozenStorage, tileBytes: Int? = nil) throws -> (
        loss: Double, gradient: [Float], evaluated: Double, logits: [Float]
      ) {
        var found: (loss: Double, gradient: [Float], evaluated: Double, logits: [Float])?
        try withModel(WeightStorage.operands.withHead(head), changed, headTileBytes: tileBytes) { _, model, adapter in
          let batch = batch([50, 14], vocabulary: 300)
          try model.reserve(tokens: batch.tokens.count)
          let (loss, gradient) = try step(model, adapter, batch)
          found = (loss, gradient, try model.evaluate(batch), try model.logits(Array(batch.tokens[0..<3])))
        }
        return try #require(found)
      }
      func distance(_ a: [Float], _ b: [Float]) -> Double {
        let norm = b.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
        return zip(a, b).reduce(0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) }.squareRoot()
          / norm
      }
      let plain = try run(.operands)
      for (head, least, most) in [(FrozenStorage.tiled(.int8), 1e-4, 0.05), (.tiled(.nf4), 1e-2, 0.4)] {
        let whole = try run(head)
        // 64 rows of 64 elements: five tiles, the last of 44 rows.
        let tiled = try run(head, tileBytes: 64 * 64 * 2)
        #expect(tiled.loss == whole.loss && tiled.evaluated == whole.evaluated && tiled.logits == whole.logits)
        #expect(distance(tiled.gradient, whole.gradient) < 1e-3)
        let changes = distance(whole.gradient, plain.gradient)
        #expect(changes > least && changes < most, "\(head): \(changes)")
        #expect(whole.loss != plain.loss && abs(whole.loss / plain.loss - 1) < most)
      }
    }

    /// Random weights are the same wherever they lie; read by more rows than those that are never opened for.
    @Test func drawnWeightsAreTheSameEverywhere() throws {
      let kernels = try TemporaryFolder()
      let shape = ModelConfiguration(
        vocabularySize: 300, hiddenSize: 64, intermediateSize: 64, layerCount: 3, headCount: 2, keyValueHeadCount: 1,
        ropeTheta: 10_000, contextLength: 512)
      var losses: [Double] = []
      let nf4 = WeightStorage.nf4(resident: false)
      for storage in [
        nf4, nf4.withEmbeddingOnHost(), nf4.withStreamedLayers(2, of: 3, places: 1), .nf4(resident: true),
      ] {
        let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
        let model = try LanguageModel(random: shape, on: device, storage: storage)
        try model.reserve(tokens: 80)
        losses.append(try model.evaluate(batch([80], vocabulary: 300)))
      }
      #expect(losses.allSatisfy { $0 == losses[0] && $0 > 0 }, "\(losses)")
    }

    /// Moments that come from the host for each step give the same parameters, bit for bit.
    @Test func momentsMayLieWithTheHost() throws {
      for isQuantized in [false, true] {
        var kept: [Float]?
        for length in [nil, 256, 4096] as [Int?] {
          try withModel(.operands) { device, model, adapter in
            let optimizer = try Optimizer(
              adapter, on: device, options: Optimizer.Options(loraPlusRatio: 2, isQuantized: isQuantized),
              hostPieceLength: length)
            let gradients = try #require(adapter.gradients)
            for step in 0..<3 {
              var random = SeededRandom(seed: UInt64(step))
              let values = (0..<gradients.columns).map { _ in Float.random(in: -1...1, using: &random) }
              try values.withUnsafeBytes { try device.upload($0, to: gradients) }
              try optimizer.apply(learningRate: 0.01, gradientNorm: 1)
            }
            let state = try optimizer.state()
            #expect(state.allSatisfy { $0.bytes.contains { $0 != 0 } })
            let values = try adapter.values()
            if let kept { #expect(values == kept, "pieces of \(length ?? 0)") } else { kept = values }
          }
        }
      }
    }

    /// An early token changes a late loss through tiles, layers with the host and weights that take turns; packed documents do not
    /// see each other.
    @Test func aNeedleIsFound() throws {
      let layers = [LayerMemory.input, .attention, .attention, .input].map { ActivationPlan.Layer($0, isOnHost: true) }
      let plan = ActivationPlan(layers, roundsInputs: true, tile: 64, headRows: 64)
      func batch(_ lengths: [Int], changed: Int?) -> PackedBatch {
        var (batch, place) = (PackedBatch(), 0)
        for (index, length) in lengths.enumerated() {
          var random = SeededRandom(seed: UInt64(index))
          var tokens = (0..<length).map { _ in Int32.random(in: 0..<24, using: &random) }
          if let changed, (place..<place + length).contains(changed) {
            tokens[changed - place] = (tokens[changed - place] + 7) % 24
          }
          place += length
          batch.append(tokens, isTrained: tokens.indices.map { index == lengths.count - 1 && $0 >= length - 20 })
        }
        return batch
      }
      try withModel(WeightStorage.nf4(resident: false).withStreamedLayers(3, of: 4, places: 1)) { _, model, adapter in
        try model.reserve(tokens: 192, plan)
        let kept = try step(model, adapter, batch([180], changed: nil))
        let found = try step(model, adapter, batch([180], changed: 2))
        #expect(found.loss != kept.loss && found.gradient != kept.gradient)
        let packed = try step(model, adapter, batch([70, 58], changed: nil))
        let again = try step(model, adapter, batch([70, 58], changed: 69))
        #expect(again.loss == packed.loss && again.gradient == packed.gradient, "another document's token is seen")
        #expect(try step(model, adapter, batch([70, 58], changed: 71)).loss != packed.loss)
      }
    }

    // As measured on an H200 (GPU.md's figures): what plans are expected to take and to cost there.
    static let rates = DeviceRates(
      products: 670e12, shortContext: 1024, shortAttention: 300e12, longContext: 8192, longAttention: 600e12,
      shortAttentionBackward: 240e12, longAttentionBackward: 480e12, elements: 3.9e12, host: 50e9)
    static let phi4 = ModelConfiguration(
      vocabularySize: 100_352, hiddenSize: 5120, intermediateSize: 17_920, layerCount: 40, headCount: 40,
      keyValueHeadCount: 10, ropeTheta: 250_000, contextLength: 16_384)

    /// What lies on the device for each token of a long context with everything else with the host: docs/memory.md's list.
    @Test func tokensOfLongContextsTakeLittle() throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      func bytes(_ tokens: Int, _ grouping: ActivationPlan.Grouping?) -> Int {
        let plan = ActivationPlan(
          (0..<40).map { _ in ActivationPlan.Layer(.input, isOnHost: true) }, roundsInputs: true, tile: 4096,
          headRows: 1024, grouping: grouping)
        return TrainingExtent(
          Self.phi4, storage: .nf4(resident: false), adapter: LoRAConfiguration(), quantizesMoments: false,
          tokens: tokens
        ).activationByteCounts(plan, on: device).device
      }
      let perToken = (bytes(1 << 20, .init(4, isOnHost: true)) - bytes(1 << 19, .init(4, isOnHost: true))) / (1 << 19)
      // The residual stream; that of a group, where the gradient of attention's output and what attention works in lie too; q, k, v
      // and attention's output with room for adapters; sums of attention, 1 / rms, x · Aᵀ; a layer's input.
      #expect(perToken == 20_480 + 20_480 + 15_488 + 10_368 + 160 + 4 + 96 + 10_240)
    }

    /// What was measured of a long context on an H200, from that card's rates
    /// (Benchmarks/results/2026-11-26-h200-memory.jsonl).
    @Test func longContextsTakeWhatIsExpected() throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      let rates = DeviceRates(
        products: 657_991_855_096_456, shortContext: 1024, shortAttention: 229_329_109_580_089, longContext: 8192,
        longAttention: 545_333_811_081_107, shortAttentionBackward: 204_614_231_157_197,
        longAttentionBackward: 478_389_446_614_355, elements: 3_862_797_510_536, host: 55_239_759_307)
      let plan = ActivationPlan(
        (0..<40).map { ActivationPlan.Layer(.input, isOnHost: $0 < 37) }, roundsInputs: true, tile: 4096, headRows: 1024
      )
      let extent = TrainingExtent(
        Self.phi4, storage: .nf4(resident: false).withEmbeddingOnHost(), adapter: LoRAConfiguration(),
        quantizesMoments: false, tokens: 282_624)
      let seconds = extent.seconds(of: plan, context: 282_624, rates: rates, on: device)
      #expect(abs(seconds / 325.17 - 1) < 0.05, "\(seconds)")
    }

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
        #expect(plan.storage.head == .operands)
        let rate = Double(batch * length) / plan.seconds
        #expect(rate > speed, "\(batch) × \(length) in \(memory) GiB: \(rate) tokens/s, \(plan)")
      }
    }

    /// Contexts that only groups of layers fit: within both memories, and what is counted is what is laid out.
    @Test func groupsReachLongContexts() throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      for (tokens, gigabytes) in [(524_288, 48), (1_048_576, 141)] {
        let planner = StepPlanner(
          TrainingExtent(
            Self.phi4, storage: .nf4(resident: false), adapter: LoRAConfiguration(), quantizesMoments: false,
            tokens: tokens), context: tokens, budget: gigabytes * 1_000_000_000, hostBudget: 100 << 30,
          rates: Self.rates, storages: [(false, .nf4(resident: false))])
        let plan = try #require(planner.plan(on: device), "\(tokens) tokens in \(gigabytes) GB")
        #expect(plan.footprint.total <= planner.budget && plan.footprint.host <= planner.hostBudget)
        #expect((plan.activations.grouping?.size ?? 0) > 1)
        var extent = planner.extent
        extent.storage = plan.storage
        #expect(extent.footprint(plan.activations, on: device) == plan.footprint)
        let seconds = extent.seconds(of: plan.activations, context: tokens, rates: Self.rates, on: device)
        #expect(abs(seconds / plan.seconds - 1) < 1e-9)
      }
    }

    /// What lies with the host stays within the host's memory, down to none of it.
    @Test func plansStayWithinTheHostsMemory() throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      var planner = StepPlanner(
        TrainingExtent(
          Self.phi4, storage: .nf4(resident: false), adapter: LoRAConfiguration(), quantizesMoments: false,
          tokens: 8192), context: 8192, budget: 16 << 30, hostBudget: 0, rates: Self.rates,
        storages: [(false, .nf4(resident: false))])
      var last = Double.infinity
      for gigabytes in [0, 1, 2, 5, 20] {
        planner.hostBudget = gigabytes << 30
        let plan = try #require(planner.plan(on: device))
        #expect(plan.footprint.host <= planner.hostBudget && plan.footprint.total <= planner.budget)
        #expect(plan.seconds <= last * 1.001, "more of the host's memory is slower: \(gigabytes) GiB")
        last = plan.seconds
      }
    }

    /// Where nothing fits otherwise the head is kept in fewer bits, and in no fewer than it must.
    @Test func headsShrinkOnlyWhereNothingElseFits() throws {
      let kernels = try TemporaryFolder()
      let device = try CUDADevice(CUDALibraries { _ in EmulatorSymbols() }, kernelFolder: kernels.path)
      var planner = StepPlanner(
        TrainingExtent(
          Self.phi4, storage: .nf4(resident: false), adapter: LoRAConfiguration(), quantizesMoments: false, tokens: 2048
        ),
        context: 2048, budget: 0, hostBudget: 110 << 30, rates: Self.rates,
        storages: [(true, .nf4(resident: true)), (false, .nf4(resident: false))])
      planner.heads = [.operands, .tiled(.int8), .tiled(.nf4)]
      var (last, heads) = (Double.infinity, [FrozenStorage]())
      for megabytes in stride(from: 3400, through: 1400, by: -200) {
        planner.budget = megabytes << 20
        guard let plan = planner.plan(on: device) else { break }
        #expect(plan.footprint.total <= planner.budget)
        if plan.storage.head != heads.last {
          heads.append(plan.storage.head)
        } else {
          // Less memory is never faster, but for a head in fewer bits.
          #expect(plan.seconds >= last * 0.999)
        }
        last = plan.seconds
      }
      #expect(heads == planner.heads, "\(heads)")
    }
  }
}
