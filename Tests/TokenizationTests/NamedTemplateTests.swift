import Glibc
import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// Models with several chat templates, and templates of the user's own.
@Suite struct NamedTemplateTests {
  private func folder(_ configuration: JSONObject, files: [String: String] = [:]) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    var json = try GoldenKind.named("bytes_cl100k").json
    json["version"] = "1.0"
    _ = try folder.write("tokenizer.json", JSONValue.object(json).serialized())
    _ = try folder.write("tokenizer_config.json", JSONValue.object(configuration).serialized())
    if files.keys.contains(where: { $0.contains("/") }) { mkdir(folder.path + "/additional_chat_templates", 0o755) }
    for (name, text) in files { _ = try folder.write(name, text) }
    return folder
  }

  private let messages: JSONValue = [["role": "user", "content": "q"]]
  private let tools: JSONValue = [["type": "function", "function": ["name": "f"]]]

  @Test func listOfNames() throws {
    let folder = try folder([
      "chat_template": [
        ["name": "default", "template": "plain"], ["name": "tool_use", "template": "tools"],
        ["name": "rag", "template": "{{ documents[0].text }}"],
      ]
    ])
    let tokenizer = try Tokenizer(folder: folder.path)
    #expect(tokenizer.chatTemplates.entries.map(\.name) == ["default", "tool_use", "rag"])
    #expect(tokenizer.chatTemplate?.source == "plain" && tokenizer.toolChatTemplate?.source == "tools")
    #expect(try tokenizer.renderConversation(messages) == "plain")
    #expect(try tokenizer.renderConversation(messages, tools: .null) == "plain")
    #expect(try tokenizer.renderConversation(messages, tools: tools) == "tools")
    #expect(try tokenizer.renderConversation(messages, tools: tools, templateName: "default") == "plain")
    #expect(
      try tokenizer.renderConversation(messages, documents: [["text": "d"]], templateName: "rag") == "d")
    #expect(
      throws: TokenizationError("the model has no chat template named \"x\"; it has default, tool_use, rag")
    ) { try tokenizer.renderConversation(messages, templateName: "x") }
  }

  @Test func namesWithoutADefault() throws {
    let folder = try folder(["chat_template": [["name": "a", "template": "x"], ["name": "b", "template": "y"]]])
    let tokenizer = try Tokenizer(folder: folder.path)
    #expect(tokenizer.chatTemplate == nil)
    #expect(throws: TokenizationError("the model has no default chat template; name one of a, b")) {
      try tokenizer.renderConversation(messages)
    }
  }

  @Test func filesOfTheirOwn() throws {
    let folder = try folder(
      ["chat_template": "configured"],
      files: [
        "chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "tool file",
        "additional_chat_templates/rag.jinja": "rag file", "additional_chat_templates/readme.txt": "{{",
      ])
    let tokenizer = try Tokenizer(folder: folder.path)
    #expect(tokenizer.chatTemplates.entries.map(\.name) == ["default", "rag", "tool_use"])
    #expect(try tokenizer.renderConversation(messages) == "file")
    #expect(try tokenizer.renderConversation(messages, tools: tools) == "tool file")
  }

  @Test func brokenTemplatesAreNamed() throws {
    let listed = try folder(["chat_template": [["name": "rag", "template": "a\n{{ b"]]])
    let error = #expect(throws: TokenizationError.self) { try Tokenizer(folder: listed.path) }
    #expect(
      error?.description.hasSuffix(
        "tokenizer_config.json: chat_template[0].template: chat template, line 2, column 1: the expression is never closed"
      )
        == true, "\(error.map { "\($0)" } ?? "")")
    let filed = try folder([:], files: ["chat_template.jinja": "{% for %}"])
    let other = #expect(throws: TokenizationError.self) { try Tokenizer(folder: filed.path) }
    #expect(other?.description.contains("chat_template.jinja: chat template, line 1, column 8") == true)
  }

  /// A template of the user's own also does away with a broken one.
  @Test func instead() throws {
    let folder = try folder(["chat_template": "{{ broken"], files: ["mine.jinja": "mine"])
    let template = try ChatTemplate(file: folder.path + "/mine.jinja")
    let tokenizer = try Tokenizer(folder: folder.path, chatTemplate: template)
    #expect(try tokenizer.renderConversation(messages, tools: tools) == "mine")
    #expect(throws: TokenizationError("\(folder.path)/none.jinja: no such file")) {
      try ChatTemplate(file: folder.path + "/none.jinja")
    }
  }

  @Test func namesOfGGUF() throws {
    var metadata = GGUFTokenizerMetadata(model: "llama", tokens: ["<unk>", "a", "b", "ab"], scores: [0, 0, 0, 0])
    metadata.chatTemplate = "plain"
    metadata.namedChatTemplates = [("tool_use", "tools"), ("rag", "{{ 1 +")]
    let error = #expect(throws: TokenizationError.self) { try Tokenizer(gguf: metadata) }
    #expect(error?.description.hasPrefix("tokenizer.chat_template.rag: chat template, line 1") == true)
    metadata.namedChatTemplates.removeLast()
    let tokenizer = try Tokenizer(gguf: metadata)
    #expect(try tokenizer.renderConversation(messages, tools: tools) == "tools")
    let instead = try Tokenizer(gguf: metadata, chatTemplate: ChatTemplate(source: "mine"))
    #expect(try instead.renderConversation(messages, tools: tools) == "mine")
  }
}
