/// A GGUF file of version 2 or 3, mapped into memory.
///
/// Opening reads and checks the whole header: the place of every tensor lies within the file and overlaps no other.
public struct GGUFFile: Sendable {
  /// The mapped file.
  public let file: MappedFile
  /// The version of the format.
  public let version: Int
  /// The multiple at which tensors start.
  public let alignment: Int
  /// The metadata in the order of the file.
  public let metadata: GGUFMetadata
  /// The tensors in the order of the file, under the names of the file and with its order of rows.
  public let tensors: [StoredTensor]
  private let indices: [String: Int]

  /// Where the file lies.
  public var path: String { file.path }

  /// Opens a file.
  public init(path: String) throws(ModelFileError) { try self.init(MappedFile(path: path)) }

  /// Reads a file that is already mapped.
  public init(_ file: MappedFile) throws(ModelFileError) {
    let path = file.path
    var reader = GGUFReader(path: path, bytes: file.bytes)
    let (version, tensorCount, entryCount) = try reader.readPreamble()

    var metadata = GGUFMetadata(path: path)
    for index in 0..<entryCount {
      let (key, value) = try reader.readEntry(index)
      if !metadata.append(key, value) { throw ModelFileError(path, "the metadata key \(quoted(key)) appears twice") }
    }
    let alignment = try Self.alignment(metadata)

    var headers: [GGUFTensorHeader] = []
    var indices: [String: Int] = [:]
    for index in 0..<tensorCount {
      let header = try reader.readTensor(index)
      if indices.updateValue(index, forKey: header.name) != nil {
        throw ModelFileError(path, "tensor \(quoted(header.name)) appears twice")
      }
      headers.append(header)
    }

    let (padded, overflow) = reader.position.addingReportingOverflow(alignment - 1)
    let dataStart = overflow ? Int.max : padded & ~(alignment - 1)
    var tensors: [StoredTensor] = []
    tensors.reserveCapacity(headers.count)
    for header in headers {
      tensors.append(try Self.place(header, dataStart: dataStart, alignment: alignment, in: file))
    }
    try Self.refuseOverlaps(tensors, path)

    self.file = file
    self.version = version
    self.alignment = alignment
    self.metadata = metadata
    self.tensors = tensors
    self.indices = indices
  }

  /// The tensor of a name of the file.
  public func tensor(_ name: String) -> StoredTensor? { indices[name].map { tensors[$0] } }

  private static func alignment(_ metadata: GGUFMetadata) throws(ModelFileError) -> Int {
    guard let value = metadata["general.alignment"] else { return 32 }
    guard case .uint32(let alignment) = value else {
      throw ModelFileError(
        metadata.path, "the metadata key 'general.alignment' is of type \(value.typeName), uint32 was expected")
    }
    guard alignment != 0, alignment & (alignment - 1) == 0 else {
      throw ModelFileError(metadata.path, "general.alignment is \(alignment), it must be a power of two")
    }
    return Int(alignment)
  }

  private static func place(
    _ header: GGUFTensorHeader, dataStart: Int, alignment: Int, in file: MappedFile
  ) throws(ModelFileError) -> StoredTensor {
    let name = quoted(header.name)
    guard let format = StorageFormat(ggmlType: header.type) else {
      let removed = StorageFormat.removedTypes[header.type].map { " (\($0)), which llama.cpp no longer has" }
      throw ModelFileError(
        file.path, "tensor \(name) is of type \(header.type)\(removed ?? ", which does not exist")")
    }
    let shape = [Int](header.dimensions.reversed())
    if (shape.last ?? 1) % format.block.length != 0 {
      throw ModelFileError(
        file.path,
        "the rows of tensor \(name) have \(shape.last ?? 1) elements, no multiple of the \(format.block.length)"
          + " in a block of \(format.name)")
    }
    guard let byteCount = format.byteCount(shape: shape) else {
      throw ModelFileError(file.path, "the size of tensor \(name), \(shape), leaves 64 bits")
    }
    guard header.offset % UInt64(alignment) == 0 else {
      throw ModelFileError(
        file.path, "tensor \(name) starts at \(header.offset), no multiple of the alignment \(alignment)")
    }
    guard let offset = Int(exactly: header.offset) else { throw outside(name, file) }
    let (start, startOverflow) = dataStart.addingReportingOverflow(offset)
    let (end, endOverflow) = start.addingReportingOverflow(byteCount)
    guard !startOverflow, !endOverflow, end <= file.bytes.count else { throw outside(name, file) }
    return StoredTensor(name: header.name, shape: shape, format: format, file: file, range: start..<end)
  }

  private static func outside(_ name: String, _ file: MappedFile) -> ModelFileError {
    ModelFileError(
      file.path,
      "tensor \(name) lies beyond the end of the file (\(file.bytes.count) bytes); it is truncated, fetch it again")
  }

  private static func refuseOverlaps(_ tensors: [StoredTensor], _ path: String) throws(ModelFileError) {
    let sorted = tensors.sorted { $0.range.lowerBound < $1.range.lowerBound }
    for (first, second) in zip(sorted, sorted.dropFirst()) where second.range.lowerBound < first.range.upperBound {
      throw ModelFileError(path, "tensors \(quoted(first.name)) and \(quoted(second.name)) overlap")
    }
  }
}

extension StorageFormat {
  /// The format of a tensor type's number in a GGUF; `nil` for numbers that mean nothing.
  init?(ggmlType: UInt32) {
    guard let format = Self.byGGMLType[ggmlType] else { return nil }
    self = format
  }

  /// The number of the type in a GGUF; `nil` for formats that only other files have.
  var ggmlType: UInt32? { Self.byGGMLType.first { $0.value == self }?.key }

  private static let byGGMLType: [UInt32: StorageFormat] = [
    0: .float32, 1: .float16, 2: .q4_0, 3: .q4_1, 6: .q5_0, 7: .q5_1, 8: .q8_0, 9: .q8_1, 10: .q2_K, 11: .q3_K,
    12: .q4_K, 13: .q5_K, 14: .q6_K, 15: .q8_K, 16: .iq2_XXS, 17: .iq2_XS, 18: .iq3_XXS, 19: .iq1_S, 20: .iq4_NL,
    21: .iq3_S, 22: .iq2_S, 23: .iq4_XS, 24: .int8, 25: .int16, 26: .int32, 27: .int64, 28: .float64, 29: .iq1_M,
    30: .bfloat16, 34: .tq1_0, 35: .tq2_0, 39: .mxfp4, 40: .nvfp4, 41: .q1_0,
  ]

  /// Types that once existed.
  static let removedTypes: [UInt32: String] = [
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
  ]
}
