/// Text to token ids and back, exactly as the model's own files say.
///
/// A tokenizer is immutable: any number of threads may use one at the same time.
public final class Tokenizer: Sendable {
  /// One more than the highest id.
  public let vocabularySize: Int
  /// The token that begins a text.
  public let bosTokenID: Int32?
  /// The token that ends a text.
  public let eosTokenID: Int32?
  /// The token that fills a batch.
  public let padTokenID: Int32?
  /// The token of what has none.
  public let unkTokenID: Int32?
  /// The tokens that are searched in the text itself, by id.
  public let addedTokens: [AddedToken]
  /// The templates that turn messages into text.
  public let chatTemplates: ChatTemplates
  /// Every id that ends generation: the end of a text, and what ends the assistant's turn in the template.
  public let endOfTurnTokenIDs: [Int32]
  /// The names under which templates know special tokens (`bos_token`), and their texts.
  public let specialTokens: [(name: String, content: String)]
  /// What the files say that is not quite right but can be worked with; each one line.
  public let remarks: [String]

  let decoder: TokenDecoder
  let tokenBytes: TokenBytes
  private let tokens: [String]
  private let isPresent: [Bool]
  private let isSpecialID: [Bool]
  /// The tokens that no content becomes.
  let controls: ControlTokens
  private let ids: TokenTable
  private let model: TokenModel
  private let normalizer: Normalizer?
  private let preTokenizer: PreTokenizer?
  /// What is left of the pre-tokenizer's work once its steps have made pieces.
  private let scanner: WordScanner?
  private let keepsBytes: Bool
  private let needsOrigins: Bool
  private let scratches = ScratchPool()
  private let originalFinder: AddedTokenFinder
  private let normalizedFinder: AddedTokenFinder
  private let normalizedTokens: [Int32: String]
  private let prefix: [Int32]
  private let suffix: [Int32]

  init(_ parts: consuming TokenizerParts) throws(TokenizationError) {
    let vocabulary = try parts.makeVocabulary()
    (tokens, isPresent, ids) = (vocabulary.tokens, vocabulary.isPresent, vocabulary.ids)
    vocabularySize = vocabulary.tokens.count
    let keepsBytes = parts.keepsBytes
    self.keepsBytes = keepsBytes
    model = try parts.makeModel(vocabulary)
    normalizer = parts.normalizer
    let (steps, scanner) = parts.preTokenizer?.withScannerLast(keepsBytes: keepsBytes) ?? ([], nil)
    preTokenizer = steps.isEmpty ? nil : .sequence(steps)
    self.scanner = scanner
    needsOrigins = (parts.preTokenizer?.needsOrigins ?? false) || (parts.normalizer?.needsOrigins ?? false)
    prefix = parts.prefix
    suffix = parts.suffix
    remarks = parts.remarks
    addedTokens = parts.addedTokens.sorted { $0.id < $1.id }
    var isSpecialID = [Bool](repeating: false, count: vocabulary.tokens.count)
    for token in addedTokens where token.isSpecial { isSpecialID[Int(token.id)] = true }
    self.isSpecialID = isSpecialID
    func special(_ name: String) -> Int32? { parts.specialTokenIDs[name] }
    bosTokenID = special("bos_token")
    eosTokenID = special("eos_token")
    padTokenID = special("pad_token")
    unkTokenID = special("unk_token")
    specialTokens = parts.specialTokens
    chatTemplates = parts.chatTemplates
    endOfTurnTokenIDs = TurnMarkers.endOfTurnTokenIDs(
      templates: parts.chatTemplates, specialTokens: parts.specialTokens, addedTokens: addedTokens,
      eos: special("eos_token"), more: parts.moreEndTokenIDs)
    let original = addedTokens.filter { !$0.isNormalized }.map { (token: $0, text: Array($0.content.utf8)) }
    let normalized = addedTokens.filter(\.isNormalized).map { token in
      (token: token, text: Self.normalized(token.content, parts.normalizer))
    }
    let controls = ControlTokens(
      vocabularySize: vocabulary.tokens.count,
      original + normalized + normalized.map { ($0.token, Array($0.token.content.utf8)) },
      roles: [bosTokenID, eosTokenID, padTokenID].compactMap { $0 } + endOfTurnTokenIDs, unknown: unkTokenID)
    self.controls = controls
    originalFinder = AddedTokenFinder(original, controls: controls)
    normalizedFinder = AddedTokenFinder(normalized, controls: controls)
    let decoder = TokenDecoder(parts.decoder)
    self.decoder = decoder
    var decoded = vocabulary.tokens
    var normalizedTokens: [Int32: String] = [:]
    if parts.normalizer != nil {
      for token in addedTokens where token.isNormalized {
        let text = String(decoding: Self.normalized(token.content, parts.normalizer), as: UTF8.self)
        normalizedTokens[token.id] = text
        decoded[Int(token.id)] = text
      }
    }
    self.normalizedTokens = normalizedTokens
    tokenBytes = TokenBytes(decoded, isPresent: vocabulary.isPresent, decoder, verbatim: parts.verbatimTokens)
  }

