/// What a tokenizer is made of, whichever kind of file it was read from.
struct TokenizerParts {
  /// How symbols are joined.
  enum Merges {
    /// Pairs in the order of their ranks.
    case ranked([(left: String, right: String)])
    /// SentencePiece's way: any two symbols whose text together is a token, the highest score first.
    case scored([Float])
    /// No merges: the tokens whose scores add up to the most.
    case unigram(Unigram)
  }

  /// What a unigram model has beside its vocabulary.
  struct Unigram {
    /// By id.
    var scores: [Double]
    /// The least and the greatest score that count for unknown characters and preferred tokens.
    var range: ClosedRange<Double>
    var options: UnigramEncoder.Options
  }

  /// The file and key that errors name.
  var place: String
  /// The model's own tokens.
  var vocabulary: [(text: String, id: Int)] = []
  var merges = Merges.ranked([])
  var ignoresMerges = false
  var usesByteFallback = false
  var fusesUnknown = false
  var unknownToken: String?
  var normalizer: Normalizer?
  var preTokenizer: PreTokenizer?
  var decoder: TokenDecoder.Step?
  var addedTokens: [AddedToken] = []
  /// The model's tokens that no text becomes (SentencePiece's control, unknown and byte pieces).
  var hiddenIDs: Set<Int> = []
  /// The model's tokens that no merge touches, wherever they stand (SentencePiece's user-defined pieces).
  var symbolIDs: Set<Int> = []
  /// The model's tokens that are only a step on the way to others (SentencePiece's unused pieces).
  var unusedIDs: Set<Int> = []
  /// Tokens whose text the decoder leaves as it is.
  var verbatimTokens: Set<Int32> = []
  /// Ids that are put before and after a text.
  var prefix: [Int32] = []
  var suffix: [Int32] = []
  /// Names and texts of special tokens, as templates see them.
  var specialTokens: [(name: String, content: String)] = []
  var specialTokenIDs: [String: Int32] = [:]
  var moreEndTokenIDs: [Int32] = []
  var chatTemplates = ChatTemplates()
  var remarks: [String] = []

  /// The highest id that a file may use: beyond it a wrong id would cost more memory than any vocabulary.
  static let highestID = 1 << 22

  init(place: String) { self.place = place }

  /// Whether words reach the model as raw bytes: the byte alphabet is the last step of cutting, and the only such step.
  var keepsBytes: Bool {
    if case .unigram = merges { return false }
    let steps = preTokenizer?.steps ?? []
    let places = steps.indices.filter { if case .byteLevel = steps[$0] { true } else { false } }
    return places == [steps.count - 1]
  }

  struct Vocabulary {
    var tokens: [String]
    var isPresent: [Bool]
    /// Every token by its text.
    var ids: TokenTable
    /// The model's own tokens by their text.
    var model: TokenTable
    /// Those of them that a text can become.
    var textual: TokenTable
  }

  /// Lays the tokens out by id.
  func makeVocabulary() throws(TokenizationError) -> Vocabulary {
    var highest = -1
    for (text, id) in vocabulary {
      guard (0...Self.highestID).contains(id) else {
        throw TokenizationError("\(place): the token \"\(text)\" has the id \(id); ids go from 0 to \(Self.highestID)")
      }
      highest = max(highest, id)
    }
    for token in addedTokens {
      guard (0...Self.highestID).contains(Int(token.id)) else {
        throw TokenizationError(
          "\(place): the added token \"\(token.content)\" has the id \(token.id); ids go from 0 to \(Self.highestID)")
      }
      highest = max(highest, Int(token.id))
    }
    guard highest >= 0 else { throw TokenizationError("\(place): the vocabulary is empty") }
    var tokens = [String](repeating: "", count: highest + 1)
    var isPresent = [Bool](repeating: false, count: highest + 1)
    let model = TokenTable(capacity: vocabulary.count)
    let ids = TokenTable(capacity: vocabulary.count + addedTokens.count)
    for (text, id) in vocabulary {
      tokens[id] = text
      isPresent[id] = true
      model.insert(text, id: Int32(id))
      ids.insert(text, id: Int32(id))
    }
    for token in addedTokens {
      tokens[Int(token.id)] = token.content
      isPresent[Int(token.id)] = true
      ids.insert(token.content, id: token.id)
    }
    var textual = model
    if !hiddenIDs.isEmpty {
      textual = TokenTable(capacity: vocabulary.count)
      for (text, id) in vocabulary where !hiddenIDs.contains(id) { textual.insert(text, id: Int32(id)) }
    }
    return Vocabulary(tokens: tokens, isPresent: isPresent, ids: ids, model: model, textual: textual)
  }

