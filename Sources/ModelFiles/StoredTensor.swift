import CBlockFormats
import Glibc

/// A tensor as it is stored in a mapped file; nothing is copied until rows are decoded.
public struct StoredTensor: Sendable {
  /// Its name, in Hugging Face's spelling when it comes from a `Checkpoint`.
  public let name: String
  /// Its dimensions, the one that runs fastest in memory last.
  public let shape: [Int]
  /// How its numbers are stored.
  public let format: StorageFormat
  /// The file that holds it.
  public let file: MappedFile
  /// Where its bytes lie in the file.
  public let range: Range<Int>
  /// How llama.cpp's converter reordered the rows; `nil` when they are in order.
  let pairing: NeighbourPairing?
  /// The parts of a matrix in NF4, of which `range` holds the codes; `nil` for every other format.
  public let nf4: NF4Storage?

  init(
    name: String, shape: [Int], format: StorageFormat, file: MappedFile, range: Range<Int>,
    pairing: NeighbourPairing? = nil, nf4: NF4Storage? = nil
  ) {
    self.name = name
    self.shape = shape
    self.format = format
    self.file = file
    self.range = range
    self.pairing = pairing
    self.nf4 = nf4
  }

  /// The number of elements.
  public var count: Int { elementCount(shape) ?? 0 }

  /// The length of a row: the last dimension.
  public var rowLength: Int { shape.last ?? 1 }

  /// The number of rows: the product of all dimensions but the last; none where there are no elements.
  public var rowCount: Int { rowLength == 0 ? 0 : count / rowLength }

  /// The bytes as they lie in the file; valid while `file` lives.
  ///
  /// `nil` when the rows of the file have another order than the tensor's, or the tensor consists of several parts; then
  /// decode them.
  public var bytes: UnsafeRawBufferPointer? {
    pairing == nil && nf4 == nil ? UnsafeRawBufferPointer(rebasing: file.bytes[range]) : nil
  }

  /// The bytes of one row of the matrix `[rowCount, rowLength]`, wherever the file has it; valid while `file` lives.
  ///
  /// `nil` where there is no such row, or it consists of several parts.
  public func storedRow(_ row: Int) -> UnsafeRawBufferPointer? {
    guard nf4 == nil, shape.count > 1, row >= 0, row < rowCount, rowLength % format.block.length == 0 else {
      return nil
    }
    let byteCount = rowLength / format.block.length * format.block.byteCount
    let start = range.lowerBound + (pairing?.storedIndex(row, of: rowCount) ?? row) * byteCount
    guard start + byteCount <= range.upperBound else { return nil }
    return UnsafeRawBufferPointer(rebasing: file.bytes[start..<start + byteCount])
  }

  /// Decodes rows of the matrix `[rowCount, rowLength]` to fp32.
  ///
  /// `target` must have room for `rows.count * rowLength` floats. Several threads may decode at once.
  public func decode(rows: Range<Int>, into target: UnsafeMutablePointer<Float>) throws(ModelFileError) {
    try check(rows)
    if let nf4 {
      return nf4.decode(rows.lowerBound * rowLength..<rows.upperBound * rowLength, into: target)
    }
    guard let pairing else { return decodeStored(rows: rows, into: target) }
    if shape.count == 1 {
      var stored = [Float](repeating: 0, count: rowLength)
      stored.withUnsafeMutableBufferPointer { stored in
        if let base = stored.baseAddress { decodeStored(rows: rows, into: base) }
      }
      if rows.count == 1 {
        for index in 0..<rowLength { target[index] = stored[pairing.storedIndex(index, of: rowLength)] }
      }
    } else {
      for row in rows {
        let stored = pairing.storedIndex(row, of: rowCount)
        decodeStored(rows: stored..<stored + 1, into: target + (row - rows.lowerBound) * rowLength)
      }
    }
  }

  /// Decodes rows of the matrix `[rowCount, rowLength]` to bf16, rounding to nearest even.
  ///
  /// `target` must have room for `rows.count * rowLength` values.
  public func decode(rows: Range<Int>, intoBFloat16 target: UnsafeMutablePointer<UInt16>) throws(ModelFileError) {
    try check(rows)
    guard rowLength > 0 else { return }
    // In pieces that stay in the cache.
    let rowsAtOnce = max(1, 16384 / rowLength)
    var floats = [Float](repeating: 0, count: rowsAtOnce * rowLength)
    var first = rows.lowerBound
    while first < rows.upperBound {
      let piece = first..<min(first + rowsAtOnce, rows.upperBound)
      let offset = (first - rows.lowerBound) * rowLength
      let result = floats.withUnsafeMutableBufferPointer { floats in
        Result { () throws(ModelFileError) in
          guard let base = floats.baseAddress else { return }
          try decode(rows: piece, into: base)
          sl_encode_bf16(base, Int64(piece.count * rowLength), target + offset)
        }
      }
      try result.get()
      first = piece.upperBound
    }
  }

