"""Compares Swiftlet's tokens with the reference implementations' on many megabytes of text.

    python Tests/Comparison/tokenizers_compared.py --swiftlet .build/release/swiftlet --data FOLDER \
        [--megabytes 20] [--seed 1] [--only NAME]... [--text FILE]... [--every-character] [--json FILE]

FOLDER holds `tokenizers/` (llama2, phi-3-mini, smollm2, gpt2, llama3, mistral, cl100k) and `phi4/` as their publishers
lay them out. The references are Hugging Face's `tokenizers` for tokenizer.json and for vocab.json with merges.txt,
`sentencepiece` for .model files, `tiktoken` for lists of ranks. Kinds that no published file here has (NFC and Qwen's
pattern, NFKC and the other normalizers, Unigram, charsmaps) are made from what is there, or trained on the texts.

For every text the ids must be equal; on every seventh text also the decoded text and, against `tokenizers`, the offsets;
and so must be what random ids decode to, with and without special tokens, which is mostly no UTF-8. Swiftlet's offsets are bytes, and are widened to whole characters before they are compared. Where a normalizer puts something in
(a space before the text) or joins characters, and for the bytes of unknown characters, the two have different conventions
(docs/tokenizers.md); there it counts as equal when one range has the other inside.

Two defects of `tokenizers` are told apart and counted as explained: offsets after a byte that the vocabulary has no token for
(it is left out, and what follows it in the word is placed one too early), and special tokens that are `normalized`, which are
decoded although they are to be skipped.

--json appends a row for each tokenizer to a file, with bytes by kind of text and what differed.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile

import tiktoken
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import texts as sources

CL100K = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
LLAMA3 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
QWEN = LLAMA3.replace("{1,3}", "")
O200K = "|".join([
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""", r"""\s*[\r\n]+""", r"""\s+(?!\S)""", r"""\s+"""])
TEKKEN = (r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}"""
          r"""\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""")


class HuggingFace:
    """tokenizer.json, or one that is made here."""

    def __init__(self, tokenizer):
        # Trimmed offsets would leave out white space; Swiftlet's never do.
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        model = json.loads(tokenizer.to_str())["model"]
        added = tokenizer.get_added_tokens_decoder()
        self.never_skipped = {id for id, token in added.items() if token.special and token.normalized}
        # The characters that no token stands for: of byte-level models, bytes.
        self.left_out = set()
        if model["type"] == "BPE" and not model["unk_token"] and not model["byte_fallback"]:
            self.left_out = {byte for byte, letter in byte_alphabet().items() if letter not in model["vocab"]}
        self.tokens = [t.content for t in tokenizer.get_added_tokens_decoder().values()]

    def encode(self, texts):
        return [x.ids for x in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def offsets(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).offsets

    def explains_offsets(self, text):
        return any(byte in self.left_out for byte in text.encode())

    def explains_decoded(self, ids, skip):
        return skip and any(id in self.never_skipped for id in ids)

    def decode(self, ids, skip=False):
        return self.tokenizer.decode(ids, skip_special_tokens=skip)

    @property
    def vocabulary(self):
        return self.tokenizer.get_vocab_size()

    name = f"tokenizers {tokenizers.__version__}"


def byte_alphabet():
    """The letters of bytes in byte-level vocabularies."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in visible]
    return {b: chr(b) for b in visible} | {b: chr(0x100 + i) for i, b in enumerate(others)}


class SentencePiece:
    tokens = ["<s>", "</s>", "<unk>", "<0x41>", "▁"]

    def __init__(self, path):
        import sentencepiece
        self.model = sentencepiece.SentencePieceProcessor(model_file=path)

    def encode(self, texts):
        # The library takes what follows a NUL for no text.
        return self.model.encode(texts, num_threads=2)

    offsets = None

    def decode(self, ids, skip=False):
        # It leaves control pieces out, as is asked for with `skip` elsewhere; what stands for unknown has a text of its own.
        if self.model.unk_id() in ids or not skip and any(self.model.is_control(id) for id in ids):
            return None
        return self.model.decode(ids)

    @property
    def vocabulary(self):
        return self.model.get_piece_size()

    @property
    def name(self):
        import sentencepiece
        return f"sentencepiece {sentencepiece.__version__}"


