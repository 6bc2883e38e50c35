import Glibc
import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// Against Jinja2 as transformers sets it up.
@Suite struct ChatTemplateTests {
  @Test(arguments: ["templates.json", "templates_generated.json"])
  func goldenRenderings(_ file: String) throws {
    let json = try goldenJSON(file)
    var variables = try goldenJSON("templates.json")["variables"]?.object ?? [:]
    variables["bos_token"] = "<s>"
    variables["eos_token"] = "</s>"
    let cases = json["cases"]?.array ?? []
    #expect(cases.count > 500)
    for example in cases {
      let source = example["template"]?.string ?? ""
      var text: String?
      do {
        text = try ChatTemplate(source: source).render(
          example["messages"] ?? json["messages"] ?? [], addGenerationPrompt: example["prompt"]?.bool ?? false,
          variables: variables)
      } catch {
        #expect(error.line > 0 && !"\(error)".contains("\n"), "\(source): \(error)")
      }
      let expected = example["text"]?.string
      #expect(
        text.map { Array($0.utf8) } == expected.map { Array($0.utf8) },
        "\(source)\n  \(text ?? "refused")\n  \(expected ?? "refused")")
    }
  }

  @Test(arguments: [
    ("a\n{{ b }", 2, 6), ("{{ 1 +\n\n }}", 3, 2), ("x\n\n  {% if a %}", 3, 13), ("{{ a.b.c }}", 1, 5),
    ("{% for x in y %}\n{{ x | nope }}{% endfor %}", 2, 8), ("\n\n{{ raise_exception('no') }}", 3, 19),
    ("{{ 'é🙂' }}{{ 1 / 0 }}", 1, 16),
  ])
  func errorsNameThePlace(_ source: String, _ line: Int, _ column: Int) throws {
    let error = #expect(throws: TemplateError.self) { try ChatTemplate(source: source).render([]) }
    #expect(error?.line == line && error?.column == column, "\(error.map { "\($0)" } ?? "")")
  }

  @Test func refusalOfTheTemplateItself() throws {
    let template = try ChatTemplate(source: "{{ raise_exception('roles must alternate') }}")
    let error = #expect(throws: TemplateError.self) { try template.render([]) }
    #expect(error?.isRaisedByTemplate == true && error?.message == "roles must alternate")
  }

  @Test func reasoningUnderEachName() throws {
    let template = try ChatTemplate(source: "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}")
    #expect(try template.render([["role": "assistant", "reasoning": "r", "content": ""]]) == "rr")
    #expect(try template.render([["role": "assistant", "content": ""]]) == "")
  }

  @Test func currentTime() throws {
    let text = try ChatTemplate(source: "{{ strftime_now('%Y-%m-%d') }}").render([])
    #expect(text.utf8.count == 10 && text.hasPrefix("20"))
  }

  @Test func timeHasNoZone() {
    let time = TemplateTime(seconds: 0, microseconds: 42)
    #expect(time.formatted("%f|%z%Z|%%|%") == "000042||%|%")
    #expect(time.formatted("") == "")
  }

  @Test func finalMessageIsContinued() throws {
    let template = try ChatTemplate(
      source: "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}")
    let begun: JSONValue = [["role": "user", "content": "q"], ["role": "assistant", "content": "Well, "]]
    #expect(try template.render(begun, continuesFinalMessage: true) == "<user>q</><assistant>Well,")
    let parts: JSONValue = [
      ["role": "assistant", "content": [["type": "text", "text": "a"], ["type": "text", "text": "b"]]]
    ]
    let listing = try ChatTemplate(source: "{% for p in messages[-1].content %}[{{ p.text }}]{% endfor %}!")
    #expect(try listing.render(parts, continuesFinalMessage: true) == "[a][b")
    let error = #expect(throws: TemplateError.self) {
      try ChatTemplate(source: "{# content #}x").render(begun, continuesFinalMessage: true)
    }
    #expect(error?.message == "the last message, which is to be continued, is not in what the template writes")
    #expect(throws: TemplateError.self) { try template.render([], continuesFinalMessage: true) }
  }

  /// A filter of another program is refused only where it is reached.
  @Test func unknownNamesInBranches() throws {
    #expect(try ChatTemplate(source: "{% if false %}{{ 1 | nope }}{% endif %}a").render([]) == "a")
    #expect(try ChatTemplate(source: "{{ 'a' if true else (1 is nope) }}").render([]) == "a")
    #expect(throws: TemplateError.self) {
      try ChatTemplate(source: "{% if false %}{% for x in [] %}{{ 1 | nope }}{% endfor %}{% endif %}")
    }
    let error = #expect(throws: TemplateError.self) {
      try ChatTemplate(source: "{% if true %}{% include 'x' %}{% endif %}").render([])
    }
    #expect(error?.message == "'include' needs another template, and a chat template has none")
    #expect(try ChatTemplate(source: "{% if false %}{% from 'x' import y %}{% endif %}a").render([]) == "a")
  }

  /// Draws are the same in each rendering, so that a mask can be derived.
  @Test func randomIsRepeatable() throws {
    let template = try ChatTemplate(source: "{% for i in range(9) %}{{ range(1000) | random }} {% endfor %}")
    let text = try template.render([])
    #expect(try template.render([]) == text && Set(text.split(separator: " ")).count > 5)
  }

  @Test func generationMarks() throws {
    let template = try ChatTemplate(
      source: "{% for m in messages %}<{% generation %}{{ m.content }}!{% endgeneration %}>{% endfor %}")
    #expect(template.marksGeneration)
    let rendering = try template.render(
      [
        .dictionary(
          {
            var m = TemplateDictionary(); m["content"] = .string("é"); return m
          }())
      ], tools: nil,
      documents: nil, addGenerationPrompt: false, variables: [:], limits: .init())
    #expect(rendering.text == "<é!>" && rendering.generationRanges == [1..<4] && rendering.isComplete)
  }
}
