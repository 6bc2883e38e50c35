import Glibc
import JSONValues
import TestSupport
import Testing

@testable import Tokenization

/// Templates of strangers: each is stopped soon, with one line.
@Suite struct HostileTemplateTests {
  static let templates: [String] =
    [
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
    ] + growing + chained + slow + large

  /// Texts that grow while they are made, where only their parts are small.
  private static let growing = [
    "{{ ['a' * 10**7] * 10**5 }}", "{{ {'k': ['a' * 10**7] * 10**5} }}",
    "{{ ('%s' * 1000) % ((('a' * 10**6),) * 1000) }}",
    "{{ ('%s' * 1000) | format(*(['a' * 10**6] * 1000)) }}", "{{ ('{0}' * 10000).format('a' * 10**6) }}",
    "{{ '%*d' % (10**9, 1) }}", "{{ '%.1000000000f' % 1.5 }}", "{{ '{:>1000000000}'.format('a') }}",
    "{{ '{:{}}'.format('a', 10**9) }}", "{{ '{:,.1000000000f}'.format(1.5) }}",
    "{% set a = 'a' * 10**7 %}{{ a" + String(repeating: " ~ a", count: 400) + " }}",
    "{% set ns = namespace(a='a' * 10**6) %}{{ [ns] * 10**5 }}",
    "{% set ns = namespace() %}{% set ns.n = [ns, ns] %}{{ ns }}",
    "{% set ns = namespace() %}{% set ns.n = {'a': ns} %}{{ ns | pprint }}{{ ns ~ ns }}{{ ns | upper }}",
    "{{ (['a' * 10**6] * 10**5) | string | length }}", "{{ (['a' * 10**6] * 10**5) | pprint }}",
    "{{ (['a' * 10**6] * 10**5) | tojson }}", "{{ (['a' * 10**6] * 10**5) | join }}",
    "{{ ([['a' * 10**6]] * 10**5) | map('string') | list | length }}", "{{ ('a\t' * 10**5).expandtabs(10**9) }}",
    "{{ '\t'.expandtabs(9223372036854775807) }}", "{{ 'ab'.translate({97: 'x' * 10**7, 98: 'y' * 10**7}) * 9 }}",
    "{{ ('a' * 10**7).translate({97: 'x' * 10**6}) }}", "{{ 'é'.center(10**12, '🙂') }}",
    "{{ [1] | batch(10**12, 0) | list }}",
    "{{ [1] | slice(10**12, 0) | list }}", "{{ {'a': 'b' * 10**7} | urlencode * 99 }}",
    "{{ ('<' * 10**7) | e | e | e | e }}",
    "{{ ('a b ' * 10**6) | wordwrap(1, true, 'x' * 10**6) }}", "{{ [[[[1]]]] | tojson(indent=10**7) }}",
    "{{ [[1, 2]] | tojson(indent='x' * 10**7) }}", "{{ [1, 2] | tojson(separators=('x' * 10**8, '')) }}",
    "{{ [0] * 10**6 | pprint }}", "{{ (range(99999) | list) * 99999 }}", "{{ 'a' | indent(9223372036854775807) }}",
  ]

