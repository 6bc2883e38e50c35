import Export
import ModelFiles

/// A tensor of the quantized checkpoint: in NF4, or as it was.
struct QuantizedTensorPlan: Sendable {
  var isQuantized: Bool
  /// The matrix in NF4, where more than the nearest codes were wanted.
  var matrix: NF4Matrix?
  let plan: TensorPlan

  /// Elements that are decoded at a time.
  private static let piece = 2 << 20

  init(_ plan: TensorPlan, isQuantized: Bool) {
    self.plan = plan
    self.isQuantized = isQuantized
  }

  /// The type that a quantized matrix is decoded to.
  var originalFormat: StorageFormat { plan.entry.format == .float64 ? .float32 : plan.entry.format }

  /// Its name without ".weight".
  var moduleName: String { String(plan.entry.name.dropLast(".weight".count)) }

  /// Bytes in 16 bits.
  var plainByteCount: Int { plan.byteCount }

  /// What goes into the files.
  func entries() throws(ModelFileError) -> [SafetensorsEntry] {
    guard isQuantized else { return [plan.entry] }
    return try NF4Serialization.entries(plan.entry.name, shape: plan.entry.shape, originalFormat: originalFormat)
  }

  /// Quantizes or copies the tensor piece by piece; `onPiece` receives the bytes written.
  func write(to writer: ShardedSafetensorsWriter, onPiece: (Int) throws -> Void) throws {
    guard isQuantized else { return try plan.write(to: writer, onPiece: onPiece) }
    let name = plan.entry.name
    if let matrix {
      for start in stride(from: 0, to: matrix.codes.count, by: Self.piece) {
        try matrix.codes[start..<min(start + Self.piece, matrix.codes.count)].withUnsafeBytes { codes in
          try writer.append(codes, to: name)
          try onPiece(codes.count)
        }
      }
      return try NF4Serialization.writeState(
        name, shape: plan.entry.shape, originalFormat: originalFormat, absmax: matrix.absmax, to: writer)
    }
    var encoder = NF4Encoder()
    for part in plan.parts {
      part.prefetch()
      defer { part.releasePages() }
      let width = max(part.rowLength, 1)
      let rowsAtOnce = max(1, Self.piece / width)
      var values = [Float](repeating: 0, count: min(rowsAtOnce, max(part.rowCount, 1)) * width)
      for start in stride(from: 0, to: part.rowCount, by: rowsAtOnce) {
        let rows = start..<min(start + rowsAtOnce, part.rowCount)
        try values.withUnsafeMutableBufferPointer { values in
          guard let base = values.baseAddress else { return }
          try part.decode(rows: rows, into: base)
          try part.requireFinite(base, count: rows.count * width)
          try encoder.append(UnsafeBufferPointer(start: base, count: rows.count * width)) {
            try writer.append($0, to: name)
          }
        }
        try onPiece(rows.count * width / 2)
      }
    }
    try encoder.finish { try writer.append($0, to: name) }
    try NF4Serialization.writeState(
      name, shape: plan.entry.shape, originalFormat: originalFormat, absmax: DoubleQuantizedAbsmax(encoder.absmax),
      to: writer)
  }
}
