/// How a value is written; the defaults are those of Python's `json.dumps` with `ensure_ascii=False`.
public struct JSONStyle: Sendable {
  /// Spaces per level, each element on its own line; `nil` writes one line.
  public var indent: Int?
  /// What stands between elements.
  public var itemSeparator: String
  /// What stands between a key and its value.
  public var keySeparator: String
  /// Whether keys are written in the order of their Unicode scalars instead of their own.
  public var sortsKeys: Bool
  /// Whether everything beyond ASCII is written as `\uXXXX`.
  public var escapesNonASCII: Bool

  /// Makes a style; without separators they are Python's: `", "`, or `","` before a line break, and `": "`.
  public init(
    indent: Int? = nil, itemSeparator: String? = nil, keySeparator: String = ": ", sortsKeys: Bool = false,
    escapesNonASCII: Bool = false
  ) {
    self.indent = indent
    self.itemSeparator = itemSeparator ?? (indent == nil ? ", " : ",")
    self.keySeparator = keySeparator
    self.sortsKeys = sortsKeys
    self.escapesNonASCII = escapesNonASCII
  }

  /// One line, `", "` and `": "` between.
  public static let line = JSONStyle()
  /// Two spaces per level.
  public static let pretty = JSONStyle(indent: 2)
  /// One line, no spaces.
  public static let compact = JSONStyle(itemSeparator: ",", keySeparator: ":")
}

extension JSONValue {
  /// Writes the value as Python's `json.dumps(ensure_ascii=False)` does, with `indent=2` when pretty.
  public func serialized(pretty: Bool = false) -> String { serialized(pretty ? .pretty : .line) }

  /// Writes the value in a style.
  public func serialized(_ style: JSONStyle) -> String { String(decoding: serializedBytes(style), as: UTF8.self) }

  /// Writes the value in a style, as UTF-8.
  public func serializedBytes(_ style: JSONStyle = .line) -> [UInt8] {
    var writer = JSONWriter(style: style)
    writer.write(self, level: 0)
    return writer.bytes
  }
}

private struct JSONWriter {
  let style: JSONStyle
  var bytes: [UInt8] = []

  init(style: JSONStyle) { self.style = style }

  mutating func write(_ value: JSONValue, level: Int) {
    switch value {
    case .null: append("null")
    case .bool(let value): append(value ? "true" : "false")
    case .integer(let value): append(String(value))
    case .number(let value): append(pythonDescription(value))
    case .string(let value): write(value)
    case .array(let values):
      if values.isEmpty { return append("[]") }
      append("[")
      for (index, value) in values.enumerated() {
        separate(index, level + 1)
        write(value, level: level + 1)
      }
      breakLine(level)
      append("]")
    case .object(let object):
      if object.isEmpty { return append("{}") }
      append("{")
      var entries = Array(object)
      if style.sortsKeys { entries.sort { $0.key.unicodeScalars.lexicographicallyPrecedes($1.key.unicodeScalars) } }
      for (index, entry) in entries.enumerated() {
        separate(index, level + 1)
        write(entry.key)
        append(style.keySeparator)
        write(entry.value, level: level + 1)
      }
      breakLine(level)
      append("}")
    }
  }

  private mutating func separate(_ index: Int, _ level: Int) {
    if index > 0 { append(style.itemSeparator) }
    breakLine(level)
  }

  private mutating func breakLine(_ level: Int) {
    guard let indent = style.indent else { return }
    bytes.append(0x0A)
    bytes.append(contentsOf: repeatElement(0x20, count: max(0, indent) * level))
  }

  private mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

  private mutating func write(_ string: String) {
    bytes.append(UInt8(ascii: "\""))
    if style.escapesNonASCII {
      for unit in string.utf16 {
        if unit < 0x7F { escape(UInt8(unit)) } else { appendUnicode(unit) }
      }
    } else {
      for byte in string.utf8 { escape(byte) }
    }
    bytes.append(UInt8(ascii: "\""))
  }

  @inline(__always)
  private mutating func escape(_ byte: UInt8) {
    switch byte {
    case UInt8(ascii: "\""): append("\\\"")
    case UInt8(ascii: "\\"): append("\\\\")
    case 0x0A: append("\\n")
    case 0x0D: append("\\r")
    case 0x09: append("\\t")
    case 0x08: append("\\b")
    case 0x0C: append("\\f")
    case 0..<0x20: appendUnicode(UInt16(byte))
    default: bytes.append(byte)
    }
  }

  private mutating func appendUnicode(_ unit: UInt16) {
    let digits = String(unit, radix: 16)
    append("\\u" + String(repeating: "0", count: 4 - digits.count) + digits)
  }
}

/// A double in Python's spelling: the shortest digits that read back the same, an exponent below 1e-4 and from 1e16 on.
///
/// JSON has no word for NaN and the infinities: they become `null`.
func pythonDescription(_ value: Double) -> String {
  guard value.isFinite else { return "null" }
  // Swift finds the same shortest digits; only the place of the point differs.
  let parts = value.magnitude.description.split(separator: "e")
  let number = parts[0].split(separator: ".")
  let whole = String(number[0])
  let fraction = number.count > 1 && number[1] != "0" ? String(number[1]) : ""
  // value = 0.DIGITS × 10^point
  var digits = whole + fraction
  var point = whole.count + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
  let leading = digits.prefix { $0 == "0" }.count
  digits.removeFirst(leading)
  point -= leading
  while digits.last == "0" { digits.removeLast() }
  let sign = value.sign == .minus ? "-" : ""
  if digits.isEmpty { return sign + "0.0" }
  if point > 16 || point < -3 {
    let exponent = point - 1
    let rest = digits.dropFirst()
    let mantissa = String(digits.prefix(1)) + (rest.isEmpty ? "" : "." + rest)
    let size = String(exponent.magnitude)
    return "\(sign)\(mantissa)e\(exponent < 0 ? "-" : "+")\(size.count < 2 ? "0" : "")\(size)"
  }
  if point <= 0 { return "\(sign)0.\(String(repeating: "0", count: -point))\(digits)" }
  if point >= digits.count { return "\(sign)\(digits)\(String(repeating: "0", count: point - digits.count)).0" }
  return "\(sign)\(digits.prefix(point)).\(digits.dropFirst(point))"
}
