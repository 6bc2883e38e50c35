"""Makes the golden values of the tokenizer formats beside tokenizer.json.

    python Tests/Golden/make_tokenizer_formats.py

Small SentencePiece models are trained here and encode the sample texts with the `sentencepiece` library; a small list of
ranks is encoded with `tiktoken`; folders with different configurations are read by transformers' AutoTokenizer. The files
and the ids go to `tokenization/`.

Made with sentencepiece 0.2.3, tiktoken 0.14.0, transformers 5.23.0, tokenizers 0.23.3.
"""

import base64
import json
import os
import tempfile

import sentencepiece
import tiktoken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

import make_tokenization as small

HERE = small.HERE
TEXTS = small.TEXTS + [
    "  two  spaces   here  ", "▁", " ▁ ", "ﬁne ①② ＡＢＣ ｶﾞ \u212b ½", "the<sep>sing▁ing é e\u0301", "The Dog; DON'T", "a\u200bb\u00ad",
]

# Rules of normalization, few enough for a small file: hexadecimal characters, a tab, what replaces them.
RULES = [
    ("FB01", "66 69"), ("2460", "31"), ("FF21", "41"), ("FF22", "42"), ("65 301", "E9"), ("212B", "C5"), ("AD", ""),
    ("200B", "20"), ("A0", "20"), ("3000", "20"), ("9", "20"), ("A", "20"), ("D", "20"), ("44 4F 4E", "64 6F 6E"),
    ("BD", "31 2F 32"), ("FF76 FF9E", "30AC"), ("FF76", "30AB"),
]

MODELS = {
    "bpe_bytes": dict(model_type="bpe", normalization_rule_name="identity", byte_fallback=True, vocab_size=700,
                      remove_extra_whitespaces=False),
    "bpe_rules": dict(model_type="bpe", vocab_size=420, user_defined_symbols=["<sep>", "ing", "▁the"], rules=True,
                      unused=9),
    "unigram_rules": dict(model_type="unigram", vocab_size=330, rules=True),
    "unigram_suffix": dict(model_type="unigram", vocab_size=620, byte_fallback=True, treat_whitespace_as_suffix=True,
                           user_defined_symbols=["<sep>", "ing"], rules=True, unused=9),
    "unigram_plain": dict(model_type="unigram", vocab_size=330, normalization_rule_name="identity",
                          remove_extra_whitespaces=False, add_dummy_prefix=False),
}


def with_unused(data, stride):
    """The same model with every so many pieces of two letters and more marked as unused: type 5 (field 3 of field 1)."""
    result = b""
    seen = 0
    for field, raw, value in fields(data):
        if field == 1:
            parts = {number: part for number, part, _ in fields(value)}
            text = next(inner for number, _, inner in fields(value) if number == 1).decode()
            seen += 3 not in parts and len(text) > 2
            if stride and 3 not in parts and len(text) > 2 and seen % stride == 0:
                raw = b"\x0A" + varint(len(value) + 2) + value + b"\x18\x05"
        result += raw
    return result


def sentence_pieces(folder):
    corpus = folder + "/corpus.txt"
    with open(corpus, "w", encoding="utf-8") as file:
        file.write("\n".join(small.CORPUS) + "\n")
    rules = folder + "/rules.tsv"
    with open(rules, "w", encoding="utf-8") as file:
        file.write("".join(f"{a}\t{b}\n" for a, b in RULES))
    result = []
    for name, options in MODELS.items():
        options = dict(options)
        unused = options.pop("unused", 0)
        if options.pop("rules", False):
            options["normalization_rule_tsv"] = rules
        path = f"{folder}/{name}.model"
        sentencepiece.SentencePieceTrainer.train(
            input=corpus, model_prefix=path[:-6], character_coverage=0.98, hard_vocab_limit=False, minloglevel=2, **options)
        data = with_unused(without_path(open(path, "rb").read()), unused)
        with open(os.path.join(HERE, name + ".model"), "wb") as file:
            file.write(data)
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
        ids = [model.encode(x) for x in TEXTS]
        result.append({
            "name": name, "ids": ids,
            "decoded": [None if model.unk_id() in x else model.decode(x) for x in ids]})
        if name == "unigram_rules":
            with open(os.path.join(HERE, "rules.charsmap"), "wb") as file:
                file.write(charsmap(data))
    return result


def without_path(data):
    """The model without its trainer's options beyond what reading needs: paths do not belong into the repository."""
    result = b""
    for field, raw, value in fields(data):
        if field == 2:
            kept = b"".join(part for number, part, _ in fields(value) if number in (3, 24, 35, 40, 41, 42, 43))
            raw = b"\x12" + varint(len(kept)) + kept
        elif field == 3:
            kept = b"".join(part for number, part, _ in fields(value) if number != 6)
            raw = b"\x1A" + varint(len(kept)) + kept
        if field <= 3:
            result += raw
    return result


def varint(value):
    result = b""
    while value > 127:
        result += bytes([value & 127 | 128])
        value >>= 7
    return result + bytes([value])


def fields(data):
    """Number, bytes and, for a message, the bytes inside of each field."""
    place = 0

    def number():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        start = place
        key = number()
        value = b""
        if key & 7 == 0:
            number()
        elif key & 7 == 2:
            length = number()
            value = data[place:place + length]
            place += length
        else:
            place += 4 if key & 7 == 5 else 8
        yield key >> 3, data[start:place], value