class Tiktoken:
    tokens = ["<|endoftext|>", "<|begin_of_text|>"]

    def __init__(self, path, pattern):
        with open(path) as file:
            lines = [line.split() for line in file if line.strip()]
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        self.encoding = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    def encode(self, texts):
        return self.encoding.encode_ordinary_batch(texts, num_threads=2)

    offsets = None

    def decode(self, ids, skip=False):
        return None if skip else self.encoding.decode(ids)

    @property
    def vocabulary(self):
        return len(self.encoding._mergeable_ranks)

    name = f"tiktoken {tiktoken.__version__}"


def byte_level(gpt2, pattern, normalizer=None, behavior="isolated", invert=False, digits=None):
    t = Tokenizer(models.BPE.from_file(gpt2 + "/vocab.json", gpt2 + "/merges.txt"))
    if normalizer:
        t.normalizer = normalizer
    steps = [pre_tokenizers.Digits(individual_digits=digits)] if digits is not None else []
    if pattern:
        steps.append(pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=invert))
    t.pre_tokenizer = pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    return t


def written(t, folder):
    """A folder with this tokenizer.json, and the tokenizer read from it."""
    os.makedirs(folder, exist_ok=True)
    t.save(folder + "/tokenizer.json")
    return folder, HuggingFace(Tokenizer.from_file(folder + "/tokenizer.json"))


def charsmap(path):
    """The rules of normalization inside of a SentencePiece model, found by their field numbers."""
    def fields(data):
        place = 0
        while place < len(data):
            key, place = varint(data, place)
            if key & 7 == 0:
                value, place = varint(data, place)
            elif key & 7 == 2:
                length, place = varint(data, place)
                value, place = data[place:place + length], place + length
            else:
                width = 4 if key & 7 == 5 else 8
                value, place = data[place:place + width], place + width
            yield key >> 3, value

    def varint(data, place):
        value = shift = 0
        while True:
            byte = data[place]
            value |= (byte & 127) << shift
            shift += 7
            place += 1
            if byte < 128:
                return value, place

    model = dict(fields(open(path, "rb").read()))
    return dict(fields(model[3])).get(2, b"")


def trained(folder, files, **options):
    import sentencepiece
    path = f"{folder}/{options['model_type']}-{options['normalization_rule_name']}-{len(options)}.model"
    if not os.path.exists(path):
        sentencepiece.SentencePieceTrainer.train(
            input=",".join(files), model_prefix=path[:-6], vocab_size=6000, character_coverage=0.9995,
            input_sentence_size=20000, shuffle_input_sentence=False, num_threads=2, minloglevel=2,
            hard_vocab_limit=False, **options)
    return path


