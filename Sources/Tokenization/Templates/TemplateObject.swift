/// A value with behaviour of its own: what Python has classes for.
class TemplateObject {
  /// Python's name of its type.
  var typeName: String { "object" }
  /// How many elements it has; `nil` where Python's `len` refuses.
  var count: Int? { nil }
  /// Whether a condition takes it for true.
  var isTrue: Bool { count != 0 }
  /// Whether `value[number]` works.
  var isSequence: Bool { false }
  var isIterable: Bool { true }
  var isCallable: Bool { false }
  /// The values that it keeps alive.
  var held: [TemplateValue] { [] }

  /// What tells keys of a dictionary apart.
  enum Hash {
    case identity, refused
    case value(TemplateValue)
  }

  var hash: Hash { .identity }

  /// What a loop goes over.
  func elements(_ interpreter: Interpreter, _ location: SourceLocation) throws -> [TemplateValue] {
    throw TemplateError("a value of type \(typeName) cannot be iterated", at: location)
  }

  func item(_ key: TemplateValue) -> TemplateValue? { nil }
  func attribute(_ name: String) -> TemplateValue? { nil }

  func call(_ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation) throws -> TemplateValue
  {
    throw TemplateError("a value of type \(typeName) cannot be called", at: location)
  }

  /// Python's `==` for another object of the same kind.
  func isEqual(to other: TemplateObject) -> Bool { self === other }

  /// Python's `repr`, into a text that grows within limits.
  func represent(_ writer: inout Representation) throws { try writer.write("<\(typeName) object at 0x700000000000>") }
}

/// Values that are made one at a time and only once, as Python's generators are: always true, without a length.
final class TemplateIterator: TemplateObject {
  typealias Pull = (_ interpreter: Interpreter, _ location: SourceLocation) throws -> TemplateValue?

  private let name: String
  /// The function that Python's representation names.
  private let maker: String?
  private let source: TemplateValue
  private var pull: Pull?

  /// Makes values from those of `source`, which `pull` asks.
  init(_ name: String, maker: String? = nil, over source: TemplateValue, _ pull: @escaping Pull) {
    self.name = name
    self.maker = maker
    self.source = source
    self.pull = pull
  }

  /// Goes over values that are there already.
  convenience init(_ name: String, _ values: [TemplateValue]) {
    var index = 0
    self.init(name, over: .list(values)) { _, _ in
      guard index < values.count else { return nil }
      defer { index += 1 }
      return values[index]
    }
  }

  override var typeName: String { name }
  override var isTrue: Bool { true }
  override var held: [TemplateValue] { pull == nil ? [] : [source] }

  override func represent(_ writer: inout Representation) throws {
    try writer.write(maker.map { "<generator object \($0) at 0x700000000000>" } ?? "<\(name) object at 0x700000000000>")
  }

  /// The next value; `nil` for ever after the last or after an error.
  func next(_ interpreter: Interpreter, _ location: SourceLocation) throws -> TemplateValue? {
    guard let pull else { return nil }
    // While it runs it cannot be asked again.
    self.pull = nil
    try interpreter.descend(at: location)
    defer { interpreter.ascend() }
    try interpreter.charge(at: location)
    guard let value = try pull(interpreter, location) else { return nil }
    self.pull = pull
    return value
  }

  override func elements(_ interpreter: Interpreter, _ location: SourceLocation) throws -> [TemplateValue] {
    var values: [TemplateValue] = []
    while let value = try next(interpreter, location) { values.append(value) }
    return values
  }
}

/// `range(start, stop, step)`.
final class TemplateRange: TemplateObject {
  let start: Int
  let step: Int
  private let stop: Int
  private let length: Int

  init(start: Int, stop: Int, step: Int, count: Int) {
    self.start = start
    self.stop = stop
    self.step = step
    length = count
  }

  override var typeName: String { "range" }
  override var count: Int? { length }
  override var isSequence: Bool { true }

  var values: [TemplateValue] { (0..<length).map { .integer(start &+ $0 &* step) } }

  override func elements(_ interpreter: Interpreter, _ location: SourceLocation) throws -> [TemplateValue] {
    try interpreter.charge(length, at: location)
    return values
  }

  override func item(_ key: TemplateValue) -> TemplateValue? {
    guard let index = key.asInteger else { return nil }
    let place = index < 0 ? index.addingReportingOverflow(length).partialValue : index
    return place >= 0 && place < length ? .integer(start &+ place &* step) : nil
  }

  override func attribute(_ name: String) -> TemplateValue? {
    switch name {
    case "start": .integer(start)
    case "stop": .integer(stop)
    case "step": .integer(step)
    case "count", "index": Methods.named(name, of: .tuple(values)).map { .function($0) }
    default: nil
    }
  }

  override var hash: Hash {
    let parts: [Int] = length == 0 ? [0] : length == 1 ? [1, start] : [length, start, step]
    return .value(.tuple([.string("range")] + parts.map { .integer($0) }))
  }

