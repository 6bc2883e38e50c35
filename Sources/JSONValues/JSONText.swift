/// A JSON text that is changed in place: what is not changed stays byte for byte.
///
/// Layout, the order of keys and the spelling of every other value are kept. Of a key that appears twice in one object
/// the last counts, as it does in parsing.
public struct JSONText: Sendable {
  /// One step on the way to a value.
  public enum Step: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    /// Into an object.
    case key(String)
    /// Into an array.
    case index(Int)

    /// A key.
    public init(stringLiteral value: String) { self = .key(value) }
    /// An index.
    public init(integerLiteral value: Int) { self = .index(value) }
  }

  /// The text in UTF-8.
  public private(set) var bytes: [UInt8]
  /// Whether everything beyond ASCII is escaped, as in what Python's `json.dump` writes by default.
  private let escapesNonASCII: Bool

  /// Takes a text, which must be JSON.
  public init(_ bytes: [UInt8]) throws(JSONError) {
    _ = try JSONValue.parse(bytes)
    self.bytes = bytes
    escapesNonASCII = bytes.allSatisfy { $0 < 0x80 } && Self.hasUnicodeEscape(bytes)
  }

  private static func hasUnicodeEscape(_ bytes: [UInt8]) -> Bool {
    zip(bytes, bytes.dropFirst()).contains { $0 == UInt8(ascii: "\\") && $1 == UInt8(ascii: "u") }
  }

  private func text(of value: JSONValue) -> [UInt8] {
    value.serializedBytes(JSONStyle(escapesNonASCII: escapesNonASCII))
  }

  // MARK: Changes

  /// Replaces the value at a path, or adds the path's last key to its object; false when there is no such place.
  ///
  /// A new key goes where the keys' order asks for it when they are sorted, else to the end.
  @discardableResult
  public mutating func set(_ path: [Step], to value: JSONValue) -> Bool {
    if let range = range(of: path) {
      bytes.replaceSubrange(range, with: text(of: value))
      return true
    }
    guard case .key(let key)? = path.last, let object = range(of: path.dropLast()), bytes[object.lowerBound] == .brace
    else { return false }
    insert(key, value, into: object)
    return true
  }

  /// Gives the key at the end of a path another name; false when there is no such key.
  @discardableResult
  public mutating func renameKey(at path: [Step], to name: String) -> Bool {
    guard case .key(let key)? = path.last, let object = range(of: path.dropLast()), bytes[object.lowerBound] == .brace,
      let member = members(of: object).last(where: { sameBytes($0.key, key) })
    else { return false }
    bytes.replaceSubrange(member.keyRange, with: text(of: .string(name)))
    return true
  }

  /// Takes elements out of the array at a path; false when there is no such array.
  @discardableResult
  public mutating func removeElements(_ indices: Set<Int>, from path: [Step]) -> Bool {
    guard let array = range(of: path), bytes[array.lowerBound] == .bracket else { return false }
    let elements = elements(of: array)
    guard let first = elements.first, let last = elements.last else { return true }
    guard let kept = elements.indices.first(where: { !indices.contains($0) }) else {
      bytes.removeSubrange(first.lowerBound..<last.upperBound)
      return true
    }
    // With the comma and the space before it; those before the first that stays go with the space after them.
    for index in indices.sorted(by: >) where index > kept && index < elements.count {
      bytes.removeSubrange(elements[index - 1].upperBound..<elements[index].upperBound)
    }
    if kept > 0 { bytes.removeSubrange(first.lowerBound..<elements[kept].lowerBound) }
    return true
  }

  /// Puts an element into the array at a path, before its first or after its last; false when there is no such array.
  @discardableResult
  public mutating func insertElement(_ value: JSONValue, atStart: Bool, of path: [Step]) -> Bool {
    guard let array = range(of: path), bytes[array.lowerBound] == .bracket else { return false }
    let elements = elements(of: array)
    guard let first = elements.first, let last = elements.last else {
      bytes.replaceSubrange(array, with: text(of: .array([value])))
      return true
    }
    let space = Array(bytes[array.lowerBound + 1..<first.lowerBound])
    // Laid out like its neighbours where each of their keys has a line of its own.
    var element = text(of: value)
    if value.object != nil, let member = members(of: first).first, !space.isEmpty {
      let inner = Array(bytes[first.lowerBound + 1..<member.keyRange.lowerBound])
      if inner.contains(0x0A), let object = value.object {
        element = [.brace]
        for (index, entry) in object.enumerated() {
          element += (index > 0 ? [.comma] : []) + inner + text(of: .string(entry.key))
          element += bytes[member.keyRange.upperBound..<member.valueRange.lowerBound] + text(of: entry.value)
        }
        element += space + [UInt8(ascii: "}")]
      }
    }
    if atStart {
      bytes.insert(contentsOf: element + [.comma] + space, at: first.lowerBound)
    } else {
      bytes.insert(contentsOf: [.comma] + space + element, at: last.upperBound)
    }
    return true
  }

  /// Replaces stretches of the string at a path; false when there is no string, or a stretch cuts a character.
  ///
  /// - Parameter edits: Stretches of the string's own UTF-8, in order and apart from each other, and what comes there.
  @discardableResult
  public mutating func splice(_ path: [Step], _ edits: [(range: Range<Int>, text: String)]) -> Bool {
    guard let range = range(of: path), bytes[range.lowerBound] == .quote else { return false }
    let places = stringPlaces(range)
    for edit in edits.reversed() {
      guard edit.range.upperBound < places.count, places[edit.range.lowerBound] >= 0,
        places[edit.range.upperBound] >= 0
      else { return false }
      let new = text(of: .string(edit.text)).dropFirst().dropLast()
      bytes.replaceSubrange(places[edit.range.lowerBound]..<places[edit.range.upperBound], with: new)
    }
    return true
  }

  // MARK: Places

  /// Where the value at a path lies in the bytes.
  public func range(of path: some Collection<Step>) -> Range<Int>? {
    var position = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    skipSpace(&position)
    guard position < bytes.count else { return nil }
    var range = position..<end(ofValueAt: position)
    for step in path {
      switch step {
      case .key(let key):
        guard bytes[range.lowerBound] == .brace,
          let member = members(of: range).last(where: { sameBytes($0.key, key) })
        else { return nil }
        range = member.valueRange
      case .index(let index):
        guard bytes[range.lowerBound] == .bracket else { return nil }
        let elements = elements(of: range)
        guard elements.indices.contains(index) else { return nil }
        range = elements[index]
      }
    }
    return range
  }

  private struct Member {
    var key: String
    /// With its quotes.
    var keyRange: Range<Int>
    var valueRange: Range<Int>
  }

  private func members(of object: Range<Int>) -> [Member] {
    var members: [Member] = []
    var position = object.lowerBound + 1
    while true {
      skipSpace(&position)
      guard position < object.upperBound, bytes[position] == .quote else { return members }
      let keyRange = position..<end(ofValueAt: position)
      position = keyRange.upperBound
      skipSpace(&position)
      position += 1
      skipSpace(&position)
      guard position < object.upperBound else { return members }
      let valueRange = position..<end(ofValueAt: position)
      let key = (try? JSONValue.parse(Array(bytes[keyRange])))?.string ?? ""
      members.append(Member(key: key, keyRange: keyRange, valueRange: valueRange))
      position = valueRange.upperBound
      skipSpace(&position)
      guard position < object.upperBound, bytes[position] == .comma else { return members }
      position += 1
    }
  }

  private func elements(of array: Range<Int>) -> [Range<Int>] {
    var elements: [Range<Int>] = []
    var position = array.lowerBound + 1
    while true {
      skipSpace(&position)
      guard position < array.upperBound - 1 else { return elements }
      let element = position..<end(ofValueAt: position)
      elements.append(element)
      position = element.upperBound
      skipSpace(&position)
      guard position < array.upperBound, bytes[position] == .comma else { return elements }
      position += 1
    }
  }

  /// Where the value that starts at a place ends; the text is known to be JSON.
  private func end(ofValueAt start: Int) -> Int {
    var position = start
    var depth = 0
    while position < bytes.count {
      switch bytes[position] {
      case .quote:
        position += 1
        while position < bytes.count, bytes[position] != .quote { position += bytes[position] == .backslash ? 2 : 1 }
        position += 1
      case .brace, .bracket:
        depth += 1
        position += 1
        continue
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        if depth == 0 { return position }
        depth -= 1
        position += 1
      case .comma, 0x20, 0x0A, 0x0D, 0x09, UInt8(ascii: ":"):
        if depth == 0 { return position }
        position += 1
        continue
      default:
        position += 1
        // A number or a word goes on to the next delimiter.
        continue
      }
      if depth == 0 { return min(position, bytes.count) }
    }
    return bytes.count
  }

  private func skipSpace(_ position: inout Int) {
    while position < bytes.count, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[position]) { position += 1 }
  }

  /// For each byte of a string's value, and for its end, where it lies in the text; -1 within a character that is escaped.
  private func stringPlaces(_ range: Range<Int>) -> [Int] {
    var places: [Int] = []
    var position = range.lowerBound + 1
    while position < range.upperBound - 1 {
      guard bytes[position] == .backslash else {
        places.append(position)
        position += 1
        continue
      }
      var length = bytes[position + 1] == UInt8(ascii: "u") ? 6 : 2
      // The two halves of a surrogate pair are one character.
      if length == 6, let unit = UInt32(String(decoding: bytes[position + 2..<position + 6], as: UTF8.self), radix: 16),
        (0xD800..<0xDC00).contains(unit)
      {
        length = 12
      }
      let escape = [.quote] + bytes[position..<min(position + length, range.upperBound - 1)] + [.quote]
      let count = (try? JSONValue.parse(Array(escape)))?.string?.utf8.count ?? 1
      places.append(position)
      places += Array(repeating: -1, count: max(0, count - 1))
      position += length
    }
    places.append(range.upperBound - 1)
    return places
  }

  // MARK: New keys

  private mutating func insert(_ key: String, _ value: JSONValue, into object: Range<Int>) {
    let members = members(of: object)
    guard let first = members.first, let last = members.last else {
      bytes.replaceSubrange(object, with: text(of: .object([key: value])))
      return
    }
    let separator = Array(bytes[first.keyRange.upperBound..<first.valueRange.lowerBound])
    let entry = text(of: .string(key)) + separator + text(of: value)
    func precedes(_ left: String, _ right: String) -> Bool {
      left.unicodeScalars.lexicographicallyPrecedes(right.unicodeScalars)
    }
    let isSorted = zip(members, members.dropFirst()).allSatisfy { precedes($0.key, $1.key) }
    if isSorted, let next = members.first(where: { precedes(key, $0.key) }) {
      // The space before a key is that after the comma or brace before it.
      var start = next.keyRange.lowerBound
      while start > 0, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[start - 1]) { start -= 1 }
      let space = Array(bytes[start..<next.keyRange.lowerBound])
      bytes.insert(contentsOf: entry + [.comma] + space, at: next.keyRange.lowerBound)
    } else {
      var start = last.keyRange.lowerBound
      while start > 0, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[start - 1]) { start -= 1 }
      let space = Array(bytes[start..<last.keyRange.lowerBound])
      bytes.insert(contentsOf: [.comma] + space + entry, at: last.valueRange.upperBound)
    }
  }
}

extension UInt8 {
  fileprivate static var brace: UInt8 { UInt8(ascii: "{") }
  fileprivate static var bracket: UInt8 { UInt8(ascii: "[") }
  fileprivate static var quote: UInt8 { UInt8(ascii: "\"") }
  fileprivate static var backslash: UInt8 { UInt8(ascii: "\\") }
  fileprivate static var comma: UInt8 { UInt8(ascii: ",") }
}
