import Tensors

/// Frozen matrices that multiply the same x: in bf16 one under the other, so that their products are one, or, where some
/// are in NF4, each by itself and opened for each use.
final class CUDAMatrixGroup: @unchecked Sendable {
  let outputs: [Int]
  let inputs: Int
  /// Rank that there is room for when the matrices are multiplied.
  private(set) var room: Int
  /// How the elements are kept.
  private var content: Content
  /// The matrices' segment, where they lie with the host.
  let segment: CUDAMatrixStream.Segment?
  /// Whether the one matrix is opened some rows at a time.
  private let isTiled: Bool

  private enum Content {
    /// As ``OpenMatrices`` has them.
    case open(Tensor)
    case closed([Part])
  }

  /// A matrix that is opened for use.
  enum Part {
    case nf4(NF4Matrix)
    case int8(Int8Matrix)
    /// bf16 `[outputs, inputs]`, dense.
    case operands(Tensor)

    var rows: Int {
      switch self {
      case .nf4(let matrix): matrix.rows
      case .int8(let matrix): matrix.rows
      case .operands(let tensor): tensor.rows
      }
    }
    var columns: Int {
      switch self {
      case .nf4(let matrix): matrix.columns
      case .int8(let matrix): matrix.columns
      case .operands(let tensor): tensor.columns
      }
    }
    var byteCount: Int {
      switch self {
      case .nf4(let matrix): matrix.byteCount
      case .int8(let matrix): matrix.byteCount
      case .operands(let tensor): tensor.byteCount
      }
    }
  }

  /// Matrices in bf16, their elements undefined.
  init(outputs: [Int], inputs: Int, room: Int, on device: CUDADevice) throws {
    (self.outputs, self.inputs, self.room) = (outputs, inputs, room)
    let layout = OpenMatrices.Layout(outputs: outputs, inputs: inputs, room: room)
    content = .open(layout.tensor(try device.allocate(byteCount: layout.byteCount)))
    segment = nil
    isTiled = false
  }

  /// Matrices that are opened for each use.
  init(_ parts: [Part], room: Int, segment: CUDAMatrixStream.Segment?, isTiled: Bool) {
    self.segment = segment
    self.isTiled = isTiled
    outputs = parts.map(\.rows)
    inputs = parts.first?.columns ?? 0
    self.room = room
    content = .closed(parts)
  }

  /// Bytes that the elements take, and the room where it is theirs.
  var byteCount: Int {
    switch content {
    case .open(let storage): storage.buffer.byteCount
    case .closed(let parts): parts.reduce(0) { $0 + $1.byteCount }
    }
  }

  /// The matrices in bf16.
  ///
  /// Those that were closed lie where the next group to be opened will lie: what is asked of them must be asked before that.
  func open(on device: CUDADevice) throws -> OpenMatrices {
    try device.use(segment)
    return switch content {
    case .open(let storage): OpenMatrices(outputs: outputs, storage: storage)
    case .closed(let parts):
      try device.opened(self, OpenMatrices.Layout(outputs: outputs, inputs: inputs, room: room), parts)
    }
  }

  /// The matrix that is opened some rows at a time; nil where the group is opened whole.
  var tiledPart: Part? {
    guard isTiled, case .closed(let parts) = content else { return nil }
    return parts.first
  }

  /// A matrix in NF4, there to be read; nil where it is kept in bf16.
  func packed(_ index: Int, on device: CUDADevice) throws -> NF4Matrix? {
    guard case .nf4(let matrix) = try stored(index, on: device) else { return nil }
    return matrix
  }

  /// A matrix as it is kept, there to be read.
  func stored(_ index: Int, on device: CUDADevice) throws -> Part {
    try device.use(segment)
    return switch content {
    case .open(let storage): .operands(OpenMatrices(outputs: outputs, storage: storage).rows(of: index))
    case .closed(let parts): parts[index]
    }
  }

