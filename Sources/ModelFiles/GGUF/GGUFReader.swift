/// Reads the header of a GGUF from its bytes; every count is bounded by the bytes that remain before it is believed.
struct GGUFReader {
  let path: String
  let bytes: UnsafeRawBufferPointer
  private(set) var position = 0

  /// Lists of lists may lie this deep; no known file has any.
  private static let deepestArray = 8

  init(path: String, bytes: UnsafeRawBufferPointer) {
    self.path = path
    self.bytes = bytes
  }

  private var remaining: Int { bytes.count - position }

  // MARK: Parts of the header

  /// Reads magic, version and the two counts.
  mutating func readPreamble() throws(ModelFileError) -> (version: Int, tensorCount: Int, entryCount: Int) {
    guard bytes.count >= 4 else { throw ModelFileError(path, "this is no GGUF: it has only \(bytes.count) bytes") }
    let magic = bytes.loadUnaligned(as: UInt32.self).littleEndian
    switch magic {
    case 0x4655_4747: break
    case 0x6767_6D6C, 0x6767_6D66, 0x6767_6A74, 0x6767_6C61:
      throw ModelFileError(path, "this is a GGML file from before GGUF; convert the original model to GGUF again")
    default: throw ModelFileError(path, "this is no GGUF: it does not start with 'GGUF'")
    }
    position = 4
    let version = try read(UInt32.self, "the version")
    if version != 2, version != 3 {
      if version.byteSwapped == 2 || version.byteSwapped == 3 {
        throw ModelFileError(path, "this GGUF is big-endian; convert it to little-endian")
      }
      throw ModelFileError(path, "this is GGUF version \(version); supported are 2 and 3")
    }
    // The least that each takes: a tensor has a name, a count of dimensions, a type and an offset; an entry has a key, a
    // type and one byte of value.
    let tensors = try readCount("the count of tensors", each: 24, of: "tensors", after: 8)
    let entries = try readCount("the count of metadata entries", each: 13, of: "metadata entries", after: 0)
    return (Int(version), tensors, entries)
  }

  /// Reads one metadata entry.
  mutating func readEntry(_ index: Int) throws(ModelFileError) -> (key: String, value: GGUFValue) {
    let key = try readName("the key of metadata entry \(index)")
    let type = try read(UInt32.self, "the type of metadata key \(quoted(key))")
    return (key, try readValue(type, key))
  }

  /// Reads the description of one tensor; its offset is relative to where the data starts.
  mutating func readTensor(_ index: Int) throws(ModelFileError) -> GGUFTensorHeader {
    let name = try readName("the name of tensor \(index)")
    let dimensionCount = try read(UInt32.self, "the number of dimensions of tensor \(quoted(name))")
    if dimensionCount > 4 {
      throw ModelFileError(path, "tensor \(quoted(name)) has \(dimensionCount) dimensions, at most 4 are allowed")
    }
    var dimensions: [Int] = []
    for _ in 0..<dimensionCount {
      let dimension = try read(UInt64.self, "a dimension of tensor \(quoted(name))")
      guard let dimension = Int(exactly: dimension), dimension > 0 else {
        throw ModelFileError(path, "tensor \(quoted(name)) has a dimension of \(dimension)")
      }
      dimensions.append(dimension)
    }
    let type = try read(UInt32.self, "the type of tensor \(quoted(name))")
    let offset = try read(UInt64.self, "the offset of tensor \(quoted(name))")
    return GGUFTensorHeader(name: name, dimensions: dimensions, type: type, offset: offset)
  }

  // MARK: Values

  private mutating func readValue(_ type: UInt32, _ key: String) throws(ModelFileError) -> GGUFValue {
    let place = "the value of metadata key \(quoted(key))"
    switch type {
    case 0: return .uint8(try read(UInt8.self, place))
    case 1: return .int8(try read(Int8.self, place))
    case 2: return .uint16(try read(UInt16.self, place))
    case 3: return .int16(try read(Int16.self, place))
    case 4: return .uint32(try read(UInt32.self, place))
    case 5: return .int32(try read(Int32.self, place))
    case 6: return .float32(Float(bitPattern: try read(UInt32.self, place)))
    case 7: return .bool(try readBool(place))
    case 8: return .string(String(decoding: try readBytes(place), as: UTF8.self))
    case 9: return .array(try readArray(key, depth: 1))
    case 10: return .uint64(try read(UInt64.self, place))
    case 11: return .int64(try read(Int64.self, place))
    case 12: return .float64(Double(bitPattern: try read(UInt64.self, place)))
    default: throw ModelFileError(path, "the metadata key \(quoted(key)) has the type \(type), which does not exist")
    }
  }

