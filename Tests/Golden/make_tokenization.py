"""Makes the golden values of the tokenizer and template tests.

    python Tests/Golden/make_tokenization.py [--sample FOLDER]

Small tokenizers are trained here on the text below with Hugging Face's `tokenizers`, one per kind that models ship, and
encode the sample texts; templates are rendered with Jinja2 in the environment of transformers. FOLDER is the folder with
SmolLM2's tokenizer.json, whose ids the tokenizer inside of the sample GGUF must equal.

`make_tokenizer_formats.py` runs first: it makes the rules of normalization that one kind here has.

Made with tokenizers 0.23.3, transformers 5.23.0, Jinja2 3.1.6.
"""

import argparse
import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenization")

CORPUS = """
The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore; the shells she sells are surely hers.
It's what they'd said: we'll see, you've been told, I'm sure he isn't here. DON'T SHOUT! We've 123 apples and 4567 pears.
def add(left, right):
    return left + right  # the sum of two numbers
for index in range(10): print(index, add(index, 2 * index))
Der schnelle braune Fuchs springt über den faulen Hund. Ça va très bien, merci. ¿Cómo estás? Привет, как дела? Γειά σου.
今日は良い天気ですね。你好，世界。안녕하세요 세계. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया. สวัสดีชาวโลก
A tokenizer cuts a text into tokens; a template turns messages into a text; a model turns tokens into more tokens.
""".strip().split("\n") * 4

TEXTS = [
    "", " ", "  ", "\n", "\n\n", " \n ", "\t", "a", " a", "a ", "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "It's what they'd said: we'll see, you've been told, I'm sure. DON'T! WE'LL? O'S it'ſ", "tokens tokens  tokens   tokens",
    "1 12 123 1234 12345 3.14159 1,000,000 ½ ² ٣٤٥ Ⅷ 二〇二五", "def f(x):\n    return x ** 2  # sum\n\n\nprint(f(3))\r\n",
    "\r\n\r\n  \r\n", "trailing spaces   ", "   leading", "tab\tand\u00a0no-break\u2003em\u3000ideographic\u180emongolian",
    "Ünïcödé é e\u0301 ñ n\u0303 Å A\u030a \u1e9b\u0323", "Привет, мир! Γειά σου Κόσμε", "今日は良い天気ですね。你好，世界。",
    "안녕하세요 세계 \u1112\u1161\u11ab", "שלום עולם مرحبا بالعالم", "नमस्ते दुनिया สวัสดีชาวโลก",
    "🙂🙃 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 👍🏽 ☺️ ☺", "\u0001\u0002\u001f\u007f\u0080\u009f", "\ufeffBOM \ufffd \ue000 \U0010fffd \U000e0041",
    "zero\u200bwidth\u200djoiner\u200e", "a" * 300, " " * 300, "\n" * 120, "ab" * 200, "!" * 150, "é" * 120, "🙂" * 60,
    "<|end|>", "a<|end|>b", "a <|end|> b", " <|im_sep|> hello <|im_end|> ", "<|im_sep|><|im_end|>", "<|im_sep", "<|end|><|end|>|>",
    "wordmask maskword mask, mask.mask mask", "user_tag Xuser_tagX user_tag", "<s> x </s> <unk>", "▁under▁score ▁", "<0x41> <0xE2>",
    "https://example.org/a?b=c&d=%20#e", "{\"json\": [1, 2.5, null], \"k\": \"v\\n\"}", "A1b2C3 snake_case camelCase kebab-case",
    "…—–“”‘’«»„¡¿§¶†‡•", "x\u0300\u0301\u0302y \u0903 \u20e3 1\ufe0f\u20e3", "mixed 中文 and English 和 日本語 text", "\u2028\u2029\u0085",
]

SPECIALS = ["<unk>", "<s>", "</s>", "<|end|>"]
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train(tokenizer, size=480, alphabet=None):
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=alphabet or pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def bytes_gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    return train(t)


def bytes_prefix_space():
    t = bytes_gpt2()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.normalizer = normalizers.NFC()
    t.add_tokens([AddedToken("user_tag", normalized=True), AddedToken("mask", single_word=True, normalized=False)])
    return t


def bytes_digits():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    return train(t)


def bytes_cl100k():
    """Phi-4's way: inverted removal, and added tokens that take in the spaces beside them."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CL100K), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t = train(t)
    t.add_special_tokens([
        AddedToken("<|im_sep|>", lstrip=True, rstrip=True, normalized=False),
        AddedToken("<|im_end|>", lstrip=True, rstrip=True, normalized=False)])
    return t


def bytes_llama3():
    """Llama 3's way: words that are tokens stay whole, BOS in front."""
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CL100K), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t = train(t)
    j = json.loads(t.to_str())
    # Some tokens that no merge makes: only as whole words can they be met.
    j["model"]["merges"] = j["model"]["merges"][: len(j["model"]["merges"]) - 60]
    t = Tokenizer.from_str(json.dumps(j))
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])])
    return t


