/// Writes values as Python's `json.dumps` does.
struct JSONWriter {
  let interpreter: Interpreter
  let location: SourceLocation
  var escapesNonASCII = false
  /// What each level is indented by; `nil` writes one line.
  var indent: String?
  var itemSeparator = ", "
  var keySeparator = ": "
  var sortsKeys = false
  private var text = ""

  init(interpreter: Interpreter, location: SourceLocation) {
    self.interpreter = interpreter
    self.location = location
  }

  mutating func write(_ value: TemplateValue) throws -> String {
    try append(value, level: 0)
    return text
  }

  private mutating func newline(_ level: Int) throws(TemplateError) {
    guard let indent else { return }
    let size = indent.utf8.count * level
    try interpreter.charge(bytes: text.utf8.count + size, at: location, weight: size)
    text += "\n"
    for _ in 0..<level { text += indent }
  }

  private mutating func append(_ value: TemplateValue, level: Int) throws {
    try interpreter.descend(at: location)
    defer { interpreter.ascend() }
    try interpreter.charge(bytes: text.utf8.count, at: location, weight: 32)
    switch value.plain {
    case .none: text += "null"
    case .boolean(let value): text += value ? "true" : "false"
    case .integer(let value): text += String(value)
    case .big(let value): text += try value.text(at: location)
    case .float(let value): text += Self.number(value)
    case .object(let group as TemplateGroup): try append(.tuple(group.elements(interpreter, location)), level: level)
    case .string(let value): try appendString(value)
    case .list(let values), .tuple(let values):
      text += "["
      for (index, value) in values.enumerated() {
        if index > 0 { text += itemSeparator }
        try newline(level + 1)
        try append(value, level: level + 1)
      }
      if !values.isEmpty { try newline(level) }
      text += "]"
    case .dictionary(let items):
      var order = Array(items.keys.indices)
      if sortsKeys {
        order = try order.sorted {
          try Operators.compare(items.keys[$0], .less, items.keys[$1], interpreter, at: location)
        }
      }
      let pairs = try order.map { (key: try self.key(items.keys[$0]), value: items.values[$0]) }
      text += "{"
      for (index, (key, value)) in pairs.enumerated() {
        if index > 0 { text += itemSeparator }
        try newline(level + 1)
        try appendString(key)
        text += keySeparator
        try append(value, level: level + 1)
      }
      if !pairs.isEmpty { try newline(level) }
      text += "}"
    default: throw TemplateError("a value of type \(value.typeName) cannot be written as JSON", at: location)
    }
  }

  private static func number(_ value: Double) -> String {
    value.isNaN ? "NaN" : value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : PythonText.repr(value)
  }

  private func key(_ value: TemplateValue) throws(TemplateError) -> String {
    switch value.plain {
    case .string(let text): return text
    case .none: return "null"
    case .boolean(let value): return value ? "true" : "false"
    case .integer(let value): return String(value)
    case .big(let value): return try value.text(at: location)
    case .float(let value): return Self.number(value)
    default: throw TemplateError("a key of type \(value.typeName) cannot be written as JSON", at: location)
    }
  }

  private mutating func appendString(_ string: String) throws(TemplateError) {
    try interpreter.charge(bytes: text.utf8.count + string.utf8.count, at: location, weight: string.utf8.count)
    text += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case "\u{08}": text += "\\b"
      case "\u{0C}": text += "\\f"
      default:
        if scalar.value < 0x20 || (escapesNonASCII && scalar.value > 0x7E) {
          for unit in String(scalar).utf16 { text += "\\u" + PythonText.hexadecimal(UInt32(unit), 4) }
        } else {
          text.unicodeScalars.append(scalar)
        }
      }
    }
    text += "\""
  }
}
