extension GGUFTokenizerMetadata {
  /// The tokenizer of a model's folder as a GGUF carries it.
  ///
  /// Throws a `TokenizationError` that says what llama.cpp cannot express. What is made is read again and must cut a
  /// page of many scripts into the same tokens.
  ///
  /// - Parameters:
  ///   - folder: The model's folder.
  ///   - overrides: What is said otherwise than in its files.
  ///   - rowCount: Rows of the embedding; ids that no token has become unused tokens.
  package init(folder: String, overrides: TokenizerOverrides?, rowCount: Int) throws {
    var parts = try TokenizerFiles.read(
      TokenizerSource.find(in: folder), folder: folder, templates: overrides?.chatTemplates)
    overrides?.apply(to: &parts)
    try self.init(parts, rowCount: rowCount)
    let (original, made) = (try Tokenizer(parts), try Tokenizer(gguf: self))
    guard
      original.encode(Self.page, parseSpecialTokens: false) == made.encode(Self.page, parseSpecialTokens: false)
    else {
      throw TokenizationError(
        "\(parts.place): as a GGUF the tokenizer would cut texts otherwise than it does; llama.cpp has no way to say "
          + "what its \"normalizer\", \"pre_tokenizer\" or \"merges\" say")
    }
  }

  private static let spaces = (1...40).map { String(repeating: " ", count: $0) }.joined(separator: "x")

  /// What tokenizers cut differently: spaces, ends of lines, digits, case, signs, scripts, code.
  private static let page = """
    Hello world!  It's 3.14159, isn't it? WE'LL see: 1234567890 (about 10%).
    \tfor (int i = 0; i < n; i++) { x[i] += "äöü"; }\r\n\n\n   Trailing   spaces \u{20}
    1\(spaces)2
    Übergrößenträger naïve Ångström — “quotes” … 中文字符，日本語のテキスト。 한국어 Привет мир! שלום עולם مرحبا
    \u{1F469}\u{200D}\u{1F680} \u{1F44D}\u{1F3FD} ½ ² Ⅷ १२३ \u{FF11}\u{FF12} a_b camelCaseWord HTTPServer don'T
    """

  private init(_ parts: TokenizerParts, rowCount: Int) throws(TokenizationError) {
    let vocabulary = try parts.makeVocabulary()
    guard vocabulary.tokens.count <= rowCount else {
      throw TokenizationError(
        "\(parts.place): the highest token has the id \(vocabulary.tokens.count - 1), but the model's embedding has only "
          + "\(rowCount) rows")
    }
    var (tokens, types) = (vocabulary.tokens, [Int32](repeating: 1, count: rowCount))
    for id in vocabulary.tokens.indices where !vocabulary.isPresent[id] || tokens[id].isEmpty {
      (tokens[id], types[id]) = ("[PAD\(id)]", 5)
    }
    for id in tokens.count..<rowCount {
      tokens.append("[PAD\(id)]")
      types[id] = 5
    }
    for id in parts.symbolIDs { types[id] = 4 }
    for id in parts.unusedIDs { types[id] = 5 }
    for token in parts.addedTokens {
      tokens[Int(token.id)] = token.content
      types[Int(token.id)] = token.isSpecial ? 3 : 4
    }
    var seen: [[UInt8]: Int] = [:]
    for (id, token) in tokens.enumerated() {
      guard let other = seen.updateValue(id, forKey: Array(token.utf8)) else { continue }
      throw TokenizationError(
        "\(parts.place): the tokens \(other) and \(id) are both \"\(token)\", which a GGUF cannot express")
    }
    func special(_ name: String) -> Int? { parts.specialTokenIDs[name].map(Int.init) }
    let ends = TurnMarkers.endOfTurnTokenIDs(
      templates: parts.chatTemplates, specialTokens: parts.specialTokens, addedTokens: parts.addedTokens,
      eos: parts.specialTokenIDs["eos_token"], more: parts.moreEndTokenIDs
    ).map(Int.init)
    self.init(
      model: "gpt2", tokens: tokens, tokenTypes: types, bosTokenID: special("bos_token"),
      eosTokenID: special("eos_token") ?? ends.first, unkTokenID: special("unk_token"),
      padTokenID: special("pad_token"),
      chatTemplate: parts.chatTemplate?.source,
      namedChatTemplates: parts.chatTemplates.entries.filter { $0.name != ChatTemplates.standardName }
        .map { ($0.name, $0.template.source) })
    moreEndTokenIDs = ends.filter { $0 != eosTokenID }
    addBOS = try Self.isAdded(parts.prefix, special("bos_token"), parts)
    addEOS = try Self.isAdded(parts.suffix, special("eos_token"), parts)
    if parts.keepsBytes { try readBytePairs(parts, vocabulary) } else { try readSentencePieces(parts) }
  }

