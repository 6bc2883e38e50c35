"""Makes the golden values of the chat-template tests: Jinja2 3.1.6 as transformers 5.23.0 sets it up.

    python Tests/Golden/make_templates.py
"""

import json
import os

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = os.path.dirname(os.path.abspath(__file__))

VARIABLES = {
    "n": 7, "m": -3, "f": 2.5, "big": 1e16, "small": 0.00001, "yes": True, "no": False, "nothing": None,
    "s": "Hello World", "empty": "", "u": "Ünïcödé 日本 🙂 e\u0301", "q": "it's \"quoted\" \\ \n\ttab",
    "l": [3, 1, 2], "words": ["banana", "Apple", "cherry", "apple"], "nested": [[1, 2], [3, [4, 5]]],
    "d": {"b": 1, "a": {"c": [1, 2, {"x": None}]}, "items": "shadow", "é": "ü<&>"},
    "people": [{"name": "Zoe", "age": 31, "tags": ["x"]}, {"name": "adam", "age": 25, "tags": []}, {"name": "Bob", "age": 31}],
    "tree": [{"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3, "kids": [{"v": 4, "kids": []}]}]}, {"v": 5, "kids": []}],
    "zero": 0, "huge": 2**40, "half": 0.5, "line": "one two-three  four, five.", "tag": "<a href='x'>y</a> & z",
    "lines": "a\n  b\r\n\nc", "mixed": [1, "two", None, 2.5, [3], {"k": "v"}, True],
}

EXPRESSIONS = """
1 + 2 * 3 - 4|n / 2|7 // 2|-7 // 2|7 % 3|-7 % 3|7 % -3|-7.5 // 2|-7.5 % 2|2 ** 10|2 ** -1|2 ** 3 ** 2|-2 ** 2|7 / 7|1e3|1_000|0x1F|0b101|0o17
1.0|1.5e-7|big|small|big * 10|123456789.123|1e22|100.0|0.1 + 0.2|3 == 3.0|1 == True|"1" == 1|none == false|-n|+n|--n|not n|not not empty
1 < 2 < 3|1 < 3 < 2|3 >= 3|"a" < "b"|[1, 2] < [1, 3]|1 != 2|s == "Hello World"|n in l|3 in l|"Hell" in s|"x" not in s|"b" in d|"z" in d|not 3 in l
s ~ n ~ none ~ true ~ 1.0|"a" "b" 'c'|s + "!"|l + [9]|(1, 2) + (3,)|"ab" * 3|3 * [0]|[] * 5|"-" * -1
s[0]|s[-1]|s[1:4]|s[:5]|s[6:]|s[::-1]|s[::2]|s[-3:]|s[10:2:-2]|l[0]|l[-1]|l[1:]|l[::-1]|l[99]|u[8]|u[-2:]|u|length|u[::-1]|d["b"]|d.b|d.a.c[2].x|d["é"]|d.é
d.items is string|d.items is callable|d["items"]|d.missing is defined|d.missing|d["missing"] is undefined|undefined_name|undefined_name is undefined|nothing.x|n.x|s.nope|l.nope is defined|s["upper"]()
x if yes else "y"|"x" if no else "y"|"x" if no|("x" if no) is undefined|yes and s|no and s|no or "z"|empty or none or 0|yes or undefined_name.x|(1, 2)|(1,)|()|[1, "a", none, true, 1.5]|{"a": 1, "b": [2]}|{1: 2, "x": {}}|{}|[]|1, 2
q|[q]|["a'b", 'a"b', "a'\\"b", "\\n\\t\\x07", "é\\u200b🙂"]|"\\x41\\u00e9\\U0001F642\\101\\q"|'it''s'|[undefined_name]|(none, false)
s is string|n is string|n is number|f is number|yes is number|n is integer|yes is integer|f is float|yes is boolean|nothing is none|none is none|d is mapping|l is mapping|l is sequence|d is sequence|s is sequence|l is iterable|n is iterable|n is odd|n is even|n is divisibleby 7|n is divisibleby(2)
n is eq 7|n is gt 3|n is lt(3)|n is ne 7|n is ge 7|n is le 6|n is in [7, 8]|"upper" is filter|"nope" is filter|"defined" is test|s is lower|s is upper|"abc" is lower|n is not none|n is not string|true is true|false is false|n is sameas n|1 is sameas true|s is escaped|s is iterable and not mapping is defined
-5 | abs|-2.5 | abs|s | length|l | count|d | length|undefined_name | length|s | upper|s | lower|"hELLO wORLD" | capitalize|"hello wORLD-foo bar_baz" | title|"  x ".strip() | length|"  x " | trim|"xxaxx" | trim("x")|s | replace("o", "0")|s | replace("o", "0", 1)|"aaa" | replace("", "-")
l | join(", ")|words | join|people | join("; ", attribute="name")|l | first|l | last|[] | first|s | first|s | last|"abc" | list|d | list|l | sort|l | sort(reverse=true)|words | sort|words | sort(case_sensitive=true)|people | sort(attribute="age") | map(attribute="name") | list|people | sort(attribute="age,name") | map(attribute="name") | list
words | unique | list|words | unique(case_sensitive=true) | list|l | min|l | max|words | min|words | max|people | max(attribute="age")|l | sum|people | sum(attribute="age")|[[1], [2]] | sum(start=[])|people | map(attribute="tags", default="-") | list|words | map("upper") | list|words | map("replace", "a", "4") | list|["a", none] | select | list|[1, 2, 3, 4] | select("even") | list|[1, 2, 3, 4] | reject("gt", 2) | list
people | selectattr("age", "eq", 31) | map(attribute="name") | list|people | rejectattr("tags") | map(attribute="name") | list|people | selectattr("tags", "defined") | list | length|people | groupby("age") | list | length|[1, 2, 3, 4, 5] | batch(2) | list|[1, 2, 3, 4, 5] | batch(2, 0) | list|[1, 2, 3, 4, 5] | slice(3) | list|[1, 2, 3, 4, 5] | slice(3, 0) | list|l | reverse | list|s | reverse
undefined_name | default("dflt")|none | default("dflt")|none | default("dflt", true)|"" | d("dflt", boolean=true)|"42" | int|"4.9" | int|"x" | int|"x" | int(5)|"ff" | int(base=16)|"0x1f" | int(0, 16)|3.99 | int|"3.5" | float|"x" | float(1.5)|42 | string|2.567 | round(2)|2.5 | round|3.5 | round|2.4 | round(method="ceil")|2.6 | round(method="floor")|1234.5 | round(-2)|7 | round
d | tojson|[1, 2.0, "é\\"\\\\\\n\\u007f</script>", none, true] | tojson|d | tojson(indent=2)|[[], {}, [1]] | tojson(indent=2)|{"b": 1, "a": 2} | tojson(sort_keys=true)|"é🙂" | tojson(ensure_ascii=true)|[1, 2] | tojson(separators=(",", ":"))|(1, 2) | tojson|{1: 2, none: 3, true: 4} | tojson|1e16 | tojson|q | tojson
"a\\nb\\n\\nc" | indent|"a\\nb" | indent(2, true)|"a\\n\\nb" | indent(2, blank=true)|"a\\nb" | indent("> ")|"one two  three" | wordcount|"<b>x</b> & 'y'" | escape|"<p>a  <b>b</b>\\n c</p>" | striptags|s | center(21)|"x" | center(4)|"xy" | center(5)|"foo bar baz qux" | truncate(9)|"foo bar baz qux" | truncate(9, true)|"foo bar baz qux" | truncate(11)|"%s-%d" | format("a", 5)|"a b&c/d" | urlencode|d | items | list | length|d | dictsort | map(attribute=0) | list|{"b": 1, "A": 2} | dictsort|{"b": 1, "A": 2} | dictsort(true)|{"b": 1, "A": 2} | dictsort(by="value")|1000000 | filesizeformat|n | pprint
s.upper()|s.lower()|s.title()|"hello world's x2y".title()|s.swapcase()|"ab cd".capitalize()|s.startswith("He")|s.startswith(("x", "H"))|s.endswith("ld")|s.find("o")|s.find("zz")|s.rfind("o")|s.index("W")|s.count("l")|"aaa".count("aa")|s.find("o", 5)|s.replace("l", "L", 2)|"a,b,,c".split(",")|" a  b c ".split()|"a b c".split(" ", 1)|"a b  c ".split(none, 1)|"a,b,c".rsplit(",", 1)|" a b c ".rsplit(none, 1)|"a\\nb\\r\\nc\\n".splitlines()|"a\\nb\\n".splitlines(true)
"a=b=c".partition("=")|"a=b=c".rpartition("=")|"abc".partition("x")|"  x ".strip()|"  x ".lstrip()|"  x ".rstrip()|"xxabxx".strip("xa")|"abc".removeprefix("a")|"abc".removesuffix("bc")|", ".join(words)|"x".join("abc")|"7".zfill(3)|"-7".zfill(4)|"ab".ljust(4, ".")|"ab".rjust(4)|"ab".center(5, "*")|"abc".isalpha()|"ab1".isalnum()|"12".isdigit()|"½".isnumeric()|"ab".isupper()|" \\t".isspace()|"Ab Cd".istitle()|"a\\tb".expandtabs(4)|"éa".isascii()|"a_1".isidentifier()
"{} and {}".format(1, "b")|"{1} {0}".format("a", "b")|"{x}-{y}".format(x=1, y=[2])|"{:>5}|{:<5}|{:^5}|".format("a", "b", "c")|"{:05d} {:+d} {:,} {:x} {:.2f} {:e} {:%}".format(42, 7, 1234567, 255, 3.14159, 12345.678, 0.25)|"{0[a]} {1.b}".format(d, d)|"{{}}".format()|"{!r}".format("x")|"%s %r %d %5.2f %x %% %-4s| %04d" % ("a", "b", 3, 2.5, 255, "c", 7)|"%(a)s %(b)d" % {"a": 1, "b": 2}|"%s" % 5|"%s" % [1]
d.get("b")|d.get("zz")|d.get("zz", 5)|d.keys() | list|d.values() | list | length|{"x": 1}.items() | list|l.count(1)|l.index(2)|{"a": 1}.copy()|range(5) | list|range(2, 5) | list|range(5, 0, -2) | list|range(0) | list|range(3) | length|dict(a=1, b=2)|dict({"x": 1}, y=2)|namespace(a=1).a|namespace(a=1).b is defined|(range(3) | list)[1]
d.a["c"][-1]|people[0].tags[0]|people[0]["name"][0]|nested[1][1][0]|people[-1].tags is defined|people | map(attribute="name") | map("lower") | sort | join(",")|(l | length) * 2|-l | first if false else 1|s | length + 1|n|string ~ "x"|"a" if n > 5 and s is string else "b"|[x for x in l] if false else 1
l.append(4)|d.update({})|d.pop("b")|l.sort()|none + 1|undefined_name + 1|undefined_name.x|undefined_name()|"a" + 1|1 / 0|n()|none | length|range(200000)|"abc" < 1|{[]: 1}|s | nofilter|s is notest|l | join(undefined_name.x)|5 in 6|[1, "a"] | sort|"{}".format()|"%d" % "x"|"a" % 5|namespace(_x=1) if false else 1
""".strip().replace("||", "\0")


def split_line(line):
    """Cuts at bars that stand without spaces beside them: those with spaces are filters."""
    parts, start = [], 0
    quote = None
    i = 0
    while i < len(line):
        c = line[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = None
        elif c in "'\"":
            quote = c
        elif c == "|" and not (0 < i < len(line) - 1 and line[i - 1] == " " and line[i + 1] == " "):
            parts.append(line[start:i])
            start = i + 1
        i += 1
    return parts + [line[start:]]


STATEMENTS = [
    # Loops.
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }} {% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}", "{% for x in l if x > 9 %}{{ x }}{% else %}no{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3)), (4, (5, 6))] %}{{ a }}{{ b }}{{ c }} {% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for n in tree recursive %}[{{ n.v }}{{ loop(n.kids) if n.kids }}@{{ loop.depth }}]{% endfor %}",
    "{% for x in l %}{% for y in l %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for c in 'héé🙂' %}<{{ c }}>{% endfor %}", "{% for x in undefined_name %}x{% else %}e{% endfor %}", "{% for x in 5 %}{% endfor %}",
    "{% for x in l %}{% set y = x %}{% endfor %}{{ y is defined }}", "{% set y = 0 %}{% for x in l %}{{ y }}{% set y = x %}{{ y }} {% endfor %}{{ y }}",
    "{% set ns = namespace(t=0) %}{% for x in l %}{% set ns.t = ns.t + x %}{% endfor %}{{ ns.t }}", "{% set d.x = 1 %}",
    "{% for a, b in [1, 2] %}{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for (a, b) in [[1, 2]] %}{{ a + b }}{% endfor %}",
    # Conditions, assignments.
    "{% if n > 5 %}big{% elif n > 2 %}mid{% else %}small{% endif %}", "{% if no %}a{% elif yes %}b{% endif %}", "{% if undefined_name %}a{% else %}b{% endif %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ n }}y{% endset %}{{ a }}|{{ a is string }}", "{% set a | upper | replace('X', '.') %}x{{ n }}y{% endset %}{{ a }}",
    "{% if yes %}{% set z = 5 %}{% endif %}{{ z }}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with %}{% set q2 = 3 %}{{ q2 }}{% endwith %}",
    "{% set ns = namespace() %}{% set ns.a %}blk{% endset %}{{ ns.a }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns.c }}",
    # Macros and calls.
    "{% macro m(a, b=2, *c) %}{% endmacro %}", "{% macro m(a, b=2) %}[{{ a }}-{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, b=3) }}{{ m(a=5) }}{{ m() }}",
    "{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}in{{ n }}{% endcall %}", "{% macro each(xs) %}{% for x in xs %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(v) each(l) %}({{ v }}){% endcall %}",
    "{% macro f(k) %}{{ k }}{% if k > 0 %}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(4) }}", "{% set g = 1 %}{% macro m() %}{{ g }}{{ n }}{% endmacro %}{% set g = 2 %}{{ m() }}", "{% macro m() %}a{% endmacro %}{{ m() | upper }}{{ m }}" if False else "{% macro m() %}a{% endmacro %}{{ m() | upper }}",
    "{% macro m(x) %}{% set y = x %}{{ y }}{% endmacro %}{{ m(1) }}{{ y is defined }}", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(3) }}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{% for i in l %}{{ m(i) }}{% endfor %}", "{% macro m(*a) %}{% endmacro %}", "{{ m2(1) }}{% macro m2(a) %}{{ a }}{% endmacro %}",
    "{% set args = [1, 2] %}{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*args) }}{{ m(**{'a': 5, 'b': 6}) }}",
    "{% filter upper %}abc{{ n }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}abc{% endfilter %}", "{% block x %}in{{ n }}{% endblock %}", "{% generation %}gen{{ n }}{% endgeneration %}", "{%- generation -%} x {%- endgeneration -%} y",
    # White space.
    "a\n{% if yes %}\nb\n{% endif %}\nc\n", "a\n  {% if yes %}  \n  b\n  {% endif %}\nc\n\n", "a {%- if yes -%} b {%- endif -%} c", "a {{- n -}} b", "a  {%+ if yes +%}\nb{% endif %}", "  {# c #}\nx", "x {#- c -#} y", "x\n  {# c #}  y", "{{ n }}\n{{ n }}\n", "{% if yes %}\n\n\nx{% endif %}",
    "\t{% if yes %}x{% endif %}", "x  {% if yes %}y{% endif %}", "a\r\n{% if yes %}\r\nb\r\n{% endif %}\r\n", "{{ '{{' }} {{ '%}' }}", "{% raw %}{{ x }} {% if %}{% endraw %}y", "{% raw -%}  x  {%- endraw %}  y", "  {% raw %}\n x {% endraw %}\nz", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ \"}}\" }}", "{% set x = '%}' %}{{ x }}",
    "a{#\n multi\n line #}\nb", "{%- set x = 1 -%}\n\n  x", "x\n\n  {%- if yes %} y{% endif %}", "\n\n{{ n }}\n\n", "{{n}}{%if yes%}a{%endif%}", "{% if yes -%}\n\n  a\n  {%- else -%}\n b {%- endif %}\nz", "a\u00a0{%- if yes %}b{% endif %}", "{{ 1 }}\u2003{{- 2 }}",
    "{% for x in l %}\n  {{ x }}\n{% endfor %}\nend", "{% for x in l -%}\n  {{ x }}\n{%- endfor %}\nend", "{#- a -#}\n{# b #}\nc", "line1\n    {%- for x in l %}\n    - {{ x }}\n    {%- endfor %}\nline2",
    # Errors.
    "{{ raise_exception('told you') }}", "{% if", "{{ 1 +", "{% for %}", "{% endif %}", "{% if yes %}", "{{ 'abc }}", "{% unknown %}", "{{ (1 }}", "{{ 1) }}", "{# x", "{% raw %}x", "{{ a b }}", "{% set 1 = 2 %}", "{% include 'x' %}", "{{ f(a=1, 2) }}", "{% break %}", "{{ }}", "{% macro %}{% endmacro %}", "{{ 5 is }}", "{% set x %}",
    "{% set x = joiner(', ') %}{{ x() }}{{ x() }}{{ x() }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{{ strftime_now('%%') }}", "{% print n, s %}" if False else "{{ n }}{{ s }}",
    "{% if messages is defined and messages %}{{ messages[0].role }}{% endif %}", "{{ (people | selectattr('name', 'equalto', 'Bob') | first).age }}", "{{ people | selectattr('age', '>', 30) | map(attribute='name') | join(' and ') }}",
    "{%- for m in people %}{%- if loop.first %}{{ m.name }}{%- elif not loop.last %}, {{ m.name }}{%- else %} & {{ m.name }}{%- endif %}{%- endfor %}", "{{ people | map(attribute='name') | list | tojson }}", "{% for g in people | groupby('age') %}{{ g[0] }}:{% for p in g[1] %}{{ p.name }} {% endfor %}{% endfor %}",
    "{% for age, ps in people | groupby('age') %}{{ age }}={{ ps | length }} {% endfor %}", "{{ messages[1:] | length }}{{ messages[-1]['content'] | trim }}", "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{% set first = messages | selectattr('role', 'eq', 'system') | list %}{{ first | length }}{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{{ loop_messages | length }}", "{{ tools is none }}{{ documents is none }}{{ tools | default([], true) | length }}",
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}",
]

