/// A list of tokens by rank, as tiktoken writes it: one token a line, in base64, and its rank.
struct TokenRanks {
  /// The tokens' bytes and ranks, as the file has them.
  private(set) var tokens: [(bytes: [UInt8], rank: Int)] = []

  /// Whether a file could be such a list: a line of base64, a space, a number.
  static func isPlausible(_ start: [UInt8]) -> Bool {
    let line = start.prefix { $0 != 0x0A }.drop { $0 == 0x0D }
    let words = line.split(separator: 0x20)
    return words.count == 2 && Base64.decode(words[0]) != nil && number(words[1]) != nil
  }

  /// Reads the file's bytes; `path` is named in errors.
  init(_ bytes: [UInt8], path: String) throws(TokenizationError) {
    var known = Set<[UInt8]>()
    var ranks = Set<Int>()
    for (index, line) in bytes.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
      let line = line.last == 0x0D ? line.dropLast() : line
      if line.isEmpty { continue }
      let words = line.split(separator: 0x20)
      guard words.count == 2, let token = Base64.decode(words[0]), let rank = Self.number(words[1]) else {
        throw TokenizationError("\(path):\(index + 1): must be a token in base64, a space and its rank")
      }
      guard rank <= TokenizerParts.highestID else {
        throw TokenizationError(
          "\(path):\(index + 1): the rank is \(rank); ranks go from 0 to \(TokenizerParts.highestID)")
      }
      guard known.insert(token).inserted else {
        throw TokenizationError("\(path):\(index + 1): a token for the second time")
      }
      guard ranks.insert(rank).inserted else {
        throw TokenizationError("\(path):\(index + 1): the rank \(rank) for the second time")
      }
      tokens.append((token, rank))
    }
    guard !tokens.isEmpty else { throw TokenizationError("\(path): the file has no tokens") }
    for byte in UInt8.min...UInt8.max where !known.contains([byte]) {
      throw TokenizationError("\(path): no token stands for the byte \(byte); the list is cut short or damaged")
    }
  }

  /// Makes a list of tokens that were read elsewhere.
  init(_ tokens: [(bytes: [UInt8], rank: Int)]) { self.tokens = tokens }

  private static func number(_ digits: ArraySlice<UInt8>) -> Int? {
    guard !digits.isEmpty, digits.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x0D }) else { return nil }
    return Int(String(decoding: digits.filter { $0 != 0x0D }, as: UTF8.self))
  }

  /// Gives a tokenizer these tokens, each under its rank plus `offset`; pairs merge in the order of their ranks.
  func apply(to parts: inout TokenizerParts, offset: Int = 0) {
    var scores = [Float](repeating: -.infinity, count: (tokens.map(\.rank).max() ?? 0) + offset + 1)
    parts.vocabulary.reserveCapacity(tokens.count)
    for (bytes, rank) in tokens {
      parts.vocabulary.append((ByteAlphabet.encode(bytes), rank + offset))
      scores[rank + offset] = -Float(rank)
    }
    parts.merges = .scored(scores)
    parts.ignoresMerges = true
    parts.decoder = .byteLevel
  }
}

extension ByteAlphabet {
  /// The text that stands for some bytes.
  static func encode(_ bytes: some Sequence<UInt8>) -> String {
    var text = String.UnicodeScalarView()
    for byte in bytes { text.append(scalars[Int(byte)]) }
    return String(text)
  }
}
