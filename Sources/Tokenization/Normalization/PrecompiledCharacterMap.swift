/// SentencePiece's rules of normalization: a double-array trie from byte sequences to what replaces them.
///
/// The trie is read as its file has it. An index beyond its end, which only a damaged file has, ends a search.
struct PrecompiledCharacterMap: Sendable {
  private let units: [UInt32]
  /// The replacements, each ended by a zero byte.
  private let replacements: [UInt8]

  /// Reads a map: the size of the trie in bytes (4 bytes), the trie, the replacements.
  init(_ bytes: [UInt8], at place: String) throws(TokenizationError) {
    guard bytes.count > 4 else { throw TokenizationError("\(place): the precompiled character map is too short") }
    let size = bytes[..<4].reversed().reduce(0) { $0 << 8 | Int($1) }
    guard size % 4 == 0, size > 0, size <= bytes.count - 4 else {
      throw TokenizationError(
        "\(place): the precompiled character map says that its trie has \(size) bytes; there are \(bytes.count - 4)")
    }
    units = (0..<size / 4).map { unit in
      (0..<4).reversed().reduce(0) { $0 << 8 | UInt32(bytes[4 + unit * 4 + $1]) }
    }
    replacements = Array(bytes[(4 + size)...])
  }

  /// A rule that applies at the start of some text.
  struct Match {
    /// How many bytes it replaces.
    var length: Int
    var replacement: ArraySlice<UInt8>
  }

  /// The longest start that a rule can have; a damaged trie that leads in circles is left there.
  private static let longestRule = 1024

  /// The rule for the longest, or the shortest, start of a text.
  func match(_ text: UnsafePointer<UInt8>, _ count: Int, longest: Bool) -> Match? {
    guard let root = units.first else { return nil }
    var position = Self.offset(root)
    var found: (length: Int, value: Int)?
    for index in 0..<min(count, Self.longestRule) {
      let byte = text[index]
      if byte == 0 { break }
      position ^= Int(byte)
      guard position < units.count, units[position] & 0x8000_00FF == UInt32(byte) else { break }
      let unit = units[position]
      position ^= Self.offset(unit)
      guard unit >> 8 & 1 == 1 else { continue }
      guard position < units.count else { break }
      found = (index + 1, Int(units[position] & 0x7FFF_FFFF))
      if !longest { break }
    }
    guard let found, found.value <= replacements.count else { return nil }
    let rest = replacements[found.value...]
    return Match(length: found.length, replacement: rest[..<(rest.firstIndex(of: 0) ?? rest.endIndex)])
  }

  /// How far a node's children lie from it.
  private static func offset(_ unit: UInt32) -> Int { Int((unit >> 10) << ((unit & 0x200) >> 6)) }
}
