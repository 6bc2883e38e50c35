import JSONValues

/// A value of a template, with Python's meaning.
enum TemplateValue {
  /// What is not there, with the words for saying so.
  case undefined(String)
  case none
  case boolean(Bool)
  case integer(Int)
  case float(Double)
  case string(String)
  case list([TemplateValue])
  case tuple([TemplateValue])
  case dictionary(TemplateDictionary)
  case function(TemplateFunction)
  case namespace(TemplateNamespace)
  case loop(LoopState)
}

/// Something that can be called.
final class TemplateFunction {
  typealias Body = (_ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation) throws ->
    TemplateValue

  let name: String
  let call: Body

  init(_ name: String, _ call: @escaping Body) {
    self.name = name
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
  func bound(to names: String..., of function: String, at location: SourceLocation) throws(TemplateError)
    -> [TemplateValue?]
  {
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
    return values
  }
}

/// Keys and values in the order in which the keys came.
struct TemplateDictionary {
  private(set) var keys: [TemplateValue] = []
  private(set) var values: [TemplateValue] = []
  /// Where each key lies; filled only once there are many.
  private var places: [Key: Int] = [:]

  private enum Key: Hashable {
    case none
    case number(Double)
    case integer(Int)
    case string([UInt8])
    case tuple([Key])

    /// `nil` for what cannot be a key.
    init?(_ value: TemplateValue) {
      switch value {
      case .none: self = .none
      case .boolean(let value): self = .integer(value ? 1 : 0)
      case .integer(let value): self = .integer(value)
      case .float(let value):
        if let integer = Int(exactly: value) { self = .integer(integer) } else { self = .number(value) }
      case .string(let value): self = .string(Array(value.utf8))
      case .tuple(let values):
        var keys: [Key] = []
        for value in values {
          guard let key = Key(value) else { return nil }
          keys.append(key)
        }
        self = .tuple(keys)
      default: return nil
      }
    }
  }

  private static let smallCount = 8

  init() {}

  var count: Int { keys.count }

  private func index(of key: TemplateValue) -> Int? {
    if places.isEmpty { return keys.firstIndex { $0.isEqual(to: key) } }
    return Key(key).flatMap { places[$0] }
  }

  /// Whether a value can be a key.
  static func canBeKey(_ value: TemplateValue) -> Bool { Key(value) != nil }

  subscript(_ key: TemplateValue) -> TemplateValue? {
    get { index(of: key).map { values[$0] } }
    set {
      guard let newValue, Self.canBeKey(key) else { return }
      if let index = index(of: key) {
        values[index] = newValue
        return
      }
      keys.append(key)
      values.append(newValue)
      if !places.isEmpty {
        if let key = Key(key) { places[key] = keys.count - 1 }
      } else if keys.count > Self.smallCount {
        for (index, key) in keys.enumerated() { if let key = Key(key) { places[key] = index } }
      }
    }
  }

  subscript(_ key: String) -> TemplateValue? {
    get { self[.string(key)] }
    set { self[.string(key)] = newValue }
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
    case .integer: "int"
    case .float: "float"
    case .string: "str"
    case .list: "list"
    case .tuple: "tuple"
    case .dictionary: "dict"
    case .function: "function"
    case .namespace: "Namespace"
    case .loop: "LoopContext"
    }
  }

  /// Whether a condition takes it for true.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .boolean(let value): value
    case .integer(let value): value != 0
    case .float(let value): value != 0
    case .string(let value): !value.isEmpty
    case .list(let values), .tuple(let values): !values.isEmpty
    case .dictionary(let values): values.count > 0
    case .function, .namespace, .loop: true
    }
  }

  var isUndefined: Bool { if case .undefined = self { true } else { false } }

  /// The value as a whole number, where Python takes it for one.
  var asInteger: Int? {
    switch self {
    case .integer(let value): value
    case .boolean(let value): value ? 1 : 0
    default: nil
    }
  }

  /// The value as a number of any kind.
  var asDouble: Double? {
    if case .float(let value) = self { value } else { asInteger.map(Double.init) }
  }

  var asString: String? { if case .string(let value) = self { value } else { nil } }

  /// Python's `==`.
  func isEqual(to other: TemplateValue) -> Bool {
    switch (self, other) {
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
    default:
      if let a = asInteger, let b = other.asInteger { return a == b }
      guard let a = asDouble, let b = other.asDouble else { return false }
      return a == b
    }
  }

  /// Python's `<`, or `nil` where it does not compare.
  func isLess(than other: TemplateValue) -> Bool? {
    switch (self, other) {
    case (.string(let a), .string(let b)): return a.utf8.lexicographicallyPrecedes(b.utf8)
    case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
      for (x, y) in zip(a, b) where !x.isEqual(to: y) { return x.isLess(than: y) }
      return a.count < b.count
    default:
      if let a = asInteger, let b = other.asInteger { return a < b }
      guard let a = asDouble, let b = other.asDouble else { return nil }
      return a < b
    }
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

/// What `loop` is inside of a loop.
final class LoopState {
  let items: [TemplateValue]
  let depth: Int
  var index = 0
  /// What `changed` was last called with.
  var changedValues: [TemplateValue]?
  /// Runs the loop's body over other items, for a recursive loop.
  let recurse: ((_ items: TemplateValue, _ location: SourceLocation) throws -> TemplateValue)?

  init(
    _ items: [TemplateValue], depth: Int,
    recurse: ((_ items: TemplateValue, _ location: SourceLocation) throws -> TemplateValue)?
  ) {
    self.items = items
    self.depth = depth
    self.recurse = recurse
  }

  func attribute(_ name: String) -> TemplateValue? {
    switch name {
    case "index": .integer(index + 1)
    case "index0": .integer(index)
    case "revindex": .integer(items.count - index)
    case "revindex0": .integer(items.count - index - 1)
    case "first": .boolean(index == 0)
    case "last": .boolean(index == items.count - 1)
    case "length": .integer(items.count)
    case "depth": .integer(depth + 1)
    case "depth0": .integer(depth)
    case "previtem": index > 0 ? items[index - 1] : .undefined("there is no previous item")
    case "nextitem": index + 1 < items.count ? items[index + 1] : .undefined("there is no next item")
    case "cycle":
      .function(
        TemplateFunction("cycle") { _, arguments, location in
          guard !arguments.positional.isEmpty else { throw TemplateError("no items for cycling given", at: location) }
          return arguments.positional[self.index % arguments.positional.count]
        })
    case "changed":
      .function(
        TemplateFunction("changed") { _, arguments, _ in
          let values = arguments.positional
          if let last = self.changedValues, TemplateValue.tuple(last).isEqual(to: .tuple(values)) {
            return .boolean(false)
          }
          self.changedValues = values
          return .boolean(true)
        })
    default: nil
    }
  }
}
