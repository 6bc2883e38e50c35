/// The functions that every template knows.
enum Globals {
  /// How many numbers `range` makes at most, as in Jinja's sandbox.
  static let maximumRange = 100_000

  static var all: [String: TemplateValue] {
    [
      "range": function("range", range),
      "dict": .function(
        TemplateFunction(
          "dict", attributes: ["fromkeys": function("fromkeys", dictionaryFromKeys)], dictionary)),
      "namespace": function("namespace", namespace),
      "joiner": function("joiner", joiner),
      "cycler": function("cycler", cycler),
      "raise_exception": function("raise_exception", raise),
      "strftime_now": function("strftime_now", currentTime),
    ]
  }

  private static func function(_ name: String, _ body: @escaping TemplateFunction.Body) -> TemplateValue {
    .function(TemplateFunction(name, body))
  }

  private static func range(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let numbers = try arguments.positional.map { value in
      guard let number = value.asInteger else {
        if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
        throw TemplateError("range needs integers, not \(value.typeName)", at: location)
      }
      return number
    }
    guard (1...3).contains(numbers.count), arguments.keyword.isEmpty else {
      throw TemplateError("range takes one to three numbers", at: location)
    }
    let (start, stop) = numbers.count == 1 ? (0, numbers[0]) : (numbers[0], numbers[1])
    let step = numbers.count == 3 ? numbers[2] : 1
    guard step != 0 else { throw TemplateError("range's step must not be zero", at: location) }
    // The distance of any two integers fits an unsigned one.
    let isEmpty = step > 0 ? start >= stop : start <= stop
    let distance =
      step > 0 ? UInt(bitPattern: stop) &- UInt(bitPattern: start) : UInt(bitPattern: start) &- UInt(bitPattern: stop)
    let steps = isEmpty ? 0 : (distance - 1) / step.magnitude + 1
    guard steps <= maximumRange else {
      throw TemplateError("the range has \(steps) numbers; at most \(maximumRange) are allowed", at: location)
    }
    let count = Int(steps)
    return .object(TemplateRange(start: start, stop: stop, step: step, count: count))
  }

  /// The items of `dict(…)` and `namespace(…)`.
  private static func items(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateDictionary {
    var items = TemplateDictionary()
    guard arguments.positional.count <= 1 else {
      throw TemplateError("a dictionary is made of one value and names", at: location)
    }
    switch arguments.positional.first {
    case nil: break
    case .dictionary(let given): items = given
    case .undefined(let reason)?: throw TemplateError(reason, at: location)
    case .namespace?: throw TemplateError("a dictionary is made of pairs", at: location)
    case .some(let pairs):
      for pair in try interpreter.elements(of: pairs, at: location) {
        let parts = try interpreter.elements(of: pair, at: location)
        guard parts.count == 2, TemplateDictionary.canBeKey(parts[0]) else {
          throw TemplateError("a dictionary is made of pairs", at: location)
        }
        items[parts[0]] = parts[1]
      }
    }
    for (name, value) in arguments.keyword { items[name] = value }
    return items
  }

  private static func dictionary(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    .dictionary(try items(interpreter, arguments, location))
  }

  private static func dictionaryFromKeys(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let values = try arguments.positional(1...2, of: "fromkeys", at: location)
    var items = TemplateDictionary()
    for key in try interpreter.elements(of: values[0], at: location) {
      guard TemplateDictionary.canBeKey(key) else {
        throw TemplateError("a value of type \(key.typeName) cannot be a key", at: location)
      }
      items[key] = values.count > 1 ? values[1] : TemplateValue.none
    }
    return .dictionary(items)
  }

  private static func namespace(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let items = try items(interpreter, arguments, location)
    for case .string(let name) in items.keys where name.hasPrefix("_") {
      throw TemplateError("a namespace has no place for '\(name)': names must not start with '_'", at: location)
    }
    let namespace = TemplateNamespace(items)
    interpreter.register(namespace)
    return .namespace(namespace)
  }

  private static func joiner(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    .object(TemplateJoiner(try arguments.bound(to: "sep", of: "joiner", at: location)[0] ?? .string(", ")))
  }

  private static func cycler(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let items = try arguments.positional(0...Int.max, of: "cycler", at: location)
    guard !items.isEmpty else { throw TemplateError("at least one item has to be provided", at: location) }
    return .object(TemplateCycler(items))
  }

  private static func raise(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let message = try arguments.bound(to: "message", of: "raise_exception", required: 1, at: location)[0]
    throw TemplateError(
      line: location.line, column: location.column, message: try interpreter.text(message ?? .none, at: location),
      isRaisedByTemplate: true)
  }

  private static func currentTime(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let format = try arguments.bound(to: "format", of: "strftime_now", required: 1, at: location)[0]?.asString
    guard let format, format.utf8.count <= 4096 else {
      throw TemplateError("strftime_now needs a format", at: location)
    }
    return .string(interpreter.now.formatted(format))
  }
}