  /// Values that hold one another in a long chain, which must also be let go of without a deep stack.
  private static let chained =
    [
      "map('upper')", "select('odd')", "batch(2)", "slice(2)", "unique", "reverse", "list | map('list')", "items",
      "string",
    ].map {
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = ns.l | \($0) %}{% endfor %}{{ ns.l | list }}"
    } + [
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = [ns.l.copy] %}{% endfor %}",
      "{% set ns = namespace(l={}) %}{% for i in range(99999) %}{% set ns.l = dict(a=ns.l.items) %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% macro m() %}{% set ns.l = varargs %}{% endmacro %}{% for i in range(99999) %}{{ m(ns.l) }}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% macro m() %}{% set ns.l = kwargs %}{% endmacro %}{% for i in range(99999) %}{{ m(a=ns.l) }}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% for x in [ns.l] %}{% set ns.l = loop %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% for x in [1] %}{{ loop.changed(ns.l) }}{% set ns.l = loop %}{% endfor %}{% endfor %}",
      "{% for x in [1] %}{{ loop.changed(loop.changed) }}{{ loop.changed(loop) }}{% endfor %}",
      "{% set ns = namespace(l=1) %}{% for i in range(99999) %}{% set ns.l = joiner(ns.l) %}{% endfor %}",
      "{% set ns = namespace(l=1) %}{% for i in range(99999) %}{% set ns.l = cycler(ns.l) %}{% endfor %}",
      "{% set ns = namespace(l=1) %}{% for i in range(99999) %}{% set ns.l = cycler(ns.l).next %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] | groupby(0) | first %}{% endfor %}",
      "{% set ns = namespace(c=none) %}{% macro m() %}{% set ns.c = caller %}{% endmacro %}{% for i in range(9999) %}{% set prev = ns.c %}{% call m() %}{{ prev }}{% endcall %}{% endfor %}",
      "{% macro f(n) %}{% call f(n + 1) %}{{ caller() }}{% endcall %}{% endmacro %}{{ f(0) }}",
      "{% set ns = namespace(g=none) %}{% set ns.g = [1, 2] | map('upper') %}{% for x in ns.g %}{{ ns.g | list }}{% endfor %}",
    ]

  /// Work that costs far more than its steps, did nobody count it.
  private static let slow = [
    "{{ ('a' * 2**22).find('a' * 2**21 ~ 'b') }}", "{{ ('a' * 2**22).rfind('b' ~ 'a' * 2**21) }}",
    "{{ ('a' * 2**22).count('a' * 2**21 ~ 'b') }}", "{{ ('a' * 2**22).replace('a' * 2**21 ~ 'b', '') | length }}",
    "{{ ('a' * 2**22).split('a' * 2**21 ~ 'b') | length }}", "{{ ('a' * 2**21 ~ 'b') in ('a' * 2**22) }}",
    "{{ ('a' * 2**22).rsplit('a' * 2**10 ~ 'b', 1) | length }}", "{{ (['a' * 2**20] * 1000) | sort | length }}",
    "{{ (['a' * 2**20] * 10000) | unique | list | length }}", "{{ (['a' * 2**20] * 10000) | max | length }}",
    "{% set a = 'x' * 2**24 %}{% set b = 'x' * 2**24 %}{% for i in range(99999) %}{{ a == b }}{% endfor %}",
    "{% set a = 'x' * 2**24 %}{% set b = ('x' * 2**24) ~ 'y' %}{% for i in range(99999) %}{{ a < b }}{% endfor %}",
    "{% set k = 'x' * 2**24 %}{% set d = {k: 1} %}{% for i in range(99999) %}{{ d[k ~ ''] }}{{ k in d }}{{ d.get(k) }}{% endfor %}",
    "{% set a = ['x' * 2**20] * 1000 %}{% set b = ['x' * 2**20] * 1000 %}{% for i in range(99999) %}{{ a == b }}{{ a in [b] }}{% endfor %}",
    "{{ 2 ** 10**6 }}", "{{ 10 ** 4299 // 3 ** 4000 }}",
    "{% set ns = namespace(n=3) %}{% for i in range(99999) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{% for i in range(99999) %}{{ (10 ** 4000) // (3 ** 2000) }}{% endfor %}",
    "{% for i in range(99999) %}{{ (10 ** 4000) | string | length }}{% endfor %}",
    "{{ ('9' * 10**7) | int }}{{ ('9' * 10**7) | float }}", "{{ ('a' * 10**6) | wordwrap(1) | length }}",
    "{{ ('-' * 10**6) | wordwrap(7) | length }}",
    "{{ ('a--' * 10**6) | wordwrap(7) | length }}", "{{ ('.' * 10**6) | urlize | length }}",
    "{{ ('(' * 10**6) | urlize | length }}",
    "{{ ('x' ~ '(' * 10**5 ~ 'x' ~ ')' * 10**5) | urlize | length }}", "{{ ('<!--' * 10**6) | striptags | length }}",
    "{{ ('<' * 10**6) | striptags | length }}", "{{ ('&' * 10**6) | striptags | length }}",
    "{{ ('Σ' * 10**6) | lower | length }}",
    "{{ ('\\u0301' * 10**5 ~ 'Σ') * 99 | lower }}", "{{ ('Σ' ~ ('.' * 2000 ~ 'Σ') * 2000) | lower | length }}",
    "{% for i in range(99999) %}{{ range(100000) | list | length }}{% endfor %}",
    "{% for i in range(99999) %}{{ range(100000) | random }}{% endfor %}",
    "{% for i in range(10**5) %}{% for c in 'x' * 10**5 %}{% break %}{% endfor %}{% endfor %}",
    "{% for x in range(10**12) %}{% endfor %}",
    "{{ range(-9223372036854775808, 9223372036854775807, 9223372036854775807) | list }}",
    "{{ range(2**61, 0, -2**61)[::-2**62] | list }}",
    "{{ range(5)[::9223372036854775807][::9223372036854775807] | list }}",
    "{{ 'abc'[-9223372036854775808:9223372036854775807:-9223372036854775808] }}",
    "{{ [1, 2][2**70:-2**70:-2**70] }}", "{{ 'abc'[2**70] }}{{ [1][-9223372036854775808] }}",
    "{{ 'abc'.find('b', -9223372036854775808, 2**70) }}",
    "{{ 1.5 | round(9223372036854775807) }}{{ 1.5 | round(-9223372036854775808) }}{{ 15 | round(-9223372036854775807) }}",
    "{{ 1.5 | round(10**9, 'ceil') }}", "{{ 'a' | truncate(-9223372036854775808) }}",
    "{{ 'a' | truncate(9223372036854775807, leeway=9223372036854775807) }}",
    "{{ 'a' | center(-9223372036854775808) }}{{ 'a'.zfill(-9223372036854775808) }}{{ '-'.zfill(9223372036854775807) }}",
    "{{ (-9223372036854775807 - 1) | abs }}{{ -(-9223372036854775807 - 1) }}",
    "{{ 1e308 * 10 }}{{ -(1e308 * 10) | int }}", "{{ (1e308 * 10 - 1e308 * 10) | int }}",
    "{{ '%c' % 1114112 }}{{ '%c' % -1 }}", "{{ '{:c}'.format(55296) }}", "{{ 'a'.translate({97: 55296}) }}",
    "{{ '\\ud800' }}",
  ]

  /// Large sources.
  private static let large = [
    String(repeating: "{% macro m() %}", count: 99) + String(repeating: "{% endmacro %}", count: 99),
    "{{ " + String(repeating: "9", count: 4000) + " }}",
    "{{ {" + String(repeating: "'a': 1, ", count: 100_000) + "} }}",
    "{{ [" + String(repeating: "x, ", count: 100_000) + "] }}", String(repeating: "{% set x = 1 %}", count: 50_000),
    String(repeating: "{{ x }}", count: 50_000), "{{ 'a'" + String(repeating: " 'a'", count: 50_000) + " }}",
    "{{ f(" + String(repeating: "a=1, ", count: 20_000) + ") }}",
    "{% macro m(" + (0..<5000).map { "a\($0)" }.joined(separator: ", ") + ") %}{% endmacro %}",
    "{{ x" + String(repeating: "[0]", count: 100_000) + " }}",
    "{{ x" + String(repeating: "[:]", count: 100_000) + " }}",
    "{{ x" + String(repeating: " is defined", count: 2) + " }}",
    "{% for " + String(repeating: "a, ", count: 50_000) + "b in x %}{% endfor %}",
    "{# " + String(repeating: "{#", count: 100_000) + " #}", String(repeating: "{% raw %}{% endraw %}", count: 20_000),
  ]

  @Test(arguments: templates.indices)
  func stopsSoon(_ index: Int) throws {
    let source = Self.templates[index]
    let messages: JSONValue = [["role": "user", "content": "x"]]
    let time = processorSeconds {
      do {
        let text = try ChatTemplate(source: source).render(messages)
        #expect(text.utf8.count <= ChatTemplate.Limits().bytes)
      } catch {
        let line = "\(error)"
        #expect(!line.contains("\n") && line.hasPrefix("chat template, line ") && line.utf8.count < 1000, "\(line)")
      }
    }
    // Half a second of processor time is the limit; parsing and what is under way when it is over come on top.
    #expect(time < 2, "\(time) s: \(source.prefix(100))")
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
      "{% set ns = namespace(l=[1]) %}{% for i in range(590) %}{% set ns.l = ns.l | map('string') %}{% endfor %}{{ ns.l | list }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(590) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | pprint }}{{ [ns.l] | sort }}",
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
