/// Filters that make or take numbers.
enum NumberFilters {
  static func named(_ name: String) -> Filters.Filter? {
    switch name {
    case "abs": absolute
    case "float": float
    case "int": integer
    case "round": round
    case "sum": sum
    case "filesizeformat": fileSize
    default: nil
    }
  }

  private static func absolute(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try arguments.expectNone(of: "abs", at: location)
    if case .float(let number) = value { return .float(number.magnitude) }
    guard let number = value.asBigInteger else {
      if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
      throw TemplateError("abs needs a number, not \(value.typeName)", at: location)
    }
    return try (number.isNegative ? number.negated : number).value(at: location)
  }

  private static func integer(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "default", "base", of: "int", at: location)
    let fallback = bound[0] ?? .integer(0)
    switch value {
    case .float(let number):
      if number.isInfinite { throw TemplateError("infinity is no integer", at: location) }
      return try BigInteger(number)?.value(at: location) ?? fallback
    case .string(let text), .markup(let text):
      try interpreter.charge(text.utf8.count, at: location)
      let base = bound[1].map(\.asInteger) ?? 10
      if let base, let number = PythonText.integer(text, base: base) { return try number.value(at: location) }
      return try PythonText.double(text).flatMap { BigInteger($0) }?.value(at: location) ?? fallback
    case .undefined(let reason): throw TemplateError(reason, at: location)
    default: return try value.asBigInteger?.value(at: location) ?? fallback
    }
  }

  private static func float(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let fallback = try arguments.bound(to: "default", of: "float", at: location)[0] ?? .float(0)
    if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
    if let number = value.asDouble {
      if case .big = value, number.isInfinite { throw TemplateError("the number is too large", at: location) }
      return .float(number)
    }
    guard let text = value.asString else { return fallback }
    try interpreter.charge(text.utf8.count, at: location)
    return PythonText.double(text).map { .float($0) } ?? fallback
  }

  private static func round(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "precision", "method", of: "round", at: location)
    let method = bound[1]?.asString ?? (bound[1] == nil ? "common" : "")
    guard ["common", "ceil", "floor"].contains(method) else {
      throw TemplateError("round's method must be common, ceil or floor", at: location)
    }
    guard value.asDouble != nil else {
      if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
      throw TemplateError("round needs a number, not \(value.typeName)", at: location)
    }
    if method == "common" {
      if bound[0]?.isNone == true {
        guard let whole = value.asDouble.flatMap({ BigInteger($0.rounded(.toNearestOrEven)) }) else {
          throw TemplateError("this number is no integer", at: location)
        }
        return try (value.asBigInteger ?? whole).value(at: location)
      }
      let precision = try Filters.integer(bound[0], "round", location) ?? 0
      if let whole = value.asBigInteger {
        return try precision >= 0
          ? whole.value(at: location) : PythonFormat.rounded(whole, toTens: -precision).value(at: location)
      }
      guard let number = value.asDouble, number.isFinite else { return value }
      return .float(PythonFormat.rounded(number, precision))
    }
    let precision = bound[0] ?? .integer(0)
    guard precision.asInteger.map({ abs(max($0, -1000)) <= 1000 }) ?? true else {
      throw TemplateError("the number is too large", at: location)
    }
    let scale = try Operators.apply(.power, .integer(10), precision, interpreter, at: location)
    var scaled = try Operators.apply(.multiply, value, scale, interpreter, at: location)
    if case .float(let number) = scaled {
      guard let whole = BigInteger(number.rounded(method == "ceil" ? .up : .down)) else {
        throw TemplateError("this number is no integer", at: location)
      }
      scaled = try whole.value(at: location)
    }
    return try Operators.apply(.divide, scaled, scale, interpreter, at: location)
  }

  private static func sum(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "attribute", "start", of: "sum", at: location)
    var total = bound[1] ?? .integer(0)
    if total.asString != nil { throw TemplateError("sum does not add strings; join does", at: location) }
    let attribute = bound[0].flatMap { $0.isNone ? nil : $0 }
    for item in try interpreter.elements(of: value, at: location) {
      let part = try attribute.map { try Filters.path($0, of: item, interpreter, location) } ?? item
      total = try Operators.apply(.add, total, part, interpreter, at: location)
    }
    return total
  }

  private static func fileSize(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let isBinary = try arguments.bound(to: "binary", of: "filesizeformat", at: location)[0]?.isTrue ?? false
    guard let bytes = value.asDouble ?? value.asString.flatMap(PythonText.double), !bytes.isNaN,
      bytes.isFinite || value.asBigInteger == nil
    else {
      throw TemplateError("filesizeformat needs a number", at: location)
    }
    let base = isBinary ? 1024.0 : 1000.0
    if bytes == 1 { return .string("1 Byte") }
    if bytes < base {
      guard let whole = BigInteger(bytes) else { throw TemplateError("infinity is no size", at: location) }
      return .string("\(try whole.text(at: location)) Bytes")
    }
    let units =
      isBinary
      ? ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"] : ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    var unit = base
    for name in units {
      unit *= base
      if bytes < unit || name == units.last { return .string("\(PythonFormat.fixed(base * bytes / unit, 1)) \(name)") }
    }
    return .none
  }
}
