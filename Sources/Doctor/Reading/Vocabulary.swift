import Tokenization

/// The tokens that a model's files know, however many of the files are there.
struct Vocabulary: Sendable {
  /// Tokens that stand in texts as they are (added, special, control).
  private(set) var added: [AddedToken] = []
  /// Whether every token is known; else only those that the configuration names.
  var isComplete = false
  /// The highest id known.
  private(set) var highestID = -1
  private var ids: [[UInt8]: Int] = [:]
  private var contents: [Int: String] = [:]
  private var addedKeys: Set<[UInt8]> = []
  private var tokenizer: Tokenizer?

  init() {}

  /// What a tokenizer knows.
  init(_ tokenizer: Tokenizer) {
    self.tokenizer = tokenizer
    isComplete = true
    highestID = tokenizer.vocabularySize - 1
    added = tokenizer.addedTokens
  }

  /// Adds a token that is not known yet.
  mutating func add(_ content: String, id: Int, special: Bool? = nil) {
    // An id that no vocabulary reaches is a mistake of the file's.
    guard (0..<1 << 31).contains(id) else { return }
    let key = Array(content.utf8)
    if ids[key] == nil { ids[key] = id }
    if contents[id] == nil { contents[id] = content }
    highestID = max(highestID, id)
    guard let special, let id = Int32(exactly: id), !content.isEmpty, addedKeys.insert(key).inserted else { return }
    added.append(AddedToken(id: id, content: content, isSpecial: special))
  }

  /// The id of a token by its text.
  func id(of content: String) -> Int? {
    if let tokenizer { return tokenizer.tokenID(content).map(Int.init) }
    return ids[Array(content.utf8)]
  }

  /// The text of a token.
  func content(of id: Int) -> String? {
    if let tokenizer { return Int32(exactly: id).flatMap(tokenizer.token) }
    return contents[id]
  }

  /// The added token that stands first in some bytes, the longest of those at one place, and where.
  func firstAdded(in bytes: [UInt8], also others: [SpecialToken] = []) -> (token: SpecialToken, range: Range<Int>)? {
    var best: (token: SpecialToken, range: Range<Int>)?
    let candidates = added.map { SpecialToken(content: $0.content, id: Int($0.id)) } + others
    for token in candidates where !token.content.isEmpty {
      guard let place = find(token.content.utf8, in: bytes) else { continue }
      let range = place..<place + token.content.utf8.count
      if let best,
        (best.range.lowerBound, -best.range.count) <= (range.lowerBound, -range.count)
      {
        continue
      }
      best = (token, range)
    }
    return best
  }
}
