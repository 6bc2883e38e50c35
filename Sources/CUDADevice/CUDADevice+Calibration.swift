// The documentation of what this implements stands in `CalibratingDevice`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import Tensors

extension CUDADevice: CalibratingDevice {
  public func addRowDots(_ a: Tensor, _ b: Tensor, to dots: Tensor) throws {
    assert(a.rows == b.rows && a.columns == b.columns && dots.columns >= a.rows && b.dtype == .bfloat16)
    try launch(
      "row_dots_\(suffix(a))_bf16", Grid(x: (a.rows + 7) / 8, threadsX: 32, threadsY: 8),
      [
        a.rows.word, a.columns.word, a.word, a.rowStride.word, b.word, b.rowStride.word, dots.word,
        isAligned(a, b).word,
      ])
  }

  public func scaleRows(_ x: Tensor, by factors: Tensor, into y: Tensor) throws {
    assert(x.rows == y.rows && x.columns == y.columns && factors.columns >= x.rows)
    try launch(
      "scale_rows_bf16", .rows(x.rows, by: (x.columns + 7) / 8),
      [
        x.rows.word, x.columns.word, x.word, x.rowStride.word, factors.word, y.word, y.rowStride.word,
        isAligned(x, y).word,
      ])
  }

  public func nf4Change(_ x: Tensor, of matrix: any FrozenMatrix, into y: Tensor) throws {
    let frozen = try own(matrix)
    guard try frozen.group.packed(frozen.index, on: self) == nil else {
      // It is what quantizing made it.
      return try zero(y)
    }
    let (rows, columns) = (matrix.outputs, matrix.inputs)
    let weights = try weights(of: matrix)
    let error = Tensor(
      try scratch(.nf4Error, byteCount: rows * columns * 2), rows: rows, columns: columns, dtype: .bfloat16)
    // Blocks of 64 run on from row to row.
    try copy(weights, to: error)
    let packed = try nf4Trial(rows: rows, columns: columns)
    let absmax = try absmaxScratch(packed)
    try quantize(error.word, .bfloat16, count: error.count, to: packed, from: 0, absmax: absmax)
    try quantizeAbsmax(absmax, to: packed)
    try dequantize(packed, into: error)
    try launch(
      "subtract_bf16", .rows(rows, by: (columns + 7) / 8),
      [
        rows.word, columns.word, weights.word, weights.rowStride.word, error.word, error.rowStride.word,
        isAligned(weights, error).word,
      ])
    try product(x, error, transposeB: true, into: y)
  }

  /// Room for a matrix that is quantized to be looked at, until the next one is.
  private func nf4Trial(rows: Int, columns: Int) throws -> NF4Matrix {
    // Codes, absmax and what that is parts of, each from a multiple of 256 bytes on.
    let blocks = NF4Matrix.blockCount(rows * columns)
    let bytes = rows * columns / 2 + blocks + NF4Matrix.nestedCount(blocks) * 4 + 4 + 4 * 256
    let buffer = try scratch(.nf4Trial, byteCount: bytes)
    var used = 0
    return try makeNF4(rows: rows, columns: columns) { count, dtype in
      defer { used += Self.allocated(count * dtype.byteCount) }
      return Tensor(buffer, byteOffset: used, rows: 1, columns: count, dtype: dtype)
    }
  }
}
