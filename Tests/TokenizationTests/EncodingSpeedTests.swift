import Testing

@testable import Tokenization

/// What makes encoding fast changes no token: remembered words, batches, threads.
@Suite struct EncodingSpeedTests {
  /// Tracking offsets takes no word from memory, so that the two ways check each other.
  @Test(arguments: GoldenKind.all)
  func rememberedWordsAreTheSame(_ kind: GoldenKind) throws {
    let tokenizer = try kind.makeTokenizer()
    var random = Generator(state: 5)
    let units = ["a", "e", "th", "ing", "é", "日", "🙂", "1", "'s", "\u{1}", "▁", "X", "-"]
    var texts: [String] = []
    for length in (1...70).flatMap({ [$0, $0] }) {
      var word = ""
      while word.utf8.count < length { word += units[random.next(units.count)] }
      // At the end of the text and before others, where more bytes may be read.
      texts += [word, word + " " + word + "  and more of a text"]
    }
    for _ in 0..<2 {
      for text in texts {
        #expect(tokenizer.encode(text) == tokenizer.encodeWithOffsets(text).ids, "\(text.debugDescription)")
      }
    }
    // More words than are remembered.
    let many = (0..<60_000).map { _ in String(random.next(1 << 30), radix: 36) }.joined(separator: " ")
    #expect(tokenizer.encode(many) == tokenizer.encodeWithOffsets(many).ids)
  }

  @Test(arguments: ["bytes_cl100k", "characters_llama2"])
  func batchesAreTheSameAsOneByOne(_ name: String) throws {
    let tokenizer = try GoldenKind.named(name).makeTokenizer()
    let texts = (0..<20).flatMap { round in GoldenKind.texts.map { "\($0)\(round)" } }
    for threads in [0, 1, 2, 7] {
      #expect(tokenizer.encodeBatch(texts, threads: threads) == texts.map { tokenizer.encode($0) })
    }
    let plain = tokenizer.encodeBatch(texts, addSpecialTokens: false, parseSpecialTokens: false, threads: 3)
    #expect(plain == texts.map { tokenizer.encode($0, addSpecialTokens: false, parseSpecialTokens: false) })
    #expect(tokenizer.encodeBatch([], threads: 4).isEmpty)
  }

  @Test func theFirstErrorIsThrown() {
    struct Failure: Error, Equatable { var index: Int }
    #expect(throws: Failure(index: 3)) {
      try parallelMap(0..<100, threads: 4) { index throws(Failure) in
        if index % 4 == 3 { throw Failure(index: index) }
        return index
      }
    }
  }

  /// Words of many symbols: one letter, and letters whose merges push each other aside.
  ///
  /// Where the time grew with the square of the length, each would take hours.
  @Test(.timeLimit(.minutes(5)), arguments: ["a", "ab", "th", "the", "日", "🙂", "=", "\u{300}", " ", "\n"])
  func longWordsAreMergedInTime(_ unit: String) throws {
    for name in ["bytes_gpt2", "characters_llama2"] {
      let tokenizer = try GoldenKind.named(name).makeTokenizer()
      let text = String(repeating: unit, count: 1_000_000 / unit.utf8.count)
      #expect(tokenizer.encode(text).count > 100)
    }
  }

  /// Two ways to merge, by search and by heap, around the length where one takes over from the other.
  @Test func longAndShortWordsMergeAlike() throws {
    let tokenizer = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    let reference = try Reference(tokenizer)
    #expect(reference.ranks.count > 100)
    var random = Generator(state: 9)
    let letters = Array("etaoinshr")
    for _ in 0..<200 {
      // A digit ends a word of letters, so the same letters are merged alone and together with others.
      let word = String((0..<(60 + random.next(10))).map { _ in letters[random.next(letters.count)] })
      let ids = tokenizer.encode(word)
      #expect(ids == reference.encode(word), "\(word)")
    }
  }

  /// Byte pairs by the definition: the pair of adjacent tokens with the lowest rank, over and over.
  private struct Reference {
    let tokenizer: Tokenizer
    let ranks: [String: Int]

    init(_ tokenizer: Tokenizer) throws {
      self.tokenizer = tokenizer
      let merges = try goldenJSON("tokenization/model_bytes_gpt2.json")["merges"]?.array ?? []
      var ranks: [String: Int] = [:]
      for (rank, pair) in merges.enumerated() {
        let parts = pair.array?.compactMap(\.string) ?? []
        ranks[parts.joined(separator: " ")] = rank
      }
      self.ranks = ranks
    }

    func encode(_ word: String) -> [Int32] {
      var symbols = word.map { String($0) }
      while true {
        var best: (rank: Int, index: Int)?
        for index in 0..<max(0, symbols.count - 1) {
          if let rank = ranks[symbols[index] + " " + symbols[index + 1]], rank < best?.rank ?? .max {
            best = (rank, index)
          }
        }
        guard let best else { return symbols.compactMap { tokenizer.tokenID($0) } }
        symbols[best.index] += symbols.remove(at: best.index + 1)
      }
    }
  }
}
