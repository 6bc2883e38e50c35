"""Checks that the GGUF files of GGUFFamilyTests mean what llama.cpp takes them for: the logits of a random model of each
family, by transformers and by llama.cpp from a GGUF with the names, keys and row orders that the test writes.

Ran with transformers 5.23.0, torch 2.13.0, gguf 0.19.0, xllamacpp 2026.10.11549.
"""
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.append(str(pathlib.Path(__file__).parents[1] / "Comparison"))
import llama_cpp

SIZES = dict(vocab_size=32, hidden_size=64, intermediate_size=96, num_hidden_layers=5, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256, rope_theta=10000.0, rms_norm_eps=1e-5, bos_token_id=1,
             eos_token_id=2, pad_token_id=3, tie_word_embeddings=False)
# Family, changes, whether the rows of queries and keys are stored as pairs of neighbours.
CASES = [
    ("llama", {}, True), ("phi3", {}, False), ("phi3", {"partial_rotary_factor": 0.75}, False),
    ("phi3", {"max_position_embeddings": 512, "original_max_position_embeddings": 256, "rope_scaling": {
        "type": "longrope", "short_factor": [1.0 + i / 8 for i in range(8)], "long_factor": [2.0] * 8}}, False),
    ("qwen2", {}, False), ("qwen2", {"rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}, False),
    ("qwen3", {"head_dim": 32}, False), ("smollm3", {}, True),
]
NAMES = [
    ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"), ("model.layers", "blk"),
    ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"), ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"), ("self_attn.qkv_proj", "attn_qkv"), ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"), ("mlp.gate_up_proj", "ffn_up"), ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
]


def write(path, name, config, model, pairs):
    writer = gguf.GGUFWriter(path, name)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head * (rope.get("partial_rotary_factor") or 1)))
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if name == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_sliding_window(0)
        if rope["rope_type"] == "longrope":
            scale = config.max_position_embeddings / config.original_max_position_embeddings
            writer.add_rope_scaling_attn_factors(
                float(np.sqrt(1 + np.log(scale) / np.log(config.original_max_position_embeddings))))
            for kind in ["long", "short"]:
                writer.add_tensor(f"rope_factors_{kind}.weight", np.array(rope[f"{kind}_factor"], dtype=np.float32))
    for key, value in model.state_dict().items():
        for theirs, ours in NAMES:
            key = key.replace(theirs, ours)
        value = value.numpy()
        for part, heads in [("attn_q.", config.num_attention_heads), ("attn_k.", config.num_key_value_heads)]:
            if pairs and part in key:
                value = value.reshape(heads, 2, head // 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    torch.manual_seed(5)
    for name, changes, pairs in CASES:
        config = AutoConfig.for_model(name, **SIZES | changes)
        config._attn_implementation = "eager"
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.copy_(1 + torch.rand_like(parameter) / 2 if "norm" in key else
                                torch.randn_like(parameter) * (1 if "embed" in key else 0.2))
        tokens = torch.randint(0, 32, (40,)).tolist()
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([tokens])).logits[0].numpy()
        with tempfile.TemporaryDirectory() as folder:
            write(f"{folder}/model.gguf", name, config, model, pairs)
            # Which factors llama.cpp takes follows the context, not the tokens.
            found = llama_cpp.Model(f"{folder}/model.gguf", context=256).run(tokens)
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        # llama.cpp keeps keys and values in f16.
        print(name, ", ".join(changes), f"relative distance {error:.1e}")
        assert error < 1e-2


main()
