import ModelFiles

/// Buffers of floats in a safetensors file: an optimizer's moments, the weights that it keeps in fp32.
public enum StateTensors {
  /// Writes buffers under their names; the file appears whole or not at all.
  public static func write(
    _ tensors: [(name: String, shape: [Int], values: UnsafeBufferPointer<Float>)], to path: String
  ) throws {
    let entries = tensors.map { SafetensorsEntry($0.name, shape: $0.shape, format: .float32) }
    let writer = try SafetensorsWriter(path: path, tensors: entries)
    for tensor in tensors { try writer.append(tensor.values, to: tensor.name) }
    try writer.finish()
  }

  /// Fills buffers from a file that must hold exactly these tensors, each of its shape.
  public static func read(
    _ path: String, into tensors: [(name: String, shape: [Int], values: UnsafeMutableBufferPointer<Float>)]
  ) throws {
    let file = try SafetensorsFile(path: path)
    for (name, shape, values) in tensors {
      guard let stored = file.tensor(name) else { throw RunError(path, "tensor \(quoted(name)) is missing") }
      guard stored.shape == shape, stored.format == .float32, stored.count == values.count else {
        throw RunError(
          path, "tensor \(quoted(name)) is \(stored.format.name) \(stored.shape), the run needs F32 \(shape)")
      }
      if let base = values.baseAddress { try stored.decode(rows: 0..<stored.rowCount, into: base) }
    }
    if file.tensors.count != tensors.count {
      let known = Set(tensors.map(\.name))
      let other = file.tensors.first { !known.contains($0.name) }?.name ?? ""
      throw RunError(path, "tensor \(quoted(other)) is none that the run has")
    }
  }
}
