/// Filters for HTML and addresses.
enum MarkupFilters {
  static func named(_ name: String) -> Filters.Filter? {
    switch name {
    case "e", "escape":
      { interpreter, value, arguments, location in
        try arguments.expectNone(of: name, at: location)
        if case .markup = value { return value }
        return try markup(Filters.escaped(interpreter.text(value, at: location)), interpreter, location)
      }
    case "forceescape":
      { interpreter, value, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return try markup(Filters.escaped(interpreter.text(value, at: location)), interpreter, location)
      }
    case "safe":
      { interpreter, value, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return .markup(try interpreter.text(value, at: location))
      }
    case "striptags": Filters.text(name, keepsMarkup: false, withoutTags)
    case "urlencode": urlEncoded
    case "urlize": linked
    case "xmlattr": attributes
    default: nil
    }
  }

  private static func markup(
    _ text: String, _ interpreter: Interpreter, _ location: SourceLocation
  ) throws(TemplateError) -> TemplateValue {
    try interpreter.charge(bytes: text.utf8.count, at: location)
    return .markup(text)
  }

  // MARK: Tags

  /// Text without comments and tags, with single spaces, and with what was spelled out put back.
  static func withoutTags(_ text: String) -> String {
    unescaped(
      PythonText.split(String(decoding: cut(withoutComments(Array(text.utf8))), as: UTF8.self), nil)
        .joined(separator: " "))
  }

  private static func withoutComments(_ text: [UInt8]) -> [UInt8] {
    let (opening, closing) = (Array("<!--".utf8), Array("-->".utf8))
    guard PythonText.find(opening, in: text) != nil else { return text }
    var result: [UInt8] = []
    var index = 0
    while index < text.count {
      result.append(text[index])
      index += 1
      guard result.suffix(4).elementsEqual(opening) else { continue }
      // The end may share the hyphens of the beginning.
      let start = result.suffix(4).elementsEqual(text[max(0, index - 4)..<index]) ? index - 2 : index
      guard let end = PythonText.find(closing, in: text, from: start) else { return result + text[index...] }
      result.removeLast(4)
      index = end + 3
    }
    return result
  }

  private static func cut(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    var index = 0
    while let start = text[index...].firstIndex(of: UInt8(ascii: "<")),
      let end = text[start...].firstIndex(of: UInt8(ascii: ">"))
    {
      result += text[index..<start]
      index = end + 1
    }
    return result + text[index...]
  }

  private static let entities: [String: String] = [
    "amp": "&", "lt": "<", "gt": ">", "quot": "\"", "apos": "'", "nbsp": "\u{A0}", "copy": "©", "reg": "®",
    "hellip": "…", "mdash": "—", "ndash": "–", "lsquo": "‘", "rsquo": "’", "ldquo": "“", "rdquo": "”",
  ]

  /// Text with `&amp;`, `&#39;` and their like read.
  static func unescaped(_ text: String) -> String {
    guard text.utf8.contains(UInt8(ascii: "&")) else { return text }
    var result = ""
    var rest = text[...]
    while let start = rest.firstIndex(of: "&") {
      result += rest[..<start]
      rest = rest[start...]
      let body = rest.dropFirst().prefix(12)
      guard let end = body.firstIndex(of: ";"), let character = character(body[..<end]) else {
        result += "&"
        rest = rest.dropFirst()
        continue
      }
      result += character
      rest = rest[rest.index(after: end)...]
    }
    return result + rest
  }

  private static func character(_ name: Substring) -> String? {
    guard name.hasPrefix("#") else { return entities[String(name)] }
    let digits = name.dropFirst()
    let isHexadecimal = digits.hasPrefix("x") || digits.hasPrefix("X")
    guard let value = UInt32(isHexadecimal ? digits.dropFirst() : digits, radix: isHexadecimal ? 16 : 10) else {
      return nil
    }
    return String(Unicode.Scalar(value) ?? "\u{FFFD}")
  }

