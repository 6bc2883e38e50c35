/// What a tokenizer is made of, whichever kind of file it was read from.
struct TokenizerParts {
  /// How symbols are joined.
  enum Merges {
    /// Pairs in the order of their ranks.
    case ranked([(left: String, right: String)])
    /// SentencePiece's way: any two symbols whose text together is a token, the highest score first.
    case scored([Float])
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
  /// Tokens whose text the decoder leaves as it is.
  var verbatimTokens: Set<Int32> = []
  /// Ids that are put before and after a text.
  var prefix: [Int32] = []
  var suffix: [Int32] = []
  /// Names and texts of special tokens, as templates see them.
  var specialTokens: [(name: String, content: String)] = []
  var specialTokenIDs: [String: Int32] = [:]
  var moreEndTokenIDs: [Int32] = []
  var chatTemplate: ChatTemplate?
  var toolChatTemplate: ChatTemplate?
  var remarks: [String] = []

  /// The highest id that a file may use: beyond it a wrong id would cost more memory than any vocabulary.
  static let highestID = 1 << 22

  init(place: String) { self.place = place }

  /// Whether words reach the model as raw bytes: the byte alphabet is the last step of cutting, and the only such step.
  var keepsBytes: Bool {
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
    return Vocabulary(tokens: tokens, isPresent: isPresent, ids: ids, model: model)
  }

  /// Makes the model of the vocabulary and the merges.
  func makeModel(_ vocabulary: Vocabulary) throws(TokenizationError) -> BytePairEncoder {
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
      options.splitsAtMarks = !ignoresMerges && vocabulary.model.lookup("\u{2581}") >= 0 && !hasMarkInside
      let byteTokens = (0...255).map { byte in
        vocabulary.model.lookup("<0x\(byte < 16 ? "0" : "")\(String(byte, radix: 16, uppercase: true))>")
      }
      let encoder = BytePairEncoder(table: vocabulary.model, merges: merges, byteTokens: byteTokens, options: options)
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
  private var hasMarkInside: Bool {
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
    }
  }

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
          let left = vocabulary.model.lookup(base, split)
          let right = left < 0 ? -1 : vocabulary.model.lookup(base + split, bytes.count - split)
          if left >= 0, right >= 0 { table.insert(left, right, rank, Int32(truncatingIfNeeded: id)) }
          split += UTF8Bytes.length(base[split])
        }
      }
    }
    return table
  }
}
