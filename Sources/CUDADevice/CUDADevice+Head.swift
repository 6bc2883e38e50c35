// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import Tensors

// The head is one matrix of a group of its own: open, or quantized, and then opened some rows at a time where other matrices
// are opened too.
extension CUDADevice {
  public func logits(_ x: Tensor, _ head: any FrozenMatrix, into logits: Tensor) throws {
    if try linearOfFewRows(x, [Projection(head)], [logits], [nil]) { return }
    guard let part = try tiledPart(of: head) else {
      return try product(x, weights(of: head), transposeB: true, into: logits)
    }
    try forEachTile(of: part) { rows, weights in
      try product(x, weights, transposeB: true, into: logits.columns(rows))
    }
  }

  public func logitsBackward(_ gradient: Tensor, _ head: any FrozenMatrix, into dx: Tensor) throws {
    guard let part = try tiledPart(of: head) else { return try product(gradient, weights(of: head), into: dx) }
    try forEachTile(of: part) { rows, weights in
      try product(gradient.columns(rows), weights, into: dx, accumulate: rows.lowerBound > 0)
    }
  }

  /// Rows of a tile: whole blocks of every format.
  static func tileRows(inputs: Int, outputs: Int, byteCount: Int) -> Int {
    min(outputs, max(64, byteCount / (2 * max(inputs, 1)) / 64 * 64))
  }

  private func tiledPart(of head: any FrozenMatrix) throws -> CUDAMatrixGroup.Part? {
    let group = try own(head).group
    try use(group.segment)
    return group.tiledPart
  }

  private func forEachTile(of part: CUDAMatrixGroup.Part, _ body: (Range<Int>, Tensor) throws -> Void) throws {
    let count = Self.tileRows(inputs: part.columns, outputs: part.rows, byteCount: headTileBytes)
    let room = try scratch(.openMatrices, byteCount: count * part.columns * 2)
    openGroup = nil
    for start in stride(from: 0, to: part.rows, by: count) {
      let rows = start..<min(start + count, part.rows)
      let tile = Tensor(room, rows: rows.count, columns: part.columns, dtype: .bfloat16)
      try timer?.begin(.dequantization)
      switch part {
      case .nf4(let matrix): try dequantize(matrix.rows(rows), into: tile)
      case .int8(let matrix): try dequantize(matrix.rows(rows), into: tile)
      case .operands(let tensor): try copy(tensor.rows(rows), to: tile)
      }
      try timer?.end()
      try body(rows, tile)
    }
  }
}