  /// Makes the model of the vocabulary and the merges or scores.
  func makeModel(_ vocabulary: Vocabulary) throws(TokenizationError) -> TokenModel {
    if case .unigram(let unigram) = merges { return TokenModel(.unigram(try makeUnigram(unigram, vocabulary))) }
    var model = TokenModel(.bytePairs(try makeBytePairs(vocabulary)))
    if !symbolIDs.isEmpty {
      let symbols = self.vocabulary.filter { symbolIDs.contains($0.id) }
      model.symbols = AddedTokenFinder(
        symbols.map { text, id in
          (AddedToken(id: Int32(truncatingIfNeeded: id), content: text), Array(text.utf8))
        })
    }
    model.expansions = expansions(vocabulary)
    return model
  }

  private func byteTokens(_ vocabulary: Vocabulary) -> [Int32] {
    (0...255).map { byte in
      vocabulary.model.lookup("<0x\(byte < 16 ? "0" : "")\(String(byte, radix: 16, uppercase: true))>")
    }
  }

  private func makeUnigram(
    _ unigram: Unigram, _ vocabulary: Vocabulary
  ) throws(TokenizationError) -> UnigramEncoder {
    let left = hiddenIDs.union(unusedIDs)
    // The time for a text grows with the longest token; no model has any near this length.
    if let (text, id) = self.vocabulary.first(where: { $0.text.utf8.count > Self.longestUnigram }) {
      throw TokenizationError(
        "\(place): token \(id) has \(text.utf8.count) bytes; a Unigram model's may have \(Self.longestUnigram)")
    }
    return UnigramEncoder(
      tokens: self.vocabulary.lazy.filter { !left.contains($0.id) && !$0.text.isEmpty }.map {
        (Array($0.text.utf8), Int32(truncatingIfNeeded: $0.id))
      }, table: vocabulary.textual, scores: unigram.scores, range: unigram.range, byteTokens: byteTokens(vocabulary),
      options: unigram.options)
  }

  private func makeBytePairs(_ vocabulary: Vocabulary) throws(TokenizationError) -> BytePairEncoder {
    let merges = try makeMerges(vocabulary)
    var options = BytePairEncoder.Options(
      alphabet: keepsBytes ? .bytes : .characters, ignoresMerges: ignoresMerges, usesByteFallback: usesByteFallback,
      fusesUnknown: fusesUnknown)
    if let unknownToken {
      let id = vocabulary.model.lookup(unknownToken)
      guard id >= 0 else {
        throw TokenizationError("\(place): the unknown token \"\(unknownToken)\" is not in the vocabulary")
      }
      options.unknown = id
    }
    guard keepsBytes else {
      options.splitsAtMarks = !ignoresMerges && vocabulary.textual.lookup("\u{2581}") >= 0 && !hasMarkInside
      let encoder = BytePairEncoder(
        table: vocabulary.textual, merges: merges, byteTokens: byteTokens(vocabulary), options: options)
      if !ignoresMerges {
        encoder.prepareWholeWords(
          count: vocabulary.tokens.count, self.vocabulary.lazy.map { (Int32($0.id), Array($0.text.utf8)) })
      }
      return encoder
    }
    let table = TokenTable(capacity: self.vocabulary.count)
    var words: [(id: Int32, bytes: [UInt8])] = []
    words.reserveCapacity(self.vocabulary.count)
    for (text, id) in self.vocabulary {
      guard let bytes = ByteAlphabet.decode(text), !bytes.isEmpty else { continue }
      bytes.withUnsafeBufferPointer { table.insert($0, id: Int32(id)) }
      words.append((Int32(id), bytes))
    }
    let byteTokens = ByteAlphabet.scalars.map { vocabulary.model.lookup(String($0)) }
    let encoder = BytePairEncoder(table: table, merges: merges, byteTokens: byteTokens, options: options)
    if !ignoresMerges { encoder.prepareWholeWords(count: vocabulary.tokens.count, words) }
    return encoder
  }

  /// Whether some token has U+2581 after another character.
  var hasMarkInside: Bool {
    vocabulary.contains { text, _ in
      var previous: Unicode.Scalar = "\u{2581}"
      return text.unicodeScalars.contains { scalar in
        defer { previous = scalar }
        return scalar == "\u{2581}" && previous != "\u{2581}"
      }
    }
  }