def unigram(path, byte_fallback):
    """The Unigram model of a SentencePiece file as a tokenizer.json would have it."""
    import sentencepiece
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    vocab = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    t = Tokenizer(models.Unigram(vocab, model.unk_id(), byte_fallback))
    t.normalizer = normalizers.Sequence([
        normalizers.Precompiled(charsmap(path)), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    return t


def pair(merge, vocabulary):
    cuts = [(merge[:i], merge[i + 1:]) for i, c in enumerate(merge) if c == " "]
    return next(list(cut) for cut in cuts if cut[0] in vocabulary and cut[1] in vocabulary and cut[0] + cut[1] in vocabulary)


def cases(data, work, files):
    """Name, share of the megabytes, what Swiftlet reads, the reference."""
    d = data + "/tokenizers"
    phi4 = data + "/phi4/original/tokenizer.json"

    def json_file(path):
        try:
            return HuggingFace(Tokenizer.from_file(path))
        except Exception:
            # A merge of tokens that have spaces themselves can only be read where merges are pairs.
            whole = json.load(open(path))
            vocabulary = whole["model"]["vocab"]
            whole["model"]["merges"] = [pair(merge, vocabulary) for merge in whole["model"]["merges"]]
            return HuggingFace(Tokenizer.from_str(json.dumps(whole)))

    def fixed():
        folder = work + "/phi4-fixed"
        os.makedirs(folder, exist_ok=True)
        for source, name in [(phi4, "tokenizer.json"), (data + "/phi4/fixed/tokenizer_config.json", "tokenizer_config.json")]:
            if not os.path.exists(f"{folder}/{name}"):
                os.symlink(os.path.abspath(source), f"{folder}/{name}")
        return folder, json_file(phi4)

    yield "phi4 original", 1, lambda: (data + "/phi4/original", json_file(phi4))
    yield "phi4 fixed", 1, fixed
    yield "llama2 tokenizer.json", 1, lambda: (d + "/llama2", json_file(d + "/llama2/tokenizer.json"))
    yield "llama2 tokenizer.model", 1, lambda: (
        d + "/llama2/tokenizer.model", SentencePiece(d + "/llama2/tokenizer.model"))
    yield "phi-3-mini tokenizer.json", 1, lambda: (d + "/phi-3-mini", json_file(d + "/phi-3-mini/tokenizer.json"))
    yield "smollm2 tokenizer.json", 1, lambda: (d + "/smollm2", json_file(d + "/smollm2/tokenizer.json"))
    yield "gpt2 vocab.json merges.txt", 1, lambda: (
        d + "/gpt2", HuggingFace(byte_level(d + "/gpt2", None)))
    yield "llama3 tokenizer.model", 1, lambda: (d + "/llama3", Tiktoken(d + "/llama3/tokenizer.model", LLAMA3))
    mistral = d + "/mistral/mistral_instruct_tokenizer_240323.model.v3"
    yield "mistral v3 tokenizer.model", 1, lambda: (d + "/mistral", SentencePiece(mistral))
    yield "cl100k_base.tiktoken", 1, lambda: (d + "/cl100k", Tiktoken(d + "/cl100k/cl100k_base.tiktoken", CL100K))
    # Kinds that are made here.
    gpt2 = d + "/gpt2"
    yield "made: NFC, Qwen's pattern", 0.5, lambda: written(byte_level(gpt2, QWEN, normalizers.NFC()), work + "/qwen")
    yield "made: GPT-4o's pattern", 0.5, lambda: written(byte_level(gpt2, O200K), work + "/o200k")
    yield "made: Tekken's pattern", 0.5, lambda: written(byte_level(gpt2, TEKKEN), work + "/tekken")
    for form in ["NFD", "NFKC", "NFKD"]:
        yield f"made: {form}", 0.25, lambda form=form: written(
            byte_level(gpt2, None, getattr(normalizers, form)()), work + "/" + form)
    yield "made: Lowercase, StripAccents", 0.25, lambda: written(
        byte_level(gpt2, None, normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])),
        work + "/lower")
    yield "made: Nmt, Strip, Replace", 0.25, lambda: written(
        byte_level(gpt2, None, normalizers.Sequence([
            normalizers.Nmt(), normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Prepend("_")])),
        work + "/nmt")
    yield "made: Digits, removed matches", 0.25, lambda: written(
        byte_level(gpt2, r"\s+", behavior="removed", digits=True), work + "/digits")
    yield "trained: BPE, byte fallback, identity", 0.25, lambda: sentence_piece(
        trained(work, files, model_type="bpe", normalization_rule_name="identity", byte_fallback=True))
    yield "trained: BPE, nmt_nfkc, user-defined", 0.25, lambda: sentence_piece(
        trained(work, files, model_type="bpe", normalization_rule_name="nmt_nfkc",
                user_defined_symbols=["<sep>", "ing", "▁the▁", "é"], split_digits=True))
    yield "trained: Unigram, nmt_nfkc", 0.25, lambda: sentence_piece(
        trained(work, files, model_type="unigram", normalization_rule_name="nmt_nfkc"))
    yield "trained: Unigram, nfkc_cf, suffix, bytes", 0.25, lambda: sentence_piece(
        trained(work, files, model_type="unigram", normalization_rule_name="nfkc_cf", byte_fallback=True,
                treat_whitespace_as_suffix=True, user_defined_symbols=["<sep>", "ing"]))
    yield "trained: Unigram, kept spaces", 0.25, lambda: sentence_piece(
        trained(work, files, model_type="unigram", normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=False,
                byte_fallback=True))
    yield "made: Unigram tokenizer.json", 0.25, lambda: written(
        unigram(trained(work, files, model_type="unigram", normalization_rule_name="nmt_nfkc"), False), work + "/unigram")
    yield "made: Unigram, bytes", 0.25, lambda: written(
        unigram(trained(work, files, model_type="unigram", normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=False,
                        byte_fallback=True), True), work + "/unigram-bytes")


