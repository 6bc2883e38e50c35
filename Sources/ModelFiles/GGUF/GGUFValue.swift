/// A value of a GGUF's metadata, in the type that the file gives it.
public enum GGUFValue: Sendable, Equatable {
  /// An integer of 8 bits.
  case uint8(UInt8), int8(Int8)
  /// An integer of 16 bits.
  case uint16(UInt16), int16(Int16)
  /// An integer of 32 bits.
  case uint32(UInt32), int32(Int32)
  /// An integer of 64 bits.
  case uint64(UInt64), int64(Int64)
  /// A floating-point number.
  case float32(Float), float64(Double)
  /// A truth value.
  case bool(Bool)
  /// A text; bytes that are not UTF-8 became U+FFFD.
  case string(String)
  /// A list.
  case array(GGUFArray)

  /// The value of any integer that an `Int` holds.
  public var integer: Int? {
    switch self {
    case .uint8(let value): Int(value)
    case .int8(let value): Int(value)
    case .uint16(let value): Int(value)
    case .int16(let value): Int(value)
    case .uint32(let value): Int(value)
    case .int32(let value): Int(value)
    case .uint64(let value): Int(exactly: value)
    case .int64(let value): Int(value)
    default: nil
    }
  }

  /// The value of a number; one of 32 bits becomes the double with the same shortest decimal spelling.
  public var double: Double? {
    switch self {
    // 1e-5 in 32 bits means 1e-5, not 0.00000999999974737875.
    case .float32(let value): Double(value.description) ?? Double(value)
    case .float64(let value): value
    default: integer.map(Double.init)
    }
  }

  /// The value of a truth value.
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }

  /// The text of a string.
  public var string: String? { if case .string(let value) = self { value } else { nil } }

  /// The elements of a list.
  public var array: GGUFArray? { if case .array(let value) = self { value } else { nil } }

  /// The name of the type, for messages.
  public var typeName: String {
    switch self {
    case .uint8: "uint8"
    case .int8: "int8"
    case .uint16: "uint16"
    case .int16: "int16"
    case .uint32: "uint32"
    case .int32: "int32"
    case .uint64: "uint64"
    case .int64: "int64"
    case .float32: "float32"
    case .float64: "float64"
    case .bool: "bool"
    case .string: "string"
    case .array(let array): "array of \(array.elementTypeName)"
    }
  }
}

/// A list of a GGUF's metadata; all elements have one type.
public enum GGUFArray: Sendable, Equatable {
  /// Integers of 8 bits.
  case uint8([UInt8]), int8([Int8])
  /// Integers of 16 bits.
  case uint16([UInt16]), int16([Int16])
  /// Integers of 32 bits.
  case uint32([UInt32]), int32([Int32])
  /// Integers of 64 bits.
  case uint64([UInt64]), int64([Int64])
  /// Floating-point numbers.
  case float32([Float]), float64([Double])
  /// Truth values.
  case bool([Bool])
  /// Texts.
  case string([String])
  /// Lists.
  case array([GGUFArray])

  /// The number of elements.
  public var count: Int {
    switch self {
    case .uint8(let values): values.count
    case .int8(let values): values.count
    case .uint16(let values): values.count
    case .int16(let values): values.count
    case .uint32(let values): values.count
    case .int32(let values): values.count
    case .uint64(let values): values.count
    case .int64(let values): values.count
    case .float32(let values): values.count
    case .float64(let values): values.count
    case .bool(let values): values.count
    case .string(let values): values.count
    case .array(let values): values.count
    }
  }

  /// The texts of a list of strings.
  public var strings: [String]? { if case .string(let values) = self { values } else { nil } }

  /// The values of a list of integers of any width; `nil` also when one exceeds an `Int`.
  public var integers: [Int]? {
    switch self {
    case .uint8(let values): values.map(Int.init)
    case .int8(let values): values.map(Int.init)
    case .uint16(let values): values.map(Int.init)
    case .int16(let values): values.map(Int.init)
    case .uint32(let values): values.map(Int.init)
    case .int32(let values): values.map(Int.init)
    case .uint64(let values): values.allSatisfy { $0 <= UInt64(Int.max) } ? values.map(Int.init) : nil
    case .int64(let values): values.map(Int.init)
    default: nil
    }
  }

  /// The values of a list of floating-point numbers.
  public var floats: [Float]? {
    switch self {
    case .float32(let values): values
    case .float64(let values): values.map(Float.init)
    default: nil
    }
  }

  /// The name of the elements' type, for messages.
  public var elementTypeName: String {
    switch self {
    case .uint8: "uint8"
    case .int8: "int8"
    case .uint16: "uint16"
    case .int16: "int16"
    case .uint32: "uint32"
    case .int32: "int32"
    case .uint64: "uint64"
    case .int64: "int64"
    case .float32: "float32"
    case .float64: "float64"
    case .bool: "bool"
    case .string: "string"
    case .array: "array"
    }
  }
}
