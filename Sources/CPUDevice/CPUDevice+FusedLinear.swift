// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUKernels
import Tensors

// Linear layers whose matrices lie in panels of our own: each group is one kernel (linear.c), adapters included.
extension CPUDevice {
  public func linearSwiGLU(
    _ x: Tensor, _ gateUp: [Projection], gate: Tensor, up: Tensor, lowRank: [Tensor?], into activation: Tensor,
    dropout: DropoutKey?
  ) throws {
    if try !areFew(x.rows, gateUp, dropout),
      let parts = try fusedParts(gateUp, .forward, [gate, up], lowRank, rows: x.rows, dropout)
    {
      return try fusedLinear(x, parts, accumulate: false, activation: activation)
    }
    try linear(x, gateUp, into: [gate, up], lowRank: lowRank, accumulate: false, dropout: dropout)
    try swiGLU(gate, up, into: activation)
  }

  public func linearSwiGLUBackward(
    _ dy: Tensor, _ down: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?], gate: Tensor, up: Tensor,
    activation: Tensor, dropout: DropoutKey?
  ) throws {
    if let parts = try fusedParts(down, .backward, [dy], lowRankGradients, rows: dy.rows, dropout) {
      try fusedLinearBackward(parts, rows: dy.rows, into: activation, gated: (gate, up))
      return try fusedGradientsOfB([dy], down, lowRank: lowRank)
    }
    try linearBackward(
      [dy], down, lowRank: lowRank, lowRankGradients: lowRankGradients, into: activation, dropout: dropout)
    try swiGLUBackward(activation, gate, up, y: activation)
  }

  /// What the fused kernels take, or nil where they do not apply: a matrix that oneDNN holds, one row (which is the
  /// decoding kernels').
  func fusedParts(
    _ projections: [Projection], _ direction: ProductDirections, _ tensors: [Tensor]?, _ lowRank: [Tensor?], rows: Int,
    _ dropout: DropoutKey?
  ) throws -> [sl_linear_part]? {
    guard rows > 1 else { return nil }
    return try parts(projections, direction, tensors, lowRank, dropout) { try isFused($0, direction) }
  }

  /// The most rows that are multiplied with quantized matrices as they lie: beyond, it is faster to dequantize first.
  private static let (mostRowsInBlocks, mostRowsInNF4) = (48, 16)

  /// Whether so few rows are multiplied that matrices which are all quantized in one way are better not dequantized.
  func areFew(_ rows: Int, _ projections: [Projection], _ dropout: DropoutKey?) throws -> Bool {
    guard dropout == nil, rows <= Self.mostRowsInBlocks else { return false }
    return try projections.allSatisfy { try isInBlocks($0.matrix) }
      || rows <= Self.mostRowsInNF4 && projections.allSatisfy { try hasFewRows($0.matrix, rows) }
  }

  /// Whether a matrix is kept in the blocks of a file.
  func isInBlocks(_ matrix: any FrozenMatrix) throws -> Bool { try sl_is_in_blocks(own(matrix).forward) != 0 }

  /// Whether `rows` rows are multiplied with a matrix in NF4 straight from its codes.
  func hasFewRows(_ matrix: any FrozenMatrix, _ rows: Int) throws -> Bool {
    try rows <= Self.mostRowsInNF4 && sl_nf4_is_fused(kernelType) != 0 && own(matrix).nf4 != nil
  }

  /// What the kernels for few rows of blocks take, or nil where a matrix is kept otherwise.
  func partsInBlocks(_ projections: [Projection], _ outputs: [Tensor], _ lowRank: [Tensor?]) throws
    -> [sl_linear_part]?
  {
    try parts(projections, .forward, outputs, lowRank, nil, where: isInBlocks)
  }

  /// The parts of a group, or nil where a matrix does not fit.
  private func parts(
    _ projections: [Projection], _ direction: ProductDirections, _ tensors: [Tensor]?, _ lowRank: [Tensor?],
    _ dropout: DropoutKey?, where fits: (any FrozenMatrix) throws -> Bool
  ) throws -> [sl_linear_part]? {
    guard projections.count <= sl_linear_most_parts else { return nil }
    var parts: [sl_linear_part] = []
    for (index, projection) in projections.enumerated() {
      guard try fits(projection.matrix) else { return nil }
      var part = sl_linear_part()
      if let pair = projection.lowRank, let s = lowRank[index] {
        assert(pair.a.isDense && pair.scaledB.isDense)
        part.rank = Int64(pair.rank)
        part.a = UnsafeRawPointer(pair.a.pointer)
        part.b = UnsafeRawPointer(pair.scaledB.pointer)
        part.s = s.pointer
        part.lds = s.stride
        part.drop = pair.drop(dropout)
      }
      if let tensor = tensors?[index] {
        part.w = try packed(projection.matrix, direction, slot: index)
        part.y = tensor.pointer
        part.ldy = tensor.stride
        part.y_type = tensor.kernelType
      }
      parts.append(part)
    }
    return parts
  }

  /// Whether products with a matrix go through the fused kernels.
  private func isFused(_ matrix: any FrozenMatrix, _ direction: ProductDirections) throws -> Bool {
    if let nf4 = try own(matrix).nf4 {
      // Panels hold pairs along the summed dimension.
      return sl_nf4_is_fused(kernelType) != 0 && nf4.outputs % 2 == 0
    }
    return sl_linear_is_fused(try packed(matrix, direction)) != 0
  }

  func fusedLinear(_ x: Tensor, _ parts: [sl_linear_part], accumulate: Bool, activation: Tensor?) throws {
    assert(x.dtype == computeType)
    try checkMemory(
      sl_linear_forward(
        Int64(x.rows), x.pointer, x.stride, Int64(x.columns), Int32(parts.count), parts, accumulate ? 1 : 0,
        activation?.pointer, activation?.stride ?? 0))
  }

  func fusedLinearBackward(_ parts: [sl_linear_part], rows: Int, into dx: Tensor?, gated: (gate: Tensor, up: Tensor)?)
    throws
  {
    assert(gated.map { $0.gate.rowStride == $0.up.rowStride } ?? true)
    guard let inputs = dx?.columns ?? parts.first.map({ Int(sl_linear_inputs($0.w)) }) else { return }
    try checkMemory(
      sl_linear_backward(
        Int64(rows), Int32(parts.count), parts, dx?.pointer, dx?.kernelType ?? SL_BF16, dx?.stride ?? 0, Int64(inputs),
        gated?.gate.pointer, gated?.up.pointer, gated?.gate.stride ?? 0))
  }

  /// Adds dyᵀ · s to each pair's `gradientB`.
  func fusedGradientsOfB(_ gradients: [Tensor], _ projections: [Projection], lowRank: [Tensor?]) throws {
    var sums: [sl_token_sum] = []
    for (index, projection) in projections.enumerated() {
      guard let s = lowRank[index], let sum = projection.lowRank?.gradientB else { continue }
      sums.append(tokenSum(s, gradients[index], into: sum, transposed: true))
    }
    try checkMemory(sl_token_sums(Int64(gradients.first?.rows ?? 0), Int32(sums.count), sums))
  }

  /// Adds dsᵀ · dropout(x) to each pair's `gradientA`.
  func fusedGradientsOfA(
    _ x: Tensor, _ projections: [Projection], _ lowRankGradients: [Tensor?], _ dropout: DropoutKey?
  ) throws {
    var sums: [sl_token_sum] = []
    for (index, projection) in projections.enumerated() {
      guard let ds = lowRankGradients[index], let pair = projection.lowRank, let sum = pair.gradientA else { continue }
      sums.append(tokenSum(ds, x, into: sum, transposed: false, drop: pair.drop(dropout)))
    }
    try checkMemory(sl_token_sums(Int64(x.rows), Int32(sums.count), sums))
  }

  private func tokenSum(_ s: Tensor, _ x: Tensor, into sum: Tensor, transposed: Bool, drop: sl_drop = sl_drop())
    -> sl_token_sum
  {
    assert(sum.isDense && s.rows == x.rows)
    return sl_token_sum(
      s: UnsafeRawPointer(s.pointer), x: UnsafeRawPointer(x.pointer), rank: Int64(s.columns), lds: s.stride,
      columns: Int64(x.columns), ldx: x.stride, sums: sum.floats, transposed: transposed ? 1 : 0, drop: drop)
  }

  func checkMemory(_ status: Int32) throws {
    guard status != 0 else { return }
    throw DeviceError("out of memory; lower --batch-size or --max-seq-length, or use --recompute all")
  }
}
