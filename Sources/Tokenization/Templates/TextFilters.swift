/// Filters that make text of text.
enum TextFilters {
  static func named(_ name: String) -> Filters.Filter? {
    switch name {
    case "capitalize": Filters.text(name, PythonText.capitalize)
    case "lower": Filters.text(name, PythonText.lower)
    case "upper": Filters.text(name, PythonText.upper)
    case "title": Filters.text(name, keepsMarkup: false, titled)
    case "center": center
    case "format": format
    case "indent": indent
    case "pprint":
      { interpreter, value, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return .string(try PrettyPrinter.text(of: value, interpreter, at: location))
      }
    case "replace": replace
    case "string":
      { interpreter, value, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return Filters.like(value, try interpreter.text(value, at: location))
      }
    case "tojson": json
    case "trim": trim
    case "truncate": truncate
    case "wordcount": wordCount
    case "wordwrap": wordWrap
    default: nil
    }
  }

  private static func replace(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "old", "new", "count", of: "replace", required: 2, at: location)
    let count = bound[2].flatMap { $0.isNone ? nil : $0 }
    let (old, new) = (bound[0] ?? .none, bound[1] ?? .none)
    // Only where output is escaped, escaped text makes the rest so.
    let isMarkup =
      interpreter.isEscaping && [value, old, new].contains { if case .markup = $0 { true } else { false } }
    func text(_ value: TemplateValue) throws -> String {
      let text = try interpreter.text(value, at: location)
      return isMarkup ? Filters.escaped(text, of: value) : text
    }
    let result = try TextMethods.replace(
      text(value), text(old), text(new), limit: Filters.integer(count, "replace", location) ?? -1, interpreter, location
    )
    return isMarkup ? .markup(result) : .string(result)
  }

  private static func trim(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let given = try arguments.bound(to: "chars", of: "trim", at: location)[0]
    let characters = try given.flatMap { $0.isNone ? nil : try TextMethods.string($0, "trim", location) }
    let text = try interpreter.text(value, at: location)
    try interpreter.charge(text.utf8.count / 16, at: location)
    return Filters.like(value, PythonText.strip(text, characters))
  }

  private static func center(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "width", of: "center", at: location)
    let width = try Filters.integer(bound[0], "center", location) ?? 80
    return Filters.like(
      value, try TextMethods.padded(interpreter.text(value, at: location), width, .center, " ", interpreter, location))
  }

  private static func indent(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "width", "first", "blank", of: "indent", at: location)
    let text = try TextMethods.string(value, "indent", location)
    let margin: String
    if let given = bound[0]?.asString {
      margin = given
    } else {
      let width = max(0, try Filters.integer(bound[0], "indent", location) ?? 4)
      try interpreter.charge(bytes: width, at: location)
      margin = String(repeating: " ", count: width)
    }
    let lines = PythonText.lines(text + "\n")
    let (total, overflow) = margin.utf8.count.multipliedReportingOverflow(by: lines.count)
    try interpreter.charge(
      bytes: overflow ? .max : total.addingReportingOverflow(text.utf8.count).partialValue, at: location)
    let indentsBlank = bound[2]?.isTrue ?? false
    var result = bound[1]?.isTrue ?? false ? margin : ""
    for (index, line) in lines.enumerated() {
      if index > 0 { result += "\n" + (line.isEmpty && !indentsBlank ? "" : margin) }
      result += line
    }
    return Filters.like(value, result)
  }

  /// Each word with a large letter, the rest in small ones; a word begins after white space and opening brackets.
  private static func titled(_ text: String) -> String {
    func separates(_ scalar: Unicode.Scalar) -> Bool {
      PythonText.isSpace(scalar) || "-({[<".unicodeScalars.contains(scalar)
    }
    var result = ""
    var rest = text.unicodeScalars[...]
    while let first = rest.first {
      if separates(first) {
        result.unicodeScalars.append(rest.removeFirst())
        continue
      }
      let word = rest.prefix { !separates($0) }
      rest = rest[word.endIndex...]
      result += first.properties.uppercaseMapping + PythonText.lower(String(word.dropFirst()))
    }
    return result
  }

  private static func truncate(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "length", "killwords", "end", "leeway", of: "truncate", at: location)
    let length = try Filters.integer(bound[0], "truncate", location) ?? 255
    let end = try bound[2].map { try TextMethods.string($0, "truncate", location) } ?? "..."
    let leeway = try Filters.integer(bound[3].flatMap { $0.isNone ? nil : $0 }, "truncate", location) ?? 5
    let room = length.subtractingReportingOverflow(end.unicodeScalars.count).partialValue
    guard room >= 0, length >= 0 else { throw TemplateError("truncate's length is shorter than its end", at: location) }
    guard leeway >= 0 else { throw TemplateError("truncate's leeway is negative", at: location) }
    let (most, overflow) = length.addingReportingOverflow(leeway)
    guard let text = value.asString else {
      let count = try ListFilters.count(of: value, location)
      if overflow || count <= most { return value }
      throw TemplateError("truncate needs a str, not \(value.typeName)", at: location)
    }
    try interpreter.charge(text.utf8.count / 8, at: location)
    let scalars = Array(text.unicodeScalars)
    if overflow || scalars.count <= most { return value }
    let cut = scalars.prefix(room)
    let tail = if case .markup = value { Filters.escaped(end, of: bound[2] ?? .string(end)) } else { end }
    if bound[1]?.isTrue ?? false { return Filters.like(value, PythonText.string(cut) + tail) }
    let word = cut.lastIndex(of: " ").map { cut[..<$0] } ?? cut
    return Filters.like(value, PythonText.string(word) + tail)
  }

  private static func wordCount(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try arguments.expectNone(of: "wordcount", at: location)
    let text = try interpreter.text(value, at: location)
    try interpreter.charge(text.utf8.count / 8, at: location)
    var count = 0
    var isInWord = false
    for scalar in text.unicodeScalars {
      let isWord = PythonText.isWord(scalar)
      if isWord, !isInWord { count += 1 }
      isInWord = isWord
    }
    return .integer(count)
  }

  private static func wordWrap(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(
      to: "width", "break_long_words", "wrapstring", "break_on_hyphens", of: "wordwrap", at: location)
    let text = try TextMethods.string(value, "wordwrap", location)
    let separator = try bound[2].flatMap { $0.isNone ? nil : try TextMethods.string($0, "wordwrap", location) } ?? "\n"
    let width = try Filters.integer(bound[0], "wordwrap", location) ?? 79
    let lines = PythonText.lines(text)
    guard width > 0 || lines.isEmpty else {
      throw TemplateError("wordwrap needs a positive width", at: location)
    }
    let wrapper = WordWrapper(
      width: width, breaksLongWords: bound[1]?.isTrue ?? true, breaksOnHyphens: bound[3]?.isTrue ?? true
    ) { try interpreter.charge(at: location) }
    try interpreter.charge(text.utf8.count, at: location)
    let wrapped = try lines.map {
      try TextMethods.joined(try wrapper.lines(of: $0), separator, interpreter, location)
    }
    return .string(try TextMethods.joined(wrapped, separator, interpreter, location))
  }

  private static func format(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    guard arguments.positional.isEmpty || arguments.keyword.isEmpty else {
      throw TemplateError("format takes values by place or by name, not both", at: location)
    }
    var right = TemplateValue.tuple(arguments.positional)
    if !arguments.keyword.isEmpty {
      var items = TemplateDictionary()
      for (name, value) in arguments.keyword { items[name] = value }
      right = .dictionary(items)
    }
    let text = Filters.like(value, try interpreter.text(value, at: location))
    return try Operators.apply(.modulo, text, right, interpreter, at: location)
  }

  private static func json(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(
      to: "ensure_ascii", "indent", "separators", "sort_keys", of: "tojson", at: location)
    var writer = JSONWriter(interpreter: interpreter, location: location)
    writer.escapesNonASCII = bound[0]?.isTrue ?? false
    if let text = bound[1]?.asString {
      writer.indent = text
    } else if let given = bound[1], !given.isNone {
      let width = max(0, try Filters.integer(given, "tojson's indent", location) ?? 0)
      try interpreter.charge(bytes: width, at: location)
      writer.indent = String(repeating: " ", count: width)
    }
    if writer.indent != nil { writer.itemSeparator = "," }
    if let given = bound[2], !given.isNone {
      let parts = try interpreter.elements(of: given, at: location).map {
        try TextMethods.string($0, "tojson's separators", location)
      }
      guard parts.count == 2 else { throw TemplateError("tojson's separators are two texts", at: location) }
      (writer.itemSeparator, writer.keySeparator) = (parts[0], parts[1])
    }
    writer.sortsKeys = bound[3]?.isTrue ?? false
    return .string(try writer.write(value))
  }
}
