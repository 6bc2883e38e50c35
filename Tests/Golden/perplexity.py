"""Perplexity as transformers, and as llama.cpp, compute it over the windows of `swiftlet eval --perplexity`.

perplexity.py MODEL_FOLDER TEXT [--window 512] [--tokens 20000] [--dtype float32|bfloat16] [--gguf FILE]

The text's first tokens, without special ones, are cut into windows side by side; each is read on its own, and every
token but a window's first is predicted. MODEL_FOLDER holds the GGUF's weights, dequantized to fp32
(transformers' `from_pretrained(..., gguf_file=...)` and `save_pretrained` make it). With --gguf, llama.cpp reads
the same windows from FILE through Tests/Comparison/llama_cpp.py, its memory cleared before each, and the log-softmax of
all positions is taken in float64. llama.cpp quantizes activations to 8 bits where weights are quantized, hence its distance.

Ran with transformers 5.23.0, torch 2.13.0, xllamacpp 2026.10.11549.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

sys.path.append(str(pathlib.Path(__file__).parents[1] / "Comparison"))


def windows_of(arguments):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{arguments.model}/tokenizer.json")
    text = open(arguments.text, encoding="utf-8", newline="").read()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][: arguments.tokens]
    size = min(arguments.window, len(ids))
    return [ids[i : i + size] for i in range(0, len(ids) - size + 1, size)]


def report(name, losses):
    nll = float(np.mean(losses))
    print(json.dumps({"by": name, "perplexity": float(np.exp(nll)), "nll": nll, "tokens": len(losses)}), flush=True)


def by_transformers(windows, arguments):
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)).eval()
    losses = []
    with torch.inference_mode():
        for window in windows:
            ids = torch.tensor([window])
            logits = model(input_ids=ids).logits[0, :-1].float()
            losses += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").double().tolist()
    return losses


def by_llama_cpp(windows, arguments):
    from llama_cpp import Model

    model = Model(arguments.gguf, context=max(map(len, windows)))
    losses = []
    for window in windows:
        model.forget()
        for row, target in zip(model.run(window).astype(np.float64), window[1:]):
            top = row.max()
            losses.append(float(top + np.log(np.exp(row - top).sum()) - row[target]))
    return losses


parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("text")
parser.add_argument("--window", type=int, default=512)
parser.add_argument("--tokens", type=int, default=20000)
parser.add_argument("--dtype", default="float32")
parser.add_argument("--gguf")
arguments = parser.parse_args()
windows = windows_of(arguments)
if arguments.gguf:
    report("llama.cpp", by_llama_cpp(windows, arguments))
else:
    report(f"transformers, {arguments.dtype}", by_transformers(windows, arguments))
