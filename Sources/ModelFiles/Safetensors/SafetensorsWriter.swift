import CBlockFormats
import JSONValues

/// A tensor that is going to be written.
public struct SafetensorsEntry: Sendable, Equatable {
  /// Its name.
  public var name: String
  /// Its dimensions.
  public var shape: [Int]
  /// How its numbers are stored; one that `isSafetensorsType`.
  public var format: StorageFormat

  /// Describes a tensor.
  public init(_ name: String, shape: [Int], format: StorageFormat) {
    self.name = name
    self.shape = shape
    self.format = format
  }
}

extension SafetensorsEntry {
  /// Bytes that the tensor takes; `nil` when they leave 64 bits.
  public var byteCount: Int? { format.byteCount(shape: shape) }
}

/// Writes one safetensors file, tensor by tensor or piece by piece; the file appears whole or not at all.
///
/// The tensors may come in any order; the bytes of one come from its start to its end.
public final class SafetensorsWriter {
  /// The file that is written.
  public let path: String
  private let file: AtomicFileWriter
  private var places: TensorPlaces
  private let formats: [String: StorageFormat]
  private var scratch: [UInt8] = []

  /// Writes the header and checks that the disk has room for the whole file.
  public init(
    path: String, tensors: [SafetensorsEntry], metadata: [(key: String, value: String)] = [("format", "pt")]
  ) throws(ModelFileError) {
    self.path = path
    var header = JSONObject()
    if !metadata.isEmpty { header["__metadata__"] = .object(JSONObject(metadata.map { ($0.key, .string($0.value)) })) }
    var places = TensorPlaces(path: path)
    var end = 0
    // The widest elements first, so that every tensor starts at a multiple of its element.
    for entry in tensors.stablySorted(by: { $0.format.block.byteCount > $1.format.block.byteCount }) {
      guard entry.format.isSafetensorsType, let count = entry.format.byteCount(shape: entry.shape) else {
        throw ModelFileError(
          path, "tensor \(quoted(entry.name)) cannot be stored as \(entry.format.name) \(entry.shape)")
      }
      let start = end
      let (sum, overflow) = start.addingReportingOverflow(count)
      if overflow { throw ModelFileError(path, "the tensors take more than 64 bits can count") }
      end = sum
      guard entry.name != "__metadata__" else {
        throw ModelFileError(path, "tensor \(quoted(entry.name)) has the name of the header's own entry")
      }
      try places.add(entry.name, start..<end)
      header[entry.name] = [
        "dtype": .string(entry.format.name), "shape": .array(entry.shape.map { .integer($0) }),
        "data_offsets": [.integer(start), .integer(end)],
      ]
    }
    var bytes = JSONValue.object(header).serializedBytes(.compact)
    bytes.append(contentsOf: repeatElement(0x20, count: (8 - bytes.count % 8) % 8))
    if bytes.count > SafetensorsFile.largestHeader {
      throw ModelFileError(path, "the header would take \(bytes.count) bytes, more than the format allows")
    }
    let dataStart = 8 + bytes.count
    places.shift(by: dataStart)
    self.places = places
    formats = Dictionary(tensors.map { ($0.name, $0.format) }) { first, _ in first }
    file = try AtomicFileWriter(path: path, expectedByteCount: dataStart + end)
    try file.write(withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { Array($0) } + bytes)
  }

  /// Appends bytes, little-endian, to a tensor.
  public func append(_ bytes: UnsafeRawBufferPointer, to name: String) throws(ModelFileError) {
    try file.write(bytes, at: places.take(bytes.count, of: name))
  }

  /// Appends floats to a tensor of fp32, bf16 or f16, rounded to nearest even.
  public func append(_ floats: UnsafeBufferPointer<Float>, to name: String) throws(ModelFileError) {
    guard let format = formats[name] else { throw ModelFileError(path, "there is no tensor \(quoted(name))") }
    let encode: (UnsafePointer<Float>, Int64, UnsafeMutableRawPointer) -> Void
    let exponent: UInt16
    switch format {
    case .float32: return try append(UnsafeRawBufferPointer(floats), to: name)
    case .bfloat16: (encode, exponent) = (sl_encode_bf16, 0x7F80)
    case .float16: (encode, exponent) = (sl_encode_f16, 0x7C00)
    default: throw ModelFileError(path, "tensor \(quoted(name)) is \(format.name) and takes no floats")
    }
    let piece = 1 << 18
    if scratch.isEmpty { scratch = [UInt8](repeating: 0, count: 2 * piece) }
    for start in stride(from: 0, to: floats.count, by: piece) {
      let count = min(piece, floats.count - start)
      guard let base = floats.baseAddress else { return }
      var buffer = scratch
      scratch = []
      defer { scratch = buffer }
      let result = buffer.withUnsafeMutableBytes { bytes in
        Result { () throws(ModelFileError) in
          guard let target = bytes.baseAddress else { return }
          encode(base + start, Int64(count), target)
          if sl_is_finite_16(target, Int64(count), exponent) == 0 {
            throw ModelFileError(
              path, "tensor \(quoted(name)) has a value that \(format.name) cannot hold; choose another type")
          }
          try append(UnsafeRawBufferPointer(start: target, count: 2 * count), to: name)
        }
      }
      try result.get()
    }
  }

  /// Appends floats to a tensor of fp32, bf16 or f16, rounded to nearest even.
  public func append(_ floats: [Float], to name: String) throws(ModelFileError) {
    let result = floats.withUnsafeBufferPointer { floats in
      Result { () throws(ModelFileError) in try append(floats, to: name) }
    }
    try result.get()
  }

  /// Brings the file to the disk under its name; every tensor must be complete.
  public func finish() throws(ModelFileError) {
    try places.requireFull()
    try file.commit()
  }
}

extension Array {
  /// Sorts so that equal elements keep their order.
  fileprivate func stablySorted(by precedes: (Element, Element) -> Bool) -> [Element] {
    enumerated().sorted { first, second in
      if precedes(first.element, second.element) { return true }
      if precedes(second.element, first.element) { return false }
      return first.offset < second.offset
    }.map(\.element)
  }
}