  private static func attributes(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let space = try arguments.bound(to: "autospace", of: "xmlattr", at: location)[0]?.isTrue ?? true
    guard case .dictionary(let items) = value else { throw TemplateError("xmlattr needs a dictionary", at: location) }
    var result: [String] = []
    for (key, value) in zip(items.keys, items.values) where !value.isNone && !value.isUndefined {
      guard let name = key.asString,
        !name.unicodeScalars.contains(where: { PythonText.isSpace($0) || "/>=".unicodeScalars.contains($0) })
      else {
        throw TemplateError(
          "xmlattr: \(PythonText.repr(key.asString ?? key.typeName)) is no attribute's name", at: location)
      }
      let text = try interpreter.text(value, at: location)
      result.append(Filters.escaped(name, of: key) + "=\"" + Filters.escaped(text, of: value) + "\"")
    }
    let joined = try TextMethods.joined(result, " ", interpreter, location)
    let text = (space && !joined.isEmpty ? " " : "") + joined
    return interpreter.isEscaping ? .markup(text) : .string(text)
  }

  // MARK: Addresses

  private static func quote(_ text: String, isQuery: Bool) -> String {
    var result: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"),
        UInt8(ascii: "~"):
        result.append(byte)
      case UInt8(ascii: "/") where !isQuery: result.append(byte)
      case UInt8(ascii: " ") where isQuery: result.append(UInt8(ascii: "+"))
      default: result += Array(("%" + PythonText.hexadecimal(UInt32(byte), 2).uppercased()).utf8)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  private static func urlEncoded(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try arguments.expectNone(of: "urlencode", at: location)
    var pairs: [TemplateValue]
    switch value {
    case .dictionary(let items): pairs = zip(items.keys, items.values).map { .tuple([$0, $1]) }
    case .list, .tuple, .object: pairs = try interpreter.elements(of: value, at: location)
    case .undefined: pairs = []
    default: return .string(quote(try interpreter.text(value, at: location), isQuery: false))
    }
    let parts = try pairs.map { pair in
      let parts = try interpreter.elements(of: pair, at: location)
      guard parts.count == 2 else { throw TemplateError("urlencode needs pairs", at: location) }
      return try parts.map { quote(try interpreter.text($0, at: location), isQuery: true) }.joined(separator: "=")
    }
    return .string(try TextMethods.joined(parts, "&", interpreter, location))
  }

  private static func linked(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(
      to: "trim_url_limit", "nofollow", "target", "rel", "extra_schemes", of: "urlize", at: location)
    func given(_ index: Int) -> TemplateValue? { bound[index].flatMap { $0.isNone ? nil : $0 } }
    var relations = Set(
      PythonText.split(try given(3).map { try TextMethods.string($0, "urlize", location) } ?? "", nil))
    relations.insert("noopener")
    if bound[1]?.isTrue ?? false { relations.insert("nofollow") }
    let names = relations.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }.joined(separator: " ")
    var attributes = " rel=\"\(Filters.escaped(names))\""
    if let target = given(2), target.isTrue {
      attributes += " target=\"\(Filters.escaped(try interpreter.text(target, at: location), of: target))\""
    }
    let schemes = try given(4).map { value in
      try interpreter.elements(of: value, at: location).map { try TextMethods.string($0, "urlize", location) }
    }
    for scheme in schemes ?? [] where !LinkFinder.isScheme(scheme) {
      throw TemplateError("\(PythonText.repr(scheme)) is no scheme of an address", at: location)
    }
    let finder = LinkFinder(
      limit: try Filters.integer(given(0), "urlize", location), attributes: attributes, schemes: schemes ?? [])
    let text = Filters.escaped(try interpreter.text(value, at: location), of: value)
    try interpreter.charge(text.utf8.count, at: location)
    let result = finder.linked(text)
    try interpreter.charge(bytes: result.utf8.count, at: location)
    return interpreter.isEscaping ? .markup(result) : .string(result)
  }
}
