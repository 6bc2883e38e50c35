// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CUDADriver
import Tensors

#if canImport(Glibc)
  import Glibc
#endif

// Copies, norms, rotation, activation, loss and optimizer: each is one kernel.
extension CUDADevice {
  public func copy(_ source: Tensor, to destination: Tensor) throws {
    assert(source.rows == destination.rows && source.columns == destination.columns)
    try copy(source, to: destination, factor: 1)
  }

  func copy(_ source: Tensor, to destination: Tensor, factor: Float) throws {
    try launch(
      "copy_\(suffix(source))_\(suffix(destination))", .rows(source.rows, by: (source.columns + 7) / 8),
      [
        source.rows.word, source.columns.word, source.word, source.rowStride.word, factor.word, destination.word,
        destination.rowStride.word, isAligned(source, destination).word,
      ])
  }

  public func scale(_ source: Tensor, by factor: Float, to destination: Tensor) throws {
    assert(source.isDense && destination.isDense && source.count == destination.count)
    try copy(
      source.reshaped(rows: 1, columns: source.count), to: destination.reshaped(rows: 1, columns: source.count),
      factor: factor)
  }

  public func gather(_ source: Tensor, rows: [Int32], to destination: Tensor) throws {
    assert(source.dtype == destination.dtype && rows.count <= destination.rows)
    try move(source, from: arrays.tensor(rows), to: destination, nil, count: rows.count)
  }

  public func scatter(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws {
    assert(source.dtype == destination.dtype && rows.count <= source.rows)
    try move(source, from: nil, to: destination, arrays.tensor(rows), count: rows.count)
  }

  public func embed(_ tokens: [Int32], _ table: any FrozenMatrix, into x: Tensor) throws {
    let rows = try weights(of: table)
    try launch(
      "embed", .rows(tokens.count, by: (x.columns + 7) / 8),
      [
        tokens.count.word, x.columns.word, rows.word, rows.rowStride.word, try arrays.tensor(tokens).word, x.word,
        x.rowStride.word, isAligned(rows, x).word,
      ])
  }

  private func move(_ source: Tensor, from: Tensor?, to destination: Tensor, _ to: Tensor?, count: Int) throws {
    let size = source.dtype.byteCount
    let unit = isAligned(source, destination) && source.columns * size % 16 == 0 ? 16 : 1
    let width = source.columns * size / unit
    try launch(
      "move_rows_\(unit)", .rows(count, by: width),
      [
        count.word, width.word, source.word, (source.rowStride * size / unit).word, from.word, destination.word,
        (destination.rowStride * size / unit).word, to.word,
      ])
  }

  public func addBias(_ bias: Tensor, to x: Tensor) throws {
    try launch(
      "add_bias_\(suffix(x))", .rows(x.rows, by: (x.columns + 7) / 8),
      [x.rows.word, x.columns.word, bias.word, x.word, x.rowStride.word, isAligned(bias, x).word])
  }

  // MARK: Normalization, rotation, activation

  public func rmsNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor, saved: Tensor?) throws
  {
    try launch(
      "rmsnorm_forward", .blockPerRow(x.rows, eights: x.columns / 8, most: 1024),
      [
        x.columns.word, x.word, x.rowStride.word, gamma.word, epsilon.word, y.word, y.rowStride.word, rstd.word,
        saved.word, (saved?.rowStride ?? 0).word, isAligned(x, gamma, y, saved).word,
      ])
  }

  public func rmsNormAgain(_ saved: Tensor, rstd: Tensor, _ gamma: Tensor, into y: Tensor) throws {
    try launch(
      "rmsnorm_apply", .blockPerRow(saved.rows, eights: saved.columns / 8, most: 1024),
      [
        saved.columns.word, saved.word, saved.rowStride.word, rstd.word, gamma.word, y.word, y.rowStride.word,
        isAligned(saved, gamma, y).word,
      ])
  }

  public func rmsNormBackward(
    _ dy: Tensor, saved: Tensor, rstd: Tensor, _ gamma: Tensor, addingTo dx: Tensor, copy: Tensor?
  ) throws {
    try launch(
      "rmsnorm_backward_\(suffix(dy))", .blockPerRow(dx.rows, eights: dx.columns / 8, most: 1024),
      [
        dx.columns.word, saved.word, saved.rowStride.word, rstd.word, gamma.word, dy.word, dy.rowStride.word, dx.word,
        dx.rowStride.word, copy.word, (copy?.rowStride ?? 0).word, isAligned(saved, gamma, dy, dx, copy).word,
      ])
  }

  public func rotate(
    _ x: Tensor, headDimension: Int, bias: Tensor?, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool
  ) throws {
    assert(positions.count >= x.rows)
    let heads = x.columns / headDimension
    let half = cosines.columns
    let bias = inverse ? nil : bias
    let chunks = (half + 7) / 8 + (bias == nil ? 0 : (headDimension - 2 * half + 7) / 8)
    let aligned = isAligned(x, bias, cosines, sines) && headDimension % 8 == 0 && half % 8 == 0
    try launch(
      "rope", .rows(x.rows, by: heads * chunks),
      [
        x.rows.word, x.word, x.rowStride.word, Int32(heads).word, Int32(headDimension).word, Int32(half).word,
        cosines.word, sines.word, try arrays.tensor(positions).word, bias.word, Float(inverse ? -1 : 1).word,
        aligned.word,
      ])
  }

