// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUKernels
import Tensors

/// A frozen matrix packed for products, once for each direction that it serves.
final class CPUMatrix: FrozenMatrix, @unchecked Sendable {
  let outputs: Int
  let inputs: Int
  /// Wᵀ as the right-hand side of X · Wᵀ; in the blocks that a checkpoint has, as long as it serves no other direction.
  fileprivate(set) var forward: OpaquePointer?
  /// W as the right-hand side of dY · W.
  fileprivate(set) var backward: OpaquePointer?
  /// The matrix in NF4, where it is kept so: it serves both directions, and is packed for each use.
  let nf4: CPUNF4Matrix?

  fileprivate init(outputs: Int, inputs: Int, nf4: CPUNF4Matrix? = nil) {
    self.outputs = outputs
    self.inputs = inputs
    self.nf4 = nf4
  }

  deinit {
    sl_packed_matrix_destroy(forward)
    sl_packed_matrix_destroy(backward)
  }

  var byteCount: Int {
    (forward.map { sl_packed_matrix_size($0) } ?? 0) + (backward.map { sl_packed_matrix_size($0) } ?? 0)
      + (nf4?.byteCount ?? 0)
  }
}

extension CPUDevice {
  public func makeFrozenMatrices(_ sources: [MatrixSource], directions: ProductDirections) throws -> [any FrozenMatrix]
  {
    try sources.map { source in
      var source = source
      let isResident = source.storage == .nf4(resident: true)
      if source.storage == .tiled(.int8) {
        source = try source.roundedTo8Bits()
      } else if source.storage != .operands {
        guard source.inputs % NF4Blocks.blockLength == 0 else {
          throw DeviceError(
            "a matrix of \(source.inputs) inputs cannot be kept in NF4: that is no multiple of \(NF4Blocks.blockLength)"
          )
        }
        let nf4 = try CPUNF4Matrix(source, on: self)
        if !isResident { return CPUMatrix(outputs: source.outputs, inputs: source.inputs, nf4: nf4) }
        source = MatrixSource(outputs: source.outputs, inputs: source.inputs) { nf4.decode($0, into: $1) }
      }
      let matrix = CPUMatrix(outputs: source.outputs, inputs: source.inputs)
      try extend(matrix, directions: directions, source: source)
      return matrix
    }
  }

  public func extend(_ matrix: any FrozenMatrix, directions: ProductDirections, source: MatrixSource) throws {
    let matrix = try own(matrix)
    if matrix.nf4 != nil { return }
    let (outputs, inputs) = (matrix.outputs, matrix.inputs)
    if directions == .forward, matrix.forward == nil, try takeBlocks(matrix, source) { return }
    // Training multiplies with a matrix several times a step: it is dequantized once.
    let isInBlocks = directions.contains(.backward) && sl_is_in_blocks(matrix.forward) != 0
    let forward = isInBlocks || (directions.contains(.forward) && matrix.forward == nil)
    let backward = directions.contains(.backward) && matrix.backward == nil
    guard forward || backward else { return }
    let plain = Tensor(
      try allocate(byteCount: outputs * inputs * computeType.byteCount), rows: outputs, columns: inputs,
      dtype: computeType)
    // About 64 Ki elements at a time: a block of fp32 rows stays in a core's cache between decoding and rounding.
    let block = max(1, min(outputs, 65_536 / max(inputs, 1)))
    try parallel(tasks: (outputs + block - 1) / block) { task in
      let range = task * block..<min(outputs, (task + 1) * block)
      let target = plain.rows(range)
      if target.dtype == .float32, let floats = target.floats {
        try source.decode(range, floats)
      } else {
        try withUnsafeTemporaryAllocation(of: Float.self, capacity: range.count * inputs) { rows in
          guard let floats = rows.baseAddress else { return }
          try source.decode(range, floats)
          sl_copy(
            Int64(range.count), Int64(inputs), floats, SL_F32, Int64(inputs), target.pointer, target.kernelType,
            Int64(inputs))
        }
      }
    }
    if forward {
      sl_packed_matrix_destroy(matrix.forward)
      matrix.forward = nil
      try check(
        sl_pack_matrix(
          kernelType, Int64(inputs), Int64(outputs), plain.pointer, Int64(inputs), 1, &matrix.forward),
        "packing a matrix")
    }
    if backward {
      try check(
        sl_pack_matrix(
          kernelType, Int64(outputs), Int64(inputs), plain.pointer, Int64(inputs), 0, &matrix.backward),
        "packing a matrix"
      )
    }
  }

