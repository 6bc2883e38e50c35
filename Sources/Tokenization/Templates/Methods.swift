/// The methods of strings, lists and dictionaries, as far as they change nothing.
enum Methods {
  private typealias TextMethod = (
    _ text: String, _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue

  /// A method of a value; `nil` when it has none of that name.
  static func named(_ name: String, of value: TemplateValue) -> TemplateFunction? {
    switch value {
    case .string(let text):
      guard let method = textMethod(name) else { return nil }
      return TemplateFunction(name) { try method(text, $0, $1, $2) }
    case .list(let values), .tuple(let values): return listMethod(name, values)
    case .dictionary(let items): return dictionaryMethod(name, items)
    default: return nil
    }
  }

  // MARK: Lists and dictionaries

  /// A method that would change its value: the sandbox knows its name and refuses the call.
  private static func refused(_ name: String) -> TemplateFunction {
    TemplateFunction(name) { _, _, location in
      throw TemplateError("a template cannot change its values ('\(name)')", at: location)
    }
  }

  private static func listMethod(_ name: String, _ values: [TemplateValue]) -> TemplateFunction? {
    switch name {
    case "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort": return refused(name)
    case "copy": return TemplateFunction(name) { _, _, _ in .list(values) }
    case "count":
      return TemplateFunction(name) { interpreter, arguments, location in
        guard let value = arguments.positional.first else { throw TemplateError("count needs a value", at: location) }
        try interpreter.charge(values.count, at: location)
        return .integer(values.count { $0.isEqual(to: value) })
      }
    case "index":
      return TemplateFunction(name) { interpreter, arguments, location in
        guard let value = arguments.positional.first else { throw TemplateError("index needs a value", at: location) }
        try interpreter.charge(values.count, at: location)
        guard let index = values.firstIndex(where: { $0.isEqual(to: value) }) else {
          throw TemplateError("\(value.representation()) is not in the list", at: location)
        }
        return .integer(index)
      }
    default: return nil
    }
  }

  private static func dictionaryMethod(_ name: String, _ items: TemplateDictionary) -> TemplateFunction? {
    switch name {
    case "clear", "pop", "popitem", "setdefault", "update": return refused(name)
    case "copy": return TemplateFunction(name) { _, _, _ in .dictionary(items) }
    case "keys": return TemplateFunction(name) { _, _, _ in .list(items.keys) }
    case "values": return TemplateFunction(name) { _, _, _ in .list(items.values) }
    case "items":
      return TemplateFunction(name) { _, _, _ in .list(zip(items.keys, items.values).map { .tuple([$0, $1]) }) }
    case "get":
      return TemplateFunction(name) { _, arguments, location in
        guard let key = arguments.positional.first else { throw TemplateError("get needs a key", at: location) }
        return items[key] ?? (arguments.positional.count > 1 ? arguments.positional[1] : .none)
      }
    default: return nil
    }
  }

  // MARK: Strings

  enum Alignment { case left, center, right }

  /// A text with fill on its sides until it has so many characters.
  static func padded(
    _ text: String, _ width: Int, _ alignment: Alignment, _ fill: Unicode.Scalar, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws(TemplateError) -> String {
    let missing = width - text.unicodeScalars.count
    guard missing > 0 else { return text }
    try interpreter.charge(bytes: missing, at: location)
    // Python's center puts the odd one on the left when the width is odd.
    let left = alignment == .left ? 0 : alignment == .right ? missing : missing / 2 + (missing & width & 1)
    func filling(_ count: Int) -> String { String(repeating: String(fill), count: count) }
    return filling(left) + text + filling(missing - left)
  }

  /// `separator.join(parts)`.
  static func joined(
    _ parts: [String], _ separator: String, _ interpreter: Interpreter, _ location: SourceLocation
  ) throws(TemplateError) -> String {
    var size = 0
    for part in parts {
      size += part.utf8.count + separator.utf8.count
      try interpreter.charge(bytes: size, at: location, weight: part.utf8.count + separator.utf8.count)
    }
    return parts.joined(separator: separator)
  }

  /// `text.replace(old, new)`, with the size of the result known before it is made.
  static func replace(
    _ text: String, _ old: String, _ new: String, limit: Int, _ interpreter: Interpreter, _ location: SourceLocation
  ) throws(TemplateError) -> String {
    let places = old.isEmpty ? text.unicodeScalars.count + 1 : text.utf8.count / old.utf8.count
    let (growth, overflow) = places.multipliedReportingOverflow(by: max(0, new.utf8.count - old.utf8.count))
    // The bound is coarse; a result that could be too large is counted exactly.
    if overflow || growth > 1 << 20 {
      let count = old.isEmpty ? places : PythonText.split(text, old).count - 1
      let used = limit < 0 ? count : min(count, limit)
      let (exact, overflow) = used.multipliedReportingOverflow(by: max(0, new.utf8.count - old.utf8.count))
      try interpreter.charge(
        bytes: overflow ? .max : text.utf8.count.addingReportingOverflow(exact).partialValue, at: location)
    }
    try interpreter.charge(bytes: text.utf8.count, at: location)
    return PythonText.replace(text, old, new, limit: limit)
  }

  private static func string(_ value: TemplateValue?, _ what: String, _ location: SourceLocation) throws(TemplateError)
    -> String
  {
    guard case .string(let text)? = value else {
      if case .undefined(let reason)? = value { throw TemplateError(reason, at: location) }
      throw TemplateError("\(what) needs a str\(value.map { ", not " + $0.typeName } ?? "")", at: location)
    }
    return text
  }

  /// A text or nothing.
  private static func optionalString(
    _ value: TemplateValue?, _ what: String, _ location: SourceLocation
  ) throws(TemplateError) -> String? {
    guard let value else { return nil }
    if case .none = value { return nil }
    return try string(value, what, location)
  }

  /// A method of the text alone.
  private static func plain(_ body: @escaping (String) -> TemplateValue) -> TextMethod {
    { text, interpreter, arguments, location in
      guard arguments.positional.isEmpty, arguments.keyword.isEmpty else {
        throw TemplateError("the method takes no arguments", at: location)
      }
      try interpreter.charge(text.utf8.count / 16, at: location)
      return body(text)
    }
  }

  /// A method that asks something of each character; no characters are no.
  private static func all(_ test: @escaping (Unicode.Scalar) -> Bool) -> TextMethod {
    plain { .boolean(!$0.isEmpty && $0.unicodeScalars.allSatisfy(test)) }
  }

  private static func textMethod(_ name: String) -> TextMethod? {
    switch name {
    case "lower", "casefold": return plain { .string($0.lowercased()) }
    case "upper": return plain { .string($0.uppercased()) }
    case "title": return plain { .string(PythonText.title($0)) }
    case "capitalize": return plain { .string(PythonText.capitalize($0)) }
    case "swapcase":
      return plain { text in
        var result = ""
        for scalar in text.unicodeScalars {
          result +=
            scalar.properties.isUppercase ? scalar.properties.lowercaseMapping : scalar.properties.uppercaseMapping
        }
        return .string(result)
      }
    case "isupper": return plain { .boolean(PythonText.isUpper($0)) }
    case "islower": return plain { .boolean(PythonText.isLower($0)) }
    case "istitle": return plain { .boolean(!$0.isEmpty && PythonText.isSame(PythonText.title($0), $0)) }
    case "isspace": return all(PythonText.isSpace)
    case "isalpha": return all(isLetter)
    case "isalnum": return all { isLetter($0) || $0.properties.numericType != nil }
    case "isdigit":
      return all { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
    case "isdecimal": return all { $0.properties.numericType == .decimal }
    case "isnumeric": return all { $0.properties.numericType != nil }
    case "isascii": return plain { .boolean($0.utf8.allSatisfy { $0 < 0x80 }) }
    case "isidentifier":
      return plain { text in
        guard let first = text.unicodeScalars.first else { return .boolean(false) }
        return .boolean(
          (first == "_" || first.properties.isXIDStart)
            && text.unicodeScalars.allSatisfy { $0 == "_" || $0.properties.isXIDContinue })
      }
    case "strip": return strip(left: true, right: true)
    case "lstrip": return strip(left: true, right: false)
    case "rstrip": return strip(left: false, right: true)
    case "startswith": return affix { $0.starts(with: $1) }
    case "endswith": return affix { $0.suffix($1.count).elementsEqual($1) }
    case "removeprefix":
      return { text, _, arguments, location in
        let prefix = try string(arguments.positional.first, name, location)
        return .string(
          text.utf8.starts(with: prefix.utf8)
            ? String(decoding: Array(text.utf8.dropFirst(prefix.utf8.count)), as: UTF8.self) : text)
      }
    case "removesuffix":
      return { text, _, arguments, location in
        let suffix = try string(arguments.positional.first, name, location)
        let has = text.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
        return .string(has ? String(decoding: Array(text.utf8.dropLast(suffix.utf8.count)), as: UTF8.self) : text)
      }
    case "split", "rsplit":
      return { text, interpreter, arguments, location in
        let bound = try arguments.bound(to: "sep", "maxsplit", of: name, at: location)
        let separator = try optionalString(bound[0], name, location)
        if let separator, separator.isEmpty { throw TemplateError("empty separator", at: location) }
        try interpreter.charge(text.utf8.count / 8, at: location)
        let limit = bound[1]?.asInteger ?? -1
        let parts =
          name == "split"
          ? PythonText.split(text, separator, limit: limit)
          : PythonText.splitFromEnd(text, separator, limit: limit)
        return .list(parts.map { .string($0) })
      }
    case "splitlines":
      return { text, interpreter, arguments, location in
        try interpreter.charge(text.utf8.count / 8, at: location)
        let keeps = try arguments.bound(to: "keepends", of: name, at: location)[0]?.isTrue ?? false
        return .list(PythonText.lines(text, keepsEnds: keeps).map { .string($0) })
      }
    case "partition", "rpartition":
      return { text, _, arguments, location in
        let separator = try string(arguments.positional.first, name, location)
        if separator.isEmpty { throw TemplateError("empty separator", at: location) }
        let parts =
          name == "partition"
          ? PythonText.split(text, separator, limit: 1) : PythonText.splitFromEnd(text, separator, limit: 1)
        if parts.count == 2 { return .tuple([.string(parts[0]), .string(separator), .string(parts[1])]) }
        let (empty, whole) = (TemplateValue.string(""), TemplateValue.string(text))
        return .tuple(name == "partition" ? [whole, empty, empty] : [empty, empty, whole])
      }
    case "replace":
      return { text, interpreter, arguments, location in
        let bound = try arguments.bound(to: "old", "new", "count", of: name, at: location)
        return .string(
          try replace(
            text, string(bound[0], name, location), string(bound[1], name, location),
            limit: bound[2]?.asInteger ?? -1, interpreter, location))
      }
    case "join":
      return { text, interpreter, arguments, location in
        let parts = try interpreter.elements(of: arguments.positional.first ?? .none, at: location)
        return .string(try joined(parts.map { try string($0, name, location) }, text, interpreter, location))
      }
    case "find", "index", "rfind", "rindex", "count": return search(name)
    case "center": return pad(.center)
    case "ljust": return pad(.left)
    case "rjust": return pad(.right)
    case "zfill":
      return { text, interpreter, arguments, location in
        let width = arguments.positional.first?.asInteger ?? 0
        let sign = text.hasPrefix("-") || text.hasPrefix("+") ? String(text.prefix(1)) : ""
        let digits = try padded(
          String(text.dropFirst(sign.count)), width < 0 ? 0 : width - sign.count, .right, "0", interpreter, location)
        return .string(sign + digits)
      }
    case "expandtabs":
      return { text, interpreter, arguments, location in
        let size = max(0, min(arguments.positional.first?.asInteger ?? 8, 1000))
        var result = String.UnicodeScalarView()
        var column = 0
        for scalar in text.unicodeScalars {
          if scalar == "\t" {
            let count = size == 0 ? 0 : size - column % size
            try interpreter.charge(at: location)
            result.append(contentsOf: repeatElement(" ", count: count))
            column += count
          } else {
            result.append(scalar)
            column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
          }
        }
        try interpreter.charge(bytes: result.count, at: location)
        return .string(String(result))
      }
    case "format":
      return { text, interpreter, arguments, location in
        .string(try PythonFormat.braces(text, arguments, interpreter, at: location))
      }
    default: return nil
    }
  }

  private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }

  private static func strip(left: Bool, right: Bool) -> TextMethod {
    { text, interpreter, arguments, location in
      let characters = try optionalString(arguments.positional.first, "strip", location)
      return .string(PythonText.strip(text, characters, left: left, right: right))
    }
  }

  private static func affix(_ test: @escaping ([UInt8], [UInt8]) -> Bool) -> TextMethod {
    { text, interpreter, arguments, location in
      try interpreter.charge(text.utf8.count / 64, at: location)
      let bytes = Array(slice(text, arguments.positional.dropFirst()).utf8)
      if case .tuple(let choices)? = arguments.positional.first {
        return .boolean(try choices.contains { test(bytes, Array(try string($0, "the method", location).utf8)) })
      }
      return .boolean(test(bytes, Array(try string(arguments.positional.first, "the method", location).utf8)))
    }
  }

  /// `text[start:stop]` of a method's further arguments.
  private static func slice(_ text: String, _ bounds: ArraySlice<TemplateValue>) -> String {
    guard !bounds.isEmpty else { return text }
    let scalars = Array(text.unicodeScalars)
    func place(_ value: TemplateValue?, _ standard: Int) -> Int {
      guard let index = value?.asInteger else { return standard }
      return min(max(index < 0 ? index + scalars.count : index, 0), scalars.count)
    }
    let start = place(bounds.first, 0)
    let stop = place(bounds.dropFirst().first, scalars.count)
    return start < stop ? PythonText.string(scalars[start..<stop]) : ""
  }

  private static func search(_ name: String) -> TextMethod {
    { text, interpreter, arguments, location in
      let needle = try string(arguments.positional.first, name, location)
      try interpreter.charge(text.utf8.count / 8, at: location)
      let scalars = Array(text.unicodeScalars)
      let target = Array(needle.unicodeScalars)
      var bounds = (0, scalars.count)
      if arguments.positional.count > 1, let start = arguments.positional[1].asInteger {
        bounds.0 = min(max(start < 0 ? start + scalars.count : start, 0), scalars.count)
      }
      if arguments.positional.count > 2, let stop = arguments.positional[2].asInteger {
        bounds.1 = min(max(stop < 0 ? stop + scalars.count : stop, 0), scalars.count)
      }
      var places: [Int] = []
      var index = bounds.0
      while index + target.count <= bounds.1 {
        if scalars[index..<index + target.count].elementsEqual(target) {
          places.append(index)
          index += name == "count" ? max(1, target.count) : 1
          if name == "find" || name == "index" { break }
        } else {
          index += 1
        }
      }
      if name == "count" { return .integer(places.count) }
      if let place = name.hasPrefix("r") ? places.last : places.first { return .integer(place) }
      if name.hasSuffix("find") { return .integer(-1) }
      throw TemplateError("substring not found", at: location)
    }
  }

  private static func pad(_ alignment: Alignment) -> TextMethod {
    { text, interpreter, arguments, location in
      let fill = try optionalString(arguments.positional.count > 1 ? arguments.positional[1] : nil, "fill", location)
      guard let width = arguments.positional.first?.asInteger, (fill ?? " ").unicodeScalars.count == 1 else {
        throw TemplateError("a width and one character to fill with are needed", at: location)
      }
      return .string(
        try padded(text, max(0, width), alignment, fill?.unicodeScalars.first ?? " ", interpreter, location))
    }
  }
}

extension Interpreter {
  /// Counts a part of a growing text: the whole against the limit of bytes, the part against that of steps.
  func charge(bytes: Int, at location: SourceLocation, weight: Int) throws(TemplateError) {
    if bytes > 1 << 20 { try charge(bytes: bytes, at: location) } else { try charge(weight / 32, at: location) }
  }
}