  /// Whether a token goes before or after a text, and nothing but it.
  private static func isAdded(
    _ ids: [Int32], _ id: Int?, _ parts: TokenizerParts
  ) throws(TokenizationError) -> Bool {
    if ids.isEmpty { return false }
    if ids.map(Int.init) == [id] { return true }
    throw TokenizationError(
      "\(parts.place): around a text go the tokens \(ids); a GGUF can only say BOS before it and EOS after it")
  }

  private static func refuse(_ what: String, _ parts: TokenizerParts) -> TokenizationError {
    TokenizationError("\(parts.place): \(what); llama.cpp has no such tokenizer, so there can be no GGUF")
  }

  // MARK: Byte-level BPE

  private mutating func readBytePairs(
    _ parts: TokenizerParts, _ vocabulary: TokenizerParts.Vocabulary
  ) throws(TokenizationError) {
    switch parts.normalizer {
    // llama.cpp does not compose characters; text is composed nearly always.
    case nil, .canonicalForm(.composed)?: break
    default: throw Self.refuse("byte-level BPE after a normalizer", parts)
    }
    guard let name = try GGUFPreTokenizer.name(of: parts.preTokenizer, ignoresMerges: parts.ignoresMerges) else {
      throw Self.refuse("texts are cut by a pattern of its own", parts)
    }
    pre = name
    switch parts.merges {
    case .ranked(let merges): self.merges = merges.map { $0.left + " " + $0.right }
    case .scored(let scores):
      // A list of tokens by rank: each is merged last of two that come before it.
      let ordered = parts.vocabulary.filter { $0.id < scores.count && scores[$0.id].isFinite }
        .sorted { scores[$0.id] > scores[$1.id] }
      self.merges = ordered.compactMap { text, id in
        let bytes = Array(text.utf8)
        guard let last = parts.lastMerge(Int32(truncatingIfNeeded: id), bytes, scores, vocabulary) else { return nil }
        return String(decoding: bytes[..<last.place], as: UTF8.self) + " "
          + String(decoding: bytes[last.place...], as: UTF8.self)
      }
    case .unigram: throw Self.refuse("a Unigram model", parts)
    }
  }

  // MARK: SentencePiece

  private mutating func readSentencePieces(_ parts: TokenizerParts) throws(TokenizationError) {
    if case .unigram = parts.merges { throw Self.refuse("a Unigram model", parts) }
    guard parts.usesByteFallback else { throw Self.refuse("characters that are no token have no bytes either", parts) }
    (model, pre) = ("llama", "default")
    addSpacePrefix = try addsSpacePrefix(parts)
    switch parts.merges {
    case .unigram: throw Self.refuse("a Unigram model", parts)
    case .scored(let known): scores = known
    case .ranked(let merges):
      guard let ranks = Self.ranks(of: merges, parts) else {
        throw Self.refuse("merges that no scores of the tokens can express", parts)
      }
      scores = tokens.map { ranks[Array($0.utf8)] ?? -Float(ranks.count) }
      for (text, id) in parts.vocabulary where tokenTypes[id] == 1 && Self.isByte(text) { tokenTypes[id] = 6 }
    }
    for id in scores.count..<max(scores.count, tokens.count) { scores.append(tokenTypes[id] == 5 ? -10000 : -1000) }
    for id in parts.hiddenIDs where Self.isByte(tokens[id]) { tokenTypes[id] = 6 }
    if let unknown = parts.unknownToken {
      for id in tokens.indices where tokens[id].utf8.elementsEqual(unknown.utf8) { tokenTypes[id] = 2 }
    }
  }

