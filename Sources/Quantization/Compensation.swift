import CBlockFormats
import CPUDevice
import Glibc

/// What GPTQ's recursion needs of the inputs' correlations.
struct Compensation: Sendable {
  /// Added to the diagonal: 1% of its mean.
  let damping: Double
  /// Columns, those with the largest inputs first.
  let order: [Int32]
  /// The triangle R, `[inputs, inputs]`, with Rᵀ R the inverse of the correlations.
  let factor: [Float]

  /// nil where there are no correlations, they do not fit NF4's blocks, or nothing was ever read.
  init?(_ statistics: InputStatistics) throws {
    let width = statistics.moments.count
    guard statistics.correlations.count == width * width, width > 0, width % Self.tile == 0 else { return nil }
    let diagonal = (0..<width).map { statistics.correlations[$0 * width + $0] }
    let mean = diagonal.reduce(0.0) { $0 + Double($1) } / Double(width)
    guard mean > 0, mean.isFinite else { return nil }
    damping = 0.01 * mean
    order = diagonal.indices.sorted { (diagonal[$1], $0) < (diagonal[$0], $1) }.map { Int32($0) }
    guard let factor = try Self.factor(of: statistics.correlations, order, damping: damping) else { return nil }
    self.factor = factor
  }

  private static let tile = Int(SL_FACTOR_TILE)
  /// Rows that a task takes.
  private static let rowsAtOnce = 16

  /// Bytes that finding the factor takes beside the correlations, the factor included.
  static func byteCount(inputs: Int, threads: Int) -> Int {
    inputs * inputs * 12 + min(threads, max(inputs / tile, 1)) * inputs * tile * 8
  }

  /// nil where the matrix is not positive definite.
  private static func factor(of correlations: [Float], _ order: [Int32], damping: Double) throws -> [Float]? {
    let width = order.count
    guard let memory = malloc(width * width * 8) else { throw noMemory }
    defer { free(memory) }
    nonisolated(unsafe) let triangle = memory.assumingMemoryBound(to: Double.self)
    let n = Int64(width)
    func forRows(from first: Int, _ body: @Sendable (_ first: Int64, _ end: Int64) -> Void) throws {
      try parallel(tasks: (width - first + rowsAtOnce - 1) / rowsAtOnce) { task in
        let start = first + task * rowsAtOnce
        body(Int64(start), Int64(min(start + rowsAtOnce, width)))
      }
    }
    try forRows(from: 0) { sl_reversed_triangle(n, correlations, order, damping, $0, $1, triangle) }
    for column in stride(from: 0, to: width, by: tile) {
      try forRows(from: column) { sl_cholesky_subtract(n, triangle, Int64(column), $0, $1) }
      guard sl_cholesky_diagonal(n, triangle, Int64(column)) == 0 else { return nil }
      try forRows(from: column + tile) { sl_cholesky_solve(n, triangle, Int64(column), $0, $1) }
    }
    var factor = [Float](repeating: 0, count: width * width)
    try factor.withUnsafeMutableBufferPointer { factor in
      nonisolated(unsafe) let target = factor.baseAddress
      // The first have the most rows below them.
      try parallel(tasks: width / tile) { task in
        guard sl_inverse_columns(n, triangle, Int64(task * tile), target) == 0 else { throw noMemory }
      }
    }
    return factor
  }

  static let noMemory = QuantizationError("there is no memory to compensate errors; take --rounding searched")
}
