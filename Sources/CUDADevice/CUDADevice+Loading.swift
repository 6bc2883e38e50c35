// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPUDevice
import CUDADriver
import Tensors

extension CUDADevice {
  /// Rank that matrices of a model in training have room for from the start.
  static var usualRoom: Int { 64 }

  public func makeFrozenMatrices(_ sources: [MatrixSource], directions: ProductDirections) throws -> [any FrozenMatrix]
  {
    guard let first = sources.first else { return [] }
    return try makeGroup(
      sources.map(\.outputs), sources.map(\.storage), inputs: first.inputs,
      room: directions.contains(.backward) ? Self.usualRoom : 0, segment: first.segment,
      write: { try load(sources[$0], into: $1) },
      quantized: { index, isInt8 in
        let source = sources[index]
        if isInt8 {
          let matrix = try makeInt8(rows: source.outputs, columns: source.inputs)
          try stream(source) { rows, address, dtype in try quantize(address, dtype, to: matrix.rows(rows)) }
          return .int8(matrix)
        }
        if let stored = source.nf4 { return .nf4(try upload(stored, rows: source.outputs, columns: source.inputs)) }
        let matrix = try makeNF4(rows: source.outputs, columns: source.inputs)
        try load(source, into: matrix)
        return .nf4(matrix)
      })
  }

  public func makeRandomMatrices(
    outputs: [Int], inputs: Int, bound: Float, seed: UInt64, storage: FrozenStorage, segment: MatrixSegment?
  ) throws -> [any FrozenMatrix] {
    func draw(_ rows: Tensor, _ index: Int, from first: Int = 0) throws {
      try launch(
        "random_bf16", .rows(rows.rows, by: (inputs + 7) / 8),
        [
          rows.rows.word, rows.columns.word, rows.word, rows.rowStride.word, bound.word, seed.word,
          UInt64(index).word, first.word, isAligned(rows).word,
        ])
    }
    return try makeGroup(
      outputs, outputs.map { _ in storage }, inputs: inputs, room: Self.usualRoom, segment: segment,
      write: { try draw($1, $0) },
      quantized: { index, isInt8 in
        // As many rows at a time as are opened at once.
        let count = Self.tileRows(inputs: inputs, outputs: outputs[index], byteCount: headTileBytes)
        let room = try scratch(.openMatrices, byteCount: count * inputs * 2)
        openGroup = nil
        let int8 = isInt8 ? try makeInt8(rows: outputs[index], columns: inputs) : nil
        let nf4 = isInt8 ? nil : try makeNF4(rows: outputs[index], columns: inputs)
        let absmax = try nf4.map { try absmaxScratch($0) }
        for first in stride(from: 0, to: outputs[index], by: count) {
          let rows = first..<min(first + count, outputs[index])
          let plain = Tensor(room, rows: rows.count, columns: inputs, dtype: .bfloat16)
          try draw(plain, index, from: first)
          if let int8 { try quantize(plain.word, .bfloat16, to: int8.rows(rows)) }
          if let nf4, let absmax {
            try quantize(plain.word, .bfloat16, count: plain.count, to: nf4, from: first * inputs, absmax: absmax)
          }
        }
        if let int8 { return .int8(int8) }
        guard let nf4, let absmax else { throw DeviceError("no matrix was made") }
        try quantizeAbsmax(absmax, to: nf4)
        return .nf4(nf4)
      })
  }

  public func extend(_ matrix: any FrozenMatrix, directions: ProductDirections, source: MatrixSource) throws {
    // One copy serves both directions.
    if directions.contains(.backward) { try own(matrix).group.makeRoom(Self.usualRoom, on: self) }
  }

  // MARK: Groups