  /// Keeps a matrix for forward products in the blocks that it is stored in; false where it is stored otherwise.
  private func takeBlocks(_ matrix: CPUMatrix, _ source: MatrixSource) throws -> Bool {
    guard let blocks = source.blocks else { return false }
    var rows: [UnsafeRawPointer?] = []
    rows.reserveCapacity(matrix.outputs)
    for row in 0..<matrix.outputs {
      guard let start = blocks.row(row) else { return false }
      rows.append(start)
    }
    let status = sl_pack_blocks(
      kernelType, blocks.format.kernelFormat, Int64(matrix.inputs), Int64(matrix.outputs), rows, &matrix.forward)
    // Of a scale that is no number the decoder says where it stands.
    if status == Int32(sl_blocks_not_finite) { return false }
    try check(status, "packing a matrix")
    return true
  }

  /// Packs new values, fp32 `[outputs, inputs]`, into the directions that `matrix` serves.
  func repack(_ matrix: any FrozenMatrix, _ values: Tensor) throws {
    let matrix = try own(matrix)
    let (outputs, inputs) = (Int64(matrix.outputs), Int64(matrix.inputs))
    var plain = values
    if values.dtype != computeType {
      plain = Tensor(
        try allocate(byteCount: values.count * computeType.byteCount), rows: matrix.outputs, columns: matrix.inputs,
        dtype: computeType)
      try copy(values, to: plain)
    }
    if matrix.forward != nil {
      sl_packed_matrix_destroy(matrix.forward)
      matrix.forward = nil
      try check(
        sl_pack_matrix(kernelType, inputs, outputs, plain.pointer, plain.stride, 1, &matrix.forward),
        "packing a matrix")
    }
    if matrix.backward != nil {
      sl_packed_matrix_destroy(matrix.backward)
      matrix.backward = nil
      try check(
        sl_pack_matrix(kernelType, outputs, inputs, plain.pointer, plain.stride, 0, &matrix.backward),
        "packing a matrix")
    }
  }

  func own(_ matrix: any FrozenMatrix) throws -> CPUMatrix {
    guard let matrix = matrix as? CPUMatrix else {
      throw DeviceError("a matrix of another device was given to the CPU")
    }
    return matrix
  }

  /// Turns a status code of the matrix library into an error.
  func check(_ status: Int32, _ action: @autoclosure () -> String) throws {
    guard status != 0 else { return }
    throw DeviceError(
      "\(String(cString: sl_matmul_library())): \(action()) failed: \(String(cString: sl_matmul_error(status)))")
  }

  /// The packed form of `matrix` for one direction; `slot`: its place among the matrices of a product.
  func packed(_ matrix: any FrozenMatrix, _ direction: ProductDirections, slot: Int = 0) throws -> OpaquePointer {
    let matrix = try own(matrix)
    if let nf4 = matrix.nf4 { return try dequantized[slot].pack(nf4, direction, on: self) }
    guard let packed = direction == .forward ? matrix.forward : matrix.backward else {
      throw DeviceError("a matrix was loaded for inference and cannot be trained through; load the model for training")
    }
    return packed
  }
}

extension BlockFormat {
  /// The format as the kernels call it.
  var kernelFormat: sl_block_format {
    switch self {
    case .q4_0: SL_BLOCKS_Q4_0
    case .q4_1: SL_BLOCKS_Q4_1
    case .q5_0: SL_BLOCKS_Q5_0
    case .q5_1: SL_BLOCKS_Q5_1
    case .q8_0: SL_BLOCKS_Q8_0
    case .q4_K: SL_BLOCKS_Q4_K
    case .q5_K: SL_BLOCKS_Q5_K
    case .q6_K: SL_BLOCKS_Q6_K
    }
  }
}