  private static func normalized(_ text: String, _ normalizer: Normalizer?) -> [UInt8] {
    let bytes = Array(text.utf8)
    return bytes.withUnsafeBufferPointer { bytes in
      guard let base = bytes.baseAddress else { return [] }
      let segment = Segment(base, 0..<bytes.count)
      normalizer?.apply(to: segment)
      return Array(UnsafeBufferPointer(start: segment.base, count: segment.count))
    }
  }

  // MARK: Tokens

  /// The id of a token by its text as the vocabulary has it.
  public func tokenID(_ token: String) -> Int32? {
    let id = ids.lookup(token)
    return id >= 0 ? id : nil
  }

  /// The text of a token as the vocabulary has it; `nil` for an id that no token has.
  public func token(_ id: Int32) -> String? {
    id >= 0 && Int(id) < tokens.count && isPresent[Int(id)] ? tokens[Int(id)] : nil
  }

  /// Whether a token controls the model rather than being text.
  public func isSpecial(_ id: Int32) -> Bool { id >= 0 && Int(id) < isSpecialID.count && isSpecialID[Int(id)] }

  // MARK: Encoding

  /// Tokens, and the stretch of the text that each stands for.
  public struct Encoding: Sendable {
    /// The ids.
    public var ids: [Int32] = []
    /// For each id its range in the text's UTF-8 bytes; empty for tokens that the tokenizer put there itself.
    ///
    /// An added token's range is its own text, without white space that it took in.
    public var ranges: [Range<Int>] = []
  }

  /// The ids of a text.
  ///
  /// - Parameters:
  ///   - text: Any text; it is not changed, save as the model's normalizer says.
  ///   - addSpecialTokens: Whether to put the tokens around it that the tokenizer's post-processor asks for (BOS).
  ///   - parseSpecialTokens: Whether special tokens written in the text become their ids, or are text like any other.
  public func encode(_ text: String, addSpecialTokens: Bool = true, parseSpecialTokens: Bool = true) -> [Int32] {
    encode(text, addSpecialTokens, parseSpecialTokens, tracksRanges: false).ids
  }

  /// The ids of a text, with the range of each in its UTF-8 bytes.
  public func encodeWithOffsets(
    _ text: String, addSpecialTokens: Bool = true, parseSpecialTokens: Bool = true
  ) -> Encoding {
    encode(text, addSpecialTokens, parseSpecialTokens, tracksRanges: true)
  }

