// The documentation of what this implements stands in `TrainingOperations`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUKernels
import Tensors

// What training asks for beyond the model's passes.
extension CPUDevice {
  public func addColumnSums(of dy: Tensor, times z: Tensor?, rowScales: Tensor?, to sums: Tensor) throws {
    assert(sums.columns == dy.columns && z.map { $0.rows == dy.rows } ?? true)
    sl_add_column_sums(
      Int64(dy.rows), Int64(dy.columns), dy.pointer, dy.stride, dy.kernelType, z?.pointer, z?.stride ?? 0,
      z?.kernelType ?? SL_F32, rowScales?.floats, sums.floats)
  }

  public func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor, accumulate: Bool) throws {
    assert(x.rows == y.rows && x.columns == y.columns && factors.columns == x.columns)
    sl_scale_columns(
      Int64(x.rows), Int64(x.columns), x.pointer, x.stride, x.kernelType, factors.floats, y.pointer, y.stride,
      y.kernelType, accumulate ? 1 : 0)
  }

  public func adaptedRowNorms(
    squaredNorms: Tensor, scaledB: Tensor, products: Tensor, magnitudes: Tensor, inverses: Tensor, factors: Tensor
  ) throws {
    assert(scaledB.isDense && products.isDense && products.rows == scaledB.columns)
    sl_adapted_row_norms(
      Int64(scaledB.rows), Int64(scaledB.columns), squaredNorms.floats, scaledB.pointer, scaledB.kernelType,
      products.floats, magnitudes.floats, inverses.floats, factors.floats)
  }

  public func addWeightGradient(_ dy: Tensor, _ x: Tensor, to gradient: Tensor) throws {
    try product(dy, x, transposeA: true, into: gradient, accumulate: true)
  }

  public func replace(_ matrix: any FrozenMatrix, with values: Tensor) throws {
    try repack(matrix, values)
  }

  public func scatterAdd(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    assert(rows.count <= source.rows && source.columns == destination.columns)
    sl_scatter_add(
      Int64(rows.count), Int64(source.columns), source.floats, source.stride, rows, destination.floats,
      destination.stride)
  }

  public func addNoise(to x: Tensor, bound: Float, seed: UInt64, stream: UInt64) throws {
    sl_add_noise(Int64(x.rows), Int64(x.columns), x.floats, x.stride, bound, seed, stream)
  }

  public func splitDropout(
    _ x: Tensor, _ pair: LowRankPair, _ key: DropoutKey, kept: Tensor, rest: Tensor
  ) throws {
    assert(x.dtype == kept.dtype && x.dtype == rest.dtype && kept.columns == x.columns && rest.columns == x.columns)
    sl_dropout_split(
      Int64(x.rows), Int64(x.columns), x.pointer, x.stride, kept.pointer, kept.stride, rest.pointer, rest.stride,
      x.kernelType, pair.drop(key))
  }

  public func joinDropout(
    kept: Tensor, rest: Tensor, _ pair: LowRankPair, _ key: DropoutKey, into dx: Tensor, accumulate: Bool
  ) throws {
    assert(kept.columns == dx.columns && rest.columns == dx.columns)
    sl_dropout_join(
      Int64(dx.rows), Int64(dx.columns), kept.floats, kept.stride, rest.floats, rest.stride, dx.pointer, dx.stride,
      dx.kernelType, accumulate ? 1 : 0, pair.drop(key))
  }

  public func mix(_ x: Tensor, into average: Tensor, keep: Float) throws {
    assert(x.isDense && average.isDense && x.count == average.count)
    sl_mix(Int64(x.count), x.floats, average.floats, keep)
  }

  public func adamW8bit(
    parameters: Tensor, gradients: Tensor, _ moments: QuantizedMoments, _ step: AdamWStep
  ) throws {
    var quantized = sl_quantized_moments(
      first_codes: moments.firstCodes.bytes, second_codes: moments.secondCodes.bytes,
      first_scales: moments.firstScales.floats, second_scales: moments.secondScales.floats,
      first_map: moments.firstMap.floats, second_map: moments.secondMap.floats)
    sl_adamw8bit(
      Int64(parameters.count), parameters.floats, gradients.floats, &quantized, step.learningRate, step.beta1,
      step.beta2, step.epsilon, step.weightDecay, step.gradientScale, 1 - pow(step.beta1, step.step),
      1 - pow(step.beta2, step.step))
  }
}

extension Tensor {
  /// The first element as a byte.
  fileprivate var bytes: UnsafeMutablePointer<UInt8>? {
    assert(dtype == .uint8)
    return UnsafeMutablePointer(bitPattern: address)
  }
}