  /// Decodes the whole tensor to fp32.
  public func decoded() throws(ModelFileError) -> [Float] {
    try check(0..<rowCount)
    var error: ModelFileError?
    let values = [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      guard let base = buffer.baseAddress else { return }
      do throws(ModelFileError) {
        try decode(rows: 0..<rowCount, into: base)
        initialized = count
      } catch let caught { error = caught }
    }
    if let error { throw error }
    return values
  }

  /// Asks the system to read the tensor soon.
  public func prefetch() { file.prefetch(range) }

  /// Gives back the memory of the tensor's pages, so that loading a model does not keep the file resident.
  public func releasePages() {
    if let nf4 { return nf4.releasePages() }
    file.release(range)
  }

  /// Gives back the memory of some rows of the matrix `[rowCount, rowLength]`, where they lie in order in the file.
  package func releasePages(rows: Range<Int>) {
    guard pairing == nil, nf4 == nil, rowCount > 0 else { return }
    let size = range.count / rowCount
    releasePages(rows.lowerBound * size..<rows.upperBound * size)
  }

  /// Gives back the memory of some of the tensor's bytes.
  public func releasePages(_ bytes: Range<Int>) {
    file.release(range.lowerBound + bytes.lowerBound..<range.lowerBound + bytes.upperBound)
  }

  /// Reads the stored bytes in order, a few megabytes at a time, checked to be finite numbers; `false` where `bytes` is nil.
  package func forEachStoredPiece(_ body: (UnsafeRawBufferPointer) throws -> Void) throws -> Bool {
    guard let bytes else { return false }
    prefetch()
    let size = 8 << 20
    for start in stride(from: 0, to: bytes.count, by: size) {
      let range = start..<min(start + size, bytes.count)
      let piece = UnsafeRawBufferPointer(rebasing: bytes[range])
      try requireFinite(piece)
      try body(piece)
      releasePages(range)
    }
    return true
  }

  private func check(_ rows: Range<Int>) throws(ModelFileError) {
    if !format.isDecodable {
      throw ModelFileError(
        file.path,
        "tensor \(quoted(name)) is stored as \(format.name), which cannot be decoded; supported are "
          + StorageFormat.decodableNames)
    }
    guard rows.lowerBound >= 0, rows.upperBound <= rowCount else {
      throw ModelFileError(file.path, "tensor \(quoted(name)) has \(rowCount) rows, rows \(rows) were asked for")
    }
  }

  /// Decodes rows in the order of the file; the rows were checked.
  private func decodeStored(rows: Range<Int>, into target: UnsafeMutablePointer<Float>) {
    let block = format.block
    let blocksPerRow = rowLength / block.length
    guard let base = file.bytes.baseAddress, blocksPerRow > 0, !rows.isEmpty else { return }
    let source = base + range.lowerBound + rows.lowerBound * blocksPerRow * block.byteCount
    if let decoder = format.decoder {
      decoder(source, Int64(rows.count * blocksPerRow), target)
    } else {
      memcpy(target, source, rows.count * blocksPerRow * block.byteCount)
    }
  }
}

extension StoredTensor {
  /// Some of the rows (of a vector, of the elements) as a tensor of its own; nothing is copied.
  ///
  /// `nil` where the rows are not there or not in order.
  func slice(_ rows: Range<Int>, name: String) -> StoredTensor? {
    guard pairing == nil, let total = shape.first, rows.lowerBound >= 0, rows.upperBound <= total, total > 0 else {
      return nil
    }
    if let nf4 {
      return StoredTensor(
        name: name, shape: [rows.count] + shape.dropFirst(), format: format, file: file, range: range,
        nf4: nf4.skipping(rows.lowerBound * (count / total)))
    }
    let rowByteCount = range.count / total
    guard shape.count > 1 || format.block.length == 1 else { return nil }
    let start = range.lowerBound + rows.lowerBound * rowByteCount
    return StoredTensor(
      name: name, shape: [rows.count] + shape.dropFirst(), format: format, file: file,
      range: start..<start + rows.count * rowByteCount)
  }
}

/// The order of a head's rows where llama.cpp's converter turned the two halves that rotate into pairs of neighbours.
package struct NeighbourPairing: Sendable, Equatable {
  /// Heads in the tensor.
  package var heads: Int
  /// Rows of each head that rotate; the rest stays in place.
  package var rotated: Int

  /// Where the file has a row of a tensor of `rows` rows.
  package func storedIndex(_ row: Int, of rows: Int) -> Int {
    let head = rows / heads
    let (base, within) = (row / head * head, row % head)
    guard within < rotated else { return row }
    return base + 2 * (within % (rotated / 2)) + within / (rotated / 2)
  }
}
