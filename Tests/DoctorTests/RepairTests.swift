import Glibc
import JSONValues
import ModelFiles
import TestSupport
import Testing
import Tokenization

@testable import Doctor

@Suite struct RepairTests {
  @Test func phi4IsRepairedAsItsPublisherDid() throws {
    let model = MiniModel.phi4()
    let folder = try model.write()
    _ = try folder.write("README.md", "as it is\n")
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try Examination(of: folder.path).repair(into: output)
    let again = try Examination(of: output)
    #expect(again.findings.isEmpty)

    let tokenizer = try Tokenizer(folder: output)
    #expect(tokenizer.token(tokenizer.eosTokenID ?? -1) == "<|im_end|>")
    #expect(tokenizer.token(tokenizer.padTokenID ?? -1) == "<|dummy_87|>")
    let unknown = model.tokenizer["model"]?["vocab"]?["ï¿½"]?.integer
    #expect(
      tokenizer.unkTokenID.map(Int.init) == unknown && tokenizer.vocabularySize == model.config?["vocab_size"]?.integer)
    let config = try readJSON(output + "/config.json")
    #expect(config["eos_token_id"]?.integer == model.id("<|im_end|>"))
    #expect(config["pad_token_id"]?.integer == model.id("<|dummy_87|>"))
    #expect(config["bos_token_id"]?.integer == model.id("<|endoftext|>"))
    #expect(try readJSON(output + "/tokenizer_config.json")["unk_token"] == "\u{FFFD}")

    // The template says what the sound one says, whoever speaks first.
    let sound = try ChatTemplate(source: MiniModel.soundTemplate)
    let repaired = try #require(tokenizer.chatTemplate)
    let roles = ["system", "user", "assistant"]
    for count in 1...4 {
      for number in 0..<81 {
        var (rest, messages) = (number, [JSONValue]())
        for index in 0..<count {
          messages.append(["role": .string(roles[rest % 3]), "content": .string("<\(index)> {{ x }}")])
          rest /= 3
        }
        guard rest == 0 else { continue }
        for asks in [false, true] {
          let expected = try sound.render(.array(messages), addGenerationPrompt: asks)
          #expect(try repaired.render(.array(messages), addGenerationPrompt: asks) == expected)
        }
      }
    }
    #expect(TemporaryFolder.text(of: output + "/README.md") == "as it is\n")

