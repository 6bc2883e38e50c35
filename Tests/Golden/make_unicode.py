"""Makes Sources/CTokenization/unicode_classes.c: what each Unicode character is to the pre-tokenizers.

    python Tests/Golden/make_unicode.py

Nothing is taken from memory: Hugging Face's `tokenizers` is asked about every character, through the pre-tokenizers
themselves, so that the table holds what the reference does, whichever Unicode version each of its parts knows.
Where `unicodedata2` is installed too, the versions are told.

Made with tokenizers 0.23.3: general categories and white space (Oniguruma) equal Unicode 16.0, as do those of tiktoken
0.14.0 (fancy-regex); words (`\\w` of Rust's regex) Unicode 16.0; numbers (Rust's char::is_numeric) Unicode 17.0;
punctuation (the crate unicode_categories) a far older one.
"""

import os

from tokenizers import Regex, pre_tokenizers

PATH = os.path.join(os.path.dirname(__file__), "..", "..", "Sources", "CTokenization", "unicode_classes.c")
CHARACTERS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
# The order is that of `enum sl_category`.
CATEGORIES = ["Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl", "No",
              "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs"]
SPACE_CONTROL, NUMERIC, PUNCTUATION, WORD = 30, 0x20, 0x40, 0x80


def matches(pattern):
    """The characters that a class of Oniguruma matches."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    found = set()
    for start in range(0, len(CHARACTERS), 4096):
        text = "".join(map(chr, CHARACTERS[start:start + 4096]))
        for piece, _ in split.pre_tokenize_str(text):
            found.update(map(ord, piece))
    return found


def isolated(pre_tokenizer):
    """The characters that a pre-tokenizer cuts off a letter before them."""
    found = set()
    for start in range(0, len(CHARACTERS), 2048):
        text = "".join("x" + chr(c) for c in CHARACTERS[start:start + 2048])
        pieces = [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]
        found.update(ord(piece) for piece in pieces if len(piece) == 1 and piece != "x")
    return found


def joined(pre_tokenizer):
    """The characters that a pre-tokenizer leaves together with a letter before them."""
    return {c for c in CHARACTERS if [p for p, _ in pre_tokenizer.pre_tokenize_str("a" + chr(c))] == ["a" + chr(c)]}


def tell_versions(classes, numeric):
    try:
        import unicodedata2 as data
    except ImportError:
        return
    wrong = sum(data.category(chr(c)) != CATEGORIES[classes[c]] for c in CHARACTERS)
    print(f"general categories: {wrong} differences from Unicode {data.unidata_version}")
    print(f"numbers: {sum((data.category(chr(c))[0] == 'N') != (c in numeric) for c in CHARACTERS)} differences")


def main():
    classes = [0] * 0x110000
    for index, name in enumerate(CATEGORIES):
        if name not in ("Cn", "Cs"):
            for character in matches(r"\p{%s}" % name):
                classes[character] = index
    for character in range(0xD800, 0xE000):
        classes[character] = CATEGORIES.index("Cs")
    numeric = isolated(pre_tokenizers.Digits(individual_digits=True))
    punctuation = isolated(pre_tokenizers.Punctuation(behavior="isolated"))
    word = joined(pre_tokenizers.Whitespace())
    spaces = matches(r"\s")
    tell_versions(classes, numeric)
    for character in CHARACTERS:
        category = CATEGORIES[classes[character]]
        if (character in spaces) != (category[0] == "Z"):
            assert character in spaces and category == "Cc"
            classes[character] = SPACE_CONTROL
        classes[character] |= NUMERIC * (character in numeric)
        classes[character] |= PUNCTUATION * (character in punctuation)
        classes[character] |= WORD * (character in word)
    runs = [c << 8 | classes[c] for c in range(0x110000) if c == 0 or classes[c] != classes[c - 1]]
    with open(PATH, "w") as file:
        file.write("// Made by Tests/Golden/make_unicode.py: do not edit.\n#include \"unicode_classes.h\"\n\n")
        file.write(f"const uint32_t sl_unicode_runs[] = {{\n")
        line = " "
        for run in runs:
            item = f" {run:#x},"
            if len(line) + len(item) > 120:
                file.write(line + "\n")
                line = " "
            line += item
        file.write(line + "\n};\n")
        file.write("const size_t sl_unicode_run_count = sizeof sl_unicode_runs / sizeof *sl_unicode_runs;\n")
    print(f"{len(runs)} runs")


if __name__ == "__main__":
    main()
