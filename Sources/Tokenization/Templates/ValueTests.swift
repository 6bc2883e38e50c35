/// The tests of Jinja (`value is name`).
enum ValueTests {
  typealias Test = (
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) throws -> Bool

  static func named(_ name: String) -> Test? {
    switch name {
    case "defined": { _, value, _, _ in !value.isUndefined }
    case "undefined": { _, value, _, _ in value.isUndefined }
    case "none": { _, value, _, _ in if case .none = value { true } else { false } }
    case "boolean": { _, value, _, _ in if case .boolean = value { true } else { false } }
    case "true": { _, value, _, _ in if case .boolean(true) = value { true } else { false } }
    case "false": { _, value, _, _ in if case .boolean(false) = value { true } else { false } }
    case "integer": { _, value, _, _ in if case .integer = value { true } else { false } }
    case "float": { _, value, _, _ in if case .float = value { true } else { false } }
    case "number": { _, value, _, _ in value.asDouble != nil }
    case "string": { _, value, _, _ in value.asString != nil }
    case "mapping": { _, value, _, _ in if case .dictionary = value { true } else { false } }
    case "sequence": isSequence
    case "iterable": isIterable
    case "callable": isCallable
    case "sameas": isSame
    case "escaped": { _, _, _, _ in false }
    case "lower": { _, value, _, _ in PythonText.isLower(value.text()) }
    case "upper": { _, value, _, _ in PythonText.isUpper(value.text()) }
    case "odd": { try isMultiple($0, $1, [.integer(2)], $3, of: 1) }
    case "even": { try isMultiple($0, $1, [.integer(2)], $3, of: 0) }
    case "divisibleby": { try isMultiple($0, $1, $2, $3, of: 0) }
    case "filter": { _, value, _, _ in Filters.named(value.text()) != nil }
    case "test": { _, value, _, _ in ValueTests.named(value.text()) != nil }
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
    case .list, .tuple, .string, .dictionary: true
    default: false
    }
  }

  private static func isIterable(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) -> Bool {
    switch value {
    case .list, .tuple, .string, .dictionary, .undefined, .loop: true
    default: false
    }
  }

  private static func isCallable(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) -> Bool {
    switch value {
    case .function, .loop, .undefined: true
    default: false
    }
  }

  private static func isSame(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation
  ) throws -> Bool {
    let other = try argument(arguments, location)
    return value.typeName == other.typeName && value.isEqual(to: other)
  }

  private static func isMultiple(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: [TemplateValue], _ location: SourceLocation,
    of remainder: Int
  ) throws -> Bool {
    let result = try Operators.apply(.modulo, value, argument(arguments, location), interpreter, at: location)
    return result.isEqual(to: .integer(remainder))
  }
}