def sentence_piece(path):
    return path, SentencePiece(path)


def whole_characters(text, offsets):
    """Ranges of bytes as ranges of characters."""
    starts, ends = {}, {}
    place = 0
    for index, character in enumerate(text):
        length = len(character.encode())
        for byte in range(place, place + length):
            starts[byte] = index
            ends[byte + 1] = index + 1
        place += length
    ends[0] = 0
    starts[place] = len(text)
    return [(starts[a], ends[b] if b > a else starts[a]) for a, b in offsets]


def agree(ours, theirs):
    return ours[0] <= theirs[0] and theirs[1] <= ours[1] or theirs[0] <= ours[0] and ours[1] <= theirs[1]


def context(text, ours, theirs):
    same = 0
    while same < min(len(ours), len(theirs)) and ours[same] == theirs[same]:
        same += 1
    return f"token {same}: {ours[same:same + 8]} for {theirs[same:same + 8]}"


def run(swiftlet, path, batch, options, file):
    with open(file, "w", encoding="utf-8", newline="\n") as out:
        for text in batch:
            out.write(json.dumps(text, ensure_ascii=False) + "\n")
    command = [swiftlet, "tokenize", path, "--file", file, "--batch"] + options
    result = subprocess.run(command, capture_output=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stderr.decode()}")
    return result.stdout.decode().split("\n")


