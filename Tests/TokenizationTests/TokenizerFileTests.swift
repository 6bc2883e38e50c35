import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// What a model folder says, and what is wrong with some.
@Suite struct TokenizerFileTests {
  private func message(_ files: [String: String]) throws -> String {
    let folder = try TemporaryFolder()
    for (name, text) in files { _ = try folder.write(name, text) }
    do {
      _ = try Tokenizer(folder: folder.path)
      return "no error"
    } catch {
      let line = "\(error)"
      #expect(!line.contains("\n"), "one line: \(line)")
      #expect(line.contains(folder.path), "names the file: \(line)")
      return line
    }
  }

  static let model = #"{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}"#

  static let malformed: [(json: String, words: String)] = [
    ("", "line 1"), ("{", "line 1"), ("[]", "must be a JSON object"), ("null", "must be a JSON object"),
    ("{}", "\"model\" is missing"), (#"{"model":{"type":"WordPiece","vocab":{}}}"#, "WordPiece"),
    (
      #"{"model":{"type":"Unigram","vocab":[["\#(String(repeating: "a", count: 5000))",0.0]]}}"#,
      "token 0 has 5000 bytes"
    ),
    (#"{"model":{"type":"Unigram"}}"#, "vocab"), (#"{"model":{"type":"Unigram","vocab":[]}}"#, "empty"),
    (#"{"model":{"type":"Unigram","vocab":[["a"]]}}"#, "vocab[0]"),
    (#"{"model":{"type":"Unigram","vocab":[["a","b"]]}}"#, "vocab[0]"),
    (#"{"model":{"type":"Unigram","vocab":[["a",0.0]],"unk_id":1}}"#, "unk_id"),
    (#"{"model":{"type":"Unigram","vocab":[["a",0.0]],"unk_id":-1}}"#, "unk_id"),
    (#"{"model":{"type":"BPE","merges":[]}}"#, "vocab"), (#"{"model":{"type":"BPE","vocab":{}}}"#, "merges"),
    (#"{"model":{"type":"BPE","vocab":{},"merges":[]}}"#, "empty"),
    (#"{"model":{"type":"BPE","vocab":{"a":"x"},"merges":[]}}"#, "not an integer"),
    (#"{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}"#, "-1"),
    (#"{"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}}"#, "4000000000"),
    (#"{"model":{"type":"BPE","vocab":{"a":9223372036854775807},"merges":[]}}"#, "9223372036854775807"),
    (#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}}"#, "merges[0]"),
    (#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#, "\"b\""),
    (#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}}"#, "merges[0]"),
    (#"{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}}"#, "\"ab\""),
    (#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"u"}}"#, "unknown token"),
    (#"{"model":\#(model),"pre_tokenizer":{"type":"Nope"}}"#, "Nope"),
    (#"{"model":\#(model),"pre_tokenizer":{}}"#, "\"type\" is missing"),
    (#"{"model":\#(model),"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"}}"#, "pattern"),
    (#"{"model":\#(model),"pre_tokenizer":{"type":"Split","pattern":{"String":"x"},"behavior":"Odd"}}"#, "Odd"),
    (#"{"model":\#(model),"pre_tokenizer":{"type":"Split","behavior":"Isolated"}}"#, "pattern"),
    (#"{"model":\#(model),"normalizer":{"type":"BertNormalizer"}}"#, "BertNormalizer"),
    (#"{"model":\#(model),"normalizer":{"type":"Precompiled"}}"#, "precompiled_charsmap"),
    (#"{"model":\#(model),"normalizer":{"type":"Precompiled","precompiled_charsmap":"?"}}"#, "base64"),
    (#"{"model":\#(model),"normalizer":{"type":"Precompiled","precompiled_charsmap":"/////w=="}}"#, "too short"),
    (#"{"model":\#(model),"decoder":{"type":"WordPiece"}}"#, "WordPiece"),
    (#"{"model":\#(model),"post_processor":{"type":"Odd"}}"#, "Odd"),
    (
      #"{"model":\#(model),"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]}}"#,
      "special_tokens"
    ),
    (#"{"model":\#(model),"added_tokens":[{"content":"x"}]}"#, "added_tokens[0]"),
    (#"{"model":\#(model),"added_tokens":[{"id":5}]}"#, "content"),
    (#"{"model":\#(model),"added_tokens":[{"id":-5,"content":"x"}]}"#, "-5"),
    (#"{"model":\#(model),"added_tokens":[{"id":2000000000,"content":"x"}]}"#, "2000000000"),
  ]

  @Test(arguments: malformed)
  func malformedFiles(_ json: String, _ words: String) throws {
    let line = try message(["tokenizer.json": json])
    #expect(line.contains(words), "\(line)")
  }

  @Test func missingAndMalformedNeighbours() throws {
    #expect(try message([:]).contains("tokenizer.json: no such file"))
    let good = #"{"model":\#(Self.model)}"#
    #expect(try message(["tokenizer.json": good, "tokenizer_config.json": "{"]).contains("tokenizer_config.json"))
    let line = try message(["tokenizer.json": good, "tokenizer_config.json": #"{"chat_template":"a\n{% if"}"#])
    #expect(line.contains("tokenizer_config.json: chat_template: chat template, line 2, column 1"))
    #expect(try message(["tokenizer.json": good, "chat_template.jinja": "{{"]).contains("chat_template.jinja"))
    #expect(try message(["tokenizer.json": good]) == "no error")
  }

  @Test func specialTokensAndTemplates() throws {
    let kind = try GoldenKind.named("bytes_gpt2")
    let tokenizer = try kind.makeTokenizer([
      "bos_token": "<s>", "eos_token": ["content": "</s>", "lstrip": false], "unk_token": .null, "pad_token": "<none>",
      "added_tokens_decoder": ["700": ["content": "<extra>", "special": true], "1": ["content": "<s>"]],
      "chat_template": [
        ["name": "default", "template": "{% for m in messages %}{{ m.content }}</s>{% endfor %}"],
        ["name": "tool_use", "template": "tools"],
      ],
    ])
    #expect(tokenizer.bosTokenID == tokenizer.tokenID("<s>"))
    #expect(tokenizer.eosTokenID == tokenizer.tokenID("</s>"))
    #expect(tokenizer.unkTokenID == nil && tokenizer.padTokenID == nil)
    #expect(tokenizer.remarks.count == 1 && tokenizer.remarks[0].contains("<none>"))
    #expect(tokenizer.tokenID("<extra>") == 700)
    #expect(tokenizer.vocabularySize == 701)
    #expect(tokenizer.encode("<extra>") == [700])
    #expect(tokenizer.token(600) == nil)
    #expect(tokenizer.toolChatTemplate?.source == "tools")
    #expect(tokenizer.templateVariables["bos_token"] == "<s>")
    #expect(tokenizer.endOfTurnTokenIDs == [tokenizer.eosTokenID].compactMap { $0 })
  }

  /// The spellings "é" and "é" are two tokens.
  @Test func tokensAreToldApartByTheirBytes() throws {
    let folder = try TemporaryFolder()
    let json = #"{"model":{"type":"BPE","vocab":{"e\u0301":0,"\u00e9":1,"e":2,"\u0301":3},"merges":[["e","\u0301"]]}}"#
    _ = try folder.write("tokenizer.json", json)
    let tokenizer = try Tokenizer(folder: folder.path)
    #expect(tokenizer.encode("e\u{301}") == [0])
    #expect(tokenizer.encode("\u{e9}") == [1])
    #expect(tokenizer.tokenID("\u{e9}") == 1)
  }

  /// Without an unknown token a Unigram model leaves out what it does not know.
  @Test func unigramWithoutUnknown() throws {
    let folder = try TemporaryFolder()
    _ = try folder.write(
      "tokenizer.json", #"{"model":{"type":"Unigram","vocab":[["a",-1.0],["b",-2.0],["ab",-2.5]]}}"#)
    let tokenizer = try Tokenizer(folder: folder.path)
    #expect(tokenizer.encode("abéa") == [2, 0])
    let encoding = tokenizer.encodeWithOffsets("éabéa")
    #expect(encoding.ids == [2, 0] && encoding.ranges == [2..<4, 6..<7])
  }

  /// Files with random damage end in a tokenizer or in an error, never in a trap.
  @Test func damagedFiles() throws {
    let folder = try TemporaryFolder()
    var random = SeededRandom(seed: 11)
    for name in ["bytes_cl100k", "characters_llama2", "characters_metaspace", "unigram_bytes", "charsmap"] {
      let original = Array(JSONValue.object(try GoldenKind.named(name).json).serialized().utf8)
      for _ in 0..<60 {
        var bytes = original
        for _ in 0..<Int.random(in: 1...6, using: &random) {
          let place = Int.random(in: 0..<bytes.count, using: &random)
          switch Int.random(in: 0..<4, using: &random) {
          case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
          case 1: bytes.remove(at: place)
          case 2: bytes[place] = Array("0123456789\"{}[],:".utf8).randomElement(using: &random) ?? 0
          default: bytes.replaceSubrange(place..<min(place + 20, bytes.count), with: [])
          }
        }
        _ = try folder.write("tokenizer.json", bytes)
        guard let tokenizer = try? Tokenizer(folder: folder.path) else { continue }
        let text = "Hello, wörld! 123 <|end|> 🙂"
        _ = tokenizer.decode(tokenizer.encodeWithOffsets(text).ids)
      }
    }
  }
}
