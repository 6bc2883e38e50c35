import CPUDevice
import Tensors
import TestSupport
import Testing

@testable import Models

/// Long context is right: what stands early reaches what stands late, through tiles and layers that lie with the host, and
/// nothing passes from one packed document to another.
@Suite struct NeedleTests {
  static let test = ModelCase(
    description: "four layers", tiny: TinyModel(changing: ["num_hidden_layers": 4], seed: 31),
    lora: LoRAConfiguration(rank: 2, alpha: 4))

  static let plans: [ActivationPlan] = {
    let host = [LayerMemory.input, .attention, .attention, .input].map { ActivationPlan.Layer($0, isOnHost: true) }
    let inputs = host.map { _ in ActivationPlan.Layer(.input, isOnHost: true) }
    return [
      ActivationPlan(host, tile: 32, headRows: 32), ActivationPlan([], rest: .attention, tile: 64),
      ActivationPlan(inputs, tile: 32, grouping: .init(3, attentions: 1, isOnHost: true)),
    ]
  }()

  /// Documents of which the last one's last tokens are trained; `changed`: the place of a token that is another.
  private func batch(_ lengths: [Int], changed: Int? = nil) -> PackedBatch {
    var batch = PackedBatch()
    var place = 0
    for (index, length) in lengths.enumerated() {
      var tokens = Self.test.tokens(length, seed: UInt64(index))
      if let changed, (place..<place + length).contains(changed) {
        tokens[changed - place] = (tokens[changed - place] + 7) % 24
      }
      place += length
      batch.append(tokens, isTrained: tokens.indices.map { index == lengths.count - 1 && $0 >= length - 40 })
    }
    return batch
  }

  @Test func anEarlyTokenChangesALateLoss() throws {
    let (model, adapter) = try Self.test.load(.float32)
    let (plain, needle) = (batch([900]), batch([900], changed: 3))
    try model.reserve(tokens: 928)
    let kept = try model.gradient(plain, of: adapter), found = try model.gradient(needle, of: adapter)
    let change = found.loss - kept.loss
    #expect(abs(change) > 1e-6 * kept.loss, "the needle is lost without a plan: \(change) of \(kept.loss)")
    #expect(found.gradient != kept.gradient)
    for plan in Self.plans {
      try model.reserve(tokens: 928, plan)
      let again = try model.gradient(needle, of: adapter).loss - model.gradient(plain, of: adapter).loss
      #expect(abs(again - change) < 0.05 * abs(change), "\(again), \(change)")
      // The rest of the document is as it was before the needle: what comes before sees nothing of it.
      let late = try model.gradient(batch([900], changed: 899), of: adapter)
      #expect(abs(late.loss - kept.loss) > 1e-6 * kept.loss)
    }
  }

  @Test func packedDocumentsDoNotSeeEachOther() throws {
    let lengths = [333, 120, 400]
    for plan in Self.plans + [.everything] {
      let (model, adapter) = try Self.test.load(.float32)
      try model.reserve(tokens: 864, plan)
      let kept = try model.gradient(batch(lengths), of: adapter)
      for changed in [0, 332, 333, 452] {
        let again = try model.gradient(batch(lengths, changed: changed), of: adapter)
        #expect(again.loss == kept.loss && again.gradient == kept.gradient, "token \(changed) is seen")
      }
      let own = try model.gradient(batch(lengths, changed: 453), of: adapter)
      #expect(own.loss != kept.loss && own.gradient != kept.gradient)
    }
  }
}