class Comparison:
    """One tokenizer's: counts what was compared and what differed, and shows the first differences."""

    def __init__(self, name, path, reference, swiftlet, work, show, seed):
        self.name, self.path, self.reference = name, path, reference
        self.swiftlet, self.file, self.seed = swiftlet, work + "/batch.jsonl", seed
        self.options = [] if isinstance(reference, HuggingFace) else ["--no-parse-special"]
        self.left_to_show = show
        self.counts = dict(texts=0, bytes=0, tokens=0, checked=0, decodings=0, ids=0, decoded=0, offsets=0, random_decoded=0,
                           explained=0)
        self.kinds = {}

    def run(self, items, *options):
        return run(self.swiftlet, self.path, items, list(options), self.file)

    def differ(self, what, message):
        self.counts[what] += 1
        if self.left_to_show > 0:
            self.left_to_show -= 1
            print(f"{self.name}: {message}", file=sys.stderr, flush=True)

    def compare(self, generated):
        while batch := self.batch(generated):
            expected = self.reference.encode(batch)
            lines = self.run(batch, "--no-special-tokens", *self.options)
            for text, ids, line in zip(batch, expected, lines):
                self.counts["tokens"] += len(ids)
                ours = [int(x) for x in line.split()]
                if ours != ids:
                    self.differ("ids", f"{context(text, ours, ids)} in {text[:2000]!r}")
            # No divisor of the turns that the kinds of text take.
            self.sample(batch[::7], expected[::7])
            self.random(expected)

    def batch(self, generated):
        batch = []
        size = 0
        for kind, text in generated:
            if isinstance(self.reference, SentencePiece):
                text = text.replace("\0", "")
            batch.append(text)
            length = len(text.encode())
            size += length
            self.kinds[kind] = self.kinds.get(kind, 0) + length
            if size > 4_000_000:
                break
        self.counts["texts"] += len(batch)
        self.counts["bytes"] += size
        return batch

    def sample(self, texts, expected):
        """Decoded texts and offsets."""
        lines = self.run(texts, "--no-special-tokens", *self.options, "--offsets", "--decoded")
        for text, ids, line in zip(texts, expected, lines):
            ours = json.loads(line)
            self.counts["checked"] += 1
            decoded = self.reference.decode(ids)
            if decoded is not None and decoded != ours["text"]:
                self.differ("decoded", f"decoded {ours['text'][:300]!r} for {decoded[:300]!r}")
            if self.reference.offsets and ours["ids"] == ids:
                theirs = self.reference.offsets(text)
                widened = whole_characters(text, ours["offsets"])
                differing = [i for i, (a, b) in enumerate(zip(widened, theirs)) if not agree(a, b)]
                if differing and self.reference.explains_offsets(text):
                    self.counts["explained"] += 1
                elif differing:
                    first = differing[0]
                    self.differ("offsets", f"offsets of token {first}: {widened[first:first + 4]} for "
                                f"{theirs[first:first + 4]} in {text[max(0, theirs[first][0] - 10):][:40]!r}")

    def random(self, expected):
        """What ids decode to that no text gives."""
        made = sources.random_ids(self.seed + self.counts["texts"], self.reference.vocabulary, [ids for ids in expected if ids])
        sequences = [next(made) for _ in range(1000)]
        for skip in [False, True]:
            lines = self.run(sequences, "--decode", *(["--no-special-tokens"] if skip else []))
            for ids, line in zip(sequences, lines):
                decoded = self.reference.decode(ids, skip)
                if decoded is None:
                    continue
                self.counts["decodings"] += 1
                ours = json.loads(line)
                if decoded != ours and isinstance(self.reference, HuggingFace) and self.reference.explains_decoded(ids, skip):
                    self.counts["explained"] += 1
                elif decoded != ours:
                    self.differ("random_decoded", f"{ids} decoded to {ours!r} for {decoded!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swiftlet", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append")
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--work")
    parser.add_argument("--every-character", action="store_true", help="only texts that have each character of Unicode")
    parser.add_argument("--show", type=int, default=3)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    work = arguments.work or tempfile.mkdtemp()
    os.makedirs(work, exist_ok=True)
    sets = arguments.data + "/sets"
    files = arguments.text or sorted(os.path.join(sets, name) for name in os.listdir(sets))
    plain = [path for path in files if path.endswith(".txt")]
    print("| tokenizer | reference | MB | texts | ids | decoded | offsets | of | random ids decoded | of | explained |\n"
          + "| --- " * 11 + "|", flush=True)
    failed = False
    for name, share, make in cases(arguments.data, work, plain):
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        path, reference = make()
        if arguments.every_character:
            generated = sources.all_characters(arguments.seed)
        else:
            generated = sources.generate(arguments.seed, arguments.megabytes * share * 1e6, files, reference.tokens)
        comparison = Comparison(
            name, path, reference, arguments.swiftlet, work, arguments.show, arguments.seed)
        comparison.compare(iter(generated))
        counts = comparison.counts
        offsets = counts["offsets"] if reference.offsets else "–"
        print(f"| {name} | {reference.name} | {counts['bytes'] / 1e6:.1f} | {counts['texts']} | {counts['ids']} "
              f"| {counts['decoded']} | {offsets} | {counts['checked']} | {counts['random_decoded']} "
              f"| {counts['decodings']} | {counts['explained']} |", flush=True)
        if arguments.json:
            row = {"tokenizer": name, "reference": reference.name, "seed": arguments.seed, **counts,
                   "bytes_by_kind": comparison.kinds}
            if not reference.offsets:
                del row["offsets"]
            with open(arguments.json, "a") as out:
                out.write(json.dumps(row) + "\n")
        failed = failed or counts["ids"] > 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