def kept(j, name):
    """The model of this name that is there already, as training breaks ties anew each time; else this one."""
    path = os.path.join(HERE, f"model_{name}.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            j["model"] = json.load(file)
    return Tokenizer.from_str(json.dumps(j))


def characters_llama2():
    """Llama 2's way: characters with bytes as a fallback, a mark for spaces."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    alphabet = list("▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:;!?'()")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIALS[:3] + [f"<0x{b:02X}>" for b in range(256)], show_progress=False,
        initial_alphabet=alphabet, limit_alphabet=90)
    t.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    t.train_from_iterator(CORPUS, trainer)
    j = json.loads(t.to_str())
    j["pre_tokenizer"] = None
    j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
    t = kept(j, "characters_llama2")
    t.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return t


def characters_metaspace():
    """Characters without a fallback: unknown ones become <unk>."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, show_progress=False, limit_alphabet=70)
    t.train_from_iterator(CORPUS, trainer)
    return kept(json.loads(t.to_str()), "characters_metaspace")


def splits(behavior, invert=False):
    t = bytes_gpt2()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[aeiou]+|\s"), behavior=behavior, invert=invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t


def bytes_words():
    t = bytes_gpt2()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return t


def normalized(*steps):
    t = bytes_gpt2()
    t.normalizer = normalizers.Sequence(list(steps))
    return t


def both_finders():
    """Added tokens that are searched before and after normalizing, without a normalizer and with one."""
    t = bytes_gpt2()
    t.add_tokens([AddedToken("fox jumps", normalized=True), AddedToken("jumps", normalized=False, rstrip=True),
                  AddedToken("world", normalized=True, lstrip=True, single_word=True)])
    return t


def lowered_tokens():
    t = normalized(normalizers.NFKC(), normalizers.Lowercase())
    t.add_tokens([AddedToken("Fox", normalized=True), AddedToken("\u03a9mega", normalized=True),
                  AddedToken("Dog", normalized=False)])
    return t


def unigram(byte_fallback=False):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False))
    j = json.loads(kept(json.loads(t.to_str()), "unigram").to_str())
    if byte_fallback:
        j["model"]["vocab"] += [[f"<0x{b:02X}>", 0.0] for b in range(256)]
        j["model"]["byte_fallback"] = True
        j["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    t = Tokenizer.from_str(json.dumps(j))
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return t


def metaspace(scheme, split):
    t = characters_metaspace()
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    t.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    return t


def word_ends():
    t = characters_metaspace()
    t.decoder = decoders.BPEDecoder(suffix="\u2581")
    t.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    return t


def charsmap_rules():
    with open(os.path.join(HERE, "rules.charsmap"), "rb") as file:
        rules = file.read()
    t = bytes_gpt2()
    t.normalizer = normalizers.Precompiled(rules)
    return t


KINDS = {
    "bytes_gpt2": bytes_gpt2, "bytes_prefix_space": bytes_prefix_space, "bytes_digits": bytes_digits,
    "bytes_cl100k": bytes_cl100k, "bytes_llama3": bytes_llama3, "characters_llama2": characters_llama2,
    "characters_metaspace": characters_metaspace, "bytes_words": bytes_words,
    "split_removed": lambda: splits("removed"), "split_isolated": lambda: splits("isolated"),
    "split_previous": lambda: splits("merged_with_previous"), "split_next": lambda: splits("merged_with_next"),
    "split_contiguous": lambda: splits("contiguous"), "split_inverted": lambda: splits("merged_with_previous", True),
    "nfd": lambda: normalized(normalizers.NFD()), "nfkc": lambda: normalized(normalizers.NFKC()),
    "nfkd": lambda: normalized(normalizers.NFKD()),
    "accents": lambda: normalized(normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()),
    "nmt": lambda: normalized(normalizers.Nmt(), normalizers.Strip(), normalizers.Prepend("_"),
                              normalizers.Replace(Regex(r"\s+"), " ")),
    "both_finders": both_finders, "lowered_tokens": lowered_tokens, "charsmap": charsmap_rules,
    "unigram": unigram, "unigram_bytes": lambda: unigram(True), "metaspace_always": lambda: metaspace("always", True),
    "metaspace_never": lambda: metaspace("never", True), "metaspace_whole": lambda: metaspace("first", False),
    "word_ends": word_ends,
}


def write(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample")
    arguments = parser.parse_args()
    os.makedirs(HERE, exist_ok=True)
    # Kinds that differ only in how they cut share their model: it is written once, under the first one's name.
    written = {}
    result = {"texts": TEXTS, "kinds": []}
    for name, make in KINDS.items():
        t = make()
        j = json.loads(t.to_str())
        key = json.dumps(j["model"], sort_keys=True)
        model = written.setdefault(key, name)
        if model == name:
            write(f"model_{name}.json", j["model"])
        del j["model"]
        result["kinds"].append({
            "name": name, "model": model, "rest": j,
            "ids": [t.encode(x, add_special_tokens=True).ids for x in TEXTS],
            "decoded": [t.decode(t.encode(x, add_special_tokens=False).ids, skip_special_tokens=False) for x in TEXTS],
            "skipped": [t.decode(t.encode(x).ids, skip_special_tokens=True) for x in TEXTS[36:]]})
    write("encodings.json", result)
    if arguments.sample:
        t = Tokenizer.from_file(os.path.join(arguments.sample, "tokenizer.json"))
        texts = TEXTS + ["<|im_start|>user\nHi<|im_end|>\n", "<repo_name>x<file_sep>y"]
        write("sample_encodings.json", {
            "texts": texts, "ids": [t.encode(x).ids for x in texts],
            "decoded": [t.decode(t.encode(x).ids, skip_special_tokens=False) for x in texts]})


if __name__ == "__main__":
    main()