  public func headNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor?) throws {
    assert(rstd?.isDense ?? true)
    let (heads, d) = (x.columns / gamma.columns, gamma.columns)
    try launch(
      "headnorm_forward", Grid(x: (x.rows * heads + 3) / 4, threadsX: 128),
      [
        x.rows.word, Int32(heads).word, Int32(d).word, x.word, x.rowStride.word, gamma.word, epsilon.word, y.word,
        y.rowStride.word, rstd.word,
      ])
  }

  public func headNormBackward(_ gradient: Tensor, _ x: Tensor, rstd: Tensor, _ gamma: Tensor) throws {
    assert(rstd.isDense)
    let (heads, d) = (x.columns / gamma.columns, gamma.columns)
    try launch(
      "headnorm_backward", Grid(x: (x.rows * heads + 3) / 4, threadsX: 128),
      [
        x.rows.word, Int32(heads).word, Int32(d).word, x.word, x.rowStride.word, rstd.word, gamma.word, gradient.word,
        gradient.rowStride.word,
      ])
  }

  public func swiGLU(_ gate: Tensor, _ up: Tensor, into y: Tensor) throws {
    assert(gate.rowStride == up.rowStride)
    try launch(
      "swiglu_forward", .rows(y.rows, by: (y.columns + 7) / 8),
      [
        y.rows.word, y.columns.word, gate.word, up.word, gate.rowStride.word, y.word, y.rowStride.word,
        isAligned(gate, up, y).word,
      ])
  }

  public func swiGLUBackward(_ dy: Tensor, _ gate: Tensor, _ up: Tensor, y: Tensor?) throws {
    assert(gate.rowStride == up.rowStride)
    try launch(
      "swiglu_backward", .rows(dy.rows, by: (dy.columns + 7) / 8),
      [
        dy.rows.word, dy.columns.word, gate.word, up.word, gate.rowStride.word, dy.word, dy.rowStride.word, y.word,
        (y?.rowStride ?? 0).word, isAligned(dy, gate, up, y).word,
      ])
  }

  // MARK: Loss and optimizer

  public func crossEntropy(
    _ logits: Tensor, targets: [Int32], scale: Float, gradient: Tensor?, rowLosses: UnsafeMutablePointer<Float>?
  ) throws -> Double {
    assert(targets.count == logits.rows)
    guard !targets.isEmpty else { return 0 }
    if let bad = targets.first(where: { $0 < 0 || Int($0) >= logits.columns }) {
      throw DeviceError("target \(bad) lies outside \(logits.columns) logits")
    }
    let losses = Tensor(
      try scratch(.rowLosses, byteCount: targets.count * 4), rows: 1, columns: targets.count, dtype: .float32)
    try launch(
      "cross_entropy", .blockPerRow(logits.rows, eights: logits.columns / 8, most: 1024),
      [
        logits.columns.word, logits.word, logits.rowStride.word, try arrays.tensor(targets).word, scale.word,
        gradient.word, (gradient?.rowStride ?? 0).word, losses.word, isAligned(logits, gradient).word,
      ])
    var values = [Float](repeating: 0, count: targets.count)
    try values.withUnsafeMutableBytes { try download(losses, to: $0) }
    rowLosses?.update(from: values, count: values.count)
    return values.reduce(0.0) { $0 + Double($1) }
  }

  public func squaredNorm(_ x: Tensor) throws -> Double {
    assert(x.isDense)
    let blocks = (x.count + 16_383) / 16_384
    let partial = try scratch(.partialSums, byteCount: (blocks + 1) * 8)
    let total = Tensor(partial, byteOffset: blocks * 8, rows: 1, columns: 8, dtype: .uint8)
    try launch("squares", Grid(x: blocks, threadsX: 256), [x.count.word, x.word, UInt64(partial.address)])
    try launch("sum_doubles", Grid(x: 1, threadsX: 256), [blocks.word, UInt64(partial.address), total.word])
    var sum = 0.0
    try withUnsafeMutableBytes(of: &sum) { try download(total, to: $0) }
    return sum
  }

  public func adamW(
    parameters: Tensor, gradients: Tensor, firstMoment: Tensor, secondMoment: Tensor, _ step: AdamWStep
  ) throws {
    let correction1 = 1 - pow(step.beta1, Double(step.step))
    let correction2 = 1 - pow(step.beta2, Double(step.step))
    let blocks = min((parameters.count + 255) / 256, context.multiprocessors * 16)
    try launch(
      "adamw", Grid(x: blocks, threadsX: 256),
      [
        parameters.count.word, parameters.word, gradients.word, firstMoment.word, secondMoment.word,
        Float(step.beta1).word, Float(1 - step.beta1).word, Float(step.beta2).word, Float(1 - step.beta2).word,
        Float(Double(step.learningRate) / correction1).word, Float(1 / correction2.squareRoot()).word,
        Float(1 - Double(step.learningRate) * Double(step.weightDecay)).word, step.epsilon.word,
        step.gradientScale.word,
      ])
  }
}
