/// Unicode's rules for composing and decomposing characters, laid out for looking up.
///
/// They are unpacked when a normalizer first needs them, in a few milliseconds.
final class NormalizationTables: Sendable {
  /// The tables, unpacked on first use.
  static let shared = NormalizationTables()

  /// Where a character's parts lie in `parts`, and whether all its rules are canonical.
  private struct Decomposition {
    var start: UInt32
    var count: UInt8
    var isCanonical: Bool
  }

  /// Canonical combining class and kinds of a character, by pages of 256.
  private let pages: [UInt16]
  private let properties: [UInt16]
  private let decompositions: [UInt32: Decomposition]
  private let parts: [Unicode.Scalar]
  /// What two characters compose to.
  private let compositions: [UInt64: Unicode.Scalar]

  private enum Property {
    static let combiningClass: UInt16 = 0x00FF
    static let hasCanonical: UInt16 = 0x0100
    /// Set where the compatible decomposition differs from the canonical one.
    static let hasCompatible: UInt16 = 0x0200
    static let isNeverComposed: UInt16 = 0x0400
    static let joinsPrevious: UInt16 = 0x0800
    static let isMark: UInt16 = 0x1000
  }

  private init() {
    var flat = [UInt16](repeating: 0, count: 0x11_0000)
    var decompositions: [UInt32: Decomposition] = [:]
    decompositions.reserveCapacity(6000)
    var parts: [Unicode.Scalar] = []
    var compositions: [UInt64: Unicode.Scalar] = [:]
    var character: UInt32 = 0
    for word in Self.words(NormalizationData.decompositions) {
      let isSign = { (byte: UInt8) in [UInt8(ascii: "="), UInt8(ascii: ":"), UInt8(ascii: "~")].contains(byte) }
      guard let sign = word.firstIndex(where: isSign) else { continue }
      character += Self.number(word[..<sign])
      let scalars = word[(sign + 1)...].split(separator: UInt8(ascii: ".")).compactMap {
        Unicode.Scalar(Self.number($0))
      }
      guard character < 0x11_0000, let scalar = Unicode.Scalar(character) else { continue }
      let isCanonical = word[sign] != UInt8(ascii: "~")
      decompositions[character] = Decomposition(
        start: UInt32(truncatingIfNeeded: parts.count), count: UInt8(truncatingIfNeeded: scalars.count),
        isCanonical: isCanonical)
      parts.append(contentsOf: scalars)
      flat[Int(character)] |= isCanonical ? Property.hasCanonical : Property.hasCompatible
      if word[sign] == UInt8(ascii: ":") { flat[Int(character)] |= Property.isNeverComposed }
      if word[sign] == UInt8(ascii: "="), scalars.count == 2 {
        compositions[Self.pair(scalars[0], scalars[1])] = scalar
        flat[Int(scalars[1].value)] |= Property.joinsPrevious
      }
    }
    func isCompatible(_ character: UInt32) -> Bool {
      guard let rule = decompositions[character] else { return false }
      return !rule.isCanonical
        || parts[Int(rule.start)..<Int(rule.start) + Int(rule.count)].contains { isCompatible($0.value) }
    }
    for character in decompositions.keys where isCompatible(character) {
      flat[Int(character)] |= Property.hasCompatible
    }
    for word in Self.words(NormalizationData.combiningClasses) {
      let numbers = word.split(separator: UInt8(ascii: ".")).map(Self.number)
      guard numbers.count == 3 else { continue }
      for value in numbers[0]..<numbers[0] + numbers[1] { flat[Int(value)] |= UInt16(numbers[2]) }
    }
    for word in Self.words(NormalizationData.marks) {
      let numbers = word.split(separator: UInt8(ascii: ".")).map(Self.number)
      guard numbers.count == 2 else { continue }
      for value in numbers[0]..<numbers[0] + numbers[1] { flat[Int(value)] |= Property.isMark }
    }
    // The later parts of Hangul syllables join what is before them.
    for value in Hangul.vowels { flat[Int(value)] |= Property.joinsPrevious }
    for value in Hangul.finals { flat[Int(value)] |= Property.joinsPrevious }
    for value in Hangul.syllables { flat[Int(value)] |= Property.hasCanonical }
    var pages: [UInt16] = []
    var properties: [UInt16] = []
    var known: [[UInt16]: UInt16] = [:]
    for page in 0..<0x1100 {
      let values = Array(flat[page * 256..<page * 256 + 256])
      if known[values] == nil {
        known[values] = UInt16(truncatingIfNeeded: properties.count / 256)
        properties.append(contentsOf: values)
      }
      pages.append(known[values] ?? 0)
    }
    self.pages = pages
    self.properties = properties
    self.decompositions = decompositions
    self.parts = parts
    self.compositions = compositions
  }

