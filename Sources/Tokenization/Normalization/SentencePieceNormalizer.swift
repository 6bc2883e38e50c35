/// What the SentencePiece library does to a text before it cuts it.
struct SentencePieceNormalizer: Sendable {
  var characterMap: PrecompiledCharacterMap?
  /// Finds the pieces that are left as they are.
  var userDefined: TokenTrie?
  var addsDummyPrefix: Bool
  /// Whether only the start of the whole text gets the dummy prefix, not each stretch between special tokens.
  var prefixesOnlyFirst = false
  var removesExtraSpaces: Bool
  var escapesSpaces: Bool
  var spaceIsSuffix: Bool

  private static let spaceSign: [UInt8] = [0xE2, 0x96, 0x81]

  func apply(to segment: Segment) {
    let space = escapesSpaces ? Self.spaceSign : [0x20]
    segment.rewrite { piece, rewriter in
      let addsPrefix =
        addsDummyPrefix
        && !(prefixesOnlyFirst && segment.origin(of: piece.lowerBound..<piece.lowerBound).lowerBound > 0)
      var index = piece.lowerBound
      if removesExtraSpaces {
        while index < piece.upperBound {
          let (range, replacement) = step(segment, index, piece.upperBound)
          let isSpace = replacement?.elementsEqual([0x20]) ?? (segment.base[index] == 0x20 && range.count == 1)
          guard isSpace else { break }
          index = range.upperBound
        }
      }
      guard index < piece.upperBound else { return }
      var output = Output(space: space)
      if addsPrefix, !spaceIsSuffix { output.append(0x20, index..<index) }
      var isAfterSpace = removesExtraSpaces
      while index < piece.upperBound {
        let (range, replacement) = step(segment, index, piece.upperBound)
        index = range.upperBound
        if let replacement {
          let kept = isAfterSpace ? replacement.drop { $0 == 0x20 } : replacement
          for byte in kept { output.append(byte, range) }
          if let last = kept.last { isAfterSpace = last == 0x20 }
        } else {
          var start = range.lowerBound
          while isAfterSpace, start < range.upperBound, segment.base[start] == 0x20 { start += 1 }
          for place in start..<range.upperBound { output.append(segment.base[place], place..<place + 1) }
          if start < range.upperBound { isAfterSpace = segment.base[range.upperBound - 1] == 0x20 }
        }
        if !removesExtraSpaces { isAfterSpace = false }
      }
      if removesExtraSpaces { output.removeTrailingSpaces() }
      if addsPrefix, spaceIsSuffix { output.append(0x20, index..<index) }
      for (byte, range) in zip(output.bytes, output.ranges) { rewriter.replace(range, with: CollectionOfOne(byte)) }
    }
  }

  /// What a text becomes, with the stretch of the text that each byte stands for.
  private struct Output {
    let space: [UInt8]
    var bytes: [UInt8] = []
    var ranges: [Range<Int>] = []

    @inline(__always)
    mutating func append(_ byte: UInt8, _ range: Range<Int>) {
      guard byte == 0x20 else {
        bytes.append(byte)
        ranges.append(range)
        return
      }
      bytes.append(contentsOf: space)
      for _ in space { ranges.append(range) }
    }

    /// Takes off spaces, and signs for spaces that the text itself had.
    mutating func removeTrailingSpaces() {
      while bytes.count >= space.count, bytes.suffix(space.count).elementsEqual(space) {
        bytes.removeLast(space.count)
        ranges.removeLast(space.count)
      }
    }
  }

  /// The next stretch that is normalized as one, and what replaces it; `nil` leaves it as it is.
  private func step(
    _ segment: Segment, _ index: Int, _ end: Int
  ) -> (range: Range<Int>, replacement: ArraySlice<UInt8>?) {
    if let userDefined {
      var node = TokenTrie.root
      var place = index
      var found: Int?
      while place < end {
        node = userDefined.child(of: node, segment.base[place])
        guard node != TokenTrie.none else { break }
        place += 1
        if userDefined.token(at: node) >= 0 { found = place }
      }
      if let found { return (index..<found, nil) }
    }
    if let match = characterMap?.match(segment.base + index, end - index, longest: true) {
      return (index..<index + match.length, match.replacement)
    }
    return (index..<min(end, index + UTF8Bytes.length(segment.base[index])), nil)
  }
}
