/// The methods of strings.
enum TextMethods {
  typealias Method = (
    _ text: String, _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue

  static func named(_ name: String, of text: String) -> TemplateFunction? {
    guard let method = caseMethod(name) ?? predicate(name) ?? cutting(name) ?? making(name) else { return nil }
    return TemplateFunction(name) { interpreter, arguments, location in
      try interpreter.charge(text.utf8.count / 16, at: location)
      return try method(text, interpreter, arguments, location)
    }
  }

  // MARK: Arguments

  static func string(_ value: TemplateValue?, _ what: String, _ location: SourceLocation) throws(TemplateError)
    -> String
  {
    guard let text = value?.asString else {
      if case .undefined(let reason)? = value { throw TemplateError(reason, at: location) }
      throw TemplateError("\(what) needs a str\(value.map { ", not " + $0.typeName } ?? "")", at: location)
    }
    return text
  }

  /// A text or nothing.
  private static func optionalString(
    _ value: TemplateValue?, _ what: String, _ location: SourceLocation
  ) throws(TemplateError) -> String? {
    guard let value, !value.isNone else { return nil }
    return try string(value, what, location)
  }

  /// A whole number, cut to what is beyond every text.
  static func integer(
    _ value: TemplateValue?, _ what: String, _ location: SourceLocation
  ) throws(TemplateError) -> Int? {
    guard let value else { return nil }
    if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
    guard let number = value.asInteger else {
      throw TemplateError("\(what) needs an integer, not \(value.typeName)", at: location)
    }
    return number
  }

  /// A method of the text alone.
  private static func plain(_ name: String, _ body: @escaping (String) -> TemplateValue) -> Method {
    { text, _, arguments, location in
      try arguments.expectNone(of: name, at: location)
      return body(text)
    }
  }

  // MARK: Letters

  private static func caseMethod(_ name: String) -> Method? {
    switch name {
    case "lower": plain(name) { .string(PythonText.lower($0)) }
    case "casefold": plain(name) { .string(PythonText.folded($0)) }
    case "upper": plain(name) { .string(PythonText.upper($0)) }
    case "title": plain(name) { .string(PythonText.title($0)) }
    case "capitalize": plain(name) { .string(PythonText.capitalize($0)) }
    case "swapcase": plain(name) { .string(PythonText.swapCase($0)) }
    default: nil
    }
  }

  /// A method that asks something of each character; no characters are no.
  private static func all(_ name: String, _ test: @escaping (Unicode.Scalar) -> Bool) -> Method {
    plain(name) { .boolean(!$0.isEmpty && $0.unicodeScalars.allSatisfy(test)) }
  }

  private static func predicate(_ name: String) -> Method? {
    switch name {
    case "isupper": plain(name) { .boolean(PythonText.isUpper($0)) }
    case "islower": plain(name) { .boolean(PythonText.isLower($0)) }
    case "istitle": plain(name) { .boolean(PythonText.isTitle($0)) }
    case "isspace": all(name, PythonText.isSpace)
    case "isalpha": all(name, PythonText.isLetter)
    case "isalnum": all(name, PythonText.isAlphanumeric)
    case "isdigit": all(name) { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
    case "isdecimal": all(name) { $0.properties.numericType == .decimal }
    case "isnumeric": all(name) { $0.properties.numericType != nil }
    case "isascii": plain(name) { .boolean($0.utf8.allSatisfy { $0 < 0x80 }) }
    case "isprintable": plain(name) { .boolean($0.unicodeScalars.allSatisfy(PythonText.isPrintable)) }
    case "isidentifier":
      plain(name) { text in
        guard let first = text.unicodeScalars.first else { return .boolean(false) }
        return .boolean(
          (first == "_" || first.properties.isXIDStart)
            && text.unicodeScalars.allSatisfy { $0 == "_" || $0.properties.isXIDContinue })
      }
    default: nil
    }
  }

  // MARK: Cutting and searching

  private static func cutting(_ name: String) -> Method? {
    switch name {
    case "strip": strip(name, left: true, right: true)
    case "lstrip": strip(name, left: true, right: false)
    case "rstrip": strip(name, left: false, right: true)
    case "startswith": affix(name) { $0.starts(with: $1) }
    case "endswith": affix(name) { $0.suffix($1.count).elementsEqual($1) }
    case "removeprefix":
      { text, _, arguments, location in
        let prefix = try string(arguments.positional(1...1, of: name, at: location)[0], name, location)
        let has = text.utf8.starts(with: prefix.utf8)
        return .string(has ? String(decoding: Array(text.utf8.dropFirst(prefix.utf8.count)), as: UTF8.self) : text)
      }
    case "removesuffix":
      { text, _, arguments, location in
        let suffix = try string(arguments.positional(1...1, of: name, at: location)[0], name, location)
        let has = text.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
        return .string(has ? String(decoding: Array(text.utf8.dropLast(suffix.utf8.count)), as: UTF8.self) : text)
      }
    case "split", "rsplit":
      { text, interpreter, arguments, location in
        let bound = try arguments.bound(to: "sep", "maxsplit", of: name, at: location)
        let separator = try optionalString(bound[0], name, location)
        if let separator, separator.isEmpty { throw TemplateError("empty separator", at: location) }
        let limit = try integer(bound[1], name, location) ?? -1
        let parts =
          name == "split"
          ? PythonText.split(text, separator, limit: limit)
          : PythonText.splitFromEnd(text, separator, limit: limit)
        try interpreter.charge(parts.count, at: location)
        return .list(parts.map { .string($0) })
      }
    case "splitlines":
      { text, interpreter, arguments, location in
        let keeps = try arguments.bound(to: "keepends", of: name, at: location)[0]?.isTrue ?? false
        let lines = PythonText.lines(text, keepsEnds: keeps)
        try interpreter.charge(lines.count, at: location)
        return .list(lines.map { .string($0) })
      }
    case "partition", "rpartition":
      { text, _, arguments, location in
        let given = try arguments.positional(1...1, of: name, at: location)[0]
        let separator = try string(given, name, location)
        if separator.isEmpty { throw TemplateError("empty separator", at: location) }
        let parts =
          name == "partition"
          ? PythonText.split(text, separator, limit: 1) : PythonText.splitFromEnd(text, separator, limit: 1)
        if parts.count == 2 { return .tuple([.string(parts[0]), given, .string(parts[1])]) }
        let (empty, whole) = (TemplateValue.string(""), TemplateValue.string(text))
        return .tuple(name == "partition" ? [whole, empty, empty] : [empty, empty, whole])
      }
    case "find", "index", "rfind", "rindex", "count": search(name)
    default: nil
    }
  }

  private static func strip(_ name: String, left: Bool, right: Bool) -> Method {
    { text, _, arguments, location in
      let characters = try optionalString(
        arguments.positional(0...1, of: name, at: location).first, name, location)
      return .string(PythonText.strip(text, characters, left: left, right: right))
    }
  }

  /// The bytes of the part of a text that a method's `start` and `stop` say, and the characters before it.
  private static func part(
    _ text: String, _ bounds: ArraySlice<TemplateValue>, _ location: SourceLocation
  ) throws(TemplateError) -> (bytes: ArraySlice<UInt8>, before: Int)? {
    let bytes = Array(text.utf8)
    if bounds.isEmpty { return (bytes[...], 0) }
    let starts = bytes.indices.filter { bytes[$0] & 0xC0 != 0x80 } + [bytes.count]
    guard let range = try Methods.bounds(bounds, count: starts.count - 1, location) else { return nil }
    return (bytes[starts[range.lowerBound]..<starts[range.upperBound]], range.lowerBound)
  }

  private static func affix(_ name: String, _ test: @escaping (ArraySlice<UInt8>, [UInt8]) -> Bool) -> Method {
    { text, interpreter, arguments, location in
      let given = try arguments.positional(1...3, of: name, at: location)
      let part = try part(text, given.dropFirst(), location)
      var choices = [given[0]]
      if case .tuple(let values) = given[0] { choices = values }
      for choice in choices {
        let affix = Array(try string(choice, name, location).utf8)
        try interpreter.charge(affix.count / 32, at: location)
        if let part, test(part.bytes, affix) { return .boolean(true) }
      }
      return .boolean(false)
    }
  }

  private static func search(_ name: String) -> Method {
    { text, interpreter, arguments, location in
      let given = try arguments.positional(1...3, of: name, at: location)
      let needle = Array(try string(given[0], name, location).utf8)
      let part = try part(text, given.dropFirst(), location)
      func characters(_ bytes: some Sequence<UInt8>) -> Int { bytes.count { $0 & 0xC0 != 0x80 } }
      if name == "count" {
        guard let part else { return .integer(0) }
        let bytes = Array(part.bytes)
        if needle.isEmpty { return .integer(characters(bytes) + 1) }
        var count = 0
        var index = 0
        while let found = PythonText.find(needle, in: bytes, from: index) {
          count += 1
          index = found + needle.count
        }
        return .integer(count)
      }
      if let part {
        let bytes = Array(part.bytes)
        if name.hasPrefix("r") {
          // The last place is the first one backwards.
          if let found = PythonText.find(needle.reversed(), in: bytes.reversed()) {
            return .integer(part.before + characters(bytes[..<(bytes.count - found - needle.count)]))
          }
        } else if let found = PythonText.find(needle, in: bytes) {
          return .integer(part.before + characters(bytes[..<found]))
        }
      }
      if name.hasSuffix("find") { return .integer(-1) }
      throw TemplateError("substring not found", at: location)
    }
  }

  // MARK: Making texts

  private static func making(_ name: String) -> Method? {
    switch name {
    case "replace":
      { text, interpreter, arguments, location in
        let given = try arguments.positional(2...3, of: name, at: location)
        return .string(
          try replace(
            text, string(given[0], name, location), string(given[1], name, location),
            limit: integer(given.count > 2 ? given[2] : nil, name, location) ?? -1, interpreter, location))
      }
    case "join":
      { text, interpreter, arguments, location in
        let given = try arguments.positional(1...1, of: name, at: location)
        let parts = try interpreter.elements(of: given[0], at: location)
        return .string(try joined(parts.map { try string($0, name, location) }, text, interpreter, location))
      }
    case "center": pad(name, .center)
    case "ljust": pad(name, .left)
    case "rjust": pad(name, .right)
    case "zfill":
      { text, interpreter, arguments, location in
        let width = try integer(arguments.positional(1...1, of: name, at: location)[0], name, location) ?? 0
        let sign = text.hasPrefix("-") || text.hasPrefix("+") ? String(text.prefix(1)) : ""
        let digits = try padded(
          String(text.dropFirst(sign.count)), max(0, width) - (width > 0 ? sign.count : 0), .right, "0", interpreter,
          location)
        return .string(sign + digits)
      }
    case "expandtabs": expandTabs
    case "format":
      { text, interpreter, arguments, location in
        .string(try PythonFormat.braces(text, arguments, interpreter, at: location))
      }
    case "format_map":
      { text, interpreter, arguments, location in
        guard case .dictionary(let items) = try arguments.positional(1...1, of: name, at: location)[0] else {
          throw TemplateError("format_map needs a dictionary", at: location)
        }
        var named = CallArguments()
        for case (.string(let name), let value) in zip(items.keys, items.values) { named.keyword.append((name, value)) }
        return .string(try PythonFormat.braces(text, named, interpreter, at: location))
      }
    case "translate":
      { text, interpreter, arguments, location in
        guard case .dictionary(let table) = try arguments.positional(1...1, of: name, at: location)[0] else {
          throw TemplateError("translate needs a dictionary", at: location)
        }
        var result = ""
        for scalar in text.unicodeScalars {
          switch table[.integer(Int(scalar.value))]?.plain {
          case nil: result.unicodeScalars.append(scalar)
          case .none?: break
          case .string(let text)?: result += text
          case .integer(let value)?:
            guard let value = UInt32(exactly: value), let character = Unicode.Scalar(value) else {
              throw TemplateError("\(value) is no character", at: location)
            }
            result.unicodeScalars.append(character)
          default: throw TemplateError("translate's values must be texts, numbers or none", at: location)
          }
          try interpreter.charge(bytes: result.utf8.count, at: location, weight: 1)
        }
        return .string(result)
      }
    default: nil
    }
  }

  private static func expandTabs(
    _ text: String, _ interpreter: Interpreter, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "tabsize", of: "expandtabs", at: location)
    let size = max(0, try integer(bound[0], "expandtabs", location) ?? 8)
    var result = String.UnicodeScalarView()
    var length = 0
    var column = 0
    for scalar in text.unicodeScalars {
      if scalar == "\t" {
        let count = size == 0 ? 0 : size - column % size
        length = length.addingReportingOverflow(count).partialValue
        try interpreter.charge(bytes: length < 0 ? .max : length, at: location, weight: count)
        result.append(contentsOf: repeatElement(" ", count: count))
        column += count
      } else {
        result.append(scalar)
        length += 1
        column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
      }
    }
    return .string(String(result))
  }

  enum Alignment { case left, center, right }

  /// A text with fill on its sides until it has so many characters.
  static func padded(
    _ text: String, _ width: Int, _ alignment: Alignment, _ fill: Unicode.Scalar, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws(TemplateError) -> String {
    let (missing, overflow) = width.subtractingReportingOverflow(text.unicodeScalars.count)
    guard !overflow, missing > 0 else { return text }
    let (size, isTooMuch) = missing.multipliedReportingOverflow(by: UTF8.width(fill))
    try interpreter.charge(bytes: isTooMuch ? .max : size, at: location)
    // Python's center puts the odd one on the left when the width is odd.
    let left = alignment == .left ? 0 : alignment == .right ? missing : missing / 2 + (missing & width & 1)
    func filling(_ count: Int) -> String { String(repeating: String(fill), count: count) }
    return filling(left) + text + filling(missing - left)
  }

  private static func pad(_ name: String, _ alignment: Alignment) -> Method {
    { text, interpreter, arguments, location in
      let given = try arguments.positional(1...2, of: name, at: location)
      let fill = given.count > 1 ? try string(given[1], name, location) : " "
      guard let scalar = fill.unicodeScalars.first, fill.unicodeScalars.count == 1 else {
        throw TemplateError("\(name) fills with one character", at: location)
      }
      return .string(
        try padded(text, integer(given[0], name, location) ?? 0, alignment, scalar, interpreter, location))
    }
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
}

/// The methods of escaped text: what they are given is escaped, and what they give is escaped text again.
enum MarkupMethods {
  private static let escaping: Set<String> = [
    "capitalize", "title", "lower", "upper", "replace", "ljust", "rjust", "lstrip", "rstrip", "center", "strip",
    "translate", "expandtabs", "swapcase", "zfill", "casefold", "removeprefix", "removesuffix", "join",
  ]
  private static let wrapping: Set<String> = ["split", "rsplit", "splitlines", "partition", "rpartition"]

  static func named(_ name: String, of text: String) -> TemplateFunction? {
    switch name {
    case "striptags":
      return TemplateFunction(name) { interpreter, arguments, location in
        try arguments.expectNone(of: name, at: location)
        try interpreter.charge(text.utf8.count, at: location)
        return .string(MarkupFilters.withoutTags(text))
      }
    case "unescape":
      return TemplateFunction(name) { interpreter, arguments, location in
        try arguments.expectNone(of: name, at: location)
        try interpreter.charge(text.utf8.count, at: location)
        return .string(MarkupFilters.unescaped(text))
      }
    case "format":
      return TemplateFunction(name) { interpreter, arguments, location in
        .markup(try PythonFormat.braces(text, arguments, interpreter, escapes: true, at: location))
      }
    default: break
    }
    guard let method = TextMethods.named(name, of: text) else { return nil }
    guard escaping.contains(name) || wrapping.contains(name) else { return method }
    return TemplateFunction(name) { interpreter, arguments, location in
      var arguments = arguments
      if escaping.contains(name) {
        arguments.positional = try arguments.positional.map { value in
          guard name == "join" else { return escaped(value) }
          return .list(
            try interpreter.elements(of: value, at: location).map {
              .string(Filters.escaped(try interpreter.text($0, at: location), of: $0))
            })
        }
      }
      return wrapped(try method.call(interpreter, arguments, location))
    }
  }

  private static func escaped(_ value: TemplateValue) -> TemplateValue {
    if case .string(let text) = value { .string(Filters.escaped(text)) } else { value }
  }

  private static func wrapped(_ value: TemplateValue) -> TemplateValue {
    switch value {
    case .string(let text): .markup(text)
    case .list(let values): .list(values.map(wrapped))
    case .tuple(let values): .tuple(values.map(wrapped))
    default: value
    }
  }
}
