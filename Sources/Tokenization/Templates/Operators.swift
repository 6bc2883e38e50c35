import Glibc

/// The operators of expressions, with Python's meaning.
enum Operators {
  private static func mismatch(
    _ operation: String, _ left: TemplateValue, _ right: TemplateValue, _ location: SourceLocation
  ) -> TemplateError {
    for case .undefined(let reason) in [left, right] { return TemplateError(reason, at: location) }
    return TemplateError("'\(operation)' does not work on \(left.typeName) and \(right.typeName)", at: location)
  }

  private static func integer(_ result: (partialValue: Int, overflow: Bool), _ location: SourceLocation)
    throws(TemplateError) -> TemplateValue
  {
    if result.overflow { throw TemplateError("the number is too large", at: location) }
    return .integer(result.partialValue)
  }

  static func apply(
    _ operation: Expression.Unary, to value: TemplateValue, at location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    if operation == .not { return .boolean(!value.isTrue) }
    if case .float(let number) = value { return .float(operation == .negate ? -number : number) }
    if let number = value.asInteger {
      return operation == .negate ? try integer((0).subtractingReportingOverflow(number), location) : .integer(number)
    }
    if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
    throw TemplateError("a value of type \(value.typeName) has no sign", at: location)
  }

  static func apply(
    _ operation: Expression.Binary, _ left: TemplateValue, _ right: TemplateValue, _ interpreter: Interpreter,
    at location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    switch (operation, left, right) {
    case (.add, .string(let a), .string(let b)):
      try interpreter.charge(bytes: a.utf8.count + b.utf8.count, at: location)
      return .string(a + b)
    case (.add, .list(let a), .list(let b)):
      try interpreter.charge(a.count + b.count, at: location)
      return .list(a + b)
    case (.add, .tuple(let a), .tuple(let b)):
      try interpreter.charge(a.count + b.count, at: location)
      return .tuple(a + b)
    case (.modulo, .string(let format), _):
      let text = try PythonFormat.percent(format, right, at: location)
      try interpreter.charge(bytes: text.utf8.count, at: location)
      return .string(text)
    case (.multiply, .string, _), (.multiply, .list, _), (.multiply, .tuple, _):
      return try repeated(left, right, interpreter, location)
    case (.multiply, _, .string), (.multiply, _, .list), (.multiply, _, .tuple):
      return try repeated(right, left, interpreter, location)
    default: break
    }
    if let a = left.asInteger, let b = right.asInteger { return try integers(operation, a, b, location) }
    guard let a = left.asDouble, let b = right.asDouble else {
      throw mismatch(operation.rawValue, left, right, location)
    }
    switch operation {
    case .add: return .float(a + b)
    case .subtract: return .float(a - b)
    case .multiply: return .float(a * b)
    case .power: return .float(pow(a, b))
    case .divide, .floorDivide, .modulo:
      if b == 0 { throw TemplateError("division by zero", at: location) }
      if operation == .divide { return .float(a / b) }
      let remainder = fmod(a, b)
      let modulo = remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder
      return .float(operation == .modulo ? modulo : ((a - modulo) / b).rounded())
    }
  }

  private static func integers(
    _ operation: Expression.Binary, _ a: Int, _ b: Int, _ location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    switch operation {
    case .add: return try integer(a.addingReportingOverflow(b), location)
    case .subtract: return try integer(a.subtractingReportingOverflow(b), location)
    case .multiply: return try integer(a.multipliedReportingOverflow(by: b), location)
    case .divide:
      if b == 0 { throw TemplateError("division by zero", at: location) }
      return .float(Double(a) / Double(b))
    case .floorDivide, .modulo:
      if b == 0 { throw TemplateError("division by zero", at: location) }
      let (quotient, overflow) = a.dividedReportingOverflow(by: b)
      if overflow { throw TemplateError("the number is too large", at: location) }
      let remainder = a - quotient * b
      let isOff = remainder != 0 && (remainder < 0) != (b < 0)
      return .integer(operation == .modulo ? (isOff ? remainder + b : remainder) : (isOff ? quotient - 1 : quotient))
    case .power:
      if b < 0 { return .float(pow(Double(a), Double(b))) }
      var result = 1
      var (base, exponent) = (a, b)
      while exponent > 0 {
        if exponent & 1 == 1 {
          let (product, overflow) = result.multipliedReportingOverflow(by: base)
          if overflow { throw TemplateError("the number is too large", at: location) }
          result = product
        }
        exponent >>= 1
        if exponent == 0 { break }
        let (square, overflow) = base.multipliedReportingOverflow(by: base)
        if overflow { throw TemplateError("the number is too large", at: location) }
        base = square
      }
      return .integer(result)
    }
  }

