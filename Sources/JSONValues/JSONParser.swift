extension JSONValue {
  /// Parses a JSON text.
  public static func parse(
    _ text: String, options: JSONParsingOptions = .init()
  ) throws(JSONError) -> JSONValue {
    var text = text
    let result: Result<JSONValue, JSONError> = text.withUTF8 { utf8 in
      Result { () throws(JSONError) in try parse(UnsafeRawBufferPointer(utf8), options: options) }
    }
    return try result.get()
  }

  /// Parses a JSON text in UTF-8.
  public static func parse(_ bytes: [UInt8], options: JSONParsingOptions = .init()) throws(JSONError) -> JSONValue {
    let result: Result<JSONValue, JSONError> = bytes.withUnsafeBytes { bytes in
      Result { () throws(JSONError) in try parse(bytes, options: options) }
    }
    return try result.get()
  }

  /// Parses a JSON text in UTF-8; a byte-order mark before it is skipped.
  public static func parse(
    _ bytes: UnsafeRawBufferPointer, options: JSONParsingOptions = .init()
  ) throws(JSONError) -> JSONValue {
    var parser = JSONParser(bytes: bytes.bindMemory(to: UInt8.self), options: options)
    return try parser.parseDocument()
  }
}

/// A recursive descent over bytes.
///
/// `position` never passes `bytes.count`; every read goes through a bounds check.
private struct JSONParser {
  let bytes: UnsafeBufferPointer<UInt8>
  let options: JSONParsingOptions
  var position = 0
  var depth = 0
  var scratch: [UInt8] = []

  init(bytes: UnsafeBufferPointer<UInt8>, options: JSONParsingOptions) {
    self.bytes = bytes
    self.options = options
  }

  // MARK: Structure

  mutating func parseDocument() throws(JSONError) -> JSONValue {
    if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF { position = 3 }
    if bytes.count >= 2, bytes[0] == 0xFF && bytes[1] == 0xFE || bytes[0] == 0xFE && bytes[1] == 0xFF {
      throw error("the text is UTF-16; save it as UTF-8")
    }
    skipSpace()
    if position == bytes.count { throw error("the text is empty, a JSON value was expected") }
    let value = try parseValue()
    skipSpace()
    if position < bytes.count { throw error("\(shown(position)) after the end of the JSON value") }
    return value
  }