  /// The ids of texts, by several threads; the same as `encode` gives for each.
  public func encodeBatch(
    _ texts: [String], addSpecialTokens: Bool = true, parseSpecialTokens: Bool = true, threads: Int
  ) -> [[Int32]] {
    parallelMap(texts.indices, threads: threads) { index in
      self.encode(texts[index], addSpecialTokens: addSpecialTokens, parseSpecialTokens: parseSpecialTokens)
    }
  }

  /// The ids of a rendered conversation, with the range of each.
  ///
  /// What ends at one of `seams` (places in its UTF-8, in order) is a message's: no control token is found with it.
  func encode(rendered text: String, seams: [Int], tracksRanges: Bool = true) -> Encoding {
    encode(text, false, true, tracksRanges: tracksRanges, seams: seams)
  }

  /// Forgets the words of earlier calls, so that a measurement begins where a program does.
  package func forgetWords() { scratches.removeAll() }

  private func encode(
    _ text: String, _ addSpecialTokens: Bool, _ parseSpecialTokens: Bool, tracksRanges: Bool, seams: [Int] = []
  ) -> Encoding {
    var text = text
    var result = Encoding()
    if addSpecialTokens, !prefix.isEmpty {
      result.ids = prefix
      if tracksRanges { result.ranges = Array(repeating: 0..<0, count: prefix.count) }
    }
    let length = text.withUTF8 { bytes in
      if let base = bytes.baseAddress, !bytes.isEmpty {
        encode(base, bytes.count, findsControls: parseSpecialTokens, seams, tracksRanges: tracksRanges, &result)
      }
      return bytes.count
    }
    if addSpecialTokens, !suffix.isEmpty {
      result.ids.append(contentsOf: suffix)
      if tracksRanges { result.ranges.append(contentsOf: Array(repeating: length..<length, count: suffix.count)) }
    }
    return result
  }

  private func encode(
    _ text: UnsafePointer<UInt8>, _ count: Int, findsControls: Bool, _ seams: [Int], tracksRanges: Bool,
    _ result: inout Encoding
  ) {
    func isContent(_ range: Range<Int>) -> Bool {
      let seam = seams.partitioningIndex { $0 > range.lowerBound }
      return seam < seams.count && seams[seam] <= range.upperBound
    }
    let scratch = scratches.take()
    defer { scratches.giveBack(scratch) }
    var output = BytePairEncoder.Output(tracksLengths: tracksRanges)
    swap(&output.ids, &result.ids)
    output.ids.reserveCapacity(output.ids.count + count / 4 + 8)
    let splits = originalFinder.split(
      text, count, findsControls: findsControls, isContent: seams.isEmpty ? nil : { isContent($0) })
    for split in splits {
      if let token = split.token {
        output.ids.append(token)
        if tracksRanges { result.ranges.append(split.core) }
        continue
      }
      let segment = Segment(text, split.range, tracksOrigins: tracksRanges || needsOrigins || !seams.isEmpty)
      normalizer?.apply(to: segment)
      if normalizedFinder.isEmpty {
        encode(segment, scratch, &output, tracksRanges, &result.ranges)
        continue
      }
      let parts = normalizedFinder.split(
        segment.base, segment.count, findsControls: findsControls,
        isContent: seams.isEmpty ? nil : { isContent(segment.origin(of: $0)) })
      for part in parts {
        if let token = part.token {
          output.ids.append(token)
          if tracksRanges { result.ranges.append(segment.origin(of: part.core)) }
        } else {
          encode(segment.part(part.range), scratch, &output, tracksRanges, &result.ranges)
        }
      }
    }
    swap(&output.ids, &result.ids)
  }

