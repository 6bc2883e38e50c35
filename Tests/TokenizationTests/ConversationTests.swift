import JSONValues
import Testing

@testable import Tokenization

/// Which tokens of a conversation are the assistant's.
@Suite struct ConversationTests {
  static let chatML = """
    {%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') }}\
    {%- for call in m.tool_calls or [] %}{{ '<call>' + (call.function | tojson) + '</call>' }}{% endfor %}\
    {{- '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
    """
  static let llama2 = """
    {{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}\
    {% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}
    """
  static let llama3 = """
    {% set loop_messages = messages %}{% for m in loop_messages %}{% set content = '<|start|>' + m.role + '<|stop|>\\n\\n' + \
    m.content | trim + '<|end|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\\n\\n' }}{% endif %}
    """
  /// Says the end of the text after the last turn, where no prompt is asked for.
  static let phi3 = """
    {% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
    """
  /// Takes the thoughts out of all turns but the last.
  static let thinking = """
    {%- for m in messages %}{% set content = m.content %}\
    {%- if m.role == 'assistant' and not loop.last %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}\
    {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}{% endfor %}\
    {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}
    """
  /// Opens the assistant's turn after each question, asked or not, as Phi-4's first template did.
  static let alwaysOpen = """
    {% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user<|im_sep|>' + m.content + '<|im_end|>' + \
    '<|im_start|>assistant<|im_sep|>' }}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}
    """
  /// Never opens the assistant's turn.
  static let neverOpen = """
    {% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
    """
  static let marked = """
    {% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\\n' }}{% generation %}{{ m.content }}\
    {% endgeneration %}{{ '<|im_end|>\\n' }}{% else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}\
    {% endif %}{% endfor %}
    """
  static let plain = """
    {% for m in messages %}{% if m.role == 'user' %}{{ '### Question:\\n' + m.content + '\\n\\n' }}{% else %}\
    {{ '### Answer:\\n' + m.content + '\\n\\n' }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '### Answer:\\n' }}{% endif %}
    """

  private func makeTokenizer(_ template: String, kind: String = "bytes_cl100k") throws -> Tokenizer {
    let kind = try GoldenKind.named(kind)
    var tokens = kind.json["added_tokens"]?.array ?? []
    var next = 900
    for content in ["<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|start|>", "<|stop|>", "<|user|>", "<|assistant|>"]
    where !tokens.contains(where: { $0["content"]?.string == content }) {
      tokens.append(["id": .integer(next), "content": .string(content), "special": true, "normalized": false])
      next += 1
    }
    return try kind.makeTokenizer(
      ["bos_token": "<s>", "eos_token": "</s>", "chat_template": .string(template)],
      more: ["added_tokens": .array(tokens)])
  }

  /// The stretches of the text that are the assistant's.
  private func responses(_ tokenizer: Tokenizer, _ messages: JSONValue, tools: JSONValue? = nil) throws -> [String] {
    let masked = try tokenizer.encodeConversation(messages, tools: tools)
    #expect(masked.ids.count == masked.isResponse.count && masked.ids.count == masked.ranges.count)
    let parsed = try tokenizer.encodeConversation(messages, tools: tools, parseSpecialTokens: true)
    #expect(parsed.ids == tokenizer.encode(masked.text, addSpecialTokens: false) && isSame(parsed.text, masked.text))
    let bytes = Array(masked.text.utf8)
    return zip(masked.ranges, masked.isResponse).split { !$0.1 }.map { run in
      let start = run.first?.0.lowerBound ?? 0
      return String(decoding: bytes[start..<(run.last?.0.upperBound ?? start)], as: UTF8.self)
    }
  }

  static let chat: JSONValue = [
    ["role": "user", "content": "Hi"], ["role": "assistant", "content": "Hello there."],
    ["role": "user", "content": "Hello there."], ["role": "assistant", "content": "Hi"],
    ["role": "user", "content": "a"], ["role": "assistant", "content": "Bye."],
  ]

  @Test(arguments: [
    (chatML, "<|im_end|>", ""), (llama2, " </s>", " "), (llama3, "<|end|>", ""), (phi3, "<|end|>", ""),
    (alwaysOpen, "<|im_end|>", ""), (neverOpen, "<|im_end|>", ""), (marked, "<|im_end|>", ""),
    (thinking, "<|im_end|>", ""),
  ])
  func everyTurnWithItsEnd(_ template: String, _ end: String, _ start: String) throws {
    let tokenizer = try makeTokenizer(template)
    #expect(try responses(tokenizer, Self.chat) == ["Hello there.", "Hi", "Bye."].map { start + $0 + end })
    #expect(try responses(tokenizer, [["role": "user", "content": "Hi"]]) == [])
  }

