import JSONValues

/// The keys of a `config.json`, read with a clear line for each that is wrong.
struct ConfigurationFields {
  let json: JSONValue
  let path: String

  /// Sizes beyond 31 bits are nonsense, and below them no product of two overflows.
  static let largestSize = Int(Int32.max)

  /// The value of a key; `null` counts as missing.
  subscript(key: String) -> JSONValue? { json[key].flatMap { $0.isNull ? nil : $0 } }

  func has(_ key: String) throws(ModelFileError) -> Bool { self[key] != nil }

  func size(_ key: String, default fallback: Int? = nil) throws(ModelFileError) -> Int {
    guard let value = self[key] else {
      if let fallback { return fallback }
      throw ModelFileError(path, "the key '\(key)' is missing")
    }
    guard let size = value.integer, size > 0, size <= Self.largestSize else {
      throw wrong(key, value, "a positive integer")
    }
    return size
  }

  func integer(_ key: String) throws(ModelFileError) -> Int? {
    guard let value = self[key] else { return nil }
    guard let integer = value.integer else { throw wrong(key, value, "an integer") }
    return integer
  }

  func number(_ key: String) throws(ModelFileError) -> Double? {
    guard let value = self[key] else { return nil }
    guard let number = value.double else { throw wrong(key, value, "a number") }
    return number
  }

  func numbers(_ key: String) throws(ModelFileError) -> [Double]? {
    guard let value = self[key] else { return nil }
    guard let array = value.array else { throw wrong(key, value, "a list of numbers") }
    let numbers = array.compactMap(\.double)
    if numbers.count != array.count { throw wrong(key, value, "a list of numbers") }
    return numbers
  }

  func flag(_ key: String) throws(ModelFileError) -> Bool? {
    guard let value = self[key] else { return nil }
    guard let flag = value.bool else { throw wrong(key, value, "true or false") }
    return flag
  }

  /// A token id or a list of them; negative ones mean "none".
  func tokenIDs(_ key: String) throws(ModelFileError) -> [Int] {
    guard let value = self[key] else { return [] }
    let ids = (value.array ?? [value]).map(\.integer)
    var found: [Int] = []
    for id in ids {
      guard let id, id <= Self.largestSize else { throw wrong(key, value, "a token id or a list of them") }
      if id >= 0, !found.contains(id) { found.append(id) }
    }
    return found
  }

  func wrong(_ key: String, _ value: JSONValue, _ expected: String) -> ModelFileError {
    let text = value.serialized()
    return ModelFileError(
      path, "the key '\(key)' is \(text.utf8.count > 60 ? value.kind : text), \(expected) was expected")
  }
}