  private static func words(_ data: StaticString) -> [Slice<UnsafeBufferPointer<UInt8>>] {
    let bytes = UnsafeBufferPointer(start: data.utf8Start, count: data.utf8CodeUnitCount)
    return bytes.split { $0 == 0x20 || $0 == 0x0A }
  }

  private static func number(_ digits: some Sequence<UInt8>) -> UInt32 {
    digits.reduce(0) { $0 << 4 | UInt32($1 < 0x3A ? $1 - 0x30 : $1 - 0x37) }
  }

  private static func pair(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> UInt64 {
    UInt64(first.value) << 32 | UInt64(second.value)
  }

  @inline(__always)
  private func property(_ scalar: Unicode.Scalar) -> UInt16 {
    properties[Int(pages[Int(scalar.value >> 8)]) << 8 | Int(scalar.value & 0xFF)]
  }

  /// The canonical combining class; 0 for a starter.
  @inline(__always)
  func combiningClass(_ scalar: Unicode.Scalar) -> UInt8 {
    UInt8(truncatingIfNeeded: property(scalar) & Property.combiningClass)
  }

  /// Whether a character is a mark (Mn, Mc, Me).
  func isMark(_ scalar: Unicode.Scalar) -> Bool { property(scalar) & Property.isMark != 0 }

  /// Whether a character starts a stretch that can be brought into a form by itself, and is in that form alone.
  @inline(__always)
  func isBoundary(_ scalar: Unicode.Scalar, compatible: Bool, composed: Bool) -> Bool {
    var disturbing = Property.combiningClass | (compatible ? Property.hasCompatible : 0)
    disturbing |= composed ? Property.isNeverComposed | Property.joinsPrevious : Property.hasCanonical
    return property(scalar) & disturbing == 0
  }

  /// Calls `body` with the parts of a character, all the way down.
  func decompose(_ scalar: Unicode.Scalar, compatible: Bool, _ body: (Unicode.Scalar) -> Void) {
    guard property(scalar) & (Property.hasCanonical | (compatible ? Property.hasCompatible : 0)) != 0 else {
      return body(scalar)
    }
    if Hangul.syllables.contains(scalar.value) { return Hangul.decompose(scalar, body) }
    guard let rule = decompositions[scalar.value], compatible || rule.isCanonical else { return body(scalar) }
    for part in parts[Int(rule.start)..<Int(rule.start) + Int(rule.count)] {
      decompose(part, compatible: compatible, body)
    }
  }

  /// What two characters compose to, if anything.
  func compose(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Unicode.Scalar? {
    Hangul.compose(first, second) ?? compositions[Self.pair(first, second)]
  }
}

/// Hangul syllables, which are composed by arithmetic.
private enum Hangul {
  static let syllables: Range<UInt32> = 0xAC00..<0xAC00 + 11172
  static let initials: Range<UInt32> = 0x1100..<0x1100 + 19
  static let vowels: Range<UInt32> = 0x1161..<0x1161 + 21
  static let finals: Range<UInt32> = 0x11A8..<0x11A8 + 27

  static func decompose(_ syllable: Unicode.Scalar, _ body: (Unicode.Scalar) -> Void) {
    let index = syllable.value - syllables.lowerBound
    let parts = [
      initials.lowerBound + index / 588, vowels.lowerBound + index % 588 / 28, finals.lowerBound - 1 + index % 28,
    ]
    for part in index % 28 == 0 ? parts[..<2] : parts[...] { if let scalar = Unicode.Scalar(part) { body(scalar) } }
  }

  static func compose(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Unicode.Scalar? {
    let (left, right) = (first.value, second.value)
    if initials.contains(left), vowels.contains(right) {
      return Unicode.Scalar(
        syllables.lowerBound + ((left - initials.lowerBound) * 21 + right - vowels.lowerBound) * 28)
    }
    if syllables.contains(left), (left - syllables.lowerBound) % 28 == 0, finals.contains(right) {
      return Unicode.Scalar(left + right - finals.lowerBound + 1)
    }
    return nil
  }
}
