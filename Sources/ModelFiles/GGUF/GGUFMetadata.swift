/// The metadata of a GGUF: keys and values in the order of the file.
///
/// The reading functions give `nil` where a key is missing and throw where its value has the wrong type.
public struct GGUFMetadata: Sendable {
  /// The file, for messages.
  let path: String
  /// Keys and values in the order of the file.
  public private(set) var entries: [(key: String, value: GGUFValue)] = []
  private var indices: [String: Int] = [:]

  init(path: String) { self.path = path }

  /// Metadata of a file at `path`, which messages name; of two entries with one key the first counts.
  package init(_ entries: [(key: String, value: GGUFValue)], path: String) {
    self.path = path
    for (key, value) in entries where !contains(key) { _ = append(key, value) }
  }

  /// Appends an entry; false when the key is already there.
  mutating func append(_ key: String, _ value: GGUFValue) -> Bool {
    if indices.updateValue(entries.count, forKey: key) != nil { return false }
    entries.append((key, value))
    return true
  }

  func contains(_ key: String) -> Bool { indices[key] != nil }

  /// The value of a key.
  public subscript(_ key: String) -> GGUFValue? { indices[key].map { entries[$0].value } }

  /// Reads a text.
  public func string(_ key: String) throws(ModelFileError) -> String? { try read(key, "a string", \.string) }

  /// Reads an integer of any width.
  public func integer(_ key: String) throws(ModelFileError) -> Int? { try read(key, "an integer", \.integer) }

  /// Reads a number.
  public func double(_ key: String) throws(ModelFileError) -> Double? { try read(key, "a number", \.double) }

  /// Reads a truth value.
  public func bool(_ key: String) throws(ModelFileError) -> Bool? { try read(key, "a bool", \.bool) }

  /// Reads a list of texts.
  public func strings(_ key: String) throws(ModelFileError) -> [String]? {
    try read(key, "an array of strings", \.array?.strings)
  }

  /// Reads a list of integers of any width.
  public func integers(_ key: String) throws(ModelFileError) -> [Int]? {
    try read(key, "an array of integers", \.array?.integers)
  }

  /// Reads a list of floating-point numbers.
  public func floats(_ key: String) throws(ModelFileError) -> [Float]? {
    try read(key, "an array of floats", \.array?.floats)
  }

  private func read<T>(
    _ key: String, _ expected: String, _ view: (GGUFValue) -> T?
  ) throws(ModelFileError) -> T? {
    guard let value = self[key] else { return nil }
    guard let result = view(value) else {
      let integer = if case .uint64 = value { "a too large uint64" } else { value.typeName }
      throw ModelFileError(path, "the metadata key \(quoted(key)) is of type \(integer), \(expected) was expected")
    }
    return result
  }
}