  /// A group of matrices: those kept in bf16 are written by `write`, the others made by `quantized`.
  private func makeGroup(
    _ outputs: [Int], _ storages: [FrozenStorage], inputs: Int, room: Int, segment: MatrixSegment?,
    write: (Int, Tensor) throws -> Void, quantized: (_ index: Int, _ isInt8: Bool) throws -> CUDAMatrixGroup.Part
  ) throws -> [any FrozenMatrix] {
    let group: CUDAMatrixGroup
    let isTiled = storages.count == 1 && storages[0].isTiled
    if segment != nil || isTiled || storages.contains(.nf4(resident: false)) {
      // What lies with the host is made in the place on the device that it will come to.
      let segment = try segment.map { try own($0) }
      let memory = frozenMemory
      if let segment { frozenMemory = try segment.stream.memory(for: segment.index) }
      defer { frozenMemory = memory }
      let parts = try outputs.indices.map { index -> CUDAMatrixGroup.Part in
        if storages[index] != .operands { return try quantized(index, storages[index] == .tiled(.int8)) }
        let tensor = try frozenMemory.tensor(rows: outputs[index], columns: inputs, .bfloat16, on: self)
        try write(index, tensor)
        return .operands(tensor)
      }
      group = CUDAMatrixGroup(parts, room: room, segment: segment, isTiled: isTiled)
      // The place for opened matrices is there before anybody asks how much memory is left.
      _ = try scratch(.openMatrices, byteCount: openBytes(outputs, inputs: inputs, room: room, isTiled: isTiled))
      // That of a head is much larger than any other's.
      if isTiled { releaseScratch(.absmax) }
    } else {
      group = try CUDAMatrixGroup(outputs: outputs, inputs: inputs, room: room, on: self)
      let open = try group.open(on: self)
      for index in outputs.indices {
        let rows = open.rows(of: index)
        if storages[index] == .operands {
          try write(index, rows)
        } else {
          // The NF4 form is needed only once.
          let memory = frozenMemory
          frozenMemory = FrozenMemory()
          defer { frozenMemory = memory }
          guard case .nf4(let matrix) = try quantized(index, false) else { continue }
          try dequantize(matrix, into: rows)
          try synchronize()
        }
      }
    }
    return outputs.indices.map { CUDAMatrix(group, $0) }
  }

  // MARK: From the host

  /// Rows of a source through pinned memory, piece by piece, while earlier pieces travel and are converted.
  private func load(_ source: MatrixSource, into target: Tensor) throws {
    try stream(source) { rows, address, dtype in
      let part = target.rows(rows)
      let name =
        switch dtype {
        case .bfloat16: "copy_bf16_bf16"
        case .float16: "copy_f16_bf16"
        default: "copy_f32_bf16"
        }
      try launch(
        name, .rows(part.rows, by: (part.columns + 7) / 8),
        [
          part.rows.word, part.columns.word, address, part.columns.word, Float(1).word, part.word, part.rowStride.word,
          (isAligned(part) && part.columns % 8 == 0).word,
        ])
    }
  }

  private func load(_ source: MatrixSource, into matrix: NF4Matrix) throws {
    let absmax = try absmaxScratch(matrix)
    try stream(source) { rows, address, dtype in
      try quantize(
        address, dtype, count: rows.count * source.inputs, to: matrix, from: rows.lowerBound * source.inputs,
        absmax: absmax)
    }
    try quantizeAbsmax(absmax, to: matrix)
  }

  /// Absmax values of a matrix before they are quantized.
  func absmaxScratch(_ matrix: NF4Matrix) throws -> Tensor {
    let blocks = NF4Matrix.blockCount(matrix.rows * matrix.columns)
    return Tensor(try scratch(.absmax, byteCount: blocks * 4), rows: 1, columns: blocks, dtype: .float32)
  }

