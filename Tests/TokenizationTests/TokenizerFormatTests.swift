import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// Against sentencepiece, tiktoken and transformers, on small files of `make_tokenizer_formats.py`.
@Suite struct TokenizerFormatTests {
  /// What one file or folder makes of the sample texts.
  struct Case: CustomTestStringConvertible, Sendable {
    let name: String
    let ids: [[Int32]]
    let decoded: [String?]
    let kind: String
    let configuration: JSONObject

    var testDescription: String { name }

    static func all(_ key: String) -> [Case] {
      (try? goldenJSON("tokenization/formats.json"))?[key]?.array?.map { value in
        Case(
          name: value["name"]?.string ?? "", ids: GoldenKind.ids(value["ids"]),
          decoded: value["decoded"]?.array?.map(\.string) ?? [], kind: value["kind"]?.string ?? "",
          configuration: value["configuration"]?.object ?? [:])
      } ?? []
    }
  }

  static let texts: [String] =
    (try? goldenJSON("tokenization/formats.json"))?["texts"]?.array?.compactMap(\.string) ?? []
  static let models = Case.all("sentencepiece")
  static let ranks = Case.all("ranks")
  static let folders = Case.all("folders")
  static let pairs = Case.all("pairs")

  @Test func goldenValuesAreThere() {
    #expect(Self.models.count == 5 && Self.ranks.count == 3 && Self.folders.count == 6 && Self.pairs.count == 2)
    #expect(Self.texts.count > 60)
  }

  @Test(arguments: models)
  func sentencePieceModels(_ model: Case) throws {
    let tokenizer = try Tokenizer(file: golden("tokenization/\(model.name).model"))
    for (index, text) in Self.texts.enumerated() {
      let encoding = tokenizer.encodeWithOffsets(text, addSpecialTokens: false, parseSpecialTokens: false)
      #expect(encoding.ids == model.ids[index], "\(model.name): \(text.debugDescription)")
      #expect(encoding.ranges.count == encoding.ids.count)
      #expect(encoding.ranges.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= text.utf8.count })
      if let decoded = model.decoded[index] {
        #expect(isSame(tokenizer.decode(encoding.ids), decoded), "\(model.name): \(text.debugDescription)")
      }
    }
  }

  @Test func specialTokensOfModels() throws {
    let pairs = try Tokenizer(file: golden("tokenization/bpe_bytes.model"))
    #expect(pairs.bosTokenID == 1 && pairs.eosTokenID == 2 && pairs.unkTokenID == 0 && pairs.padTokenID == nil)
    #expect(pairs.encode("a").first == 1)
    #expect(pairs.encode("a</s>", addSpecialTokens: false).last == 2)
    #expect(pairs.decode(pairs.encode("It's <s>"), skipSpecialTokens: true) == "It's ")
    let unigram = try Tokenizer(file: golden("tokenization/unigram_rules.model"))
    #expect(unigram.encode("a").last == 2)
  }

  /// The same list of ranks under the name of each pattern.
  @Test(arguments: ranks)
  func lists(_ list: Case) throws {
    let folder = try TemporaryFolder()
    let bytes = TemporaryFolder.bytes(of: golden("tokenization/cl100k_small.tiktoken")) ?? []
    _ = try folder.write("\(list.name)_base.tiktoken", bytes)
    let tokenizer = try Tokenizer(folder: folder.path)
    for (text, ids) in zip(Self.texts, list.ids) {
      #expect(tokenizer.encode(text, parseSpecialTokens: false) == ids, "\(list.name): \(text.debugDescription)")
      #expect(isSame(tokenizer.decode(ids), text))
    }
  }

  @Test(arguments: folders)
  func configurations(_ folder: Case) throws {
    let tokenizer = try GoldenKind.named(folder.kind).makeTokenizer(folder.configuration)
    for (text, ids) in zip(Self.texts, folder.ids) {
      #expect(tokenizer.encode(text) == ids, "\(folder.name): \(text.debugDescription)")
    }
  }

