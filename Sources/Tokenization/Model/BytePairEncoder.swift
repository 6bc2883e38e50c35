/// Byte-pair encoding of one word at a time: symbols are joined in the order of the merges' ranks, leftmost first.
///
/// Works on bytes (GPT-2's way, each byte a symbol) or on characters (SentencePiece's way, with bytes as a fallback).
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
  }

  private let table: TokenTable
  private let merges: PairTable
  private let options: Options
  /// The token of each byte: its symbol, or its fallback; -1 when there is none.
  private let byteTokens: [Int32]
  private let hasAllByteTokens: Bool
  /// Per id: whether a word equal to the token's bytes is encoded as just this token.
  private var isWhole: [Bool] = []

  /// Makes an encoder.
  ///
  /// `table` maps what `options.alphabet` says; `merges` maps pairs of ids to rank and result.
  init(table: TokenTable, merges: PairTable, byteTokens: [Int32], options: Options) {
    self.table = table
    self.merges = merges
    self.options = options
    self.byteTokens = byteTokens
    hasAllByteTokens = byteTokens.count == 256 && !byteTokens.contains(-1)
  }

  /// Finds out which tokens a word can be replaced with at once.
  ///
  /// `tokens` yields id and bytes.
  func prepareWholeWords(count: Int, _ tokens: some Sequence<(id: Int32, bytes: [UInt8])>) {
    var isWhole = [Bool](repeating: false, count: count)
    let scratch = Scratch()
    for (id, bytes) in tokens where !bytes.isEmpty && Int(id) < count {
      var output = Output(tracksLengths: false)
      bytes.withUnsafeBufferPointer { bytes in
        if let base = bytes.baseAddress { merge(base, bytes.count, scratch, &output) }
      }
      isWhole[Int(id)] = output.ids.count == 1 && output.ids[0] == id
    }
    self.isWhole = isWhole
  }

  /// The tokens of a text as they come.
  struct Output {
    var ids: [Int32] = []
    /// How many bytes of the word each token stands for; empty unless they are tracked.
    var lengths: [Int32] = []
    let tracksLengths: Bool

    @inline(__always)
    mutating func append(_ id: Int32, length: Int) {
      ids.append(id)
      if tracksLengths { lengths.append(Int32(truncatingIfNeeded: length)) }
    }
  }

  /// Working memory for words; one per thread and call.
  final class Scratch {
    static let capacity = 96
    let ids = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
    let lengths = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
    let ranks = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
    let results = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)

    deinit {
      ids.deallocate()
      lengths.deallocate()
      ranks.deallocate()
      results.deallocate()
    }
  }

  /// Appends the tokens of a word of at least one byte.
  @inline(__always)
  func encode(_ word: UnsafePointer<UInt8>, _ count: Int, _ scratch: Scratch, _ output: inout Output) {
    let id = table.lookup(word, count)
    if id >= 0, options.ignoresMerges || (Int(id) < isWhole.count && isWhole[Int(id)]) {
      output.append(id, length: count)
    } else {
      merge(word, count, scratch, &output)
    }
  }

  private func merge(_ word: UnsafePointer<UInt8>, _ count: Int, _ scratch: Scratch, _ output: inout Output) {
    if count <= Scratch.capacity {
      var symbols = 0
      forEachSymbol(word, count) { id, length in
        scratch.ids[symbols] = id
        scratch.lengths[symbols] = Int32(truncatingIfNeeded: length)
        symbols += 1
      }
      mergeShort(scratch, symbols, &output)
    } else {
      var longWord = LongWord(capacity: count)
      forEachSymbol(word, count) { id, length in longWord.append(id, length) }
      longWord.merge(with: merges)
      longWord.forEach { id, length in output.append(id, length: length) }
    }
  }

  /// Calls `body` with the symbols that a word starts as.
  @inline(__always)
  private func forEachSymbol(_ word: UnsafePointer<UInt8>, _ count: Int, _ body: (Int32, Int) -> Void) {
    var pendingUnknown = 0
    func flush() {
      if pendingUnknown > 0, let unknown = options.unknown { body(unknown, pendingUnknown) }
      pendingUnknown = 0
    }
    func meetUnknown(_ length: Int) {
      if !options.fusesUnknown { flush() }
      pendingUnknown += length
    }
    switch options.alphabet {
    case .bytes:
      for index in 0..<count {
        let id = byteTokens[Int(word[index])]
        if id >= 0 {
          flush()
          body(id, 1)
        } else {
          meetUnknown(1)
        }
      }
    case .characters:
      var index = 0
      while index < count {
        let length = min(UTF8Bytes.length(word[index]), count - index)
        let id = table.lookup(word + index, length)
        if id >= 0 {
          flush()
          body(id, length)
        } else if options.usesByteFallback && hasAllByteTokens {
          for offset in 0..<length { body(byteTokens[Int(word[index + offset])], 1) }
        } else {
          meetUnknown(length)
        }
        index += length
      }
    }
    flush()
  }

  /// Joins the symbols of `scratch` by searching the lowest rank again and again: the fastest way for words.
  private func mergeShort(_ scratch: Scratch, _ symbols: Int, _ output: inout Output) {
    let (ids, lengths, ranks, results) = (scratch.ids, scratch.lengths, scratch.ranks, scratch.results)
    var count = symbols
    var pair = 0
    while pair + 1 < count {
      (ranks[pair], results[pair]) = merges.lookup(ids[pair], ids[pair + 1])
      pair += 1
    }
    while count > 1 {
      var best = 0
      var bestRank = ranks[0]
      var index = 1
      while index < count - 1 {
        if ranks[index] < bestRank { (best, bestRank) = (index, ranks[index]) }
        index += 1
      }
      if bestRank == PairTable.none { break }
      ids[best] = results[best]
      lengths[best] += lengths[best + 1]
      index = best + 1
      while index < count - 1 {
        ids[index] = ids[index + 1]
        lengths[index] = lengths[index + 1]
        ranks[index] = ranks[index + 1]
        results[index] = results[index + 1]
        index += 1
      }
      count -= 1
      if best > 0 { (ranks[best - 1], results[best - 1]) = merges.lookup(ids[best - 1], ids[best]) }
      if best + 1 < count { (ranks[best], results[best]) = merges.lookup(ids[best], ids[best + 1]) }
    }
    for index in 0..<count { output.append(ids[index], length: Int(lengths[index])) }
  }
}
