"""Texts that try a tokenizer: real ones, and what a seed makes up.

A text is a few kilobytes. The kinds take turns, so any number of megabytes has all of them.
"""

import glob
import os
import random
import unicodedata

SCRIPTS = {
    "latin": (0x41, 0x24F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x52F), "armenian": (0x531, 0x58A),
    "hebrew": (0x591, 0x5F4), "arabic": (0x600, 0x6FF), "syriac": (0x700, 0x74F), "devanagari": (0x900, 0x97F),
    "bengali": (0x980, 0x9FE), "tamil": (0xB80, 0xBFA), "telugu": (0xC00, 0xC7F), "thai": (0xE00, 0xE5B),
    "tibetan": (0xF00, 0xFDA), "georgian": (0x10A0, 0x10FF), "hangul jamo": (0x1100, 0x11FF),
    "ethiopic": (0x1200, 0x139F), "khmer": (0x1780, 0x17F9), "mongolian": (0x1800, 0x18AA),
    "kana": (0x3041, 0x30FF), "han": (0x4E00, 0x9FFF), "hangul": (0xAC00, 0xD7A3), "full width": (0xFF01, 0xFFEE),
    "mathematical": (0x1D400, 0x1D7FF), "egyptian": (0x13000, 0x1342E),
}
PUNCTUATION = [".", ",", "!", "?", ":", ";", "…", "—", "。", "、", "؟", "।", "«", "»", "“", "”", "(", ")", "'s", "'LL", "’t"]
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\u00A0", "\u2003", "\u3000", "\u200B", "\u2028", "\u0085", "\u180E", "\r", " \n "]


