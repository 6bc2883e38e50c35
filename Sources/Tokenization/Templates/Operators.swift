import Glibc

/// The operators of expressions, with Python's meaning.
enum Operators {
  private static func mismatch(
    _ operation: String, _ left: TemplateValue, _ right: TemplateValue, _ location: SourceLocation
  ) -> TemplateError {
    for case .undefined(let reason) in [left, right] { return TemplateError(reason, at: location) }
    return TemplateError("'\(operation)' does not work on \(left.typeName) and \(right.typeName)", at: location)
  }

  static func apply(
    _ operation: Expression.Unary, to value: TemplateValue, at location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    if operation == .not { return .boolean(!value.isTrue) }
    if case .float(let number) = value { return .float(operation == .negate ? -number : number) }
    if let number = value.asBigInteger {
      return try (operation == .negate ? number.negated : number).value(at: location)
    }
    if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
    throw TemplateError("a value of type \(value.typeName) has no sign", at: location)
  }

  static func apply(
    _ operation: Expression.Binary, _ left: TemplateValue, _ right: TemplateValue, _ interpreter: Interpreter,
    at location: SourceLocation
  ) throws -> TemplateValue {
    switch (operation, left, right) {
    case (.add, .string(let a), .string(let b)):
      try interpreter.charge(bytes: a.utf8.count + b.utf8.count, at: location)
      return .string(a + b)
    case (.add, .markup, .string), (.add, .string, .markup), (.add, .markup, .markup):
      let (a, b) = (Filters.escapedText(left), Filters.escapedText(right))
      try interpreter.charge(bytes: a.utf8.count + b.utf8.count, at: location)
      return .markup(a + b)
    case (.add, .list(let a), .list(let b)):
      try interpreter.charge(a.count + b.count, at: location)
      return .list(a + b)
    case (.add, .tuple(let a), .tuple(let b)):
      try interpreter.charge(a.count + b.count, at: location)
      return .tuple(a + b)
    case (.modulo, .string(let format), _):
      return .string(try PythonFormat.percent(format, right, interpreter, at: location))
    case (.modulo, .markup(let format), _):
      return .markup(try PythonFormat.percent(format, right, interpreter, escapes: true, at: location))
    case (.multiply, .string, _), (.multiply, .markup, _), (.multiply, .list, _), (.multiply, .tuple, _):
      return try repeated(left, right, interpreter, location)
    case (.multiply, _, .string), (.multiply, _, .markup), (.multiply, _, .list), (.multiply, _, .tuple):
      return try repeated(right, left, interpreter, location)
    default: break
    }
    if let a = left.asInteger, let b = right.asInteger, let result = integers(operation, a, b) { return result }
    if let a = left.asBigInteger, let b = right.asBigInteger {
      if let result = try bigIntegers(operation, a, b, at: location) { return result }
    }
    guard let a = left.asDouble, let b = right.asDouble else {
      throw mismatch(operation.rawValue, left, right, location)
    }
    // A whole number beyond a double's range is refused beside a fraction.
    if !a.isFinite || !b.isFinite,
      left.asBigInteger.map({ !$0.double.isFinite }) == true
        || right.asBigInteger.map({ !$0.double.isFinite }) == true
    {
      throw TemplateError("the number is too large", at: location)
    }
    return try floats(operation, a, b, at: location)
  }

  private static func floats(
    _ operation: Expression.Binary, _ a: Double, _ b: Double, at location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    switch operation {
    case .add: return .float(a + b)
    case .subtract: return .float(a - b)
    case .multiply: return .float(a * b)
    case .power:
      if a == 0, b < 0 { throw TemplateError("division by zero", at: location) }
      let result = pow(a, b)
      if a.isFinite, b.isFinite {
        if result.isNaN { throw TemplateError("the power is no real number", at: location) }
        if result.isInfinite { throw TemplateError("the number is too large", at: location) }
      }
      return .float(result)
    case .divide, .floorDivide, .modulo:
      if b == 0 { throw TemplateError("division by zero", at: location) }
      if operation == .divide { return .float(a / b) }
      var modulo = fmod(a, b)
      var quotient = (a - modulo) / b
      if modulo != 0 {
        if (modulo < 0) != (b < 0) {
          modulo += b
          quotient -= 1
        }
      } else {
        modulo = b < 0 ? -0.0 : 0.0
      }
      if operation == .modulo { return .float(modulo) }
      guard quotient != 0 else { return .float((a / b).sign == .minus ? -0.0 : 0.0) }
      let floor = quotient.rounded(.down)
      return .float(quotient - floor > 0.5 ? floor + 1 : floor)
    }
  }

