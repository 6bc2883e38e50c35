/// Writes values as Python's `pprint` does: keys in order, and lines of at most 80 characters.
struct PrettyPrinter {
  private let interpreter: Interpreter
  private let location: SourceLocation
  private static let width = 80

  static func text(
    of value: TemplateValue, _ interpreter: Interpreter, at location: SourceLocation
  ) throws -> String {
    try PrettyPrinter(interpreter: interpreter, location: location).text(value, indent: 0, allowance: 0)
  }

  /// The value with the keys of its dictionaries in order.
  private func sorted(_ value: TemplateValue) throws -> TemplateValue {
    switch value {
    case .list(let values): return .list(try values.map(sorted))
    case .tuple(let values): return .tuple(try values.map(sorted))
    case .dictionary(let items):
      var result = TemplateDictionary()
      for (key, value) in pairs(items) { result[key] = try sorted(value) }
      return .dictionary(result)
    default: return value
    }
  }

  private func pairs(_ items: TemplateDictionary) -> [(TemplateValue, TemplateValue)] {
    zip(items.keys, items.values).sorted { a, b in
      a.0.isLess(than: b.0) ?? a.0.typeName.utf8.lexicographicallyPrecedes(b.0.typeName.utf8)
    }
  }

  private func text(_ value: TemplateValue, indent: Int, allowance: Int) throws -> String {
    try interpreter.descend(at: location)
    defer { interpreter.ascend() }
    let short = try Representation.text(of: sorted(value), interpreter, at: location)
    guard short.unicodeScalars.count > Self.width - indent - allowance else { return short }
    switch value {
    case .dictionary(let items) where items.count > 0:
      let pairs = pairs(items)
      var result = "{"
      for (index, (key, value)) in pairs.enumerated() {
        let name = try Representation.text(of: key, interpreter, at: location) + ": "
        let isLast = index == pairs.count - 1
        if index > 0 { result += ",\n" + String(repeating: " ", count: indent + 1) }
        result += name
        result += try text(
          value, indent: indent + 1 + name.unicodeScalars.count, allowance: isLast ? allowance + 1 : 1)
        try interpreter.charge(bytes: result.utf8.count, at: location, weight: indent)
      }
      return result + "}"
    case .list(let values) where !values.isEmpty:
      return "[" + (try lines(values, indent: indent, allowance: allowance + 1)) + "]"
    case .tuple(let values) where !values.isEmpty:
      let end = values.count == 1 ? ",)" : ")"
      return "(" + (try lines(values, indent: indent, allowance: allowance + end.utf8.count)) + end
    case .string(let value): return try string(value, indent: indent, allowance: allowance)
    default: return short
    }
  }

  private func lines(_ values: [TemplateValue], indent: Int, allowance: Int) throws -> String {
    var result = ""
    for (index, value) in values.enumerated() {
      if index > 0 { result += ",\n" + String(repeating: " ", count: indent + 1) }
      result += try text(value, indent: indent + 1, allowance: index == values.count - 1 ? allowance : 1)
      try interpreter.charge(bytes: result.utf8.count, at: location, weight: indent)
    }
    return result
  }

  /// A long text as several on lines of their own, cut at white space.
  private func string(_ value: String, indent: Int, allowance: Int) throws -> String {
    let isTop = indent == 0
    let (indent, allowance) = isTop ? (1, allowance + 1) : (indent, allowance)
    var chunks: [String] = []
    let lines = PythonText.lines(value, keepsEnds: true)
    for (number, line) in lines.enumerated() {
      let isLastLine = number == lines.count - 1
      let whole = PythonText.repr(line)
      let room = Self.width - indent - (isLastLine ? allowance : 0)
      if whole.unicodeScalars.count <= room {
        chunks.append(whole)
        continue
      }
      let words = Self.words(line)
      var current = ""
      for (index, word) in words.enumerated() {
        let candidate = current + word
        let isLast = index == words.count - 1 && isLastLine
        let most = Self.width - indent - (isLast ? allowance : 0)
        if PythonText.repr(candidate).unicodeScalars.count > most {
          if !current.isEmpty { chunks.append(PythonText.repr(current)) }
          current = word
        } else {
          current = candidate
        }
        try interpreter.charge(candidate.utf8.count / 16, at: location)
      }
      if !current.isEmpty { chunks.append(PythonText.repr(current)) }
    }
    if chunks.count == 1 { return chunks[0] }
    let joined = try TextMethods.joined(
      chunks, "\n" + String(repeating: " ", count: indent), interpreter, location)
    return isTop ? "(" + joined + ")" : joined
  }

  /// Words with the white space after them.
  private static func words(_ line: String) -> [String] {
    var result: [String] = []
    var rest = line.unicodeScalars[...]
    while !rest.isEmpty {
      let word = rest.prefix { !PythonText.isSpace($0) }
      let space = rest[word.endIndex...].prefix(while: PythonText.isSpace)
      result.append(String(word) + String(space))
      rest = rest[space.endIndex...]
    }
    return result
  }
}
