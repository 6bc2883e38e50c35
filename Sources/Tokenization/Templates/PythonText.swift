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

  static func hexadecimal(_ value: UInt32, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
  }

  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
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

  /// Where `needle` begins in bytes, from `start` on.
  static func find(_ needle: [UInt8], in text: [UInt8], from start: Int = 0) -> Int? {
    guard let first = needle.first else { return start <= text.count ? start : nil }
    var index = start
    while index + needle.count <= text.count {
      if text[index] == first, text[index..<index + needle.count].elementsEqual(needle) { return index }
      index += 1
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

  private static func isCased(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isCased }

  /// `str.title`: each run of letters begins with a capital.
  static func title(_ text: String) -> String {
    var result = ""
    var afterLetter = false
    for scalar in text.unicodeScalars {
      result += afterLetter ? scalar.properties.lowercaseMapping : scalar.properties.titlecaseMapping
      afterLetter = isCased(scalar)
    }
    return result
  }

  /// `str.capitalize`.
  static func capitalize(_ text: String) -> String {
    guard let first = text.unicodeScalars.first else { return "" }
    return first.properties.titlecaseMapping + String(text.unicodeScalars.dropFirst()).lowercased()
  }

  static func isUpper(_ text: String) -> Bool {
    var found = false
    for scalar in text.unicodeScalars where isCased(scalar) {
      if !scalar.properties.isUppercase { return false }
      found = true
    }
    return found
  }

  static func isLower(_ text: String) -> Bool {
    var found = false
    for scalar in text.unicodeScalars where isCased(scalar) {
      if !scalar.properties.isLowercase { return false }
      found = true
    }
    return found
  }
}

extension TemplateValue {
  /// Python's `str`.
  func text() -> String {
    switch self {
    case .undefined: ""
    case .string(let value): value
    default: representation()
    }
  }

  /// Python's `repr`.
  func representation() -> String {
    switch self {
    case .undefined: return "Undefined"
    case .none: return "None"
    case .boolean(let value): return value ? "True" : "False"
    case .integer(let value): return String(value)
    case .float(let value): return PythonText.repr(value)
    case .string(let value): return PythonText.repr(value)
    case .list(let values): return "[" + values.map { $0.representation() }.joined(separator: ", ") + "]"
    case .tuple(let values):
      if values.count == 1 { return "(" + values[0].representation() + ",)" }
      return "(" + values.map { $0.representation() }.joined(separator: ", ") + ")"
    case .dictionary(let values):
      let items = zip(values.keys, values.values).map { $0.representation() + ": " + $1.representation() }
      return "{" + items.joined(separator: ", ") + "}"
    case .function(let function): return "<function \(function.name)>"
    case .namespace: return "<Namespace>"
    case .loop(let loop): return "<LoopContext \(loop.index + 1)/\(loop.items.count)>"
    }
  }
}
