"""Perplexity as transformers, and as llama.cpp, compute it over the windows of `swiftlet eval --perplexity`.

perplexity.py MODEL_FOLDER TEXT [--window 512] [--tokens 20000] [--dtype float32|bfloat16] [--gguf FILE]

The text's first tokens, without special ones, are cut into windows side by side; each is read on its own, and every
token but a window's first is predicted. MODEL_FOLDER holds the GGUF's weights, dequantized to fp32
(transformers' `from_pretrained(..., gguf_file=...)` and `save_pretrained` make it). With --gguf, llama.cpp reads
the same windows from FILE: the functions of the library inside the package xllamacpp, called through ctypes, the
memory cleared before each window, the logits of all its positions asked for and their log-softmax taken in float64.
llama.cpp quantizes activations to 8 bits where weights are quantized, hence its distance.

Ran with transformers 5.23.0, torch 2.13.0, xllamacpp 2026.10.11549.
"""
import argparse
import ctypes
import json

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


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


class Parameters(ctypes.Structure):
    """Parameters that are only handed through: larger than any version's, whose own size is what both sides touch."""
    _fields_ = [("bytes", ctypes.c_char * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32), ("tokens", ctypes.c_void_p), ("embeddings", ctypes.c_void_p),
                ("positions", ctypes.c_void_p), ("sequence_counts", ctypes.c_void_p),
                ("sequences", ctypes.c_void_p), ("logits", ctypes.c_void_p)]


def by_llama_cpp(windows, arguments):
    import xllamacpp

    # With the window at hand, the defaults of a context (512 tokens) are what is wanted.
    assert max(map(len, windows)) <= 512
    lib = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    pointer = ctypes.c_void_p
    for name, result, types in [
        ("llama_model_default_params", Parameters, []), ("llama_context_default_params", Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Parameters]),
        ("llama_init_from_model", pointer, [pointer, Parameters]), ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]), ("llama_decode", ctypes.c_int32, [pointer, Batch]),
        ("llama_batch_get_one", Batch, [pointer, ctypes.c_int32]), ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, ctypes.c_int32]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, types
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(arguments.gguf.encode(), lib.llama_model_default_params())
    context = lib.llama_init_from_model(model, lib.llama_context_default_params())
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    losses = []
    for window in windows:
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        tokens = (ctypes.c_int32 * len(window))(*window)
        wanted = (ctypes.c_int8 * len(window))(*[1] * len(window))
        batch = lib.llama_batch_get_one(ctypes.cast(tokens, pointer), len(window))
        batch.logits = ctypes.cast(wanted, pointer)
        assert lib.llama_decode(context, batch) == 0
        for position, target in enumerate(window[1:]):
            row = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, position), (vocabulary,)).astype(np.float64)
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
