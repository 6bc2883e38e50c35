import JSONValues

/// A value of a template, with Python's meaning.
enum TemplateValue {
  /// What is not there, with the words for saying so.
  case undefined(String)
  case none
  case boolean(Bool)
  case integer(Int)
  /// A whole number that no `Int` holds.
  case big(BigInteger)
  case float(Double)
  case string(String)
  /// Text that is escaped already (`safe`, `escape`): text added to it is escaped.
  case markup(String)
  case list([TemplateValue])
  case tuple([TemplateValue])
  case dictionary(TemplateDictionary)
  case function(TemplateFunction)
  case namespace(TemplateNamespace)
  case loop(LoopState)
  case object(TemplateObject)
}

/// Something that can be called.
final class TemplateFunction {
  typealias Body = (_ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation) throws ->
    TemplateValue

  let name: String
  /// The values that it keeps alive.
  let held: [TemplateValue]
  let representation: String
  /// What `function.name` finds.
  let attributes: [String: TemplateValue]
  let call: Body

  init(
    _ name: String, holding held: [TemplateValue] = [], representation: String? = nil,
    attributes: [String: TemplateValue] = [:], _ call: @escaping Body
  ) {
    self.name = name
    self.held = held
    self.representation = representation ?? "<function \(name) at 0x700000000000>"
    self.attributes = attributes
    self.call = call
  }
}

/// The only value that a template can change: `namespace()`.
final class TemplateNamespace {
  var values: TemplateDictionary
  init(_ values: TemplateDictionary) { self.values = values }
}

/// The values of a call, after those of the callee itself.
struct CallArguments {
  var positional: [TemplateValue] = []
  var keyword: [(name: String, value: TemplateValue)] = []

  /// Puts each value under its parameter's name; `nil` where none was given.
  ///
  /// Too many values, or names that are no parameter's, are errors.
  func bound(
    to names: String..., of function: String, required: Int = 0, at location: SourceLocation
  ) throws(TemplateError) -> [TemplateValue?] {
    var values = [TemplateValue?](repeating: nil, count: names.count)
    guard positional.count <= names.count else {
      throw TemplateError("\(function) takes at most \(names.count) arguments, got \(positional.count)", at: location)
    }
    for (index, value) in positional.enumerated() { values[index] = value }
    for (name, value) in keyword {
      guard let index = names.firstIndex(of: name) else {
        throw TemplateError("\(function) has no argument '\(name)'", at: location)
      }
      guard values[index] == nil else { throw TemplateError("\(function) got '\(name)' twice", at: location) }
      values[index] = value
    }
    for index in 0..<required where values[index] == nil {
      throw TemplateError("\(function) needs '\(names[index])'", at: location)
    }
    return values
  }

  /// The values of a function that takes them by place only.
  func positional(
    _ count: ClosedRange<Int>, of function: String, at location: SourceLocation
  ) throws(TemplateError) -> [TemplateValue] {
    if let (name, _) = keyword.first { throw TemplateError("\(function) has no argument '\(name)'", at: location) }
    guard count.contains(positional.count) else {
      let wanted =
        count.lowerBound == count.upperBound ? "\(count.lowerBound)" : "\(count.lowerBound) to \(count.upperBound)"
      throw TemplateError("\(function) takes \(wanted) arguments, got \(positional.count)", at: location)
    }
    return positional
  }

  func expectNone(of function: String, at location: SourceLocation) throws(TemplateError) {
    _ = try positional(0...0, of: function, at: location)
  }
}

extension TemplateValue {
  /// Makes a value of JSON.
  init(_ json: JSONValue) {
    switch json {
    case .null: self = .none
    case .bool(let value): self = .boolean(value)
    case .integer(let value): self = .integer(value)
    case .number(let value): self = .float(value)
    case .string(let value): self = .string(value)
    case .array(let values): self = .list(values.map(TemplateValue.init))
    case .object(let object):
      var dictionary = TemplateDictionary()
      for (key, value) in object { dictionary[key] = TemplateValue(value) }
      self = .dictionary(dictionary)
    }
  }

  /// Python's name of the value's type.
  var typeName: String {
    switch self {
    case .undefined: "Undefined"
    case .none: "NoneType"
    case .boolean: "bool"
    case .integer, .big: "int"
    case .float: "float"
    case .string: "str"
    case .markup: "Markup"
    case .list: "list"
    case .tuple: "tuple"
    case .dictionary: "dict"
    case .function: "function"
    case .namespace: "Namespace"
    case .loop: "LoopContext"
    case .object(let object): object.typeName
    }
  }

