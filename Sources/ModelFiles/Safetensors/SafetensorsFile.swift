import JSONValues

/// A safetensors file, mapped into memory.
///
/// Opening checks everything that the format asks for: the tensors fill the file without holes or overlaps.
public struct SafetensorsFile: Sendable {
  /// The mapped file.
  public let file: MappedFile
  /// What the header holds under `__metadata__`.
  public let metadata: [String: String]
  /// The tensors in the order of their bytes.
  public let tensors: [StoredTensor]
  private let indices: [String: Int]

  /// Where the file lies.
  public var path: String { file.path }

  /// The largest header that the format allows.
  static let largestHeader = 100_000_000

  /// Opens a file.
  public init(path: String) throws(ModelFileError) { try self.init(MappedFile(path: path)) }

  /// Reads a file that is already mapped.
  public init(_ file: MappedFile) throws(ModelFileError) {
    let path = file.path
    let header = try Self.header(of: file)
    let dataStart = 8 + header.count
    guard case .object(let object) = try Self.parse(header, path) else {
      throw ModelFileError(path, "the header is no JSON object")
    }
    var metadata: [String: String] = [:]
    var tensors: [StoredTensor] = []
    for (name, value) in object {
      if name == "__metadata__" {
        metadata = try Self.metadata(value, path)
      } else {
        tensors.append(try Self.tensor(name, value, dataStart: dataStart, file))
      }
    }
    // Empty tensors come before the one that starts at the same place.
    tensors.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    try Self.requireContiguous(tensors, from: dataStart, file)
    self.file = file
    self.metadata = metadata
    self.tensors = tensors
    indices = Dictionary(tensors.enumerated().map { ($1.name, $0) }) { first, _ in first }
  }

  /// The tensor of a name.
  public func tensor(_ name: String) -> StoredTensor? { indices[name].map { tensors[$0] } }

  private static func header(of file: MappedFile) throws(ModelFileError) -> UnsafeRawBufferPointer {
    let bytes = file.bytes
    guard bytes.count >= 8 else {
      throw ModelFileError(file.path, "this is no safetensors file: it has only \(bytes.count) bytes")
    }
    let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard length <= UInt64(largestHeader) else {
      throw ModelFileError(
        file.path,
        "this is no safetensors file: its header would take \(length) bytes, at most \(largestHeader) are allowed")
    }
    guard Int(length) <= bytes.count - 8 else {
      throw ModelFileError(
        file.path,
        "the header takes \(length) bytes, but only \(bytes.count - 8) follow; it is truncated, fetch it again")
    }
    guard length > 0, bytes[8] == UInt8(ascii: "{") else {
      throw ModelFileError(file.path, "this is no safetensors file: its header does not start with '{'")
    }
    return UnsafeRawBufferPointer(rebasing: bytes[8..<8 + Int(length)])
  }

  private static func parse(_ header: UnsafeRawBufferPointer, _ path: String) throws(ModelFileError) -> JSONValue {
    do throws(JSONError) {
      return try JSONValue.parse(header, options: JSONParsingOptions(maximumDepth: 8, refusesDuplicateKeys: true))
    } catch {
      throw ModelFileError(path, "the header is damaged: \(error)")
    }
  }

  private static func metadata(_ value: JSONValue, _ path: String) throws(ModelFileError) -> [String: String] {
    guard let object = value.object else {
      throw ModelFileError(path, "__metadata__ is \(value.kind), an object was expected")
    }
    var metadata: [String: String] = [:]
    for (key, value) in object {
      guard let text = value.string else {
        throw ModelFileError(path, "__metadata__ holds \(value.kind) under \(quoted(key)), only strings are allowed")
      }
      metadata[key] = text
    }
    return metadata
  }

  private static func tensor(
    _ name: String, _ value: JSONValue, dataStart: Int, _ file: MappedFile
  ) throws(ModelFileError) -> StoredTensor {
    func wrong(_ message: String) -> ModelFileError { ModelFileError(file.path, "tensor \(quoted(name)) \(message)") }
    guard case .object = value else { throw wrong("is \(value.kind), an object was expected") }
    guard let type = value["dtype"]?.string else { throw wrong("has no dtype") }
    guard let format = StorageFormat(safetensorsType: type) else {
      throw wrong("has the unknown dtype \(quoted(type))")
    }
    guard let shape = integers(value["shape"]) else {
      throw wrong("has no shape of whole numbers that are not negative")
    }
    guard let offsets = integers(value["data_offsets"]), offsets.count == 2, offsets[0] <= offsets[1] else {
      throw wrong("has no data_offsets of two growing numbers")
    }
    guard let byteCount = format.byteCount(shape: shape) else {
      throw wrong("has a size, \(shape), that leaves 64 bits")
    }
    guard byteCount == offsets[1] - offsets[0] else {
      throw wrong(
        "takes \(offsets[1] - offsets[0]) bytes, but its shape \(shape) and dtype \(type) take \(byteCount)")
    }
    guard offsets[1] <= file.bytes.count - dataStart else {
      throw wrong("lies beyond the end of the file (\(file.bytes.count) bytes); it is truncated, fetch it again")
    }
    return StoredTensor(
      name: name, shape: shape, format: format, file: file, range: dataStart + offsets[0]..<dataStart + offsets[1])
  }

  private static func integers(_ value: JSONValue?) -> [Int]? {
    guard let array = value?.array else { return nil }
    var integers: [Int] = []
    for element in array {
      guard case .integer(let integer) = element, integer >= 0 else { return nil }
      integers.append(integer)
    }
    return integers
  }

  private static func requireContiguous(
    _ tensors: [StoredTensor], from dataStart: Int, _ file: MappedFile
  ) throws(ModelFileError) {
    var end = dataStart
    for tensor in tensors {
      if tensor.range.lowerBound < end {
        throw ModelFileError(file.path, "tensor \(quoted(tensor.name)) overlaps another")
      }
      if tensor.range.lowerBound > end {
        throw ModelFileError(
          file.path, "\(tensor.range.lowerBound - end) bytes before tensor \(quoted(tensor.name)) belong to no tensor")
      }
      end = tensor.range.upperBound
    }
    if end < file.bytes.count {
      throw ModelFileError(file.path, "the last \(file.bytes.count - end) bytes belong to no tensor")
    }
  }
}

extension StorageFormat {
  /// The format of a dtype in a safetensors header.
  init?(safetensorsType: String) {
    guard let format = StorageFormat(rawValue: safetensorsType), format.isSafetensorsType else { return nil }
    self = format
  }

  /// Whether safetensors files can hold this format.
  public var isSafetensorsType: Bool {
    switch self {
    case .float64, .float32, .float16, .bfloat16, .float8e4m3, .float8e5m2, .int64, .int32, .int16, .int8, .uint64,
      .uint32, .uint16, .uint8, .bool:
      true
    default: false
    }
  }
}
