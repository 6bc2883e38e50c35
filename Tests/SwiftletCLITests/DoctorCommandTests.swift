import Foundation
import JSONValues
import Testing

@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct DoctorCommandTests {
  /// A folder without weights whose template opens the assistant's turn, and whose EOS and padding are wrong.
  private func write(_ folder: String, sound: Bool = false) throws {
    let tokens = ["<|end|>", "<|turn|>", "<|im_end|>", "<|dummy_1|>"]
    let table = tokens.enumerated().map { "\"\($0)\": {\"content\": \"\($1)\", \"special\": true}" }
    let opening = "<|turn|>assistant\\n"
    let template =
      sound
      ? "{% for m in messages %}{{ '<|turn|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '\(opening)' }}{% endif %}"
      : "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + '<|im_end|>' }}{% else %}"
        + "{{ '<|turn|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% if m.role == 'user' %}{{ '\(opening)' }}"
        + "{% endif %}{% endif %}{% endfor %}"
    let end = sound ? "<|im_end|>" : "<|end|>"
    let text = """
      {"added_tokens_decoder": {\(table.joined(separator: ", "))}, "eos_token": "\(end)",
       "pad_token": "\(sound ? "<|dummy_1|>" : end)", "chat_template": \(JSONValue.string(template).serialized())}
      """
    try text.write(toFile: folder + "/tokenizer_config.json", atomically: true, encoding: .utf8)
  }

  @Test func findsAndRepairs() throws {
    try withTemporaryFolder { folder in
      try write(folder)
      let found = try swiftlet(["doctor", folder, "--json"])
      #expect(found.status == 1 && found.errors.isEmpty)
      let findings = try JSONValue.parse(found.output)["findings"]?.array ?? []
      #expect(
        findings.compactMap { $0["id"]?.string }
          == ["template-opens-turn-unasked", "eos-not-end-of-turn", "pad-is-eos", "tokenizer-missing"])
      for finding in findings {
        #expect(finding.object?.keys == ["id", "severity", "message", "evidence", "repair"])
      }
      let text = try swiftlet(["doctor", folder])
      #expect(text.status == 1 && text.output.contains("ERRORS\n") && text.output.contains(" --fix --output "))

      let output = folder + "-repaired"
      defer { try? FileManager.default.removeItem(atPath: output) }
      let fixed = try swiftlet(["doctor", folder, "--fix", "--output", output, "--json"])
      #expect(fixed.status == 0)
      let object = try JSONValue.parse(fixed.output)
      #expect(object["output"]?.string == output && object["findings"]?.array?.count == 4)
      #expect(object["remaining"]?.array?.compactMap { $0["id"]?.string } == ["tokenizer-missing"])
      #expect(try swiftlet(["doctor", output]).status == 0)
      // Not a second time into the same place, and not onto itself.
      for place in [output, folder] {
        let refused = try swiftlet(["doctor", folder, "--fix", "--output", place])
        #expect(refused.status == 2 && refused.message?.contains(place) == true)
      }
    }
  }

  @Test func aSoundModel() throws {
    try withTemporaryFolder { folder in
      try write(folder, sound: true)
      let result = try swiftlet(["doctor", folder])
      #expect(result.status == 0 && result.output.hasPrefix("NOTE\n") && !result.output.contains("--fix"))
    }
  }

  /// A template that drops the assistant's words leaves nothing to learn in any data.
  @Test(.enabled(if: ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"] != nil, "no sample model"))
  func dataWithNothingToLearn() throws {
    let model = try #require(ProcessInfo.processInfo.environment["SWIFTLET_SAMPLE_MODEL"])
    try withTemporaryFolder { folder in
      let data = folder + "/data.jsonl"
      let line = #"{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}"# + "\n"
      try line.write(toFile: data, atomically: true, encoding: .utf8)
      #expect(try swiftlet(["doctor", model, "--data", data]).status == 0)
      try line.replacingOccurrences(of: "assistant", with: "user").write(
        toFile: data, atomically: true, encoding: .utf8)
      let result = try swiftlet(["doctor", model, "--data", data, "--json"])
      #expect(result.status == 1 && result.output.contains("\"labels-all-masked\", \"severity\": \"error\""))
    }
  }

  @Test func mistakes() throws {
    try withTemporaryFolder { folder in
      for words in [
        ["doctor", folder], ["doctor", folder + "/none"], ["doctor", folder, "--fix"],
        ["doctor", folder, "--output", "x"],
      ] {
        let result = try swiftlet(words)
        #expect(result.status == 2 && result.message != nil && result.output.isEmpty)
      }
    }
  }
}
