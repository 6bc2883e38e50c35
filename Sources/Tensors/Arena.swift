/// A plan of which tensors lie where in one block of memory, made before anything is allocated.
///
/// Reserve what must live side by side; put what lives one after the other into ``scope(_:)``s, whose reservations
/// share memory. `byteCount` is then the peak, known exactly in advance.
public struct ArenaPlan: Sendable {
  /// The place of a tensor in an arena made from the plan.
  public struct Slot: Sendable {
    fileprivate let byteOffset: Int
    /// The most rows.
    public let rows: Int
    /// The number of columns.
    public let columns: Int
    fileprivate let rowStride: Int
    fileprivate let tail: Int
    fileprivate let dtype: DType
    /// Bytes of its elements, those between rows not counted.
    public var byteCount: Int { rows * columns * dtype.byteCount }
  }

  /// The largest number of bytes in use at once.
  public private(set) var byteCount = 0
  private var top = 0
  // Rows of matrix operands begin at a cache line; a GPU's vector loads want no more.
  private static let alignment = 256

  /// An empty plan.
  public init() {}

  /// Reserves room for a matrix, dense but for `tail` elements after each row.
  public mutating func reserve(rows: Int, columns: Int, _ dtype: DType, tail: Int = 0) -> Slot {
    let slot = Slot(
      byteOffset: top, rows: rows, columns: columns, rowStride: columns + tail, tail: tail, dtype: dtype)
    let bytes = rows * (columns + tail) * dtype.byteCount
    top += (bytes + Self.alignment - 1) / Self.alignment * Self.alignment
    byteCount = max(byteCount, top)
    return slot
  }

  /// Reserves room for matrices whose rows lie side by side, as slices of one, with `tail` elements after the last one's.
  public mutating func reserve(rows: Int, sideBySide columns: [Int], _ dtype: DType, tail: Int = 0) -> [Slot] {
    let whole = reserve(rows: rows, columns: columns.reduce(0, +), dtype, tail: tail)
    var first = 0
    return columns.enumerated().map { index, count in
      defer { first += count }
      return Slot(
        byteOffset: whole.byteOffset + first * dtype.byteCount, rows: rows, columns: count, rowStride: whole.rowStride,
        tail: index == columns.count - 1 ? tail : 0, dtype: dtype)
    }
  }

  /// Runs `body`, whose reservations are given back at its end: what is reserved later may lie in the same place.
  public mutating func scope<Result>(_ body: (inout ArenaPlan) -> Result) -> Result {
    let mark = top
    defer { top = mark }
    return body(&self)
  }
}

/// The memory of an ``ArenaPlan``.
public struct Arena: Sendable {
  /// The block that all tensors of the plan lie in.
  public let buffer: DeviceBuffer

  /// Allocates what `plan` needs on `device`.
  public init(_ plan: ArenaPlan, on device: some Device) throws {
    buffer = try device.allocate(byteCount: max(plan.byteCount, 1))
  }

  /// The tensor at `slot`, with its first `rows` rows when given.
  public subscript(_ slot: ArenaPlan.Slot, rows rows: Int? = nil) -> Tensor {
    Tensor(
      buffer, byteOffset: slot.byteOffset, rows: rows ?? slot.rows, columns: slot.columns,
      rowStride: slot.rowStride, dtype: slot.dtype, tail: slot.tail)
  }
}
