import ModelFiles

/// A tensor of a run's state in the host's memory.
public struct StateTensor: Sendable, Equatable {
  /// Its name in the file.
  public var name: String
  /// Its dimensions.
  public var shape: [Int]
  /// How its numbers are stored.
  public var format: StorageFormat
  /// Its bytes, little-endian.
  public var bytes: [UInt8]
}

/// A run's state in a safetensors file: an optimizer's moments.
public enum StateTensors {
  /// Writes tensors; the file appears whole or not at all.
  public static func write(_ tensors: [StateTensor], to path: String) throws {
    let entries = tensors.map { SafetensorsEntry($0.name, shape: $0.shape, format: $0.format) }
    let writer = try SafetensorsWriter(path: path, tensors: entries)
    for tensor in tensors { try tensor.bytes.withUnsafeBytes { try writer.append($0, to: tensor.name) } }
    try writer.finish()
  }

  /// Hands out the bytes of a file that must hold exactly these tensors, each of its shape and type.
  public static func read(
    _ path: String, _ tensors: [(name: String, shape: [Int], format: StorageFormat)],
    _ take: (_ index: Int, _ bytes: UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let file = try SafetensorsFile(path: path)
    for (index, (name, shape, format)) in tensors.enumerated() {
      guard let stored = file.tensor(name), let bytes = stored.bytes else {
        throw RunError(path, "tensor \(quoted(name)) is missing")
      }
      guard stored.shape == shape, stored.format == format else {
        throw RunError(
          path,
          "tensor \(quoted(name)) is \(stored.format.name) \(stored.shape), the run needs \(format.name) \(shape)")
      }
      try withExtendedLifetime(stored) { try take(index, bytes) }
    }
    if file.tensors.count != tensors.count {
      let known = Set(tensors.map(\.name))
      let other = file.tensors.first { !known.contains($0.name) }?.name ?? ""
      throw RunError(path, "tensor \(quoted(other)) is none that the run has")
    }
  }
}
