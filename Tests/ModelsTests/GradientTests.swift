import CPUDevice
import Tensors
import TestSupport
import Testing

@testable import Models

/// Backward passes against central differences of the loss in float64, parameter by parameter.
@Suite struct GradientTests {
  /// The gradient of the mean loss by central differences.
  private func differences(
    _ reference: ReferenceModel, _ adapter: Adapter, _ batch: PackedBatch
  ) throws -> [Double] {
    let values = try adapter.values().map { Double($0) }
    let step = 1e-5
    var reference = reference
    return values.indices.map { index in
      func loss(_ change: Double) -> Double {
        var moved = values
        moved[index] += change
        reference.set(adapter, moved)
        return reference.loss(batch)
      }
      return (loss(step) - loss(-step)) / (2 * step) / Double(batch.trainedTokenCount)
    }
  }

  /// Compares a gradient tensor by tensor.
  private func compare(
    _ gradient: [Float], _ expected: [Double], _ adapter: Adapter, tolerance: Double, _ comment: String
  ) {
    for part in adapter.parts {
      #expect(
        relativeError(gradient[part.range], expected[part.range]) < tolerance, "\(comment): \(part.name)")
    }
  }

  @Test(arguments: ModelCase.all)
  func gradientsAreThoseOfFiniteDifferences(_ test: ModelCase) throws {
    let batch = test.batch()
    let (exact, exactAdapter) = try test.load(.float32)
    var reference = ReferenceModel(test.tiny)
    reference.set(exactAdapter, try exactAdapter.values().map { Double($0) })
    let expectedLoss = reference.loss(batch)
    let expected = try differences(reference, exactAdapter, batch)

    // Few rows at a time through the head: its pieces must add up.
    try exact.reserve(tokens: batch.tokens.count, ActivationPlan([], headRows: 8))
    let fp32 = try exact.gradient(batch, of: exactAdapter)
    #expect(abs(fp32.loss / expectedLoss - 1) < 1e-5)
    compare(fp32.gradient, expected, exactAdapter, tolerance: 1e-4, "fp32")

    let (rounded, roundedAdapter) = try test.load(.bfloat16)
    let bf16 = try rounded.gradient(batch, of: roundedAdapter)
    #expect(abs(bf16.loss / expectedLoss - 1) < 1e-2)
    // Sums that nearly cancel lose most in bf16, and the tensors are small; together they show less of it.
    compare(bf16.gradient, expected, roundedAdapter, tolerance: 0.2, "bf16")
    #expect(relativeError(bf16.gradient, expected) < 0.1)
  }

  @Test(arguments: [ModelCase.all[1]] + ModelCase.all.filter(\.lora.useDoRA))
  func gradientsWithDropoutAreThoseOfFiniteDifferences(_ test: ModelCase) throws {
    let batch = test.batch()
    let (model, adapter) = try test.load(.float32, dropout: 0.3)
    let key = DropoutKey(seed: 5, counter: 7)
    var reference = ReferenceModel(test.tiny)
    for (place, pair) in adapter.pairs {
      reference.masks[place.module.path(layer: place.layer)] = try Self.mask(
        of: pair, key, rows: batch.tokens.count, on: model.device)
    }
    let expected = try differences(reference, adapter, batch)
    let result = try model.gradient(batch, of: adapter, dropout: key)
    reference.set(adapter, try adapter.values().map { Double($0) })
    #expect(abs(result.loss / reference.loss(batch) - 1) < 1e-5)
    compare(result.gradient, expected, adapter, tolerance: 1e-4, "dropout")

    let (rounded, roundedAdapter) = try test.load(.bfloat16, dropout: 0.3)
    let bf16 = try rounded.gradient(batch, of: roundedAdapter, dropout: key)
    #expect(relativeError(bf16.gradient, expected) < 0.2)

    // The same key drops the same elements again, recomputed or not; another key drops others.
    try model.reserve(tokens: batch.tokens.count, .inputs)
    let again = try model.gradient(batch, of: adapter, dropout: key)
    #expect(again.loss == result.loss && again.gradient == result.gradient)
    let other = try model.gradient(batch, of: adapter, dropout: DropoutKey(seed: 5, counter: 8))
    #expect(other.loss != result.loss)
    // Without a key, nothing is dropped.
    reference.masks = [:]
    #expect(abs(try model.evaluate(batch) / reference.loss(batch) - 1) < 1e-5)
  }

  /// What dropout makes of a row of ones before a pair's A sees it: the pair with a unit matrix as its A shows it.
  static func mask(
    of pair: LowRankPair, _ key: DropoutKey, rows: Int, on device: any Device
  ) throws -> [[Double]] {
    let width = pair.a.columns
    let unit = (0..<width * width).map { Float($0 / width == $0 % width ? 1 : 0) }
    let matrix = try device.makeFrozenMatrix(outputs: 1, inputs: width, directions: .forward) { rows, target in
      for index in 0..<rows.count * width { target[index] = 0 }
    }
    let projection = Projection(
      matrix,
      lowRank: LowRankPair(
        a: try device.tensor(unit, rows: width, columns: width),
        scaledB: try device.tensor([Float](repeating: 0, count: width), rows: 1, columns: width), gradientA: nil,
        gradientB: nil, dropout: pair.dropout, stream: pair.stream))
    let ones = try device.tensor([Float](repeating: 1, count: rows * width), rows: rows, columns: width)
    let result = try device.tensor([Float](repeating: 9, count: rows * width), rows: rows, columns: width)
    try device.lowRankInput(ones, [projection], into: [result], dropout: key)
    let values = try device.floats(result)
    return (0..<rows).map { row in values[row * width..<(row + 1) * width].map { Double($0) } }
  }

  @Test func dropoutDropsAtItsRateAndKeepsTheMean() throws {
    let test = ModelCase.all[0]
    let (model, adapter) = try test.load(.float32, dropout: 0.25)
    let pairs = adapter.pairs.values.sorted { $0.stream < $1.stream }
    let key = DropoutKey(seed: 1, counter: 2)
    let first = try Self.mask(of: pairs[0], key, rows: 2000, on: model.device).flatMap(\.self)
    let kept = first.filter { $0 != 0 }
    #expect(kept.allSatisfy { abs($0 - 1 / 0.75) < 1e-6 })
    // Five standard deviations.
    let share = Double(kept.count) / Double(first.count)
    #expect(abs(share - 0.75) < 5 * (0.75 * 0.25 / Double(first.count)).squareRoot())
    let second = try Self.mask(of: pairs[1], key, rows: 2000, on: model.device).flatMap(\.self)
    let both = zip(first, second).filter { $0 != 0 && $1 != 0 }.count
    #expect(abs(Double(both) / Double(first.count) - 0.5625) < 0.02, "pairs drop independently")
  }

  @Test(arguments: [CPUDevice.Compute.float32, .bfloat16])
  func recomputingChangesNoBit(_ compute: CPUDevice.Compute) throws {
    for test in ModelCase.all {
      let batch = test.batch(lengths: [40, 7, 5, 21])
      let (model, adapter) = try test.load(compute)
      try model.reserve(tokens: batch.tokens.count)
      let kept = try model.gradient(batch, of: adapter)
      let bytes = model.activationByteCount(tokens: batch.tokens.count, ActivationPlan.everything)
      for policy in [
        ActivationPlan.levels([.input]), .levels([.input, .input]), .inputs, .levels([.attention]),
        .levels([.attention, .input]),
      ] {
        try model.reserve(tokens: batch.tokens.count, policy)
        let again = try model.gradient(batch, of: adapter)
        #expect(again.loss == kept.loss && again.gradient == kept.gradient, "\(test), \(policy)")
      }
      #expect(model.activationByteCount(tokens: batch.tokens.count, ActivationPlan.inputs) < bytes)
      // A norm's output again comes from what was saved of its input: to rounding.
      for policy in [ActivationPlan.levels([.projections]), .levels([.input, .projections])] {
        try model.reserve(tokens: batch.tokens.count, policy)
        let again = try model.gradient(batch, of: adapter)
        #expect(again.loss == kept.loss)
        let norm = kept.gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
        let difference = zip(again.gradient, kept.gradient).reduce(0) { sum, pair in
          sum + (Double(pair.0) - Double(pair.1)) * (Double(pair.0) - Double(pair.1))
        }.squareRoot()
        #expect(difference < (compute == .float32 ? 1e-6 : 1e-2) * norm, "\(test), \(policy)")
      }
    }
  }

  /// Every document is padded to whole tiles in attention's backward pass, whose room must follow.
  @Test func manyShortDocumentsAreNoMoreThanTheirSum() throws {
    let test = ModelCase.all[0]
    let (model, adapter) = try test.load(.float32)
    var batch = PackedBatch()
    var loss = 0.0
    var gradient = [Double](repeating: 0, count: adapter.count)
    try model.reserve(tokens: 200)
    for document in 0..<100 {
      let ids = test.tokens(2, seed: UInt64(document))
      batch.append(ids, isTrained: [true, true])
      var alone = PackedBatch()
      alone.append(ids, isTrained: [true, true])
      let part = try model.gradient(alone, of: adapter, trained: 100)
      loss += part.loss
      for (index, value) in part.gradient.enumerated() { gradient[index] += Double(value) }
    }
    let whole = try model.gradient(batch, of: adapter)
    #expect(abs(whole.loss / loss - 1) < 1e-6)
    #expect(relativeError(whole.gradient, gradient) < 1e-5)
  }

  @Test func microBatchesAddUpToOneBatch() throws {
    let test = ModelCase.all[1]
    let (first, second) = (test.batch(), test.batch(lengths: [14, 3, 8, 5], seed: 22))
    var whole = first
    for document in second.documents {
      let ids = second.tokens[document]
      // A token is trained on where the position before it has it as its target.
      let mask = document.map { $0 > document.lowerBound && second.targets[$0 - 1] >= 0 }
      whole.append(ids, isTrained: mask[...])
    }
    #expect(whole.trainedTokenCount == first.trainedTokenCount + second.trainedTokenCount)
    let (model, adapter) = try test.load(.float32)
    let expected = try model.gradient(whole, of: adapter)
    let trained = whole.trainedTokenCount
    let gradients = try adapter.trainingGradients
    try model.device.zero(gradients)
    let loss =
      try model.forwardBackward(first, lossScale: 1 / Float(trained))
      + model.forwardBackward(second, lossScale: 1 / Float(trained))
    try adapter.finishGradients()
    #expect(abs(loss / expected.loss - 1) < 1e-6)
    #expect(relativeError(try model.device.floats(gradients), expected.gradient.map { Double($0) }) < 1e-6)
  }

  @Test(arguments: [CPUDevice.Compute.float32, .bfloat16])
  func evaluationIsTheLossOfTraining(_ compute: CPUDevice.Compute) throws {
    for test in ModelCase.all {
      let batch = test.batch()
      let (model, adapter) = try test.load(compute)
      let trained = try model.gradient(batch, of: adapter)
      var losses: [Float] = []
      #expect(try model.evaluate(batch) { losses += $0 } == trained.loss)
      #expect(losses.count == batch.trainedTokenCount)
      var reference = ReferenceModel(test.tiny)
      reference.set(adapter, try adapter.values().map { Double($0) })
      let tolerance = compute == .float32 ? 1e-5 : 2e-2
      #expect(relativeError(losses, reference.tokenLosses(batch)) < tolerance, "\(test)")
    }
  }

  /// Rows are cut into tiles by the number of threads; what is summed is not.
  @Test(arguments: [CPUDevice.Compute.float32, .bfloat16])
  func theNumberOfThreadsChangesNoBit(_ compute: CPUDevice.Compute) throws {
    let test = ModelCase.all[1]
    let batch = test.batch(lengths: [300, 1, 4, 250, 90])
    let results = try [1, 2, 3].map { threads in
      let (model, adapter) = try test.load(compute, threads: threads)
      return try model.gradient(batch, of: adapter)
    }
    _ = CPUDevice(threads: 0)
    #expect(results[1].loss == results[0].loss && results[2].loss == results[0].loss)
    #expect(results[1].gradient == results[0].gradient && results[2].gradient == results[0].gradient)
  }
}
