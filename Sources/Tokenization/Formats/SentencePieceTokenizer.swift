/// Makes a tokenizer of a SentencePiece model.
enum SentencePieceTokenizer {
  /// The parts of a tokenizer that cuts texts as the SentencePiece library does.
  ///
  /// Control pieces and the unknown piece written in a text are found as special tokens, and each stretch between them is
  /// a text of its own; only without `isLegacy` does a stretch after a special token get no dummy prefix.
  static func parts(
    _ file: SentencePieceFile, _ path: String, isLegacy: Bool
  ) throws(TokenizationError) -> TokenizerParts {
    var parts = TokenizerParts(place: path)
    parts.vocabulary.reserveCapacity(file.pieces.count)
    var texts = Set<[UInt8]>(minimumCapacity: file.pieces.count)
    var unknown = 0
    for (id, piece) in file.pieces.enumerated() {
      guard texts.insert(Array(piece.text.utf8)).inserted else {
        throw TokenizationError("\(path): piece \(id), \"\(piece.text)\", is there twice")
      }
      parts.vocabulary.append((piece.text, id))
      switch piece.kind {
      case .normal: break
      case .userDefined: parts.symbolIDs.insert(id)
      case .unused: parts.unusedIDs.insert(id)
      case .byte: parts.hiddenIDs.insert(id)
      case .control, .unknown:
        parts.hiddenIDs.insert(id)
        if piece.kind == .unknown { unknown = id }
        parts.addedTokens.append(
          AddedToken(id: Int32(truncatingIfNeeded: id), content: piece.text, isSpecial: true))
        parts.verbatimTokens.insert(Int32(truncatingIfNeeded: id))
      }
    }
    parts.usesByteFallback = file.usesByteFallback
    parts.fusesUnknown = true
    parts.unknownToken = file.pieces[unknown].text
    switch file.algorithm {
    case .bytePairs: parts.merges = .scored(file.pieces.map(\.score))
    default: parts.merges = .unigram(unigram(file, unknown: unknown, preferred: parts.symbolIDs))
    }
    var normalizer = SentencePieceNormalizer(
      characterMap: file.characterMap.isEmpty
        ? nil : try PrecompiledCharacterMap(file.characterMap, at: "\(path): normalizer_spec"),
      addsDummyPrefix: file.addsDummyPrefix, removesExtraSpaces: file.removesExtraSpaces,
      escapesSpaces: file.escapesSpaces, spaceIsSuffix: file.spaceIsSuffix)
    normalizer.prefixesOnlyFirst = !isLegacy
    if !parts.symbolIDs.isEmpty {
      normalizer.userDefined = TokenTrie(
        parts.symbolIDs.map { (Array(file.pieces[$0].text.utf8), Int32(truncatingIfNeeded: $0)) })
    }
    parts.normalizer = .sentencePiece(normalizer)
    // The library takes spaces off the start whatever white space belongs to.
    let droppedSpaces = file.removesExtraSpaces ? Int.max : file.addsDummyPrefix ? 1 : 0
    parts.decoder = .sequence(
      [.replace(.literal(Array("\u{2581}".utf8)), [0x20]), .byteFallback(keepsCharacters: true), .fuse]
        + (droppedSpaces > 0 ? [.strip(" ", start: droppedSpaces, stop: 0)] : []))
    readSpecialTokens(file, unknown, &parts)
    return parts
  }

  private static func unigram(
    _ file: SentencePieceFile, unknown: Int, preferred: Set<Int>
  ) -> TokenizerParts.Unigram {
    // The library counts plain pieces alone, and starts the greatest score at the least positive number.
    let scores = file.pieces.lazy.filter { $0.kind == .normal }.map(\.score)
    let least = scores.min() ?? .greatestFiniteMagnitude
    let greatest = max(scores.max() ?? .leastNormalMagnitude, .leastNormalMagnitude)
    return TokenizerParts.Unigram(
      scores: file.pieces.map { Double($0.score) }, range: Double(min(least, greatest))...Double(greatest),
      options: UnigramEncoder.Options(
        unknown: Int32(truncatingIfNeeded: unknown), usesByteFallback: file.usesByteFallback, isSinglePrecision: true,
        looksUpUnknown: false, preferred: Set(preferred.map { Int32(truncatingIfNeeded: $0) })))
  }

  private static func readSpecialTokens(_ file: SentencePieceFile, _ unknown: Int, _ parts: inout TokenizerParts) {
    for (name, id) in [
      ("bos_token", file.bosID), ("eos_token", file.eosID), ("unk_token", unknown), ("pad_token", file.padID),
    ] where file.pieces.indices.contains(id) && (name == "unk_token" || file.pieces[id].kind == .control) {
      parts.specialTokens.append((name, file.pieces[id].text))
      parts.specialTokenIDs[name] = Int32(truncatingIfNeeded: id)
    }
    // Language models begin a text with BOS; models of pairs of texts, which are Unigram, end it with EOS.
    switch file.algorithm {
    case .bytePairs: parts.prefix = [parts.specialTokenIDs["bos_token"]].compactMap { $0 }
    default: parts.suffix = [parts.specialTokenIDs["eos_token"]].compactMap { $0 }
    }
  }
}
