import Glibc
import JSONValues
import TestSupport
import Testing
import Tokenization

@testable import Export

/// Templates of Ollama are executed by an evaluator of Go's language and compared with the chat template's own text.
@Suite struct TurnShapeTests {
  static let special = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<s>", "</s>", "<|system|>", "<|user|>",
    "<|assistant|>",
    "<|end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
  ]

  /// A tokenizer of these special tokens and a template.
  static func tokenizer(_ template: String, bos: String = "<s>", eos: String = "</s>") throws -> Tokenizer {
    let tokens = special + TinyTokenizer.bytes
    return try Tokenizer(
      gguf: GGUFTokenizerMetadata(
        model: "gpt2", pre: "gpt-2", tokens: tokens, tokenTypes: tokens.indices.map { $0 < special.count ? 3 : 1 },
        bosTokenID: special.firstIndex(of: bos), eosTokenID: special.firstIndex(of: eos), addBOS: false,
        chatTemplate: template))
  }

  static let chatML =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

  static let templates: [String: String] = [
    "ChatML": chatML,
    "SmolLM2":
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
      + "helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
      + "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
      + "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "Phi-4":
      "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + "
      + "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + "
      + "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>'"
      + " + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ "
      + "'<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    "Phi-3":
      "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + "
      + "message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + "
      + "'<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
      + "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "Llama 3":
      "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
      + "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
      + "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
      + "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "Llama 3.1":
      "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}{%- "
      + "set messages = messages[1:] %}{%- else %}{%- set system_message = \"\" %}{%- endif %}{{- '<|start_header_id|>system"
      + "<|end_header_id|>\\n\\n' }}{{- 'Cutting Knowledge Date: December 2023\\nToday Date: 26 Jul 2024\\n\\n' }}{{- "
      + "system_message }}{{- '<|eot_id|>' }}{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + "
      + "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
      + "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}",
    "Llama 2":
      "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
      + "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
      + "{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n'"
      + " + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
      + "{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif "
      + "message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "Mistral":
      "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
      + "raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if "
      + "message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' "
      + "%}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
      + "{% endif %}{% endfor %}",
    "Mistral v3":
      "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = "
      + "messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}{%- for message in "
      + "loop_messages %}{%- if message['role'] == 'user' %}{%- if loop.last and system_message is defined %}{{- '[INST] ' + "
      + "system_message + '\\n\\n' + message['content'] + '[/INST]' }}{%- else %}{{- '[INST] ' + message['content'] + "
      + "'[/INST]' }}{%- endif %}{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token}}"
      + "{%- endif %}{%- endfor %}",
    "plain":
      "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}assistant: "
      + "{% endif %}",
  ]

  /// What the chat template writes, a BOS at the start left out where asked.
  static func jinja(_ tokenizer: Tokenizer, _ messages: [TurnShape.Message], leavesOutBOS: Bool) throws -> String {
    let endsWithAnswer = messages.last?.role == "assistant"
    let text = try tokenizer.renderConversation(
      .array(messages.map { ["role": .string($0.role), "content": .string($0.content)] }),
      addGenerationPrompt: !endsWithAnswer, continuesFinalMessage: endsWithAnswer)
    guard leavesOutBOS, let bos = tokenizer.bosTokenID.flatMap(tokenizer.token), text.hasPrefix(bos) else {
      return text
    }
    return String(text.dropFirst(bos.count))
  }

  static let words = [
    "What is 2 + 2?", "Four.", "And \"{{ .Content }}\" or {% raw %}?", "Neither\n\nof them", "é 中文 🚀", "<b>&amp;</b>",
    "{", "a\n  b\n\tc",
  ]

  /// Conversations drawn anew each time: with and without a system message, up to seven turns.
  static func conversations(with system: Bool) -> [[TurnShape.Message]] {
    (1...14).map { count in
      let turns = (0..<(count + 1) / 2).map { index in
        TurnShape.Message(role: index % 2 == 0 ? "user" : "assistant", content: words.randomElement() ?? "")
      }
      let isLed = system && count % 2 == 0
      return (isLed ? [TurnShape.Message(role: "system", content: words.randomElement() ?? "")] : []) + turns
    }
  }

  @Test(arguments: templates.keys.sorted(), [false, true])
  func ollamasTemplateSaysWhatTheChatTemplateSays(_ name: String, leavesOutBOS: Bool) throws {
    let source = try #require(Self.templates[name])
    let bos = name.hasPrefix("Llama 3") ? "<|begin_of_text|>" : "<s>"
    let tokenizer = try Self.tokenizer(source, bos: bos, eos: name == "Phi-3" ? "<|endoftext|>" : "</s>")
    let shape = try TurnShape(of: tokenizer, leavesOutBOS: leavesOutBOS)
    let template = try GoTemplate(shape.goTemplate)
    let takesSystem = name != "Mistral"
    #expect((shape.systemPlace != .nowhere) == takesSystem)
    for conversation in Self.conversations(with: takesSystem) {
      // The sixth turn of a template that alternates strictly is as good as any.
      let expected = try Self.jinja(tokenizer, conversation, leavesOutBOS: leavesOutBOS)
      #expect(shape.render(conversation) == expected, "\(conversation)")
      #expect(try template.execute(conversation) == expected, "\(conversation) by \(shape.goTemplate)")
    }
    #expect(shape.trimsContent == name.hasPrefix("Llama"), "trimming is told")
    #expect(!shape.knowsTools)
    switch name {
    case "SmolLM2":
      #expect(shape.defaultSystem == "You are a helpful AI assistant named SmolLM, trained by Hugging Face")
    case "Llama 3.1": #expect(shape.defaultSystem == "" && shape.opening.contains("Cutting Knowledge Date"))
    default: #expect(shape.defaultSystem == nil)
    }
  }

  @Test func whatCannotBeSaidIsRefusedWithTheReason() throws {
    let number = "{% for m in messages %}{{ loop.index }}: {{ m.content }}\n{% endfor %}"
    let length = "{% for m in messages %}<{{ m.content | length }}>{{ m.content }}\n{% endfor %}"
    for (source, reason) in [
      (number, "writes the turns of one conversation differently"),
      (length, "does more than to put fixed texts around the words of each message"),
      ("{{ raise_exception('no') }}", "refuses or rewrites a plain conversation"),
      (
        "{{ strftime_now('%d %b %Y') }}" + Self.chatML, "writes the date of the day, which Ollama's language cannot"
      ),
    ] {
      let tokenizer = try Self.tokenizer(source)
      do {
        _ = try TurnShape(of: tokenizer, leavesOutBOS: false)
        Issue.record("\(source) has no shape")
      } catch let error as TurnShape.Inexpressible {
        #expect(error.reason == reason)
      }
    }
  }

  @Test func toolsAreTold() throws {
    let source = "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}" + Self.chatML
    #expect(try TurnShape(of: Self.tokenizer(source), leavesOutBOS: false).knowsTools)
  }

  /// The evaluator itself, by what Go prints.
  @Test func theEvaluatorFollowsGo() throws {
    func run(_ source: String, _ messages: [TurnShape.Message] = []) throws -> String {
      try GoTemplate(source).execute(messages)
    }
    let two = [TurnShape.Message(role: "user", content: "a"), TurnShape.Message(role: "assistant", content: "b")]
    #expect(try run("x{{ if and (eq 1 1) (ne 1 1) }}a{{ else if not 0 }}b{{ else }}c{{ end }}y") == "xby")
    #expect(
      try run("{{ range $i, $_ := .Messages }}{{ $i }}{{ .Role }}{{ len (slice $.Messages $i) }};{{ end }}", two)
        == "0user2;1assistant1;")
    #expect(try run(#"{{ "{" }}{ {{ "}}" }}"#) == "{{ }}")
    #expect(try run("{{ $.System }}", [TurnShape.Message(role: "system", content: "s")]) == "s")
    // Neighbours of one role are one message.
    #expect(try run("{{ range $i, $_ := .Messages }}[{{ .Content }}]{{ end }}", [two[0], two[0]]) == "[a\n\na]")
    for broken in ["{{ if 1 }}x", "x{{ end }}", "{{ .Nothing }}", "{{ len 1 }}", "{{ x"] {
      #expect(throws: (any Error).self) { try run(broken, two) }
    }
  }
}
