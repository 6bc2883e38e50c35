"""Compares converted models with the originals in transformers; usage: check_conversion.py SWIFTLET [MODEL.gguf].

Random models of every architecture and a GGUF go through `swiftlet convert`; transformers loads what comes out as the class
that it should be. Logits must be equal, tensors that went there and back the same bytes, token ids of the GGUF those of its own
tokenizer.
Ran with transformers 5.24.0, torch 2.13.0, safetensors 0.8.0.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import (AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Phi3Config, Phi3ForCausalLM,
                          Qwen2Config, Qwen3Config, SmolLM3Config)

swiftlet = sys.argv[1]
SIZES = dict(vocab_size=160, hidden_size=64, intermediate_size=224, num_hidden_layers=3, num_attention_heads=8,
             num_key_value_heads=2, max_position_embeddings=256, rope_theta=250000.0, bos_token_id=1, eos_token_id=2,
             pad_token_id=3)


# 40 heads to 10 key heads, 5120 to 17920.
PHI4 = SIZES | dict(hidden_size=80, num_attention_heads=40, num_key_value_heads=10, intermediate_size=280)
# With the class that each becomes in the Llama layout.
FAMILIES = {
    "Phi-3": (Phi3Config(**SIZES), "LlamaForCausalLM"),
    "Phi-4's ratios": (Phi3Config(**PHI4), "LlamaForCausalLM"),
    "Llama": (LlamaConfig(**SIZES), "LlamaForCausalLM"),
    "Llama, biases, tied": (LlamaConfig(**SIZES | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
                            "LlamaForCausalLM"),
    "Mistral": (MistralConfig(**SIZES), "MistralForCausalLM"),
    "Mistral, window": (MistralConfig(**SIZES, sliding_window=30), "MistralForCausalLM"),
    "Qwen2": (Qwen2Config(**SIZES), "Qwen2ForCausalLM"),
    "Qwen3": (Qwen3Config(**SIZES, head_dim=16), "Qwen3ForCausalLM"),
    "SmolLM3": (SmolLM3Config(**SIZES | dict(num_hidden_layers=4)), "SmolLM3ForCausalLM"),
}


def convert(model, layout, output, *more):
    return subprocess.run([swiftlet, "convert", model, "--to", layout, "--output", output, *more], text=True,
                          capture_output=True)


def tensors(folder):
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        found |= load_file(file)
    return found


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def main():
    torch.manual_seed(1)
    ids = torch.randint(0, 160, (1, 100))
    with tempfile.TemporaryDirectory() as folder:
        for dtype in [torch.float32, torch.bfloat16, torch.float16]:
            path = f"{folder}/{dtype}"
            model = Phi3ForCausalLM(Phi3Config(**SIZES)).to(dtype).eval()
            model.save_pretrained(path, max_shard_size="100KB")
            # `to` also rounds the rotary frequencies, which loading does not.
            model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
            result = convert(path, "llama", path + "-llama")
            assert result.returncode == 0, result.stderr
            other = AutoModelForCausalLM.from_pretrained(path + "-llama", dtype=dtype).eval()
            assert type(other).__name__ == "LlamaForCausalLM" and other.config.dtype == dtype
            for key in ["eos_token_id", "pad_token_id", "bos_token_id", "rms_norm_eps", "tie_word_embeddings"]:
                assert getattr(other.config, key) == getattr(model.config, key), key
            with torch.no_grad():
                difference = (model(ids).logits - other(ids).logits).abs().max()
            back = convert(path + "-llama", "phi3", path + "-back")
            assert back.returncode == 0, back.stderr
            assert same(tensors(path), tensors(path + "-back"))
            again = AutoModelForCausalLM.from_pretrained(path + "-back", dtype=dtype).eval()
            with torch.no_grad():
                assert torch.equal(model(ids).logits, again(ids).logits)
            print(dtype, "largest difference of logits after conversion", float(difference), "; back: same bytes")
        for index, (name, (config, expected)) in enumerate(FAMILIES.items()):
            path = f"{folder}/family-{index}"
            AutoModelForCausalLM.from_config(config).save_pretrained(path, max_shard_size="100KB")
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
            line = name
            for layout, words in [("llama", ["--type", "f32"]), ("llama", []), ("phi3", [])]:
                output = f"{path}-{layout}{''.join(words)}"
                result = convert(path, layout, output, *words)
                if layout == "phi3" and name not in ("Phi-3", "Phi-4's ratios", "Llama", "Mistral", "Mistral, window"):
                    assert result.returncode == 2, (name, result)
                    continue
                assert result.returncode == 0, result.stderr
                other = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32).eval()
                assert type(other).__name__ == (expected if layout == "llama" else "Phi3ForCausalLM"), type(other)
                with torch.no_grad():
                    difference = float((model(ids).logits - other(ids).logits).abs().max())
                assert difference < 2e-6, difference
                line += f"; {layout} {' '.join(words)}: {difference:.1e}"
            print(line)
        for name, change in {
            "partial": dict(partial_rotary_factor=0.75), "window": dict(sliding_window=50),
            "longrope": dict(original_max_position_embeddings=64, rope_scaling={
                "type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}),
        }.items():
            Phi3ForCausalLM(Phi3Config(**SIZES | change)).save_pretrained(f"{folder}/{name}")
            result = convert(f"{folder}/{name}", "llama", f"{folder}/{name}-llama")
            assert result.returncode == 2 and not pathlib.Path(f"{folder}/{name}-llama").exists()
            print(name, "refused:", result.stderr.strip().split("/")[-1])
        if len(sys.argv) > 2:
            gguf(sys.argv[2], folder)


def gguf(path, folder):
    output = f"{folder}/gguf"
    result = convert(path, "llama", output, "--type", "f32")
    assert result.returncode == 0, result.stderr
    tokenizer = AutoTokenizer.from_pretrained(output)
    model = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32).eval()
    text = "The sky is blue because  don't\n\n 1234 grüße 你好 🙂 <|im_start|>user\nHi<|im_end|>"
    ours = json.loads(subprocess.run([swiftlet, "tokenize", path, "--text", text, "--json"], text=True,
                                     capture_output=True, check=True).stdout)["ids"]
    assert tokenizer(text).input_ids == ours
    assert tokenizer.decode(ours) == text
    print("template:", repr(tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)))
    with torch.no_grad():
        out = model.generate(**tokenizer("The capital of France is", return_tensors="pt"), max_new_tokens=8,
                             do_sample=False)
    print("continues:", repr(tokenizer.decode(out[0])))
    print(model.config)


main()