  override func isEqual(to other: TemplateObject) -> Bool {
    guard let other = other as? TemplateRange, length == other.length else { return false }
    return length == 0 || (start == other.start && (length == 1 || step == other.step))
  }

  override func represent(_ writer: inout Representation) throws {
    try writer.write("range(\(start), \(stop)\(step == 1 ? "" : ", \(step)"))")
  }
}

/// What `keys()`, `values()` and `items()` of a dictionary give.
final class DictionaryView: TemplateObject {
  enum Kind: String {
    case keys, values, items
  }

  let kind: Kind
  let parts: [TemplateValue]

  init(_ kind: Kind, _ dictionary: TemplateDictionary) {
    self.kind = kind
    parts =
      switch kind {
      case .keys: dictionary.keys
      case .values: dictionary.values
      case .items: zip(dictionary.keys, dictionary.values).map { .tuple([$0, $1]) }
      }
  }

  override var typeName: String { "dict_\(kind.rawValue)" }
  override var hash: Hash { kind == .values ? .identity : .refused }
  override var count: Int? { parts.count }
  override var held: [TemplateValue] { parts }

  override func elements(_ interpreter: Interpreter, _ location: SourceLocation) throws -> [TemplateValue] {
    try interpreter.charge(parts.count / 16, at: location)
    return parts
  }

  override func isEqual(to other: TemplateObject) -> Bool {
    guard kind != .values, let other = other as? DictionaryView, other.kind != .values else { return self === other }
    return parts.count == other.parts.count
      && parts.allSatisfy { part in other.parts.contains { part.isEqual(to: $0) } }
  }

  override func represent(_ writer: inout Representation) throws {
    try writer.write(typeName + "(")
    try writer.append(.list(parts))
    try writer.write(")")
  }
}

/// One group of `groupby`: a pair with names.
final class TemplateGroup: TemplateObject {
  private let parts: [TemplateValue]

  init(_ key: TemplateValue, _ values: [TemplateValue]) { parts = [key, .list(values)] }

  override var typeName: String { "tuple" }
  override var hash: Hash { .value(.tuple(parts)) }
  override var count: Int? { 2 }
  override var isSequence: Bool { true }
  override var held: [TemplateValue] { parts }

  override func elements(_ interpreter: Interpreter, _ location: SourceLocation) throws -> [TemplateValue] { parts }

  override func item(_ key: TemplateValue) -> TemplateValue? {
    guard let index = key.asInteger, (-2...1).contains(index) else { return nil }
    return parts[index < 0 ? index + 2 : index]
  }

  override func attribute(_ name: String) -> TemplateValue? {
    switch name {
    case "grouper": parts[0]
    case "list": parts[1]
    default: Methods.named(name, of: .tuple(parts)).map { .function($0) }
    }
  }

  override func represent(_ writer: inout Representation) throws { try writer.append(.tuple(parts)) }
}

/// `joiner(separator)`: nothing at the first call, the separator afterwards.
final class TemplateJoiner: TemplateObject {
  private let separator: TemplateValue
  private var isUsed = false

  init(_ separator: TemplateValue) { self.separator = separator }

  override var typeName: String { "jinja2.utils.Joiner" }
  override var isTrue: Bool { true }
  override var isIterable: Bool { false }
  override var isCallable: Bool { true }
  override var held: [TemplateValue] { [separator] }

  override func attribute(_ name: String) -> TemplateValue? {
    switch name {
    case "sep": separator
    case "used": .boolean(isUsed)
    default: nil
    }
  }

  override func call(_ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation) throws
    -> TemplateValue
  {
    try arguments.expectNone(of: "the joiner", at: location)
    defer { isUsed = true }
    return isUsed ? separator : .string("")
  }
}

/// `cycler(items…)`: one item after the other, again and again.
final class TemplateCycler: TemplateObject {
  private let items: [TemplateValue]
  private var position = 0

  init(_ items: [TemplateValue]) { self.items = items }

  override var typeName: String { "jinja2.utils.Cycler" }
  override var isTrue: Bool { true }
  override var isIterable: Bool { false }
  override var held: [TemplateValue] { items }

  override func attribute(_ name: String) -> TemplateValue? {
    switch name {
    case "current": items[position]
    case "items": .tuple(items)
    case "pos": .integer(position)
    case "next", "__next__":
      .function(
        TemplateFunction("next", holding: [.object(self)]) { [self] _, arguments, location in
          try arguments.expectNone(of: "next", at: location)
          defer { position = (position + 1) % items.count }
          return items[position]
        })
    case "reset":
      .function(
        TemplateFunction("reset", holding: [.object(self)]) { [self] _, arguments, location in
          try arguments.expectNone(of: "reset", at: location)
          position = 0
          return .none
        })
    default: nil
    }
  }
}
