import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// Tokenizers from the metadata of GGUF files.
@Suite struct GGUFTokenizerTests {
  private func metadata(_ kind: GoldenKind, model: String, pre: String) -> GGUFTokenizerMetadata {
    let vocabulary = kind.json["model"]?["vocab"]?.object ?? [:]
    var tokens = [String](repeating: "", count: vocabulary.count)
    for (text, id) in vocabulary { if let id = id.integer { tokens[id] = text } }
    let merges = kind.json["model"]?["merges"]?.array?.map { merge in
      merge.string ?? (merge.array ?? []).compactMap(\.string).joined(separator: " ")
    }
    let types: [Int32] = tokens.map { token in
      token.hasPrefix("<0x") ? 6 : ["<s>", "</s>", "<|end|>"].contains(token) ? 3 : token == "<unk>" ? 2 : 1
    }
    return GGUFTokenizerMetadata(
      model: model, pre: pre, tokens: tokens, tokenTypes: types, merges: merges ?? [], bosTokenID: 1, eosTokenID: 2,
      unkTokenID: 0)
  }

  @Test(arguments: [
    ("bytes_gpt2", "gpt-2"), ("bytes_digits", "smollm"), ("bytes_llama3", "llama-bpe"),
  ])
  func samePatternsAsTheFolder(_ name: String, _ pre: String) throws {
    let kind = try GoldenKind.named(name)
    let tokenizer = try Tokenizer(gguf: metadata(kind, model: "gpt2", pre: pre))
    for (text, ids) in zip(GoldenKind.texts, kind.ids) {
      #expect(tokenizer.encode(text) == ids, "\(text.debugDescription)")
    }
  }

  /// SentencePiece's merging by scores is merging by ranks when the scores fall with the ranks.
  @Test func sentencePieces() throws {
    let kind = try GoldenKind.named("characters_llama2")
    var metadata = metadata(kind, model: "llama", pre: "")
    var scores = [Float](repeating: 0, count: metadata.tokens.count)
    for (rank, merge) in metadata.merges.enumerated() {
      let token = merge.split(separator: " ").joined()
      if let id = metadata.tokens.firstIndex(where: { isSame($0, token) }) { scores[id] = -Float(rank) - 1 }
    }
    metadata.scores = scores
    metadata.merges = []
    let tokenizer = try Tokenizer(gguf: metadata)
    for text in GoldenKind.texts where !text.contains("<") && !text.contains("▁") {
      let ids = tokenizer.encode(text)
      #expect(ids.first == 1)
      #expect(isSame(tokenizer.decode(ids.dropFirst()), text), "\(text.debugDescription)")
    }
    let (matches, count) = zip(GoldenKind.texts, kind.ids).reduce((0, 0)) { sum, pair in
      (sum.0 + (tokenizer.encode(pair.0) == pair.1 ? 1 : 0), sum.1 + 1)
    }
    #expect(matches == count)
  }

  /// What is written as Hugging Face's files reads back as the same tokenizer.
  @Test func writesHuggingFacesFiles() throws {
    var cases = try [("bytes_gpt2", "gpt-2"), ("bytes_digits", "smollm"), ("bytes_llama3", "llama-bpe")].map {
      metadata(try GoldenKind.named($0), model: "gpt2", pre: $1)
    }
    let kind = try GoldenKind.named("characters_llama2")
    var pieces = metadata(kind, model: "llama", pre: "")
    pieces.scores = [Float](repeating: 0, count: pieces.tokens.count)
    for (rank, merge) in pieces.merges.enumerated() {
      let token = merge.split(separator: " ").joined()
      if let id = pieces.tokens.firstIndex(where: { isSame($0, token) }) { pieces.scores[id] = -Float(rank) - 1 }
    }
    pieces.merges = []
    cases.append(pieces)
    for var metadata in cases {
      metadata.addBOS = metadata.model == "llama"
      metadata.addEOS = true
      metadata.chatTemplate = "{{ messages[0].content }}"
      let original = try Tokenizer(gguf: metadata)
      let folder = try TemporaryFolder()
      for (name, json) in try metadata.files(contextLength: 99) { _ = try folder.write(name, json.serialized()) }
      let copy = try Tokenizer(folder: folder.path)
      for text in GoldenKind.texts {
        #expect(copy.encode(text) == original.encode(text), "\(text.debugDescription)")
        #expect(isSame(copy.decode(copy.encode(text)), original.decode(original.encode(text))))
      }
      let settings = try JSONValue.parse(
        Array((TemporaryFolder.text(of: folder.path + "/tokenizer_config.json") ?? "").utf8))
      #expect(settings["eos_token"] == .string(metadata.tokens[2]) && settings["model_max_length"] == 99)
      #expect(settings["chat_template"] == "{{ messages[0].content }}")
    }
  }

