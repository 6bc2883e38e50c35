/// The tokenizer in the metadata of a GGUF file, key by key (`tokenizer.ggml.…`).
public struct GGUFTokenizerMetadata: Sendable {
  /// `model`: `gpt2` (byte-level BPE), `llama` (SentencePiece BPE) or `t5` (Unigram).
  public var model: String
  /// `pre`: how texts are cut before BPE.
  public var pre: String
  /// `tokens`, by id.
  public var tokens: [String]
  /// `token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
  public var tokenTypes: [Int32]
  /// `merges`, two tokens with a space between them.
  public var merges: [String]
  /// `scores`, by id.
  public var scores: [Float]
  /// `bos_token_id`.
  public var bosTokenID: Int?
  /// `eos_token_id`.
  public var eosTokenID: Int?
  /// `unknown_token_id`.
  public var unkTokenID: Int?
  /// `padding_token_id`.
  public var padTokenID: Int?
  /// `eot_token_id`, `eom_token_id`: further ends of a turn.
  public var moreEndTokenIDs: [Int]
  /// `add_bos_token`; `nil` leaves it to the model.
  public var addBOS: Bool?
  /// `add_eos_token`; `nil` leaves it to the model.
  public var addEOS: Bool?
  /// `add_space_prefix`; `nil` leaves it to the model.
  public var addSpacePrefix: Bool?
  /// `remove_extra_whitespaces`; `nil` leaves it to the model.
  public var removeExtraWhitespaces: Bool?
  /// `precompiled_charsmap`: SentencePiece's rules of normalization.
  public var precompiledCharsmap: [UInt8] = []
  /// `general.architecture`: some families' files leave out how their special tokens treat white space.
  public var architecture = ""
  /// `tokenizer.chat_template`.
  public var chatTemplate: String?
  /// `tokenizer.chat_template.NAME`, for each name of `tokenizer.chat_templates`.
  public var namedChatTemplates: [(name: String, source: String)]

  /// Makes metadata.
  public init(
    model: String, pre: String = "", tokens: [String], tokenTypes: [Int32] = [], merges: [String] = [],
    scores: [Float] = [], bosTokenID: Int? = nil, eosTokenID: Int? = nil, unkTokenID: Int? = nil,
    padTokenID: Int? = nil, moreEndTokenIDs: [Int] = [], addBOS: Bool? = nil, addEOS: Bool? = nil,
    addSpacePrefix: Bool? = nil, chatTemplate: String? = nil,
    namedChatTemplates: [(name: String, source: String)] = []
  ) {
    self.model = model
    self.pre = pre
    self.tokens = tokens
    self.tokenTypes = tokenTypes
    self.merges = merges
    self.scores = scores
    self.bosTokenID = bosTokenID
    self.eosTokenID = eosTokenID
    self.unkTokenID = unkTokenID
    self.padTokenID = padTokenID
    self.moreEndTokenIDs = moreEndTokenIDs
    self.addBOS = addBOS
    self.addEOS = addEOS
    self.addSpacePrefix = addSpacePrefix
    self.chatTemplate = chatTemplate
    self.namedChatTemplates = namedChatTemplates
  }
}

extension Tokenizer {
  /// Makes the tokenizer that a GGUF file carries.
  ///
  /// Throws a `TokenizationError` that names the key.
  ///
  /// - Parameters:
  ///   - gguf: The file's metadata.
  ///   - chatTemplate: The template to use instead of the model's own, which are then not read.
  public convenience init(gguf: GGUFTokenizerMetadata, chatTemplate: ChatTemplate? = nil) throws {
    try self.init(GGUFTokenizer.parts(gguf, templates: chatTemplate.map { ChatTemplates($0) }))
  }
}