  private func encode(
    _ segment: Segment, _ scratch: BytePairEncoder.Scratch, _ output: inout BytePairEncoder.Output,
    _ tracksRanges: Bool, _ ranges: inout [Range<Int>]
  ) {
    preTokenizer?.apply(to: segment, keepsBytes: keepsBytes)
    let base = segment.base
    for piece in segment.pieces {
      if let scanner {
        model.encode(words: scanner, of: base, piece, readable: segment.count, scratch, &output)
      } else {
        model.encode(base + piece.lowerBound, piece.count, scratch, &output)
      }
      guard tracksRanges else { continue }
      var position = piece.lowerBound
      // What has no token has the id -1 here, and goes.
      let first = output.ids.count - output.lengths.count
      var kept = first
      for (index, length) in output.lengths.enumerated() {
        let range = position..<position + Int(length)
        position = range.upperBound
        let id = output.ids[first + index]
        guard id >= 0 else { continue }
        output.ids[kept] = id
        kept += 1
        ranges.append(segment.origin(of: range))
      }
      output.ids.removeLast(output.ids.count - kept)
      output.lengths.removeAll(keepingCapacity: true)
    }
  }

  // MARK: Decoding

  /// The text of tokens.
  ///
  /// Bytes that are no UTF-8 become U+FFFD.
  public func decode(_ ids: some Sequence<Int32>, skipSpecialTokens: Bool = false) -> String {
    var bytes: [UInt8] = []
    var loneBytes = 0
    var isFirst = true
    func endLoneBytes() {
      defer { loneBytes = 0 }
      guard loneBytes > 0, String(validating: bytes.suffix(loneBytes), as: UTF8.self) == nil else { return }
      let run = Array(bytes.suffix(loneBytes))
      bytes.removeLast(loneBytes)
      var index = 0
      while index < run.count {
        let character = run[index..<min(run.count, index + UTF8Bytes.length(run[index]))]
        if decoder.keepsCharacters, String(validating: character, as: UTF8.self) != nil {
          bytes.append(contentsOf: character)
          index = character.endIndex
        } else {
          bytes.append(contentsOf: [0xEF, 0xBF, 0xBD])
          index += 1
        }
      }
    }
    func add(_ id: Int32, isLast: Bool) {
      let isLoneByte = tokenBytes.isLoneByte(id)
      if !isLoneByte { endLoneBytes() }
      if !isFirst { bytes.append(contentsOf: decoder.separator) }
      bytes.append(contentsOf: self.bytes(of: id, isFirst: isFirst, isLast: isLast))
      isFirst = false
      if isLoneByte { loneBytes += 1 }
    }
    var waiting: Int32?
    for id in ids where !(skipSpecialTokens && isSpecial(id)) {
      if let waiting { add(waiting, isLast: false) }
      waiting = id
    }
    if let waiting { add(waiting, isLast: true) }
    endLoneBytes()
    var text = bytes[...]
    if let leading = decoder.leading {
      let mark = Array(String(leading.scalar).utf8)
      var left = leading.count
      while left > 0, text.starts(with: mark) {
        text = text.dropFirst(mark.count)
        left -= 1
      }
    }
    if let trailing = decoder.trailing {
      let mark = Array(String(trailing.scalar).utf8)
      var left = trailing.count
      while left > 0, text.suffix(mark.count).elementsEqual(mark) {
        text = text.dropLast(mark.count)
        left -= 1
      }
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// What a token becomes in a text.
  func bytes(of id: Int32, isFirst: Bool, isLast: Bool) -> ArraySlice<UInt8> {
    let isApart = (isFirst && decoder.treatsFirstApart) || (isLast && decoder.treatsLastApart)
    guard isApart, let token = decodedToken(id) else { return tokenBytes(id) }
    return decoder.decode(token, isFirst: isFirst, isLast: isLast).bytes[...]
  }

  /// The text that the decoder sees of a token: an added token that is searched in normalized texts is normalized too.
  private func decodedToken(_ id: Int32) -> String? { normalizedTokens[id] ?? token(id) }

  /// A decoder for tokens that come one at a time.
  public func makeStreamingDecoder(skipSpecialTokens: Bool = false) -> StreamingDecoder {
    StreamingDecoder(self, skipsSpecialTokens: skipSpecialTokens)
  }
}
