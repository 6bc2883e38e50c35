/// The filters of Jinja (`value | name(arguments)`).
enum Filters {
  typealias Filter = (
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue

  static func named(_ name: String) -> Filter? {
    NumberFilters.named(name) ?? TextFilters.named(name) ?? MarkupFilters.named(name) ?? ListFilters.named(name)
  }

  /// A filter of the value's text alone, which keeps escaped text escaped.
  static func text(_ name: String, keepsMarkup: Bool = true, _ body: @escaping (String) -> String) -> Filter {
    { interpreter, value, arguments, location in
      try arguments.expectNone(of: name, at: location)
      let text = try interpreter.text(value, at: location)
      try interpreter.charge(text.utf8.count / 8, at: location)
      let result = body(text)
      try interpreter.charge(bytes: result.utf8.count, at: location)
      return keepsMarkup ? like(value, result) : .string(result)
    }
  }

  /// A text of the same kind as the value that it was made of.
  static func like(_ value: TemplateValue, _ text: String) -> TemplateValue {
    if case .markup = value { .markup(text) } else { .string(text) }
  }

  /// Text with what means something in HTML spelled out.
  static func escaped(_ text: String) -> String {
    var result = ""
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "'": result += "&#39;"
      case "\"": result += "&#34;"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// The text of a value, escaped if it is not yet.
  static func escaped(_ text: String, of value: TemplateValue) -> String {
    if case .markup = value { text } else { escaped(text) }
  }

  /// The escaped text of a string.
  static func escapedText(_ value: TemplateValue) -> String { escaped(value.asString ?? "", of: value) }

  /// A whole number among the arguments; `nil` where none was given.
  static func integer(
    _ value: TemplateValue?, _ what: String, _ location: SourceLocation
  ) throws(TemplateError) -> Int? {
    try TextMethods.integer(value, what, location)
  }

  /// An attribute of an item by its path (`a.b.0`), or by its number.
  static func path(
    _ path: TemplateValue, of item: TemplateValue, _ interpreter: Interpreter, _ location: SourceLocation,
    default standard: TemplateValue? = nil
  ) throws -> TemplateValue {
    guard let text = path.asString else {
      let value = try interpreter.item(path, of: item, at: location)
      return value.isUndefined ? standard ?? value : value
    }
    var value = item
    for part in PythonText.split(text, ".") {
      let isNumber = !part.isEmpty && part.utf8.allSatisfy { (0x30...0x39).contains($0) }
      let key: TemplateValue = isNumber ? Int(part).map { .integer($0) } ?? .string(part) : .string(part)
      value = try interpreter.item(key, of: value, at: location)
      if value.isUndefined, let standard { value = standard }
    }
    return value
  }
}
