/// The filters of Jinja (`value | name(arguments)`).
enum Filters {
  typealias Filter = (
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue

  static func named(_ name: String) -> Filter? {
    switch name {
    case "abs": absolute
    case "attr": attribute
    case "batch": batch
    case "capitalize": text { PythonText.capitalize($0) }
    case "center": center
    case "count", "length": length
    case "d", "default": standard
    case "dictsort": sortedItems
    case "e", "escape", "forceescape": text(escaped)
    case "first": first
    case "float": float
    case "format": format
    case "groupby": grouped
    case "indent": indent
    case "int": integer
    case "items": items
    case "join": join
    case "last": last
    case "list": { interpreter, value, _, location in .list(try interpreter.elements(of: value, at: location)) }
    case "lower": text { $0.lowercased() }
    case "map": map
    case "max": { try extreme($0, $1, $2, $3, isLess: { $1.isLess(than: $0) }) }
    case "min": { try extreme($0, $1, $2, $3, isLess: { $0.isLess(than: $1) }) }
    case "pprint": { _, value, _, _ in .string(value.representation()) }
    case "reject": { try selected($0, $1, $2, $3, keeps: false, byAttribute: false) }
    case "rejectattr": { try selected($0, $1, $2, $3, keeps: false, byAttribute: true) }
    case "replace": replace
    case "reverse": reverse
    case "round": round
    case "safe", "string": { _, value, _, _ in .string(value.text()) }
    case "select": { try selected($0, $1, $2, $3, keeps: true, byAttribute: false) }
    case "selectattr": { try selected($0, $1, $2, $3, keeps: true, byAttribute: true) }
    case "slice": slices
    case "sort": sort
    case "striptags": text(withoutTags)
    case "sum": sum
    case "title": text(titled)
    case "tojson": json
    case "trim": trim
    case "truncate": truncate
    case "unique": unique
    case "upper": text { $0.uppercased() }
    case "urlencode": urlEncoded
    case "wordcount": wordCount
    case "wordwrap": wordWrap
    case "xmlattr": attributes
    case "filesizeformat": fileSize
    default: nil
    }
  }

  /// A filter of the value's text alone.
  private static func text(_ body: @escaping (String) -> String) -> Filter {
    { interpreter, value, arguments, location in
      _ = try arguments.bound(to: "s", of: "the filter", at: location)
      let result = body(value.text())
      try interpreter.charge(bytes: result.utf8.count, at: location)
      return .string(result)
    }
  }

  // MARK: Numbers

  private static func absolute(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    switch value {
    case .float(let number): return .float(number.magnitude)
    default:
      guard let number = value.asInteger, number != .min else {
        throw TemplateError("abs needs a number, not \(value.typeName)", at: location)
      }
      return .integer(number < 0 ? -number : number)
    }
  }

  private static func integer(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "default", "base", of: "int", at: location)
    let fallback = bound[0] ?? .integer(0)
    switch value {
    case .integer, .boolean: return .integer(value.asInteger ?? 0)
    case .float(let number): return Int(exactly: number.rounded(.towardZero)).map { .integer($0) } ?? fallback
    case .string(let text):
      let digits = PythonText.strip(text, nil).filter { $0 != "_" }
      let base = bound[1]?.asInteger ?? 10
      guard (2...36).contains(base) else { return fallback }
      let prefix = [16: "0x", 8: "0o", 2: "0b"][base]
      let body = prefix.map { digits.lowercased().hasPrefix($0) ? String(digits.dropFirst(2)) : digits } ?? digits
      if let number = Int(body, radix: base) { return .integer(number) }
      guard base == 10, let number = Double(digits), let whole = Int(exactly: number.rounded(.towardZero)) else {
        return fallback
      }
      return .integer(whole)
    default: return fallback
    }
  }

  private static func float(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let fallback = try arguments.bound(to: "default", of: "float", at: location)[0] ?? .float(0)
    if let number = value.asDouble { return .float(number) }
    if case .string(let text) = value, let number = Double(PythonText.strip(text, nil)) { return .float(number) }
    return fallback
  }

