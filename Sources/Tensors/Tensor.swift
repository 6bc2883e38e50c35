/// A matrix in a device's memory: `rows` × `columns` elements, a row every `rowStride` elements.
///
/// A tensor is a view: copying it copies no element, and slices share the memory. A vector is a matrix of one row.
public struct Tensor: Sendable {
  /// The memory that the elements lie in.
  public let buffer: DeviceBuffer
  /// Bytes from the buffer's beginning to the first element.
  public let byteOffset: Int
  /// The number of rows.
  public let rows: Int
  /// The number of columns.
  public let columns: Int
  /// Elements from one row's beginning to the next row's.
  public let rowStride: Int
  /// The elements' type.
  public let dtype: DType
  /// Elements after each row's last that belong to no other tensor: room for a device's own use.
  public let tail: Int

  /// A view of `rows` × `columns` elements at `byteOffset` in `buffer`; rows are dense unless a stride is given, and
  /// nothing but them belongs to the tensor unless a tail is.
  public init(
    _ buffer: DeviceBuffer, byteOffset: Int = 0, rows: Int, columns: Int, rowStride: Int? = nil, dtype: DType,
    tail: Int = 0
  ) {
    self.buffer = buffer
    self.byteOffset = byteOffset
    self.rows = rows
    self.columns = columns
    self.rowStride = rowStride ?? columns
    self.dtype = dtype
    self.tail = tail
    assert(byteOffset + (rows == 0 ? 0 : (rows - 1) * self.rowStride + columns) * dtype.byteCount <= buffer.byteCount)
  }

  /// Where the first element lies.
  public var address: UInt { buffer.address + UInt(byteOffset) }

  /// The number of elements.
  public var count: Int { rows * columns }

  /// Bytes that the elements take when the rows are dense.
  public var byteCount: Int { count * dtype.byteCount }

  /// Whether no gap lies between rows.
  public var isDense: Bool { rowStride == columns || rows <= 1 }

  /// The rows in `range`, sharing this tensor's memory.
  public func rows(_ range: Range<Int>) -> Tensor {
    Tensor(
      buffer, byteOffset: byteOffset + range.lowerBound * rowStride * dtype.byteCount, rows: range.count,
      columns: columns, rowStride: rowStride, dtype: dtype, tail: tail)
  }

  /// The first `count` rows, sharing this tensor's memory.
  public func prefix(_ count: Int) -> Tensor { rows(0..<count) }

  /// The columns in `range`, sharing this tensor's memory.
  public func columns(_ range: Range<Int>) -> Tensor {
    Tensor(
      buffer, byteOffset: byteOffset + range.lowerBound * dtype.byteCount, rows: rows, columns: range.count,
      rowStride: rowStride, dtype: dtype, tail: range.upperBound == columns ? tail : 0)
  }

  /// The same dense elements in another shape of the same or a smaller size.
  public func reshaped(rows: Int, columns: Int) -> Tensor {
    assert(isDense && rows * columns <= count)
    return Tensor(buffer, byteOffset: byteOffset, rows: rows, columns: columns, dtype: dtype)
  }
}