  /// Makes room for adapters whose ranks add up to `rank`; the weights move when there is less.
  func makeRoom(_ rank: Int, on device: CUDADevice) throws {
    guard rank > room else { return }
    let layout = OpenMatrices.Layout(outputs: outputs, inputs: inputs, room: (rank + 63) / 64 * 64)
    if case .open(let storage) = content {
      let larger = layout.tensor(try device.allocate(byteCount: layout.byteCount))
      let total = outputs.reduce(0, +)
      try device.copy(storage.prefix(total), to: larger.prefix(total))
      content = .open(larger)
      device.moves += 1
    }
    room = layout.room
  }
}

/// A group's matrices in bf16, one under the other.
///
/// Behind each row and under the last one lies room for the adapters: with s·B of the group, block by block on a diagonal,
/// in the columns behind, `[x | x·Aᵀ] · [W | s·B]ᵀ` is the whole projection, and with the A's in the rows below,
/// `[dy | dy·s·B] · [W; A]` its gradient: one product each.
struct OpenMatrices {
  let outputs: [Int]
  /// `[Σ outputs + room, inputs]` at a stride of `inputs + room`.
  let storage: Tensor

  /// Where everything lies.
  struct Layout: Equatable {
    var outputs: [Int]
    var inputs: Int
    var room: Int
    // Rows begin at 16 bytes, for every algorithm that cuBLASLt has.
    var stride: Int { (inputs + room + 7) / 8 * 8 }
    var rows: Int { outputs.reduce(0, +) + room }
    var byteCount: Int { rows * stride * 2 }

    func tensor(_ buffer: DeviceBuffer) -> Tensor {
      Tensor(buffer, rows: rows, columns: inputs, rowStride: stride, dtype: .bfloat16, tail: room)
    }
  }

  private var total: Int { outputs.reduce(0, +) }
  /// W: `[Σ outputs, inputs]`.
  var weights: Tensor { storage.prefix(total) }
  /// The columns behind W: `[Σ outputs, rank]`.
  func behind(_ rank: Int) -> Tensor { weights.past(columns: rank) }
  /// W and the columns behind it: `[Σ outputs, inputs + rank]`.
  func widened(_ rank: Int) -> Tensor { weights.widened(by: rank) }
  /// The rows below W: `[rank, inputs]`.
  func below(_ rank: Int) -> Tensor { storage.rows(total..<total + rank) }
  /// W and the rows below it: `[Σ outputs + rank, inputs]`.
  func lengthened(_ rank: Int) -> Tensor { storage.prefix(total + rank) }
  /// One matrix's rows, with the group's room behind them.
  func rows(of index: Int) -> Tensor {
    let first = outputs.prefix(index).reduce(0, +)
    return storage.rows(first..<first + outputs[index])
  }
}

extension Tensor {
  /// `count` columns of the tail.
  func past(columns count: Int) -> Tensor {
    Tensor(
      buffer, byteOffset: byteOffset + columns * dtype.byteCount, rows: rows, columns: count, rowStride: rowStride,
      dtype: dtype)
  }
  /// The tensor with `count` columns of its tail.
  func widened(by count: Int) -> Tensor {
    Tensor(buffer, byteOffset: byteOffset, rows: rows, columns: columns + count, rowStride: rowStride, dtype: dtype)
  }
}

/// One matrix of a group.
final class CUDAMatrix: FrozenMatrix, @unchecked Sendable {
  let group: CUDAMatrixGroup
  let index: Int

  init(_ group: CUDAMatrixGroup, _ index: Int) {
    self.group = group
    self.index = index
  }

  var outputs: Int { group.outputs[index] }
  var inputs: Int { group.inputs }
  var byteCount: Int { group.byteCount / group.outputs.count }
  /// The matrix as it is kept, there to be read.
  func stored(on device: CUDADevice) throws -> CUDAMatrixGroup.Part { try group.stored(index, on: device) }
}

extension CUDADevice {
  /// The matrix's elements in bf16, until the next matrix is opened.
  func weights(of matrix: any FrozenMatrix) throws -> Tensor {
    let matrix = try own(matrix)
    return try matrix.group.open(on: self).rows(of: matrix.index)
  }

  func own(_ matrix: any FrozenMatrix) throws -> CUDAMatrix {
    guard let matrix = matrix as? CUDAMatrix else {
      throw DeviceError("a matrix of another device was given to \(context.name)")
    }
    return matrix
  }
}