  @Test func errorsNameTheKey() throws {
    let kind = try GoldenKind.named("bytes_gpt2")
    func message(_ change: (inout GGUFTokenizerMetadata) -> Void) -> String {
      var metadata = metadata(kind, model: "gpt2", pre: "gpt-2")
      change(&metadata)
      do {
        _ = try Tokenizer(gguf: metadata)
        return "no error"
      } catch {
        return "\(error)"
      }
    }
    #expect(message { $0.model = "rwkv" }.hasPrefix("tokenizer.ggml.model: \"rwkv\""))
    #expect(message { $0.pre = "odd" }.hasPrefix("tokenizer.ggml.pre: \"odd\""))
    #expect(message { $0.tokenTypes = [1] }.hasPrefix("tokenizer.ggml.token_type"))
    #expect(message { $0.merges = ["x"] }.hasPrefix("tokenizer.ggml.merges[0]"))
    #expect(message { $0.merges = ["x qqq"] }.contains("merge 0"))
    #expect(message { $0.model = "llama" }.hasPrefix("tokenizer.ggml.scores"))
    #expect(
      message {
        $0.tokens = []; $0.tokenTypes = []; $0.merges = []
      }.contains("empty"))
    #expect(message { $0.chatTemplate = "{{" }.hasPrefix("tokenizer.chat_template: "))
    #expect(message { $0.eosTokenID = 1 << 40 } == "no error")
  }

  @Test func bosAsTheFileSays() throws {
    var metadata = metadata(try GoldenKind.named("bytes_gpt2"), model: "gpt2", pre: "gpt-2")
    #expect(try Tokenizer(gguf: metadata).encode("a").first != 1)
    metadata.addBOS = true
    metadata.addEOS = true
    #expect(try Tokenizer(gguf: metadata).encode("a").first == 1)
    #expect(try Tokenizer(gguf: metadata).encode("a").last == 2)
  }
}

/// What GGUF leaves to the family or to the kind of model.
@Suite struct GGUFFamilyTests {
  /// Phi-3's special tokens take in what follows them, Phi-4's what is on both sides; other families' nothing.
  @Test func spacesBesideSpecialTokens() throws {
    let tokens = ["<unk>", "<s>", "<|end|>", "▁", "a", "▁a", "<|im_sep|>"]
    var metadata = GGUFTokenizerMetadata(
      model: "llama", tokens: tokens, tokenTypes: [2, 3, 3, 1, 1, 1, 1], scores: [0, 0, 0, -1, -2, -3, -4],
      bosTokenID: 1, unkTokenID: 0, addBOS: false)
    #expect(try Tokenizer(gguf: metadata).encode("a <|end|> a<s> a") == [5, 3, 2, 3, 5, 1, 3, 5])
    metadata.architecture = "phi3"
    #expect(try Tokenizer(gguf: metadata).encode("a <|end|> a<s> a") == [5, 3, 2, 5, 1, 3, 5])
    var bytes = GGUFTokenizerMetadata(
      model: "gpt2", pre: "dbrx", tokens: ["a", "Ġ", "<|im_sep|>"], tokenTypes: [1, 1, 3])
    #expect(try Tokenizer(gguf: bytes).encode("a <|im_sep|> a") == [0, 1, 2, 1, 0])
    bytes.architecture = "phi3"
    #expect(try Tokenizer(gguf: bytes).encode("a <|im_sep|> a") == [0, 2, 0])
  }

  /// The same pieces as in a SentencePiece file give the same ids.
  @Test func unigram() throws {
    let path = golden("tokenization/unigram_rules.model")
    let file = try SentencePieceFile(TemporaryFolder.bytes(of: path) ?? [], path: path)
    var metadata = GGUFTokenizerMetadata(
      model: "t5", tokens: file.pieces.map(\.text), tokenTypes: file.pieces.map { Int32($0.kind.rawValue) },
      scores: file.pieces.map(\.score), eosTokenID: 2, unkTokenID: 0)
    metadata.precompiledCharsmap = file.characterMap
    metadata.removeExtraWhitespaces = file.removesExtraSpaces
    let tokenizer = try Tokenizer(gguf: metadata)
    let expected = try #require(TokenizerFormatTests.models.first { $0.name == "unigram_rules" })
    for (text, ids) in zip(TokenizerFormatTests.texts, expected.ids) {
      #expect(tokenizer.encode(text, parseSpecialTokens: false) == ids + [2], "\(text.debugDescription)")
    }
    try isSameInHuggingFacesFiles(metadata)
    metadata.scores = []
    #expect(throws: TokenizationError.self) { try Tokenizer(gguf: metadata) }
    metadata.scores = file.pieces.map { _ in .nan }
    #expect(throws: TokenizationError.self) { try Tokenizer(gguf: metadata) }
    metadata.scores = file.pieces.map(\.score)
    metadata.precompiledCharsmap = [1, 2, 3]
    #expect(throws: TokenizationError.self) { try Tokenizer(gguf: metadata) }
  }

  private struct Kept: OptionSet {
    let rawValue: Int
    static let rules = Kept(rawValue: 1)
    static let extraSpaces = Kept(rawValue: 2)
    static let prefix = Kept(rawValue: 4)
  }

