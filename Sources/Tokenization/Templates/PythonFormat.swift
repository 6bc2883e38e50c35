import Glibc

/// Python's formatting of values: `%`, `str.format` and the specifications of both.
enum PythonFormat {
  /// The widest field and the most digits that a format may ask for.
  private static let widest = 10_000

  /// A number with so many digits after the point, rounded half to even on its exact value.
  static func fixed(_ value: Double, _ digits: Int) -> String { print(value, "f", digits) }

  private static func print(_ value: Double, _ kind: Character, _ digits: Int, alternate: Bool = false) -> String {
    if !value.isFinite { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    let digits = min(max(digits, 0), 1000)
    var buffer = [CChar](repeating: 0, count: 1600 + digits)
    let format = "%\(alternate ? "#" : "").*\(kind)"
    let length = withVaList([Int32(digits), value]) { vsnprintf(&buffer, buffer.count, format, $0) }
    return String(decoding: buffer.prefix(max(0, Int(length))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// `round(value, digits)`.
  static func rounded(_ value: Double, _ digits: Int) -> Double {
    if digits >= 0 { return Double(fixed(value, digits)) ?? value }
    var scale = 1.0
    for _ in 0..<min(-digits, 308) { scale *= 10 }
    return (value / scale).rounded(.toNearestOrEven) * scale
  }

  /// What stands between `%` or `:` and the letter.
  private struct Specification {
    var fill: Unicode.Scalar = " "
    var alignment: Unicode.Scalar?
    var sign: Unicode.Scalar = "-"
    var isAlternate = false
    var groups: Unicode.Scalar?
    var width = 0
    var precision: Int?
    var kind: Unicode.Scalar?
  }

  private static func number(_ text: [Unicode.Scalar], _ index: inout Int, at location: SourceLocation)
    throws(TemplateError) -> Int?
  {
    var value: Int?
    while index < text.count, ("0"..."9").contains(text[index]) {
      value = (value ?? 0) * 10 + Int(text[index].value - 0x30)
      if let value, value > widest { throw TemplateError("the format asks for more than \(widest)", at: location) }
      index += 1
    }
    return value
  }

  /// `format % values`.
  static func percent(
    _ format: String, _ values: TemplateValue, at location: SourceLocation
  ) throws(TemplateError) -> String {
    var rest: [TemplateValue]
    if case .tuple(let items) = values { rest = items } else { rest = [values] }
    var usesNames = false
    func nextValue() throws(TemplateError) -> TemplateValue {
      guard !rest.isEmpty else { throw TemplateError("not enough arguments for the format", at: location) }
      return rest.removeFirst()
    }
    let text = Array(format.unicodeScalars)
    var result = ""
    var index = 0
    while index < text.count {
      guard text[index] == "%" else {
        result.unicodeScalars.append(text[index])
        index += 1
        continue
      }
      index += 1
      var named: TemplateValue?
      if index < text.count, text[index] == "(" {
        guard let end = text[index...].firstIndex(of: ")"), case .dictionary(let items) = values else {
          throw TemplateError("the format needs a dictionary", at: location)
        }
        let name = PythonText.string(text[index + 1..<end])
        guard let value = items[name] else { throw TemplateError("the format's '\(name)' is not given", at: location) }
        named = value
        usesNames = true
        index = end + 1
      }
      var specification = Specification()
      specification.alignment = ">"
      var padsWithZeros = false
      while index < text.count, "-+ #0".unicodeScalars.contains(text[index]) {
        switch text[index] {
        case "-": specification.alignment = "<"
        case "+": specification.sign = "+"
        case " ": if specification.sign != "+" { specification.sign = " " }
        case "#": specification.isAlternate = true
        default: padsWithZeros = true
        }
        index += 1
      }
      if index < text.count, text[index] == "*" {
        index += 1
        let width = try nextValue().asInteger ?? 0
        if width < 0 { specification.alignment = "<" }
        specification.width = min(width == .min ? widest : abs(width), widest)
      } else {
        specification.width = try number(text, &index, at: location) ?? 0
      }
      if index < text.count, text[index] == "." {
        index += 1
        specification.precision = try number(text, &index, at: location) ?? 0
      }
      while index < text.count, "hlL".unicodeScalars.contains(text[index]) { index += 1 }
      guard index < text.count else { throw TemplateError("the format ends too early", at: location) }
      let kind = text[index]
      index += 1
      if kind == "%" {
        result += "%"
        continue
      }
      let value: TemplateValue
      if let named { value = named } else { value = try nextValue() }
      switch kind {
      case "s", "r", "a":
        let string = kind == "s" ? value.text() : value.representation()
        result += padded(
          specification.precision.map { PythonText.string(string.unicodeScalars.prefix($0)) } ?? string, specification)
      case "c":
        let character = value.asInteger.flatMap { UInt32(exactly: $0) }.flatMap(Unicode.Scalar.init).map { String($0) }
        result += padded(character ?? value.text(), specification)
      case "d", "i", "u", "x", "X", "o", "e", "E", "f", "F", "g", "G":
        if padsWithZeros, specification.alignment == ">" { (specification.fill, specification.alignment) = ("0", "=") }
        specification.kind = kind == "i" || kind == "u" ? "d" : kind
        var value = value
        if specification.kind == "d", case .float(let number) = value {
          guard let whole = Int(exactly: number.rounded(.towardZero)) else {
            throw TemplateError("the number is too large", at: location)
          }
          value = .integer(whole)
        }
        result += try formatted(value, specification, at: location)
      default: throw TemplateError("the format's '%\(kind)' is not known", at: location)
      }
    }
    if !usesNames, case .tuple = values, !rest.isEmpty {
      throw TemplateError("not all arguments are used by the format", at: location)
    }
    if !usesNames, rest.count == 1, !text.contains("%") {
      if case .dictionary = values { return result }
      throw TemplateError("not all arguments are used by the format", at: location)
    }
    return result
  }

  /// `format.format(arguments)`.
  static func braces(
    _ format: String, _ arguments: CallArguments, _ interpreter: Interpreter, at location: SourceLocation
  ) throws(TemplateError) -> String {
    let text = Array(format.unicodeScalars)
    var result = ""
    var index = 0
    var nextPosition = 0
    while index < text.count {
      let scalar = text[index]
      index += 1
      guard scalar == "{" || scalar == "}" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      if index < text.count, text[index] == scalar {
        result.unicodeScalars.append(scalar)
        index += 1
        continue
      }
      guard scalar == "{", let end = text[index...].firstIndex(of: "}") else {
        throw TemplateError("a single '\(scalar)' in the format", at: location)
      }
      let field = text[index..<end]
      index = end + 1
      let colon = field.firstIndex(of: ":") ?? field.endIndex
      let bang = field[..<colon].firstIndex(of: "!") ?? colon
      let path = PythonText.string(field[..<bang])
      let conversion = PythonText.string(field[bang..<colon])
      let specification = Array(field[colon...].dropFirst())
      var value = try self.value(path, arguments, &nextPosition, interpreter, location)
      switch conversion {
      case "": break
      case "!r", "!a": value = .string(value.representation())
      case "!s": value = .string(value.text())
      default: throw TemplateError("the conversion '\(conversion)' is not known", at: location)
      }
      result += try formatted(value, parse(specification, at: location), at: location)
      try interpreter.charge(bytes: result.utf8.count, at: location)
    }
    return result
  }

  private static func value(
    _ path: String, _ arguments: CallArguments, _ nextPosition: inout Int, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    var parts: [(isItem: Bool, name: String)] = []
    var name = ""
    var isItem = false
    for scalar in path.unicodeScalars {
      switch scalar {
      case "." where !isItem, "[":
        parts.append((isItem, name))
        name = ""
        isItem = scalar == "["
      case "]":
        parts.append((true, name))
        name = ""
        isItem = false
      default: name.unicodeScalars.append(scalar)
      }
    }
    if !name.isEmpty || parts.isEmpty { parts.append((false, name)) }
    let first = parts.removeFirst().name
    var value: TemplateValue
    if first.isEmpty || Int(first) != nil {
      let position = Int(first) ?? nextPosition
      nextPosition += first.isEmpty ? 1 : 0
      guard arguments.positional.indices.contains(position) else {
        throw TemplateError("the format's argument \(position) is not given", at: location)
      }
      value = arguments.positional[position]
    } else {
      guard let found = arguments.keyword.first(where: { $0.name == first }) else {
        throw TemplateError("the format's '\(first)' is not given", at: location)
      }
      value = found.value
    }
    for (isItem, name) in parts where isItem || !name.isEmpty {
      if isItem {
        value = try interpreter.item(Int(name).map { .integer($0) } ?? .string(name), of: value, at: location)
      } else {
        value = try interpreter.attribute(name, of: value, at: location)
      }
    }
    return value
  }

  private static func parse(_ text: [Unicode.Scalar], at location: SourceLocation) throws(TemplateError)
    -> Specification
  {
    var result = Specification()
    var index = 0
    let alignments = "<>=^".unicodeScalars
    if text.count > 1, alignments.contains(text[1]) {
      (result.fill, result.alignment) = (text[0], text[1])
      index = 2
    } else if let first = text.first, alignments.contains(first) {
      result.alignment = first
      index = 1
    }
    if index < text.count, "+- ".unicodeScalars.contains(text[index]) {
      result.sign = text[index]
      index += 1
    }
    if index < text.count, text[index] == "#" {
      result.isAlternate = true
      index += 1
    }
    if index < text.count, text[index] == "0" {
      if result.alignment == nil { (result.fill, result.alignment) = ("0", "=") }
      index += 1
    }
    result.width = try number(text, &index, at: location) ?? 0
    if index < text.count, text[index] == "," || text[index] == "_" {
      result.groups = text[index]
      index += 1
    }
    if index < text.count, text[index] == "." {
      index += 1
      result.precision = try number(text, &index, at: location)
    }
    if index < text.count {
      result.kind = text[index]
      index += 1
    }
    guard index == text.count else { throw TemplateError("this format specification is not known", at: location) }
    return result
  }

  private static func padded(_ text: String, _ specification: Specification) -> String {
    let missing = specification.width - text.unicodeScalars.count
    guard missing > 0 else { return text }
    func fill(_ count: Int) -> String { String(repeating: String(specification.fill), count: count) }
    switch specification.alignment {
    case ">": return fill(missing) + text
    case "^": return fill(missing / 2) + text + fill(missing - missing / 2)
    default: return text + fill(missing)
    }
  }

  private static func formatted(
    _ value: TemplateValue, _ given: Specification, at location: SourceLocation
  ) throws(TemplateError) -> String {
    var specification = given
    let isNumber: Bool
    switch value {
    case .integer, .float: isNumber = true
    case .boolean: isNumber = specification.kind != nil
    default: isNumber = false
    }
    guard isNumber else {
      guard specification.kind == nil || specification.kind == "s" else {
        if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
        throw TemplateError("a number is required, not \(value.typeName)", at: location)
      }
      let text = value.text()
      return padded(
        specification.precision.map { PythonText.string(text.unicodeScalars.prefix($0)) } ?? text, specification)
    }
    let isNegative = value.asDouble.map { $0 < 0 || ($0 == 0 && $0.sign == .minus) } ?? false
    var digits = try magnitude(value, specification, at: location)
    if let groups = specification.groups { digits = grouped(digits, groups) }
    let sign = isNegative ? "-" : specification.sign == "-" ? "" : String(specification.sign)
    if specification.alignment == nil { specification.alignment = ">" }
    if specification.alignment == "=" {
      let missing = specification.width - sign.count - digits.unicodeScalars.count
      return sign + String(repeating: String(specification.fill), count: max(0, missing)) + digits
    }
    return padded(sign + digits, specification)
  }

  /// The digits of a number without its sign.
  private static func magnitude(
    _ value: TemplateValue, _ specification: Specification, at location: SourceLocation
  ) throws(TemplateError) -> String {
    let kind = specification.kind
    let isAlternate = specification.isAlternate
    if let number = value.asInteger {
      switch kind {
      case nil, "d", "n":
        let digits = String(number.magnitude)
        return String(repeating: "0", count: max(0, (specification.precision ?? 0) - digits.count)) + digits
      case "x": return (isAlternate ? "0x" : "") + String(number.magnitude, radix: 16)
      case "X": return (isAlternate ? "0X" : "") + String(number.magnitude, radix: 16, uppercase: true)
      case "o": return (isAlternate ? "0o" : "") + String(number.magnitude, radix: 8)
      case "b": return (isAlternate ? "0b" : "") + String(number.magnitude, radix: 2)
      default: break
      }
    }
    guard let number = value.asDouble?.magnitude else {
      throw TemplateError("a number is required, not \(value.typeName)", at: location)
    }
    switch kind {
    case nil:
      guard let precision = specification.precision else { return PythonText.repr(number) }
      return print(number, "g", max(1, precision))
    case "e": return print(number, "e", specification.precision ?? 6, alternate: isAlternate)
    case "E": return print(number, "E", specification.precision ?? 6, alternate: isAlternate)
    case "f", "F": return print(number, "f", specification.precision ?? 6, alternate: isAlternate)
    case "g", "n": return print(number, "g", specification.precision ?? 6, alternate: isAlternate)
    case "G": return print(number, "G", specification.precision ?? 6, alternate: isAlternate)
    case "%": return print(number * 100, "f", specification.precision ?? 6) + "%"
    default:
      throw TemplateError(
        "the format's '\(kind.map { String($0) } ?? "")' does not work on \(value.typeName)", at: location)
    }
  }

  private static func grouped(_ digits: String, _ separator: Unicode.Scalar) -> String {
    let whole = digits.prefix { $0.isNumber }
    var result = ""
    for (index, digit) in whole.enumerated() {
      if index > 0, (whole.count - index) % 3 == 0 { result.unicodeScalars.append(separator) }
      result.append(digit)
    }
    return result + digits.dropFirst(whole.count)
  }
}
