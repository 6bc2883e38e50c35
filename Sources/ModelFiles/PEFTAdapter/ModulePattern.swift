import JSONValues

/// Values for some modules, found by the ends of their paths: PEFT's `rank_pattern` and `alpha_pattern`.
public struct ModulePattern<Value: Sendable & Equatable>: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  /// Names, whole or the end of a path from a dot on, with their values; the first that fits counts.
  public var entries: [(name: String, value: Value)]

  /// Names and their values.
  public init(_ entries: [(name: String, value: Value)]) { self.entries = entries }
  /// Names and their values.
  public init(dictionaryLiteral elements: (String, Value)...) { entries = elements.map { (name: $0, value: $1) } }

  /// Whether there are none.
  public var isEmpty: Bool { entries.isEmpty }

  /// The value for the module of a path.
  public subscript(_ path: String) -> Value? {
    entries.first { name, _ in
      name.hasPrefix("^") ? path == name.dropFirst() : path == name || path.hasSuffix("." + name)
    }?.value
  }

  /// Whether names and values are the same, in the same order.
  public static func == (left: Self, right: Self) -> Bool {
    left.entries.elementsEqual(right.entries) { $0.name == $1.name && $0.value == $1.value }
  }

  /// Reads the object of a field; names that only a regular expression could fit are refused.
  init(
    _ field: String, _ json: JSONValue?, _ path: String, value: (JSONValue) -> Value?
  ) throws(ModelFileError) {
    entries = []
    guard let json, !json.isNull else { return }
    guard let object = json.object else {
      throw ModelFileError(path, "`\(field)` is \(json.kind), an object of modules' names was expected")
    }
    for (key, element) in object {
      let name = key.replacing("\\.", with: ".")
      let plain = name.drop { $0 == "^" }.utf8
      guard !plain.isEmpty, name.utf8.count - plain.count <= 1, plain.allSatisfy(Self.isOfAName) else {
        throw ModelFileError(
          path, "`\(field)` has the regular expression \(quoted(key)), which cannot be read; write the modules' names")
      }
      guard let value = value(element) else {
        throw ModelFileError(path, "`\(field)` has \(element.serialized()) for \(quoted(key))")
      }
      entries.append((name, value))
    }
  }

  private static func isOfAName(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."):
      true
    default: false
    }
  }
}
