import JSONValues
import ModelFiles
import TestSupport
import Testing

@testable import Doctor

/// Files that are wrong in ways that nobody means well.
@Suite struct HostileFileTests {
  @Test(arguments: [
    #"{"eos_token": 7}"#, #"{"eos_token": ["</s>"]}"#, #"{"eos_token": {"content": 1}}"#, #"{"chat_template": 1}"#,
    #"{"chat_template": [1]}"#, #"{"chat_template": [{"name": "default"}]}"#,
  ])
  func wrongTypes(text: String) throws {
    var model = MiniModel.chatML()
    model.configuration = [:]
    model.files["tokenizer_config.json"] = text
    #expect(try model.findings().map(\.id).contains("wrong-type"))
  }

  @Test(arguments: [
    "", "[]", "7", "{", #"{"eos_token": 1e999}"#, "{\"a\": \"\u{0}\"}", #"{"eos_token_id": "\ud800"}"#,
    String(repeating: "[", count: 100_000),
  ])
  func unreadableFiles(text: String) throws {
    for name in ["config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"] {
      var model = MiniModel.chatML()
      model.files[name] = text
      let findings = try model.findings()
      #expect(findings.contains { $0.id == "file-unreadable" && $0.evidence.contains(name) })
      #expect(findings.allSatisfy { !$0.evidence.contains("\n") })
    }
  }

  @Test(arguments: [
    #"{"eos_token_id": 9223372036854775807, "pad_token_id": -1, "bos_token_id": 99999999999}"#,
    #"{"eos_token_id": [], "pad_token_id": [1]}"#, #"{"eos_token_id": "2"}"#, #"{"eos_token_id": [1.5]}"#,
    #"{"vocab_size": -5, "max_position_embeddings": -1}"#, #"{"vocab_size": "big", "rope_scaling": 3}"#,
    #"{"text_config": [], "vocab_size": 9223372036854775807}"#,
  ])
  func oddNumbers(text: String) throws {
    var model = MiniModel.chatML()
    model.configuration["model_max_length"] = "long"
    model.files["config.json"] = text
    let folder = try model.write()
    let examination = try Examination(of: folder.path)
    #expect(!examination.findings.isEmpty)
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try examination.repair(into: output)
    // What was repaired is not found again.
    let left = try Examination(of: output)
    #expect(left.edits.isEmpty)
  }

  @Test func duplicateKeys() throws {
    var model = MiniModel.chatML()
    model.configuration["eos_token"] = "</s>"
    var text = JSONValue.object(model.configuration).serialized()
    text.insert(contentsOf: "\"eos_token\": \"<s>\", ", at: text.index(after: text.startIndex))
    model.configuration = [:]
    model.files["tokenizer_config.json"] = text
    let folder = try model.write()
    let examination = try Examination(of: folder.path)
    #expect(examination.findings.map(\.id) == ["eos-not-end-of-turn", "duplicate-key"])
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try examination.repair(into: output)
    // The one that counts was changed.
    #expect(try Examination(of: output).findings.map(\.id) == ["duplicate-key"])
  }

  @Test func nothingThere() throws {
    let folder = try TemporaryFolder()
    #expect(throws: ModelFileError.self) { try Examination(of: folder.path) }
    #expect(throws: ModelFileError.self) { try Examination(of: folder.path + "/none") }
    let file = try folder.write("x.gguf", "GGUF")
    #expect(throws: ModelFileError.self) { try Examination(of: file) }
  }

  @Test func aTokenizerThatCannotBeRead() throws {
    var model = MiniModel.chatML()
    model.tokenizer["model"] = ["type": "BPE", "vocab": ["a": 99_999_999_999], "merges": []]
    #expect(try model.findings().map(\.id).contains("tokenizer-unusable"))
  }

  @Test func templatesThatDoNotEnd() throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] =
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
    let clock = ContinuousClock()
    let start = clock.now
    #expect(try model.findings().map(\.id).contains("template-fails"))
    #expect(clock.now - start < .seconds(60))
  }

  @Test func damagedWeights() throws {
    var model = MiniModel.chatML()
    model.files["model.safetensors"] = "no tensors here"
    #expect(try model.findings().map(\.id) == ["weights-unreadable"])
  }
}
