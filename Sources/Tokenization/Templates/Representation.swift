/// Writes values as Python's `repr` does, within the interpreter's limits.
struct Representation {
  private let interpreter: Interpreter
  private let location: SourceLocation
  private var bytes: [UInt8] = []

  init(_ interpreter: Interpreter, _ location: SourceLocation) {
    self.interpreter = interpreter
    self.location = location
  }

  /// The `repr` of a value.
  static func text(of value: TemplateValue, _ interpreter: Interpreter, at location: SourceLocation) throws -> String {
    var writer = Representation(interpreter, location)
    try writer.append(value)
    return String(decoding: writer.bytes, as: UTF8.self)
  }

  mutating func write(_ text: String) throws(TemplateError) {
    bytes.append(contentsOf: text.utf8)
    try interpreter.charge(bytes: bytes.count, at: location, weight: text.utf8.count)
  }

  private mutating func append(_ values: [TemplateValue], _ open: String, _ close: String) throws {
    try write(open)
    for (index, value) in values.enumerated() {
      if index > 0 { try write(", ") }
      try append(value)
    }
    try write(close)
  }

  mutating func append(_ value: TemplateValue) throws {
    try interpreter.descend(at: location)
    defer { interpreter.ascend() }
    switch value {
    case .undefined: try write("Undefined")
    case .none: try write("None")
    case .boolean(let value): try write(value ? "True" : "False")
    case .integer(let value): try write(String(value))
    case .big(let value): try write(value.text(at: location))
    case .float(let value): try write(PythonText.repr(value))
    case .string(let value):
      try interpreter.charge(bytes: value.utf8.count, at: location)
      try write(PythonText.repr(value))
    case .markup(let value):
      try interpreter.charge(bytes: value.utf8.count, at: location)
      try write("Markup(" + PythonText.repr(value) + ")")
    case .list(let values): try append(values, "[", "]")
    case .tuple(let values): try append(values, "(", values.count == 1 ? ",)" : ")")
    case .dictionary(let items): try append(items)
    case .function(let function): try write(function.representation)
    case .namespace(let namespace):
      try write("<Namespace ")
      try append(.dictionary(namespace.values))
      try write(">")
    case .loop(let loop): try write("<LoopContext \(loop.index + 1)/\(loop.items.count)>")
    case .object(let object): try object.represent(&self)
    }
  }

  private mutating func append(_ items: TemplateDictionary) throws {
    try write("{")
    for (index, (key, value)) in zip(items.keys, items.values).enumerated() {
      if index > 0 { try write(", ") }
      try append(key)
      try write(": ")
      try append(value)
    }
    try write("}")
  }
}
