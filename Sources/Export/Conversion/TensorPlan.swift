import ModelFiles

/// A tensor of the new checkpoint and where its values come from.
package struct TensorPlan: Sendable {
  /// The new tensor.
  package let entry: SafetensorsEntry
  /// The stored ones that it is made of and the adapters that are added.
  package let source: MergedTensor
  /// Bytes that it will take.
  package let byteCount: Int

  /// The stored tensors, from above.
  package var parts: [StoredTensor] { source.parts.map(\.stored) }

  /// The tensors of a checkpoint in a layout, in the order of the computation, others after them.
  package static func all(
    of checkpoint: Checkpoint, adding adapters: [AdapterFile] = [], in layout: Conversion.Layout,
    as format: StorageFormat?
  ) throws(ModelFileError) -> [TensorPlan] {
    try MergedTensors(checkpoint, adapters: adapters, layout: layout).tensors.map {
      (tensor) throws(ModelFileError) in try TensorPlan(tensor, as: format)
    }
  }

  /// - Parameter format: What to store floating-point numbers as; `nil` keeps their type.
  private init(_ source: MergedTensor, as format: StorageFormat?) throws(ModelFileError) {
    let first = source.parts[0].stored
    // Of what is no number of the model's, such as a counter, the type stays.
    let kept = first.format.isDecodable ? format : nil
    if let other = source.parts.first(where: { $0.stored.format != first.format })?.stored, kept == nil {
      throw ModelFileError(
        first.file.path,
        "\(first.name) is stored as \(first.format.name) and \(other.name) as \(other.format.name), which cannot share "
          + "one matrix; name a --type")
    }
    // What was quantized comes back to the type it had.
    entry = SafetensorsEntry(
      source.name, shape: source.shape, format: kept ?? first.nf4?.originalFormat ?? first.format)
    guard let count = entry.byteCount else {
      throw ModelFileError(
        first.file.path, "tensor \(source.name) has a size, \(source.shape), that leaves 64 bits")
    }
    byteCount = count
    self.source = source
  }

  /// Copies or converts the tensor, piece by piece; `onPiece` receives the bytes of each.
  package func write(to writer: ShardedSafetensorsWriter, onPiece: (Int) throws -> Void) throws {
    if source.isAdapted || source.parts.contains(where: { $0.stored.format != entry.format || $0.stored.bytes == nil })
    {
      try source.forEachPiece { _, values in
        try writer.append(values, to: entry.name)
        try onPiece(values.count * entry.format.block.byteCount)
      }
    } else {
      for part in source.parts {
        _ = try part.stored.forEachStoredPiece { piece in
          try writer.append(piece, to: entry.name)
          try onPiece(piece.count)
        }
      }
    }
  }
}