  private mutating func readArray(_ key: String, depth: Int) throws(ModelFileError) -> GGUFArray {
    if depth > Self.deepestArray {
      throw ModelFileError(path, "the arrays of metadata key \(quoted(key)) lie more than \(Self.deepestArray) deep")
    }
    let place = "the array of metadata key \(quoted(key))"
    let type = try read(UInt32.self, place)
    let leastBytes: Int
    switch type {
    case 0, 1, 7: leastBytes = 1
    case 2, 3: leastBytes = 2
    case 4, 5, 6: leastBytes = 4
    case 8, 10, 11, 12: leastBytes = 8
    case 9: leastBytes = 12
    default:
      throw ModelFileError(
        path, "the array of metadata key \(quoted(key)) has elements of type \(type), which does not exist")
    }
    let count = try readCount(place, each: leastBytes, of: "elements in metadata key \(quoted(key))", after: 0)
    switch type {
    case 0: return .uint8(readIntegers(count))
    case 1: return .int8(readIntegers(count))
    case 2: return .uint16(readIntegers(count))
    case 3: return .int16(readIntegers(count))
    case 4: return .uint32(readIntegers(count))
    case 5: return .int32(readIntegers(count))
    case 6: return .float32(readIntegers(count).map(Float.init(bitPattern:)))
    case 7:
      var values: [Bool] = []
      for _ in 0..<count { values.append(try readBool(place)) }
      return .bool(values)
    case 8:
      var values: [String] = []
      values.reserveCapacity(count)
      for _ in 0..<count { values.append(String(decoding: try readBytes(place), as: UTF8.self)) }
      return .string(values)
    case 9:
      var values: [GGUFArray] = []
      for _ in 0..<count { values.append(try readArray(key, depth: depth + 1)) }
      return .array(values)
    case 10: return .uint64(readIntegers(count))
    case 11: return .int64(readIntegers(count))
    default: return .float64(readIntegers(count).map(Double.init(bitPattern:)))
    }
  }

  // MARK: Bytes

  private mutating func read<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ place: @autoclosure () -> String
  ) throws(ModelFileError) -> T {
    guard remaining >= MemoryLayout<T>.size else { throw cut(place()) }
    defer { position += MemoryLayout<T>.size }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: T.self))
  }

  private mutating func readBool(_ place: @autoclosure () -> String) throws(ModelFileError) -> Bool {
    let byte = try read(UInt8.self, place())
    if byte > 1 { throw ModelFileError(path, "\(place()) holds the bool \(byte), only 0 and 1 are allowed") }
    return byte == 1
  }

  /// Reads a count that was bounded by the bytes that remain.
  private mutating func readCount(
    _ place: @autoclosure () -> String, each leastBytes: Int, of things: @autoclosure () -> String, after skipped: Int
  ) throws(ModelFileError) -> Int {
    let count = try read(UInt64.self, place())
    guard count <= UInt64(max(0, remaining - skipped) / leastBytes) else {
      throw ModelFileError(
        path, "the file promises \(count) \(things()), but only \(max(0, remaining - skipped)) bytes remain")
    }
    return Int(count)
  }

  /// The integers of an array; their count was bounded before.
  private mutating func readIntegers<T: FixedWidthInteger & BitwiseCopyable>(_ count: Int) -> [T] {
    let source = UnsafeRawBufferPointer(rebasing: bytes[position..<position + count * MemoryLayout<T>.stride])
    position += source.count
    return [T](unsafeUninitializedCapacity: count) { buffer, initialized in
      UnsafeMutableRawBufferPointer(buffer).copyMemory(from: source)
      initialized = count
    }
  }

  /// The bytes of a string.
  private mutating func readBytes(
    _ place: @autoclosure () -> String
  ) throws(ModelFileError) -> UnsafeRawBufferPointer {
    let length = try read(UInt64.self, place())
    guard length <= UInt64(remaining) else {
      throw ModelFileError(path, "\(place()) promises \(length) bytes, but only \(remaining) remain")
    }
    defer { position += Int(length) }
    return UnsafeRawBufferPointer(rebasing: bytes[position..<position + Int(length)])
  }

  /// A key or a tensor's name, which must be UTF-8 and not empty.
  private mutating func readName(_ place: @autoclosure () -> String) throws(ModelFileError) -> String {
    let utf8 = try readBytes(place())
    guard !utf8.isEmpty else { throw ModelFileError(path, "\(place()) is empty") }
    guard let name = String(validating: utf8, as: UTF8.self) else {
      throw ModelFileError(path, "\(place()) is not UTF-8")
    }
    return name
  }

  private func cut(_ place: String) -> ModelFileError {
    ModelFileError(path, "the file ends within \(place); it is truncated, fetch it again")
  }
}

/// A tensor as the header describes it, not yet checked against the rest of the file.
struct GGUFTensorHeader {
  let name: String
  /// In the order of the file: the one that runs fastest first.
  let dimensions: [Int]
  let type: UInt32
  let offset: UInt64
}
