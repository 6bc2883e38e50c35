"""What `export --dynamic` saves, with llama.cpp as the second judge.

usage: gguf_dynamic.py SWIFTLET MODEL EVALUATION.txt MEASUREMENTS RESULTS.jsonl [TYPE...]

MODEL is a folder in 16 bits, MEASUREMENTS what `quantize --measurements` wrote of it. Each type is exported plain and with the
types chosen in 0, 5, 10 and 20 per cent more bytes: bytes, KL from MODEL by `swiftlet eval --kl` over 8,192 tokens in windows of
512, perplexity by `swiftlet eval` and by llama.cpp over the same windows. Rows that RESULTS holds are not measured again.
Ran with xllamacpp 2026.10.11549.
"""
import datetime
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp

swiftlet, source, text, measurements = sys.argv[1:5]
kinds = sys.argv[6:] or ["q4_0", "q4_k_m", "q5_k_m"]
results = open(sys.argv[5], "a+")
results.seek(0)
known = {(row["type"], row["budget"]): row for row in map(json.loads, results)}
WINDOW, TOKENS = 512, 8192


def run(*arguments):
    result = subprocess.run([swiftlet, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, (arguments, result.stderr)
    return result.stdout, result.stderr


with tempfile.TemporaryDirectory() as folder:
    # The plain files come first: the others are compared with them.
    for budget in [None, 0, 10, 5, 20]:
        for kind in kinds:
            if (kind, budget) in known:
                continue
            path = pathlib.Path(folder) / f"{kind}-{budget}.gguf"
            more = [] if budget is None else ["--dynamic", "--budget", budget, "--measurements", measurements]
            _, log = run("export", source, "--format", "gguf", "--type", kind, "--output", path, *more)
            found = json.loads(run("eval", path, "--kl", text, "--reference", source, "--max-tokens", TOKENS, "--json")[0])
            ids = json.loads(run("tokenize", path, "--file", text, "--no-special-tokens", "--json")[0])["ids"][:TOKENS]
            model = llama_cpp.Model(path)
            nll, count = model.nll(ids, WINDOW)
            model.close()
            assert count == found["tokens"], (count, found)
            size = path.stat().st_size
            plain = known.get((kind, None), {"bytes": size, "mean_kl": found["mean_kl"]})
            formats = next(line for line in log.splitlines() if "tensors: " in line).split("tensors: ")[1]
            predicted = [line for line in log.splitlines() if "is predicted to have" in line]
            row = {"date": datetime.date.today().isoformat(), "type": kind, "budget": budget, "bytes": size,
                   "more_bytes_percent": round(100 * (size / plain["bytes"] - 1), 3), "mean_kl": found["mean_kl"],
                   "less_kl_percent": round(100 * (1 - found["mean_kl"] / plain["mean_kl"]), 1), "p999_kl": found["p999_kl"],
                   "top1_agreement": found["top1_agreement"], "perplexity": found["perplexity"],
                   "perplexity_llama_cpp": math.exp(nll), "formats": formats, "said": predicted}
            known[kind, budget] = row
            print(json.dumps(row), flush=True)
            results.write(json.dumps(row) + "\n")
            results.flush()
            path.unlink()
