import CBlockFormats
import CPUKernels
import Tensors

/// A matrix in NF4 in host memory: codes, and the absmax of each block in fp32.
final class CPUNF4Matrix: @unchecked Sendable {
  let outputs: Int
  let inputs: Int
  private let codes: DeviceBuffer
  private let absmax: DeviceBuffer

  /// Takes the matrix as the checkpoint has it, or quantizes it; `inputs` is a multiple of 64.
  init(_ source: MatrixSource, on device: CPUDevice) throws {
    (outputs, inputs) = (source.outputs, source.inputs)
    let blocks = outputs * inputs / NF4Blocks.blockLength
    codes = try device.allocate(byteCount: outputs * inputs / 2)
    absmax = try device.allocate(byteCount: blocks * 4)
    guard let codes = UnsafeMutablePointer<UInt8>(bitPattern: codes.address),
      let absmax = UnsafeMutablePointer<Float>(bitPattern: absmax.address)
    else { return }
    if let stored = source.nf4, stored.codes.count >= outputs * inputs / 2 {
      try Self.copy(stored, codes: codes, absmax: absmax, byteCount: outputs * inputs / 2, blocks: blocks)
    } else {
      try Self.quantize(source, codes: codes, absmax: absmax, blocks: blocks)
    }
  }

  private static func quantize(
    _ source: MatrixSource, codes: UnsafeMutablePointer<UInt8>, absmax: UnsafeMutablePointer<Float>, blocks: Int
  ) throws {
    let (outputs, inputs) = (source.outputs, source.inputs)
    nonisolated(unsafe) let (codesTarget, absmaxTarget) = (codes, absmax)
    // Whole blocks, small enough for a core's cache.
    let rows = max(1, min(outputs, 65_536 / inputs))
    try parallel(tasks: (outputs + rows - 1) / rows) { task in
      let range = task * rows..<min(outputs, (task + 1) * rows)
      try withUnsafeTemporaryAllocation(of: Float.self, capacity: range.count * inputs) { values in
        guard let floats = values.baseAddress else { return }
        try source.decode(range, floats)
        let first = range.lowerBound * inputs
        sl_quantize_nf4(
          floats, Int64(range.count * inputs), codesTarget + first / 2, absmaxTarget + first / NF4Blocks.blockLength)
      }
    }
    // Double quantization and back: the numbers are those of a checkpoint in NF4.
    var nestedCodes = [UInt8](repeating: 0, count: blocks)
    let length = NF4Blocks.nestedBlockLength
    var nested = [Float](repeating: 0, count: (blocks + length - 1) / length)
    let offset = sl_quantize_absmax(absmax, Int64(blocks), NF4.dynamicMap, &nestedCodes, &nested)
    sl_decode_absmax(
      nestedCodes, nested, NF4.dynamicMap, offset, Int64(length), 0, Int64(blocks), absmax)
  }

  private static func copy(
    _ stored: NF4Blocks, codes: UnsafeMutablePointer<UInt8>, absmax: UnsafeMutablePointer<Float>, byteCount: Int,
    blocks: Int
  ) throws {
    let damaged = DeviceError("a matrix in NF4 has fewer parts than its shape needs")
    guard let from = stored.codes.baseAddress else { throw damaged }
    UnsafeMutableRawPointer(codes).copyMemory(from: from, byteCount: byteCount)
    switch stored.absmax {
    case .plain(let values):
      guard values.count >= blocks * 4, let base = values.baseAddress else { throw damaged }
      UnsafeMutableRawPointer(absmax).copyMemory(from: base, byteCount: blocks * 4)
    case .nested(let codes, let nested, let map, let offset, let first):
      let length = NF4Blocks.nestedBlockLength
      guard codes.count >= blocks, map.count == 256, nested.count / 4 >= (first + blocks + length - 1) / length,
        let base = codes.baseAddress?.assumingMemoryBound(to: UInt8.self), let scales = nested.baseAddress
      else { throw damaged }
      // The codes begin with this matrix, the scales with the block that holds its first.
      sl_decode_absmax(base - first, scales, map, offset, Int64(length), Int64(first), Int64(blocks), absmax)
    }
  }

  var byteCount: Int { codes.byteCount + absmax.byteCount }

  /// The matrix as the kernels take it.
  func withKernelMatrix<Result>(_ body: (UnsafePointer<sl_nf4_matrix>) throws -> Result) rethrows -> Result {
    var matrix = sl_nf4_matrix(
      outputs: Int64(outputs), inputs: Int64(inputs), codes: UnsafePointer(bitPattern: codes.address),
      absmax: UnsafePointer(bitPattern: absmax.address))
    return try body(&matrix)
  }

  /// Writes rows as dense fp32, as a matrix that is kept in operands is made of them.
  func decode(_ rows: Range<Int>, into target: UnsafeMutablePointer<Float>) {
    let perRow = inputs / NF4Blocks.blockLength
    guard let source = UnsafePointer<UInt8>(bitPattern: codes.address),
      let scales = UnsafePointer<Float>(bitPattern: absmax.address)
    else { return }
    sl_decode_nf4(
      source, scales + rows.lowerBound * perRow, Int64(NF4Blocks.blockLength), Int64(rows.lowerBound * inputs),
      Int64(rows.count * inputs), SL_ROUND_NOT, target)
  }
}

/// Memory in which a matrix in NF4 is dequantized for a product; what it holds is kept until another needs it.
final class DequantizedSlot: @unchecked Sendable {
  private var room: DeviceBuffer?
  private(set) var packed: OpaquePointer?
  private var held: (matrix: CPUNF4Matrix, direction: ProductDirections)?

  deinit { sl_packed_matrix_destroy(packed) }

  /// The matrix in panels, as the right-hand side of a product.
  func pack(_ matrix: CPUNF4Matrix, _ direction: ProductDirections, on device: CPUDevice) throws -> OpaquePointer {
    if let packed, let held, held.matrix === matrix, held.direction == direction { return packed }
    let (k, n) = direction == .forward ? (matrix.inputs, matrix.outputs) : (matrix.outputs, matrix.inputs)
    let room = try room(byteCount: sl_nf4_packed_size(Int64(k), Int64(n)), on: device)
    guard let made = sl_nf4_packed(Int64(k), Int64(n), UnsafeMutableRawPointer(bitPattern: room.address)) else {
      throw DeviceError("out of memory")
    }
    packed = made
    matrix.withKernelMatrix { sl_nf4_pack($0, direction == .forward ? 0 : 1, made) }
    held = (matrix, direction)
    return made
  }

  /// The matrix as dense rows `[outputs, inputs]`.
  func unpack(_ matrix: CPUNF4Matrix, on device: CPUDevice) throws -> Tensor {
    let byteCount = matrix.outputs * matrix.inputs * device.computeType.byteCount
    let room = try room(byteCount: byteCount, on: device)
    let rows = Tensor(room, rows: matrix.outputs, columns: matrix.inputs, dtype: device.computeType)
    matrix.withKernelMatrix { sl_nf4_unpack($0, device.kernelType, rows.pointer) }
    return rows
  }

  private func room(byteCount: Int, on device: CPUDevice) throws -> DeviceBuffer {
    held = nil
    sl_packed_matrix_destroy(packed)
    packed = nil
    if let room, room.byteCount >= byteCount { return room }
    room = nil
    let larger = try device.allocate(byteCount: byteCount)
    room = larger
    return larger
  }
}
