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
