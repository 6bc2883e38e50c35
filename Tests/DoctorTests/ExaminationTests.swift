import Glibc
import JSONValues
import ModelFiles
import TestSupport
import Testing
import Tokenization

@testable import Doctor

@Suite struct ExaminationTests {
  // MARK: Phi-4

  @Test func phi4AsPublishedHasExactlyItsDefects() throws {
    let findings = try MiniModel.phi4().findings()
    #expect(
      findings.map(\.id) == ["template-opens-turn-unasked", "eos-not-end-of-turn", "pad-is-eos", "ids-disagree"])
    #expect(findings.map(\.severity) == [.error, .error, .warning, .warning])
    #expect(findings.allSatisfy { $0.isRepairable })
  }

  @Test func phi4RepairedByItsPublisherIsSound() throws {
    var model = MiniModel.phi4()
    let (end, padding) = (model.id("<|im_end|>") ?? 0, model.id("<|dummy_85|>") ?? 0)
    model.config?["eos_token_id"] = .integer(end)
    model.config?["pad_token_id"] = .integer(padding)
    model.configuration["eos_token"] = "<|im_end|>"
    model.configuration["pad_token"] = "<|dummy_85|>"
    model.configuration["chat_template"] = .string(MiniModel.soundTemplate)
    #expect(try model.findings().isEmpty)
  }

  @Test func aFolderWithoutTokenizerIsStillLookedAt() throws {
    var model = MiniModel.phi4()
    (model.tokenizer, model.config) = ([:], nil)
    let findings = try model.findings()
    #expect(
      findings.map(\.id) == ["template-opens-turn-unasked", "eos-not-end-of-turn", "pad-is-eos", "tokenizer-missing"])
  }

  // MARK: Defects of other models

  @Test func aBaseOfLlama3HasNoPadding() throws {
    let findings = try MiniModel.llama3(instruct: false).findings()
    #expect(findings.map(\.id) == ["pad-missing"])
    #expect(findings.first?.repair.contains("`<|reserved_special_token_4|>`") == true)
  }

  @Test func severalEndsInGenerationConfigAreNoDefect() throws {
    let findings = try MiniModel.llama3(instruct: true).findings()
    #expect(findings.map(\.id) == ["pad-missing", "double-bos"])
  }

  @Test func aChatMLTuneWhoseEOSStayed() throws {
    var model = MiniModel.chatML()
    model.configuration["eos_token"] = "</s>"
    let finding = try #require(try model.findings().first)
    #expect(
      finding.id == "eos-not-end-of-turn" && finding.repair.contains("`<|im_end|>` (\(model.id("<|im_end|>") ?? 0))"))
  }

  @Test func anEndOfTurnThatIsNoToken() throws {
    var model = MiniModel(tokens: ["<s>", "</s>", "<unk>", "<pad>"])
    model.configuration = MiniModel.chatML().configuration
    model.configuration["eos_token"] = "</s>"
    let findings = try model.findings()
    #expect(findings.map(\.id) == ["eos-not-end-of-turn", "template-marker-is-text"])
    #expect(findings.first?.isRepairable == false)
    #expect(findings.first?.evidence.contains("\"<|im_end|>\"") == true)
  }

  @Test func anEndThatIsTextButAnEOSThatFollows() throws {
    var model = MiniModel.chatML()
    model.configuration["eos_token"] = "</s>"
    model.configuration["chat_template"] =
      "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %} END{{ eos_token }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    #expect(try model.findings().isEmpty)
  }

  @Test func aTurnThatNothingEnds() throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] =
      "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    #expect(try model.findings().map(\.id) == ["turn-without-end"])
  }

  @Test func aTurnAndAConversationThatEndDifferently() throws {
    var model = MiniModel.chatML()
    model.configuration["eos_token"] = "</s>"
    model.configuration["chat_template"] = .string(
      MiniModel.chatMLTemplate + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}")
    #expect(try model.findings().map(\.id) == ["end-of-turn-not-listed"])
    model.generation = ["eos_token_id": .integer(model.id("</s>") ?? 0)]
    let folder = try model.write()
    let examination = try Examination(of: folder.path)
    #expect(defects(examination.findings) == ["end-of-turn-not-listed"])
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try examination.repair(into: output)
    #expect(
      TemporaryFolder.text(of: output + "/generation_config.json")?
        .contains("[\(model.id("</s>") ?? 0), \(model.id("<|im_end|>") ?? 0)]") == true)
    #expect(try Examination(of: output).findings.isEmpty)
  }

  @Test(arguments: [
    ("pad-outside-vocabulary", "[PAD]"), ("pad-is-bos", "<s>"), ("pad-is-eos", "<|im_end|>"), ("pad-is-unk", "<unk>"),
    ("pad-missing", ""),
  ])
  func padding(id: String, token: String) throws {
    var model = MiniModel.chatML()
    model.configuration["pad_token"] = token.isEmpty ? .null : .string(token)
    let findings = try model.findings()
    #expect(findings.map(\.id) == [id])
    #expect(findings.first?.severity == (id == "pad-outside-vocabulary" ? .error : .warning))
    #expect(findings.first?.repair.contains("`<pad>`") == true)
  }

  @Test func paddingFallsBackToUNKThenToANewToken() throws {
    var model = MiniModel(tokens: ["<s>", "</s>", "<unk>"])
    model.configuration = ["bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"]
    #expect(try model.findings().first?.repair.contains("`<unk>`") == true)
    model.configuration["pad_token"] = "<unk>"
    let finding = try model.findings().first
    #expect(finding?.id == "pad-is-unk" && finding?.severity == .note)
    model.configuration["pad_token"] = nil
    model.configuration["unk_token"] = nil
    // No row is left for a new token.
    #expect(try model.findings().first?.isRepairable == false)
    let next = model.config?["vocab_size"]?.integer ?? 0
    model.config?["vocab_size"] = .integer(next + 8)
    let folder = try model.write()
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try Examination(of: folder.path).repair(into: output)
    #expect(try Examination(of: output).findings.isEmpty)
    let tokenizer = try Tokenizer(folder: output)
    #expect(tokenizer.padTokenID == Int32(next) && tokenizer.encode("<|pad|>") == [Int32(next)])
  }

  @Test func reservedTokensThatATemplateUsesAreNotTaken() throws {
    var model = MiniModel.llama3(instruct: true)
    let template = model.configuration["chat_template"]?.string ?? ""
    model.configuration["chat_template"] = .string(template + "{# <|reserved_special_token_4|> #}")
    #expect(try model.findings().first?.repair.contains("`<|reserved_special_token_3|>`") == true)
  }

  // MARK: Templates

  @Test func aRequestThatIsIgnored() throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    let folder = try model.write()
    let examination = try Examination(of: folder.path)
    #expect(defects(examination.findings) == ["template-ignores-generation-prompt"])
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try examination.repair(into: output)
    let rendered = try Tokenizer(folder: output).renderConversation(
      [["role": "user", "content": "x"]], addGenerationPrompt: true)
    #expect(rendered == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n")
  }

  /// Users' turns that end in a mark of their own are no opened turns.
  @Test func instructionMarksAreNoDefect() throws {
    var model = MiniModel(tokens: ["<s>", "</s>", "<unk>", "<pad>"])
    model.configuration = [
      "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
      "chat_template":
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'system' %}{{ m.content }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    ]
    #expect(try model.findings().isEmpty)
  }

  @Test(arguments: [
    // The opening is text between tags.
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n<|im_start|>assistant\n{% elif m.role == 'system' %}<|im_start|>system\n{{ m.content }}<|im_end|>\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}",
    // It comes at the end without a condition.
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% if m.role == 'user' and loop.last %}{{ '<|im_start|>assistant\\n' }}{% endif %}{% endfor %}",
    // Tags that take white space, and strings with escapes.
    "{%- for m in messages -%}\n  {%- if m.role == 'user' -%}\n    {{- \"<|im_start|>user\\n\" + m.content + \"<|im_end|>\\n<|im_start|>assistant\\n\" -}}\n  {%- elif m.role == 'system' -%}\n    {{- \"<|im_start|>system\\n\" + m.content + \"<|im_end|>\\n\" -}}\n  {%- else -%}\n    {{- m.content + \"<|im_end|>\\n\" -}}\n  {%- endif -%}\n{%- endfor -%}\n",
  ])
  func turnsThatAreOpenedUnasked(template: String) throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] = .string(template)
    let folder = try model.write()
    let examination = try Examination(of: folder.path)
    #expect(defects(examination.findings) == ["template-opens-turn-unasked"])
    #expect(examination.findings.first?.isRepairable == true)
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try examination.repair(into: output)
    #expect(try Examination(of: output).findings.isEmpty)
    let tokenizer = try Tokenizer(folder: output)
    let messages: JSONValue = [["role": "user", "content": "x"]]
    let closed = "<|im_start|>user\nx<|im_end|>\n"
    #expect(try tokenizer.renderConversation(messages) == closed)
    #expect(
      try tokenizer.renderConversation(messages, addGenerationPrompt: true) == closed + "<|im_start|>assistant\n")
  }

  @Test func aTemplateThatDoesNotParse() throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] = "{% for m in messages %}{{ m.content }"
    let findings = try model.findings()
    #expect(findings.map(\.id) == ["template-does-not-parse"])
    #expect(findings.first?.evidence.contains("line 1, column") == true)
  }

  @Test func aTemplateThatRefuses() throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] = "{{ raise_exception('no') }}"
    #expect(try model.findings().map(\.id).contains("template-fails"))
  }

  @Test(arguments: [
    ("system", "message.role != 'system'", Severity.warning), ("user", "message.role != 'user'", .error),
    ("assistant", "message.role != 'assistant'", .error), ("tool", "message.role != 'tool'", .warning),
  ])
  func messagesThatAreLost(role: String, condition: String, severity: Severity) throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] = .string(
      MiniModel.chatMLTemplate.replacing("messages %}", "messages if \(condition) %}{# tool #}"))
    let finding = try #require(try model.findings().first { $0.id == "template-loses-message" })
    #expect(finding.severity == severity && finding.evidence.contains("the words of \(role) are missing"))
  }

  @Test func labelsThatAreAllMasked() throws {
    var model = MiniModel.chatML()
    model.configuration["chat_template"] = .string(MiniModel.chatMLTemplate + "{% generation %}{% endgeneration %}")
    let findings = try model.findings()
    #expect(findings.map(\.id) == ["labels-all-masked"] && findings.first?.severity == .error)
  }

  // MARK: Ids

  @Test func idsThatDisagree() throws {
    var model = MiniModel.chatML()
    let end = model.id("<|im_end|>") ?? 0
    model.config?["eos_token_id"] = .integer(end)
    model.config?["bos_token_id"] = .integer(end)
    model.generation = ["eos_token_id": [0]]
    model.files["special_tokens_map.json"] = #"{"pad_token": {"content": "<unk>"}}"#
    model.files["added_tokens.json"] = #"{"<pad>": 7}"#
    let folder = try model.write()
    let examination = try Examination(of: folder.path)
    let finding = try #require(examination.findings.first)
    #expect(examination.findings.count == 1 && finding.id == "ids-disagree" && finding.severity == .warning)
    for place in [
      "generation_config.json: eos_token_id is 0", "config.json: bos_token_id is \(end)",
      "special_tokens_map.json: pad_token is `<unk>`", "added_tokens.json has `<pad>` as 7",
    ] {
      #expect(finding.evidence.contains(place))
    }
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try examination.repair(into: output)
    #expect(try Examination(of: output).findings.isEmpty)
    #expect(
      TemporaryFolder.text(of: output + "/special_tokens_map.json") == #"{"pad_token": {"content": "<pad>"}}"#)
    #expect(
      TemporaryFolder.text(of: output + "/generation_config.json")?.contains("[0, \(end)]") == true)
  }

  @Test func tablesThatDisagree() throws {
    var model = MiniModel.chatML()
    model.configuration["added_tokens_decoder"] = ["9": ["content": "<pad>", "special": true]]
    let folder = try model.write()
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    let examination = try Examination(of: folder.path)
    #expect(examination.findings.map(\.id) == ["ids-disagree"])
    try examination.repair(into: output)
    #expect(try Examination(of: output).findings.isEmpty)
  }

  @Test func aTokenWithoutARow() throws {
    var model = MiniModel.chatML(more: ["<new>"])
    let rows = model.id("<new>") ?? 0
    model.config?["vocab_size"] = .integer(rows)
    let finding = try model.findings().first
    #expect(finding?.id == "token-without-embedding" && finding?.severity == .warning)
    model.configuration["bos_token"] = "<new>"
    #expect(try model.findings().first?.severity == .error)
    // Padding finds another token.
    model.configuration["bos_token"] = "<s>"
    model.configuration["pad_token"] = "<new>"
    let padding = try model.findings().first { $0.id == "pad-outside-vocabulary" }
    #expect(padding?.isRepairable == true && padding?.repair.contains("`<pad>`") == true)
  }

  @Test func roleTokensThatNothingKnows() throws {
    var model = MiniModel.chatML()
    model.configuration["unk_token"] = "<nothing>"
    #expect(try model.findings().map(\.id) == ["token-outside-vocabulary"])
  }

  /// Searched in normalized text, where a space is put before it, the token is found at the start of a text alone.
  @Test(arguments: [false, true])
  func specialTokensThatAreTakenApart(isInConfiguration: Bool) throws {
    var model = MiniModel.chatML()
    let end = try #require(model.id("<|im_end|>"))
    model.tokenizer["normalizer"] = ["type": "Prepend", "prepend": "_"]
    #expect(try model.findings().isEmpty)
    var token: JSONObject = ["content": "<|im_end|>", "special": true, "normalized": true, "single_word": true]
    if isInConfiguration {
      model.configuration["added_tokens_decoder"] = ["\(end)": .object(token)]
    } else {
      token["id"] = .integer(end)
      model.tokenizer["added_tokens"] = .array(
        (model.tokenizer["added_tokens"]?.array ?? []).map { $0["id"]?.integer == end ? .object(token) : $0 })
    }
    let folder = try model.write()
    let examination = try Examination(of: folder.path)
    #expect(examination.findings.map(\.id) == ["special-token-splits"])
    let finding = try #require(examination.findings.first)
    #expect(finding.severity == .error && finding.evidence.contains("`<|im_end|>` (\(end)) becomes"))
    // In memory too.
    let treated = try TreatedTokenizer(.folder(folder.path))
    #expect(treated.examination.remarks.first?.hasPrefix("repaired in memory: special-token-splits") == true)
    #expect(treated.tokenizer.encode("a<|im_end|>a").count { $0 == Int32(end) } == 1)
    // Where no template writes it between words, it is good to know.
    model.configuration["chat_template"] = nil
    #expect(try model.findings().map { "\($0.id) \($0.severity)" } == ["special-token-splits note"])
    let output = folder.path + "-repaired"
    defer { TemporaryFolder.removeAll(output) }
    try examination.repair(into: output)
    #expect(try Examination(of: output).findings.isEmpty)
    let found = try Tokenizer(folder: output).encode("a<|im_end|>a").count { $0 == Int32(end) }
    #expect(found == 1)
  }

  // MARK: Weights and lengths

  private func findings(
    _ model: MiniModel, promising promised: Int? = nil, _ change: (_ row: Int) -> Float?
  ) throws -> [Finding] {
    var written = model
    if let promised { written.config?["vocab_size"] = .integer(promised) }
    let folder = try written.write()
    let rows = model.config?["vocab_size"]?.integer ?? 0
    var random = SeededRandom(seed: 3)
    var values: [Float] = []
    for row in 0..<rows {
      for _ in 0..<4 { values.append(change(row) ?? Float.random(in: -1...1, using: &random)) }
    }
    let writer = try SafetensorsWriter(
      path: folder.path + "/model.safetensors",
      tensors: [SafetensorsEntry("model.embed_tokens.weight", shape: [rows, 4], format: .float32)])
    try values.withUnsafeBytes { try writer.append($0, to: "model.embed_tokens.weight") }
    try writer.finish()
    return try withExtendedLifetime(folder) { try Examination(of: folder.path).findings }
  }

  @Test func rowsThatWereNeverTrained() throws {
    let model = MiniModel.chatML()
    let (start, end) = (model.id("<|im_start|>") ?? 0, model.id("<|im_end|>") ?? 0)
    #expect(try findings(model) { _ in nil }.isEmpty)
    let opening = try findings(model) { $0 == start ? 1e-4 : nil }
    #expect(opening.map(\.id) == ["embedding-untrained"] && opening.first?.severity == .warning)
    let closing = try findings(model) { $0 == end ? 0 : nil }
    #expect(closing.first?.severity == .error && closing.first?.evidence.contains("is all zeros") == true)
    let twins = try findings(model) { $0 == start || $0 == end ? 0.5 : nil }
    #expect(twins.first?.evidence.contains("is the same as another token's") == true)
  }

  @Test func aSizeThatDisagreesWithTheWeights() throws {
    #expect(try findings(.chatML(), promising: 1000) { _ in nil }.map(\.id) == ["embedding-size-disagrees"])
  }

  @Test(
    arguments: [
      (512.0, nil, false), (1024, nil, false), (4096, nil, true), (1e30, nil, false),
      (4096, ["factor": 4, "original_max_position_embeddings": 1024], false), (4096, ["factor": 2], true),
    ] as [(Double, JSONValue?, Bool)])
  func contextLengths(length: Double, scaling: JSONValue?, isWrong: Bool) throws {
    var model = MiniModel.chatML()
    model.configuration["model_max_length"] = length > 1e9 ? .number(length) : .integer(Int(length))
    model.config?["rope_scaling"] = scaling
    #expect(try model.findings().map(\.id) == (isWrong ? ["context-length-disagrees"] : []))
  }

  @Test func slowAndFastFilesThatDisagree() throws {
    var model = MiniModel.chatML()
    let vocabulary = model.tokenizer["model"]?["vocab"] ?? [:]
    model.files["vocab.json"] = vocabulary.serialized()
    model.files["merges.txt"] = "#version: 0.2\nï ¿\nï¿ ½\nĠ ï¿½\n"
    #expect(try model.findings().isEmpty)
    model.files["merges.txt"] = "#version: 0.2\nï ¿\nĠ ï¿½\n"
    var other = vocabulary.object ?? [:]
    other["a"] = 1000
    model.files["vocab.json"] = JSONValue.object(other).serialized()
    let finding = try #require(try model.findings().first)
    #expect(finding.id == "tokenizer-files-disagree")
    #expect(finding.evidence.contains("`a` is 1000 in vocab.json") && finding.evidence.contains("2 merges"))
  }
}

extension String {
  fileprivate func replacing(_ part: String, _ other: String) -> String {
    guard let place = find(part.utf8, in: Array(utf8)) else { return self }
    var bytes = Array(utf8)
    bytes.replaceSubrange(place..<place + part.utf8.count, with: Array(other.utf8))
    return String(decoding: bytes, as: UTF8.self)
  }
}