  private func makeMerges(_ vocabulary: Vocabulary) throws(TokenizationError) -> PairTable {
    switch merges {
    case .ranked(let merges):
      let table = PairTable(capacity: merges.count)
      var joined: [UInt8] = []
      for (rank, (left, right)) in merges.enumerated() {
        let (leftID, rightID) = (vocabulary.model.lookup(left), vocabulary.model.lookup(right))
        joined.removeAll(keepingCapacity: true)
        joined.append(contentsOf: left.utf8)
        joined.append(contentsOf: right.utf8)
        let result = joined.withUnsafeBufferPointer { joined in
          joined.baseAddress.map { vocabulary.model.lookup($0, joined.count) } ?? -1
        }
        guard leftID >= 0, rightID >= 0, result >= 0 else {
          let missing = leftID < 0 ? left : rightID < 0 ? right : left + right
          throw TokenizationError(
            "\(place): merge \(rank) (\"\(left)\" and \"\(right)\") needs the token \"\(missing)\", "
              + "which is not in the vocabulary")
        }
        table.insert(leftID, rightID, Int32(truncatingIfNeeded: rank), result)
      }
      return table
    case .scored(let scores): return makeMerges(vocabulary, scores: scores)
    case .unigram: return PairTable(capacity: 0)
    }
  }

  /// The longest token that a Unigram model may have, in bytes.
  private static let longestUnigram = 4096
  /// The longest token whose parts are looked for, in bytes; SentencePiece's are far shorter.
  private static let longestScored = 1024

  private func makeMerges(_ vocabulary: Vocabulary, scores: [Float]) -> PairTable {
    // Equal scores are one rank: the leftmost pair goes first.
    var ranks: [Float: Int32] = [:]
    for score in Set(scores.filter { !$0.isNaN }).sorted(by: >) {
      ranks[score] = Int32(truncatingIfNeeded: ranks.count)
    }
    let table = PairTable(capacity: self.vocabulary.count * 2)
    for (text, id) in self.vocabulary where id < scores.count && text.utf8.count <= Self.longestScored {
      guard let rank = ranks[scores[id]] else { continue }
      Array(text.utf8).withUnsafeBufferPointer { bytes in
        guard let base = bytes.baseAddress else { return }
        var split = UTF8Bytes.length(base[0])
        while split < bytes.count {
          let left = vocabulary.textual.lookup(base, split)
          let right = left < 0 ? -1 : vocabulary.textual.lookup(base + split, bytes.count - split)
          if left >= 0, right >= 0 { table.insert(left, right, rank, Int32(truncatingIfNeeded: id)) }
          split += UTF8Bytes.length(base[split])
        }
      }
    }
    return table
  }

  /// What unused tokens are made of: the two tokens of their last merge, and so on down to tokens in use.
  private func expansions(_ vocabulary: Vocabulary) -> [Int32: [(id: Int32, length: Int)]] {
    guard !unusedIDs.isEmpty, case .scored(let scores) = merges else { return [:] }
    var result: [Int32: [(id: Int32, length: Int)]] = [:]
    func parts(_ id: Int32, _ text: [UInt8], _ depth: Int) -> [(id: Int32, length: Int)] {
      if let known = result[id] { return known }
      guard unusedIDs.contains(Int(id)), depth < 64, let split = lastMerge(id, text, scores, vocabulary) else {
        return [(id, text.count)]
      }
      let (left, right) = (Array(text[..<split.place]), Array(text[split.place...]))
      let all = parts(split.left, left, depth + 1) + parts(split.right, right, depth + 1)
      result[id] = all
      return all
    }
    for (text, id) in self.vocabulary where unusedIDs.contains(id) && text.utf8.count <= Self.longestScored {
      _ = parts(Int32(truncatingIfNeeded: id), Array(text.utf8), 0)
    }
    return result
  }

  /// The two tokens that merging a token's text ends with.
  func lastMerge(
    _ id: Int32, _ text: [UInt8], _ scores: [Float], _ vocabulary: Vocabulary
  ) -> (left: Int32, right: Int32, place: Int)? {
    var ends: [Int] = []
    var place = 0
    while place < text.count {
      place = min(text.count, place + UTF8Bytes.length(text[place]))
      ends.append(place)
    }
    func lookup(_ range: Range<Int>) -> Int32 {
      text.withUnsafeBufferPointer { text in
        text.baseAddress.map { vocabulary.textual.lookup($0 + range.lowerBound, range.count) } ?? -1
      }
    }
    while ends.count > 2 {
      var best: (index: Int, score: Float)?
      for index in 0..<ends.count - 1 {
        let start = index == 0 ? 0 : ends[index - 1]
        let merged = lookup(start..<ends[index + 1])
        guard merged >= 0, Int(merged) < scores.count, merged != id else { continue }
        if let best, best.score >= scores[Int(merged)] { continue }
        best = (index, scores[Int(merged)])
      }
      guard let best else { return nil }
      ends.remove(at: best.index)
    }
    guard ends.count == 2 else { return nil }
    let (left, right) = (lookup(0..<ends[0]), lookup(ends[0]..<ends[1]))
    return left >= 0 && right >= 0 ? (left, right, ends[0]) : nil
  }
}
