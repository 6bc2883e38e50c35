import CTokenization

/// Byte-pair encoding of one word at a time: symbols are joined in the order of the merges' ranks, leftmost first.
///
/// Works on bytes (GPT-2's way, each byte a symbol) or on characters (SentencePiece's way, with bytes as a fallback).
/// The loops are C (`byte_pairs.c`).
final class BytePairEncoder: @unchecked Sendable {
  /// What a word's first symbols are.
  enum Alphabet: Sendable {
    /// Each byte is a symbol; the table's keys are the raw bytes of the tokens.
    case bytes
    /// Each character is a symbol; the table's keys are the tokens' own text.
    case characters
  }

  struct Options: Sendable {
    var alphabet: Alphabet
    /// Whether a word that is a token stays whole, whatever the merges say.
    var ignoresMerges = false
    /// Whether a character without a token becomes its bytes' tokens (`<0xE2>`).
    var usesByteFallback = false
    /// What stands for a character without a token; without it the character is left out.
    var unknown: Int32?
    /// Whether unknown characters in a row become one token.
    var fusesUnknown = false
    /// Whether no token has U+2581 after another character, so that words may be cut before it.
    var splitsAtMarks = false
  }

  /// Its pointers lead into the tables below and `storage`.
  private let model: UnsafeMutablePointer<sl_byte_pairs>
  private let options: Options
  private let table: TokenTable
  private let merges: PairTable
  private let byteTokens: UnsafeMutablePointer<Int32>
  private var isWhole: UnsafeMutablePointer<UInt8>?

  /// Makes an encoder.
  ///
  /// `table` maps what `options.alphabet` says; `merges` maps pairs of ids to rank and result; `byteTokens` has the
  /// token of each byte, its symbol or its fallback, or -1 when there is none. No table may change afterwards.
  init(table: TokenTable, merges: PairTable, byteTokens: [Int32], options: Options) {
    self.options = options
    self.table = table
    self.merges = merges
    self.byteTokens = .allocate(capacity: 256)
    for byte in 0..<256 { self.byteTokens[byte] = byte < byteTokens.count ? byteTokens[byte] : -1 }
    let hasAllByteTokens = byteTokens.count == 256 && !byteTokens.contains(-1)
    model = .allocate(capacity: 1)
    model.initialize(
      to: sl_byte_pairs(
        tokens: table.tokens, merges: UnsafePointer(merges.slots), merge_mask: merges.mask,
        byte_tokens: UnsafePointer(self.byteTokens), is_whole: nil, whole_count: 0, longest_token: table.longest,
        unknown: options.unknown ?? -1, takes_characters: options.alphabet == .characters,
        ignores_merges: options.ignoresMerges, falls_back_to_bytes: options.usesByteFallback && hasAllByteTokens,
        fuses_unknown: options.fusesUnknown))
  }

  deinit {
    model.deallocate()
    byteTokens.deallocate()
    isWhole?.deallocate()
  }

  /// Finds out which tokens a word can be replaced with at once.
  ///
  /// `tokens` yields id and bytes; `count` is more than the highest id.
  func prepareWholeWords(count: Int, _ tokens: some Sequence<(id: Int32, bytes: [UInt8])>) {
    let isWhole = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, count))
    isWhole.initialize(repeating: 0, count: max(1, count))
    let scratch = Scratch(shortWords: 1, mediumWords: 1)
    var output = Output(tracksLengths: false)
    for (id, bytes) in tokens where !bytes.isEmpty && Int(id) < count {
      output.ids.removeAll(keepingCapacity: true)
      bytes.withUnsafeBufferPointer { if let base = $0.baseAddress { encode(base, $0.count, scratch, &output) } }
      isWhole[Int(id)] = output.ids.count == 1 && output.ids[0] == id ? 1 : 0
    }
    self.isWhole?.deallocate()
    self.isWhole = isWhole
    model.pointee.is_whole = UnsafePointer(isWhole)
    model.pointee.whole_count = count
  }

  /// The tokens of a text as they come.
  struct Output {
    var ids: [Int32] = []
    /// How many bytes of the word each token stands for; empty unless they are tracked.
    ///
    /// Where they are, bytes that have no token may be one with the id -1.
    var lengths: [Int32] = []
    let tracksLengths: Bool

    @inline(__always)
    mutating func append(_ id: Int32, length: Int) {
      ids.append(id)
      if tracksLengths { lengths.append(Int32(truncatingIfNeeded: length)) }
    }
  }

  /// Appends the tokens of a word of at least one byte.
  func encode(_ word: UnsafePointer<UInt8>, _ count: Int, _ scratch: Scratch, _ output: inout Output) {
    if options.splitsAtMarks {
      encode(words: .marks, of: word, 0..<count, readable: count, scratch, &output)
    } else {
      withUnsafePointer(to: count) { end in
        encode(word, from: 0, to: UnsafeBufferPointer(start: end, count: 1), readable: count, scratch, &output)
      }
    }
  }

  /// Appends the tokens of the words that a scanner finds in a range; `readable` bytes may be read.
  func encode(
    words: WordScanner, of text: UnsafePointer<UInt8>, _ range: Range<Int>, readable: Int, _ scratch: Scratch,
    _ output: inout Output
  ) {
    words.forEachBatch(of: text, range, readable: readable) { start, ends in
      encode(text, from: start, to: ends, readable: readable, scratch, &output)
    }
  }

  /// Appends the tokens of words that follow one another from `start` on; none is empty.
  private func encode(
    _ text: UnsafePointer<UInt8>, from start: Int, to ends: UnsafeBufferPointer<Int>, readable: Int,
    _ scratch: Scratch, _ output: inout Output
  ) {
    var start = start
    var done = 0
    while done < ends.count {
      var produced = 0
      let count = sl_encode_words(
        model, scratch.memory, text, readable, start, ends.baseAddress.map { $0 + done }, ends.count - done,
        output.tracksLengths, &produced)
      if count == 0 {
        scratch.reserve(ends[done] - start)
        continue
      }
      output.ids.append(contentsOf: UnsafeBufferPointer(start: scratch.memory.pointee.ids, count: produced))
      if output.tracksLengths {
        output.lengths.append(contentsOf: UnsafeBufferPointer(start: scratch.memory.pointee.lengths, count: produced))
      }
      done += count
      start = ends[done - 1]
    }
  }
}
