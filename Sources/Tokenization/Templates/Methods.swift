/// The methods of values that are no text, as far as they change nothing.
enum Methods {
  /// Methods that would change their value: to the sandbox they do not exist.
  static func changes(_ name: String, _ value: TemplateValue) -> Bool {
    switch value {
    case .list: ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"].contains(name)
    case .dictionary: ["clear", "pop", "popitem", "setdefault", "update"].contains(name)
    default: false
    }
  }

  /// A method of a value; `nil` when it has none of that name.
  static func named(_ name: String, of value: TemplateValue) -> TemplateFunction? {
    switch value {
    case .string(let text): TextMethods.named(name, of: text)
    case .markup(let text): MarkupMethods.named(name, of: text)
    case .list(let values), .tuple(let values): listMethod(name, values, of: value)
    case .dictionary(let items): dictionaryMethod(name, items)
    case .boolean, .integer, .big, .float: numberMethod(name, value)
    default: nil
    }
  }

  // MARK: Lists and dictionaries

  private static func listMethod(_ name: String, _ values: [TemplateValue], of value: TemplateValue)
    -> TemplateFunction?
  {
    switch name {
    case "copy":
      guard case .list = value else { return nil }
      return TemplateFunction(name, holding: values) { _, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return value
      }
    case "count":
      return TemplateFunction(name, holding: values) { interpreter, arguments, location in
        let wanted = try arguments.positional(1...1, of: name, at: location)[0]
        return .integer(try values.count { try interpreter.isEqual($0, wanted, at: location) })
      }
    case "index":
      return TemplateFunction(name, holding: values) { interpreter, arguments, location in
        let given = try arguments.positional(1...3, of: name, at: location)
        let range = try bounds(given.dropFirst(), count: values.count, location)
        for index in range ?? 0..<0 where try interpreter.isEqual(values[index], given[0], at: location) {
          return .integer(index)
        }
        throw TemplateError("the value is not in the list", at: location)
      }
    default: return nil
    }
  }

  private static func dictionaryMethod(_ name: String, _ items: TemplateDictionary) -> TemplateFunction? {
    func view(_ kind: DictionaryView.Kind) -> TemplateFunction {
      TemplateFunction(name, holding: items.values) { _, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return .object(DictionaryView(kind, items))
      }
    }
    switch name {
    case "copy":
      return TemplateFunction(name, holding: items.values) { _, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return .dictionary(items)
      }
    case "keys": return view(.keys)
    case "values": return view(.values)
    case "items": return view(.items)
    case "get":
      return TemplateFunction(name, holding: items.values) { interpreter, arguments, location in
        let given = try arguments.positional(1...2, of: name, at: location)
        guard TemplateDictionary.canBeKey(given[0]) else {
          throw TemplateError("a value of type \(given[0].typeName) cannot be a key", at: location)
        }
        try interpreter.charge(comparing: given[0], given[0], at: location)
        return items[given[0]] ?? (given.count > 1 ? given[1] : .none)
      }
    default: return nil
    }
  }

  /// The part of a sequence that `start` and `stop` among a method's arguments say; `nil` when it begins beyond the end.
  static func bounds(
    _ values: ArraySlice<TemplateValue>, count: Int, _ location: SourceLocation
  ) throws(TemplateError) -> Range<Int>? {
    func place(_ value: TemplateValue?, _ standard: Int) throws(TemplateError) -> Int {
      guard let value, !value.isNone else { return standard }
      guard let number = value.asBigInteger else {
        throw TemplateError("an index must be an integer, not \(value.typeName)", at: location)
      }
      let index = number.int ?? (number.isNegative ? -Int.max : Int.max)
      return index < 0 ? max(0, max(index, -Int.max / 2) + count) : index
    }
    let start = try place(values.first, 0)
    let stop = min(try place(values.dropFirst().first, count), count)
    return start <= stop ? start..<stop : nil
  }

  // MARK: Numbers

  private static func numberMethod(_ name: String, _ value: TemplateValue) -> TemplateFunction? {
    func constant(_ result: TemplateValue) -> TemplateFunction {
      TemplateFunction(name) { _, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return result
      }
    }
    if case .float(let number) = value {
      switch name {
      case "is_integer": return constant(.boolean(number.isFinite && number == number.rounded()))
      case "conjugate": return constant(value)
      default: return nil
      }
    }
    guard let number = value.asBigInteger else { return nil }
    switch name {
    case "bit_length": return constant(.integer(number.bitWidth))
    case "bit_count": return constant(.integer(number.magnitude(radix: 2).utf8.count { $0 == UInt8(ascii: "1") }))
    case "conjugate": return constant(plus(value))
    case "as_integer_ratio": return constant(.tuple([plus(value), .integer(1)]))
    default: return nil
    }
  }

  /// The number that `+value` is: of a truth value 0 or 1.
  private static func plus(_ value: TemplateValue) -> TemplateValue {
    if case .boolean(let value) = value { .integer(value ? 1 : 0) } else { value }
  }

  /// What a number has under a name without being called.
  static func numberAttribute(_ name: String, of value: TemplateValue) -> TemplateValue? {
    let isFloat = if case .float = value { true } else { false }
    switch name {
    case "real": return plus(value)
    case "imag": return isFloat ? .float(0) : .integer(0)
    case "numerator": return isFloat ? nil : plus(value)
    case "denominator": return isFloat ? nil : .integer(1)
    default: return nil
    }
  }
}
