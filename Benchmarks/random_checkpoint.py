"""Writes a checkpoint of random bf16 weights in a published model's shape, for measuring how fast weights load.

  random_checkpoint.py phi-4 TOKENIZER_FOLDER OUTPUT [LAYERS]

Needs torch and safetensors; a GPU draws the numbers faster. The tokenizer's files are linked into the folder.
"""

import json
import os
import sys

import torch
from safetensors.torch import save_file

SHAPES = {
    "phi-4": dict(hidden_size=5120, intermediate_size=17920, num_hidden_layers=40, num_attention_heads=40,
                  num_key_value_heads=10, vocab_size=100352, max_position_embeddings=16384, rope_theta=250000.0),
}
SHARD_BYTES = 5_000_000_000


def tensors(shape):
    hidden, inner, vocabulary = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
    head = hidden // shape["num_attention_heads"]
    keys = shape["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for layer in range(shape["num_hidden_layers"]):
        path = f"model.layers.{layer}."
        yield path + "input_layernorm.weight", (hidden,)
        yield path + "self_attn.q_proj.weight", (hidden, hidden)
        yield path + "self_attn.k_proj.weight", (keys, hidden)
        yield path + "self_attn.v_proj.weight", (keys, hidden)
        yield path + "self_attn.o_proj.weight", (hidden, hidden)
        yield path + "post_attention_layernorm.weight", (hidden,)
        yield path + "mlp.gate_proj.weight", (inner, hidden)
        yield path + "mlp.up_proj.weight", (inner, hidden)
        yield path + "mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocabulary, hidden)


def main():
    name, tokenizer, output = sys.argv[1:4]
    shape = dict(SHAPES[name])
    if len(sys.argv) > 4:
        shape["num_hidden_layers"] = int(sys.argv[4])
    os.makedirs(output, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(3407)
    shards, shard, size = [], {}, 0

    def flush():
        nonlocal shard, size
        file = f"model-{len(shards) + 1:05d}.safetensors"
        save_file(shard, os.path.join(output, file), metadata={"format": "pt"})
        shards.append((file, list(shard)))
        shard, size = {}, 0

    total = 0
    for key, dimensions in tensors(shape):
        if len(dimensions) == 1:
            tensor = torch.ones(dimensions, dtype=torch.bfloat16)
        else:
            tensor = torch.empty(dimensions, dtype=torch.bfloat16, device=device)
            tensor = tensor.normal_(0, dimensions[1] ** -0.5, generator=generator).cpu()
        bytes_ = tensor.numel() * 2
        if shard and size + bytes_ > SHARD_BYTES:
            flush()
        shard[key] = tensor
        size += bytes_
        total += bytes_
    flush()
    index = {"metadata": {"total_size": total}, "weight_map": {key: file for file, keys in shards for key in keys}}
    json.dump(index, open(os.path.join(output, "model.safetensors.index.json"), "w"))
    json.dump(dict(shape, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", rms_norm_eps=1e-5,
                   tie_word_embeddings=False, torch_dtype="bfloat16", bos_token_id=100257, eos_token_id=100265,
                   pad_token_id=100351),
              open(os.path.join(output, "config.json"), "w"))
    for file in os.listdir(tokenizer):
        if file.startswith("tokenizer"):
            os.symlink(os.path.abspath(os.path.join(tokenizer, file)), os.path.join(output, file))


main()