  /// Every step of the normalizer is in tokenizer.json: the same ids come out of it, with and without each.
  private func isSameInHuggingFacesFiles(_ metadata: GGUFTokenizerMetadata) throws {
    // Filling rows, as llama.cpp writes them, change nothing.
    var metadata = metadata
    metadata.tokens.append("[PAD]")
    metadata.tokenTypes.append(5)
    metadata.scores.append(-10000)
    let texts =
      TokenizerFormatTests.texts + [
        "  two  spaces ", " ", "", "a\n b", "\u{3000}full width\u{3000}ＡＢＣ ①", "▁a ▁", "x </s> y  </s>  z ",
        "\u{FB01}ﬂ",
      ]
    for left in 0..<8 {
      let kept = Kept(rawValue: left)
      var changed = metadata
      if !kept.contains(.rules) { changed.precompiledCharsmap = [] }
      changed.removeExtraWhitespaces = !kept.contains(.extraSpaces)
      changed.addSpacePrefix = kept.contains(.prefix)
      let original = try Tokenizer(gguf: changed)
      let folder = try TemporaryFolder()
      for (name, json) in try changed.files(contextLength: 99) { _ = try folder.write(name, json.serialized()) }
      let copy = try Tokenizer(folder: folder.path)
      for text in texts {
        // Rules for more than a character, which this model has too, are not applied alike.
        if kept.contains(.rules), text.contains("\r\n") || text.contains("DON") { continue }
        let ids = original.encode(text)
        #expect(copy.encode(text) == ids, "\(left): \(text.debugDescription)")
        #expect(isSame(copy.decode(ids), original.decode(ids)), "\(left): \(text.debugDescription)")
      }
    }
  }

  /// Every name that llama.cpp writes for these families has its patterns, and all of them compile.
  @Test(arguments: [
    "llama-bpe", "llama3", "llama4", "dbrx", "phi-2", "gpt-2", "gpt-4o", "qwen2", "qwen35", "tekken", "pixtral",
    "smollm", "deepseek-r1-qwen", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "falcon3", "seed-coder",
    "minicpm5",
    "viking", "default", "",
  ])
  func names(_ name: String) throws {
    let kind = try GoldenKind.named("bytes_gpt2")
    let vocabulary = kind.json["model"]?["vocab"]?.object ?? [:]
    var tokens = [String](repeating: "", count: vocabulary.count)
    for (text, id) in vocabulary { if let id = id.integer { tokens[id] = text } }
    let tokenizer = try Tokenizer(gguf: GGUFTokenizerMetadata(model: "gpt2", pre: name, tokens: tokens))
    for text in GoldenKind.texts {
      #expect(isSame(tokenizer.decode(tokenizer.encode(text)), text), "\(name): \(text.debugDescription)")
    }
  }
}

/// The tokenizer inside of the sample model against Hugging Face's of the same model.
@Suite(.enabled(if: sampleModel != nil, "SWIFTLET_SAMPLE_MODEL names no file"))
struct SampleModelTests {
  private func load() throws -> Tokenizer { try tokenizer(ofGGUF: sampleModel ?? "") }

  @Test func sameIDs() throws {
    let tokenizer = try load()
    let json = try goldenJSON("tokenization/sample_encodings.json")
    let texts = json["texts"]?.array?.compactMap(\.string) ?? []
    let decoded = json["decoded"]?.array?.compactMap(\.string) ?? []
    #expect(texts.count > 50)
    for (index, ids) in GoldenKind.ids(json["ids"]).enumerated() {
      #expect(tokenizer.encode(texts[index]) == ids, "\(texts[index].debugDescription)")
      #expect(isSame(tokenizer.decode(ids), decoded[index]))
    }
  }

  @Test func specialTokens() throws {
    let tokenizer = try load()
    #expect(tokenizer.vocabularySize == 49152)
    #expect(tokenizer.bosTokenID == 1 && tokenizer.eosTokenID == 2 && tokenizer.unkTokenID == 0)
    #expect(tokenizer.endOfTurnTokenIDs == [2])
    #expect(tokenizer.isSpecial(2) && !tokenizer.isSpecial(100))
  }

  @Test func conversation() throws {
    let tokenizer = try load()
    let masked = try tokenizer.encodeConversation([
      ["role": "user", "content": "Hi"], ["role": "assistant", "content": "Hello there."],
      ["role": "user", "content": "And?"], ["role": "assistant", "content": "Bye."],
    ])
    let responses = zip(masked.ids, masked.isResponse).split { !$0.1 }.map { tokenizer.decode($0.map(\.0)) }
    #expect(responses == ["Hello there.<|im_end|>", "Bye.<|im_end|>"])
    #expect(masked.text.hasPrefix("<|im_start|>system\nYou are a helpful AI assistant named SmolLM"))
    let prompt = try tokenizer.encodePrompt([["role": "user", "content": "Hi"]])
    #expect(tokenizer.decode(prompt).hasSuffix("Hi<|im_end|>\n<|im_start|>assistant\n"))
  }
}