def charsmap(data):
    return next(v for f, _, v in fields(next(v for f, _, v in fields(data) if f == 3)) if f == 2)


def ranks():
    """A list of ranks made of the small byte-level vocabulary, and what tiktoken makes of it."""
    t = small.bytes_gpt2()
    decode = {c: b for b, c in enumerate(byte_characters())}
    vocabulary = json.loads(t.to_str())["model"]["vocab"]
    tokens = [bytes(decode[c] for c in text) for text, _ in sorted(vocabulary.items(), key=lambda x: x[1])
              if text not in small.SPECIALS]
    with open(os.path.join(HERE, "cl100k_small.tiktoken"), "w") as file:
        for rank, token in enumerate(tokens):
            file.write(f"{base64.b64encode(token).decode()} {rank}\n")
    patterns = {
        "cl100k": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
        "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
        "o200k": "|".join([
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""", r"""\s*[\r\n]+""", r"""\s+(?!\S)""", r"""\s+"""]),
    }
    result = []
    for name, pattern in patterns.items():
        encoding = tiktoken.Encoding(
            name, pat_str=pattern, mergeable_ranks={token: rank for rank, token in enumerate(tokens)}, special_tokens={})
        result.append({"name": name, "ids": [encoding.encode_ordinary(x) for x in TEXTS]})
    return result


def byte_characters():
    visible = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    following = iter(range(0x100, 0x200))
    return [chr(b) if b in visible else chr(next(following)) for b in range(256)]


CONFIGURATIONS = {
    "bos": ("bytes_gpt2", {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}),
    "no_bos": ("bytes_llama3", {"bos_token": "<s>", "add_bos_token": False}),
    "eos": ("bytes_llama3", {"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": True}),
    "template_stays": ("bytes_llama3", {"bos_token": "<s>", "eos_token": "</s>"}),
    "token_changed": ("bytes_gpt2", {"eos_token": "</s>", "added_tokens_decoder": {"3": {
        "content": "<|end|>", "lstrip": True, "rstrip": True, "normalized": False, "single_word": False, "special": True}}}),
    "token_promoted": ("bytes_gpt2", {"eos_token": "fox"}),
}


def folders(folder):
    result = []
    for name, (kind, configuration) in CONFIGURATIONS.items():
        path = f"{folder}/{name}"
        os.makedirs(path)
        j = json.loads(small.KINDS[kind]().to_str())
        if name == "token_promoted":
            configuration = dict(configuration, eos_token=next(x for x in j["model"]["vocab"] if x.isalpha() and len(x) > 2))
        with open(path + "/tokenizer.json", "w", encoding="utf-8") as file:
            json.dump(j, file)
        configuration = dict(configuration, tokenizer_class="PreTrainedTokenizerFast")
        with open(path + "/tokenizer_config.json", "w", encoding="utf-8") as file:
            json.dump(configuration, file)
        t = AutoTokenizer.from_pretrained(path)
        result.append({"name": name, "kind": kind, "configuration": configuration, "ids": [t(x)["input_ids"] for x in TEXTS]})
    return result


def pairs(folder):
    """vocab.json with merges.txt, by the class that the configuration names."""
    result = []
    for name in ["GPT2Tokenizer", "Qwen2Tokenizer"]:
        path = f"{folder}/{name}"
        os.makedirs(path)
        t = small.bytes_gpt2()
        t.model.save(path)
        with open(path + "/tokenizer_config.json", "w") as file:
            json.dump({"tokenizer_class": name, "unk_token": None, "bos_token": None, "eos_token": None, "pad_token": None}, file)
        with open(path + "/config.json", "w") as file:
            json.dump({"model_type": "gpt2" if name.startswith("GPT2") else "qwen2"}, file)
        t = AutoTokenizer.from_pretrained(path)
        result.append({"name": name, "ids": [t(x)["input_ids"] for x in TEXTS]})
    return result


def broken():
    """Bytes that are no UTF-8, as tokens of single bytes: what the reference makes of them, and Python."""
    import random
    r = random.Random(7)
    sequences = [list(x) for x in [
        b"\xff", b"\xc3", b"\xc3\x28", b"\xe2\x82", b"\xe2\x28\xa1", b"\xf0\x9f\x99", b"\xf0\x9f\x99\x82\xf0\x9f", b"\xc0\x80",
        b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"a\x80b", b"\xe0\x80\x80", b"\xef\xbf\xbd", b"\xf0\x80\x80\x80"]]
    leads = [0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF]
    sequences += [[r.choice(leads) for _ in range(r.randint(1, 9))] for _ in range(60)]
    t, u = small.bytes_gpt2(), small.characters_llama2()
    characters = byte_characters()
    return [{
        "bytes": x, "python": bytes(x).decode(errors="replace"),
        "level": t.decode([t.token_to_id(characters[b]) for b in x], skip_special_tokens=False),
        "fallback": u.decode([u.token_to_id(f"<0x{b:02X}>") for b in x], skip_special_tokens=False)} for x in sequences]


def main():
    os.makedirs(HERE, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        small.write("formats.json", {
            "texts": TEXTS, "sentencepiece": sentence_pieces(folder), "ranks": ranks(), "folders": folders(folder),
            "pairs": pairs(folder), "broken": broken()})


if __name__ == "__main__":
    main()