  /// Whether a condition takes it for true.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .boolean(let value): value
    case .integer(let value): value != 0
    case .float(let value): value != 0
    case .string(let value), .markup(let value): !value.isEmpty
    case .list(let values), .tuple(let values): !values.isEmpty
    case .dictionary(let values): values.count > 0
    case .function, .namespace, .loop, .big: true
    case .object(let object): object.isTrue
    }
  }

  var isUndefined: Bool { if case .undefined = self { true } else { false } }
  var isNone: Bool { if case .none = self { true } else { false } }

  /// The value with `safe` text as any other text, and a group as a tuple.
  var plain: TemplateValue {
    switch self {
    case .markup(let text): .string(text)
    case .object(let group as TemplateGroup): .tuple(group.held)
    default: self
    }
  }

  /// The value as a whole number, where Python takes it for one.
  var asInteger: Int? {
    switch self {
    case .integer(let value): value
    case .boolean(let value): value ? 1 : 0
    default: nil
    }
  }

  /// The value as a whole number of any size.
  var asBigInteger: BigInteger? {
    if case .big(let value) = self { value } else { asInteger.map(BigInteger.init) }
  }

  /// The value as a number of any kind.
  var asDouble: Double? {
    switch self {
    case .float(let value): value
    case .big(let value): value.double
    default: asInteger.map(Double.init)
    }
  }

  var asString: String? {
    switch self {
    case .string(let value), .markup(let value): value
    default: nil
    }
  }

  /// What the value keeps alive and writes; empty for what holds no other values.
  var held: [TemplateValue] {
    switch self {
    case .list(let values), .tuple(let values): values
    case .dictionary(let items): items.values
    case .function(let function): function.held
    case .loop(let loop): loop.held
    case .object(let object): object.held
    default: []
    }
  }

  /// Whether it may hold other values.
  var isContainer: Bool {
    switch self {
    case .list, .tuple, .dictionary, .function, .loop, .object: true
    default: false
    }
  }

  /// Python's `==`.
  func isEqual(to other: TemplateValue) -> Bool {
    switch (plain, other.plain) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.string(let a), .string(let b)): return PythonText.isSame(a, b)
    case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
      return a.count == b.count && zip(a, b).allSatisfy { $0.isEqual(to: $1) }
    case (.dictionary(let a), .dictionary(let b)):
      return a.count == b.count
        && zip(a.keys, a.values).allSatisfy { key, value in b[key].map { value.isEqual(to: $0) } ?? false }
    case (.function(let a), .function(let b)): return a === b
    case (.namespace(let a), .namespace(let b)): return a === b
    case (.loop(let a), .loop(let b)): return a === b
    case (.object(let a), .object(let b)): return a.isEqual(to: b)
    default:
      if let a = asInteger, let b = other.asInteger { return a == b }
      return TemplateNumber.order(self, other) == 0
    }
  }

  /// Python's `<`, or `nil` where it does not compare.
  func isLess(than other: TemplateValue) -> Bool? {
    switch (plain, other.plain) {
    case (.string(let a), .string(let b)): return a.utf8.lexicographicallyPrecedes(b.utf8)
    case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
      for (x, y) in zip(a, b) where !x.isEqual(to: y) { return x.isLess(than: y) }
      return a.count < b.count
    default:
      if let a = asInteger, let b = other.asInteger { return a < b }
      guard asDouble != nil, other.asDouble != nil else { return nil }
      return TemplateNumber.order(self, other).map { $0 < 0 } ?? false
    }
  }
}

/// Numbers of different kinds.
enum TemplateNumber {
  /// Less than 0, 0 or more as the first number is less than, equal to or more than the second, exactly.
  ///
  /// `nil` for what is no number.
  static func order(_ a: TemplateValue, _ b: TemplateValue) -> Int? {
    if let a = a.asBigInteger, let b = b.asBigInteger { return a == b ? 0 : a < b ? -1 : 1 }
    guard let x = a.asDouble, let y = b.asDouble, !x.isNaN, !y.isNaN else { return nil }
    if x == y, x.isFinite {
      // A whole number may have been rounded on the way.
      if let a = a.asBigInteger, let b = BigInteger(y) { return a == b ? 0 : a < b ? -1 : 1 }
      if let b = b.asBigInteger, let a = BigInteger(x) { return a == b ? 0 : a < b ? -1 : 1 }
    }
    return x == y ? 0 : x < y ? -1 : 1
  }
}

/// The variables of one stretch of a template; what is not here is looked for outside.
final class Scope {
  var variables: [String: TemplateValue] = [:]
  let outer: Scope?

  init(outer: Scope?) { self.outer = outer }

  func find(_ name: String) -> TemplateValue? {
    var scope: Scope? = self
    while let current = scope {
      if let value = current.variables[name] { return value }
      scope = current.outer
    }
    return nil
  }
}
