// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUDevice
import CUDADriver
import Tensors

/// Frozen matrices that multiply the same x, one under the other in bf16, so that their products are one.
///
/// Behind each row and under the last one lies room for the adapters: with s·B of the group, block by block on a diagonal,
/// in the columns behind, `[x | x·Aᵀ] · [W | s·B]ᵀ` is the whole projection, and with the A's in the rows below,
/// `[dy | dy·s·B] · [W; A]` its gradient: one product each.
final class CUDAMatrixGroup: @unchecked Sendable {
  let outputs: [Int]
  let inputs: Int
  /// Rank that there is room for.
  private(set) var room: Int
  /// `[Σ outputs + room, inputs]` at a stride of `inputs + room`.
  private var storage: Tensor

  fileprivate init(outputs: [Int], inputs: Int, room: Int, on device: CUDADevice) throws {
    self.outputs = outputs
    self.inputs = inputs
    self.room = room
    storage = try Self.allocate(outputs, inputs, room, device)
  }

  private static func allocate(_ outputs: [Int], _ inputs: Int, _ room: Int, _ device: CUDADevice) throws -> Tensor {
    // Rows begin at 16 bytes, for every algorithm that cuBLASLt has.
    let stride = (inputs + room + 7) / 8 * 8
    let rows = outputs.reduce(0, +) + room
    return Tensor(
      try device.allocate(byteCount: rows * stride * 2), rows: rows, columns: inputs, rowStride: stride,
      dtype: .bfloat16, tail: room)
  }

  var totalOutputs: Int { outputs.reduce(0, +) }
  var byteCount: Int { storage.buffer.byteCount }
  /// W: `[Σ outputs, inputs]`.
  var weights: Tensor { storage.prefix(totalOutputs) }
  /// The columns behind W: `[Σ outputs, rank]`.
  func behind(_ rank: Int) -> Tensor { weights.past(columns: rank) }
  /// W and the columns behind it: `[Σ outputs, inputs + rank]`.
  func widened(_ rank: Int) -> Tensor { weights.widened(by: rank) }
  /// The rows below W: `[rank, inputs]`.
  func below(_ rank: Int) -> Tensor { storage.rows(totalOutputs..<totalOutputs + rank) }
  /// W and the rows below it: `[Σ outputs + rank, inputs]`.
  func lengthened(_ rank: Int) -> Tensor { storage.prefix(totalOutputs + rank) }
  /// One matrix's rows, with the group's room behind them.
  func rows(of index: Int) -> Tensor {
    let first = outputs.prefix(index).reduce(0, +)
    return storage.rows(first..<first + outputs[index])
  }

  /// Makes room for adapters whose ranks add up to `rank`; the weights move when there is less.
  func makeRoom(_ rank: Int, on device: CUDADevice) throws {
    guard rank > room else { return }
    let larger = try Self.allocate(outputs, inputs, (rank + 63) / 64 * 64, device)
    try device.copy(weights, to: larger.prefix(totalOutputs))
    storage = larger
    room = larger.tail
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

  fileprivate init(_ group: CUDAMatrixGroup, _ index: Int) {
    self.group = group
    self.index = index
  }

  var outputs: Int { group.outputs[index] }
  var inputs: Int { group.inputs }
  var byteCount: Int { group.byteCount / group.outputs.count }
  var weights: Tensor { group.rows(of: index) }
}

extension CUDADevice {
  /// Rank that matrices of a model in training have room for from the start.
  private static var usualRoom: Int { 64 }

  public func makeFrozenMatrix(
    outputs: Int, inputs: Int, directions: ProductDirections,
    decode: @Sendable (Range<Int>, UnsafeMutablePointer<Float>) throws -> Void
  ) throws -> any FrozenMatrix {
    try makeFrozenMatrices(outputs: [outputs], inputs: inputs, directions: directions) { try decode($1, $2) }[0]
  }

  public func makeFrozenMatrices(
    outputs: [Int], inputs: Int, directions: ProductDirections,
    decode: @Sendable (Int, Range<Int>, UnsafeMutablePointer<Float>) throws -> Void
  ) throws -> [any FrozenMatrix] {
    let group = try CUDAMatrixGroup(
      outputs: outputs, inputs: inputs, room: directions.contains(.backward) ? Self.usualRoom : 0, on: self)
    for index in outputs.indices {
      try load(group.rows(of: index)) { try decode(index, $0, $1) }
    }
    return outputs.indices.map { CUDAMatrix(group, $0) }
  }

  public func makeRandomMatrices(outputs: [Int], inputs: Int, bound: Float, seed: UInt64) throws -> [any FrozenMatrix] {
    let group = try CUDAMatrixGroup(outputs: outputs, inputs: inputs, room: Self.usualRoom, on: self)
    for index in outputs.indices {
      let rows = group.rows(of: index)
      try launch(
        "random_bf16", .rows(rows.rows, by: (inputs + 7) / 8),
        [
          rows.rows.word, rows.columns.word, rows.word, rows.rowStride.word, bound.word, seed.word,
          UInt64(index).word, isAligned(rows).word,
        ])
    }
    return outputs.indices.map { CUDAMatrix(group, $0) }
  }

  public func extend(
    _ matrix: any FrozenMatrix, directions: ProductDirections,
    decode: @Sendable (Range<Int>, UnsafeMutablePointer<Float>) throws -> Void
  ) throws {
    // One copy serves both directions.
    if directions.contains(.backward) { try own(matrix).group.makeRoom(Self.usualRoom, on: self) }
  }

  /// Decodes rows on the host's threads into pinned memory, piece by piece, while earlier pieces travel and are rounded.
  private func load(_ target: Tensor, _ decode: @Sendable (Range<Int>, UnsafeMutablePointer<Float>) throws -> Void)
    throws
  {
    try context.enter()
    let staging = try ring()
    let rowBytes = target.columns * 4
    guard rowBytes > 0, rowBytes <= Staging.pieceBytes else {
      throw DeviceError("a matrix of \(target.columns) columns is wider than the GPU's loader takes")
    }
    let rowsAtOnce = max(1, Staging.pieceBytes / rowBytes)
    for start in stride(from: 0, to: target.rows, by: rowsAtOnce) {
      let range = start..<min(target.rows, start + rowsAtOnce)
      let (host, mirror) = try staging.piece(range.count * rowBytes)
      let block = max(1, 16_384 / target.columns)
      nonisolated(unsafe) let floats = host.assumingMemoryBound(to: Float.self)
      let columns = target.columns
      try parallel(tasks: (range.count + block - 1) / block) { task in
        let first = range.lowerBound + task * block
        let rows = first..<min(range.upperBound, first + block)
        try decode(rows, floats + (first - range.lowerBound) * columns)
      }
      try context.check(
        context.driver.pointee.copyIn(mirror, host, range.count * rowBytes, context.stream),
        "copying weights to the GPU")
      let part = target.rows(range)
      try launch(
        "copy_f32_bf16", .rows(part.rows, by: (part.columns + 7) / 8),
        [
          part.rows.word, part.columns.word, mirror, part.columns.word, Float(1).word, part.word, part.rowStride.word,
          (isAligned(part) && part.columns % 4 == 0).word,
        ])
    }
  }

  func own(_ matrix: any FrozenMatrix) throws -> CUDAMatrix {
    guard let matrix = matrix as? CUDAMatrix else {
      throw DeviceError("a matrix of another device was given to \(context.name)")
    }
    return matrix
  }
}
