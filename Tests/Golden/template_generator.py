"""Random templates: expressions of every kind and statements within each other, most of them meaningful."""

import random

NAMES = {
    "int": ["n", "m", "zero", "(l | length)", "loop.index if loop is defined else 2", "huge"],
    "float": ["f", "big", "small", "half"],
    "str": ["s", "empty", "u", "q", "words[0]", "people[0].name", "line", "tag", "d['é']", "lines"],
    "list": ["l", "words", "nested", "people", "tree", "d.a.c", "[]", "mixed"],
    "dict": ["d", "people[0]", "d.a", "{}", "tree[0]"],
    "bool": ["yes", "no", "true", "false"],
    "none": ["nothing", "none"],
    "undefined": ["missing", "d.missing", "l[99]", "s.nope"],
}
STRINGS = ["", "a", " ", "abc", "Hello World", " x  y ", "a,b,,c", "ß", "İ", "ΑΣ", "é🙂", "<b>&\"'", "%s", "{}", "line\\none\\n\\ntwo", "42", "-1.5e3", "0x1f", "aXbXc", "foo-bar baz_qux", "ǆ", "1_000", "\\t", "\\u0041\\x42", "\\\\", "A", "it\\'s", "Zq", "٣", "inf", "http://a.com/x?y=1 (www.b.org), <me@c.de>"]
SPECS = ["", "d", "5", "<5", ">8", "^9", "*^9", "05", "+", " ", ",", "_", "x", "X", "o", "b", "#x", "#o", "#b", ".2f", "8.3f", "+.1e", "E", "g", ".3g", "G", "%", ".1%", "s", ".2s", "10s", "c", "n", "=+8", "08.2f", ",.2f", "_x", "z.0f", "012,", "é>4", ".3", "=5", "#.0f", "r"]
PERCENTS = ["%s", "%r", "%a", "%d", "%i", "%5d", "%-5d|", "%05d", "%+d", "% d", "%x", "%#x", "%X", "%o", "%#o", "%e", "%.2f", "%8.3f", "%-8.1f|", "%g", "%G", "%%", "%c", "%.3s", "%10s", "%-10s|", "%*d", "%.*f", "%(b)s", "%(items)r", "%F", "%#.0f", "%ld", "%q", "%.d", "%05.1f", "%+.3e"]


