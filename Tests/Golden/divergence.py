"""KL divergence of two GGUF files as llama.cpp's perplexity tool reports it, over the windows of `swiftlet eval --kl`.

divergence.py requantize FROM.gguf TO.gguf [Q4_0]           writes another quantization of a file's matrices
divergence.py compare MODEL.gguf REFERENCE.gguf IDS.json    [--window 128] [--tokens 1024]

IDS.json is what `swiftlet tokenize --json --no-special-tokens` prints. llama.cpp reads each window through
Tests/Comparison/llama_cpp.py; the statistics are those of its tools/perplexity: mean, median,
percentiles by linear interpolation, the share of positions with the same top token, exp(mean log-likelihood ratio).

Ran with xllamacpp 2026.10.11549, gguf 0.19.0.
"""
import argparse
import json
import pathlib
import sys

import numpy as np

sys.path.append(str(pathlib.Path(__file__).parents[1] / "Comparison"))


def requantize(source, target, kind):
    import gguf
    from gguf import quants

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        if len(tensor.shape) == 2 and "token_embd" not in tensor.name:
            values = quants.dequantize(tensor.data, tensor.tensor_type)
            data = quants.quantize(values, gguf.GGMLQuantizationType[kind])
            writer.add_tensor(tensor.name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def reader_of(path):
    """A function that gives the log-probabilities of all positions of a window but the last."""
    from llama_cpp import Model

    model = Model(path, context=512)

    def read(window):
        model.forget()
        rows = model.run(window)[:-1].astype(np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))

    return read


def percentile(values, fraction):
    place = fraction * (len(values) - 1)
    below = int(place)
    part = place - below
    return (1 - part) * values[below] + part * values[min(below + 1, len(values) - 1)]


def compare(model, reference, ids, window, tokens):
    ids = json.load(open(ids))["ids"][:tokens]
    ours, theirs = reader_of(model), reader_of(reference)
    divergences, same, ratios = [], 0, []
    for start in range(0, len(ids) - window + 1, window):
        part = ids[start:start + window]
        q, p = ours(part), theirs(part)
        divergences += (np.exp(p) * (p - q)).sum(axis=1).tolist()
        same += int((q.argmax(axis=1) == p.argmax(axis=1)).sum())
        targets = np.array(part[1:])
        rows = np.arange(len(targets))
        ratios += (p[rows, targets] - q[rows, targets]).tolist()
    values = sorted(divergences)
    half = len(values) // 2
    median = (values[half - 1] + values[half]) / 2 if len(values) % 2 == 0 else values[half]
    print(json.dumps({
        "mean_kl": float(np.mean(values)), "median_kl": median, "p99_kl": percentile(values, 0.99),
        "p999_kl": percentile(values, 0.999), "max_kl": values[-1], "top1_agreement": same / len(values),
        "perplexity_ratio": float(np.exp(np.mean(ratios))), "tokens": len(values)}))


parser = argparse.ArgumentParser()
parser.add_argument("action", choices=["requantize", "compare"])
parser.add_argument("model")
parser.add_argument("other")
parser.add_argument("extra", nargs="?")
parser.add_argument("--window", type=int, default=128)
parser.add_argument("--tokens", type=int, default=1024)
arguments = parser.parse_args()
if arguments.action == "requantize":
    requantize(arguments.model, arguments.other, arguments.extra or "Q4_0")
else:
    compare(arguments.model, arguments.other, arguments.extra, arguments.window, arguments.tokens)
