import JSONValues
import Testing

@testable import Tokenization

/// Against Hugging Face's `tokenizers`, on small tokenizers of every kind that models ship.
@Suite struct EncodingTests {
  @Test func goldenValuesAreThere() {
    #expect(GoldenKind.all.count == 28)
    #expect(GoldenKind.texts.count > 50)
  }

  @Test(arguments: GoldenKind.all)
  func ids(_ kind: GoldenKind) throws {
    let tokenizer = try kind.makeTokenizer()
    for (text, ids) in zip(GoldenKind.texts, kind.ids) {
      #expect(tokenizer.encode(text) == ids, "\(kind.name): \(text.debugDescription)")
    }
  }

  @Test(arguments: GoldenKind.all)
  func decodedTexts(_ kind: GoldenKind) throws {
    let tokenizer = try kind.makeTokenizer()
    for (text, decoded) in zip(GoldenKind.texts, kind.decoded) {
      let result = tokenizer.decode(tokenizer.encode(text, addSpecialTokens: false))
      #expect(isSame(result, decoded), "\(kind.name): \(text.debugDescription)")
    }
    for (ids, skipped) in zip(kind.ids.dropFirst(36), kind.skipped) {
      #expect(isSame(tokenizer.decode(ids, skipSpecialTokens: true), skipped))
    }
  }

  @Test(arguments: GoldenKind.all)
  func rangesFollowTheText(_ kind: GoldenKind) throws {
    let tokenizer = try kind.makeTokenizer()
    for (text, ids) in zip(GoldenKind.texts, kind.ids) {
      let encoding = tokenizer.encodeWithOffsets(text)
      #expect(encoding.ids == ids)
      #expect(encoding.ranges.count == ids.count)
      var (start, end) = (0, 0)
      for range in encoding.ranges {
        #expect(range.lowerBound >= 0 && range.upperBound <= text.utf8.count)
        if !range.isEmpty {
          // Bytes that were composed from several characters share their range.
          #expect(range.lowerBound >= start && range.upperBound >= end, "\(kind.name): \(text.debugDescription)")
          (start, end) = (range.lowerBound, range.upperBound)
        }
      }
    }
  }

  @Test(arguments: GoldenKind.all)
  func streamingGivesTheSameText(_ kind: GoldenKind) throws {
    let tokenizer = try kind.makeTokenizer()
    for text in GoldenKind.texts {
      let ids = tokenizer.encode(text)
      var decoder = tokenizer.makeStreamingDecoder()
      var streamed = ""
      for id in ids {
        if let part = decoder.append(id) {
          #expect(!part.isEmpty)
          // Only the text itself may have the sign for what is no character, or a lone byte's token in it.
          #expect(
            !part.unicodeScalars.contains("\u{FFFD}") || tokenizer.decode(ids).unicodeScalars.contains("\u{FFFD}"))
          streamed += part
        }
      }
      streamed += decoder.finish() ?? ""
      #expect(isSame(streamed, tokenizer.decode(ids)), "\(kind.name): \(text.debugDescription)")
    }
  }

  @Test func byteLevelRangesCoverTheText() throws {
    let tokenizer = try GoldenKind.named("bytes_digits").makeTokenizer()
    for text in GoldenKind.texts {
      let bytes = Array(text.utf8)
      for (id, range) in zip(tokenizer.encodeWithOffsets(text).ids, tokenizer.encodeWithOffsets(text).ranges) {
        #expect(Array(tokenizer.tokenBytes(id)) == Array(bytes[range]))
      }
    }
  }

  /// Bytes without a token leave no trace in the ids, and move no other token's range.
  @Test func rangesBesideBytesWithoutTokens() throws {
    var kind = try GoldenKind.named("bytes_gpt2")
    let gap = String(ByteAlphabet.scalars[0x13])
    let model = kind.json["model"]?.object ?? [:]
    var vocabulary = JSONObject()
    for (text, id) in model["vocab"]?.object ?? [:] where !isSame(text, gap) { vocabulary[text] = id }
    var smaller = model
    smaller["vocab"] = .object(vocabulary)
    kind.json["model"] = .object(smaller)
    let tokenizer = try kind.makeTokenizer()
    for text in [
      "\u{13}b c", "a\u{13}b", "x \u{13}\u{13} y\u{13} the end", "\u{13}", String(repeating: "\u{13}!", count: 200),
    ] {
      let bytes = Array(text.utf8)
      let encoding = tokenizer.encodeWithOffsets(text)
      #expect(encoding.ids == tokenizer.encode(text) && encoding.ranges.count == encoding.ids.count)
      for (id, range) in zip(encoding.ids, encoding.ranges) {
        #expect(Array(tokenizer.tokenBytes(id)) == bytes[range].filter { $0 != 0x13 }, "\(text.debugDescription)")
      }
    }
  }

  @Test func specialTokensCanBeText() throws {
    let tokenizer = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    let end = try #require(tokenizer.tokenID("<|end|>"))
    #expect(tokenizer.encode("a<|end|>").contains(end))
    let asText = tokenizer.encode("a<|end|>", parseSpecialTokens: false)
    #expect(!asText.contains(end))
    #expect(tokenizer.decode(asText) == "a<|end|>")
    #expect(tokenizer.decode(tokenizer.encode("a<|end|>b"), skipSpecialTokens: true) == "ab")
  }

  @Test func bosOnRequestOnly() throws {
    let tokenizer = try GoldenKind.named("bytes_llama3").makeTokenizer()
    let bos = try #require(tokenizer.tokenID("<s>"))
    #expect(tokenizer.encode("Hello").first == bos)
    #expect(tokenizer.encode("Hello", addSpecialTokens: false).first != bos)
    #expect(tokenizer.encode("") == [bos])
  }

  @Test func unknownIDsDecodeToNothing() throws {
    let tokenizer = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    #expect(tokenizer.decode([-1, 1_000_000, .max, .min]).isEmpty)
    #expect(tokenizer.token(-1) == nil)
    #expect(tokenizer.token(.max) == nil)
    #expect(tokenizer.tokenID("no such token") == nil)
    #expect(tokenizer.tokenID("") == nil)
  }

  /// Long runs without a place to cut: time grows with the length, not with its square.
  @Test(arguments: ["a", " ", "é", "🙂", "\n", "1", "'", "ab", "<", "<|", " a", "日本", "\u{301}", "\u{323}\u{301}", "ᄀ"])
  func longRuns(_ unit: String) throws {
    for name in ["bytes_cl100k", "bytes_digits", "characters_llama2", "unigram_bytes", "nfkd", "nfkc", "charsmap"] {
      let tokenizer = try GoldenKind.named(name).makeTokenizer()
      let text = String(repeating: unit, count: 400_000 / unit.utf8.count)
      let time = processorSeconds { #expect(!tokenizer.encode(text).isEmpty) }
      #expect(time < 5, "\(name): \(time) s")
    }
  }
}
