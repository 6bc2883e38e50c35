// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUKernels
import Tensors

// Matrices in panels of our own, and few rows times matrices in blocks, go through CPUDevice+FusedLinear.swift. Of those that
// oneDNN holds, and of few rows times matrices in NF4, each projection of a group is a product of its own.
extension CPUDevice {
  public func linear(
    _ x: Tensor, _ projections: [Projection], into outputs: [Tensor], lowRank: [Tensor?], accumulate: Bool,
    dropout: DropoutKey?
  ) throws {
    let areFew = try areFew(x.rows, projections, dropout)
    if areFew, let parts = try partsInBlocks(projections, outputs, lowRank) {
      return try checkMemory(
        sl_blocks_linear(
          kernelType, Int64(x.rows), x.pointer, x.stride, Int64(x.columns), Int32(parts.count), parts,
          accumulate ? 1 : 0))
    }
    if !areFew, let parts = try fusedParts(projections, .forward, outputs, lowRank, rows: x.rows, dropout) {
      return try fusedLinear(x, parts, accumulate: accumulate, activation: nil)
    }
    for (index, projection) in projections.enumerated() {
      let y = outputs[index]
      guard let pair = projection.lowRank, let s = lowRank[index] else {
        try multiply(x, projection.matrix, .forward, into: y, accumulate: accumulate)
        continue
      }
      let dropped = try dropped(x, pair, dropout)
      // Few rows one by one: what a product of a shape of its own costs to begin is more than such rows take.
      let parts = areFew ? (0..<x.rows).map { $0..<$0 + 1 } : [0..<x.rows]
      for part in parts { try product(dropped.rows(part), pair.a, transposeB: true, into: s.rows(part)) }
      // What an adapter adds early in training is less than bf16 can hold beside the base's result.
      try roundingOnce(y, accumulate: accumulate) { sum in
        try multiply(x, projection.matrix, .forward, into: sum, accumulate: accumulate)
        for part in parts {
          try product(s.rows(part), pair.scaledB, transposeB: true, into: sum.rows(part), accumulate: true)
        }
      }
    }
  }

