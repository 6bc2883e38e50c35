/// Where the tensors of a file that is being written lie, and how far each has come.
struct TensorPlaces {
  private let path: String
  private var places: [String: Range<Int>] = [:]

  /// No places yet, in the file that errors name.
  init(path: String) { self.path = path }

  /// Adds a tensor.
  mutating func add(_ name: String, _ range: Range<Int>) throws(ModelFileError) {
    if places.updateValue(range, forKey: name) != nil {
      throw ModelFileError(path, "tensor \(quoted(name)) cannot be written twice")
    }
  }

  /// Moves all places.
  mutating func shift(by count: Int) {
    places = places.mapValues { $0.lowerBound + count..<$0.upperBound + count }
  }

  /// Where the next bytes of a tensor belong.
  mutating func take(_ count: Int, of name: String) throws(ModelFileError) -> Int {
    guard let left = places[name] else { throw ModelFileError(path, "there is no tensor \(quoted(name))") }
    guard count <= left.count else {
      throw ModelFileError(path, "tensor \(quoted(name)) got more bytes than its shape has")
    }
    places[name] = left.lowerBound + count..<left.upperBound
    return left.lowerBound
  }

  /// Throws when a tensor lacks bytes.
  func requireFull() throws(ModelFileError) {
    for (name, left) in places where !left.isEmpty {
      throw ModelFileError(path, "tensor \(quoted(name)) lacks \(left.count) bytes")
    }
  }
}
