/// A whole number that no `Int` holds, as Python's integers may be.
struct BigInteger: Equatable, Sendable {
  /// 32 bits each, the lowest first; no zero at the end.
  private var words: [UInt32]
  private(set) var isNegative: Bool

  /// Words that a number may have: more digits than Python agrees to write.
  private static let maximumWords = 500

  private init(_ words: [UInt32], isNegative: Bool) {
    var words = words
    while words.last == 0 { words.removeLast() }
    self.words = words
    self.isNegative = isNegative && !words.isEmpty
  }

  init(_ value: Int) {
    let magnitude = value.magnitude
    self.init([UInt32(truncatingIfNeeded: magnitude), UInt32(magnitude >> 32)], isNegative: value < 0)
  }

  /// Reads digits; `nil` when there is anything else, or too much.
  init?(_ digits: some StringProtocol, radix: UInt32 = 10) {
    var words: [UInt32] = []
    var isNegative = false
    var count = 0
    for (index, byte) in digits.utf8.enumerated() {
      if index == 0, byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") {
        isNegative = byte == UInt8(ascii: "-")
        continue
      }
      let digit: UInt32
      switch byte {
      case 0x30...0x39: digit = UInt32(byte) - 0x30
      case 0x41...0x5A: digit = UInt32(byte) - 0x41 + 10
      case 0x61...0x7A: digit = UInt32(byte) - 0x61 + 10
      default: return nil
      }
      guard digit < radix, words.count <= Self.maximumWords else { return nil }
      var carry = UInt64(digit)
      for index in words.indices {
        carry += UInt64(words[index]) * UInt64(radix)
        words[index] = UInt32(truncatingIfNeeded: carry)
        carry >>= 32
      }
      if carry > 0 { words.append(UInt32(carry)) }
      count += 1
    }
    if count == 0 { return nil }
    self.init(words, isNegative: isNegative)
  }

  /// The whole part of a finite number.
  init?(_ value: Double) {
    guard value.isFinite else { return nil }
    self.init(PythonFormat.fixed(value.rounded(.towardZero), 0))
  }

  /// The number as an `Int`, if it fits.
  var int: Int? {
    guard words.count <= 2 else { return nil }
    let magnitude = UInt(words.first ?? 0) | (words.count > 1 ? UInt(words[1]) << 32 : 0)
    if isNegative { return magnitude <= UInt(Int.max) + 1 ? Int(truncatingIfNeeded: 0 &- magnitude) : nil }
    return Int(exactly: magnitude)
  }

  /// The nearest `Double`; infinite beyond its range.
  var double: Double { Double(digits()) ?? .nan }

  /// The value that a template sees.
  func value(at location: SourceLocation) throws(TemplateError) -> TemplateValue {
    if let int { return .integer(int) }
    guard words.count <= Self.maximumWords else { throw TemplateError("the number is too large", at: location) }
    return .big(self)
  }

  /// The digits of the magnitude.
  func magnitude(radix: UInt32 = 10) -> String {
    if words.isEmpty { return "0" }
    var rest = words
    var digits: [UInt8] = []
    while !rest.isEmpty {
      var remainder: UInt64 = 0
      for index in rest.indices.reversed() {
        let part = remainder << 32 | UInt64(rest[index])
        rest[index] = UInt32(part / UInt64(radix))
        remainder = part % UInt64(radix)
      }
      digits.append(UInt8(remainder < 10 ? 0x30 + remainder : 0x61 + remainder - 10))
      while rest.last == 0 { rest.removeLast() }
    }
    return String(decoding: digits.reversed(), as: UTF8.self)
  }

  private func digits() -> String { (isNegative ? "-" : "") + magnitude() }

  /// Python's `str`, which refuses more than 4300 digits.
  func text(at location: SourceLocation) throws(TemplateError) -> String {
    let magnitude = magnitude()
    guard magnitude.utf8.count <= 4300 else { throw TemplateError("the number is too large to write", at: location) }
    return (isNegative ? "-" : "") + magnitude
  }

  var negated: BigInteger { BigInteger(words, isNegative: !isNegative) }

  // MARK: Arithmetic

  private static func isLess(_ a: [UInt32], _ b: [UInt32]) -> Bool {
    if a.count != b.count { return a.count < b.count }
    for (x, y) in zip(a.reversed(), b.reversed()) where x != y { return x < y }
    return false
  }

  private static func sum(_ a: [UInt32], _ b: [UInt32]) -> [UInt32] {
    var result: [UInt32] = []
    var carry: UInt64 = 0
    for index in 0..<max(a.count, b.count) {
      carry += UInt64(index < a.count ? a[index] : 0) + UInt64(index < b.count ? b[index] : 0)
      result.append(UInt32(truncatingIfNeeded: carry))
      carry >>= 32
    }
    return carry > 0 ? result + [UInt32(carry)] : result
  }

  /// `a - b`, where `a` is not the smaller.
  private static func difference(_ a: [UInt32], _ b: [UInt32]) -> [UInt32] {
    var result = a
    var borrow: Int64 = 0
    for index in a.indices {
      var part = Int64(a[index]) - (index < b.count ? Int64(b[index]) : 0) - borrow
      borrow = part < 0 ? 1 : 0
      if part < 0 { part += 1 << 32 }
      result[index] = UInt32(part)
    }
    return result
  }

  static func < (a: BigInteger, b: BigInteger) -> Bool {
    if a.isNegative != b.isNegative { return a.isNegative }
    return a.isNegative ? isLess(b.words, a.words) : isLess(a.words, b.words)
  }

  static func + (a: BigInteger, b: BigInteger) -> BigInteger {
    if a.isNegative == b.isNegative { return BigInteger(sum(a.words, b.words), isNegative: a.isNegative) }
    if isLess(a.words, b.words) { return BigInteger(difference(b.words, a.words), isNegative: b.isNegative) }
    return BigInteger(difference(a.words, b.words), isNegative: a.isNegative)
  }

  static func - (a: BigInteger, b: BigInteger) -> BigInteger { a + b.negated }

  static func * (a: BigInteger, b: BigInteger) -> BigInteger {
    var result = [UInt32](repeating: 0, count: a.words.count + b.words.count)
    for (i, x) in a.words.enumerated() {
      var carry: UInt64 = 0
      for (j, y) in b.words.enumerated() {
        carry += UInt64(x) * UInt64(y) + UInt64(result[i + j])
        result[i + j] = UInt32(truncatingIfNeeded: carry)
        carry >>= 32
      }
      result[i + b.words.count] = UInt32(carry)
    }
    return BigInteger(result, isNegative: a.isNegative != b.isNegative)
  }

  /// Quotient and remainder, both rounded as Python does: the quotient down.
  ///
  /// The divisor is not zero.
  func dividedDown(by divisor: BigInteger) -> (quotient: BigInteger, remainder: BigInteger) {
    var quotient = [UInt32](repeating: 0, count: words.count)
    var rest: [UInt32] = []
    for index in words.indices.reversed() {
      for bit in (0..<32).reversed() {
        // One bit of the dividend at a time: numbers are short.
        var carry = words[index] >> UInt32(bit) & 1
        for place in rest.indices {
          let next = rest[place] >> 31
          rest[place] = rest[place] << 1 | carry
          carry = next
        }
        if carry > 0 { rest.append(carry) }
        if !Self.isLess(rest, divisor.words) {
          rest = Self.difference(rest, divisor.words)
          while rest.last == 0 { rest.removeLast() }
          quotient[index] |= 1 << UInt32(bit)
        }
      }
    }
    let down = BigInteger(quotient, isNegative: isNegative != divisor.isNegative)
    let remainder = BigInteger(rest, isNegative: isNegative)
    if rest.isEmpty || isNegative == divisor.isNegative { return (down, remainder) }
    return (down - BigInteger(1), remainder + divisor)
  }

  /// How many bits the magnitude has.
  var bitWidth: Int { words.last.map { words.count * 32 - $0.leadingZeroBitCount } ?? 0 }

  /// The power; `nil` when it would be far too large.
  func power(_ exponent: Int) -> BigInteger? {
    var result = BigInteger(1)
    var (base, rest) = (self, exponent)
    while rest > 0 {
      if rest & 1 == 1 { result = result * base }
      rest >>= 1
      if result.words.count > Self.maximumWords { return nil }
      guard rest > 0 else { break }
      base = base * base
      if base.words.count > Self.maximumWords { return nil }
    }
    return result
  }
}
