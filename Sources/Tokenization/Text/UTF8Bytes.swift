/// Reading Unicode scalars out of bytes that are known to be UTF-8.
enum UTF8Bytes {
  /// The length of the scalar whose first byte this is.
  @inline(__always)
  static func length(_ first: UInt8) -> Int {
    first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
  }

  /// The scalar that starts at `index`, and its length.
  @inline(__always)
  static func scalar(
    _ bytes: UnsafePointer<UInt8>, _ index: Int, _ count: Int
  ) -> (scalar: Unicode.Scalar, length: Int) {
    let first = bytes[index]
    if first < 0x80 { return (Unicode.Scalar(first), 1) }
    let length = min(Self.length(first), count - index)
    var value = UInt32(first) & (0x7F >> UInt32(length))
    for offset in 1..<max(length, 1) { value = value << 6 | UInt32(bytes[index + offset] & 0x3F) }
    return (Unicode.Scalar(value) ?? "\u{FFFD}", length)
  }

  /// Where the scalar before `index` starts.
  @inline(__always)
  static func before(_ bytes: UnsafePointer<UInt8>, _ index: Int) -> Int {
    var start = index - 1
    while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
    return start
  }
}

extension Unicode.Scalar {
  /// Whether Unicode counts this among white space (White_Space).
  var isWhiteSpace: Bool {
    switch value {
    case 0x09...0x0D, 0x20: true
    case 0..<0x80: false
    default: properties.isWhitespace
    }
  }

  /// Whether this is a number of any kind (Nd, Nl, No).
  var isNumeric: Bool {
    if value < 0x80 { return value >= 0x30 && value <= 0x39 }
    switch properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: return true
    default: return false
    }
  }

  /// Whether this is part of a word: a letter, mark, digit, connector, or joiner.
  var isWord: Bool {
    if value < 0x80 {
      return (value >= 0x61 && value <= 0x7A) || (value >= 0x41 && value <= 0x5A) || (value >= 0x30 && value <= 0x39)
        || value == 0x5F
    }
    if properties.isAlphabetic || value == 0x200C || value == 0x200D { return true }
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
    default: return false
    }
  }

  /// Whether this is punctuation: ASCII's, or of one of Unicode's punctuation categories.
  var isPunctuation: Bool {
    switch value {
    case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: return true
    case 0..<0x80: return false
    default: break
    }
    switch properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation:
      return true
    default: return false
    }
  }
}
