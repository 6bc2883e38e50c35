import JSONValues
import ModelFiles
import TestSupport
import Testing

@testable import Export

@Suite struct ModelfileTests {
  let home: TemporaryFolder

  init() throws { home = try TemporaryFolder() }

  /// The Modelfile of a small model with a template, if any.
  private func modelfile(_ template: String?) throws -> Modelfile {
    try TinyModel(changing: GGUFExportTests.sizes).write(to: home)
    var config: JSONObject = ["bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|dummy|>"]
    if let template { config["chat_template"] = .string(template) }
    try TinyTokenizer.write(config: config, to: home)
    return Modelfile(try GGUFExport(of: home.path, type: .f32), gguf: "tiny.gguf")
  }

  @Test func saysTemplateStopsAndLicence() throws {
    _ = try home.write("LICENSE", "Do as you like.\nNo warranty.\n")
    let made = try modelfile(TinyTokenizer.chatML)
    #expect(made.remarks.isEmpty)
    #expect(
      made.text == """
        # Made by swiftlet export
        FROM ./tiny.gguf
        TEMPLATE \"""{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}\
        {{ if eq .Role "user" }}<|im_start|>user
        {{ .Content }}<|im_end|>
        {{ if $last }}<|im_start|>assistant
        {{ end }}{{ else if eq .Role "system" }}<|im_start|>system
        {{ .Content }}<|im_end|>
        {{ else if eq .Role "assistant" }}<|im_start|>assistant
        {{ .Content }}{{ if not $last }}<|im_end|>
        {{ end }}{{ end }}{{ end }}\"""
        PARAMETER stop "<|im_end|>"
        LICENSE \"""Do as you like.
        No warranty.
        \"""

        """)
  }

  @Test func theDefaultSystemMessageIsALineOfItsOwn() throws {
    let template =
      "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe \"good\".<|im_end|>\\n' }}{% endif %}"
      + TinyTokenizer.chatML
    #expect(try modelfile(template).text.contains("\nSYSTEM \"\"\"Be \"good\".\"\"\"\n"))
  }

  @Test func whatCannotBeSaidIsTold() throws {
    for (template, line) in [
      (nil, "the model has no chat template, so the Modelfile has none"),
      (
        "{% for m in messages %}{{ loop.index }}: {{ m.content }}<|im_end|>{% endfor %}",
        "the chat template writes the turns of one conversation differently: the Modelfile has no TEMPLATE, and Ollama "
          + "takes its own guess"
      ),
      (
        TinyTokenizer.chatML.replacing("m['content']", with: "(m['content'] | trim)"),
        "the chat template takes white space off the ends of messages, which Ollama's language cannot"
      ),
      (
        "{% if tools %}{{ tools | tojson }}{% endif %}" + TinyTokenizer.chatML,
        "the chat template describes tools; the Modelfile's template leaves them out"
      ),
    ] as [(String?, String)] {
      let made = try modelfile(template)
      #expect(made.remarks == [line])
      #expect(made.text.hasPrefix("# Made by swiftlet export\n# \(line)\nFROM ./tiny.gguf\n"))
      #expect(made.text.contains("TEMPLATE \"") == (template?.contains("im_start") == true))
      #expect(made.text.contains("PARAMETER stop \"<|im_end|>\"\n"), "how answers end is known all the same")
    }
  }

  @Test func aModelfileOfSomebodyElseIsKept() throws {
    let (ours, other) = (try home.write("a", "# Made by swiftlet export\nFROM x"), try home.write("b", "FROM x"))
    try Modelfile.requireReplaceable(ours)
    try Modelfile.requireReplaceable("\(home.path)/none")
    #expect(throws: ModelFileError.self) { try Modelfile.requireReplaceable(other) }
  }
}
