import Glibc

/// The functions that every template knows.
enum Globals {
  /// How many numbers `range` makes at most, as in Jinja's sandbox.
  static let maximumRange = 100_000

  static var all: [String: TemplateValue] {
    [
      "range": function("range", range),
      "dict": function("dict", dictionary),
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
    let (span, overflow) = stop.subtractingReportingOverflow(start)
    guard !overflow, step != .min, span != .min else { throw TemplateError("the range is too large", at: location) }
    let count = (span > 0) == (step > 0) && span != 0 ? (abs(span) - 1) / abs(step) + 1 : 0
    guard count <= maximumRange else {
      throw TemplateError("the range has \(count) numbers; at most \(maximumRange) are allowed", at: location)
    }
    try interpreter.charge(count, at: location)
    return .list((0..<count).map { .integer(start + $0 * step) })
  }

  /// The items of `dict(…)` and `namespace(…)`.
  private static func items(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateDictionary {
    var items = TemplateDictionary()
    if let first = arguments.positional.first {
      if case .dictionary(let given) = first {
        items = given
      } else {
        for pair in try interpreter.elements(of: first, at: location) {
          let parts = try interpreter.elements(of: pair, at: location)
          guard parts.count == 2, TemplateDictionary.canBeKey(parts[0]) else {
            throw TemplateError("a dictionary is made of pairs", at: location)
          }
          items[parts[0]] = parts[1]
        }
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

  private static func namespace(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let namespace = TemplateNamespace(try items(interpreter, arguments, location))
    interpreter.register(namespace)
    return .namespace(namespace)
  }

  private static func joiner(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let separator = try arguments.bound(to: "sep", of: "joiner", at: location)[0] ?? .string(", ")
    var isUsed = false
    return function("joiner") { _, _, _ in
      defer { isUsed = true }
      return isUsed ? separator : .string("")
    }
  }

  private static func cycler(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let items = arguments.positional
    guard !items.isEmpty else { throw TemplateError("at least one item has to be provided", at: location) }
    var index = 0
    let state = TemplateNamespace(TemplateDictionary())
    interpreter.register(state)
    func update() { state.values["current"] = items[index % items.count] }
    state.values["next"] = function("next") { _, _, _ in
      defer {
        index += 1
        update()
      }
      return items[index % items.count]
    }
    state.values["reset"] = function("reset") { _, _, _ in
      index = 0
      update()
      return .none
    }
    update()
    return .namespace(state)
  }

  private static func raise(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    throw TemplateError(
      line: location.line, column: location.column, message: arguments.positional.first?.text() ?? "",
      isRaisedByTemplate: true)
  }

  private static func currentTime(
    _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    guard let format = arguments.positional.first?.asString, format.utf8.count <= 4096 else {
      throw TemplateError("strftime_now needs a format", at: location)
    }
    var now = time(nil)
    var parts = tm()
    localtime_r(&now, &parts)
    var buffer = [CChar](repeating: 0, count: format.utf8.count * 64 + 64)
    let length = strftime(&buffer, buffer.count, format, &parts)
    return .string(String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }
}