/// Reads the metadata of a GGUF file.
enum GGUFTokenizer {
  private enum TokenType: Int32 {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  static func parts(
    _ metadata: GGUFTokenizerMetadata, templates: ChatTemplates? = nil
  ) throws(TokenizationError) -> TokenizerParts {
    var parts = TokenizerParts(place: "tokenizer.ggml")
    guard metadata.tokenTypes.isEmpty || metadata.tokenTypes.count == metadata.tokens.count else {
      throw TokenizationError(
        "tokenizer.ggml.token_type has \(metadata.tokenTypes.count) entries for \(metadata.tokens.count) tokens")
    }
    parts.vocabulary = metadata.tokens.enumerated().map { ($1, $0) }
    for (id, (token, type)) in zip(metadata.tokens, metadata.tokenTypes).enumerated() {
      switch TokenType(rawValue: type) {
      case .control, .unknown:
        parts.addedTokens.append(AddedToken(id: Int32(truncatingIfNeeded: id), content: token, isSpecial: true))
      case .userDefined:
        parts.addedTokens.append(AddedToken(id: Int32(truncatingIfNeeded: id), content: token))
      default: break
      }
    }
    parts.addedTokens.removeAll(where: \.content.isEmpty)
    restoreSpaces(metadata, &parts)
    parts.verbatimTokens = Set(parts.addedTokens.map(\.id))
    for (name, id) in [
      ("bos_token", metadata.bosTokenID), ("eos_token", metadata.eosTokenID), ("unk_token", metadata.unkTokenID),
      ("pad_token", metadata.padTokenID),
    ] {
      guard let id else { continue }
      guard metadata.tokens.indices.contains(id) else {
        parts.remarks.append("tokenizer.ggml: the id \(id) of \(name) is beyond the \(metadata.tokens.count) tokens")
        continue
      }
      parts.specialTokens.append((name, metadata.tokens[id]))
      parts.specialTokenIDs[name] = Int32(truncatingIfNeeded: id)
    }
    parts.moreEndTokenIDs = metadata.moreEndTokenIDs.filter(metadata.tokens.indices.contains).map { Int32($0) }
    var addsBOS = false
    switch metadata.model {
    case "gpt2": addsBOS = try readBytePairs(metadata, &parts)
    case "llama":
      try readSentencePieces(metadata, &parts)
      addsBOS = true
    case "t5": try readUnigram(metadata, &parts)
    default:
      throw TokenizationError(
        "tokenizer.ggml.model: \"\(metadata.model)\" is not known; known are gpt2, llama and t5")
    }
    if metadata.addBOS ?? addsBOS, let id = parts.specialTokenIDs["bos_token"] { parts.prefix = [id] }
    if metadata.addEOS ?? (metadata.model == "t5"), let id = parts.specialTokenIDs["eos_token"] { parts.suffix = [id] }
    if let templates {
      parts.chatTemplates = templates
    } else {
      parts.chatTemplates = try ChatTemplates(metadata.chatTemplateSources, in: nil)
    }
    return parts
  }

  /// Byte-level BPE; returns whether models of this kind put BOS before a text unless they say otherwise.
  private static func readBytePairs(
    _ metadata: GGUFTokenizerMetadata, _ parts: inout TokenizerParts
  ) throws(TokenizationError) -> Bool {
    var merges: [(left: String, right: String)] = []
    merges.reserveCapacity(metadata.merges.count)
    for (index, merge) in metadata.merges.enumerated() {
      guard let pair = TokenizerJSON.pair(merge) else {
        throw TokenizationError("tokenizer.ggml.merges[\(index)]: \"\(merge)\" is not two tokens")
      }
      merges.append(pair)
    }
    parts.merges = .ranked(merges)
    let cutting = try GGUFPreTokenizer.named(metadata.pre)
    parts.preTokenizer = try KnownPatterns.byteLevel(
      cutting.patterns, addsPrefixSpace: metadata.addSpacePrefix ?? false)
    parts.ignoresMerges = cutting.ignoresMerges
    parts.decoder = .byteLevel
    return cutting.addsBOS
  }

