import Glibc

/// Python's formatting of values: `%`, `str.format` and the specifications of both.
enum PythonFormat {
  /// The widest field and the most digits that a format may ask for.
  private static let widest = 10_000

  /// A number with so many digits after the point, rounded half to even on its exact value.
  static func fixed(_ value: Double, _ digits: Int) -> String { print(value, "f", digits) }

  private static func print(_ value: Double, _ kind: Character, _ digits: Int, alternate: Bool = false) -> String {
    if !value.isFinite { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    let digits = min(max(digits, 0), widest)
    var buffer = [CChar](repeating: 0, count: 400 + digits)
    let format = "%\(alternate ? "#" : "").*\(kind)"
    let length = withVaList([Int32(digits), value]) { vsnprintf(&buffer, buffer.count, format, $0) }
    return String(decoding: buffer.prefix(max(0, Int(length))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// `round(value, digits)`.
  static func rounded(_ value: Double, _ digits: Int) -> Double {
    if digits > 400 { return value }
    if digits >= 0 { return strtod(fixed(value, digits), nil) }
    if digits < -310 { return value.sign == .minus ? -0.0 : 0 }
    guard let whole = BigInteger(value) else { return value }
    let result = rounded(whole, toTens: -digits, hasFraction: value != value.rounded(.towardZero)).double
    return result == 0 && value.sign == .minus ? -0.0 : result
  }

  /// A whole number rounded to so many powers of ten, halves to even; a fraction behind it breaks the tie.
  static func rounded(_ value: BigInteger, toTens: Int, hasFraction: Bool = false) -> BigInteger {
    guard toTens <= 4400, let unit = BigInteger(10).power(toTens) else { return BigInteger(0) }
    let magnitude = value.isNegative ? value.negated : value
    var (quotient, remainder) = magnitude.dividedDown(by: unit)
    let twice = remainder * BigInteger(2)
    let isTie = twice == unit && !hasFraction
    let isOdd = quotient.dividedDown(by: BigInteger(2)).remainder.bitWidth > 0
    if isTie ? isOdd : !(twice < unit) { quotient = quotient + BigInteger(1) }
    let result = quotient * unit
    return value.isNegative ? result.negated : result
  }

  /// What stands between `%` or `:` and the letter.
  private struct Specification {
    var fill: Unicode.Scalar = " "
    var alignment: Unicode.Scalar?
    var sign: Unicode.Scalar = "-"
    var isAlternate = false
    /// Whether a zero comes out without its sign (`z`).
    var dropsNegativeZero = false
    var padsWithZeros = false
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

  // MARK: %

  /// `format % values`; `escapes` is for a format that is escaped text.
  static func percent(
    _ format: String, _ values: TemplateValue, _ interpreter: Interpreter, escapes: Bool = false,
    at location: SourceLocation
  ) throws -> String {
    var rest: [TemplateValue]
    switch values {
    case .tuple(let items): rest = items
    case .object(let group as TemplateGroup): rest = try group.elements(interpreter, location)
    default: rest = [values]
    }
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
        guard let end = closingParenthesis(text, index), case .dictionary(let items) = values else {
          throw TemplateError("the format needs a dictionary", at: location)
        }
        let name = PythonText.string(text[index + 1..<end])
        guard let value = items[name] else { throw TemplateError("the format's '\(name)' is not given", at: location) }
        named = value
        usesNames = true
        index = end + 1
      }
      var specification = try self.flags(text, &index)
      func star() throws(TemplateError) -> Int {
        index += 1
        guard !usesNames, let number = try nextValue().asInteger else {
          throw TemplateError("the format's '*' needs an integer", at: location)
        }
        guard abs(max(number, -Int.max)) <= widest else {
          throw TemplateError("the format asks for more than \(widest)", at: location)
        }
        return number
      }
      if index < text.count, text[index] == "*" {
        let width = try star()
        if width < 0 { specification.alignment = "<" }
        specification.width = abs(width)
      } else {
        specification.width = try number(text, &index, at: location) ?? 0
      }
      if index < text.count, text[index] == "." {
        index += 1
        if index < text.count, text[index] == "*" {
          specification.precision = max(0, try star())
        } else {
          specification.precision = try number(text, &index, at: location) ?? 0
        }
      }
      if index < text.count, "hlL".unicodeScalars.contains(text[index]) { index += 1 }
      guard index < text.count else { throw TemplateError("the format ends too early", at: location) }
      specification.kind = text[index]
      index += 1
      if specification.kind == "%" {
        result += "%"
        continue
      }
      let value: TemplateValue
      if let named { value = named } else { value = try nextValue() }
      result += try item(value, specification, interpreter, escapes, location)
      try interpreter.charge(bytes: result.utf8.count, at: location, weight: 64 + specification.width)
    }
    if !usesNames, !rest.isEmpty {
      // One value that has names may go unused.
      switch values {
      case .dictionary, .list, .undefined: break
      default: throw TemplateError("not all arguments are used by the format", at: location)
      }
    }
    try interpreter.charge(bytes: result.utf8.count, at: location)
    return result
  }

  /// The parenthesis that closes the one at `start`.
  private static func closingParenthesis(_ text: [Unicode.Scalar], _ start: Int) -> Int? {
    var depth = 0
    for index in start..<text.count {
      if text[index] == "(" { depth += 1 }
      if text[index] == ")" { depth -= 1 }
      if depth == 0 { return index }
    }
    return nil
  }

  private static func flags(_ text: [Unicode.Scalar], _ index: inout Int) throws(TemplateError) -> Specification {
    var specification = Specification()
    specification.alignment = ">"
    while index < text.count, "-+ #0".unicodeScalars.contains(text[index]) {
      switch text[index] {
      case "-": specification.alignment = "<"
      case "+": specification.sign = "+"
      case " ": if specification.sign != "+" { specification.sign = " " }
      case "#": specification.isAlternate = true
      default: specification.padsWithZeros = true
      }
      index += 1
    }
    return specification
  }

  /// One value as `%` writes it.
  private static func item(
    _ value: TemplateValue, _ given: Specification, _ interpreter: Interpreter, _ escapes: Bool,
    _ location: SourceLocation
  ) throws -> String {
    var specification = given
    switch specification.kind {
    case "s", "r", "a":
      var string: String
      if specification.kind == "s" {
        string = try interpreter.text(value, at: location)
        if escapes { string = Filters.escaped(string, of: value) }
      } else {
        string = try Representation.text(of: value, interpreter, at: location)
        if specification.kind == "a" { string = PythonText.ascii(string) }
        if escapes { string = Filters.escaped(string) }
      }
      return padded(
        specification.precision.map { PythonText.string(string.unicodeScalars.prefix($0)) } ?? string, specification)
    case "c":
      if let text = value.asString, text.unicodeScalars.count == 1 { return padded(text, specification) }
      guard let number = value.asInteger, let code = UInt32(exactly: number), let scalar = Unicode.Scalar(code) else {
        throw TemplateError("%c needs a character, not \(value.typeName)", at: location)
      }
      return padded(String(scalar), specification)
    case "d", "i", "u", "x", "X", "o", "e", "E", "f", "F", "g", "G":
      if specification.padsWithZeros, specification.alignment == ">" {
        (specification.fill, specification.alignment) = ("0", "=")
      }
      var value = value
      if let kind = specification.kind, "diu".unicodeScalars.contains(kind) {
        specification.kind = "d"
        if case .float(let number) = value {
          guard let whole = BigInteger(number) else { throw TemplateError("this number is no integer", at: location) }
          value = try whole.value(at: location)
        }
      } else if let kind = specification.kind, !"xXo".unicodeScalars.contains(kind), let text = value.asString {
        throw TemplateError("a number is required, not \(PythonText.repr(text))", at: location)
      }
      return try numeral(value, specification, at: location)
    default:
      throw TemplateError("the format's '%\(specification.kind.map { String($0) } ?? "")' is not known", at: location)
    }
  }

  // MARK: Braces

  /// `format.format(arguments)`.
  static func braces(
    _ format: String, _ arguments: CallArguments, _ interpreter: Interpreter, escapes: Bool = false,
    at location: SourceLocation
  ) throws -> String {
    var nextPosition: Int? = 0
    return try braces(
      Array(format.unicodeScalars), arguments, &nextPosition, interpreter, escapes, location, isNested: false)
  }

  /// `nextPosition` is that of the next field without a name; `nil` once a field has named its own.
  private static func braces(
    _ text: [Unicode.Scalar], _ arguments: CallArguments, _ nextPosition: inout Int?, _ interpreter: Interpreter,
    _ escapes: Bool, _ location: SourceLocation, isNested: Bool
  ) throws -> String {
    var result = ""
    var index = 0
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
      guard scalar == "{", let end = closingBrace(text, index) else {
        throw TemplateError("a single '\(scalar)' in the format", at: location)
      }
      result += try field(
        Array(text[index..<end]), arguments, &nextPosition, interpreter, escapes, location, isNested: isNested)
      index = end + 1
      try interpreter.charge(bytes: result.utf8.count, at: location, weight: 64)
    }
    try interpreter.charge(bytes: result.utf8.count, at: location)
    return result
  }

  /// The brace that closes a field which begins at `start`; braces within brackets count not.
  private static func closingBrace(_ text: [Unicode.Scalar], _ start: Int) -> Int? {
    var depth = 1
    var isInBrackets = false
    for index in start..<text.count {
      switch text[index] {
      case "[" where depth == 1: isInBrackets = true
      case "]": isInBrackets = false
      case "{" where !isInBrackets: depth += 1
      case "}" where !isInBrackets: depth -= 1
      default: break
      }
      if depth == 0 { return index }
    }
    return nil
  }

  private static func field(
    _ field: [Unicode.Scalar], _ arguments: CallArguments, _ nextPosition: inout Int?, _ interpreter: Interpreter,
    _ escapes: Bool, _ location: SourceLocation, isNested: Bool
  ) throws -> String {
    var nameEnd = 0
    var isInBrackets = false
    while nameEnd < field.count, isInBrackets || (field[nameEnd] != ":" && field[nameEnd] != "!") {
      if field[nameEnd] == "[" { isInBrackets = true }
      if field[nameEnd] == "]" { isInBrackets = false }
      if field[nameEnd] == "{" { throw TemplateError("unexpected '{' in a field's name", at: location) }
      nameEnd += 1
    }
    var rest = field[nameEnd...]
    var conversion: Unicode.Scalar?
    if rest.first == "!" {
      conversion = rest.dropFirst().first
      rest = rest.dropFirst(2)
      guard conversion != nil, rest.isEmpty || rest.first == ":" else {
        throw TemplateError("the format's conversion is one letter", at: location)
      }
    }
    var value = try self.value(
      PythonText.string(field[..<nameEnd]), arguments, &nextPosition, interpreter, location)
    switch conversion {
    case nil: break
    case "r": value = .string(try Representation.text(of: value, interpreter, at: location))
    case "a": value = .string(PythonText.ascii(try Representation.text(of: value, interpreter, at: location)))
    case "s": value = .string(try interpreter.text(value, at: location))
    default: throw TemplateError("the format's conversion is not known", at: location)
    }
    var specification = Array(rest.dropFirst())
    if specification.contains("{") || specification.contains("}") {
      guard !isNested else { throw TemplateError("the format's fields lie too deep", at: location) }
      specification = Array(
        try braces(specification, arguments, &nextPosition, interpreter, false, location, isNested: true).unicodeScalars
      )
    }
    if escapes, case .markup(let text) = value {
      guard specification.isEmpty else { throw TemplateError("escaped text takes no format", at: location) }
      return text
    }
    let text = try formatted(value, parse(specification, at: location), specification, interpreter, at: location)
    return escapes ? Filters.escaped(text) : text
  }

  private static func value(
    _ path: String, _ arguments: CallArguments, _ nextPosition: inout Int?, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws -> TemplateValue {
    let scalars = Array(path.unicodeScalars)
    var index = scalars.firstIndex { $0 == "." || $0 == "[" } ?? scalars.count
    var first = PythonText.string(scalars[..<index])
    func isNumber(_ text: String) -> Bool { !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) } }
    if path.isEmpty {
      guard let next = nextPosition else {
        throw TemplateError("the format's fields are numbered there and not here", at: location)
      }
      first = String(next)
      nextPosition = next + 1
    } else if isNumber(path) {
      // As in Python, only a field that is a number and nothing else counts as numbered.
      guard nextPosition == nil || nextPosition == 0 else {
        throw TemplateError("the format's fields are numbered here and not there", at: location)
      }
      nextPosition = nil
    }
    var value: TemplateValue
    if isNumber(first) {
      guard let position = Int(first), arguments.positional.indices.contains(position) else {
        throw TemplateError("the format's argument \(first) is not given", at: location)
      }
      value = arguments.positional[position]
    } else {
      guard let found = arguments.keyword.first(where: { $0.name == first }) else {
        throw TemplateError("the format's '\(first)' is not given", at: location)
      }
      value = found.value
    }
    while index < scalars.count {
      let isItem = scalars[index] == "["
      guard isItem || scalars[index] == "." else {
        throw TemplateError("only '.' or '[' may follow ']' in a field's name", at: location)
      }
      let end =
        isItem
        ? scalars[index...].firstIndex(of: "]")
        : scalars[(index + 1)...].firstIndex { $0 == "." || $0 == "[" } ?? scalars.count
      guard let end, end > index + 1 else { throw TemplateError("an empty attribute in the format", at: location) }
      let name = PythonText.string(scalars[(index + 1)..<end])
      if isItem {
        let isNumber = name.utf8.allSatisfy { (0x30...0x39).contains($0) }
        value = try interpreter.item(
          isNumber ? Int(name).map { .integer($0) } ?? .string(name) : .string(name), of: value, at: location)
      } else {
        value = try interpreter.attribute(name, of: value, at: location)
      }
      index = isItem ? end + 1 : end
    }
    return value
  }

  private static func parse(_ text: [Unicode.Scalar], at location: SourceLocation) throws(TemplateError)
    -> Specification
  {
    var result = Specification()
    var index = 0
    func skip(_ scalar: Unicode.Scalar) -> Bool {
      guard index < text.count, text[index] == scalar else { return false }
      index += 1
      return true
    }
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
    result.dropsNegativeZero = skip("z")
    result.isAlternate = skip("#")
    if index < text.count, text[index] == "0" {
      result.padsWithZeros = true
      if index == 0 || result.alignment == nil { (result.fill, result.alignment) = ("0", "=") }
      index += 1
    }
    result.width = try number(text, &index, at: location) ?? 0
    for mark: Unicode.Scalar in [",", "_"] where skip(mark) {
      guard result.groups == nil else { throw TemplateError("the format groups digits twice", at: location) }
      result.groups = mark
    }
    if skip(".") {
      guard let precision = try number(text, &index, at: location) else {
        throw TemplateError("the format's precision is missing", at: location)
      }
      result.precision = precision
    }
    if index < text.count {
      result.kind = text[index]
      index += 1
    }
    guard index == text.count else { throw TemplateError("this format specification is not known", at: location) }
    return result
  }

  private static func formatted(
    _ value: TemplateValue, _ specification: Specification, _ source: [Unicode.Scalar], _ interpreter: Interpreter,
    at location: SourceLocation
  ) throws -> String {
    switch value {
    case .boolean where specification.kind == nil && source.isEmpty: return try interpreter.text(value, at: location)
    case .integer, .big, .float, .boolean:
      if source.isEmpty { return try interpreter.text(value, at: location) }
      return try numeral(value, specification, at: location, isBraces: true)
    case .string(let text), .markup(let text):
      guard specification.kind == nil || specification.kind == "s", specification.sign == "-",
        specification.alignment != "=" || specification.padsWithZeros, specification.groups == nil,
        !specification.isAlternate, !specification.dropsNegativeZero, !source.contains("-") || source.first != "-"
      else { throw TemplateError("this format does not work on a str", at: location) }
      var specification = specification
      if specification.alignment == "=" { specification.alignment = "<" }
      return padded(
        specification.precision.map { PythonText.string(text.unicodeScalars.prefix($0)) } ?? text, specification)
    default:
      guard source.isEmpty else {
        throw TemplateError("a value of type \(value.typeName) takes no format", at: location)
      }
      return try interpreter.text(value, at: location)
    }
  }

  // MARK: Numbers

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

  private static func numeral(
    _ value: TemplateValue, _ given: Specification, at location: SourceLocation, isBraces: Bool = false
  ) throws(TemplateError) -> String {
    var specification = given
    var isNegative = value.asBigInteger?.isNegative ?? value.asDouble.map { $0.sign == .minus && !$0.isNaN } ?? false
    var (prefix, digits) = try magnitude(value, specification, at: location, isBraces: isBraces)
    if specification.dropsNegativeZero {
      if value.asBigInteger != nil, specification.kind.map({ "dnxXobc".unicodeScalars.contains($0) }) ?? true {
        throw TemplateError("'z' does not work on an integer", at: location)
      }
      if digits.unicodeScalars.allSatisfy({ "0.e+-%".unicodeScalars.contains($0) }) { isNegative = false }
    }
    let sign = isNegative ? "-" : specification.sign == "-" ? "" : String(specification.sign)
    if specification.alignment == nil { specification.alignment = ">" }
    if let groups = specification.groups {
      let size = specification.kind.map { "xXob".unicodeScalars.contains($0) } ?? false ? 4 : 3
      let room = specification.width - sign.utf8.count - prefix.utf8.count
      let pads = specification.alignment == "=" && specification.fill == "0"
      digits = grouped(digits, groups, size, width: pads ? room : 0)
    }
    if specification.alignment == "=" {
      let missing = specification.width - sign.utf8.count - prefix.utf8.count - digits.unicodeScalars.count
      return sign + prefix + String(repeating: String(specification.fill), count: max(0, missing)) + digits
    }
    return padded(sign + prefix + digits, specification)
  }

  /// The digits of a number without its sign, and what stands before them (`0x`).
  private static func magnitude(
    _ value: TemplateValue, _ specification: Specification, at location: SourceLocation, isBraces: Bool
  ) throws(TemplateError) -> (prefix: String, digits: String) {
    let kind = specification.kind
    let isAlternate = specification.isAlternate
    let radixes: [Unicode.Scalar: (UInt32, String)] = [
      "x": (16, "0x"), "X": (16, "0X"), "o": (8, "0o"), "b": (2, "0b"),
    ]
    if let number = value.asBigInteger {
      var digits: String?
      var prefix = ""
      switch kind {
      case nil, "d", "n":
        digits = number.magnitude()
        if digits.map({ $0.utf8.count > 4300 }) ?? false {
          throw TemplateError("the number is too large to write", at: location)
        }
      case .some(let kind):
        if let (radix, mark) = radixes[kind] {
          digits = number.magnitude(radix: radix)
          if kind == "X" { digits = digits?.uppercased() }
          if isAlternate { prefix = mark }
        } else if kind == "c", isBraces {
          guard let code = number.int.flatMap({ UInt32(exactly: $0) }), let scalar = Unicode.Scalar(code) else {
            throw TemplateError("the number is no character", at: location)
          }
          digits = String(scalar)
        }
      }
      if let digits {
        guard let precision = specification.precision else { return (prefix, digits) }
        if isBraces { throw TemplateError("an integer takes no precision", at: location) }
        return (prefix, String(repeating: "0", count: max(0, precision - digits.utf8.count)) + digits)
      }
    } else if let kind, radixes[kind] != nil || (isBraces && kind == "d") {
      throw TemplateError("an integer is required, not \(value.typeName)", at: location)
    }
    guard let number = value.asDouble?.magnitude else {
      if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
      throw TemplateError("a number is required, not \(value.typeName)", at: location)
    }
    if case .big = value, number.isInfinite { throw TemplateError("the number is too large", at: location) }
    return ("", try float(number, specification, at: location))
  }

  private static func float(
    _ number: Double, _ specification: Specification, at location: SourceLocation
  ) throws(TemplateError) -> String {
    let isAlternate = specification.isAlternate
    let precision = specification.precision ?? 6
    let isUpper = specification.kind.map { "EFG".unicodeScalars.contains($0) } ?? false
    switch specification.kind {
    case nil:
      guard let given = specification.precision else {
        return PythonText.repr(number)
      }
      return withFraction(number, max(1, given), isAlternate)
    case "e", "E", "f", "F", "g", "G":
      let letter = specification.kind.map { Character($0.properties.lowercaseMapping) } ?? "f"
      let text = print(number, letter, letter == "g" ? max(1, precision) : precision, alternate: isAlternate)
      return isUpper ? text.uppercased() : text
    case "n": return print(number, "g", max(1, precision), alternate: isAlternate)
    case "%": return print(number * 100, "f", precision, alternate: isAlternate) + "%"
    default:
      throw TemplateError(
        "the format's '\(specification.kind.map { String($0) } ?? "")' does not work on a float", at: location)
    }
  }

  /// A float with so many digits and no letter: as `g`, with at least one digit after the point.
  private static func withFraction(_ number: Double, _ precision: Int, _ isAlternate: Bool) -> String {
    guard number.isFinite else { return print(number, "g", precision) }
    // The exponent after rounding decides between the two ways of writing.
    let scientific = print(number, "e", precision - 1, alternate: isAlternate)
    let exponent =
      Int(scientific[(scientific.lastIndex(of: "e").map { scientific.index(after: $0) } ?? scientific.startIndex)...])
      ?? 0
    // Here a number with as many digits before the point as asked for is written with an exponent.
    if exponent >= -4, exponent < precision - 1 {
      let text = print(number, "g", precision, alternate: isAlternate)
      return text.contains(".") || text.contains("e") ? text : text + ".0"
    }
    return exponentForm(scientific, isAlternate)
  }

  /// `1.500000e+16` without the zeros at the end of its digits.
  private static func exponentForm(_ text: String, _ isAlternate: Bool) -> String {
    guard !isAlternate, let mark = text.lastIndex(of: "e") else { return text }
    var digits = text[..<mark]
    if digits.contains(".") {
      while digits.hasSuffix("0") { digits = digits.dropLast() }
      if digits.hasSuffix(".") { digits = digits.dropLast() }
    }
    return String(digits + text[mark...])
  }

  /// The digits before the point in groups; with a width, zeros are put before them until it is reached.
  private static func grouped(_ digits: String, _ separator: Unicode.Scalar, _ size: Int, width: Int) -> String {
    let whole = Array(digits.unicodeScalars.prefix { $0.properties.isASCIIHexDigit })
    // An exponent's letter is no digit of the number.
    let end = size == 3 ? whole.firstIndex { $0.properties.numericType == nil } ?? whole.count : whole.count
    var head = Array(whole[..<end])
    let tail = PythonText.string(digits.unicodeScalars.dropFirst(end))
    func length(_ count: Int) -> Int { count + max(0, count - 1) / size + tail.unicodeScalars.count }
    while length(head.count) < width { head.insert("0", at: 0) }
    var result = ""
    for (index, digit) in head.enumerated() {
      if index > 0, (head.count - index).isMultiple(of: size) { result.unicodeScalars.append(separator) }
      result.unicodeScalars.append(digit)
    }
    return result + tail
  }
}