def assigned(first, last):
    return [chr(c) for c in range(first, last + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


LETTERS = {name: assigned(*span) for name, span in SCRIPTS.items()}
EMOJI = [chr(c) for c in list(range(0x1F300, 0x1F650)) + list(range(0x1F680, 0x1F6D8)) + list(range(0x1F900, 0x1FA00))
         + list(range(0x2600, 0x27C0))]
MARKS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Mn", "Mc", "Me")]
DECOMPOSABLE = [chr(c) for c in range(0x110000) if unicodedata.decomposition(chr(c))]
CONTROLS = [chr(c) for c in list(range(0x20)) + list(range(0x7F, 0xA0)) + list(range(0x200B, 0x2010))
            + list(range(0x2028, 0x2030)) + list(range(0x2060, 0x2070)) + [0xFEFF, 0xFFF9, 0xFFFD, 0xFFFE, 0xFFFF, 0xE0001, 0xE0041]]
EVERYTHING = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def random_scalar(r):
    while True:
        kind = r.random()
        c = r.randrange(0x80) if kind < 0.2 else r.randrange(0x3000) if kind < 0.6 else r.randrange(0x110000)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def words(r, letters, size):
    parts = []
    length = 0
    while length < size:
        word = "".join(r.choices(letters, k=r.randint(1, 9)))
        if r.random() < 0.1:
            word += r.choice(PUNCTUATION)
        if r.random() < 0.05:
            word = str(r.randrange(10 ** r.randint(1, 12)))
        parts.append(word + (" " if r.random() < 0.85 else r.choice(SPACES)))
        length += len(parts[-1])
    return "".join(parts)


def scripts(r, size):
    return words(r, LETTERS[r.choice(list(LETTERS))], size)


def mixed_scripts(r, size):
    return "".join(scripts(r, r.randint(3, 60)) for _ in range(size // 30))


def emoji(r, size):
    parts = []
    for _ in range(size // 2):
        part = r.choice(EMOJI)
        kind = r.random()
        if kind < 0.2:
            part += "\uFE0F"
        elif kind < 0.3:
            part += chr(r.randrange(0x1F3FB, 0x1F400))
        elif kind < 0.5:
            part += "".join("\u200D" + r.choice(EMOJI) for _ in range(r.randint(1, 3)))
        elif kind < 0.6:
            part = "".join(chr(r.randrange(0x1F1E6, 0x1F200)) for _ in range(r.randint(1, 5)))
        elif kind < 0.65:
            part = r.choice("0123456789#*") + "\uFE0F\u20E3"
        elif kind < 0.8:
            part += r.choice([" ", "!", "\n", "ok ", "lol"])
        parts.append(part)
    return "".join(parts)


def controls(r, size):
    return "".join(r.choice(CONTROLS) if r.random() < 0.5 else r.choice("abc XYZ 123 ,.\n") for _ in range(size))


def broken_bytes(r, size):
    """What a reader makes of bytes that are no UTF-8: one U+FFFD for each broken part."""
    raw = bytearray(mixed_scripts(r, size).encode())
    for _ in range(len(raw) // 8):
        raw[r.randrange(len(raw))] = r.randrange(256)
    return bytes(raw).decode("utf-8", errors="replace")


def long_runs(r, size):
    unit = r.choice(["a", " ", "\n", "1", "é", "🙂", "!", "ab", "=-", "日", "\t", "\u0301", "x\u0301", "'s", " \n", "_", "\r\n", "A", "aA", "▁"])
    if r.random() < 0.4:
        return "".join(r.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=size))
    return unit * (size // len(unit))


def random_unicode(r, size):
    return "".join(random_scalar(r) for _ in range(size))


def normalization(r, size):
    """Marks on anything, in any order; characters that decompose; jamo."""
    parts = []
    for _ in range(size // 3):
        kind = r.random()
        if kind < 0.4:
            parts.append(r.choice(DECOMPOSABLE))
        elif kind < 0.5:
            parts.append(chr(r.randrange(0x1100, 0x1113)) + chr(r.randrange(0x1161, 0x1176))
                         + (chr(r.randrange(0x11A7, 0x11C3)) if r.random() < 0.5 else ""))
        else:
            parts.append(r.choice("aeioucnAEIOU ") if kind < 0.8 else random_scalar(r))
        parts.extend(r.choice(MARKS) if r.random() < 0.5 else chr(r.randrange(0x300, 0x345)) for _ in range(r.choice([0, 0, 1, 1, 2, 4])))
    return "".join(parts)


cursor = 0


def every_character(r, size):
    """Each character of Unicode in its turn, between letters, digits, spaces or itself."""
    global cursor
    parts = []
    for _ in range(size // 3):
        c = EVERYTHING[cursor % len(EVERYTHING)]
        cursor += 1
        parts.append(r.choice(["a", "1", " ", "\n", "!", "'", "", c]) + c)
    return "".join(parts)


def with_tokens(tokens):
    def make(r, size):
        parts = []
        for _ in range(size // 12):
            parts.append(r.choice(["word", " ", "  ", "\n", "x", "Hello, world", "é", "\u00A0", "_", "1", "▁", ""]))
            token = r.choice(tokens)
            kind = r.random()
            if kind < 0.1:
                token = token[: r.randint(0, len(token))]
            elif kind < 0.15:
                token = token.upper()
            parts.append(token)
        return "".join(parts)
    return make


MADE_UP = [scripts, mixed_scripts, emoji, controls, broken_bytes, long_runs, random_unicode, normalization, every_character]


def real_texts(files):
    """Stretches of files, taken in turn; code is Python's own library."""
    folder = os.path.dirname(os.__file__)
    code = sorted(glob.glob(os.path.join(folder, "*.py")) + glob.glob(os.path.join(folder, "*", "*.py")))
    code = [path for path in code if "site-packages" not in path]
    groups = [files, code] if files else [code]
    texts = []
    for group in groups:
        text = "\n".join(open(path, encoding="utf-8", errors="replace").read() for path in group)
        texts.append(text)
    return texts


def all_characters(seed):
    """Texts that have every character of Unicode."""
    global cursor
    cursor = 0
    r = random.Random(seed)
    while cursor < len(EVERYTHING):
        yield "every character", every_character(r, 6000)


def generate(seed, size, files, tokens):
    """Texts of `size` bytes together, each with the name of its kind: half real, half made up."""
    global cursor
    cursor = 0
    r = random.Random(seed)
    real = real_texts(files)
    places = [0] * len(real)
    makers = MADE_UP + ([with_tokens(tokens)] if tokens else [])
    done = turn = 0
    while done < size:
        length = r.choice([40, 400, 4000, 4000, 12000])
        if turn % 2 == 0:
            which = (turn // 2) % len(real)
            start = places[which]
            text = real[which][start:start + length]
            places[which] = start + length if start + length < len(real[which]) else r.randrange(1000)
            kind = "code" if which == len(real) - 1 else "prose"
        else:
            make = makers[(turn // 2) % len(makers)]
            text = make(r, length // 3)
            kind = "special tokens" if make not in MADE_UP else make.__name__.replace("_", " ")
        turn += 1
        done += len(text.encode())
        yield kind, text


def random_ids(seed, vocabulary, known):
    """Sequences of ids for decoding: any, and such that split characters; `known` holds ids of real texts."""
    r = random.Random(seed)
    while True:
        ids = [r.randrange(vocabulary) for _ in range(r.randint(1, 40))]
        if known and r.random() < 0.5:
            text = r.choice(known)
            start = r.randrange(len(text) + 1)
            ids = text[start:start + r.randint(1, 60)] or ids
            for _ in range(r.randint(0, 3)):
                ids = ids[:-1] if r.random() < 0.3 else ids[1:] if r.random() < 0.5 else ids + [r.randrange(vocabulary)]
        if ids:
            yield ids