  public func lowRankInput(
    _ x: Tensor, _ projections: [Projection], into lowRank: [Tensor?], dropout: DropoutKey?
  ) throws {
    if let parts = try fusedParts(projections, .forward, nil, lowRank, rows: x.rows, dropout) {
      return try fusedLinear(x, parts, accumulate: false, activation: nil)
    }
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, let s = lowRank[index] else { continue }
      try product(dropped(x, pair, dropout), pair.a, transposeB: true, into: s)
    }
  }

  public func linearBackward(
    _ gradients: [Tensor], _ projections: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?],
    into dx: Tensor?, dropout: DropoutKey?
  ) throws {
    let rows = gradients.first?.rows ?? 0
    if let parts = try fusedParts(projections, .backward, gradients, lowRankGradients, rows: rows, dropout) {
      try fusedLinearBackward(parts, rows: rows, into: dx, gated: nil)
      return try fusedGradientsOfB(gradients, projections, lowRank: lowRank)
    }
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, let s = lowRank[index], let ds = lowRankGradients[index] else { continue }
      try product(gradients[index], pair.scaledB, into: ds)
      if let gradient = pair.gradientB {
        try product(gradients[index], s, transposeA: true, into: gradient, accumulate: true)
      }
    }
    guard let dx else { return }
    try roundingOnce(dx, accumulate: false) { sum in
      for (index, projection) in projections.enumerated() {
        try multiply(gradients[index], projection.matrix, .backward, into: sum, accumulate: index > 0)
        guard let pair = projection.lowRank, lowRank[index] != nil, let ds = lowRankGradients[index] else { continue }
        guard let dropout, pair.dropout > 0 else {
          try product(ds, pair.a, into: sum, accumulate: true)
          continue
        }
        let through = try scratchMatrix(.dropped, rows: sum.rows, columns: sum.columns)
        try product(ds, pair.a, into: through)
        sl_dropout_backward(
          Int64(sum.rows), Int64(sum.columns), through.floats, through.stride, sum.pointer, sum.stride,
          sum.kernelType, pair.drop(dropout))
      }
    }
  }

  public func linearBackwardA(
    _ x: Tensor, _ projections: [Projection], lowRankGradients: [Tensor?], dropout: DropoutKey?
  ) throws {
    if try fusedParts(projections, .backward, nil, lowRankGradients, rows: x.rows, dropout) != nil {
      return try fusedGradientsOfA(x, projections, lowRankGradients, dropout)
    }
    for (index, projection) in projections.enumerated() {
      guard let pair = projection.lowRank, let ds = lowRankGradients[index], let gradient = pair.gradientA else {
        continue
      }
      try product(ds, dropped(x, pair, dropout), transposeA: true, into: gradient, accumulate: true)
    }
  }

  public func logits(_ x: Tensor, _ head: any FrozenMatrix, into logits: Tensor) throws {
    try linear(x, [Projection(head)], into: [logits], lowRank: [nil], accumulate: false, dropout: nil)
  }

  public func logitsBackward(_ gradient: Tensor, _ head: any FrozenMatrix, into dx: Tensor) throws {
    try multiply(gradient, head, .backward, into: dx, accumulate: false)
  }

  // MARK: Products

  /// Lets `body` sum into `y` (which it adds to where `accumulate`), in fp32 also where y is bf16.
  private func roundingOnce(_ y: Tensor, accumulate: Bool, _ body: (Tensor) throws -> Void) throws {
    guard y.dtype == .bfloat16 else { return try body(y) }
    let sum = try scratchMatrix(.sum, rows: y.rows, columns: y.columns)
    if accumulate { try copy(y, to: sum) }
    try body(sum)
    try copy(sum, to: y)
  }

  private func multiply(
    _ x: Tensor, _ matrix: any FrozenMatrix, _ direction: ProductDirections, into y: Tensor, accumulate: Bool
  ) throws {
    assert(x.dtype == computeType && x.rows == y.rows)
    if direction == .forward, try hasFewRows(matrix, x.rows), let nf4 = try own(matrix).nf4 {
      return try checkMemory(
        nf4.withKernelMatrix {
          sl_nf4_rows(
            $0, Int64(x.rows), x.pointer, x.stride, y.pointer, y.kernelType, y.stride, accumulate ? 1 : 0)
        })
    }
    if let nf4 = try own(matrix).nf4, try multiply(x, nf4, direction, into: y, accumulate: accumulate) { return }
    try check(
      sl_matmul_packed(
        Int64(x.rows), x.pointer, x.stride, packed(matrix, direction), y.pointer, y.kernelType, y.stride,
        accumulate ? 1 : 0),
      "a product of \(x.rows) × \(x.columns) into \(y.columns) columns")
  }

  /// A product with a matrix in NF4 from dense rows, where this processor multiplies by no panels; false elsewhere.
  private func multiply(
    _ x: Tensor, _ matrix: CPUNF4Matrix, _ direction: ProductDirections, into y: Tensor, accumulate: Bool
  ) throws -> Bool {
    if sl_nf4_is_fused(kernelType) != 0, matrix.outputs % 2 == 0 { return false }
    let rows = try dequantized[0].unpack(matrix, on: self)
    try product(x, rows, transposeB: direction == .forward, into: y, accumulate: accumulate)
    return true
  }

  /// c = op(a) · op(b), or added to c.
  func product(
    _ a: Tensor, _ b: Tensor, transposeA: Bool = false, transposeB: Bool = false, into c: Tensor,
    accumulate: Bool = false
  ) throws {
    let k = transposeA ? a.rows : a.columns
    assert(k == (transposeB ? b.columns : b.rows) && c.rows == (transposeA ? a.columns : a.rows))
    try check(
      sl_matmul(
        Int64(c.rows), Int64(c.columns), Int64(k), a.pointer, a.stride, transposeA ? 1 : 0, b.pointer, b.stride,
        transposeB ? 1 : 0, kernelType, c.pointer, c.kernelType, c.stride, accumulate ? 1 : 0),
      "a product of \(c.rows) × \(k) × \(c.columns)")
  }

  /// x as a pair's A sees it: x itself, or a dropped copy that lives until the next call.
  private func dropped(_ x: Tensor, _ pair: LowRankPair, _ dropout: DropoutKey?) throws -> Tensor {
    guard let dropout, pair.dropout > 0 else { return x }
    let copy = try scratchMatrix(.dropped, rows: x.rows, columns: x.columns)
    let y = Tensor(copy.buffer, rows: x.rows, columns: x.columns, dtype: x.dtype)
    sl_dropout(
      Int64(x.rows), Int64(x.columns), x.pointer, x.stride, y.pointer, y.stride, x.kernelType, pair.drop(dropout))
    return y
  }
}

extension LowRankPair {
  /// What the kernels drop of this pair's input.
  func drop(_ key: DropoutKey?) -> sl_drop {
    guard let key else { return sl_drop() }
    return sl_drop(
      probability: dropout, seed: key.seed, stream: dropoutStream(key), first_row: Int64(key.firstRow))
  }
}
