/// A token that is found in the text itself, before anything else is done to it.
public struct AddedToken: Sendable, Equatable {
  /// Its id.
  public let id: Int32
  /// Its text.
  public let content: String
  /// Whether it takes in the white space on its left.
  public var takesSpaceOnLeft = false
  /// Whether it takes in the white space on its right.
  public var takesSpaceOnRight = false
  /// Whether it must not touch a word's characters.
  public var isSingleWord = false
  /// Whether it is searched in the normalized text instead of the original.
  public var isNormalized = false
  /// Whether it controls the model rather than being text (decoding can leave it out).
  public var isSpecial = false

  /// Makes a token.
  public init(
    id: Int32, content: String, takesSpaceOnLeft: Bool = false, takesSpaceOnRight: Bool = false,
    isSingleWord: Bool = false, isNormalized: Bool = false, isSpecial: Bool = false
  ) {
    self.id = id
    self.content = content
    self.takesSpaceOnLeft = takesSpaceOnLeft
    self.takesSpaceOnRight = takesSpaceOnRight
    self.isSingleWord = isSingleWord
    self.isNormalized = isNormalized
    self.isSpecial = isSpecial
  }

  /// The same token with another id.
  func with(id: Int32) -> AddedToken {
    AddedToken(
      id: id, content: content, takesSpaceOnLeft: takesSpaceOnLeft, takesSpaceOnRight: takesSpaceOnRight,
      isSingleWord: isSingleWord, isNormalized: isNormalized, isSpecial: isSpecial)
  }
}

/// Finds added tokens in a text: the leftmost, and of those at one place the longest.
final class AddedTokenFinder: Sendable {
  /// A stretch of the text: an added token, or what lies between two.
  struct Split {
    /// The token, if it is one.
    var token: Int32?
    /// The stretch with the white space that the token takes in.
    var range: Range<Int>
    /// The token's own text in it.
    var core: Range<Int>
  }

  private let tokens: [AddedToken]
  /// Per token, whether it is found only where control tokens are asked for.
  private let isControl: [Bool]
  /// The trie's edges: (node, byte) to (next node, unused).
  private let edges: PairTable
  /// Per node, the token that ends there, or -1.
  private let ends: [Int32]
  /// Per byte, whether a token starts with it.
  private let starts: [Bool]

  /// Makes a finder of tokens and the texts to search for (their contents, perhaps normalized).
  ///
  /// Without `controls`, all of them are found always.
  init(_ tokens: [(token: AddedToken, text: [UInt8])], controls: ControlTokens? = nil) {
    self.tokens = tokens.map(\.token)
    isControl = tokens.map { controls?.contains($0.token.id) ?? false }
    edges = PairTable(capacity: tokens.reduce(16) { $0 + $1.text.count })
    var ends: [Int32] = [-1]
    var starts = [Bool](repeating: false, count: 256)
    for (index, (_, text)) in tokens.enumerated() {
      guard let first = text.first else { continue }
      starts[Int(first)] = true
      var node: Int32 = 0
      for byte in text {
        let edge = edges.lookup(node, Int32(byte))
        if edge.first != PairTable.none {
          node = edge.first
        } else {
          let next = Int32(truncatingIfNeeded: ends.count)
          edges.insert(node, Int32(byte), next, 0)
          ends.append(-1)
          node = next
        }
      }
      ends[Int(node)] = Int32(truncatingIfNeeded: index)
    }
    self.ends = ends
    self.starts = starts
  }

  /// Whether there is nothing to find.
  var isEmpty: Bool { tokens.isEmpty }

  /// Cuts a text at the added tokens.
  ///
  /// Control tokens are left out where `findsControls` says so, and where `isContent` says that a stretch of the text is
  /// not the template's.
  func split(
    _ text: UnsafePointer<UInt8>, _ count: Int, findsControls: Bool = true, singleWordsAnywhere: Bool = false,
    isContent: ((Range<Int>) -> Bool)? = nil
  ) -> [Split] {
    guard count > 0 else { return [] }
    var result: [Split] = []
    var done = 0
    var index = 0
    while index < count {
      guard starts[Int(text[index])], let match = longest(text, count, at: index) else {
        index += 1
        continue
      }
      let token = tokens[match.token]
      let core = index..<match.end
      if isControl[match.token], let isContent, isContent(core) {
        index += 1
        continue
      }
      index = match.end
      if isControl[match.token] && !findsControls { continue }
      var (start, end) = (core.lowerBound, core.upperBound)
      if token.isSingleWord, !singleWordsAnywhere, touchesWord(text, count, core) { continue }
      if token.takesSpaceOnLeft {
        while start > done {
          let previous = UTF8Bytes.before(text, start)
          guard UTF8Bytes.scalar(text, previous, count).scalar.isWhiteSpace else { break }
          start = previous
        }
        start = max(start, done)
      }
      if token.takesSpaceOnRight {
        while end < count {
          let next = UTF8Bytes.scalar(text, end, count)
          guard next.scalar.isWhiteSpace else { break }
          end += next.length
        }
      }
      if done < start { result.append(Split(token: nil, range: done..<start, core: done..<start)) }
      result.append(Split(token: token.id, range: start..<end, core: core))
      done = end
    }
    if done < count { result.append(Split(token: nil, range: done..<count, core: done..<count)) }
    return result
  }

  /// Where the longest token at a place ends, and whether the text ends within one.
  func match(_ text: UnsafePointer<UInt8>, _ count: Int, at start: Int) -> (end: Int?, isCutOff: Bool) {
    var isCutOff = false
    let found = longest(text, count, at: start, isCutOff: &isCutOff)
    return (found?.end, isCutOff)
  }

  private func longest(_ text: UnsafePointer<UInt8>, _ count: Int, at start: Int) -> (token: Int, end: Int)? {
    var isCutOff = false
    return longest(text, count, at: start, isCutOff: &isCutOff)
  }

  private func longest(
    _ text: UnsafePointer<UInt8>, _ count: Int, at start: Int, isCutOff: inout Bool
  ) -> (token: Int, end: Int)? {
    var node: Int32 = 0
    var found: (token: Int, end: Int)?
    var index = start
    while index < count {
      let edge = edges.lookup(node, Int32(text[index]))
      if edge.first == PairTable.none { return found }
      node = edge.first
      index += 1
      if ends[Int(node)] >= 0 { found = (Int(ends[Int(node)]), index) }
    }
    isCutOff = true
    return found
  }

  private func touchesWord(_ text: UnsafePointer<UInt8>, _ count: Int, _ range: Range<Int>) -> Bool {
    if range.lowerBound > 0,
      UTF8Bytes.scalar(text, UTF8Bytes.before(text, range.lowerBound), count).scalar.isWord
    {
      return true
    }
    return range.upperBound < count && UTF8Bytes.scalar(text, range.upperBound, count).scalar.isWord
  }
}