  private static func round(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "precision", "method", of: "round", at: location)
    let precision = bound[0]?.asInteger ?? 0
    let method = bound[1]?.asString ?? "common"
    guard let number = value.asDouble else {
      if case .undefined(let reason) = value { throw TemplateError(reason, at: location) }
      throw TemplateError("round needs a number, not \(value.typeName)", at: location)
    }
    guard abs(max(-400, precision)) <= 300, number.isFinite else { return .float(number) }
    switch method {
    case "common":
      if let whole = value.asInteger, precision >= 0 { return .integer(whole) }
      return .float(PythonFormat.rounded(number, precision))
    case "ceil", "floor":
      var scale = 1.0
      for _ in 0..<abs(precision) { scale *= 10 }
      let scaled = precision >= 0 ? number * scale : number / scale
      let whole = scaled.rounded(method == "ceil" ? .up : .down)
      return .float(precision >= 0 ? whole / scale : whole * scale)
    default: throw TemplateError("round's method must be common, ceil or floor", at: location)
    }
  }

  private static func sum(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "attribute", "start", of: "sum", at: location)
    var total = bound[1] ?? .integer(0)
    for item in try interpreter.elements(of: value, at: location) {
      let part = try bound[0].map { try path($0, of: item, interpreter, location) } ?? item
      total = try Operators.apply(.add, total, part, interpreter, at: location)
    }
    return total
  }

  // MARK: Text

  private static func replace(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "old", "new", "count", of: "replace", at: location)
    guard let old = bound[0], let new = bound[1] else { throw TemplateError("replace needs two texts", at: location) }
    let limit = bound[2]?.asInteger ?? -1
    return .string(
      try Methods.replace(value.text(), old.text(), new.text(), limit: limit, interpreter, location))
  }

  private static func trim(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let characters = try arguments.bound(to: "chars", of: "trim", at: location)[0]
    return .string(PythonText.strip(value.text(), characters?.asString))
  }

  private static func center(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let width = try arguments.bound(to: "width", of: "center", at: location)[0]?.asInteger ?? 80
    return .string(try Methods.padded(value.text(), width, .center, " ", interpreter, location))
  }

  private static func indent(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "width", "first", "blank", of: "indent", at: location)
    let text = value.text()
    let lines = PythonText.lines(text + "\n")
    let margin: String
    if let given = bound[0]?.asString {
      margin = given
    } else {
      let width = max(0, bound[0]?.asInteger ?? 4)
      try interpreter.charge(bytes: width, at: location)
      margin = String(repeating: " ", count: width)
    }
    let (total, overflow) = margin.utf8.count.multipliedReportingOverflow(by: lines.count)
    try interpreter.charge(bytes: overflow ? .max : total, at: location)
    let indentsBlank = bound[2]?.isTrue ?? false
    var result = bound[1]?.isTrue ?? false ? margin : ""
    for (index, line) in lines.enumerated() {
      if index > 0 { result += "\n" + (line.isEmpty && !indentsBlank ? "" : margin) }
      result += line
    }
    return .string(result)
  }

  private static func titled(_ text: String) -> String {
    var result = ""
    var isStart = true
    for scalar in text.unicodeScalars {
      let separates = PythonText.isSpace(scalar) || "-({[<".unicodeScalars.contains(scalar)
      result += isStart && !separates ? scalar.properties.uppercaseMapping : scalar.properties.lowercaseMapping
      isStart = separates
    }
    return result
  }

  private static func escaped(_ text: String) -> String {
    var result = ""
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

  private static func withoutTags(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    var isInTag = false
    for scalar in text.unicodeScalars {
      if scalar == "<" { isInTag = true }
      if !isInTag { result.append(scalar) }
      if scalar == ">" { isInTag = false }
    }
    return PythonText.split(String(result), nil).joined(separator: " ")
  }

  private static func truncate(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "length", "killwords", "end", "leeway", of: "truncate", at: location)
    let scalars = Array(value.text().unicodeScalars)
    let length = bound[0]?.asInteger ?? 255
    let end = bound[2]?.text() ?? "..."
    let room = length.subtractingReportingOverflow(end.unicodeScalars.count).partialValue
    guard room >= 0 else { throw TemplateError("truncate's length is shorter than its end", at: location) }
    let leeway = max(0, bound[3]?.asInteger ?? 5)
    if scalars.count <= length.addingReportingOverflow(leeway).partialValue { return .string(value.text()) }
    let cut = scalars.prefix(room)
    if bound[1]?.isTrue ?? false { return .string(PythonText.string(cut) + end) }
    let word = cut.lastIndex(of: " ").map { cut[..<$0] } ?? cut
    return .string(PythonText.string(word) + end)
  }

  private static func wordCount(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    var count = 0
    var isInWord = false
    for scalar in value.text().unicodeScalars {
      if scalar.isWord, !isInWord { count += 1 }
      isInWord = scalar.isWord
    }
    return .integer(count)
  }

  private static func wordWrap(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(
      to: "width", "break_long_words", "wrapstring", "break_on_hyphens", of: "wordwrap", at: location)
    let width = max(1, bound[0]?.asInteger ?? 79)
    let breaksLong = bound[1]?.isTrue ?? true
    let separator = bound[2]?.text() ?? "\n"
    var lines: [String] = []
    for line in PythonText.lines(value.text()) {
      var wrapped: [String] = []
      var current: [Unicode.Scalar] = []
      for word in PythonText.split(line, nil) {
        var word = Array(word.unicodeScalars)
        if !current.isEmpty, current.count + 1 + word.count <= width {
          current += [" "] + word
          continue
        }
        if !current.isEmpty { wrapped.append(PythonText.string(current)) }
        while breaksLong, word.count > width {
          wrapped.append(PythonText.string(word.prefix(width)))
          word.removeFirst(width)
        }
        current = word
      }
      if !current.isEmpty || wrapped.isEmpty { wrapped.append(PythonText.string(current)) }
      lines.append(wrapped.joined(separator: separator))
    }
    return .string(lines.joined(separator: separator))
  }

  private static func format(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    var right = TemplateValue.tuple(arguments.positional)
    if !arguments.keyword.isEmpty {
      var items = TemplateDictionary()
      for (name, value) in arguments.keyword { items[name] = value }
      right = .dictionary(items)
    }
    return try Operators.apply(.modulo, .string(value.text()), right, interpreter, at: location)
  }

  private static func urlEncoded(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    func quote(_ text: String, keepsSlash: Bool) -> String {
      var result = ""
      for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"),
          UInt8(ascii: "~"):
          result.unicodeScalars.append(Unicode.Scalar(byte))
        case UInt8(ascii: "/") where keepsSlash: result += "/"
        default: result += "%" + PythonText.hexadecimal(UInt32(byte), 2).uppercased()
        }
      }
      return result
    }
    guard case .dictionary(let items) = value else { return .string(quote(value.text(), keepsSlash: true)) }
    let pairs = zip(items.keys, items.values).map { key, value in
      quote(key.text(), keepsSlash: false) + "=" + quote(value.text(), keepsSlash: false)
    }
    return .string(pairs.joined(separator: "&"))
  }

  private static func attributes(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    guard case .dictionary(let items) = value else { throw TemplateError("xmlattr needs a dictionary", at: location) }
    var result: [String] = []
    for (key, value) in zip(items.keys, items.values) {
      if case .none = value { continue }
      if value.isUndefined { continue }
      result.append(escaped(key.text()) + "=\"" + escaped(value.text()) + "\"")
    }
    let space = try arguments.bound(to: "autospace", of: "xmlattr", at: location)[0]?.isTrue ?? true
    return .string((space && !result.isEmpty ? " " : "") + result.joined(separator: " "))
  }

  private static func fileSize(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let isBinary = try arguments.bound(to: "binary", of: "filesizeformat", at: location)[0]?.isTrue ?? false
    guard let bytes = value.asDouble ?? value.asString.flatMap(Double.init) else {
      throw TemplateError("filesizeformat needs a number", at: location)
    }
    let base = isBinary ? 1024.0 : 1000.0
    if bytes == 1 { return .string("1 Byte") }
    if bytes < base { return .string("\(PythonFormat.fixed(bytes.rounded(.towardZero), 0)) Bytes") }
    let units =
      isBinary
      ? ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"] : ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    var size = bytes / base
    var unit = 0
    while size >= base, unit < units.count - 1 {
      size /= base
      unit += 1
    }
    return .string("\(PythonFormat.fixed(size, 1)) \(units[unit])")
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
    } else if let width = bound[1]?.asInteger {
      try interpreter.charge(bytes: max(0, width), at: location)
      writer.indent = String(repeating: " ", count: max(0, width))
    }
    if writer.indent != nil { writer.itemSeparator = "," }
    if case .tuple(let parts)? = bound[2], parts.count == 2 {
      (writer.itemSeparator, writer.keySeparator) = (parts[0].text(), parts[1].text())
    } else if case .list(let parts)? = bound[2], parts.count == 2 {
      (writer.itemSeparator, writer.keySeparator) = (parts[0].text(), parts[1].text())
    }
    writer.sortsKeys = bound[3]?.isTrue ?? false
    return .string(try writer.write(value))
  }

  // MARK: Lists

  private static func length(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    switch value {
    case .string(let text):
      try interpreter.charge(text.utf8.count / 64, at: location)
      return .integer(text.unicodeScalars.count)
    case .list(let values), .tuple(let values): return .integer(values.count)
    case .dictionary(let items): return .integer(items.count)
    case .loop(let loop): return .integer(loop.items.count)
    case .undefined: return .integer(0)
    default: throw TemplateError("a value of type \(value.typeName) has no length", at: location)
    }
  }

  private static func first(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try interpreter.elements(of: value, at: location).first ?? .undefined("No first item, sequence was empty.")
  }

  private static func last(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try interpreter.elements(of: value, at: location).last ?? .undefined("No last item, sequence was empty.")
  }

  private static func reverse(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    if case .string(let text) = value { return .string(PythonText.string(text.unicodeScalars.reversed())) }
    return .list(try interpreter.elements(of: value, at: location).reversed())
  }

  private static func join(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "d", "attribute", of: "join", at: location)
    let parts = try interpreter.elements(of: value, at: location).map { item in
      try (bound[1].map { try path($0, of: item, interpreter, location) } ?? item).text()
    }
    let separator = bound[0]?.text() ?? ""
    return .string(try Methods.joined(parts, separator, interpreter, location))
  }

  private static func standard(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "default_value", "boolean", of: "default", at: location)
    let replaces = value.isUndefined || (bound[1]?.isTrue ?? false && !value.isTrue)
    return replaces ? bound[0] ?? .string("") : value
  }

  private static func items(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    switch value {
    case .undefined: return .list([])
    case .dictionary(let items): return .list(zip(items.keys, items.values).map { .tuple([$0, $1]) })
    default: throw TemplateError("items needs a dictionary, not \(value.typeName)", at: location)
    }
  }

  private static func batch(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "linecount", "fill_with", of: "batch", at: location)
    guard let size = bound[0]?.asInteger, size > 0 else {
      throw TemplateError("batch needs a positive number", at: location)
    }
    let items = try interpreter.elements(of: value, at: location)
    var rows: [TemplateValue] = []
    var start = 0
    while start < items.count {
      var row = Array(items[start...].prefix(size))
      if row.count < size, let fill = bound[1] {
        if case .none = fill {
        } else {
          try interpreter.charge(size, at: location)
          row += Array(repeating: fill, count: size - row.count)
        }
      }
      rows.append(.list(row))
      start += row.count
    }
    return .list(rows)
  }

  private static func slices(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "slices", "fill_with", of: "slice", at: location)
    guard let count = bound[0]?.asInteger, count > 0 else {
      throw TemplateError("slice needs a positive number", at: location)
    }
    try interpreter.charge(count, at: location)
    let items = try interpreter.elements(of: value, at: location)
    let (size, extra) = items.count.quotientAndRemainder(dividingBy: count)
    var start = 0
    return .list(
      (0..<count).map { index in
        let end = start + size + (index < extra ? 1 : 0)
        var part = Array(items[start..<end])
        start = end
        if let fill = bound[1], index >= extra, extra > 0 { if case .none = fill {} else { part.append(fill) } }
        return .list(part)
      })
  }

  // MARK: Filters that look into items

  /// An attribute of an item by its path (`a.b.0`), or by its number.
  static func path(
    _ path: TemplateValue, of item: TemplateValue, _ interpreter: Interpreter, _ location: SourceLocation,
    default standard: TemplateValue? = nil
  ) throws -> TemplateValue {
    guard case .string(let text) = path else { return try interpreter.item(path, of: item, at: location) }
    var value = item
    for part in PythonText.split(text, ".") {
      let isNumber = !part.isEmpty && part.utf8.allSatisfy { (0x30...0x39).contains($0) }
      let key: TemplateValue = isNumber ? Int(part).map { .integer($0) } ?? .string(part) : .string(part)
      value = try interpreter.item(key, of: value, at: location)
      if value.isUndefined, let standard { value = standard }
    }
    return value
  }

  private static func attribute(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    guard let name = try arguments.bound(to: "name", of: "attr", at: location)[0]?.asString else {
      throw TemplateError("attr needs a name", at: location)
    }
    if case .dictionary = value {
      return Methods.named(name, of: value).map { .function($0) } ?? .undefined("'dict' has no attribute '\(name)'")
    }
    return try interpreter.attribute(name, of: value, at: location)
  }

  private static func map(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let items = try interpreter.elements(of: value, at: location)
    var rest = arguments
    guard !rest.positional.isEmpty else {
      var standard: TemplateValue?
      var attribute: TemplateValue?
      for (name, value) in rest.keyword {
        switch name {
        case "attribute": attribute = value
        case "default": standard = value
        default: throw TemplateError("map has no argument '\(name)'", at: location)
        }
      }
      guard let attribute else { throw TemplateError("map needs a filter or an attribute", at: location) }
      return .list(try items.map { try path(attribute, of: $0, interpreter, location, default: standard) })
    }
    let name = rest.positional.removeFirst().text()
    return .list(try items.map { try interpreter.apply(filter: name, to: $0, rest, at: location) })
  }

  private static func selected(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation,
    keeps: Bool, byAttribute: Bool
  ) throws -> TemplateValue {
    var rest = arguments
    var attribute: TemplateValue?
    if byAttribute {
      guard !rest.positional.isEmpty else { throw TemplateError("the name of an attribute is missing", at: location) }
      attribute = rest.positional.removeFirst()
    }
    let test = rest.positional.isEmpty ? nil : rest.positional.removeFirst().text()
    return .list(
      try interpreter.elements(of: value, at: location).filter { item in
        try interpreter.charge(at: location)
        let value = try attribute.map { try path($0, of: item, interpreter, location) } ?? item
        let passes = try test.map { try interpreter.test(value, $0, rest, at: location) } ?? value.isTrue
        return passes == keeps
      })
  }

  /// What sorting compares: an attribute or the item, small letters if case does not count.
  private static func keys(
    _ items: [TemplateValue], _ attribute: TemplateValue?, caseSensitive: Bool, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws -> [TemplateValue] {
    func folded(_ value: TemplateValue) -> TemplateValue {
      if case .string(let text) = value, !caseSensitive { return .string(text.lowercased()) }
      return value
    }
    return try items.map { item in
      guard case .string(let text)? = attribute, text.contains(",") else {
        return folded(try attribute.map { try path($0, of: item, interpreter, location) } ?? item)
      }
      return .tuple(
        try PythonText.split(text, ",").map { folded(try path(.string($0), of: item, interpreter, location)) })
    }
  }

  private static func ordered(
    _ items: [TemplateValue], by keys: [TemplateValue], descending: Bool, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws -> [TemplateValue] {
    let order = try keys.indices.sorted { a, b in
      try interpreter.charge(at: location)
      let (left, right) = descending ? (keys[b], keys[a]) : (keys[a], keys[b])
      guard let isLess = left.isLess(than: right) else {
        throw TemplateError("\(left.typeName) and \(right.typeName) cannot be ordered", at: location)
      }
      return isLess
    }
    return order.map { items[$0] }
  }

  private static func sort(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "reverse", "case_sensitive", "attribute", of: "sort", at: location)
    let items = try interpreter.elements(of: value, at: location)
    let keys = try keys(items, bound[2], caseSensitive: bound[1]?.isTrue ?? false, interpreter, location)
    return .list(try ordered(items, by: keys, descending: bound[0]?.isTrue ?? false, interpreter, location))
  }

  private static func sortedItems(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "case_sensitive", "by", "reverse", of: "dictsort", at: location)
    guard case .dictionary(let dictionary) = value else {
      throw TemplateError("dictsort needs a dictionary", at: location)
    }
    let by = bound[1]?.asString ?? "key"
    guard by == "key" || by == "value" else { throw TemplateError("dictsort sorts by key or value", at: location) }
    let items = zip(dictionary.keys, dictionary.values).map { TemplateValue.tuple([$0, $1]) }
    let keys = try keys(
      by == "key" ? dictionary.keys : dictionary.values, nil, caseSensitive: bound[0]?.isTrue ?? false, interpreter,
      location)
    return .list(try ordered(items, by: keys, descending: bound[2]?.isTrue ?? false, interpreter, location))
  }

  private static func unique(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "case_sensitive", "attribute", of: "unique", at: location)
    let items = try interpreter.elements(of: value, at: location)
    let keys = try keys(items, bound[1], caseSensitive: bound[0]?.isTrue ?? false, interpreter, location)
    var seen = TemplateDictionary()
    var result: [TemplateValue] = []
    for (item, key) in zip(items, keys) {
      guard TemplateDictionary.canBeKey(key) else {
        throw TemplateError("a value of type \(key.typeName) cannot be told apart", at: location)
      }
      if seen[key] == nil { result.append(item) }
      seen[key] = TemplateValue.none
    }
    return .list(result)
  }

  private static func extreme(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation,
    isLess: (TemplateValue, TemplateValue) -> Bool?
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "case_sensitive", "attribute", of: "min and max", at: location)
    let items = try interpreter.elements(of: value, at: location)
    let keys = try keys(items, bound[1], caseSensitive: bound[0]?.isTrue ?? false, interpreter, location)
    guard var best = keys.indices.first else { return .undefined("No aggregated item, sequence was empty.") }
    for index in keys.indices.dropFirst() {
      guard let better = isLess(keys[index], keys[best]) else {
        throw TemplateError("\(keys[index].typeName) and \(keys[best].typeName) cannot be ordered", at: location)
      }
      if better { best = index }
    }
    return items[best]
  }

  private static func grouped(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "attribute", "default", "case_sensitive", of: "groupby", at: location)
    guard let attribute = bound[0] else { throw TemplateError("groupby needs an attribute", at: location) }
    let isCaseSensitive = bound[2]?.isTrue ?? false
    let items = try interpreter.elements(of: value, at: location)
    let own = try items.map { try path(attribute, of: $0, interpreter, location, default: bound[1]) }
    let folded = try keys(own, nil, caseSensitive: isCaseSensitive, interpreter, location)
    let order = try ordered(
      items.indices.map { .integer($0) }, by: folded, descending: false, interpreter, location
    ).compactMap(\.asInteger)
    var groups: [(key: TemplateValue, folded: TemplateValue, items: [TemplateValue])] = []
    for index in order {
      if let last = groups.last, last.folded.isEqual(to: folded[index]) {
        groups[groups.count - 1].items.append(items[index])
      } else {
        groups.append((own[index], folded[index], [items[index]]))
      }
    }
    return .list(groups.map { .tuple([$0.key, .list($0.items)]) })
  }
}
