import CPUDevice
import Tensors
import TestSupport
import Testing

@testable import Models

/// Every plan of what is kept, where, and in what pieces a batch goes through gives one and the same step.
@Suite struct ActivationPlanTests {
  static let deep = ModelCase(
    description: "six layers, shared keys",
    tiny: TinyModel(changing: ["num_hidden_layers": 6, "tie_word_embeddings": false], seed: 21),
    lora: LoRAConfiguration(rank: 2, alpha: 4))

  static let scaled = ModelCase(
    description: "DoRA", tiny: TinyModel(changing: ["num_hidden_layers": 6, "tie_word_embeddings": false], seed: 22),
    lora: LoRAConfiguration(rank: 2, alpha: 4, useDoRA: true))

  /// Each choice, and mixtures; exact: without a rounding that the plan that keeps everything has not.
  static let plans: [(plan: ActivationPlan, isExact: Bool)] = {
    func host(_ keeps: LayerMemory) -> ActivationPlan.Layer { ActivationPlan.Layer(keeps, isOnHost: true) }
    func device(_ keeps: LayerMemory) -> ActivationPlan.Layer { ActivationPlan.Layer(keeps) }
    let six = 0..<6
    return [
      (ActivationPlan(six.map { _ in host(.input) }), true),
      (ActivationPlan(six.map { _ in host(.attention) }), true),
      (ActivationPlan(six.map { _ in host(.projections) }), false),
      (ActivationPlan(six.map { _ in host(.everything) }), true),
      (ActivationPlan([host(.input), host(.attention), device(.input), host(.input), device(.projections)]), false),
      (ActivationPlan([host(.input), host(.input), host(.input), device(.attention), device(.input)]), true),
      (ActivationPlan(six.map { _ in host(.input) }, roundsInputs: true), false),
      (ActivationPlan([], rest: .attention, roundsInputs: true), false),
      (ActivationPlan([], tile: 32), false), (ActivationPlan([], rest: .input, tile: 32), false),
      (ActivationPlan([], rest: .attention, roundsInputs: true, tile: 64, headRows: 32), false),
      (ActivationPlan([], rest: .projections, tile: 32, headRows: 32), false),
      (
        ActivationPlan(
          [host(.attention), host(.attention), host(.attention), device(.projections), device(.input)],
          roundsInputs: true, tile: 32), false
      ),
      (ActivationPlan(six.map { _ in host(.input) }, tile: 32, headRows: 32), false),
    ] + groups
  }()

  /// Groups of every size, even and uneven, on the device and with the host, with attention's output of none, some, all.
  private static let groups: [(plan: ActivationPlan, isExact: Bool)] = {
    func plan(
      _ size: Int, _ attentions: Int, host: Bool, inputsOnHost: Int, rounds: Bool = false, tile: Int? = nil
    ) -> ActivationPlan {
      ActivationPlan(
        (0..<6).map { ActivationPlan.Layer(.input, isOnHost: $0 < inputsOnHost) }, roundsInputs: rounds, tile: tile,
        headRows: tile, grouping: .init(size, attentions: attentions, isOnHost: host))
    }
    return [
      (plan(1, 0, host: false, inputsOnHost: 0), true), (plan(1, 0, host: false, inputsOnHost: 6), true),
      (plan(2, 0, host: false, inputsOnHost: 0), true), (plan(2, 1, host: true, inputsOnHost: 6), true),
      (plan(3, 1, host: false, inputsOnHost: 3), true), (plan(3, 2, host: true, inputsOnHost: 3), true),
      (plan(4, 3, host: true, inputsOnHost: 6), true), (plan(5, 2, host: false, inputsOnHost: 1), true),
      (plan(6, 5, host: false, inputsOnHost: 0), true), (plan(7, 3, host: true, inputsOnHost: 6), true),
      (plan(3, 1, host: true, inputsOnHost: 6, rounds: true), false),
      (plan(3, 2, host: true, inputsOnHost: 3, rounds: true, tile: 32), false),
      (plan(4, 1, host: false, inputsOnHost: 2, tile: 64), false),
      (plan(1, 0, host: false, inputsOnHost: 4, rounds: true, tile: 32), false),
    ]
  }()

  @Test(arguments: [CPUDevice.Compute.float32, .bfloat16], [deep, scaled])
  func plansChangeNothing(_ compute: CPUDevice.Compute, _ test: ModelCase) throws {
    let batch = test.batch(lengths: [70, 7, 5, 21])
    for dropout in [0, 0.3] {
      let (model, adapter) = try test.load(compute, dropout: dropout)
      let key = dropout > 0 ? DropoutKey(seed: 5, counter: 7) : nil
      try model.reserve(tokens: batch.tokens.count)
      let kept = try model.gradient(batch, of: adapter, dropout: key)
      // What rounding leaves of the truth, which no plan may make much worse.
      let (exactModel, exactAdapter) = try test.load(.float32, dropout: dropout)
      let truth = try exactModel.gradient(batch, of: exactAdapter, dropout: key).gradient.map(Double.init)
      let allowed = compute == .float32 ? 1e-5 : 1.5 * relativeError(kept.gradient, truth)
      #expect(allowed < 0.1)
      for (plan, isExact) in Self.plans {
        try model.reserve(tokens: batch.tokens.count, plan)
        // Twice: what one pass leaves in shared places must not reach the next.
        for _ in 0..<2 {
          let again = try model.gradient(batch, of: adapter, dropout: key)
          if isExact {
            #expect(again.loss == kept.loss && again.gradient == kept.gradient, "\(plan)")
          } else {
            #expect(abs(again.loss / kept.loss - 1) < (compute == .float32 ? 1e-6 : 1e-3), "\(plan)")
            #expect(relativeError(again.gradient, truth) < allowed, "\(plan)")
          }
        }
      }
    }
  }

