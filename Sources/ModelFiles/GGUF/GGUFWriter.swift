/// A tensor of a GGUF that is going to be written.
public struct GGUFEntry: Sendable, Equatable {
  /// Its name, as llama.cpp spells it.
  public var name: String
  /// Its dimensions, the one that runs fastest in memory last.
  public var shape: [Int]
  /// How its numbers are stored.
  public var format: StorageFormat

  /// Describes a tensor.
  public init(_ name: String, shape: [Int], format: StorageFormat) {
    self.name = name
    self.shape = shape
    self.format = format
  }

  /// Bytes that the tensor takes; `nil` when its rows are no whole blocks or the size leaves 64 bits.
  public var byteCount: Int? { format.byteCount(shape: shape) }
}

/// Writes a GGUF of version 3, tensor by tensor or piece by piece; the file appears whole or not at all.
///
/// The tensors may come in any order; the bytes of one come from its start to its end.
public final class GGUFWriter {
  /// The file that is written.
  public let path: String
  private let file: AtomicFileWriter
  private var places: TensorPlaces

  private static let alignment = 32
  /// What llama.cpp allows for a tensor's name, its closing zero included.
  private static let longestName = 64

  /// Writes the header and checks that the disk has room for the whole file.
  public init(
    path: String, metadata: [(key: String, value: GGUFValue)], tensors: [GGUFEntry]
  ) throws(ModelFileError) {
    self.path = path
    var header = Array("GGUF".utf8) + GGUFEncoding.integer(UInt32(3))
    header += GGUFEncoding.integer(UInt64(tensors.count)) + GGUFEncoding.integer(UInt64(metadata.count))
    for (key, value) in metadata { header += GGUFEncoding.entry(key, value) }
    var places = TensorPlaces(path: path)
    var end = 0
    for entry in tensors {
      guard let type = entry.format.ggmlType, let count = entry.byteCount, entry.shape.count <= 4,
        entry.name.utf8.count < Self.longestName
      else {
        throw ModelFileError(
          path, "tensor \(quoted(entry.name)) cannot be stored as \(entry.format.name) \(entry.shape)")
      }
      let start = end
      // Room for the alignment as well.
      let (sum, overflow) = start.addingReportingOverflow(count)
      let (padded, paddingOverflow) = sum.addingReportingOverflow(Self.alignment - 1)
      if overflow || paddingOverflow { throw ModelFileError(path, "the tensors take more than 64 bits can count") }
      end = padded & ~(Self.alignment - 1)
      try places.add(entry.name, start..<sum)
      header += GGUFEncoding.string(entry.name) + GGUFEncoding.integer(UInt32(entry.shape.count))
      for dimension in entry.shape.reversed() { header += GGUFEncoding.integer(UInt64(dimension)) }
      header += GGUFEncoding.integer(type) + GGUFEncoding.integer(UInt64(start))
    }
    header += [UInt8](repeating: 0, count: (Self.alignment - header.count % Self.alignment) % Self.alignment)
    let dataStart = header.count
    places.shift(by: dataStart)
    self.places = places
    file = try AtomicFileWriter(path: path, expectedByteCount: dataStart + end)
    try file.write(header)
    // The zeros between tensors, and behind the last: files have holes until they are written.
    if end > 0 { try file.extend(to: dataStart + end) }
  }

  /// Appends bytes, as the tensor's format lays them out, to a tensor.
  public func append(_ bytes: UnsafeRawBufferPointer, to name: String) throws(ModelFileError) {
    try file.write(bytes, at: places.take(bytes.count, of: name))
  }

  /// Brings the file to the disk under its name; every tensor must be complete.
  public func finish() throws(ModelFileError) {
    try places.requireFull()
    try file.commit()
  }
}