  @Test(arguments: pairs)
  func vocabularyAndMerges(_ pair: Case) throws {
    let folder = try writeVocabularyAndMerges()
    _ = try folder.write("tokenizer_config.json", #"{"tokenizer_class": "\#(pair.name)"}"#)
    let tokenizer = try Tokenizer(folder: folder.path)
    for (text, ids) in zip(Self.texts, pair.ids) {
      #expect(tokenizer.encode(text) == ids, "\(pair.name): \(text.debugDescription)")
    }
  }

  private func writeVocabularyAndMerges() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    let model = try GoldenKind.named("bytes_gpt2").json["model"]
    _ = try folder.write("vocab.json", (model?["vocab"] ?? .null).serialized())
    let merges = model?["merges"]?.array?.map { merge in
      merge.string ?? (merge.array ?? []).compactMap(\.string).joined(separator: " ")
    }
    _ = try folder.write("merges.txt", "#version: 0.2\n" + (merges ?? []).joined(separator: "\n") + "\n")
    return folder
  }

  /// Bytes that are no UTF-8, in texts and from tokens, become the same signs as in Python and in the reference.
  @Test func brokenBytes() throws {
    let level = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    let fallback = try GoldenKind.named("characters_llama2").makeTokenizer()
    let cases = try #require(try goldenJSON("tokenization/formats.json")["broken"]?.array)
    #expect(cases.count > 70)
    for entry in cases {
      let bytes = entry["bytes"]?.array?.compactMap { $0.integer.map { UInt8(truncatingIfNeeded: $0) } } ?? []
      #expect(isSame(String(decoding: bytes, as: UTF8.self), entry["python"]?.string ?? ""))
      let ids = try bytes.map { try #require(level.tokenID(String(ByteAlphabet.scalars[Int($0)]))) }
      #expect(isSame(level.decode(ids), entry["level"]?.string ?? ""), "\(bytes)")
      let digits = bytes.map { String($0, radix: 16, uppercase: true) }
      let lone = try digits.map { try #require(fallback.tokenID("<0x\($0.utf8.count < 2 ? "0" : "")\($0)>")) }
      #expect(isSame(fallback.decode(lone), entry["fallback"]?.string ?? ""), "\(bytes)")
    }
  }

  /// Mistral's file: the same tokens a thousand ids further on.
  @Test func tekken() throws {
    let ranks = try TokenRanks(
      TemporaryFolder.bytes(of: golden("tokenization/cl100k_small.tiktoken")) ?? [], path: "list")
    let lines = String(
      decoding: TemporaryFolder.bytes(of: golden("tokenization/cl100k_small.tiktoken")) ?? [], as: UTF8.self
    )
    .split(separator: "\n")
    let list = lines.enumerated().map { index, line in
      JSONValue.object(["rank": .integer(index), "token_bytes": .string(String(line.prefix { $0 != " " }))])
    }
    let folder = try TemporaryFolder()
    let json: JSONObject = [
      "config": [
        "pattern": .string(KnownPatterns.o200k), "default_num_special_tokens": 10,
        "default_vocab_size": .integer(ranks.tokens.count + 10),
      ], "vocab": .array(list),
    ]
    _ = try folder.write("tekken.json", JSONValue.object(json).serialized())
    let tokenizer = try Tokenizer(folder: folder.path)
    let expected = try #require(Self.ranks.first { $0.name == "o200k" })
    for (text, ids) in zip(Self.texts, expected.ids) {
      #expect(tokenizer.encode(text, parseSpecialTokens: false) == [1] + ids.map { $0 + 10 })
    }
    #expect(tokenizer.encode("[INST]", addSpecialTokens: false) == [3])
  }

  /// Of several files in a folder the first of a fixed order counts.
  @Test func precedence() throws {
    let folder = try writeVocabularyAndMerges()
    #expect(
      try source(folder)
        == .vocabularyAndMerges(
          vocabulary: folder.path + "/vocab.json", merges: folder.path + "/merges.txt"))
    _ = try folder.write("tekken.json", "{}")
    #expect(try source(folder) == .tekken(folder.path + "/tekken.json"))
    let ranks = TemporaryFolder.bytes(of: golden("tokenization/cl100k_small.tiktoken")) ?? []
    let model = try folder.write("tokenizer.model", ranks)
    #expect(try source(folder) == .ranks(model))
    _ = try folder.write("tokenizer.model", TemporaryFolder.bytes(of: golden("tokenization/bpe_rules.model")) ?? [])
    #expect(try source(folder) == .sentencePiece(model))
    let json = try folder.write("tokenizer.json", "{}")
    #expect(try source(folder) == .json(json))
  }

  private func source(_ folder: TemporaryFolder) throws -> TokenizerSource {
    try TokenizerSource.find(in: folder.path)
  }

  @Test func lonelyFiles() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("any.model", TemporaryFolder.bytes(of: golden("tokenization/bpe_bytes.model")) ?? [])
    #expect(try Tokenizer(path: path).bosTokenID == 1)
    #expect(try Tokenizer(path: folder.path).bosTokenID == 1)
    _ = try folder.write("tokenizer.json", #"{"model":\#(TokenizerFileTests.model)}"#)
    #expect(try Tokenizer(path: folder.path + "/tokenizer.json").encode("ab") == [2])
    let pair = try writeVocabularyAndMerges()
    #expect(try Tokenizer(path: pair.path + "/merges.txt").encode("The", addSpecialTokens: false).count > 0)
  }
}

/// Files that are damaged or made to do harm: each ends in one line that names it, or in a tokenizer.
@Suite struct HostileTokenizerFileTests {
  private func message(_ name: String, _ bytes: [UInt8]) throws -> String {
    let folder = try TemporaryFolder()
    let path = try folder.write(name, bytes)
    do {
      _ = try Tokenizer(file: path)
      return "no error"
    } catch {
      let line = "\(error)"
      #expect(!line.contains("\n"), "one line: \(line)")
      #expect(line.contains(path), "names the file: \(line)")
      return line
    }
  }

