"""Makes Sources/Tokenization/Normalization/NormalizationData.swift.

    python Tests/Golden/make_normalization.py > Sources/Tokenization/Normalization/NormalizationData.swift

The data are Python's (module unicodedata), less the characters that Hugging Face's `tokenizers` does not know: its
normalizers have the tables of Unicode 12.0, and texts must become what they become there. Every rule is checked against
them. Made with Python 3.11 (Unicode 14.0) and tokenizers 0.23.3.
"""

import sys
import unicodedata

import tokenizers
from tokenizers import normalizers

NFD, NFKD, NFC = (getattr(normalizers, name)().normalize_str for name in ("NFD", "NFKD", "NFC"))
STRIP = normalizers.StripAccents().normalize_str
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xAC00 + 11172)


def knows_class(c, ccc):
    """Whether the reference moves the character to where its combining class belongs."""
    if ccc > 1:
        return NFD("a" + chr(c) + "\u0334") == unicodedata.normalize("NFD", "a\u0334" + chr(c))
    return NFD("a\u0345" + chr(c)) == "a" + chr(c) + "\u0345"


def ranges(values):
    """Runs of points with the same value: (first, last, value)."""
    result = []
    for c, value in values:
        if result and result[-1][1] == c - 1 and result[-1][2] == value:
            result[-1][1] = c
        else:
            result.append([c, c, value])
    return result


def lines(words):
    line = ""
    for word in words:
        if len(line) + len(word) > 110:
            yield line
            line = ""
        line += (" " if line else "") + word
    yield line


def literal(name, comment, words):
    print(f"  /// {comment}")
    print(f"  static let {name}: StaticString = \"\"\"")
    for line in lines(words):
        print("    " + line)
    print("    \"\"\"")


def decompositions():
    dropped = []
    previous = 0
    for c in POINTS:
        rule = unicodedata.decomposition(chr(c))
        if not rule or c in HANGUL:
            continue
        parts = rule.split()
        isCompatible = parts[0].startswith("<")
        parts = [int(x, 16) for x in (parts[1:] if isCompatible else parts)]
        known = NFKD(chr(c)) == unicodedata.normalize("NFKD", chr(c)) and (
            isCompatible or NFD(chr(c)) == unicodedata.normalize("NFD", chr(c)))
        if not known:
            assert NFKD(chr(c)) == chr(c)
            dropped.append(c)
            continue
        composes = not isCompatible and NFC(chr(c)) == chr(c)
        sign = "~" if isCompatible else "=" if composes else ":"
        yield f"{c - previous:X}{sign}" + ".".join(f"{x:X}" for x in parts)
        previous = c
    print(f"dropped: {len(dropped)} decompositions", file=sys.stderr)


def main():
    classes = [(c, unicodedata.combining(chr(c))) for c in POINTS]
    known = [(c, ccc) for c, ccc in classes if ccc and knows_class(c, ccc)]
    print(f"dropped: {sum(1 for _, ccc in classes if ccc) - len(known)} combining classes", file=sys.stderr)
    marks = [(c, 0) for c in POINTS if STRIP("a" + chr(c) + "b") == "ab"]
    print("// Made by Tests/Golden/make_normalization.py from Unicode's data; see there before changing anything.\n")
    print("/// How characters decompose and combine: Unicode 12.0, as Hugging Face's `tokenizers`"
          f" {tokenizers.__version__} has it.")
    print("enum NormalizationData {")
    literal(
        "decompositions",
        "The distance from the character before, a sign (`=` canonical, `:` canonical and never composed, `~` "
        "compatible), the parts.".replace("compatible), the parts", "compatible),\n  /// the parts"),
        decompositions())
    literal("combiningClasses", "First character, length of the run, canonical combining class.",
            (f"{a:X}.{b - a + 1:X}.{v:X}" for a, b, v in ranges(known)))
    literal("marks", "First mark (categories Mn, Mc, Me), length of the run.",
            (f"{a:X}.{b - a + 1:X}" for a, b, _ in ranges(marks)))
    print("}")


if __name__ == "__main__":
    main()