  /// `<0x0A>`.
  private static func isByte(_ text: String) -> Bool {
    guard text.utf8.count == 6, text.hasPrefix("<0x"), text.hasSuffix(">") else { return false }
    return UInt8(text.dropFirst(3).prefix(2), radix: 16) != nil
  }

  /// Whether a text gets a space in front; throws where more is done to texts than SentencePiece's spaces.
  private func addsSpacePrefix(_ parts: TokenizerParts) throws(TokenizationError) -> Bool {
    let mark = Array("\u{2581}".utf8)
    func isSpaceRule(_ step: Normalizer) -> Bool {
      if case .replace(.literal([0x20]), mark) = step { true } else { false }
    }
    if let preTokenizer = parts.preTokenizer {
      guard parts.normalizer == nil, preTokenizer.steps.count == 1,
        case .metaspace(mark, let scheme, let splits) = preTokenizer.steps[0], !splits || !parts.hasMarkInside
      else { throw Self.refuse("SentencePiece's BPE after other cuts than those at spaces", parts) }
      return scheme != .never
    }
    let steps: [Normalizer]
    switch parts.normalizer {
    case .sentencePiece(let rules)?:
      guard rules.characterMap == nil, !rules.removesExtraSpaces, rules.escapesSpaces, !rules.spaceIsSuffix else {
        throw Self.refuse("SentencePiece's BPE with rules of normalization", parts)
      }
      return rules.addsDummyPrefix
    case .sequence(let list)?: steps = list
    case let step?: steps = [step]
    case nil: throw Self.refuse("BPE of characters without SentencePiece's spaces", parts)
    }
    if steps.count == 1, isSpaceRule(steps[0]) { return false }
    if steps.count == 2, case .prepend(mark) = steps[0], isSpaceRule(steps[1]) { return true }
    throw Self.refuse("SentencePiece's BPE with rules of normalization", parts)
  }

  /// What each token's rank is as a score, where the merges are what SentencePiece would do with such scores: each token
  /// comes from all pairs of tokens that make it up, and these follow each other.
  ///
  /// Runs of spaces may stand mixed: they share a score, as in Llama's model.
  private static func ranks(
    of merges: [(left: String, right: String)], _ parts: TokenizerParts
  ) -> [[UInt8]: Float]? {
    var places: [[UInt8]: (first: Int, last: Int, count: Int)] = [:]
    for (index, (left, right)) in merges.enumerated() {
      places[Array(left.utf8) + Array(right.utf8), default: (index, index, 0)].count += 1
      places[Array(left.utf8) + Array(right.utf8)]?.last = index
    }
    let all = Set(parts.vocabulary.map { Array($0.text.utf8) })
    var ranks: [[UInt8]: Float] = [:]
    var (rank, end) = (-1, -1)
    var isOnlySpaces = true
    for (token, place) in places.sorted(by: { $0.value.first < $1.value.first }) {
      let isSpaces = String(decoding: token, as: UTF8.self).unicodeScalars.allSatisfy { $0 == "\u{2581}" }
      if place.first > end {
        rank += 1
        isOnlySpaces = isSpaces
      } else if !(isOnlySpaces && isSpaces) {
        return nil
      }
      end = max(end, place.last)
      ranks[token] = -Float(rank)
      let pairs = token.indices.dropFirst().filter { cut in
        token[cut] & 0xC0 != 0x80 && all.contains(Array(token[..<cut])) && all.contains(Array(token[cut...]))
      }
      if pairs.count != place.count { return nil }
    }
    return ranks
  }
}
