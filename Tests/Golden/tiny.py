"""The tiny random models of the tests, as scripts that make golden values build them.

The weights follow the rule of Tests/TestSupport/TinyModel.swift, so that only results need to be kept.
"""
import json

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 24, "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5, "rope_theta": 10000, "max_position_embeddings": 64, "tie_word_embeddings": True,
}


def splitmix(seed, count):
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name, count, seed):
    """Values in -1..<1 that only the name and the seed decide."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return (splitmix(state ^ seed, count) >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def weights(name, shape, seed):
    u = uniform(name, int(np.prod(shape)), seed)
    if name.endswith("norm.weight"):
        u = 1 + u / 4
    elif name.endswith("bias"):
        u = u / 2
    elif not name.endswith("embed_tokens.weight"):
        u = u * np.sqrt(3 / shape[1])
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


def tokens(seed, length, vocabulary=SMALL["vocab_size"]):
    return [int(x % np.uint64(vocabulary)) for x in splitmix(1000 + seed, length)]


def build(config, seed):
    """transformers' model of a configuration, whose dictionaries it rewrites, with the rule's weights."""
    parsed = AutoConfig.for_model(**json.loads(json.dumps(config)))
    parsed._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(parsed, dtype=torch.float32)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(weights(key, tuple(parameter.shape), seed))
    return model