MESSAGES = [
    [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye\n"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": "x"}],
]


def main():
    templates = []
    for line in EXPRESSIONS.split("\n"):
        for part in split_line(line):
            if part.strip():
                templates.append("{{ " + part.replace("\0", "|").strip() + " }}")
    templates += STATEMENTS
    cases = []
    for template in dict.fromkeys(templates):
        uses = "messages" in template
        for messages in MESSAGES if uses else MESSAGES[:1]:
            for prompt in (False, True) if "add_generation_prompt" in template else (False,):
                case = {"template": template}
                if uses:
                    case["messages"] = messages
                if prompt:
                    case["prompt"] = True
                try:
                    case["text"] = _compile_jinja_template(template).render(
                        messages=messages, tools=None, documents=None, add_generation_prompt=prompt,
                        bos_token="<s>", eos_token="</s>", **VARIABLES)
                except Exception:  # What is refused there must be refused here.
                    case["refused"] = True
                cases.append(case)
    with open(os.path.join(HERE, "templates.json"), "w", encoding="utf-8") as file:
        file.write('{"variables":' + json.dumps(VARIABLES, ensure_ascii=False) + ',\n"messages":' + json.dumps(MESSAGES[0]) + ',\n"cases":[\n')
        file.write(",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]}\n")
    print(len(cases), "cases,", sum("refused" in case for case in cases), "refused")
    make_generated()


def make_generated(count=2000, seed=20250101):
    """Random templates, the short ones."""
    from template_generator import Generator

    generator = Generator(seed)
    cases = []
    while len(cases) < count:
        template = generator.template()
        if len(template) > 300 or "reverse" in template:
            continue
        case = {"template": template}
        try:
            case["text"] = _compile_jinja_template(template).render(
                messages=[], tools=None, documents=None, add_generation_prompt=False, bos_token="<s>",
                eos_token="</s>", **VARIABLES)
        except Exception as error:
            # Python's own limits, and complex numbers, are none of ours.
            if "name 'inf'" in str(error):
                continue
            case["refused"] = True
        if " at 0x" in case.get("text", "") or "j)" in case.get("text", "") or "** 0.5" in template:
            continue
        cases.append(case)
    with open(os.path.join(HERE, "templates_generated.json"), "w", encoding="utf-8") as file:
        file.write('{"cases":[\n' + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]}\n")
    print(len(cases), "generated,", sum("refused" in case for case in cases), "refused")


if __name__ == "__main__":
    main()
