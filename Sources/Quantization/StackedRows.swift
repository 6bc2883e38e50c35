import CPUDevice
import ModelFiles

/// The rows of tensors of one width, one above the other, decoded piece by piece.
struct StackedRows: Sendable {
  let parts: [StoredTensor]
  let width: Int
  let count: Int
  let name: String

  init(_ parts: [StoredTensor], name: String) {
    self.parts = parts
    self.name = name
    width = max(parts.first?.rowLength ?? 1, 1)
    count = parts.reduce(0) { $0 + $1.rowCount }
  }

  var path: String { parts.first?.file.path ?? "" }

  /// Ranges of rows, none of which crosses from one tensor to another, small enough for a core's cache.
  var pieces: [Range<Int>] { pieces(atLeast: 1) }

  /// The same with more rows where rows are long.
  func pieces(atLeast rows: Int) -> [Range<Int>] {
    let length = max(rows, 65_536 / width)
    var pieces: [Range<Int>] = []
    var start = 0
    for part in parts {
      for first in stride(from: 0, to: part.rowCount, by: length) {
        pieces.append(start + first..<start + min(first + length, part.rowCount))
      }
      start += part.rowCount
    }
    return pieces
  }

  /// The values of one of ``pieces``, or of ``pieces(atLeast:)``.
  func decoded(_ rows: Range<Int>) throws -> [Float] {
    var start = 0
    for part in parts {
      if rows.lowerBound < start + part.rowCount {
        var values = [Float](repeating: 0, count: rows.count * width)
        let own = rows.lowerBound - start..<rows.upperBound - start
        try values.withUnsafeMutableBufferPointer { values in
          guard let base = values.baseAddress else { return }
          try part.decode(rows: own, into: base)
          try part.requireFinite(base, count: values.count)
        }
        return values
      }
      start += part.rowCount
    }
    return []
  }

  /// Some numbers of every row, `perRow` each, that `body` makes of a piece's values and its count of rows; on all threads.
  func collect(
    perRow: Int, _ body: @Sendable (UnsafePointer<Float>, Int, UnsafeMutablePointer<Float>) -> Void
  ) throws -> [Float] {
    var result = [Float](repeating: 0, count: count * perRow)
    let pieces = pieces
    try result.withUnsafeMutableBufferPointer { result in
      nonisolated(unsafe) let target = result
      try parallel(tasks: pieces.count) { task in
        let values = try decoded(pieces[task])
        guard let base = target.baseAddress else { return }
        body(values, pieces[task].count, base + pieces[task].lowerBound * perRow)
      }
    }
    return result
  }
}

extension StackedRows {
  /// Σ of all squares.
  func squaredNorm() throws -> Double {
    let sums = try collect(perRow: 1) { values, count, target in
      for row in 0..<count {
        var sum: Float = 0
        for column in 0..<width { sum += values[row * width + column] * values[row * width + column] }
        target[row] = sum
      }
    }
    return sums.reduce(0.0) { $0 + Double($1) }
  }
}