  private mutating func parseValue() throws(JSONError) -> JSONValue {
    guard position < bytes.count else { throw error("the text ends where a value was expected") }
    switch bytes[position] {
    case UInt8(ascii: "\""): return .string(try parseString())
    case UInt8(ascii: "{"): return try parseObject()
    case UInt8(ascii: "["): return try parseArray()
    case UInt8(ascii: "t") where skip("true"): return .bool(true)
    case UInt8(ascii: "f") where skip("false"): return .bool(false)
    case UInt8(ascii: "n") where skip("null"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try parseNumber()
    case UInt8(ascii: "N") where skip("NaN"): throw notFinite("NaN")
    case UInt8(ascii: "I") where skip("Infinity"): throw notFinite("Infinity")
    default: throw error("\(shown(position)) where a value was expected")
    }
  }

  private mutating func parseObject() throws(JSONError) -> JSONValue {
    try enter()
    var object = JSONObject()
    position += 1
    skipSpace()
    if take(UInt8(ascii: "}")) {
      depth -= 1
      return .object(object)
    }
    while true {
      guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
        throw error("\(shown(position)) where a key in double quotes was expected")
      }
      let keyPosition = position
      let key = try parseString()
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw error("\(shown(position)) where ':' was expected after a key") }
      skipSpace()
      let value = try parseValue()
      if !object.set(key, to: value), options.refusesDuplicateKeys {
        throw error("the key \(quoted(key)) appears twice in one object", at: keyPosition)
      }
      skipSpace()
      if take(UInt8(ascii: ",")) {
        skipSpace()
      } else if take(UInt8(ascii: "}")) {
        depth -= 1
        return .object(object)
      } else {
        throw error("\(shown(position)) where ',' or '}' was expected")
      }
    }
  }

  private mutating func parseArray() throws(JSONError) -> JSONValue {
    try enter()
    var values: [JSONValue] = []
    position += 1
    skipSpace()
    if take(UInt8(ascii: "]")) {
      depth -= 1
      return .array(values)
    }
    while true {
      values.append(try parseValue())
      skipSpace()
      if take(UInt8(ascii: ",")) {
        skipSpace()
      } else if take(UInt8(ascii: "]")) {
        depth -= 1
        return .array(values)
      } else {
        throw error("\(shown(position)) where ',' or ']' was expected")
      }
    }
  }

  private mutating func enter() throws(JSONError) {
    depth += 1
    if depth > options.maximumDepth {
      throw error("arrays and objects lie more than \(options.maximumDepth) deep within each other")
    }
  }

  // MARK: Strings

  /// Parses the string whose opening quote is at `position`.
  private mutating func parseString() throws(JSONError) -> String {
    let start = position + 1
    var end = start
    var ascii: UInt8 = 0
    while end < bytes.count {
      let byte = bytes[end]
      if byte == UInt8(ascii: "\"") {
        position = end + 1
        return try text(start..<end, isASCII: ascii < 0x80)
      }
      if byte == UInt8(ascii: "\\") { return try parseEscapedString(from: start, firstEscape: end) }
      if byte < 0x20 { throw control(at: end) }
      ascii |= byte
      end += 1
    }
    throw error("this string has no closing quote", at: position)
  }

  private mutating func parseEscapedString(from start: Int, firstEscape: Int) throws(JSONError) -> String {
    let opening = position
    scratch.removeAll(keepingCapacity: true)
    var copied = start
    var end = firstEscape
    while end < bytes.count {
      let byte = bytes[end]
      if byte == UInt8(ascii: "\"") {
        try append(copied..<end)
        position = end + 1
        return String(decoding: scratch, as: UTF8.self)
      }
      if byte == UInt8(ascii: "\\") {
        try append(copied..<end)
        end = try appendEscape(at: end)
        copied = end
      } else if byte < 0x20 {
        throw control(at: end)
      } else {
        end += 1
      }
    }
    throw error("this string has no closing quote", at: opening)
  }

  private mutating func append(_ range: Range<Int>) throws(JSONError) {
    if let bad = invalidUTF8(range) { throw error("this byte is not UTF-8", at: bad) }
    scratch.append(contentsOf: bytes[range])
  }

  /// Appends what the escape at an index stands for; returns the index after it.
  private mutating func appendEscape(at index: Int) throws(JSONError) -> Int {
    guard index + 1 < bytes.count else { throw error("the text ends within an escape", at: index) }
    switch bytes[index + 1] {
    case UInt8(ascii: "\""): scratch.append(UInt8(ascii: "\""))
    case UInt8(ascii: "\\"): scratch.append(UInt8(ascii: "\\"))
    case UInt8(ascii: "/"): scratch.append(UInt8(ascii: "/"))
    case UInt8(ascii: "b"): scratch.append(0x08)
    case UInt8(ascii: "f"): scratch.append(0x0C)
    case UInt8(ascii: "n"): scratch.append(0x0A)
    case UInt8(ascii: "r"): scratch.append(0x0D)
    case UInt8(ascii: "t"): scratch.append(0x09)
    case UInt8(ascii: "u"): return try appendUnicodeEscape(at: index)
    default: throw error("a backslash before \(name(of: bytes[index + 1])) is no escape", at: index)
    }
    return index + 2
  }

  private mutating func appendUnicodeEscape(at index: Int) throws(JSONError) -> Int {
    let first = try codeUnit(at: index)
    var (scalar, next) = (first, index + 6)
    switch first {
    case 0xD800..<0xDC00:
      guard next + 1 < bytes.count, bytes[next] == UInt8(ascii: "\\"), bytes[next + 1] == UInt8(ascii: "u") else {
        throw error("a lone surrogate: the second half of its pair is missing", at: index)
      }
      let second = try codeUnit(at: next)
      guard (0xDC00..<0xE000).contains(second) else {
        throw error("a lone surrogate: the second half of its pair is missing", at: index)
      }
      scalar = 0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)
      next += 6
    case 0xDC00..<0xE000:
      throw error("a lone surrogate: the first half of its pair is missing", at: index)
    default: break
    }
    if let character = Unicode.Scalar(scalar) { scratch.append(contentsOf: String(Character(character)).utf8) }
    return next
  }

  /// The four hexadecimal digits after the `\u` at an index.
  private func codeUnit(at index: Int) throws(JSONError) -> UInt32 {
    guard index + 6 <= bytes.count else { throw error("the text ends within an escape", at: index) }
    var unit: UInt32 = 0
    for digit in bytes[(index + 2)..<(index + 6)] {
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): unit = unit << 4 | UInt32(digit - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "f"): unit = unit << 4 | UInt32(digit - UInt8(ascii: "a") + 10)
      case UInt8(ascii: "A")...UInt8(ascii: "F"): unit = unit << 4 | UInt32(digit - UInt8(ascii: "A") + 10)
      default: throw error("\\u needs four hexadecimal digits", at: index)
      }
    }
    return unit
  }

  private func text(_ range: Range<Int>, isASCII: Bool) throws(JSONError) -> String {
    if !isASCII, let bad = invalidUTF8(range) { throw error("this byte is not UTF-8", at: bad) }
    return String(decoding: UnsafeBufferPointer(rebasing: bytes[range]), as: UTF8.self)
  }

  /// The index of the first byte in a range that is not well-formed UTF-8.
  private func invalidUTF8(_ range: Range<Int>) -> Int? {
    var index = range.lowerBound
    while index < range.upperBound {
      let lead = bytes[index]
      if lead < 0x80 {
        index += 1
        continue
      }
      // How many bytes follow, and what the first of them may be (no overlong form, no surrogate, nothing past 10FFFF).
      let (count, second): (Int, ClosedRange<UInt8>)
      switch lead {
      case 0xC2...0xDF: (count, second) = (1, 0x80...0xBF)
      case 0xE0: (count, second) = (2, 0xA0...0xBF)
      case 0xED: (count, second) = (2, 0x80...0x9F)
      case 0xE1...0xEF: (count, second) = (2, 0x80...0xBF)
      case 0xF0: (count, second) = (3, 0x90...0xBF)
      case 0xF1...0xF3: (count, second) = (3, 0x80...0xBF)
      case 0xF4: (count, second) = (3, 0x80...0x8F)
      default: return index
      }
      guard index + count < range.upperBound, second.contains(bytes[index + 1]) else { return index }
      for offset in 1...count where bytes[index + offset] & 0xC0 != 0x80 { return index }
      index += count + 1
    }
    return nil
  }

  // MARK: Numbers

  private mutating func parseNumber() throws(JSONError) -> JSONValue {
    let start = position
    let negative = take(UInt8(ascii: "-"))
    if negative, position < bytes.count, bytes[position] == UInt8(ascii: "I"), skip("Infinity") {
      throw notFinite("-Infinity")
    }
    // Up to 19 digits fit in the mantissa; more are left to the slow path.
    var (mantissa, digits, exponent): (UInt64, Int, Int) = (0, 0, 0)
    let firstDigit = position
    readDigits(&mantissa, &digits)
    if digits == 0 { throw error("\(shown(position)) where a digit was expected") }
    if position - firstDigit > 1, bytes[firstDigit] == UInt8(ascii: "0") {
      throw error("a number may not start with 0 before other digits", at: start)
    }
    var isInteger = true
    if take(UInt8(ascii: ".")) {
      isInteger = false
      let before = position
      readDigits(&mantissa, &digits)
      if position == before { throw error("\(shown(position)) where a digit was expected after '.'") }
      exponent = before - position
    }
    if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      position += 1
      let minus = take(UInt8(ascii: "-"))
      if !minus { _ = take(UInt8(ascii: "+")) }
      var (written, count): (UInt64, Int) = (0, 0)
      readDigits(&written, &count)
      if count == 0 { throw error("\(shown(position)) where a digit of the exponent was expected") }
      let bounded = count > 18 ? 1_000_000 : Int(min(written, 1_000_000))
      exponent += minus ? -bounded : bounded
    }
    if isInteger, digits <= 19 {
      if !negative, mantissa <= UInt64(Int.max) { return .integer(Int(mantissa)) }
      if negative, mantissa <= UInt64(Int.max) + 1 { return .integer(Int(truncatingIfNeeded: 0 &- mantissa)) }
    }
    return .number(try double(mantissa, digits, exponent, negative, text: start..<position))
  }

  private mutating func readDigits(_ value: inout UInt64, _ count: inout Int) {
    while position < bytes.count {
      let digit = bytes[position] &- UInt8(ascii: "0")
      if digit > 9 { return }
      value = value &* 10 &+ UInt64(digit)
      // Zeros before the first other digit do not count; `value` itself may wrap to zero once there are too many digits.
      if count != 1 || value != 0 { count += 1 }
      position += 1
    }
  }

  private func double(
    _ mantissa: UInt64, _ digits: Int, _ exponent: Int, _ negative: Bool, text: Range<Int>
  ) throws(JSONError) -> Double {
    // Both factors are exact, so that one rounding gives the nearest double (Clinger's fast path).
    if digits <= 19, mantissa < 1 << 53, abs(exponent) <= 22 {
      let magnitude = Double(mantissa)
      let value = exponent < 0 ? magnitude / Self.powers[-exponent] : magnitude * Self.powers[exponent]
      return negative ? -value : value
    }
    let written = String(decoding: UnsafeBufferPointer(rebasing: bytes[text]), as: UTF8.self)
    guard let value = Double(written), value.isFinite else {
      throw error("this number is too large for a 64-bit float", at: text.lowerBound)
    }
    return value
  }

  private static let powers: [Double] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
  ]

  // MARK: Bytes

  private mutating func skipSpace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      default: return
      }
    }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }

  private mutating func skip(_ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard bytes.count - position >= count else { return false }
    for offset in 0..<count where bytes[position + offset] != word.utf8Start[offset] { return false }
    position += count
    return true
  }

  // MARK: Errors

  private func notFinite(_ word: String) -> JSONError {
    error("\(word) is not JSON; a number must be finite", at: position - word.utf8.count)
  }

  private func control(at index: Int) -> JSONError {
    if bytes[index] == 0x0A { return error("a line break within a string; write \\n", at: index) }
    return error("a control character within a string; write it as an escape", at: index)
  }

  private func error(_ message: String, at index: Int? = nil) -> JSONError {
    let index = min(index ?? position, bytes.count)
    var (line, lineStart) = (1, bytes.count >= 3 && bytes[0] == 0xEF && bytes[1] == 0xBB && bytes[2] == 0xBF ? 3 : 0)
    for (offset, byte) in bytes[..<index].enumerated() where byte == 0x0A { (line, lineStart) = (line + 1, offset + 1) }
    // Bytes that continue a character do not count as a column.
    let column = lineStart < index ? bytes[lineStart..<index].count { $0 & 0xC0 != 0x80 } : 0
    return JSONError(line: line, column: column + 1, message: message)
  }

  /// What stands at an index, for messages.
  private func shown(_ index: Int) -> String {
    index < bytes.count ? "\(name(of: bytes[index])) stands" : "the text ends"
  }

  private func name(of byte: UInt8) -> String {
    switch byte {
    case UInt8(ascii: "'"): return "a single quote"
    case 0x20, 0x0A, 0x0D, 0x09: return "a space or line break"
    case 0x21..<0x7F: return "'\(Character(Unicode.Scalar(byte)))'"
    case 0x80...: return "a character that is not ASCII"
    default: return "the control character \(byte)"
    }
  }

  private func quoted(_ key: String) -> String {
    JSONValue.string(key.count > 60 ? String(key.prefix(60)) + "…" : key).serialized()
  }
}