  /// Gives `use` the rows on the GPU, dense, a few at a time.
  ///
  /// As they are stored where they are stored as numbers, else in fp32. Pieces hold whole blocks of NF4 but for the last.
  private func stream(_ source: MatrixSource, _ use: (Range<Int>, UInt64, DType) throws -> Void) throws {
    let dtype = source.stored?.dtype ?? .float32
    let rowBytes = source.inputs * dtype.byteCount
    let rowsAtOnce = Staging.pieceBytes / max(rowBytes, 1)
    guard rowBytes > 0, rowsAtOnce >= min(8, source.outputs) else {
      throw DeviceError("a matrix of \(source.inputs) columns is wider than the GPU's loader takes")
    }
    try stream(
      count: source.outputs, bytesEach: rowBytes, atOnce: rowsAtOnce >= 8 ? rowsAtOnce / 8 * 8 : rowsAtOnce,
      read: { rows, target in
        if let stored = source.stored { return try stored.read(rows, target) }
        try source.decode(rows, target.assumingMemoryBound(to: Float.self))
      }, use: { try use($0, $1, dtype) })
  }

  /// Reads items on the host's threads into pinned memory and copies them to its mirror on the GPU, a piece at a time.
  private func stream(
    count: Int, bytesEach: Int, atOnce: Int, read: @Sendable (Range<Int>, UnsafeMutableRawPointer) throws -> Void,
    use: (Range<Int>, UInt64) throws -> Void
  ) throws {
    try context.enter()
    let staging = try ring()
    for start in stride(from: 0, to: count, by: atOnce) {
      let range = start..<min(count, start + atOnce)
      let (host, mirror) = try staging.piece(range.count * bytesEach)
      // Items of a task: about 128 KiB, which stay in a core's cache while they are checked.
      let block = max(1, (128 << 10) / bytesEach)
      nonisolated(unsafe) let target = host
      try parallel(tasks: (range.count + block - 1) / block) { task in
        let first = range.lowerBound + task * block
        try read(first..<min(range.upperBound, first + block), target + (first - range.lowerBound) * bytesEach)
      }
      try context.check(
        context.driver.pointee.copyIn(mirror, host, range.count * bytesEach, context.stream),
        "copying weights to the GPU")
      try use(range, mirror)
    }
  }

  /// A matrix that a checkpoint stores in NF4.
  private func upload(_ blocks: NF4Blocks, rows: Int, columns: Int) throws -> NF4Matrix {
    guard columns % 8 == 0 else {
      throw DeviceError("NF4 on a GPU wants rows of a multiple of 8 elements, \(columns) were given")
    }
    let codes = try frozenMemory.tensor(columns: rows * columns / 2, .uint8, on: self)
    try upload(blocks.codes, to: codes)
    switch blocks.absmax {
    case .plain(let values):
      let absmax = try frozenMemory.tensor(columns: values.count / 4, .float32, on: self)
      try upload(values, to: absmax)
      return NF4Matrix(rows: rows, columns: columns, codes: codes, absmax: .plain(absmax))
    case .nested(let bytes, let nested, let map, let offset, let first):
      let absmaxCodes = try frozenMemory.tensor(columns: bytes.count, .uint8, on: self)
      try upload(bytes, to: absmaxCodes)
      let nestedValues = try frozenMemory.tensor(columns: nested.count / 4, .float32, on: self)
      try upload(nested, to: nestedValues)
      let mean = try frozenMemory.tensor(columns: 1, .float32, on: self)
      try withUnsafeBytes(of: offset) { try upload($0, to: mean) }
      return NF4Matrix(
        rows: rows, columns: columns, codes: codes,
        absmax: .nested(
          codes: absmaxCodes, nested: nestedValues, map: try deviceMap(map), offset: mean, first: first))
    }
  }

  /// The map of double quantization that bitsandbytes uses.
  func dynamicMap() throws -> Tensor { try deviceMap(NF4.dynamicMap) }

  /// A map of 256 values on the GPU; checkpoints have the same one again and again.
  private func deviceMap(_ values: [Float]) throws -> Tensor {
    if let known = maps.first(where: { $0.values == values }) { return known.tensor }
    let tensor = Tensor(try allocate(byteCount: 1024), rows: 1, columns: 256, dtype: .float32)
    guard values.count == 256 else { throw DeviceError("a map of NF4's absmax has \(values.count) values, not 256") }
    try values.withUnsafeBytes { try upload($0, to: tensor) }
    maps.append((values, tensor))
    return tensor
  }
}