  /// The result where both numbers and all on the way fit an `Int`.
  private static func integers(_ operation: Expression.Binary, _ a: Int, _ b: Int) -> TemplateValue? {
    func exact(_ result: (partialValue: Int, overflow: Bool)) -> TemplateValue? {
      result.overflow ? nil : .integer(result.partialValue)
    }
    switch operation {
    case .add: return exact(a.addingReportingOverflow(b))
    case .subtract: return exact(a.subtractingReportingOverflow(b))
    case .multiply: return exact(a.multipliedReportingOverflow(by: b))
    case .divide:
      // Both are exact as doubles, so that the quotient is rounded once.
      guard b != 0, a.magnitude <= 1 << 53, b.magnitude <= 1 << 53 else { return nil }
      return .float(Double(a) / Double(b))
    case .floorDivide, .modulo:
      guard b != 0 else { return nil }
      let (quotient, overflow) = a.dividedReportingOverflow(by: b)
      if overflow { return nil }
      let remainder = a - quotient * b
      let isOff = remainder != 0 && (remainder < 0) != (b < 0)
      return .integer(operation == .modulo ? (isOff ? remainder + b : remainder) : (isOff ? quotient - 1 : quotient))
    case .power: return nil
    }
  }

  /// `nil` where the result is no whole number.
  private static func bigIntegers(
    _ operation: Expression.Binary, _ a: BigInteger, _ b: BigInteger, at location: SourceLocation
  ) throws(TemplateError) -> TemplateValue? {
    switch operation {
    case .add: return try (a + b).value(at: location)
    case .subtract: return try (a - b).value(at: location)
    case .multiply: return try (a * b).value(at: location)
    case .divide:
      if b.bitWidth == 0 { throw TemplateError("division by zero", at: location) }
      return .float(try quotient(a, b, at: location))
    case .floorDivide, .modulo:
      if b.bitWidth == 0 { throw TemplateError("division by zero", at: location) }
      let (quotient, remainder) = a.dividedDown(by: b)
      return try (operation == .modulo ? remainder : quotient).value(at: location)
    case .power:
      if b.isNegative { return nil }
      // Only 0, 1 and -1 have powers without end.
      let exponent = b.int ?? (a.bitWidth <= 1 ? 2 - b.dividedDown(by: BigInteger(2)).remainder.bitWidth : Int.max)
      guard let power = a.power(exponent) else { throw TemplateError("the number is too large", at: location) }
      return try power.value(at: location)
    }
  }

  /// The quotient of whole numbers, rounded once to the nearest double.
  private static func quotient(_ a: BigInteger, _ b: BigInteger, at location: SourceLocation) throws(TemplateError)
    -> Double
  {
    if a.bitWidth == 0 { return b.isNegative ? -0.0 : 0 }
    // Enough bits for a double and two to round by; what is below them is one more bit.
    let shift = 66 - (a.bitWidth - b.bitWidth)
    guard let scale = BigInteger(2).power(abs(shift)) else { return a.double / b.double }
    let (quotient, remainder) =
      shift >= 0 ? (a * scale).dividedDown(by: b) : a.dividedDown(by: b * scale)
    let sticky = remainder.bitWidth > 0 ? BigInteger(1) : BigInteger(0)
    let value = scalbn((quotient * BigInteger(2) + sticky).double, Int32(-shift - 1))
    if value.isInfinite { throw TemplateError("the number is too large", at: location) }
    return value
  }

  private static func repeated(
    _ value: TemplateValue, _ times: TemplateValue, _ interpreter: Interpreter, _ location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    if case .big = times { throw TemplateError("the value is repeated too often", at: location) }
    guard let times = times.asInteger else {
      throw mismatch("*", value, times, location)
    }
    let count = max(0, times)
    func size(_ one: Int) -> Int {
      let (product, overflow) = one.multipliedReportingOverflow(by: count)
      return overflow ? Int.max : product
    }
    switch value {
    case .string(let text):
      try interpreter.charge(bytes: size(text.utf8.count), at: location)
      return .string(text.isEmpty ? "" : String(repeating: text, count: count))
    case .markup(let text):
      try interpreter.charge(bytes: size(text.utf8.count), at: location)
      return .markup(text.isEmpty ? "" : String(repeating: text, count: count))
    case .list(let values):
      try interpreter.charge(size(values.count), at: location)
      return .list(values.isEmpty ? [] : Array(repeatElement(values, count: count).joined()))
    case .tuple(let values):
      try interpreter.charge(size(values.count), at: location)
      return .tuple(values.isEmpty ? [] : Array(repeatElement(values, count: count).joined()))
    default: return value
    }
  }

  static func compare(
    _ left: TemplateValue, _ comparison: Expression.Comparison, _ right: TemplateValue, _ interpreter: Interpreter,
    at location: SourceLocation
  ) throws -> Bool {
    switch comparison {
    case .equal: return try interpreter.isEqual(left, right, at: location)
    case .notEqual: return try !interpreter.isEqual(left, right, at: location)
    case .isIn: return try contains(left, in: right, interpreter, at: location)
    case .isNotIn: return try !contains(left, in: right, interpreter, at: location)
    case .less, .greaterOrEqual, .greater, .lessOrEqual:
      try interpreter.charge(comparing: left.plain, right.plain, at: location)
      let isReversed = comparison == .greater || comparison == .lessOrEqual
      guard let isLess = isReversed ? right.isLess(than: left) : left.isLess(than: right) else {
        throw mismatch(comparison.rawValue, left, right, location)
      }
      if comparison == .less || comparison == .greater { return isLess }
      return !isLess && !isUnordered(left, right)
    }
  }