  /// A field of a length: its number, the length, the bytes.
  private func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2, UInt8(bytes.count)] + bytes }

  private func piece(_ text: String, type: UInt8? = nil) -> [UInt8] {
    field(1, field(1, Array(text.utf8)) + (type.map { [0x18, $0] } ?? []))
  }

  @Test func sentencePieceModels() throws {
    let unknown = piece("<unk>", type: 2)
    func message(_ bytes: [UInt8]) throws -> String { try self.message("tokenizer.model", bytes) }
    #expect(try message([]).contains("not a tokenizer"))
    #expect(try message([0x0A]).contains("ends within a number"))
    #expect(try message([0x0A, 0x05, 0x0A]).contains("a length of 5 where 1 bytes are left"))
    #expect(try message([0x0A] + [UInt8](repeating: 0xFF, count: 9) + [0x01]).contains("bytes are left"))
    #expect(try message([0x0A] + [UInt8](repeating: 0xFF, count: 20)).contains("more than 64 bits"))
    #expect(try message(unknown + [0x07]).contains("no field has the number 0"))
    #expect(try message(unknown + [0x0B]).contains("wire type 3"))
    #expect(try message(field(1, [0x15, 0, 0])).contains("ends within a number"))
    #expect(try message(field(1, [0x15, 0, 0, 0, 0])).contains("piece 0 has no text"))
    #expect(try message(field(1, field(1, [0xFF]))).contains("not valid UTF-8"))
    #expect(try message(field(1, field(1, [0x61]) + [0x15, 0, 0, 0xC0, 0x7F])).contains("not a number"))
    #expect(try message(piece("a", type: 9)).contains("of the kind 9"))
    #expect(try message(piece("a")).contains("no piece stands for the unknown"))
    #expect(try message(unknown + piece("b", type: 2)).contains("second unknown"))
    #expect(try message(unknown + piece("a") + piece("a")).contains("there twice"))
    #expect(try message(unknown + piece("x", type: 6)).contains("no byte"))
    #expect(try message(unknown + field(2, [0x18, 3])).contains("words"))
    #expect(try message(unknown + field(2, [0x18, 9])).contains("model_type 9"))
    #expect(try message(unknown + field(2, [0x98, 2, 1])).contains("no piece stands for the byte 0"))
    #expect(try message(unknown + field(3, field(2, [1, 2]))).contains("too short"))
    #expect(try message(unknown + field(3, field(2, [8, 0, 0, 0, 1, 2, 3, 4]))).contains("its trie has 8 bytes"))
    #expect(try message(unknown + field(3, field(2, [0xFF, 0xFF, 0xFF, 0xFF, 1]))).contains("its trie has"))
    #expect(try message(unknown + piece("a")) == "no error")
  }

  @Test func listsOfRanks() throws {
    let good = TemporaryFolder.bytes(of: golden("tokenization/cl100k_small.tiktoken")) ?? []
    func message(_ bytes: [UInt8], _ name: String = "cl100k.tiktoken") throws -> String {
      try self.message(name, bytes)
    }
    #expect(try message(good) == "no error")
    #expect(try message(good, "other.tiktoken").contains("is none of cl100k"))
    #expect(try message(Array("IQ== 0\n".utf8)).contains("no token stands for the byte 0"))
    #expect(try message(Array("IQ== 0\nIQ== 1\n".utf8)).contains(":2: a token for the second time"))
    #expect(try message(Array("IQ== 0\nIg== 0\n".utf8)).contains(":2: the rank 0 for the second time"))
    #expect(try message(Array("IQ== 0\nIg==\n".utf8)).contains(":2: must be"))
    #expect(try message(Array("IQ== 0\nI 1\n".utf8)).contains(":2: must be"))
    #expect(try message(Array("IQ== 0\n? 1\n".utf8)).contains(":2: must be"))
    #expect(try message(Array("IQ== 0\nIg== -1\n".utf8)).contains(":2: must be"))
    #expect(try message(Array("IQ== 0\nIg== 99999999999999999999\n".utf8)).contains(":2: must be"))
    #expect(try message(Array("IQ== 0\nIg== 4000000000\n".utf8)).contains("the rank is 4000000000"))
    #expect(try message(good + Array("= 100000\n".utf8)).contains("must be a token"))
  }

  @Test func vocabulariesAndMerges() throws {
    let folder = try TemporaryFolder()
    func message(_ vocabulary: String, _ merges: String?) throws -> String {
      _ = try folder.write("vocab.json", vocabulary)
      TemporaryFolder.removeAll(folder.path + "/merges.txt")
      if let merges { _ = try folder.write("merges.txt", merges) }
      do {
        _ = try Tokenizer(file: folder.path + "/vocab.json")
        return "no error"
      } catch {
        #expect(!"\(error)".contains("\n"))
        return "\(error)"
      }
    }
    let vocabulary = #"{"a":0,"b":1,"ab":2}"#
    #expect(try message(vocabulary, "a b\n") == "no error")
    #expect(try message(vocabulary, "#version: 0.2\r\na b\r\n\r\n") == "no error")
    #expect(try message(vocabulary, nil).contains("merges.txt: no such file"))
    #expect(try message("[]", "").contains("must be a JSON object"))
    #expect(try message("{", "").contains("line 1"))
    #expect(try message(#"{"a":"0"}"#, "").contains("not an integer"))
    #expect(try message(#"{"a":5000000}"#, "").contains("5000000"))
    #expect(try message("{}", "").contains("empty"))
    #expect(try message(vocabulary, "a b\na\n").contains("merges.txt:2: must be two tokens"))
    #expect(try message(vocabulary, "a  b\n").contains("merges.txt:1: must be two tokens"))
    #expect(try message(vocabulary, "a x\n").contains("\"x\", which is not in the vocabulary"))
    #expect(try message(vocabulary, "b a\n").contains("\"ba\", which is not in the vocabulary"))
  }

  @Test func tekkenFiles() throws {
    func message(_ text: String) throws -> String { try self.message("tekken.json", Array(text.utf8)) }
    #expect(try message("{}").contains("config.pattern"))
    #expect(try message(#"{"config":{"pattern":"("},"vocab":[]}"#).contains("no token stands for the byte 0"))
    #expect(try message(#"{"config":{"pattern":"a"},"vocab":[{"rank":5,"token_bytes":"IQ=="}]}"#).contains("vocab[0]"))
    #expect(try message(#"{"config":{"pattern":"a"},"vocab":[{"token_bytes":"?"}]}"#).contains("vocab[0]"))
    #expect(
      try message(#"{"config":{"pattern":"a","default_num_special_tokens":-1},"vocab":[]}"#).contains("out of range"))
  }

  /// Random damage to binary files and lists.
  @Test func damagedFiles() throws {
    let folder = try TemporaryFolder()
    var random = SeededRandom(seed: 5)
    for name in [
      "bpe_bytes.model", "bpe_rules.model", "unigram_rules.model", "unigram_suffix.model", "cl100k_small.tiktoken",
    ] {
      let original = TemporaryFolder.bytes(of: golden("tokenization/" + name)) ?? []
      #expect(!original.isEmpty)
      var read = 0
      for _ in 0..<150 {
        var bytes = original
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          let place = Int.random(in: 0..<bytes.count, using: &random)
          switch Int.random(in: 0..<4, using: &random) {
          case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
          case 1: bytes.remove(at: place)
          case 2: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
          default: bytes.removeLast(min(bytes.count - 1, Int.random(in: 1...40, using: &random)))
          }
        }
        let path = try folder.write(name, bytes)
        do {
          let tokenizer = try Tokenizer(file: path)
          read += 1
          for text in ["Hello, wörld! 123  <sep> ﬁne ①\u{301} 🙂", "\u{FF21}\u{FF22}\u{AD}  the shells"] {
            _ = tokenizer.decode(tokenizer.encodeWithOffsets(text).ids)
          }
        } catch {
          #expect("\(error)".contains(path) && !"\(error)".contains("\n"), "\(error)")
        }
      }
      #expect(read > 0, "\(name): nothing was read")
    }
  }

  /// A map whose trie leads everywhere: a search ends at the first index beyond it.
  @Test func characterMaps() throws {
    var random = SeededRandom(seed: 9)
    for _ in 0..<200 {
      let units = Int.random(in: 1...63, using: &random)
      var bytes: [UInt8] = [UInt8(units * 4), 0, 0, 0]
      bytes += (0..<units * 4 + Int.random(in: 0...9, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      let map = try PrecompiledCharacterMap(bytes, at: "map")
      let text = (0..<40).map { _ in UInt8.random(in: 0...255, using: &random) }
      text.withUnsafeBufferPointer { text in
        guard let base = text.baseAddress else { return }
        for start in 0..<40 {
          for longest in [true, false] {
            if let match = map.match(base + start, 40 - start, longest: longest) {
              #expect((1...40 - start).contains(match.length))
            }
          }
        }
      }
    }
  }

  @Test func base64() {
    #expect(Base64.decode("".utf8) == [])
    #expect(Base64.decode("IQ==".utf8) == [0x21])
    #expect(Base64.decode("IQ".utf8) == [0x21])
    #expect(Base64.decode("AAEC/w==".utf8) == [0, 1, 2, 255])
    #expect(Base64.decode("AAE=".utf8) == [0, 1])
    for text in ["I", "IQ=", "IQ===", "I?==", "IQ==IQ==", "=", "===="] {
      #expect(Base64.decode(text.utf8) == nil, "\(text)")
    }
  }
}
