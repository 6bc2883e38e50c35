import CPUDevice
import CPUKernels
import ModelFiles
import Tensors

/// The arithmetic of calibration, in host memory.
enum CalibrationSums {
  /// Σ a · b of each row.
  static func rowDots(_ a: Tensor, _ b: Tensor, into dots: inout [Float]) {
    sl_row_dots(
      Int64(a.rows), Int64(a.columns), pointer(a), Int64(a.rowStride), type(a), pointer(b), Int64(b.rowStride), type(b),
      &dots)
  }

  /// Adds the weighted squares of the columns of x, and their products where those are wanted.
  static func add(_ x: Tensor, _ weights: [Float], to statistics: inout InputStatistics, on host: CPUDevice) throws {
    let (rows, columns) = (Int64(x.rows), Int64(x.columns))
    sl_add_weighted_squares(
      rows, columns, pointer(x), Int64(x.rowStride), type(x), weights, &statistics.moments)
    guard !statistics.correlations.isEmpty else { return }
    let weighted = try host.allocate(byteCount: x.byteCount)
    let target = UnsafeMutableRawPointer(bitPattern: weighted.address)
    sl_weigh_rows(rows, columns, pointer(x), Int64(x.rowStride), type(x), weights, target)
    try check(
      sl_matmul(
        columns, columns, rows, target, columns, 1, pointer(x), Int64(x.rowStride), 0, type(x),
        &statistics.correlations, SL_F32, columns, 1))
  }

  /// What a stored matrix loses when it goes to the nearest codes, `[outputs, inputs]`.
  static func error(of tensor: StoredTensor, as dtype: DType, on host: CPUDevice) throws -> Tensor {
    let rows = StackedRows([tensor], name: tensor.name)
    let matrix = try NF4Matrix(rows, .nearest, nil)
    let result = Tensor(
      try host.allocate(byteCount: rows.count * rows.width * dtype.byteCount), rows: rows.count, columns: rows.width,
      dtype: dtype)
    let decoder = NF4Decoder(matrix)
    let pieces = rows.pieces
    try parallel(tasks: pieces.count) { task in
      let piece = pieces[task]
      let values = try rows.decoded(piece)
      var errors = [Float](repeating: 0, count: values.count)
      let first = piece.lowerBound * rows.width
      decoder.decode(first..<first + values.count, into: &errors)
      for index in errors.indices { errors[index] -= values[index] }
      let target = UnsafeMutableRawPointer(bitPattern: result.address).map { $0 + first * dtype.byteCount }
      sl_copy(
        Int64(piece.count), Int64(rows.width), errors, SL_F32, Int64(rows.width), target,
        dtype == .float32 ? SL_F32 : SL_BF16, Int64(rows.width))
    }
    tensor.releasePages()
    return result
  }

  /// x · matrixᵀ, fp32.
  static func product(_ x: Tensor, _ matrix: Tensor, on host: CPUDevice) throws -> Tensor {
    let result = Tensor(
      try host.allocate(byteCount: x.rows * matrix.rows * 4), rows: x.rows, columns: matrix.rows, dtype: .float32)
    try check(
      sl_matmul(
        Int64(x.rows), Int64(matrix.rows), Int64(x.columns), pointer(x), Int64(x.rowStride), 0, pointer(matrix),
        Int64(matrix.rowStride), 1, type(x), UnsafeMutableRawPointer(bitPattern: result.address), SL_F32,
        Int64(matrix.rows), 0))
    return result
  }

  private static func pointer(_ tensor: Tensor) -> UnsafeRawPointer? { UnsafeRawPointer(bitPattern: tensor.address) }

  private static func type(_ tensor: Tensor) -> sl_dtype { tensor.dtype == .float32 ? SL_F32 : SL_BF16 }

  private static func check(_ status: Int32) throws {
    if status != 0 { throw DeviceError("a product failed: \(String(cString: sl_matmul_error(status)))") }
  }
}
