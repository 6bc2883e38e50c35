"""Logits of tiny random models, as transformers computes them: makes Tests/Golden/tiny_models.json.

The weights follow the rule of Tests/TestSupport/TinyModel.swift, so that only the logits need to be kept.
Ran with transformers 5.23.0, torch 2.13.0, numpy 2.4.6.
"""
import json
import pathlib

import torch

from tiny import SMALL, build, tokens

QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": False}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "tie_word_embeddings": False}
# Heads of 8: four frequencies, which llama3 keeps, blends and divides.
WIDE = {"head_dim": 8}
PHI3 = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8}
SMOLLM3 = {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "bos_token_id": 1, "eos_token_id": 2,
           "pad_token_id": 3}
# Phi-4's ratios: 40 heads to 10 key heads, 3.5 times the width within the feed-forward block.
PHI4 = {"hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 112}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
# Three quarters of 8: three frequencies.
LONG3 = {"type": "longrope", "short_factor": [1.0, 1.1, 1.4], "long_factor": [1.3, 2.5, 5.0]}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.4], "long_factor": [1.3, 2.0, 3.5, 5.0]}

CASES = [
    ("llama", {}, 40),
    ("llama, separate head, one key head", {"tie_word_embeddings": False, "num_key_value_heads": 1}, 40),
    ("llama, no shared keys, wide heads", {"num_key_value_heads": 4, "head_dim": 10}, 40),
    ("linear", WIDE | {"rope_scaling": {"type": "linear", "factor": 4.0}}, 80),
    ("dynamic within the context", WIDE | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 60),
    ("dynamic beyond the context", WIDE | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 150),
    ("llama3", WIDE | {"rope_theta": 500.0, "max_position_embeddings": 512, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}, 150),
    ("longrope, short", WIDE | {"max_position_embeddings": 256, "original_max_position_embeddings": 64,
                                "rope_scaling": LONG}, 50),
    ("longrope, long", WIDE | {"max_position_embeddings": 256, "original_max_position_embeddings": 64,
                               "rope_scaling": LONG}, 150),
    ("longrope, named attention factor", WIDE | {"max_position_embeddings": 256, "rope_scaling": LONG | {
        "original_max_position_embeddings": 64, "attention_factor": 1.3}}, 150),
    ("rope_parameters", WIDE | {"rope_theta": None, "rope_parameters": {
        "rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}}, 50),
    ("qwen2", QWEN2, 40),
    ("qwen2, wide heads, sliding window", QWEN2 | {
        "head_dim": 6, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0}, 40),
    ("mistral, sliding window", MISTRAL | {"sliding_window": 9}, 60),
    ("mistral", MISTRAL | {"sliding_window": None, "head_dim": 12}, 40),
    ("llama, biases everywhere", {"attention_bias": True, "mlp_bias": True}, 40),
    ("llama ignores partial_rotary_factor", {"partial_rotary_factor": 0.5}, 40),
    ("phi3", PHI3, 40),
    ("phi3, Phi-4's ratios", PHI3 | PHI4, 60),
    ("phi3, part of each head", PHI3 | {"hidden_size": 32, "partial_rotary_factor": 0.75}, 40),
    ("phi3, sliding window", PHI3 | {"sliding_window": 9}, 60),
    ("phi3, longrope, short", PHI3 | {"hidden_size": 32, "partial_rotary_factor": 0.75, "max_position_embeddings": 256,
                                      "original_max_position_embeddings": 64, "rope_scaling": LONG3}, 50),
    ("phi3, longrope, long", PHI3 | {"hidden_size": 32, "partial_rotary_factor": 0.75, "max_position_embeddings": 256,
                                     "original_max_position_embeddings": 64, "rope_scaling": LONG3}, 150),
    ("phi3, longrope called su", PHI3 | {"max_position_embeddings": 256, "original_max_position_embeddings": 64,
                                         "rope_scaling": {"type": "su", "short_factor": [1.0, 1.5],
                                                          "long_factor": [2.0, 4.0],
                                                          "original_max_position_embeddings": 64}}, 100),
    ("qwen2, sliding window from the second layer", QWEN2 | {
        "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}, 40),
    ("qwen2, layer types", QWEN2 | {"use_sliding_window": True, "sliding_window": 7, "layer_types": [
        "sliding_attention", "full_attention", "sliding_attention"]}, 40),
    ("qwen3", QWEN3, 40),
    ("qwen3, biases, wide heads", QWEN3 | {"attention_bias": True, "head_dim": 20}, 40),
    ("qwen3, yarn", QWEN3 | {"max_position_embeddings": 256, "rope_theta": 500.0, "rope_scaling": YARN}, 150),
    ("yarn, every setting", WIDE | {"max_position_embeddings": 256, "rope_theta": 500.0, "rope_scaling": YARN | {
        "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.8, "mscale_all_dim": 0.6, "truncate": False}}, 100),
    ("smollm3", SMOLLM3 | {"num_hidden_layers": 4}, 40),
    ("smollm3, every second layer, biases", SMOLLM3 | {"no_rope_layer_interval": 2, "attention_bias": True,
                                                       "mlp_bias": True}, 40),
    ("smollm3, listed layers, sliding window", SMOLLM3 | {
        "no_rope_layers": [0, 1, 0], "use_sliding_window": True, "sliding_window": 9}, 60),
]


def main():
    cases = []
    for seed, (name, changes, length) in enumerate(CASES, 1):
        config = {key: value for key, value in (SMALL | changes).items() if value is not None}
        model = build(config, seed).eval()
        ids = tokens(seed, length, config["vocab_size"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        # The first, some and the last positions say it all.
        positions = sorted({0, 1, length // 3, length // 2, length - 2, length - 1})
        cases.append({
            "name": name, "seed": seed, "config": config, "tokens": ids, "positions": positions,
            "logits": [[round(float(x), 6) for x in logits[p]] for p in positions],
        })
        print(name, float(logits.abs().max()))
    lines = ",\n".join(json.dumps(case) for case in cases)
    (pathlib.Path(__file__).parent / "tiny_models.json").write_text(f"[\n{lines}\n]\n")


main()
