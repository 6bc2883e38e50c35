// The documentation of what this implements stands in `TrainingOperations`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CUDADriver
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

// What training asks for beyond the model's passes: each is one kernel, or one product.
extension CUDADevice {
  public func addColumnSums(of dy: Tensor, times z: Tensor?, rowScales: Tensor?, to sums: Tensor) throws {
    assert(sums.columns == dy.columns && z.map { $0.rows == dy.rows && $0.dtype == .bfloat16 } ?? true)
    try launch(
      "column_sums_\(suffix(dy))", Grid(x: (dy.columns + 31) / 32, threadsX: 32, threadsY: 8),
      [
        dy.rows.word, dy.columns.word, dy.word, dy.rowStride.word, z.word, (z?.rowStride ?? 0).word, rowScales.word,
        sums.word,
      ])
  }

  public func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor, accumulate: Bool) throws {
    assert(x.rows == y.rows && x.columns == y.columns && factors.columns == x.columns)
    try launch(
      "scale_columns_\(suffix(x))_\(suffix(y))", .rows(x.rows, by: (x.columns + 7) / 8),
      [
        x.rows.word, x.columns.word, x.word, x.rowStride.word, factors.word, y.word, y.rowStride.word, accumulate.word,
        isAligned(x, factors, y).word,
      ])
  }

  public func adaptedRowNorms(
    squaredNorms: Tensor, scaledB: Tensor, products: Tensor, magnitudes: Tensor, inverses: Tensor, factors: Tensor
  ) throws {
    assert(scaledB.isDense && products.isDense && products.rows == scaledB.columns)
    try launch(
      "adapted_row_norms", Grid(x: (scaledB.rows + 127) / 128, threadsX: 128),
      [
        scaledB.rows.word, scaledB.columns.word, squaredNorms.word, scaledB.word, products.word, magnitudes.word,
        inverses.word, factors.word,
      ])
  }

  public func addWeightGradient(_ dy: Tensor, _ x: Tensor, to gradient: Tensor) throws {
    try product(dy, x, transposeA: true, into: gradient, accumulate: true)
  }

  public func replace(_ matrix: any FrozenMatrix, with values: Tensor) throws {
    try copy(values, to: weights(of: matrix))
  }

  public func scatterAdd(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    assert(rows.count <= source.rows && source.columns == destination.columns)
    // Rows of one target are summed by one thread, in their order: the same bits each time.
    let order = rows.indices.sorted { (rows[$0], $0) < (rows[$1], $1) }
    var starts: [Int32] = []
    for (place, index) in order.enumerated() where place == 0 || rows[order[place - 1]] != rows[index] {
      starts.append(Int32(place))
    }
    let targets = starts.map { rows[order[Int($0)]] }
    try launch(
      "scatter_add", .rows(targets.count, by: source.columns),
      [
        targets.count.word, source.columns.word, rows.count.word, source.word, source.rowStride.word,
        try arrays.tensor(order.map { Int32($0) }).word, try arrays.tensor(starts).word,
        try arrays.tensor(targets).word, destination.word, destination.rowStride.word,
      ])
  }

  public func addNoise(to x: Tensor, bound: Float, seed: UInt64, stream: UInt64) throws {
    try launch(
      "add_noise", .rows(x.rows, by: (x.columns + 7) / 8),
      [x.rows.word, x.columns.word, x.word, x.rowStride.word, bound.word, seed.word, stream.word, isAligned(x).word])
  }

  public func splitDropout(
    _ x: Tensor, _ pair: LowRankPair, _ key: DropoutKey, kept: Tensor, rest: Tensor
  ) throws {
    try launch(
      "dropout_split", .rows(x.rows, by: (x.columns + 7) / 8),
      [
        x.rows.word, x.columns.word, x.word, x.rowStride.word, kept.word, kept.rowStride.word, rest.word,
        rest.rowStride.word,
      ] + dropoutWords(pair, key) + [isAligned(x, kept, rest).word])
  }

  public func joinDropout(
    kept: Tensor, rest: Tensor, _ pair: LowRankPair, _ key: DropoutKey, into dx: Tensor, accumulate: Bool
  ) throws {
    try launch(
      "dropout_join_\(suffix(dx))", .rows(dx.rows, by: (dx.columns + 7) / 8),
      [
        dx.rows.word, dx.columns.word, kept.word, kept.rowStride.word, rest.word, rest.rowStride.word, dx.word,
        dx.rowStride.word, accumulate.word,
      ] + dropoutWords(pair, key) + [isAligned(kept, rest, dx).word])
  }

  public func mix(_ x: Tensor, into average: Tensor, keep: Float) throws {
    assert(x.isDense && average.isDense && x.count == average.count)
    let blocks = min((x.count + 255) / 256, context.multiprocessors * 16)
    try launch(
      "mix", Grid(x: blocks, threadsX: 256), [x.count.word, x.word, average.word, keep.word, (1 - keep).word])
  }

  public func adamW8bit(
    parameters: Tensor, gradients: Tensor, _ moments: QuantizedMoments, _ step: AdamWStep
  ) throws {
    let correction1 = 1 - pow(step.beta1, Double(step.step))
    let correction2 = 1 - pow(step.beta2, Double(step.step))
    let length = QuantizedMoments.blockLength
    try launch(
      "adamw8bit", Grid(x: (parameters.count + length - 1) / length, threadsX: length),
      [
        parameters.count.word, parameters.word, gradients.word, moments.firstCodes.word, moments.secondCodes.word,
        moments.firstScales.word, moments.secondScales.word, moments.firstMap.word, moments.secondMap.word,
        Float(step.beta1).word, Float(1 - step.beta1).word, Float(step.beta2).word, Float(1 - step.beta2).word,
        Float(Double(step.learningRate) / correction1).word, Float(1 / correction2.squareRoot()).word,
        Float(1 - Double(step.learningRate) * Double(step.weightDecay)).word, step.epsilon.word,
        step.gradientScale.word,
      ])
  }
}