    // A second repair changes nothing.
    let second = output + "-again"
    defer { TemporaryFolder.removeAll(second) }
    try again.repair(into: second)
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "README.md"] {
      #expect(TemporaryFolder.bytes(of: "\(output)/\(name)") == TemporaryFolder.bytes(of: "\(second)/\(name)"))
    }
  }

  @Test func onlyTheRepairedPlacesChange() throws {
    let model = MiniModel.phi4()
    let folder = try model.write()
    // A layout and escapes that no serializer of ours would choose.
    let odd =
      (TemporaryFolder.text(of: folder.path + "/config.json") ?? "")
      .split(separator: "\n").joined(separator: "\n\t  ") + "\n \n"
    _ = try folder.write("config.json", odd)
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try Examination(of: folder.path).repair(into: output)
    let before = odd.split(separator: "\n", omittingEmptySubsequences: false)
    let after = (TemporaryFolder.text(of: output + "/config.json") ?? "").split(
      separator: "\n", omittingEmptySubsequences: false)
    #expect(before.count == after.count)
    let changed = zip(before, after).filter { $0 != $1 }.map { String($0.0.drop { $0.isWhitespace }) }
    #expect(changed.allSatisfy { $0.hasPrefix("\"eos_token_id\"") || $0.hasPrefix("\"pad_token_id\"") })
    #expect(changed.count == 2)
  }

  @Test func whereTheRepairedModelMayLie() throws {
    let folder = try MiniModel.phi4().write()
    let examination = try Examination(of: folder.path)
    let other = try TemporaryFolder()
    _ = try other.write("x", "")
    func refusal(_ output: String) -> String? {
      let error = #expect(throws: ModelFileError.self) { try examination.repair(into: output) }
      return error?.message
    }
    #expect(refusal(folder.path)?.contains("own folder") == true)
    #expect(refusal(folder.path + "/")?.contains("own folder") == true)
    #expect(refusal(folder.path + "/inside")?.contains("own folder") == true)
    #expect(refusal(other.path)?.contains("not empty") == true)
    #expect(refusal(other.path + "/x")?.contains("no folder") == true)
    #expect(refusal(other.path + "/a/b")?.contains("no such file") == true)
    unlink(other.path + "/x")
    try examination.repair(into: other.path)
    #expect(try Examination(of: other.path).findings.isEmpty)
  }

  @Test func largeFilesAndSubfolders() throws {
    let folder = try MiniModel.phi4().write()
    let weights = [UInt8](repeating: 7, count: 17 << 20)
    _ = try folder.write("weights.bin", weights)
    mkdir(folder.path + "/onnx", 0o777)
    _ = try folder.write("onnx/x.txt", "x")
    symlink("onnx/x.txt", folder.path + "/link.txt")
    symlink("..", folder.path + "/loop")
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try Examination(of: folder.path).repair(into: output)
    #expect(TemporaryFolder.bytes(of: output + "/weights.bin") == weights)
    #expect(TemporaryFolder.text(of: output + "/onnx/x.txt") == "x")
    #expect(TemporaryFolder.text(of: output + "/link.txt") == "x")
    #expect(access(output + "/loop", F_OK) != 0)
  }

  @Test func aTemplateInAFileOfItsOwn() throws {
    var model = MiniModel.phi4()
    model.configuration["chat_template"] = nil
    model.files["chat_template.jinja"] = MiniModel.phi4Template + "\n"
    let folder = try model.write()
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try Examination(of: folder.path).repair(into: output)
    #expect(try Examination(of: output).findings.isEmpty)
    let text = TemporaryFolder.text(of: output + "/chat_template.jinja") ?? ""
    #expect(text.contains("{% if add_generation_prompt %}") && text.hasSuffix("\n"))
  }

  @Test func namedTemplatesInFiles() throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] = nil
    model.files["chat_template.jinja"] = MiniModel.chatMLTemplate
    let folder = try model.write()
    mkdir(folder.path + "/additional_chat_templates", 0o777)
    _ = try folder.write("additional_chat_templates/rag.jinja", "{{ documents }}")
    let treated = try TreatedTokenizer(.folder(folder.path))
    #expect(treated.examination.findings.isEmpty)
    let adapter = try TemporaryFolder()
    try treated.examination.writeTokenizerFiles(to: adapter.path)
    #expect(try Tokenizer(folder: adapter.path).chatTemplates.entries.map(\.name) == ["default", "rag"])
    _ = try folder.write("additional_chat_templates/rag.jinja", "{{ documents")
    let findings = try Examination(of: folder.path).findings
    #expect(findings.map(\.id) == ["template-does-not-parse"])
    #expect(findings.first?.evidence.hasPrefix("additional_chat_templates/rag.jinja: chat template, line 1") == true)
  }

  /// A template of the user's own is looked at in place of the model's, and an adapter carries it.
  @Test func aTemplateThatIsGiven() throws {
    var model = MiniModel.phi4()
    model.configuration["chat_template"] = "{{ broken"
    let folder = try model.write()
    let given = try ChatTemplate(source: MiniModel.phi4Template)
    let treated = try TreatedTokenizer(.folder(folder.path), chatTemplate: given)
    #expect(treated.tokenizer.token(treated.tokenizer.eosTokenID ?? -1) == "<|im_end|>")
    let messages: JSONValue = [["role": "user", "content": "x"]]
    #expect(try treated.tokenizer.renderConversation(messages) == "<|im_start|>user<|im_sep|>x<|im_end|>")
    let adapter = try TemporaryFolder()
    try treated.examination.writeTokenizerFiles(to: adapter.path)
    let again = try Tokenizer(folder: adapter.path)
    #expect(try again.renderConversation(messages) == "<|im_start|>user<|im_sep|>x<|im_end|>")
    // What is sound stays as it was given, with nothing repaired.
    let sound = try ChatTemplate(source: MiniModel.chatMLTemplate)
    let healthy = try MiniModel.chatML().write()
    let other = try TreatedTokenizer(.folder(healthy.path), chatTemplate: sound)
    #expect(other.tokenizer.chatTemplate?.source == MiniModel.chatMLTemplate)
    #expect(other.examination.findings.isEmpty)
  }

  // MARK: In memory

  @Test func whatSpoilsTrainingIsRepairedInMemory() throws {
    let folder = try MiniModel.phi4().write()
    let treated = try TreatedTokenizer(.folder(folder.path))
    #expect(treated.tokenizer.token(treated.tokenizer.eosTokenID ?? -1) == "<|im_end|>")
    let messages: JSONValue = [["role": "user", "content": "x"]]
    #expect(try treated.tokenizer.renderConversation(messages) == "<|im_start|>user<|im_sep|>x<|im_end|>")
    #expect(treated.examination.remarks.count == 3)
    #expect(treated.examination.remarks.allSatisfy { !$0.contains("\n") })
    let error = #expect(throws: ModelFileError.self) { try treated.examination.requireSound() }
    #expect(error?.message.contains("--strict") == true)
    // What an adapter of it carries.
    let adapter = try TemporaryFolder()
    try treated.examination.writeTokenizerFiles(to: adapter.path)
    #expect(try Tokenizer(folder: adapter.path).padTokenID != nil)
    #expect(access(adapter.path + "/config.json", F_OK) != 0)
  }

  @Test func aSoundModelIsLeftAlone() throws {
    let folder = try MiniModel.chatML().write()
    let treated = try TreatedTokenizer(.folder(folder.path))
    #expect(treated.examination.remarks.isEmpty)
    try treated.examination.requireSound()
  }

  // MARK: GGUF

  private func gguf(
    eos: UInt32, padding: UInt32 = 260, addsBOS: Bool? = nil, reserved: String = "<|reserved_0|>",
    reservedType: UInt32 = 3,
    template: String = MiniModel.chatMLTemplate
  ) -> GGUFBuilder {
    var builder = GGUFBuilder()
    builder.add("general.architecture", "llama")
    builder.add("tokenizer.ggml.model", "gpt2")
    builder.add("tokenizer.ggml.pre", "gpt-2")
    let tokens = MiniModel.alphabet + ["<s>", "</s>", "<|im_start|>", "<|im_end|>", reserved]
    builder.add("tokenizer.ggml.tokens", tokens)
    let types = tokens.indices.map { $0 < 256 ? 1 : $0 == 260 ? reservedType : 3 }
    builder.add(
      "tokenizer.ggml.token_type", type: 9,
      GGUFBuilder.bytes(UInt32(5)) + GGUFBuilder.bytes(UInt64(types.count)) + types.flatMap { GGUFBuilder.bytes($0) })
    builder.add("tokenizer.ggml.bos_token_id", UInt32(256))
    builder.add("tokenizer.ggml.eos_token_id", eos)
    builder.add("tokenizer.ggml.padding_token_id", padding)
    if let addsBOS { builder.add("tokenizer.ggml.add_bos_token", addsBOS) }
    builder.add("tokenizer.chat_template", template)
    builder.add("general.name", "mini")
    var random = SeededRandom(seed: 5)
    let values = (0..<tokens.count * 8).map { _ in Float.random(in: -1...1, using: &random) }
    builder.addTensor("token_embd.weight", shape: [tokens.count, 8], values)
    builder.addTensor("output_norm.weight", shape: [8], [Float](repeating: 1, count: 8))
    return builder
  }

  @Test func aGGUFWhoseEOSIsNotItsTemplatesEnd() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("model.gguf", gguf(eos: 257).build())
    let examination = try Examination(of: path)
    #expect(examination.findings.map(\.id) == ["eos-not-end-of-turn"])
    let output = folder.path + "/out"
    let repaired = try examination.repair(into: output)
    #expect(repaired == output + "/model.gguf")
    #expect(try Examination(of: repaired).findings.isEmpty)
    // The sound file differs in nothing else.
    #expect(TemporaryFolder.bytes(of: repaired) == gguf(eos: 259).build())
    let file = folder.path + "/again.gguf"
    #expect(try Examination(of: repaired).repair(into: file) == file)
    #expect(TemporaryFolder.bytes(of: file) == TemporaryFolder.bytes(of: repaired))
    #expect(throws: ModelFileError.self) { try examination.repair(into: file) }
  }

  @Test func aGGUFWhosePaddingIsABOSThatNobodyWrites() throws {
    // As Qwen's: BOS is named because the format wants one, and ids without a token are filled up.
    let folder = try TemporaryFolder()
    func found(_ name: String, addsBOS: Bool) throws -> Examination {
      let builder = gguf(eos: 259, padding: 256, addsBOS: addsBOS, reserved: "[PAD260]", reservedType: 5)
      return try Examination(of: folder.write(name, builder.build()))
    }
    #expect(try found("none.gguf", addsBOS: false).findings.isEmpty)
    let examination = try found("written.gguf", addsBOS: true)
    #expect(examination.findings.map(\.id) == ["pad-is-bos"])
    #expect(examination.findings.first?.repair.contains("`[PAD260]`") == true)
    #expect(try Examination(of: examination.repair(into: folder.path + "/out")).findings.isEmpty)
  }

  @Test func aGGUFWhoseTemplateOpensTheTurn() throws {
    let template = """
      {% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\\n' + m.content + \
      '<|im_end|>\\n<|im_start|>assistant\\n' }}{% elif m.role == 'system' %}{{ '<|im_start|>system\\n' + m.content + \
      '<|im_end|>\\n' }}{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}
      """
    let folder = try TemporaryFolder()
    let path = try folder.write("model.gguf", gguf(eos: 259, template: template).build())
    let examination = try Examination(of: path)
    #expect(examination.findings.map(\.id) == ["template-opens-turn-unasked"])
    let repaired = try examination.repair(into: folder.path + "/out")
    #expect(try Examination(of: repaired).findings.isEmpty)
    let (before, after) = (try GGUFFile(path: path), try GGUFFile(path: repaired))
    for (old, new) in zip(before.tensors, after.tensors) {
      #expect(old.name == new.name && old.bytes?.elementsEqual(new.bytes ?? .init(start: nil, count: 0)) == true)
    }
    // In memory too.
    let treated = try TreatedTokenizer(.gguf(before))
    #expect(
      try treated.tokenizer.renderConversation([["role": "user", "content": "x"]]) == "<|im_start|>user\nx<|im_end|>\n")
  }
}