  private static func repeated(
    _ value: TemplateValue, _ times: TemplateValue, _ interpreter: Interpreter, _ location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    guard let times = times.asInteger else { throw mismatch("*", value, times, location) }
    let count = max(0, times)
    func size(_ one: Int) -> Int {
      let (product, overflow) = one.multipliedReportingOverflow(by: count)
      return overflow ? Int.max : product
    }
    switch value {
    case .string(let text):
      try interpreter.charge(bytes: size(text.utf8.count), at: location)
      return .string(text.isEmpty ? "" : String(repeating: text, count: count))
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
  ) throws(TemplateError) -> Bool {
    switch comparison {
    case .equal: return left.isEqual(to: right)
    case .notEqual: return !left.isEqual(to: right)
    case .isIn: return try contains(left, in: right, interpreter, at: location)
    case .isNotIn: return try !contains(left, in: right, interpreter, at: location)
    case .less, .greaterOrEqual:
      guard let isLess = left.isLess(than: right) else { throw mismatch(comparison.rawValue, left, right, location) }
      return comparison == .less ? isLess : !isLess && !isUnordered(left, right)
    case .greater, .lessOrEqual:
      guard let isGreater = right.isLess(than: left) else { throw mismatch(comparison.rawValue, left, right, location) }
      return comparison == .greater ? isGreater : !isGreater && !isUnordered(left, right)
    }
  }

  private static func isUnordered(_ left: TemplateValue, _ right: TemplateValue) -> Bool {
    left.asDouble?.isNaN ?? false || right.asDouble?.isNaN ?? false
  }

  static func contains(
    _ value: TemplateValue, in container: TemplateValue, _ interpreter: Interpreter, at location: SourceLocation
  ) throws(TemplateError) -> Bool {
    switch container {
    case .string(let text):
      guard case .string(let needle) = value else {
        if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
        throw TemplateError("'in' a str needs a str, not \(value.typeName)", at: location)
      }
      try interpreter.charge(text.utf8.count / 16, at: location)
      return PythonText.contains(text, needle)
    case .list(let values), .tuple(let values):
      try interpreter.charge(values.count, at: location)
      return values.contains { value.isEqual(to: $0) }
    case .dictionary(let items): return items[value] != nil
    case .undefined: return false
    default: throw TemplateError("'in' does not work on a value of type \(container.typeName)", at: location)
    }
  }

  static func slice(
    _ value: TemplateValue, start: TemplateValue?, stop: TemplateValue?, step: TemplateValue?,
    _ interpreter: Interpreter, at location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    func number(_ value: TemplateValue?) throws(TemplateError) -> Int? {
      guard let value else { return nil }
      if case .none = value { return nil }
      if let number = value.asInteger { return number }
      if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
      throw TemplateError("slice indices must be integers, not \(value.typeName)", at: location)
    }
    let step = try number(step) ?? 1
    if step == 0 { throw TemplateError("slice step cannot be zero", at: location) }
    let (start, stop) = (try number(start), try number(stop))
    func indices(_ count: Int) throws(TemplateError) -> [Int] {
      func clamp(_ index: Int?, _ standard: Int, _ low: Int, _ high: Int) -> Int {
        guard let index else { return standard }
        return min(max(index < 0 ? index + count : index, low), high)
      }
      try interpreter.charge(count / 16, at: location)
      if step > 0 {
        let (first, last) = (clamp(start, 0, 0, count), clamp(stop, count, 0, count))
        return first < last ? Array(Swift.stride(from: first, to: last, by: step)) : []
      }
      let (first, last) = (clamp(start, count - 1, -1, count - 1), clamp(stop, -1, -1, count - 1))
      return first > last ? Array(Swift.stride(from: first, to: last, by: step == .min ? -Int.max : step)) : []
    }
    switch value {
    case .string(let text):
      let scalars = Array(text.unicodeScalars)
      return .string(PythonText.string(try indices(scalars.count).map { scalars[$0] }))
    case .list(let values): return .list(try indices(values.count).map { values[$0] })
    case .tuple(let values): return .tuple(try indices(values.count).map { values[$0] })
    case .undefined(let reason): throw TemplateError(reason, at: location)
    default: return .undefined("a value of type \(value.typeName) has no slices")
    }
  }
}
