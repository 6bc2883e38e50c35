import CTokenization

/// A way to cut texts into words that has a function of its own instead of a regular expression.
struct WordScanner: Sendable, Equatable {
  let kind: sl_word_kind

  /// GPT-2's pattern, as `ByteLevel` uses it.
  static let gpt2 = WordScanner(kind: SL_WORDS_GPT2)
  /// Each number a word of its own, and GPT-2's pattern between them.
  static let digitsThenGPT2 = WordScanner(kind: SL_WORDS_DIGITS_GPT2)
  /// A cut before each U+2581 that another character precedes.
  static let marks = WordScanner(kind: SL_WORDS_MARKS)

  /// GPT-4's pattern.
  static let cl100k = WordScanner(kind: SL_WORDS_CL100K)
  /// GPT-4's pattern as tiktoken has it since 0.7.
  static let tiktokenCL100K = WordScanner(kind: SL_WORDS_CL100K_TAIL)

  private init(kind: sl_word_kind) { self.kind = kind }

  /// The scanner that finds the same words as a pattern, which must be one of those known letter by letter.
  init?(pattern: String) {
    guard let kind = Self.kinds[pattern] else { return nil }
    self.init(kind: kind)
  }

  private static let kinds: [String: sl_word_kind] = [
    KnownPatterns.gpt2: SL_WORDS_GPT2,
    // tiktoken's ways to write the same.
    #"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#: SL_WORDS_GPT2,
    #"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"#: SL_WORDS_GPT2,
    KnownPatterns.cl100k(digits: "{1,3}"): SL_WORDS_CL100K,
    KnownPatterns.tiktokenCL100K: SL_WORDS_CL100K_TAIL,
    KnownPatterns.cl100k(digits: ""): SL_WORDS_QWEN2,
    KnownPatterns.qwen35: SL_WORDS_QWEN35,
    KnownPatterns.o200k: SL_WORDS_O200K,
    KnownPatterns.tekken: SL_WORDS_TEKKEN,
  ]

  /// Calls `body` with the ends of the words of a range, some hundreds at a time; the first begins where the range does.
  ///
  /// The range is cut as a text of its own; `readable` bytes, its end at least, may be read.
  @inline(__always)
  func forEachBatch(
    of base: UnsafePointer<UInt8>, _ range: Range<Int>, readable: Int,
    _ body: (_ start: Int, _ ends: UnsafeBufferPointer<Int>) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: Int.self, capacity: 256) { ends in
      var words = sl_words(
        text: base, position: range.lowerBound, end: range.upperBound, readable: readable,
        classes: UnicodeClasses.table, stretch_end: range.lowerBound, kind: kind)
      while true {
        let start = words.position
        let count = sl_next_words(&words, ends.baseAddress, ends.count)
        if count == 0 { break }
        body(start, UnsafeBufferPointer(rebasing: ends[..<count]))
      }
    }
  }
}
