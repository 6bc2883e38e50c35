import Glibc
import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// Against Jinja2 as transformers sets it up.
@Suite struct ChatTemplateTests {
  @Test func goldenRenderings() throws {
    let json = try goldenJSON("templates.json")
    var variables = json["variables"]?.object ?? [:]
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
      #expect(text.map { Array($0.utf8) } == expected.map { Array($0.utf8) }, "\(source)")
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

/// Templates of strangers: each is stopped soon, with one line.
@Suite struct HostileTemplateTests {
  static let templates: [String] = [
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
    "{% for a in range(10**9) %}x{% endfor %}", "{{ range(0, 10**18, 1) | list }}", "{{ 'a' * 10**12 }}",
    "{{ [0] * 10**12 }}",
    "{{ 'aaaaaaaa' * 9223372036854775807 }}", "{{ 10 ** 10 ** 10 }}", "{{ 9223372036854775807 + 1 }}",
    "{{ -9223372036854775807 - 2 }}",
    "{{ (-9223372036854775807 - 1) // -1 }}", "{{ (-9223372036854775807 - 1) % -1 }}",
    "{{ (-9223372036854775807 - 1) | abs }}",
    "{{ 99999999999999999999 }}",
    "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99999) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99999) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(l={}) %}{% for i in range(99999) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
    "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
    "{{ " + String(repeating: "[", count: 60) + "1" + String(repeating: "] * 9", count: 60) + " }}",
    "{{ " + String(repeating: "[", count: 60) + "1" + String(repeating: "] * 9", count: 60) + " | tojson }}",
    "{% macro f(x, n) %}{% if n %}{{ f([x, x], n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f(1, 60) }}",
    "{% macro f(x, n) %}{% if n %}{{ f((x + x) | batch(9), n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f([1], 60) }}",
    "{% macro f(x, n) %}{% if n %}{{ f(dict(a=x, b=x), n - 1) }}{% else %}{{ x == x }}{% endif %}{% endmacro %}{{ f({}, 60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% macro f() %}{% for i in range(10) %}{{ f() }}{% endfor %}{% endmacro %}{{ f() }}",
    "{% set ns = namespace() %}{% set ns.n = ns %}{{ ns }}{{ ns.n.n.n == ns }}",
    "{% set h = namespace(n=none) %}{% for i in range(99999) %}{% set h.n = namespace(p=h.n) %}{% endfor %}done",
    "{{ 'a' | center(10**9) }}", "{{ 'a'.ljust(10**9) }}", "{{ '%1000000000d' % 5 }}",
    "{{ '{:1000000000}'.format(5) }}", "{{ '1'.zfill(10**9) }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}", "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "{{ ('a' * 100000) | indent(10**9) }}",
    "{{ ('a\n' * 10000) | indent(100000) }}", "{{ (['a'] * 100000) | join('b' * 100000) }}",
    "{{ ('b' * 100000).join(['a'] * 100000) }}",
    "{{ [1] | batch(10**9, 0) }}", "{{ [1] | slice(10**9) }}", "{{ {} | tojson(indent=10**9) }}",
    "{{ [[[1]]] | tojson(indent=10000000) }}", "{{ 1.5 | round(10**9) }}",
    "{{ ('a' * 1000000).split('') }}", "{% for i in range(99999) %}{{ ('a' * 1000000) | upper }}{% endfor %}",
    "{% for i in range(99999) %}{{ ('ab' * 100000).find('zz') }}{% endfor %}",
    "{% for i in range(99999) %}{{ (range(99999) | list) | sort | length }}{% endfor %}",
    "{% for i in range(99999) %}{{ strftime_now('%Y' * 1000) }}{% endfor %}", "{{ strftime_now('%100000000000d') }}",
    "{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}",
    "{{ [].append }}{{ [].append(1) }}", "{{ self.x() }}", "{{ lipsum() }}", "{{ url_for.__globals__ }}",
    "{% for i in range(99999) %}{% set x = ('a' * 100000)[::-1] %}{% endfor %}",
    "{% set x %}{% for i in range(99999) %}{{ 'a' * 10000 }}{% endfor %}{% endset %}",
    "{% for i in range(99999) %}{% for j in 'a' * 100000 %}{% endfor %}{% endfor %}",
    "{{ ('a ' * 1000000) | wordwrap(1) | length }}{{ ('a ' * 1000000) | title | wordcount }}",
    "{% for i in range(99999) %}{{ messages == messages }}{{ 'x' in ('y' * 100000) }}{% endfor %}",
    String(repeating: "(", count: 100_000),
    "{{ " + String(repeating: "(", count: 100_000) + "1" + String(repeating: ")", count: 100_000) + " }}",
    "{{ " + String(repeating: "[", count: 100_000), "{{ " + String(repeating: "not ", count: 100_000) + "1 }}",
    "{{ " + String(repeating: "-", count: 100_000) + "1 }}",
    "{{ 1" + String(repeating: " + 1", count: 100_000) + " }}",
    "{{ a" + String(repeating: ".a", count: 100_000) + " }}",
    "{{ a" + String(repeating: "|upper", count: 100_000) + " }}",
    "{{ a" + String(repeating: "()", count: 100_000) + " }}",
    "{{ 1" + String(repeating: " if 1 else 1", count: 100_000) + " }}",
    "{{ 1" + String(repeating: " ~ 1", count: 100_000) + " }}",
    String(repeating: "{% if 1 %}", count: 100_000), String(repeating: "{% for x in y %}", count: 100_000),
    String(repeating: "{{", count: 100_000), String(repeating: "{% raw %}", count: 50_000),
    String(repeating: "{#", count: 200_000), "{{ '" + String(repeating: "\\", count: 100_001),
    "{{ " + String(repeating: "9", count: 100_000) + " }}", String(repeating: "{%", count: 100_000),
    "{% set " + String(repeating: "(", count: 100_000) + "a",
    "{% if a " + String(repeating: "{% elif a %}", count: 20_000),
  ]

  @Test(arguments: templates.indices)
  func stopsSoon(_ index: Int) throws {
    let source = Self.templates[index]
    let messages: JSONValue = [["role": "user", "content": "x"]]
    let time = seconds {
      do {
        let text = try ChatTemplate(source: source).render(messages)
        #expect(text.utf8.count <= ChatTemplate.Limits().bytes)
      } catch {
        let line = "\(error)"
        #expect(!line.contains("\n") && line.hasPrefix("chat template, line ") && line.utf8.count < 1000, "\(line)")
      }
    }
    #expect(time < 5, "\(time) s: \(source.prefix(100))")
  }

  /// The limit is of processor time: a machine with other work to do does not fail honest templates.
  @Test func timeLimit() throws {
    let template = try ChatTemplate(
      source: "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    let limits = ChatTemplate.Limits(steps: .max, seconds: 0.1)
    let error = #expect(throws: TemplateError.self) { try template.render([], limits: limits) }
    #expect(error?.message.contains("seconds") == true)
  }

  /// A small stack is enough for the deepest template that the limits allow.
  @Test func deepTemplatesNeedLittleStack() throws {
    let sources = [
      "{% macro f() %}{% if true %}{% for x in [1] %}{{ [[[f() | upper]]] }}{% endfor %}{% endif %}{% endmacro %}{{ f() }}",
      "{{ " + String(repeating: "(", count: 30) + "1" + String(repeating: ")", count: 30)
        + String(repeating: " + 1", count: 490) + " }}",
      String(repeating: "{% if 1 %}", count: 95) + "x" + String(repeating: "{% endif %}", count: 95),
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(590) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson }}{{ ns.l }}{{ ns.l == ns.l }}",
    ]
    for source in sources {
      final class Work: @unchecked Sendable {
        let source: String
        var isDone = false
        init(_ source: String) { self.source = source }
      }
      let work = Work(source)
      var attributes = pthread_attr_t()
      pthread_attr_init(&attributes)
      pthread_attr_setstacksize(&attributes, 2 << 20)
      var thread = pthread_t()
      let created = pthread_create(
        &thread, &attributes,
        { pointer in
          guard let pointer else { return nil }
          let work = Unmanaged<Work>.fromOpaque(pointer).takeUnretainedValue()
          _ = try? ChatTemplate(source: work.source).render([])
          work.isDone = true
          return nil
        }, Unmanaged.passUnretained(work).toOpaque())
      #expect(created == 0)
      pthread_join(thread, nil)
      pthread_attr_destroy(&attributes)
      #expect(work.isDone)
    }
  }

  /// Damaged templates end in a text or an error, never in a trap.
  @Test func damagedTemplates() throws {
    var random = SeededRandom(seed: 5)
    let cases = try goldenJSON("templates.json")["cases"]?.array?.compactMap { $0["template"]?.string } ?? []
    let variables = try goldenJSON("templates.json")["variables"]?.object ?? [:]
    let pieces = [
      "{%", "%}", "{{", "}}", "(", ")", "[", "]", "|", ".", "'", "-", "1", " ", "if", "for", "x", "in", ":", ",",
    ]
    for source in cases {
      for _ in 0..<3 {
        var scalars = Array(source.unicodeScalars)
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let place = Int.random(in: 0...scalars.count, using: &random)
          if Bool.random(using: &random) {
            scalars.insert(contentsOf: (pieces.randomElement(using: &random) ?? "").unicodeScalars, at: place)
          } else if place < scalars.count {
            scalars.remove(at: place)
          }
        }
        let limits = ChatTemplate.Limits(steps: 20_000, bytes: 1 << 20)
        _ = try? ChatTemplate(source: PythonText.string(scalars)).render([], variables: variables, limits: limits)
      }
    }
  }
}
