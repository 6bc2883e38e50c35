"""Makes tokenization/words.json: where Hugging Face's `tokenizers` cuts random Unicode by the patterns that models ship.

    python Tests/Golden/make_words.py

Made with tokenizers 0.23.3. Texts mix characters of every general category of its Unicode version, white space of every
kind, contractions and ASCII. Ends of words are counted in UTF-8 bytes.
"""

import json
import os
import random

from tokenizers import Regex, pre_tokenizers

from make_unicode import CATEGORIES, matches

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenization", "words.json")
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BEFORE = r"[^\r\n\p{L}\p{N}]?"
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def o200k(contractions, digits):
    return (BEFORE + UPPER + "*" + LOWER + "+" + contractions + "|" + BEFORE + UPPER + "+" + LOWER + "*" + contractions
            + r"|\p{N}" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES)


# Name, pattern, whether each digit is cut off before, whether it has a scanner of its own.
PATTERNS = [
    ("gpt2", GPT2, False, True),
    ("gpt2, as tiktoken writes it",
     r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s", False, True),
    ("digits, gpt2", GPT2, True, True),
    ("cl100k", CONTRACTIONS + "|" + BEFORE + r"\p{L}+|\p{N}{1,3}" + SIGNS, False, True),
    ("cl100k, as tiktoken has it", CONTRACTIONS + "|" + BEFORE + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z"
     + SPACES, False, True),
    ("qwen2", CONTRACTIONS + "|" + BEFORE + r"\p{L}+|\p{N}" + SIGNS, False, True),
    ("qwen3.5", CONTRACTIONS + "|" + BEFORE + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACES, False, True),
    ("o200k", o200k(CONTRACTIONS + "?", "{1,3}"), False, True),
    ("tekken", o200k("", ""), False, True),
    ("deepseek",
     r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
     + SPACES, False, False),
    ("words", r"\w+|[^\w\s]+|[\s-]+", False, False),
    ("not", r"\P{Lu}+|[\P{N}\d]|\D\W\S", False, False),
]


def texts(count):
    generator = random.Random(3)
    pools = [sorted(matches(r"\p{%s}" % name)) for name in CATEGORIES if name not in ("Cs", "Zl", "Zp")]
    spaces = [9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
    words = ["'s", "'LL", "'\u017f", "'Ve", "'", "'re", "'T", " ", "  ", "\n", "\r\n", " \n", "hello", "Hello", "WORLD",
             "camelCase", "/", "//\n", "123", "1", "\u180e", "-"]

    def piece():
        kind = generator.random()
        if kind < 0.35:
            return chr(generator.choice(generator.choice(pools)))
        if kind < 0.45:
            return chr(generator.choice(spaces))
        return generator.choice(words) if kind < 0.75 else chr(generator.randint(1, 126))

    return ["".join(piece() for _ in range(generator.randint(1, 40))) for _ in range(count)]


def ends(pre_tokenizer, text):
    result, done = [], 0
    for word, _ in pre_tokenizer.pre_tokenize_str(text):
        done += len(word.encode())
        result.append(done)
    return result


def main():
    samples = texts(160)
    rows = []
    for name, pattern, digits, scanned in PATTERNS:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        if digits:
            split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split])
        rows.append({"name": name, "pattern": pattern, "digits": digits, "scanned": scanned,
                     "ends": [ends(split, text) for text in samples]})
    with open(PATH, "w", encoding="utf-8") as file:
        json.dump({"texts": samples, "patterns": rows}, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
