import Testing

@testable import Tokenization

@Suite struct StreamingDecoderTests {
  @Test func waitsForWholeCharacters() throws {
    let tokenizer = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    // The four bytes of one character as four tokens.
    let ids = try Array("🙂".utf8).map { try #require(tokenizer.tokenID(String(ByteAlphabet.scalars[Int($0)]))) }
    var decoder = tokenizer.makeStreamingDecoder()
    #expect(ids.dropLast().allSatisfy { decoder.append($0) == nil })
    #expect(ids.last.flatMap { decoder.append($0) } == "🙂")
    #expect(decoder.finish() == nil)
  }

  @Test func brokenBytesDoNotHoldUpTheRest() throws {
    let tokenizer = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    func id(_ byte: UInt8) throws -> Int32 { try #require(tokenizer.tokenID(String(ByteAlphabet.scalars[Int(byte)]))) }
    var decoder = tokenizer.makeStreamingDecoder()
    #expect(try decoder.append(id(0xF0)) == nil)
    #expect(try decoder.append(id(0x41)) == "\u{FFFD}A")
    #expect(try decoder.append(id(0xFF)) == "\u{FFFD}")
    #expect(try decoder.append(id(0xE2)) == nil)
    #expect(try decoder.append(id(0x82)) == nil)
    #expect(decoder.finish() == "\u{FFFD}")
  }

  @Test func specialTokensCanBeLeftOut() throws {
    let tokenizer = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    let ids = tokenizer.encode("a<|end|>b")
    var decoder = tokenizer.makeStreamingDecoder(skipSpecialTokens: true)
    #expect(ids.compactMap { decoder.append($0) }.joined() == "ab")
  }

  /// Piece by piece is the same text as at once, and no piece has half a character.
  @Test(arguments: GoldenKind.all)
  func sameAsAtOnce(_ kind: GoldenKind) throws {
    let tokenizer = try kind.makeTokenizer()
    let units = [
      "a", "the ", " ", "  ", "é", "日本", "🙂", "👩\u{200D}👩", "e\u{301}", "\n", "1", "'s", "<|end|>", "\u{1}", "▁",
    ]
    for skips in [false, true] {
      for _ in 0..<100 {
        let text = (0..<Int.random(in: 0...20)).map { _ in units.randomElement() ?? "" }.joined()
        let ids = tokenizer.encode(text)
        var decoder = tokenizer.makeStreamingDecoder(skipSpecialTokens: skips)
        let pieces = ids.compactMap { decoder.append($0) } + [decoder.finish()].compactMap { $0 }
        let whole = tokenizer.decode(ids, skipSpecialTokens: skips)
        #expect(isSame(pieces.joined(), whole), "\(text.debugDescription)")
        #expect(pieces.allSatisfy { !$0.isEmpty && !$0.contains("\u{FFFD}") }, "\(text.debugDescription)")
      }
    }
  }

  /// Ids that no text gives, most of them broken UTF-8.
  @Test(arguments: ["bytes_gpt2", "bytes_cl100k", "bytes_digits", "bytes_llama3"])
  func anyIDsOfBytes(_ name: String) throws {
    let tokenizer = try GoldenKind.named(name).makeTokenizer()
    for _ in 0..<500 {
      // Single bytes often, so that characters break everywhere.
      let ids = (0..<Int.random(in: 1...12)).map { _ in
        Int32.random(in: 0..<Int32(Bool.random() ? 300 : tokenizer.vocabularySize))
      }
      var decoder = tokenizer.makeStreamingDecoder()
      let pieces = ids.compactMap { decoder.append($0) } + [decoder.finish()].compactMap { $0 }
      #expect(isSame(pieces.joined(), tokenizer.decode(ids)), "\(ids)")
    }
  }

  /// All ways to end a text within a character.
  @Test func completeLengths() {
    let bytes = Array("aé€🙂".utf8)
    let expected = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10]
    for (length, complete) in expected.enumerated() {
      #expect(StreamingDecoder.completeLength(Array(bytes[..<length])) == complete)
    }
    #expect(StreamingDecoder.completeLength([0xE0, 0x80]) == 2)
    #expect(StreamingDecoder.completeLength([0xC1]) == 1)
    #expect(StreamingDecoder.completeLength([0x80, 0x80, 0x80]) == 3)
  }
}
