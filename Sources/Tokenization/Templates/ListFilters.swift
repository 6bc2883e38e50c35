/// Filters that take or make lists.
enum ListFilters {
  static func named(_ name: String) -> Filters.Filter? {
    switch name {
    case "attr": attribute
    case "batch": batch
    case "count", "length":
      { _, value, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return .integer(try count(of: value, location))
      }
    case "d", "default": standard
    case "dictsort": sortedItems
    case "first": first
    case "groupby": grouped
    case "items": items
    case "join": join
    case "last": last
    case "list":
      { interpreter, value, arguments, location in
        try arguments.expectNone(of: name, at: location)
        return .list(try interpreter.elements(of: value, at: location))
      }
    case "map": map
    case "max": { try extreme($0, $1, $2, $3, isLess: { $1.isLess(than: $0) }) }
    case "min": { try extreme($0, $1, $2, $3, isLess: { $0.isLess(than: $1) }) }
    case "random": random
    case "reject": { try selected($0, $1, $2, $3, name: name, keeps: false, byAttribute: false) }
    case "rejectattr": { try selected($0, $1, $2, $3, name: name, keeps: false, byAttribute: true) }
    case "reverse": reverse
    case "select": { try selected($0, $1, $2, $3, name: name, keeps: true, byAttribute: false) }
    case "selectattr": { try selected($0, $1, $2, $3, name: name, keeps: true, byAttribute: true) }
    case "slice": slices
    case "sort": sort
    case "unique": unique
    default: nil
    }
  }

  /// A given argument that is not none.
  private static func given(_ value: TemplateValue?) -> TemplateValue? { value.flatMap { $0.isNone ? nil : $0 } }

  /// Python's `len`.
  static func count(of value: TemplateValue, _ location: SourceLocation) throws(TemplateError) -> Int {
    switch value {
    case .string(let text), .markup(let text): return text.unicodeScalars.count
    case .list(let values), .tuple(let values): return values.count
    case .dictionary(let items): return items.count
    case .loop(let loop): return loop.items.count
    case .undefined: return 0
    case .object(let object):
      if let count = object.count { return count }
    default: break
    }
    throw TemplateError("a value of type \(value.typeName) has no length", at: location)
  }

  /// The values of `value` one at a time.
  private static func iterator(
    over value: TemplateValue, _ interpreter: Interpreter, _ location: SourceLocation
  ) throws -> TemplateIterator {
    if case .object(let iterator as TemplateIterator) = value { return iterator }
    return TemplateIterator("iterator", try interpreter.elements(of: value, at: location))
  }

  /// Values made of those of `source`, each when it is asked for; `next` returns `nil` at the end.
  private static func generator(
    _ maker: String, _ source: TemplateValue,
    _ next:
      @escaping (_ items: TemplateIterator, _ interpreter: Interpreter, _ location: SourceLocation) throws ->
      TemplateValue?
  ) -> TemplateValue {
    var items: TemplateIterator?
    return .object(
      TemplateIterator("generator", maker: maker, over: source) { interpreter, location in
        let current = try items ?? iterator(over: source, interpreter, location)
        items = current
        return try next(current, interpreter, location)
      })
  }

  // MARK: Ends and order

  private static func first(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try arguments.expectNone(of: "first", at: location)
    return try iterator(over: value, interpreter, location).next(interpreter, location)
      ?? .undefined("No first item, sequence was empty.")
  }

  private static func last(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try arguments.expectNone(of: "last", at: location)
    try checkReversible(value, location)
    guard let last = try interpreter.elements(of: value, at: location).last else {
      return .undefined("No last item, sequence was empty.")
    }
    if case .markup = value, case .string(let text) = last { return .markup(text) }
    return last
  }

  private static func checkReversible(_ value: TemplateValue, _ location: SourceLocation) throws(TemplateError) {
    if case .object(is TemplateIterator) = value {
      throw TemplateError("a value of type \(value.typeName) has no last element", at: location)
    }
    if case .loop = value { throw TemplateError("a loop has no last element", at: location) }
  }

