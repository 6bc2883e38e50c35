import Glibc

/// Python's ways with text and with writing values as text.
enum PythonText {
  /// Whether two strings are the same characters (Swift's `==` also equates other spellings of the same characters).
  static func isSame(_ a: String, _ b: String) -> Bool {
    a.utf8.count == b.utf8.count && a.utf8.elementsEqual(b.utf8)
  }

  /// What `str.isspace` and a pattern's `\s` take for white space.
  static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0: true
    case 0..<0x1680: false
    case 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
    default: false
    }
  }

  /// Makes a string of characters.
  static func string(_ scalars: some Sequence<Unicode.Scalar>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return String(view)
  }

  /// `repr` of a string.
  static func repr(_ text: String) -> String {
    let quote: Unicode.Scalar =
      text.unicodeScalars.contains("'") && !text.unicodeScalars.contains("\"") ? "\"" : "'"
    var result = String.UnicodeScalarView()
    result.append(quote)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result.append(contentsOf: "\\\\".unicodeScalars)
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case quote:
        result.append("\\")
        result.append(quote)
      default:
        if isPrintable(scalar) {
          result.append(scalar)
        } else {
          let (prefix, digits) = scalar.value < 0x100 ? ("\\x", 2) : scalar.value < 0x10000 ? ("\\u", 4) : ("\\U", 8)
          result.append(contentsOf: (prefix + hexadecimal(scalar.value, digits)).unicodeScalars)
        }
      }
    }
    result.append(quote)
    return String(result)
  }

  /// `ascii` of a text that `repr` made: what is not ASCII is escaped.
  static func ascii(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      if scalar.isASCII {
        result.unicodeScalars.append(scalar)
      } else {
        let (prefix, digits) = scalar.value < 0x100 ? ("\\x", 2) : scalar.value < 0x10000 ? ("\\u", 4) : ("\\U", 8)
        result += prefix + hexadecimal(scalar.value, digits)
      }
    }
    return result
  }

  static func hexadecimal(_ value: UInt32, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
  }

  /// What `str.isprintable` takes for printable, and `repr` writes as it is.
  static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.value < 0x80 { return scalar.value >= 0x20 && scalar.value < 0x7F }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator, .spaceSeparator:
      return false
    default: return true
    }
  }

  /// `repr` of a float: the shortest digits, an exponent from 1e16 on and below 1e-4.
  static func repr(_ value: Double) -> String {
    if value.isNaN { return "nan" }
    if value.isInfinite { return value < 0 ? "-inf" : "inf" }
    if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
    var (digits, exponent) = decimal(value)
    let sign = value < 0 ? "-" : ""
    // `exponent` is that of the first digit.
    if exponent < -4 || exponent >= 16 {
      let first = digits.removeFirst()
      let fraction = digits.isEmpty ? "" : "." + digits
      let size = abs(exponent)
      return "\(sign)\(first)\(fraction)e\(exponent < 0 ? "-" : "+")\(size < 10 ? "0" : "")\(size)"
    }
    if exponent < 0 { return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits }
    if digits.count <= exponent + 1 {
      return sign + digits + String(repeating: "0", count: exponent + 1 - digits.count) + ".0"
    }
    let point = digits.index(digits.startIndex, offsetBy: exponent + 1)
    return sign + digits[..<point] + "." + digits[point...]
  }

  /// The shortest digits of a number, and the power of ten of the first.
  private static func decimal(_ value: Double) -> (digits: String, exponent: Int) {
    var text = Substring(value.magnitude.description)
    var exponent = 0
    if let mark = text.firstIndex(of: "e") {
      exponent = Int(text[text.index(after: mark)...]) ?? 0
      text = text[..<mark]
    }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    var digits = String(parts[0]) + (parts.count > 1 ? String(parts[1]) : "")
    exponent += parts[0].count - 1
    while digits.count > 1, digits.hasPrefix("0") {
      digits.removeFirst()
      exponent -= 1
    }
    while digits.count > 1, digits.hasSuffix("0") { digits.removeLast() }
    return (digits, exponent)
  }

  /// Removes characters from the ends; `nil` removes white space.
  static func strip(_ text: String, _ characters: String?, left: Bool = true, right: Bool = true) -> String {
    let set = characters.map { Set($0.unicodeScalars) }
    func goes(_ scalar: Unicode.Scalar) -> Bool { set?.contains(scalar) ?? isSpace(scalar) }
    let scalars = text.unicodeScalars
    var (start, end) = (scalars.startIndex, scalars.endIndex)
    while left, start < end, goes(scalars[start]) { start = scalars.index(after: start) }
    while right, start < end, goes(scalars[scalars.index(before: end)]) { end = scalars.index(before: end) }
    return String(scalars[start..<end])
  }

  /// Where `needle` begins in bytes, from `start` on; in time that grows with both lengths' sum.
  static func find(_ needle: [UInt8], in text: [UInt8], from start: Int = 0) -> Int? {
    guard start <= text.count else { return nil }
    guard let first = needle.first else { return start }
    if needle.count > 16 { return findLong(needle, in: text, from: start) }
    var index = start
    while index + needle.count <= text.count {
      if text[index] == first, text[index..<index + needle.count].elementsEqual(needle) { return index }
      index += 1
    }
    return nil
  }

  /// Finds a long needle without looking at any byte of the text twice.
  private static func findLong(_ needle: [UInt8], in text: [UInt8], from start: Int) -> Int? {
    // For each beginning of the needle, how long its longest end is that is a beginning too.
    var borders = [0]
    var length = 0
    for index in 1..<needle.count {
      while length > 0, needle[index] != needle[length] { length = borders[length - 1] }
      if needle[index] == needle[length] { length += 1 }
      borders.append(length)
    }
    length = 0
    for index in start..<text.count {
      while length > 0, text[index] != needle[length] { length = borders[length - 1] }
      if text[index] == needle[length] { length += 1 }
      if length == needle.count { return index + 1 - length }
    }
    return nil
  }

  static func contains(_ text: String, _ needle: String) -> Bool {
    find(Array(needle.utf8), in: Array(text.utf8)) != nil
  }

  /// Replaces `old` by `new`, at most `limit` times when that is not negative.
  static func replace(_ text: String, _ old: String, _ new: String, limit: Int = -1) -> String {
    let (bytes, needle, replacement) = (Array(text.utf8), Array(old.utf8), Array(new.utf8))
    var result: [UInt8] = []
    var left = limit
    if needle.isEmpty {
      var index = 0
      while left != 0 {
        result += replacement
        left -= 1
        guard index < bytes.count else { return String(decoding: result, as: UTF8.self) }
        let length = UTF8Bytes.length(bytes[index])
        result += bytes[index..<index + length]
        index += length
      }
      return String(decoding: result + bytes[index...], as: UTF8.self)
    }
    var index = 0
    while left != 0, let found = find(needle, in: bytes, from: index) {
      result += bytes[index..<found]
      result += replacement
      index = found + needle.count
      left -= 1
    }
    return String(decoding: result + bytes[index...], as: UTF8.self)
  }

  /// `str.split`: at `separator`, or at white space.
  static func split(_ text: String, _ separator: String?, limit: Int = -1) -> [String] {
    if let separator {
      let (bytes, needle) = (Array(text.utf8), Array(separator.utf8))
      var result: [String] = []
      var (index, left) = (0, limit)
      while left != 0, let found = find(needle, in: bytes, from: index) {
        result.append(String(decoding: bytes[index..<found], as: UTF8.self))
        index = found + needle.count
        left -= 1
      }
      return result + [String(decoding: bytes[index...], as: UTF8.self)]
    }
    var result: [String] = []
    var rest = text.unicodeScalars[...]
    while true {
      rest = rest.drop(while: isSpace)
      if rest.isEmpty { return result }
      if limit >= 0, result.count == limit { return result + [String(rest)] }
      let word = rest.prefix { !isSpace($0) }
      result.append(String(word))
      rest = rest[word.endIndex...]
    }
  }

  /// `str.rsplit`.
  static func splitFromEnd(_ text: String, _ separator: String?, limit: Int) -> [String] {
    if limit < 0 { return split(text, separator) }
    if let separator {
      var parts = split(text, separator)
      let extra = parts.count - 1 - limit
      if extra > 0 { parts.replaceSubrange(0...extra, with: [parts[0...extra].joined(separator: separator)]) }
      return parts
    }
    var result: [String] = []
    var rest = text.unicodeScalars[...]
    while true {
      while let last = rest.last, isSpace(last) { rest.removeLast() }
      if rest.isEmpty { return result.reversed() }
      if result.count == limit { return [String(rest)] + result.reversed() }
      var start = rest.endIndex
      while start > rest.startIndex, !isSpace(rest[rest.index(before: start)]) { start = rest.index(before: start) }
      result.append(String(rest[start...]))
      rest = rest[..<start]
    }
  }

  /// `str.splitlines`.
  static func lines(_ text: String, keepsEnds: Bool = false) -> [String] {
    var result: [String] = []
    var line = String.UnicodeScalarView()
    var scalars = Array(text.unicodeScalars)[...]
    while let scalar = scalars.popFirst() {
      switch scalar.value {
      case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029:
        if keepsEnds { line.append(scalar) }
        if scalar == "\r", scalars.first == "\n" {
          scalars.removeFirst()
          if keepsEnds { line.append("\n") }
        }
        result.append(String(line))
        line = .init()
      default: line.append(scalar)
      }
    }
    if !line.isEmpty { result.append(String(line)) }
    return result
  }

  // MARK: Letters

  static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }

  static func isAlphanumeric(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return isLetter(scalar) || ("0"..."9").contains(scalar) }
    return isLetter(scalar) || scalar.properties.numericType != nil
  }

  /// What a pattern's `\w` takes for part of a word.
  static func isWord(_ scalar: Unicode.Scalar) -> Bool { scalar == "_" || isAlphanumeric(scalar) }

  private static func isCased(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isCased }

  /// `str.upper`.
  static func upper(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 < 0x80 }) { return text.uppercased() }
    return text.unicodeScalars.reduce(into: "") { $0 += $1.properties.uppercaseMapping }
  }

  /// `str.lower`.
  static func lower(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 < 0x80 }) { return text.lowercased() }
    let scalars = Array(text.unicodeScalars)
    return scalars.indices.reduce(into: "") { $0 += lower(scalars, $1) }
  }

  /// The small letter of the character at `index`: a sigma at the end of a word is another than elsewhere.
  private static func lower(_ scalars: [Unicode.Scalar], _ index: Int) -> String {
    guard scalars[index] == "\u{3A3}" else { return scalars[index].properties.lowercaseMapping }
    let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
    let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
    let isFinal = before.map(isCased) ?? false && !(after.map(isCased) ?? false)
    return isFinal ? "\u{3C2}" : "\u{3C3}"
  }

  /// `str.casefold`.
  static func folded(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 < 0x80 }) { return text.lowercased() }
    return text.unicodeScalars.reduce(into: "") { $0 += folded($1) }
  }

  private static func folded(_ scalar: Unicode.Scalar) -> String {
    switch scalar.value {
    // Cherokee folds to its large letters; the dotless i has no other case.
    case 0x13A0...0x13F5, 0x131: return String(scalar)
    case 0x13F8...0x13FD, 0xAB70...0xABBF: return scalar.properties.uppercaseMapping
    default: break
    }
    let upper = scalar.properties.uppercaseMapping
    var result = ""
    for scalar in upper.unicodeScalars { result += scalar.properties.lowercaseMapping }
    return result
  }

  /// `str.swapcase`.
  static func swapCase(_ text: String) -> String {
    let scalars = Array(text.unicodeScalars)
    return scalars.indices.reduce(into: "") { result, index in
      let properties = scalars[index].properties
      if properties.isUppercase {
        result += lower(scalars, index)
      } else if properties.isLowercase {
        result += properties.uppercaseMapping
      } else {
        result.unicodeScalars.append(scalars[index])
      }
    }
  }

  /// `str.title`: each run of letters begins with a capital.
  static func title(_ text: String) -> String {
    let scalars = Array(text.unicodeScalars)
    var afterLetter = false
    return scalars.indices.reduce(into: "") { result, index in
      result += afterLetter ? lower(scalars, index) : scalars[index].properties.titlecaseMapping
      afterLetter = isCased(scalars[index])
    }
  }

  /// `str.istitle`.
  static func isTitle(_ text: String) -> Bool {
    var (found, afterLetter) = (false, false)
    for scalar in text.unicodeScalars {
      let properties = scalar.properties
      if properties.isUppercase || properties.generalCategory == .titlecaseLetter {
        if afterLetter { return false }
        (found, afterLetter) = (true, true)
      } else if properties.isLowercase {
        if !afterLetter { return false }
        (found, afterLetter) = (true, true)
      } else {
        afterLetter = false
      }
    }
    return found
  }

  /// `str.capitalize`.
  static func capitalize(_ text: String) -> String {
    let scalars = Array(text.unicodeScalars)
    guard let first = scalars.first else { return "" }
    return scalars.indices.dropFirst().reduce(into: first.properties.titlecaseMapping) { $0 += lower(scalars, $1) }
  }

  static func isUpper(_ text: String) -> Bool {
    var found = false
    for scalar in text.unicodeScalars {
      if scalar.properties.isLowercase || scalar.properties.generalCategory == .titlecaseLetter { return false }
      found = found || scalar.properties.isUppercase
    }
    return found
  }

  static func isLower(_ text: String) -> Bool {
    var found = false
    for scalar in text.unicodeScalars {
      if scalar.properties.isUppercase || scalar.properties.generalCategory == .titlecaseLetter { return false }
      found = found || scalar.properties.isLowercase
    }
    return found
  }

  // MARK: Numbers

  /// The ASCII text of a number, whose digits may be of any script; `nil` when something else is in it.
  private static func number(_ text: String) -> [UInt8]? {
    var result: [UInt8] = []
    for scalar in strip(text, nil).unicodeScalars {
      if scalar.isASCII {
        result.append(UInt8(scalar.value))
      } else if scalar.properties.numericType == .decimal, let value = scalar.properties.numericValue {
        result.append(0x30 + UInt8(value))
      } else {
        return nil
      }
    }
    return result
  }

  /// The digits without underscores, which stand only between digits.
  private static func withoutUnderscores(_ digits: ArraySlice<UInt8>, isDigit: (UInt8) -> Bool) -> [UInt8]? {
    var result: [UInt8] = []
    for index in digits.indices {
      if digits[index] == UInt8(ascii: "_") {
        guard index > digits.startIndex, index + 1 < digits.endIndex, isDigit(digits[index - 1]),
          isDigit(digits[index + 1])
        else { return nil }
      } else {
        result.append(digits[index])
      }
    }
    return result
  }

  /// `int(text, base)`; `nil` where Python refuses.
  static func integer(_ text: String, base: Int) -> BigInteger? {
    guard base == 0 || (2...36).contains(base), var rest = number(text).map({ $0[...] }) else { return nil }
    var isNegative = false
    if let sign = rest.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
      isNegative = sign == UInt8(ascii: "-")
      rest = rest.dropFirst()
    }
    var base = base
    if rest.first == UInt8(ascii: "0"), let letter = rest.dropFirst().first,
      let prefixed = [UInt8(ascii: "x"): 16, UInt8(ascii: "o"): 8, UInt8(ascii: "b"): 2][letter | 0x20],
      base == 0 || base == prefixed
    {
      base = prefixed
      rest = rest.dropFirst(2)
      // The prefix may be followed by an underscore.
      if rest.first == UInt8(ascii: "_") { rest = rest.dropFirst() }
    } else if base == 0 {
      base = 10
      if rest.first == UInt8(ascii: "0"), rest.contains(where: { $0 != UInt8(ascii: "0") && $0 != UInt8(ascii: "_") }) {
        return nil
      }
    }
    func isDigit(_ byte: UInt8) -> Bool { Int(String(Unicode.Scalar(byte)), radix: base) != nil }
    guard let digits = withoutUnderscores(rest, isDigit: isDigit), digits.allSatisfy(isDigit), digits.count <= 4300
    else { return nil }
    let value = BigInteger(String(decoding: digits, as: UTF8.self), radix: UInt32(base))
    return isNegative ? value?.negated : value
  }

  /// `float(text)`; `nil` where Python refuses.
  static func double(_ text: String) -> Double? {
    func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
    guard let given = number(text), let bytes = withoutUnderscores(given[...], isDigit: isDigit) else { return nil }
    var rest = bytes[...]
    let sign = rest.first == UInt8(ascii: "-") ? -1.0 : 1
    if let first = rest.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") { rest = rest.dropFirst() }
    switch String(decoding: rest, as: UTF8.self).lowercased() {
    case "inf", "infinity": return sign * .infinity
    case "nan": return .nan
    default: break
    }
    let whole = rest.prefix(while: isDigit)
    rest = rest[whole.endIndex...]
    var fraction: ArraySlice<UInt8> = []
    if rest.first == UInt8(ascii: ".") {
      fraction = rest.dropFirst().prefix(while: isDigit)
      rest = rest[fraction.endIndex...]
    }
    if whole.isEmpty, fraction.isEmpty { return nil }
    if let mark = rest.first, mark | 0x20 == UInt8(ascii: "e") {
      rest = rest.dropFirst()
      if let first = rest.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") { rest = rest.dropFirst() }
      let exponent = rest.prefix(while: isDigit)
      if exponent.isEmpty { return nil }
      rest = rest[exponent.endIndex...]
    }
    guard rest.isEmpty else { return nil }
    return strtod(String(decoding: bytes, as: UTF8.self), nil)
  }
}