  private static func isUnordered(_ left: TemplateValue, _ right: TemplateValue) -> Bool {
    left.asDouble?.isNaN ?? false || right.asDouble?.isNaN ?? false
  }

  static func contains(
    _ value: TemplateValue, in container: TemplateValue, _ interpreter: Interpreter, at location: SourceLocation
  ) throws -> Bool {
    switch container {
    case .string(let text), .markup(let text):
      guard case .string(let needle) = value.plain else {
        if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
        throw TemplateError("'in' a str needs a str, not \(value.typeName)", at: location)
      }
      try interpreter.charge(text.utf8.count / 16, at: location)
      return PythonText.contains(text, needle)
    case .list(let values), .tuple(let values): return try contains(value, in: values, interpreter, location)
    case .dictionary(let items):
      guard TemplateDictionary.canBeKey(value) else {
        throw TemplateError("a value of type \(value.typeName) cannot be a key", at: location)
      }
      try interpreter.charge(comparing: value, value, at: location)
      return items[value] != nil
    case .object(let view as DictionaryView) where view.kind == .keys && !TemplateDictionary.canBeKey(value):
      throw TemplateError("a value of type \(value.typeName) cannot be a key", at: location)
    case .object(let iterator as TemplateIterator):
      while let item = try iterator.next(interpreter, location) {
        if try interpreter.isEqual(item, value, at: location) { return true }
      }
      return false
    case .object(let object) where object.isIterable:
      return try contains(value, in: object.elements(interpreter, location), interpreter, location)
    case .undefined: return false
    default: throw TemplateError("'in' does not work on a value of type \(container.typeName)", at: location)
    }
  }

  private static func contains(
    _ value: TemplateValue, in values: [TemplateValue], _ interpreter: Interpreter, _ location: SourceLocation
  ) throws -> Bool {
    try values.contains { try interpreter.isEqual($0, value, at: location) }
  }

  static func slice(
    _ value: TemplateValue, start: TemplateValue?, stop: TemplateValue?, step: TemplateValue?,
    _ interpreter: Interpreter, at location: SourceLocation
  ) throws -> TemplateValue {
    func number(_ value: TemplateValue?) throws(TemplateError) -> Int? {
      guard let value else { return nil }
      if case .none = value { return nil }
      if let number = value.asInteger { return number }
      if case .big(let number) = value { return number.isNegative ? -Int.max : Int.max }
      if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
      throw TemplateError("slice indices must be integers, not \(value.typeName)", at: location)
    }
    let step = try number(step) ?? 1
    if step == 0 { throw TemplateError("slice step cannot be zero", at: location) }
    let (start, stop) = (try number(start), try number(stop))
    /// Where a slice of so many elements starts and stops.
    func ends(_ count: Int) -> (first: Int, last: Int) {
      func clamp(_ index: Int?, _ standard: Int, _ low: Int, _ high: Int) -> Int {
        guard let index else { return standard }
        return min(max(index < 0 ? max(index, -Int.max / 2) + count : index, low), high)
      }
      if step > 0 { return (clamp(start, 0, 0, count), clamp(stop, count, 0, count)) }
      return (clamp(start, count - 1, -1, count - 1), clamp(stop, -1, -1, count - 1))
    }
    func indices(_ count: Int) throws(TemplateError) -> [Int] {
      try interpreter.charge(count / 16, at: location)
      let (first, last) = ends(count)
      if step > 0 ? first >= last : first <= last { return [] }
      return Array(Swift.stride(from: first, to: last, by: step == .min ? -Int.max : step))
    }
    switch value {
    case .string(let text):
      let scalars = Array(text.unicodeScalars)
      return .string(PythonText.string(try indices(scalars.count).map { scalars[$0] }))
    case .markup(let text):
      let scalars = Array(text.unicodeScalars)
      return .markup(PythonText.string(try indices(scalars.count).map { scalars[$0] }))
    case .list(let values): return .list(try indices(values.count).map { values[$0] })
    case .tuple(let values): return .tuple(try indices(values.count).map { values[$0] })
    case .undefined(let reason): throw TemplateError(reason, at: location)
    case .object(let range as TemplateRange):
      let (first, last) = ends(range.count ?? 0)
      return .object(
        TemplateRange(
          start: range.start &+ first &* range.step, stop: range.start &+ last &* range.step,
          step: range.step &* step, count: try indices(range.count ?? 0).count))
    case .object(let group as TemplateGroup):
      let values = try group.elements(interpreter, location)
      return .tuple(try indices(values.count).map { values[$0] })
    default: throw TemplateError("a value of type \(value.typeName) has no slices", at: location)
    }
  }
}