  private static func reverse(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try arguments.expectNone(of: "reverse", at: location)
    if let text = value.asString {
      try interpreter.charge(text.utf8.count / 16, at: location)
      return Filters.like(value, PythonText.string(text.unicodeScalars.reversed()))
    }
    let reversed = Array(try interpreter.elements(of: value, at: location).reversed())
    let name: String
    switch value {
    case .object(is TemplateIterator), .loop: return .list(reversed)
    case .list: name = "list_reverseiterator"
    case .dictionary: name = "dict_reversekeyiterator"
    case .object(is TemplateRange): name = "range_iterator"
    case .object(let view as DictionaryView): name = "dict_reverse\(view.kind.rawValue.dropLast())iterator"
    default: name = "reversed"
    }
    return .object(TemplateIterator(name, reversed))
  }

  private static func random(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    try arguments.expectNone(of: "random", at: location)
    try checkReversible(value, location)
    return try interpreter.elements(of: value, at: location).randomElement(using: &interpreter.random)
      ?? .undefined("No random item, sequence was empty.")
  }

  private static func join(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "d", "attribute", of: "join", at: location)
    let attribute = given(bound[1])
    let values = try interpreter.elements(of: value, at: location).map { item in
      try attribute.map { try Filters.path($0, of: item, interpreter, location) } ?? item
    }
    let separator = bound[0] ?? .string("")
    // Only where output is escaped, escaped text among the parts makes the others so.
    let isMarkup =
      interpreter.isEscaping && (values + [separator]).contains { if case .markup = $0 { true } else { false } }
    func text(_ value: TemplateValue) throws -> String {
      let text = try interpreter.text(value, at: location)
      return isMarkup ? Filters.escaped(text, of: value) : text
    }
    let joined = try TextMethods.joined(values.map(text), text(separator), interpreter, location)
    return isMarkup ? .markup(joined) : .string(joined)
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
    try arguments.expectNone(of: "items", at: location)
    return generator("do_items", value) { source, interpreter, location in
      try source.next(interpreter, location).map { key in
        guard case .dictionary(let items) = value else {
          throw TemplateError("items needs a dictionary, not \(value.typeName)", at: location)
        }
        return .tuple([key, items[key] ?? .none])
      }
    }
  }

  // MARK: Rows

  private static func batch(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "linecount", "fill_with", of: "batch", required: 1, at: location)
    let size = bound[0] ?? .none
    let fill = given(bound[1])
    var row: [TemplateValue] = []
    var isDone = false
    return generator("do_batch", value) { source, interpreter, location in
      while let item = try source.next(interpreter, location) {
        if try interpreter.isEqual(.integer(row.count), size, at: location) {
          defer { row = [item] }
          return try interpreter.counted(.list(row), at: location)
        }
        row.append(item)
      }
      guard !isDone, !row.isEmpty else { return nil }
      isDone = true
      if let fill {
        guard let size = size.asInteger else { throw TemplateError("batch needs a number", at: location) }
        try interpreter.charge(max(0, size), at: location)
        row += Array(repeating: fill, count: max(0, size - row.count))
      }
      return try interpreter.counted(.list(row), at: location)
    }
  }

  private static func slices(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "slices", "fill_with", of: "slice", required: 1, at: location)
    let fill = given(bound[1])
    let given = bound[0]
    var items: [TemplateValue]?
    var (index, start) = (0, 0)
    return generator("sync_do_slice", value) { source, interpreter, location in
      guard let count = try Filters.integer(given, "slice", location), count != 0 else {
        throw TemplateError("slice needs a number of slices", at: location)
      }
      let values = try items ?? source.elements(interpreter, location)
      items = values
      guard index < count else { return nil }
      let (size, extra) = values.count.quotientAndRemainder(dividingBy: count)
      let end = start + size + (index < extra ? 1 : 0)
      var part = Array(values[start..<end])
      if let fill, index >= extra { part.append(fill) }
      (index, start) = (index + 1, end)
      return try interpreter.counted(.list(part), at: location)
    }
  }

  // MARK: Filters that look into items

  private static func attribute(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let given = try arguments.bound(to: "name", of: "attr", required: 1, at: location)[0]
    let name = try interpreter.text(given ?? .none, at: location)
    if case .dictionary = value {
      return Methods.named(name, of: value).map { .function($0) } ?? .undefined("'dict' has no attribute '\(name)'")
    }
    return try interpreter.attribute(name, of: value, at: location)
  }

  private static func map(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    if !value.isTrue { return generator("sync_do_map", .list([])) { try $0.next($1, $2) } }
    return generator("sync_do_map", value) { source, interpreter, location in
      var rest = arguments
      if rest.positional.isEmpty {
        var standard: TemplateValue?
        var attribute: TemplateValue?
        for (name, value) in rest.keyword {
          switch name {
          case "attribute": attribute = value
          case "default": standard = given(value)
          default: throw TemplateError("map has no argument '\(name)'", at: location)
          }
        }
        guard let attribute else { throw TemplateError("map needs a filter or an attribute", at: location) }
        guard let item = try source.next(interpreter, location) else { return nil }
        return try Filters.path(attribute, of: item, interpreter, location, default: standard)
      }
      let name = rest.positional.removeFirst()
      guard let item = try source.next(interpreter, location) else { return nil }
      guard let name = name.asString else { throw TemplateError("map needs the name of a filter", at: location) }
      return try interpreter.counted(interpreter.apply(filter: name, to: item, rest, at: location), at: location)
    }
  }

  private static func selected(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation,
    name: String, keeps: Bool, byAttribute: Bool
  ) throws -> TemplateValue {
    let maker = "sync_do_" + name
    if !value.isTrue { return generator(maker, .list([])) { try $0.next($1, $2) } }
    return generator(maker, value) { source, interpreter, location in
      var rest = arguments
      var attribute: TemplateValue?
      if byAttribute {
        guard !rest.positional.isEmpty else { throw TemplateError("\(name) needs an attribute's name", at: location) }
        attribute = rest.positional.removeFirst()
      }
      let test = rest.positional.isEmpty ? nil : rest.positional.removeFirst()
      while let item = try source.next(interpreter, location) {
        let value = try attribute.map { try Filters.path($0, of: item, interpreter, location) } ?? item
        guard let test else {
          if value.isTrue == keeps { return item }
          continue
        }
        guard let test = test.asString else { throw TemplateError("\(name) needs the name of a test", at: location) }
        if try interpreter.test(value, test, rest, at: location) == keeps { return item }
      }
      return nil
    }
  }

  /// What sorting compares: an attribute or the item, small letters if case does not count.
  private static func key(
    _ item: TemplateValue, _ attribute: TemplateValue?, caseSensitive: Bool, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws -> TemplateValue {
    func folded(_ value: TemplateValue) throws(TemplateError) -> TemplateValue {
      guard let text = value.asString, !caseSensitive else { return value }
      try interpreter.charge(text.utf8.count / 16, at: location)
      return .string(PythonText.lower(text))
    }
    return try folded(attribute.map { try Filters.path($0, of: item, interpreter, location) } ?? item)
  }

  private static func ordered(
    _ items: [TemplateValue], by keys: [TemplateValue], descending: Bool, _ interpreter: Interpreter,
    _ location: SourceLocation
  ) throws -> [TemplateValue] {
    let order = try keys.indices.sorted { a, b in
      let (left, right) = descending ? (keys[b], keys[a]) : (keys[a], keys[b])
      return try Operators.compare(left, .less, right, interpreter, at: location)
    }
    return order.map { items[$0] }
  }

  private static func sort(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "reverse", "case_sensitive", "attribute", of: "sort", at: location)
    let isSensitive = bound[1]?.isTrue ?? false
    let items = try interpreter.elements(of: value, at: location)
    let attributes = given(bound[2]).map { attribute -> [TemplateValue] in
      attribute.asString.map { PythonText.split($0, ",").map { .string($0) } } ?? [attribute]
    }
    let keys = try items.map { item -> TemplateValue in
      guard let attributes else {
        return .tuple([try key(item, nil, caseSensitive: isSensitive, interpreter, location)])
      }
      return .tuple(try attributes.map { try key(item, $0, caseSensitive: isSensitive, interpreter, location) })
    }
    return .list(try ordered(items, by: keys, descending: bound[0]?.isTrue ?? false, interpreter, location))
  }

  private static func sortedItems(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "case_sensitive", "by", "reverse", of: "dictsort", at: location)
    guard case .dictionary(let dictionary) = value else {
      throw TemplateError("dictsort needs a dictionary", at: location)
    }
    let by = bound[1]?.asString ?? (bound[1] == nil ? "key" : "")
    guard by == "key" || by == "value" else { throw TemplateError("dictsort sorts by key or value", at: location) }
    let items = zip(dictionary.keys, dictionary.values).map { TemplateValue.tuple([$0, $1]) }
    let keys = try (by == "key" ? dictionary.keys : dictionary.values).map {
      try key($0, nil, caseSensitive: bound[0]?.isTrue ?? false, interpreter, location)
    }
    return .list(try ordered(items, by: keys, descending: bound[2]?.isTrue ?? false, interpreter, location))
  }

  private static func unique(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "case_sensitive", "attribute", of: "unique", at: location)
    var seen = TemplateDictionary()
    return generator("do_unique", value) { source, interpreter, location in
      while let item = try source.next(interpreter, location) {
        let key = try key(
          item, given(bound[1]), caseSensitive: bound[0]?.isTrue ?? false, interpreter, location)
        guard TemplateDictionary.canBeKey(key) else {
          throw TemplateError("a value of type \(key.typeName) cannot be told apart", at: location)
        }
        try interpreter.charge(comparing: key, key, at: location)
        if seen[key] != nil { continue }
        seen[key] = TemplateValue.none
        return item
      }
      return nil
    }
  }

  private static func extreme(
    _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ location: SourceLocation,
    isLess: (TemplateValue, TemplateValue) -> Bool?
  ) throws -> TemplateValue {
    let bound = try arguments.bound(to: "case_sensitive", "attribute", of: "min and max", at: location)
    let items = try interpreter.elements(of: value, at: location)
    let keys = try items.map {
      try key($0, given(bound[1]), caseSensitive: bound[0]?.isTrue ?? false, interpreter, location)
    }
    guard var best = keys.indices.first else { return .undefined("No aggregated item, sequence was empty.") }
    for index in keys.indices.dropFirst() {
      try interpreter.charge(comparing: keys[index].plain, keys[best].plain, at: location)
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
    let bound = try arguments.bound(
      to: "attribute", "default", "case_sensitive", of: "groupby", required: 1, at: location)
    let isSensitive = bound[2]?.isTrue ?? false
    let items = try interpreter.elements(of: value, at: location)
    let own = try items.map {
      try Filters.path(bound[0] ?? .none, of: $0, interpreter, location, default: given(bound[1]))
    }
    let folded = try own.map { try key($0, nil, caseSensitive: isSensitive, interpreter, location) }
    let order = try ordered(
      items.indices.map { .integer($0) }, by: folded, descending: false, interpreter, location
    ).compactMap(\.asInteger)
    var groups: [(key: TemplateValue, folded: TemplateValue, items: [TemplateValue])] = []
    for index in order {
      if let last = groups.last, try interpreter.isEqual(last.folded, folded[index], at: location) {
        groups[groups.count - 1].items.append(items[index])
      } else {
        groups.append((own[index], folded[index], [items[index]]))
      }
    }
    return .list(groups.map { .object(TemplateGroup($0.key, $0.items)) })
  }
}