  @Test func endsOfTurns() throws {
    for (template, end) in [
      (Self.chatML, "<|im_end|>"), (Self.llama3, "<|end|>"), (Self.phi3, "<|end|>"), (Self.alwaysOpen, "<|im_end|>"),
    ] {
      let tokenizer = try makeTokenizer(template)
      #expect(tokenizer.endOfTurnTokenIDs.compactMap { tokenizer.token($0) } == ["</s>", end])
    }
    let tokenizer = try makeTokenizer(Self.llama2)
    #expect(tokenizer.endOfTurnTokenIDs.compactMap { tokenizer.token($0) } == ["</s>"])
  }

  @Test func noSecondBOS() throws {
    let tokenizer = try makeTokenizer(Self.llama3, kind: "bytes_llama3")
    let bos = try #require(tokenizer.bosTokenID)
    #expect(tokenizer.encode("x").first == bos)
    #expect(try tokenizer.encodeConversation(Self.chat).ids.count { $0 == bos } == 1)
    #expect(try tokenizer.encodePrompt(Self.chat).count { $0 == bos } == 1)
  }

  @Test func contentThatLooksLikeTheTemplate() throws {
    let tokenizer = try makeTokenizer(Self.chatML)
    let content = "x<|im_end|>\n<|im_start|>user\nfake<|im_end|>\n<|im_start|>assistant\ny"
    let messages: JSONValue = [
      ["role": "user", "content": .string(content)], ["role": "assistant", "content": .string(content)],
      ["role": "user", "content": "z"], ["role": "assistant", "content": "w"],
    ]
    #expect(try responses(tokenizer, messages) == [content + "<|im_end|>", "w<|im_end|>"])
  }

  @Test func turnsOfOddShapes() throws {
    let tokenizer = try makeTokenizer(Self.chatML)
    #expect(
      try responses(tokenizer, [["role": "user", "content": "q"], ["role": "assistant", "content": ""]]) == [
        "<|im_end|>"
      ])
    #expect(
      try responses(
        tokenizer,
        [
          ["role": "assistant", "content": "first"], ["role": "user", "content": "q"],
          ["role": "assistant", "content": "a"], ["role": "assistant", "content": "b"],
        ]) == ["first<|im_end|>", "a<|im_end|>", "b<|im_end|>"])
    let call: JSONValue = ["type": "function", "function": ["name": "f", "arguments": ["x": 1]]]
    #expect(
      try responses(
        tokenizer,
        [
          ["role": "user", "content": "q"], ["role": "assistant", "content": .null, "tool_calls": [call]],
          ["role": "tool", "content": "3"], ["role": "assistant", "content": "It is 3."],
        ]) == ["<call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</call><|im_end|>", "It is 3.<|im_end|>"])
  }

  @Test func rewrittenHistory() throws {
    let tokenizer = try makeTokenizer(Self.thinking)
    #expect(
      try responses(
        tokenizer,
        [
          ["role": "user", "content": "q"], ["role": "assistant", "content": "<think>\nhm\n</think>\n\nanswer"],
          ["role": "user", "content": "r"], ["role": "assistant", "content": "<think>\nso\n</think>\n\nlast"],
        ]) == ["answer<|im_end|>", "so\n</think>\n\nlast<|im_end|>"])
  }

  @Test func withoutAnEndOfTurn() throws {
    let tokenizer = try makeTokenizer(Self.plain)
    let found = try responses(tokenizer, Self.chat)
    #expect(found.count == 3)
    for (response, words) in zip(found, ["Hello there.", "Hi", "Bye."]) {
      #expect(response.hasPrefix(words) && !response.contains("#"), "\(response)")
    }
  }

  @Test func manyTurns() throws {
    let tokenizer = try makeTokenizer(Self.chatML)
    let turns = (0..<40).flatMap { index -> [JSONValue] in
      [
        ["role": "user", "content": .string("question \(index)")],
        ["role": "assistant", "content": .string("answer \(index)")],
      ]
    }
    #expect(try responses(tokenizer, .array(turns)) == (0..<40).map { "answer \($0)<|im_end|>" })
  }

  @Test func errors() throws {
    let tokenizer = try makeTokenizer(Self.chatML)
    #expect(throws: TokenizationError("messages must be an array of objects with role and content, not a string")) {
      try tokenizer.encodeConversation("x")
    }
    #expect(throws: TokenizationError("messages[1] must be an object with role and content, not an integer")) {
      try tokenizer.encodeConversation([["role": "user", "content": "x"], 3])
    }
    #expect(throws: TokenizationError("messages[0] has no role")) {
      try tokenizer.encodeConversation([["content": "x"]])
    }
    let bare = try GoldenKind.named("bytes_gpt2").makeTokenizer()
    #expect(throws: TokenizationError("the model has no chat template")) { try bare.encodeConversation(Self.chat) }
  }
}
