"""Times tiktoken and Hugging Face's tokenizers on one text with one tokenizer: one JSON object per line.

  tokenizer_peers.py corpus BYTES FILE...             prints a text of so many bytes made of the files (see below)
  tokenizer_peers.py tiktoken FOLDER TEXT PATTERN     tiktoken, with the ranks of FOLDER/tokenizer.json
  tokenizer_peers.py tokenizers FOLDER TEXT           Hugging Face tokenizers, FOLDER/tokenizer.json
  tokenizer_peers.py table FILE                       a result file as a table

PATTERN is cl100k or gpt2, as tiktoken itself ships them: possessive, its fastest form. Each tool keeps what it keeps
between repetitions (tokenizers: a cache of words). A peer encodes the text whole and in pieces of 4,096 characters; its best
repetition counts.

A corpus is the files one after the other, texts as they are and of .json and .jsonl every string value on a line of its
own; when they are too short they begin again, and what was repeated is told on standard error.

Needs tiktoken and tokenizers.
"""

import json
import os
import sys
import time
import zlib

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
PATTERNS = {
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
              r"|\s+(?!\S)|\s",
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
}


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)


def text_of(path):
    with open(path, encoding="utf-8") as file:
        if path.endswith(".jsonl"):
            return "".join(s + "\n" for line in file if line.strip() for s in strings(json.loads(line)))
        if path.endswith(".json"):
            return "".join(s + "\n" for s in strings(json.load(file)))
        return file.read()


def corpus(size, paths):
    text = "".join(map(text_of, paths)).encode()
    repeated = max(0, size - len(text))
    print(f"{len(text)} bytes of text, {repeated} of them again to reach {size}", file=sys.stderr)
    while len(text) < size:
        text += text
    # No trailing white space: there the newest patterns of tiktoken differ from those of tokenizer.json.
    sys.stdout.write(text[:size].decode("utf-8", "ignore").rstrip())


def report(name, text, seconds, ids, **values):
    import numpy

    ids = numpy.asarray(ids, dtype="<i4")
    best = min(seconds)
    print(json.dumps({
        "name": name, "tokens_per_second": len(ids) / best, "bytes_per_second": len(text.encode()) / best,
        "step_seconds": best, "bytes": len(text.encode()), "tokens": len(ids),
        "ids_crc32": f"{zlib.crc32(ids.tobytes()):08x}", "threads": 1, **values}), flush=True)


def timed(work, repetitions):
    seconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return seconds, result


def pieces(text, size=4096):
    """Pieces of about so many characters that end with a line."""
    result, start = [], 0
    while start < len(text):
        end = text.find("\n", start + size) + 1 or len(text)
        result.append(text[start:end])
        start = end
    return result


def byte_alphabet():
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(0x100 + i): b for i, b in enumerate(others)}


def tiktoken_peer(folder, path, pattern):
    import tiktoken

    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
        description = json.load(file)
    special = {token["content"] for token in description["added_tokens"]}
    alphabet = byte_alphabet()
    ranks = {
        bytes(alphabet[c] for c in token): id
        for token, id in description["model"]["vocab"].items() if token not in special}
    encoding = tiktoken.Encoding("peer", pat_str=PATTERNS[pattern], mergeable_ranks=ranks, special_tokens={})
    with open(path, encoding="utf-8") as file:
        text = file.read()
    # The fastest of its ways counts: a list, an array without Python's integers, or piece by piece.
    parts = pieces(text)
    lists, ids = timed(lambda: encoding.encode_ordinary(text), 2)
    arrays, _ = timed(lambda: encoding.encode_to_numpy(text, disallowed_special=()), 2)
    parted, _ = timed(lambda: [encoding.encode_ordinary(part) for part in parts], 2)
    report("tiktoken", text, lists + arrays + parted, ids, tiktoken=tiktoken.__version__)


def tokenizers_peer(folder, path):
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    with open(path, encoding="utf-8") as file:
        text = file.read()
    # Whole for the ids, and in pieces, which suit it better.
    parts = pieces(text)
    whole, encoding = timed(lambda: tokenizer.encode(text, add_special_tokens=False), 1)
    parted, _ = timed(lambda: [tokenizer.encode(part, add_special_tokens=False) for part in parts], 2)
    report("tokenizers", text, whole + parted, encoding.ids, tokenizers=tokenizers.__version__)


def table(path):
    rows = [json.loads(line) for line in open(path)]
    for model in dict.fromkeys(row["model"] for row in rows if "model" in row):
        mine = [row for row in rows if row.get("model") == model]
        same = len({row["ids_crc32"] for row in mine}) == 1
        ours = [row["bytes_per_second"] for row in mine if row["name"] == "tokenize"]
        print(f"{model}: ids {'equal' if same else 'DIFFER'}")
        for row in mine:
            ratio = sum(ours) / len(ours) / row["bytes_per_second"]
            print(f"  {row['name']:<10} {row['bytes_per_second'] / 1e6:7.1f} MB/s   {ratio:5.1f}")


def main():
    what, *arguments = sys.argv[1:]
    if what == "corpus":
        corpus(int(arguments[0]), arguments[1:])
    elif what == "tiktoken":
        tiktoken_peer(*arguments)
    elif what == "tokenizers":
        tokenizers_peer(*arguments)
    else:
        table(*arguments)


if __name__ == "__main__":
    main()
