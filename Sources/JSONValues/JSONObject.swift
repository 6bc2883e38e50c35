/// The keys and values of a JSON object, in order.
///
/// Keys are told apart by their bytes. Small objects are searched from the start; larger ones carry a hash table.
public struct JSONObject: Sendable {
  /// A key with its value.
  public typealias Element = (key: String, value: JSONValue)

  private var entries: [Element] = []
  /// A hash table with open addressing.
  ///
  /// Each slot holds an index into `entries` or -1. Empty while the object is small. Its size is a power of two.
  private var slots: [Int32] = []

  private static let smallCount = 8

  /// Makes an empty object.
  public init() {}

  /// Makes an object of keys and values in their order; a later duplicate replaces the value of the earlier key.
  public init(_ elements: some Sequence<Element>) {
    for (key, value) in elements { self[key] = value }
  }

  /// The number of keys.
  public var count: Int { entries.count }

  /// Whether there are no keys.
  public var isEmpty: Bool { entries.isEmpty }

  /// The keys, in order.
  public var keys: [String] { entries.map(\.key) }

  /// The values, in the order of their keys.
  public var values: [JSONValue] { entries.map(\.value) }

  /// Reads, replaces in place, appends, or (with `nil`) removes a value.
  public subscript(_ key: String) -> JSONValue? {
    get { index(of: key).map { entries[$0].value } }
    set {
      guard let newValue else { return remove(key) }
      _ = set(key, to: newValue)
    }
  }

  /// Sets a value and says whether the key was new.
  @discardableResult
  mutating func set(_ key: String, to value: JSONValue) -> Bool {
    if slots.isEmpty {
      if let index = index(of: key) {
        entries[index].value = value
        return false
      }
      entries.append((key, value))
      if entries.count > Self.smallCount { rebuildSlots() }
      return true
    }
    var slot = Self.hash(key) & (slots.count - 1)
    while slots[slot] >= 0 {
      let index = Int(slots[slot])
      if sameBytes(entries[index].key, key) {
        entries[index].value = value
        return false
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    slots[slot] = Int32(truncatingIfNeeded: entries.count)
    entries.append((key, value))
    if entries.count * 2 > slots.count { rebuildSlots() }
    return true
  }

  private mutating func remove(_ key: String) {
    guard let index = index(of: key) else { return }
    entries.remove(at: index)
    slots = []
    if entries.count > Self.smallCount { rebuildSlots() }
  }

  private func index(of key: String) -> Int? {
    if slots.isEmpty { return entries.firstIndex { sameBytes($0.key, key) } }
    var slot = Self.hash(key) & (slots.count - 1)
    while slots[slot] >= 0 {
      let index = Int(slots[slot])
      if sameBytes(entries[index].key, key) { return index }
      slot = (slot + 1) & (slots.count - 1)
    }
    return nil
  }

  private mutating func rebuildSlots() {
    var size = 32
    while size < entries.count * 4 { size *= 2 }
    slots = [Int32](repeating: -1, count: size)
    for index in entries.indices {
      var slot = Self.hash(entries[index].key) & (size - 1)
      while slots[slot] >= 0 { slot = (slot + 1) & (size - 1) }
      slots[slot] = Int32(truncatingIfNeeded: index)
    }
  }

  /// Swift's keyed hash over the bytes, so that a file cannot be made whose keys all collide.
  private static func hash(_ key: String) -> Int {
    var hasher = Hasher()
    var key = key
    key.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    return hasher.finalize()
  }
}

extension JSONObject: Sequence {
  /// Goes over the keys and values in order.
  public func makeIterator() -> IndexingIterator<[Element]> { entries.makeIterator() }

  /// The number of keys.
  public var underestimatedCount: Int { entries.count }
}

extension JSONObject: Equatable {
  /// Compares keys and values in their order.
  public static func == (left: JSONObject, right: JSONObject) -> Bool {
    left.count == right.count
      && zip(left.entries, right.entries).allSatisfy { sameBytes($0.key, $1.key) && $0.value == $1.value }
  }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  /// Makes an object in the order of the literal.
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    for (key, value) in elements { self[key] = value }
  }
}
