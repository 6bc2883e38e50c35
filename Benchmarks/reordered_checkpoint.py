#!/usr/bin/env python3
"""A checkpoint's twin whose channels stand in another order: the same model, on no grid of blocks.

usage: Benchmarks/reordered_checkpoint.py FOLDER OUTPUT [SEED]

FOLDER is a Llama-like model in 16 bits (separate projections), OUTPUT gets the twin. Which of its channels is called the
first is a model's free choice: the channels between layers, the neurons of an MLP, the groups of attention heads and the
dimensions of values are permuted wherever they are written and read, which changes no number and no logit but by the order
of sums. If the weights were decoded from a quantized file, a block now holds values of many of its blocks (in the output of
attention of two, since the dimensions of a head stay together), and a block format meets them much as it meets weights that
were never quantized.
"""
import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

source, target = map(pathlib.Path, sys.argv[1:3])
random = torch.Generator().manual_seed(int((sys.argv[3:] or [1])[0]))
config = json.loads((source / "config.json").read_text())
tensors = {}
for path in sorted(source.glob("*.safetensors")):
    tensors |= load_file(path)
heads, groups = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])
width = config.get("head_dim") or config["hidden_size"] // heads


def shuffled(count):
    return torch.randperm(count, generator=random)


def take(name, rows=None, columns=None):
    """Rows of a matrix, its bias and columns, in another order."""
    weight = tensors[f"{name}.weight"]
    weight = weight if rows is None else weight[rows]
    tensors[f"{name}.weight"] = weight if columns is None else weight[:, columns]
    if rows is not None and f"{name}.bias" in tensors:
        tensors[f"{name}.bias"] = tensors[f"{name}.bias"][rows]


def rows_of(order, inside):
    """Rows of heads of `width` in `order`, each head's own in the order that `inside(head)` gives."""
    return torch.cat([head * width + inside(head) for head in order.tolist()])


hidden = shuffled(config["hidden_size"])
take("model.embed_tokens", columns=hidden)
if "lm_head.weight" in tensors:
    take("lm_head", columns=hidden)
take("model.norm", rows=hidden)
for layer in range(config["num_hidden_layers"]):
    path = f"model.layers.{layer}"
    for norm in ["input_layernorm", "post_attention_layernorm"]:
        take(f"{path}.{norm}", rows=hidden)
    neurons = shuffled(config["intermediate_size"])
    take(f"{path}.mlp.gate_proj", neurons, hidden)
    take(f"{path}.mlp.up_proj", neurons, hidden)
    take(f"{path}.mlp.down_proj", hidden, neurons)
    group_order = shuffled(groups)
    head_order = (group_order[:, None] * (heads // groups) + torch.arange(heads // groups)).flatten()
    # The dimensions of queries and keys are turned in pairs by their position and keep their places.
    inside, values = torch.arange(width), [shuffled(width) for _ in range(groups)]
    take(f"{path}.self_attn.q_proj", rows_of(head_order, lambda _: inside), hidden)
    take(f"{path}.self_attn.k_proj", rows_of(group_order, lambda _: inside), hidden)
    take(f"{path}.self_attn.v_proj", rows_of(group_order, lambda group: values[group]), hidden)
    take(f"{path}.self_attn.o_proj", hidden, rows_of(head_order, lambda head: values[head // (heads // groups)]))
target.mkdir()
for path in source.iterdir():
    if path.suffix in {".json", ".jinja", ".model", ".txt"} and not path.name.endswith(".index.json"):
        shutil.copy(path, target / path.name)
save_file({name: value.contiguous() for name, value in tensors.items()}, target / "model.safetensors", {"format": "pt"})