  /// Sets how the special tokens of the Phi family take in white space, which GGUF has no key for.
  ///
  /// Phi-3's take in what follows them, but for three; Phi-4's, known by `<|im_sep|>`, what is on both sides.
  private static func restoreSpaces(_ metadata: GGUFTokenizerMetadata, _ parts: inout TokenizerParts) {
    guard metadata.architecture == "phi3" else { return }
    let isPhi4 = metadata.model == "gpt2" && parts.addedTokens.contains { $0.content == "<|im_sep|>" }
    guard isPhi4 || metadata.model == "llama" else { return }
    for index in parts.addedTokens.indices {
      let isPlain = !isPhi4 && ["<unk>", "<s>", "<|endoftext|>"].contains(parts.addedTokens[index].content)
      parts.addedTokens[index].takesSpaceOnLeft = isPhi4
      parts.addedTokens[index].takesSpaceOnRight = !isPlain
    }
  }

  /// The ids of pieces that no text becomes: control, unknown and byte pieces.
  private static func hiddenIDs(_ metadata: GGUFTokenizerMetadata) -> Set<Int> {
    Set(
      metadata.tokenTypes.indices.filter { index in
        let type = TokenType(rawValue: metadata.tokenTypes[index])
        return type == .control || type == .unknown || type == .byte
      })
  }

  private static func checkScores(_ metadata: GGUFTokenizerMetadata) throws(TokenizationError) {
    guard metadata.scores.count == metadata.tokens.count else {
      throw TokenizationError(
        "tokenizer.ggml.scores has \(metadata.scores.count) entries for \(metadata.tokens.count) tokens")
    }
  }

  private static func readUnigram(
    _ metadata: GGUFTokenizerMetadata, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    try checkScores(metadata)
    guard !metadata.scores.contains(where: \.isNaN) else {
      throw TokenizationError("tokenizer.ggml.scores: a score is not a number")
    }
    let types = metadata.tokenTypes
    let normal = metadata.scores.indices.filter { types.isEmpty || types[$0] == TokenType.normal.rawValue }
      .map { Double(metadata.scores[$0]) }
    let (least, greatest) = (normal.min() ?? 0, normal.max() ?? 0)
    parts.hiddenIDs = hiddenIDs(metadata)
    parts.unusedIDs = Set(types.indices.filter { types[$0] == TokenType.unused.rawValue })
    parts.merges = .unigram(
      TokenizerParts.Unigram(
        scores: metadata.scores.map(Double.init), range: least...greatest,
        options: UnigramEncoder.Options(
          unknown: parts.specialTokenIDs["unk_token"] ?? -1, isSinglePrecision: true, looksUpUnknown: false)))
    let addsPrefix = metadata.addSpacePrefix ?? true
    let map = metadata.precompiledCharsmap
    parts.normalizer = .sentencePiece(
      SentencePieceNormalizer(
        characterMap: map.isEmpty
          ? nil : try PrecompiledCharacterMap(map, at: "tokenizer.ggml.precompiled_charsmap"),
        addsDummyPrefix: addsPrefix, removesExtraSpaces: metadata.removeExtraWhitespaces ?? false, escapesSpaces: true,
        spaceIsSuffix: false))
    parts.decoder = .sequence(
      [.replace(.literal(Array("\u{2581}".utf8)), [0x20]), .fuse]
        + (addsPrefix ? [.strip(" ", start: 1, stop: 0)] : []))
  }

  private static func readSentencePieces(
    _ metadata: GGUFTokenizerMetadata, _ parts: inout TokenizerParts
  ) throws(TokenizationError) {
    try checkScores(metadata)
    parts.hiddenIDs = hiddenIDs(metadata)
    parts.merges = .scored(metadata.scores)
    parts.usesByteFallback = true
    parts.fusesUnknown = true
    if let id = parts.specialTokenIDs["unk_token"] { parts.unknownToken = metadata.tokens[Int(id)] }
    let space = Array("\u{2581}".utf8)
    let addsSpace = metadata.addSpacePrefix ?? true
    parts.normalizer = .sequence((addsSpace ? [.prepend(space)] : []) + [.replace(.literal([0x20]), space)])
    parts.decoder = .sequence(
      [.replace(.literal(space), [0x20]), .byteFallback(keepsCharacters: true), .fuse]
        + (addsSpace ? [.strip(" ", start: 1, stop: 0)] : []))
  }
}
