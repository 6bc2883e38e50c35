import CPUDevice
import ModelFiles

/// A tensor of a GGUF and where its values come from.
struct GGUFTensor: Sendable {
  private enum Source: Sendable {
    case merged(MergedTensor, NeighbourPairing?)
    /// Bytes of a GGUF that stay as they are.
    case stored(StoredTensor)
    case table([Float])
  }

  let entry: GGUFEntry
  let byteCount: Int
  private let source: Source

  /// Bytes of fp32 that are held at a time.
  private static let piece = 8 << 20
  /// Elements that one thread encodes at a time.
  private static let elementsPerTask = 1 << 15

  /// A tensor of a model; throws where its rows are no whole blocks of the format.
  init(
    _ tensor: MergedTensor, name: String, format: StorageFormat, pairing: NeighbourPairing?, checkpoint: Checkpoint
  ) throws(ModelFileError) {
    entry = GGUFEntry(name, shape: tensor.shape, format: format)
    guard format.isEncodable, let count = entry.byteCount else {
      throw ModelFileError(
        checkpoint.path, "tensor '\(tensor.name)' of the shape \(tensor.shape) cannot be stored as \(format.name)")
    }
    byteCount = count
    // What a GGUF has in the right format already loses nothing when it is copied.
    if !tensor.isAdapted, case .gguf(let file) = checkpoint.tokenizerSource, let stored = file.tensor(name),
      stored.format == format, stored.shape == tensor.shape
    {
      source = .stored(stored)
    } else {
      source = .merged(tensor, pairing)
    }
  }

  /// A vector of numbers that no checkpoint has.
  init(table: [Float], name: String) {
    entry = GGUFEntry(name, shape: [table.count], format: .float32)
    byteCount = 4 * table.count
    source = .table(table)
  }

  /// Writes the tensor piece by piece; `onPiece` receives the bytes of each.
  func write(to writer: GGUFWriter, onPiece: (Int) throws -> Void) throws {
    switch source {
    case .table(let values):
      try values.withUnsafeBytes { try writer.append($0, to: entry.name) }
      try onPiece(byteCount)
    case .stored(let stored):
      _ = try stored.forEachStoredPiece { piece in
        try writer.append(piece, to: entry.name)
        try onPiece(piece.count)
      }
    case .merged(let tensor, let pairing?): try reorder(tensor, pairing, to: writer, onPiece)
    case .merged(let tensor, nil):
      try tensor.forEachPiece { _, values in try encode(values, to: writer, onPiece) }
    }
  }

  /// Writes whole heads at a time, their rows in llama.cpp's order; of a vector, elements count as rows.
  private func reorder(
    _ tensor: MergedTensor, _ pairing: NeighbourPairing, to writer: GGUFWriter, _ onPiece: (Int) throws -> Void
  ) throws {
    let isVector = tensor.shape.count == 1
    let (rows, width) = isVector ? (tensor.rowLength, 1) : (tensor.rowCount, tensor.rowLength)
    let headRows = rows / max(1, pairing.heads)
    guard headRows > 0, rows % pairing.heads == 0 else {
      throw ModelFileError(tensor.name, "\(rows) rows cannot be shared by \(pairing.heads) heads")
    }
    let headsAtOnce = isVector ? pairing.heads : max(1, Self.piece / 4 / width / headRows)
    let reader = tensor.makeReader()
    var values = [Float](repeating: 0, count: min(headsAtOnce, pairing.heads) * headRows * width)
    var ordered = values
    for head in stride(from: 0, to: pairing.heads, by: headsAtOnce) {
      let some = head * headRows..<min(head + headsAtOnce, pairing.heads) * headRows
      try values.withUnsafeMutableBufferPointer { values in
        guard let base = values.baseAddress else { return }
        try reader.decode(rows: isVector ? 0..<1 : some, into: base)
      }
      reader.release(rows: isVector ? 0..<1 : some)
      for row in 0..<some.count {
        let place = pairing.storedIndex(row + some.lowerBound, of: rows) - some.lowerBound
        ordered.withUnsafeMutableBufferPointer { ordered in
          values.withUnsafeBufferPointer { values in
            guard let target = ordered.baseAddress, let source = values.baseAddress else { return }
            (target + place * width).update(from: source + row * width, count: width)
          }
        }
      }
      try ordered.withUnsafeBufferPointer {
        try encode(UnsafeBufferPointer(rebasing: $0[..<(some.count * width)]), to: writer, onPiece)
      }
    }
  }

  /// Encodes whole rows by several threads and appends them.
  private func encode(
    _ values: UnsafeBufferPointer<Float>, to writer: GGUFWriter, _ onPiece: (Int) throws -> Void
  ) throws {
    let format = entry.format
    let (length, size) = format.block
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: values.count / length * size, alignment: 64)
    defer { bytes.deallocate() }
    guard let target = bytes.baseAddress, values.count > 0 else { return }
    // A multiple of every block's length.
    let atOnce = Self.elementsPerTask
    // Tasks write blocks of their own only.
    nonisolated(unsafe) let (source, place) = (values, target)
    let (name, path) = (entry.name, writer.path)
    try parallel(tasks: (values.count + atOnce - 1) / atOnce) { task in
      let range = task * atOnce..<min((task + 1) * atOnce, source.count)
      try format.encode(
        UnsafeBufferPointer(rebasing: source[range]), into: place + range.lowerBound / length * size, of: name,
        path: path)
    }
    try writer.append(UnsafeRawBufferPointer(bytes), to: entry.name)
    try onPiece(bytes.count)
  }
}