  /// Every architecture's switches, in tiles and on the host.
  @Test func architecturesGoThroughInTiles() throws {
    for test in ModelCase.all {
      let batch = test.batch(lengths: [40, 7, 5, 21])
      let (model, adapter) = try test.load(.float32)
      try model.reserve(tokens: batch.tokens.count)
      let kept = try model.gradient(batch, of: adapter)
      let losses = try model.documentLosses(batch)
      for keeps in LayerMemory.allCases {
        let layers = (0..<4).map { _ in ActivationPlan.Layer(keeps, isOnHost: true) }
        try model.reserve(tokens: batch.tokens.count, ActivationPlan(layers, tile: 32, headRows: 32))
        let again = try model.gradient(batch, of: adapter)
        #expect(abs(again.loss / kept.loss - 1) < 1e-6, "\(test), \(keeps)")
        #expect(relativeError(again.gradient, kept.gradient.map(Double.init)) < 1e-5, "\(test), \(keeps)")
        #expect(abs(try model.evaluate(batch) / kept.loss - 1) < 1e-5)
        for (a, b) in zip(losses, try model.documentLosses(batch)) { #expect(abs(a - b) < 1e-5 * max(1, abs(b))) }
      }
    }
  }

  /// Every architecture's switches in groups.
  @Test func architecturesGoThroughInGroups() throws {
    for test in ModelCase.all {
      let batch = test.batch(lengths: [40, 7, 5, 21])
      let (model, adapter) = try test.load(.float32)
      try model.reserve(tokens: batch.tokens.count)
      let kept = try model.gradient(batch, of: adapter)
      for (size, isOnHost) in [(2, true), (2, false), (3, true)] {
        let layers = (0..<4).map { _ in ActivationPlan.Layer(.input, isOnHost: isOnHost) }
        let grouping = ActivationPlan.Grouping(size, attentions: size - 1, isOnHost: isOnHost)
        for tile in [nil, 32] {
          try model.reserve(
            tokens: batch.tokens.count, ActivationPlan(layers, tile: tile, headRows: tile, grouping: grouping))
          let again = try model.gradient(batch, of: adapter)
          if tile == nil {
            #expect(again.loss == kept.loss && again.gradient == kept.gradient, "\(test), \(grouping)")
          }
          #expect(abs(again.loss / kept.loss - 1) < 1e-6, "\(test), \(grouping)")
          #expect(relativeError(again.gradient, kept.gradient.map(Double.init)) < 1e-5, "\(test), \(grouping)")
          #expect(abs(try model.evaluate(batch) / kept.loss - 1) < 1e-5)
        }
      }
    }
  }

  /// Documents that count differently: the head goes over the tiles twice.
  @Test func documentsAreWeighedInTiles() throws {
    let batch = Self.deep.batch(lengths: [70, 7, 5, 21])
    let (model, adapter) = try Self.deep.load(.float32)
    func gradient(_ plan: ActivationPlan) throws -> [Float] {
      try model.reserve(tokens: batch.tokens.count, plan)
      let gradients = try adapter.trainingGradients
      try model.device.zero(gradients)
      try model.forwardBackward(batch) { losses in losses.map { Float(0.1 + $0 / 100) } }
      try adapter.finishGradients()
      return try model.device.floats(gradients)
    }
    let whole = try gradient(.everything)
    #expect(whole.contains { $0 != 0 })
    let tiled = try gradient(ActivationPlan([], rest: .input, tile: 32, headRows: 32))
    #expect(relativeError(tiled, whole.map(Double.init)) < 1e-5)
  }

  @Test func lessIsKeptInLess() throws {
    let (model, _) = try Self.deep.load(.float32)
    func bytes(_ plan: ActivationPlan) -> Int { model.activationByteCount(tokens: 512, plan) }
    let onHost = (0..<6).map { _ in ActivationPlan.Layer(.input, isOnHost: true) }
    let ladder = [
      bytes(.everything), bytes(ActivationPlan([], rest: .projections)), bytes(ActivationPlan([], rest: .attention)),
      bytes(.inputs), bytes(ActivationPlan([], rest: .input, grouping: .init(3))), bytes(ActivationPlan(onHost)),
      bytes(ActivationPlan(onHost, tile: 64)), bytes(ActivationPlan(onHost, tile: 64, grouping: .init(1))),
    ]
    for (more, less) in zip(ladder, ladder.dropFirst()) { #expect(less < more) }
  }
}