class Generator:
    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.depth = 0
        self.macros = 0

    def pick(self, items):
        return self.draw.choice(items)

    def chance(self, p):
        return self.draw.random() < p

    # --- expressions

    def literal(self, kind):
        if kind == "int":
            return self.pick(["0", "1", "2", "3", "-1", "-7", "10", "255", "1_000", "0x1F", "0b11", "9223372036854775807", "-9223372036854775808", "12345678901234567890", "2 ** 70"])
        if kind == "float":
            return self.pick(["0.0", "1.0", "-0.5", "2.5", "3.14159", "1e16", "1e-7", "1e300", "123456.789", "0.1", "1.5e3", "-0.0", "2.675", "1e22", "5e-324", "0.30000000000000004"])
        if kind == "str":
            quote = self.pick(["'", '"'])
            text = self.pick(STRINGS)
            if quote == '"':
                text = text.replace('"', "'")
            else:
                text = text.replace("\\'", "''"[:1] + "x") if "\\'" in text else text.replace("'", '"')
            return quote + text + quote
        if kind == "list":
            inner = self.pick(["int", "str", "float", "any", "int", "str"])
            items = ", ".join(self.expression(inner) for _ in range(self.draw.randint(0, 4)))
            if self.chance(0.25):
                return f"({items},)" if items else "()"
            return f"[{items}]"
        if kind == "dict":
            return "{" + ", ".join(f"{self.pick([self.literal('str'), self.literal('int')])}: {self.expression('any')}" for _ in range(self.draw.randint(0, 3))) + "}"
        return self.pick(NAMES.get(kind, ["nothing"]))

    def expression(self, kind="any"):
        if kind == "any":
            kind = self.pick(["int", "float", "str", "str", "str", "list", "list", "dict", "bool", "none", "undefined", "int"])
        if self.chance(0.04):
            kind = self.pick(list(NAMES))
        if self.depth > 3 or self.chance(0.25):
            return self.pick(NAMES[kind]) if self.chance(0.6) or kind in ("none", "undefined", "bool") else self.literal(kind)
        self.depth += 1
        try:
            if self.chance(0.06):
                otherwise = f" else {self.expression(kind)}" if self.chance(0.8) else ""
                return f"({self.expression(kind)} if {self.expression('bool')}{otherwise})"
            if self.chance(0.04):
                return f"({self.expression(kind)} | default({self.expression(kind)}{self.pick(['', ', true', ', boolean=false'])}))"
            if self.chance(0.04):
                return f"({self.expression(kind)} {self.pick(['and', 'or'])} {self.expression(kind)})"
            return getattr(self, "make_" + kind, lambda: self.pick(NAMES[kind]))()
        finally:
            self.depth -= 1

    def number(self):
        return self.expression(self.pick(["int", "int", "float"]))

    def call(self, *arguments):
        return "(" + ", ".join(a for a in arguments if a) + ")"

    def make_int(self):
        e = self.expression
        return self.pick([
            lambda: f"({e('int')} {self.pick(['+', '-', '*', '//', '%', '+', '-'])} {e('int')})",
            lambda: f"({e('int')} ** {self.pick(['0', '1', '2', '3', '10', '64', '-1'])})",
            lambda: f"(-{e('int')})", lambda: f"(+{e('int')})",
            lambda: f"({e(self.pick(['str', 'list', 'dict']))} | {self.pick(['length', 'count'])})",
            lambda: f"({e(self.pick(['str', 'float', 'int', 'none', 'list']))} | int{self.pick(['', '(7)', '(base=16)', '(0, 16)', '(0, 0)', '(default=none)'])})",
            lambda: f"({e('int')} | {self.pick(['abs', 'round', 'round(-1)', 'round(2)', 'int', 'random | int' if False else 'abs'])})",
            lambda: f"({e('list')} | {self.pick(['sum', 'min', 'max', 'first', 'last', 'sum(start=5)'])})",
            lambda: f"({e('str')} | wordcount)",
            lambda: f"{e('str')}.{self.pick(['find', 'rfind', 'index', 'count', 'rindex'])}({e('str')}{self.pick(['', '', ', 1', ', 2, -1', ', -3'])})",
            lambda: f"{e('list')}.{self.pick(['index', 'count'])}({e('any')})",
            lambda: f"{e('list')}[{e('int')}]",
            lambda: f"{e('dict')}.get({e('str')}, {e('int')})",
            lambda: f"({e('int')}).{self.pick(['bit_length()', 'real', 'imag', 'numerator', 'denominator', 'conjugate()', 'bit_count()'])}",
        ])()

    def make_float(self):
        e = self.expression
        return self.pick([
            lambda: f"({self.number()} {self.pick(['+', '-', '*', '/', '//', '%'])} {self.number()})",
            lambda: f"({self.number()} / {self.number()})",
            lambda: f"({self.number()} | round{self.pick(['', '(1)', '(2)', '(-1)', '(3)', '(none)' if False else '(0)'])})",
            lambda: f"({self.number()} | round({self.pick(['0', '1', '2', '-1'])}, {self.pick(['“'[:0] + chr(39) + 'ceil' + chr(39), chr(39) + 'floor' + chr(39), chr(39) + 'common' + chr(39)])}))",
            lambda: f"({e(self.pick(['str', 'int', 'float', 'none']))} | float{self.pick(['', '(1.5)', '(default=2)'])})",
            lambda: f"({e('float')} | abs)", lambda: f"(-{e('float')})",
            lambda: f"({e('float')} ** {self.pick(['2', '0.5', '-1', '0'])})",
            lambda: f"({e('float')}).{self.pick(['is_integer()', 'real', 'imag', 'conjugate()'])}",
        ])()

    def make_str(self):
        e = self.expression
        return self.pick([
            lambda: f"({e('str')} {self.pick(['+', '~', '~'])} {e('str')})",
            lambda: f"({e('any')} ~ {e('any')}{self.pick(['', ' ~ ' + e('str')])})",
            lambda: f"({e('str')} * {e('int') if self.chance(0.2) else self.pick(['0', '1', '2', '3', '-1'])})",
            lambda: f"({e('str')} | {self.pick(['upper', 'lower', 'capitalize', 'title', 'trim', 'reverse', 'string', 'escape', 'e', 'forceescape', 'safe', 'striptags', 'urlencode', 'urlize', 'first', 'last', 'indent', 'center(9)', 'center', 'wordwrap(4)', 'wordwrap(7, false)', 'truncate(5)', 'truncate(8, true)', 'truncate(6, false, chr)' if False else 'truncate(7, end=' + chr(39) + '..' + chr(39) + ')', 'pprint', 'list | join', 'tojson', 'trim(' + e('str') + ')', 'indent(2, true)', 'indent(width=' + chr(39) + '> ' + chr(39) + ', blank=true)', 'truncate(3, true, ' + chr(39) + chr(39) + ', 0)', 'wordwrap(5, true, ' + chr(39) + '|' + chr(39) + ')', 'wordwrap(6, break_on_hyphens=false)', 'urlize(10, true)', 'urlize(target=' + chr(39) + '_top' + chr(39) + ')'])})",
            lambda: f"({e('str')} | replace({e('str')}, {e('str')}{self.pick(['', '', ', 1', ', count=2', ', 0'])}))",
            lambda: f"{e('str')}.{self.pick(['upper', 'lower', 'title', 'capitalize', 'swapcase', 'strip', 'lstrip', 'rstrip', 'casefold'])}()",
            lambda: f"{e('str')}.{self.pick(['strip', 'lstrip', 'rstrip', 'removeprefix', 'removesuffix'])}({e('str')})",
            lambda: f"{e('str')}.{self.pick(['center', 'ljust', 'rjust'])}({self.pick(['0', '3', '10', '-2', '7'])}{self.pick(['', ', ' + chr(39) + '*' + chr(39), ', ' + chr(39) + 'é' + chr(39)])})",
            lambda: f"{e('str')}.zfill({self.pick(['0', '5', '9'])})",
            lambda: f"{e('str')}.expandtabs({self.pick(['', '4', '0', 'tabsize=2'])})",
            lambda: f"{e('str')}.replace({e('str')}, {e('str')}{self.pick(['', ', 1', ', -1'])})",
            lambda: f"{e('str')}.join({e('list')})",
            lambda: f"({e('list')} | join({self.pick(['', e('str'), e('str') + ', attribute=' + chr(39) + 'name' + chr(39), 'd=' + e('str')])}))",
            lambda: f"{e('str')}[{self.index()}]", lambda: f"{e('str')}[{self.slice()}]",
            lambda: f"({e('any')} | tojson{self.pick(['', '', '(indent=2)', '(ensure_ascii=true)', '(sort_keys=true)', '(indent=1, sort_keys=true)', '(separators=(' + chr(39) + ',' + chr(39) + ', ' + chr(39) + ':' + chr(39) + '))', '(indent=0)', '(false, 3)'])})",
            lambda: f"({e('any')} | string)",
            lambda: f"({self.number()} | filesizeformat{self.pick(['', '(true)'])})",
            lambda: f"({e('dict')} | {self.pick(['urlencode', 'xmlattr', 'xmlattr(false)', 'pprint', 'tojson'])})",
            self.braces, self.percent,
            lambda: f"{e('str')}.{self.pick(['partition', 'rpartition'])}({e('str')})[{self.pick(['0', '1', '2'])}]",
            lambda: f"{e('str')}.split({self.pick(['', e('str'), 'none, 1', e('str') + ', 1'])})[{self.pick(['0', '-1', '1'])}]",
            lambda: f"({e('list')} | first)",
        ])()

    def braces(self):
        parts = []
        for _ in range(self.draw.randint(1, 3)):
            name = self.pick(["", "", "", "0", "1", "k", "0[0]", "k.x", "d[b]"])
            parts.append("{" + name + self.pick(["", "", "!r", "!s", "!a"]) + (":" + self.pick(SPECS) if self.chance(0.7) else "") + "}" + self.pick(["", " ", "{{x}}"]))
        values = ", ".join([self.expression(self.pick(["int", "float", "str", "any", "int"])) for _ in range(self.draw.randint(1, 3))] + (["k=" + self.expression("any")] if self.chance(0.4) else []) + (["d=d"] if self.chance(0.2) else []))
        text = "".join(parts)
        if self.chance(0.1):
            return f"'{text}'.format_map({self.expression('dict')})"
        return f"'{text}'.format({values})"

    def percent(self):
        count = self.draw.randint(1, 3)
        text = " ".join(self.pick(PERCENTS) for _ in range(count))
        values = ", ".join(self.expression(self.pick(["int", "float", "str", "any", "int", "float"])) for _ in range(count))
        if self.chance(0.5):
            return f"('{text}' | format({values}))"
        if "(" in text and self.chance(0.8):
            return f"('{text}' % d)"
        return f"('{text}' % ({values}{',' if count == 1 and self.chance(0.7) else ''}))"

    def index(self):
        return self.pick(["0", "1", "-1", "2", "-2", "99", self.expression("int")])

    def slice(self):
        part = lambda: self.pick(["", "", "0", "1", "2", "-1", "-2", "99", self.expression("int") if self.chance(0.3) else "3"])
        return f"{part()}:{part()}" + self.pick(["", "", ":", ":2", ":-1", ":-2", ":0" if self.chance(0.2) else ":1"])

    def test(self):
        e = self.expression
        return self.pick([
            "defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping", "sequence", "iterable", "callable",
            "escaped", "lower", "upper", "odd", "even", "filter", "test", "not none", "not string",
            f"divisibleby({self.pick(['2', '3', '0', '7'])})", f"divisibleby 2", f"in({e('list')})", f"in {self.pick(NAMES['list'])}", f"eq({e('any')})", f"equalto {self.literal('int')}".replace("- ", "-") if False else "equalto 3",
            f"ne({e('any')})", f"gt({self.number()})", f"ge {self.pick(['1', '2.5', 'n'])}", f"lt({e('any')})", f"le(3)", f"greaterthan(2)", f"lessthan(5)", "sameas none", "sameas true", "not in ['a', 3]",
        ])

    def make_bool(self):
        e = self.expression
        return self.pick([
            lambda: f"({self.number()} {self.pick(['==', '!=', '<', '<=', '>', '>='])} {self.number()})",
            lambda: f"({e('str')} {self.pick(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in'])} {e('str')})",
            lambda: f"({e('any')} {self.pick(['==', '!='])} {e('any')})",
            lambda: f"({e('any')} {self.pick(['in', 'not in'])} {e(self.pick(['list', 'list', 'dict']))})",
            lambda: f"({e('list')} {self.pick(['==', '<', '>='])} {e('list')})",
            lambda: f"(not {e('any')})", lambda: f"({e('any')} is {self.test()})", lambda: f"({e('any')} is not {self.test()})".replace("is not not", "is not"),
            lambda: f"({e('int')} < {e('int')} <= {e('int')} != {e('int')})",
            lambda: f"{e('str')}.{self.pick(['isupper', 'islower', 'istitle', 'isspace', 'isalpha', 'isalnum', 'isdigit', 'isdecimal', 'isnumeric', 'isascii', 'isidentifier', 'isprintable'])}()",
            lambda: f"{e('str')}.{self.pick(['startswith', 'endswith'])}({self.pick([e('str'), e('str') + ', 1', '(' + e('str') + ', ' + e('str') + ')', e('str') + ', 0, 2'])})",
            lambda: f"({e('bool')} {self.pick(['and', 'or'])} {e('bool')})",
        ])()

    def make_list(self):
        e = self.expression
        q = chr(39)
        return self.pick([
            lambda: f"({e('list')} + {e('list')})", lambda: f"({e('list')} * {self.pick(['0', '1', '2', '-1'])})",
            lambda: f"{e('list')}[{self.slice()}]",
            lambda: f"({e('list')} | {self.pick(['list', 'sort | list', 'reverse | list', 'unique | list', 'sort(reverse=true)', 'sort(true, true)', 'batch(2) | list', 'batch(3, 0) | list', 'slice(2) | list', 'slice(3, none) | list', 'slice(2, 9) | list', 'select | list', 'reject | list', 'unique(true) | list'])})",
            lambda: f"({e('list')} | {self.pick(['select', 'reject'])}({self.pick([q + 'odd' + q, q + 'string' + q, q + 'number' + q, q + 'gt' + q + ', 1', q + 'in' + q + ', ' + e('list'), q + 'defined' + q, q + 'nope' + q])}) | list)",
            lambda: f"({e('list')} | map({self.pick([q + 'upper' + q, q + 'string' + q, q + 'length' + q, q + 'int' + q, q + 'default' + q + ', 1', 'attribute=' + q + 'name' + q, 'attribute=' + q + 'name' + q + ', default=' + q + '-' + q, 'attribute=0', q + 'tojson' + q, q + 'replace' + q + ', ' + q + 'a' + q + ', ' + q + 'b' + q])}) | list)",
            lambda: f"(people | {self.pick(['selectattr', 'rejectattr'])}({self.pick([q + 'tags' + q, q + 'age' + q + ', ' + q + 'gt' + q + ', 30', q + 'name' + q + ', ' + q + 'eq' + q + ', ' + q + 'Bob' + q, q + 'name' + q + ', ' + q + 'in' + q + ', words', q + 'zz' + q + ', ' + q + 'undefined' + q, q + 'tags.0' + q])}) | map(attribute={q}{self.pick(['name', 'age', 'tags'])}{q}) | list)",
            lambda: f"(people | sort(attribute={q}{self.pick(['name', 'age', 'age,name', 'name,age', 'tags'])}{q}{self.pick(['', ', reverse=true', ', case_sensitive=true'])}) | map(attribute={q}name{q}) | list)",
            lambda: f"(people | groupby({q}{self.pick(['age', 'name', 'tags'])}{q}) | list)", lambda: f"(words | groupby(0) | map({q}list{q}) | list)",
            lambda: f"({e('dict')} | {self.pick(['dictsort', 'items | list', 'list', 'dictsort(true)', 'dictsort(by=' + q + 'value' + q + ')', 'dictsort(reverse=true)'])})",
            lambda: f"({e('dict')}.{self.pick(['keys', 'values', 'items'])}() | list)",
            lambda: f"({e('str')} | list)", lambda: f"{e('str')}.{self.pick(['split', 'rsplit'])}({self.pick(['', e('str'), e('str') + ', 1', 'none, 2', 'maxsplit=1', 'sep=' + e('str')])})",
            lambda: f"{e('str')}.splitlines({self.pick(['', 'true', 'keepends=true'])})", lambda: f"{e('str')}.{self.pick(['partition', 'rpartition'])}({e('str')})",
            lambda: f"(range({self.pick(['3', '0', '1, 4', '5, 0, -2', '-2', e('int') if self.chance(0.2) else '2'])}) | list)",
            lambda: f"range({self.pick(['3', '1, 4', '5, 0, -2', '0, 10, 3'])})[{self.slice()}]",
            lambda: f"range({self.pick(['3', '1, 4', '0, 10, 3'])})",
            lambda: f"{e('dict')}.{self.pick(['keys', 'values', 'items'])}()",
            lambda: f"([{e('list')}, {e('list')}] | {self.pick(['sum(start=[])', 'first', 'last', 'map(' + q + 'length' + q + ') | list'])})",
            lambda: f"({e('list')} | map({q}{self.pick(['upper', 'abs', 'first'])}{q}))",
            lambda: f"{e('list')}.copy()",
        ])()

    def make_dict(self):
        e = self.expression
        return self.pick([
            lambda: f"dict({self.pick(['', 'a=1', 'a=' + e('any') + ', b=2', e('dict'), e('dict') + ', z=3', '[(1, 2), (3, 4)]'])})",
            lambda: f"{e('dict')}.copy()", lambda: "dict(" + e("list") + ")" if self.chance(0.2) else self.literal("dict"),
            lambda: self.literal("dict"), lambda: f"dict.fromkeys({e('list')}{self.pick(['', ', 0'])})", lambda: f"({e('list')} | first)",
        ])()

    # --- statements

    def space(self):
        return self.pick(["", "", "", " ", "\n", "\n  ", "  ", "\n\n", " \n\t", "x", "text ", "\r\n", "é "])

    def tag(self, text):
        return "{%" + self.pick(["", "", "", "-", "+"]) + " " + text + " " + self.pick(["", "", "", "-", "+"]) + "%}"

    def output(self, expression):
        return "{{" + self.pick(["", "", "", "-"]) + " " + expression + " " + self.pick(["", "", "", "-"]) + "}}"

    def body(self, level, in_loop=False):
        return "".join(self.space() + self.statement(level + 1, in_loop) + self.space() for _ in range(self.draw.randint(1, 2)))

    def statement(self, level, in_loop):
        if level > 3 or self.chance(0.35):
            return self.output(self.pick(["x", "y", "loop.index", "ns.v", "x ~ y"]) if self.chance(0.3) else self.expression())
        loopy = ["loop.index", "loop.index0", "loop.revindex", "loop.revindex0", "loop.first", "loop.last", "loop.length", "loop.cycle('a', 'b', 3)", "loop.depth", "loop.depth0", "loop.changed(x)", "loop.previtem", "loop.nextitem", "loop"]
        return self.pick([
            lambda: self.tag(f"for x in {self.expression('list')}{self.pick(['', '', ' if ' + self.pick(['x', 'x is string', 'x != 1', self.expression('bool')])])}") + self.output(self.pick(loopy)) + self.body(level, True) + (self.tag("else") + self.body(level, in_loop) if self.chance(0.3) else "") + self.tag("endfor"),
            lambda: self.tag(f"for x, y in {self.pick(['d.items()', 'd | items', 'd | dictsort', '[(1, 2), [3, 4]]', 'people | groupby(' + chr(39) + 'age' + chr(39) + ')', self.expression('list')])}") + self.body(level, True) + self.tag("endfor"),
            lambda: self.tag("for x in tree recursive") + self.output("x.v") + self.output(self.pick(["loop(x.kids)", "loop(x.kids) if x.kids", "loop.depth", "loop(x.kids) | upper"])) + self.body(level, True) + self.tag("endfor"),
            lambda: self.tag(f"if {self.expression(self.pick(['bool', 'any']))}") + self.body(level, in_loop) + (self.tag(f"elif {self.expression('bool')}") + self.body(level, in_loop) if self.chance(0.3) else "") + (self.tag("else") + self.body(level, in_loop) if self.chance(0.5) else "") + self.tag("endif"),
            lambda: self.tag(f"set {self.pick(['x', 'y', 'x, y', 'ns.v', 'z'])} = {self.expression()}{self.pick(['', '', ', ' + self.expression()])}"),
            lambda: self.tag(f"set {self.pick(['x', 'y', 'ns.v'])}{self.pick(['', ' | upper', ' | trim | length', ' | replace(' + chr(39) + 'a' + chr(39) + ', ' + chr(39) + 'b' + chr(39) + ')'])}") + self.body(level, in_loop) + self.tag("endset"),
            lambda: self.tag(f"set ns = namespace({self.pick(['', 'v=1', 'v=' + self.expression(), 'd', 'a=1, v=[]'])})") + self.output(self.pick(["ns.v", "ns", "ns.a", "ns.v is defined"])),
            self.macro(level), self.macro(level),
            lambda: self.tag(f"filter {self.pick(['upper', 'trim', 'replace(' + chr(39) + ' ' + chr(39) + ', ' + chr(39) + '_' + chr(39) + ')', 'indent(2)', 'escape', 'title | reverse', 'wordcount', 'length'])}") + self.body(level, in_loop) + self.tag("endfilter"),
            lambda: self.tag(f"with {self.pick(['x = ' + self.expression(), 'x = 1, y = x', '', 'y = [1, 2]'])}") + self.body(level, in_loop) + self.tag("endwith"),
            lambda: self.tag("generation") + self.body(level) + self.tag("endgeneration"),
            lambda: self.tag("raw") + self.pick(["{{ x }}", "{% if %}", " {# c #} ", "\n  a"]) + self.tag("endraw"),
            lambda: "{#" + self.pick(["", "-", "+"]) + self.pick([" c ", "\n", " {{ x }} ", ""]) + self.pick(["", "-"]) + "#}",
            lambda: self.tag(f"if {self.pick(['x', 'loop.first', self.expression('bool')])}") + self.tag(self.pick(["break", "continue"])) + self.tag("endif") if in_loop else self.output(self.expression()),
            lambda: self.tag(f"print {self.expression()}, {self.expression()}"),
            lambda: self.tag(f"autoescape {self.pick(['true', 'false'])}") + self.output(self.expression("str")) + self.tag("endautoescape"),
            lambda: self.tag(f"block b{self.draw.randint(0, 99)}{self.pick(['', ' scoped'])}") + self.body(level) + self.tag("endblock"),
            lambda: self.output("raise_exception(" + self.expression("str") + ")") if self.chance(0.1) else self.output(self.expression()),
        ])()

    def macro(self, level):
        def make():
            self.macros += 1
            name = f"m{self.macros}"
            parameters = self.pick(["", "a", "a, b=2", "a, b=a", "a=n, b=none", "a, b"])
            inside = self.pick(["{{ a }}", "{{ a }}-{{ b }}", "{{ varargs }}", "{{ kwargs }}", "{{ varargs | length }}{{ kwargs.z }}", "{{ caller() }}", "{{ caller(a, 1) if caller else 0 }}", "{{ x }}", "{{ loop }}"])
            text = self.tag(f"macro {name}({parameters})") + inside + self.body(level) + self.tag("endmacro")
            arguments = self.pick(["", "1", "1, 2", "1, 2, 3", "a=" + self.expression(), "1, b=" + self.expression(), "z=3, a=1", "*[1, 2]", "**{'a': 1}", "1, *l", self.expression()])
            if self.chance(0.35):
                return text + self.tag(f"call{self.pick(['', '(p)', '(p, o=3)'])} {name}({arguments})") + self.pick(["in", "{{ p }}", "{{ x }}"]) + self.tag("endcall")
            return text + self.output(f"{name}({arguments})") + (self.output(f"{name}.{self.pick(['name', 'arguments', 'catch_kwargs', 'catch_varargs', 'caller'])}") if self.chance(0.2) else "")
        return make

    def template(self):
        if self.chance(0.5):
            return self.output(self.expression())
        text = self.pick(["", "{% set x, y = 1, 'yy' %}", "{%- set ns = namespace(v=0) -%}"])
        return text + "".join(self.space() + self.statement(0, False) for _ in range(self.draw.randint(1, 3))) + self.space()
