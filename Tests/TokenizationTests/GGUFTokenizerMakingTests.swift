import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// Tokenizers of folders as the metadata of a GGUF.
@Suite struct GGUFTokenizerMakingTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func made(
    _ json: JSONValue, config: JSONObject = ["bos_token": "<s>", "eos_token": "</s>"], rows: Int = 300
  ) throws -> GGUFTokenizerMetadata {
    try TinyTokenizer.write(json, config: config, to: folder)
    return try GGUFTokenizerMetadata(folder: folder.path, overrides: nil, rowCount: rows)
  }

  @Test func waysToCutGetTheNamesOfLlamaCPP() throws {
    func name(_ steps: [JSONValue], ignoresMerges: Bool = false) throws -> String {
      var json = try #require(TinyTokenizer.byteLevel(steps).object)
      var model = try #require(json["model"]?.object)
      model["ignore_merges"] = .bool(ignoresMerges)
      json["model"] = .object(model)
      return try made(.object(json), config: [:]).pre
    }
    let bytes: JSONValue = ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false]
    #expect(try name([TinyTokenizer.split(TinyTokenizer.cl100k), bytes]) == "dbrx")
    #expect(try name([TinyTokenizer.split(TinyTokenizer.cl100k), bytes], ignoresMerges: true) == "llama-bpe")
    #expect(try name([TinyTokenizer.split(KnownPatterns.tiktokenCL100K), bytes]) == "dbrx")
    #expect(try name([TinyTokenizer.split(KnownPatterns.cl100k(digits: "")), bytes]) == "qwen2")
    #expect(try name([TinyTokenizer.split(KnownPatterns.o200k), bytes]) == "gpt-4o")
    #expect(try name([TinyTokenizer.split(KnownPatterns.tekken), bytes], ignoresMerges: true) == "tekken")
    #expect(try name([TinyTokenizer.smollm[1]]) == "gpt-2")
    #expect(try name(TinyTokenizer.smollm) == "smollm")
    // Phi-4's file drops what its pattern does not match, which is nothing.
    let removed: JSONValue = [
      "type": "Split", "pattern": ["Regex": .string(TinyTokenizer.cl100k)], "behavior": "Removed", "invert": true,
    ]
    #expect(try name([removed, bytes]) == "dbrx")
    // A list of patterns, one after the other.
    let deepSeek = try GGUFPreTokenizer.named("deepseek-v3").patterns.map(TinyTokenizer.split)
    #expect(try name(deepSeek + [bytes]) == "deepseek-v3")
  }

  @Test(arguments: [true, false]) func ranksOfMergesBecomeScores(_ addsSpace: Bool) throws {
    let metadata = try made(TinyTokenizer.sentencePieces(addsSpace: addsSpace), rows: 275)
    #expect(metadata.model == "llama" && metadata.addSpacePrefix == addsSpace)
    #expect(metadata.addBOS == true && metadata.addEOS == false)
    #expect(metadata.bosTokenID == 1 && metadata.eosTokenID == 2 && metadata.moreEndTokenIDs.isEmpty)
    #expect(
      Array(metadata.tokenTypes[..<5]) == [2, 3, 3, 6, 6] && metadata.tokenTypes[259...263].allSatisfy { $0 == 1 })
    #expect(metadata.tokenTypes.last == 5 && metadata.tokens.last == "[PAD274]" && metadata.scores.count == 275)
    let scores = TinyTokenizer.pieceMerges.map { merge in
      metadata.tokens.firstIndex(of: merge.0 + merge.1).map { metadata.scores[$0] }
    }
    // Two pairs make "▁hello".
    #expect(scores == [0, -1, -2, -3, -4, -4, -5])
    let (plain, gguf) = (try Tokenizer(folder: folder.path), try Tokenizer(gguf: metadata))
    for text in ["hello", "  hello  hell  o", "Hellöchen\n", "", "lo</s>hel lo", "hhhelel"] {
      #expect(gguf.encode(text) == plain.encode(text), "\(text)")
      #expect(gguf.decode(gguf.encode(text)) == plain.decode(plain.encode(text)), "\(text)")
    }
  }

  @Test func aSentencePieceModelKeepsItsScores() throws {
    let file = goldenPath("tokenization/bpe_bytes.model")
    _ = try folder.write("tokenizer.model", try #require(TemporaryFolder.bytes(of: file)))
    let plain = try Tokenizer(folder: folder.path)
    let metadata = try GGUFTokenizerMetadata(folder: folder.path, overrides: nil, rowCount: plain.vocabularySize + 3)
    #expect(metadata.model == "llama" && Set(metadata.scores).count > 10)
    let gguf = try Tokenizer(gguf: metadata)
    for text in GoldenKind.texts where !text.contains("<") && !text.contains("▁") {
      #expect(gguf.encode(text) == plain.encode(text), "\(text.debugDescription)")
    }
  }

  /// A list of tokens by rank has no merges: those that lead to its tokens are found.
  @Test func ranksBecomeMerges() throws {
    _ = try folder.write(
      "cl100k_small.tiktoken", try #require(TemporaryFolder.bytes(of: goldenPath("tokenization/cl100k_small.tiktoken")))
    )
    let plain = try Tokenizer(folder: folder.path)
    let metadata = try GGUFTokenizerMetadata(folder: folder.path, overrides: nil, rowCount: plain.vocabularySize)
    #expect(metadata.model == "gpt2" && metadata.pre == "llama-bpe" && metadata.merges.count > 50)
    #expect(metadata.addBOS == false)
    let gguf = try Tokenizer(gguf: metadata)
    for text in GoldenKind.texts { #expect(gguf.encode(text) == plain.encode(text), "\(text.debugDescription)") }
  }

  /// Llama's runs of spaces share a score, so that their merges stand mixed.
  @Test func mixedMergesOfSpacesShareAScore() throws {
    let runs = [("▁", "▁"), ("▁", "▁▁"), ("▁▁", "▁▁"), ("▁▁", "▁"), ("▁", "▁▁▁"), ("▁▁▁", "▁")]
    let metadata = try made(TinyTokenizer.sentencePieces(TinyTokenizer.pieceMerges + runs), rows: 280)
    func score(_ token: String) -> Float? { metadata.tokens.firstIndex(of: token).map { metadata.scores[$0] } }
    #expect(score("▁▁") == -6 && score("▁▁▁") == -7 && score("▁▁▁▁") == -7)
    let letters = [("h", "e"), ("h", "el"), ("e", "lo"), ("he", "l")]
    #expect(throws: TokenizationError.self) {
      try made(TinyTokenizer.sentencePieces(TinyTokenizer.pieceMerges + letters))
    }
  }

  @Test func whatComesAroundATextIsSaid() throws {
    var json = try #require(TinyTokenizer.sentencePieces().object)
    func single(_ items: [JSONValue]) -> JSONValue {
      [
        "type": "TemplateProcessing", "single": .array(items),
        "special_tokens": [
          "<s>": ["id": "<s>", "ids": [1], "tokens": ["<s>"]], "</s>": ["id": "</s>", "ids": [2], "tokens": ["</s>"]],
        ],
      ]
    }
    let text: JSONValue = ["Sequence": ["id": "A", "type_id": 0]]
    func token(_ name: JSONValue) -> JSONValue { ["SpecialToken": ["id": name, "type_id": 0]] }
    json["post_processor"] = single([text, token("</s>")])
    var metadata = try made(.object(json))
    #expect(metadata.addBOS == false && metadata.addEOS == true)
    json["post_processor"] = single([token("</s>"), text])
    #expect(throws: TokenizationError.self) { metadata = try made(.object(json)) }
  }

  @Test func specialTokensAreThoseThatTheOverridesSay() throws {
    try TinyTokenizer.write(to: folder)
    var overrides = TokenizerOverrides()
    overrides.specialTokens = ["eos_token": ("<|endoftext|>", 0), "pad_token": ("<|im_start|>", 1)]
    overrides.chatTemplates = ChatTemplates(try ChatTemplate(source: TinyTokenizer.chatML + "{# other #}"))
    let metadata = try GGUFTokenizerMetadata(folder: folder.path, overrides: overrides, rowCount: 270)
    #expect(metadata.eosTokenID == 0 && metadata.padTokenID == 1)
    // What ends the template's turns ends an answer as well.
    #expect(metadata.moreEndTokenIDs == [2])
    #expect(metadata.chatTemplate?.hasSuffix("{# other #}") == true)
  }

  @Test func twoTokensOfOneTextAreRefused() throws {
    var json = try #require(TinyTokenizer.byteLevel().object)
    let added = json["added_tokens"]?.array ?? []
    json["added_tokens"] = .array(
      added + [
        [
          "id": 270, "content": "hello", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
          "special": false,
        ]
      ])
    let error = #expect(throws: TokenizationError.self) { try made(.object(json), config: [:]) }
    #expect(error?.description.contains("are both \"hello\", which a GGUF cannot express") == true)
  }
}
