/// The bytes of a GGUF's header.
enum GGUFEncoding {
  /// A metadata entry: its key, the number of its type, its value.
  static func entry(_ key: String, _ value: GGUFValue) -> [UInt8] { string(key) + encoded(value) }

  /// A text: its length, its bytes.
  static func string(_ text: String) -> [UInt8] { integer(UInt64(text.utf8.count)) + Array(text.utf8) }

  /// An integer, little-endian.
  static func integer(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  /// The number of a value's type and its bytes.
  private static func encoded(_ value: GGUFValue) -> [UInt8] {
    func typed(_ type: UInt32, _ bytes: [UInt8]) -> [UInt8] { integer(type) + bytes }
    switch value {
    case .uint8(let value): return typed(0, integer(value))
    case .int8(let value): return typed(1, integer(value))
    case .uint16(let value): return typed(2, integer(value))
    case .int16(let value): return typed(3, integer(value))
    case .uint32(let value): return typed(4, integer(value))
    case .int32(let value): return typed(5, integer(value))
    case .float32(let value): return typed(6, integer(value.bitPattern))
    case .bool(let value): return typed(7, [value ? 1 : 0])
    case .string(let value): return typed(8, string(value))
    case .array(let array): return typed(9, encoded(array))
    case .uint64(let value): return typed(10, integer(value))
    case .int64(let value): return typed(11, integer(value))
    case .float64(let value): return typed(12, integer(value.bitPattern))
    }
  }

  private static func encoded(_ array: GGUFArray) -> [UInt8] {
    func typed(_ type: UInt32, _ bytes: [UInt8]) -> [UInt8] {
      integer(type) + integer(UInt64(array.count)) + bytes
    }
    switch array {
    case .uint8(let values): return typed(0, values)
    case .int8(let values): return typed(1, values.flatMap(integer))
    case .uint16(let values): return typed(2, values.flatMap(integer))
    case .int16(let values): return typed(3, values.flatMap(integer))
    case .uint32(let values): return typed(4, values.flatMap(integer))
    case .int32(let values): return typed(5, values.flatMap(integer))
    case .float32(let values): return typed(6, values.flatMap { integer($0.bitPattern) })
    case .bool(let values): return typed(7, values.map { $0 ? 1 : 0 })
    case .string(let values): return typed(8, values.flatMap(string))
    case .array(let values): return typed(9, values.flatMap(encoded))
    case .uint64(let values): return typed(10, values.flatMap(integer))
    case .int64(let values): return typed(11, values.flatMap(integer))
    case .float64(let values): return typed(12, values.flatMap { integer($0.bitPattern) })
    }
  }
}
