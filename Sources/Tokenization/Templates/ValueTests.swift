/// The tests of Jinja (`value is name`).
enum ValueTests {
  typealias Test = (
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) throws -> Bool

  /// A test by its name, with the number of its arguments.
  static func named(_ name: String) -> (test: Test, arguments: Int)? {
    if let test = plain(name) { return (test, 0) }
    return withArgument(name).map { ($0, 1) }
  }

  private static func plain(_ name: String) -> Test? {
    switch name {
    case "defined": { _, value, _, _ in !value.isUndefined }
    case "undefined": { _, value, _, _ in value.isUndefined }
    case "none": { _, value, _, _ in value.isNone }
    case "boolean": { _, value, _, _ in if case .boolean = value { true } else { false } }
    case "true": { _, value, _, _ in if case .boolean(true) = value { true } else { false } }
    case "false": { _, value, _, _ in if case .boolean(false) = value { true } else { false } }
    case "integer": { _, value, _, _ in value.asBigInteger != nil && value.typeName == "int" }
    case "float": { _, value, _, _ in if case .float = value { true } else { false } }
    case "number": { _, value, _, _ in value.asDouble != nil }
    case "string": { _, value, _, _ in value.asString != nil }
    case "mapping": { _, value, _, _ in if case .dictionary = value { true } else { false } }
    case "sequence": isSequence
    case "iterable": isIterable
    case "callable": isCallable
    case "escaped": { _, value, _, _ in if case .markup = value { true } else { false } }
    case "lower": { try PythonText.isLower($0.text($1, at: $3)) }
    case "upper": { try PythonText.isUpper($0.text($1, at: $3)) }
    case "odd": { try isMultiple($0, $1, [.integer(2)], $3, of: 1) }
    case "even": { try isMultiple($0, $1, [.integer(2)], $3, of: 0) }
    case "filter": { try isName($1, $3) { Filters.named($0) != nil } }
    case "test": { try isName($1, $3) { ValueTests.named($0) != nil } }
    default: nil
    }
  }

  private static func withArgument(_ name: String) -> Test? {
    switch name {
    case "divisibleby": { try isMultiple($0, $1, $2, $3, of: 0) }
    case "sameas": isSame
    case "in": comparison(.isIn)
    case "==", "eq", "equalto": comparison(.equal)
    case "!=", "ne": comparison(.notEqual)
    case ">", "gt", "greaterthan": comparison(.greater)
    case ">=", "ge": comparison(.greaterOrEqual)
    case "<", "lt", "lessthan": comparison(.less)
    case "<=", "le": comparison(.lessOrEqual)
    default: nil
    }
  }

  private static func isName(
    _ value: TemplateValue, _ location: SourceLocation, _ test: (String) -> Bool
  ) throws(TemplateError) -> Bool {
    guard TemplateDictionary.canBeKey(value) else {
      throw TemplateError("a value of type \(value.typeName) is no name", at: location)
    }
    return value.asString.map(test) ?? false
  }

  private static func argument(
    _ arguments: [TemplateValue], _ location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    guard let argument = arguments.first else { throw TemplateError("the test needs an argument", at: location) }
    return argument
  }

  private static func comparison(_ comparison: Expression.Comparison) -> Test {
    { interpreter, value, arguments, location in
      try Operators.compare(value, comparison, argument(arguments, location), interpreter, at: location)
    }
  }

  private static func isSequence(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) -> Bool {
    switch value {
    case .list, .tuple, .string, .markup, .dictionary, .undefined: true
    case .object(let object): object.isSequence
    default: false
    }
  }

  private static func isIterable(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) -> Bool {
    switch value {
    case .list, .tuple, .string, .markup, .dictionary, .undefined, .loop: true
    case .object(let object): object.isIterable
    default: false
    }
  }

  private static func isCallable(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) -> Bool {
    switch value {
    case .function, .loop, .undefined: true
    case .object(let object): object.isCallable
    default: false
    }
  }

  private static func isSame(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) throws -> Bool {
    let other = try argument(arguments, location)
    switch (value, other) {
    case (.list(let a), .list(let b)):
      // The same list is the same memory.
      return a.withUnsafeBufferPointer { a in b.withUnsafeBufferPointer { a.baseAddress == $0.baseAddress } }
    default: return try value.typeName == other.typeName && interpreter.isEqual(value, other, at: location)
    }
  }

  private static func isMultiple(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation,
    of remainder: Int
  ) throws -> Bool {
    let result = try Operators.apply(.modulo, value, argument(arguments, location), interpreter, at: location)
    return result.isEqual(to: .integer(remainder))
  }
}
