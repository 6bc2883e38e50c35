import Doctor
import Glibc
import JSONValues
import ModelFiles
import TestSupport
import Testing

@testable import Export
@testable import Tokenization

/// A folder with `phi4/original`, `phi4/fixed` and `tokenizers/…`: files of real models, which are not ours to ship.
private let data = getenv("SWIFTLET_TOKENIZER_DATA").map { String(cString: $0) }

@Suite(.enabled(if: data != nil, "SWIFTLET_TOKENIZER_DATA names no folder with files of real models"))
struct SharedDataTests {
  private func path(_ name: String) -> String { (data ?? "") + "/" + name }

  private func check(_ shape: TurnShape, _ tokenizer: Tokenizer, leavesOutBOS: Bool) throws {
    let template = try GoTemplate(shape.goTemplate)
    for conversation in TurnShapeTests.conversations(with: shape.systemPlace != .nowhere) {
      let expected = try TurnShapeTests.jinja(tokenizer, conversation, leavesOutBOS: leavesOutBOS)
      #expect(try template.execute(conversation) == expected, "\(shape.goTemplate)")
    }
  }

  /// Whole tokenizers: the GGUF cuts texts as they do, and Ollama's template says what theirs says.
  @Test(arguments: [
    ("phi4/fixed", "dbrx", 100352), ("phi4/original", "dbrx", 100352), ("tokenizers/llama2", "default", 32000),
    ("tokenizers/phi-3-mini", "default", 32064), ("tokenizers/smollm2", "smollm", 49152),
    ("tokenizers/llama3", "llama-bpe", 128256), ("tokenizers/gpt2", "gpt-2", 50257),
  ])
  func wholeTokenizers(_ name: String, _ pre: String, _ rows: Int) throws {
    let folder = try TemporaryFolder()
    for file in [
      "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "merges.txt", "config.json",
    ] {
      let from = name == "phi4/fixed" && file == "tokenizer.json" ? "phi4/original" : name
      if let bytes = TemporaryFolder.bytes(of: path("\(from)/\(file)")) { _ = try folder.write(file, bytes) }
    }
    let examination = try Examination(of: folder.path, depth: .tokens)
    let metadata = try GGUFTokenizerMetadata(
      folder: folder.path, overrides: examination.allOverrides, rowCount: rows)
    #expect(metadata.pre == pre && metadata.tokens.count == rows)
    let (made, plain) = (try Tokenizer(gguf: metadata), try Tokenizer(folder: folder.path))
    let text = try #require(TemporaryFolder.text(of: path("sets/wikitext2_valid.txt"))).prefix(200_000)
    #expect(
      made.encode(String(text), parseSpecialTokens: false) == plain.encode(String(text), parseSpecialTokens: false))
    if name.hasPrefix("phi4") {
      #expect(metadata.eosTokenID == 100265 && metadata.addBOS == false)
      #expect(metadata.padTokenID == (name == "phi4/fixed" ? 100349 : 100351))
    }
    guard made.chatTemplate != nil else { return }
    let leavesOutBOS = metadata.addBOS ?? false
    try check(TurnShape(of: made, leavesOutBOS: leavesOutBOS), made, leavesOutBOS: leavesOutBOS)
  }

  /// Large templates, with tools and thoughts, as far as plain conversations go.
  @Test(arguments: ["qwen2.5", "qwen3"]) func largeTemplates(_ name: String) throws {
    let config = try readJSON(path("tokenizers/\(name)/tokenizer_config.json"))
    let tokenizer = try TurnShapeTests.tokenizer(try #require(config["chat_template"]?.string))
    let shape = try TurnShape(of: tokenizer, leavesOutBOS: false)
    #expect(shape.knowsTools)
    // Before an answer that is begun, Qwen3's template closes the thoughts.
    #expect((shape.begunAnswer != nil) == (name == "qwen3"))
    try check(shape, tokenizer, leavesOutBOS: false)
  }
}
