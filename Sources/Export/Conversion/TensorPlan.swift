import ModelFiles

/// A tensor of the new checkpoint and the stored ones that it is made of, one above the other.
package struct TensorPlan {
  /// The new tensor.
  package let entry: SafetensorsEntry
  /// The stored ones, from above.
  package let parts: [StoredTensor]
  /// Bytes that it will take.
  package let byteCount: Int

  /// Bytes that are copied, and elements that are converted, at a time.
  private static let piece = 8 << 20

  /// The tensors of a checkpoint in a layout, in the order of the computation, others after them.
  package static func all(
    of checkpoint: Checkpoint, in layout: Conversion.Layout, as format: StorageFormat?
  ) throws(ModelFileError) -> [TensorPlan] {
    var plans: [TensorPlan] = []
    var used: Set<String> = []
    for (name, shape) in checkpoint.configuration.tensors {
      let tensor = try checkpoint.tensor(name, shape: shape)
      used.insert(name)
      guard layout == .phi3, let (fused, modules) = FusedTensors.place(of: name) else {
        plans.append(try TensorPlan(name, [tensor], format))
        continue
      }
      // The first part stands for all of them.
      guard name.hasSuffix(modules[0].rawValue + ".weight") else { continue }
      var parts = [tensor]
      for module in modules.dropFirst() {
        let other = name.replacing(modules[0].rawValue, with: module.rawValue)
        let (outputs, inputs) = checkpoint.configuration.size(of: module)
        parts.append(try checkpoint.tensor(other, shape: [outputs, inputs]))
      }
      plans.append(try TensorPlan(fused, parts, format))
    }
    // What a GGUF has besides are tables that the configuration expresses.
    guard case .folder = checkpoint.tokenizerSource else { return plans }
    for name in checkpoint.tensorNames where !used.contains(name) {
      let tensor = try checkpoint.tensor(name)
      plans.append(try TensorPlan(name, [tensor], tensor.format.isFloat || tensor.nf4 != nil ? format : nil))
    }
    return plans
  }

  private init(_ name: String, _ parts: [StoredTensor], _ format: StorageFormat?) throws(ModelFileError) {
    let first = parts[0]
    if let other = parts.first(where: { $0.format != first.format }), format == nil {
      throw ModelFileError(
        first.file.path,
        "\(first.name) is stored as \(first.format.name) and \(other.name) as \(other.format.name), which cannot share "
          + "one matrix; name a --type")
    }
    let rows = parts.reduce(0) { $0 + ($1.shape.first ?? 1) }
    let shape = first.shape.isEmpty ? [] : [rows] + first.shape.dropFirst()
    // What was quantized comes back to the type it had.
    entry = SafetensorsEntry(name, shape: shape, format: format ?? first.nf4?.originalFormat ?? first.format)
    guard let count = entry.byteCount else {
      throw ModelFileError(first.file.path, "tensor \(name) has a size, \(shape), that leaves 64 bits")
    }
    byteCount = count
    self.parts = parts
  }

  /// Copies or converts all parts, piece by piece; `onPiece` receives the bytes of each.
  package func write(to writer: ShardedSafetensorsWriter, onPiece: (Int) throws -> Void) throws {
    for part in parts {
      part.prefetch()
      if part.format == entry.format, part.bytes != nil {
        try copy(part, to: writer, onPiece)
      } else {
        try convert(part, to: writer, onPiece)
      }
    }
  }

  private func copy(_ part: StoredTensor, to writer: ShardedSafetensorsWriter, _ onPiece: (Int) throws -> Void) throws {
    guard let bytes = part.bytes else { return }
    for start in stride(from: 0, to: bytes.count, by: Self.piece) {
      let range = start..<min(start + Self.piece, bytes.count)
      let piece = UnsafeRawBufferPointer(rebasing: bytes[range])
      try part.requireFinite(piece)
      try writer.append(piece, to: entry.name)
      part.releasePages(range)
      try onPiece(range.count)
    }
  }

  private func convert(
    _ part: StoredTensor, to writer: ShardedSafetensorsWriter, _ onPiece: (Int) throws -> Void
  ) throws {
    let width = max(part.rowLength, 1)
    let rowsAtOnce = max(1, Self.piece / 4 / width)
    var values = [Float](repeating: 0, count: min(rowsAtOnce, max(part.rowCount, 1)) * width)
    for start in stride(from: 0, to: part.rowCount, by: rowsAtOnce) {
      let rows = start..<min(start + rowsAtOnce, part.rowCount)
      try values.withUnsafeMutableBufferPointer { values in
        guard let base = values.baseAddress else { return }
        try part.decode(rows: rows, into: base)
        try part.requireFinite(base, count: rows.count * width)
        try writer.append(UnsafeBufferPointer(start: base, count: rows.count * width), to: entry.name)
      }
      try onPiece(rows.count * width * entry.format.block.byteCount)
    }
    part.releasePages()
  }
}
