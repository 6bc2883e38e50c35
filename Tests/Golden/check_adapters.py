"""Compares adapters and merged models with PEFT and transformers; usage: check_adapters.py SWIFTLET.

For small random models of each architecture PEFT makes random adapters: of single projections, of Phi-3's fused ones, with
rsLoRA, with ranks and alphas of their own, of some layers. `swiftlet export --format merged` must have the logits of PEFT's
base + adapter in transformers, `--format adapter` must load in PEFT without a missing or unexpected key and give the same
logits, for one adapter and for the sum of two, for the Llama layout and for Phi-3's.
Ran with transformers 5.24.0, peft 0.21.2, torch 2.13.0.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (AutoModelForCausalLM, LlamaConfig, MistralConfig, Phi3Config, Qwen2Config, Qwen3Config,
                          SmolLM3Config)

swiftlet = sys.argv[1]
SIZES = dict(vocab_size=160, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8,
             num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=3,
             tie_word_embeddings=False)
# 40 heads to 10 key heads, 5120 to 17920.
PHI4 = SIZES | dict(hidden_size=80, num_attention_heads=40, num_key_value_heads=10, intermediate_size=280)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
MODELS = {
    "Llama": (LlamaConfig(**SIZES | dict(attention_bias=True, mlp_bias=True)), ALL),
    "Llama, tied": (LlamaConfig(**SIZES | dict(tie_word_embeddings=True, head_dim=12)), ALL),
    "Mistral": (MistralConfig(**SIZES), ALL),
    "Qwen2": (Qwen2Config(**SIZES), ALL),
    "Qwen3": (Qwen3Config(**SIZES, head_dim=16), ALL),
    "SmolLM3": (SmolLM3Config(**SIZES | dict(num_hidden_layers=4)), ALL),
    "Phi-3": (Phi3Config(**SIZES), FUSED),
    "Phi-4's ratios": (Phi3Config(**PHI4), FUSED),
}
IDS = torch.randint(0, 160, (1, 60), generator=torch.Generator().manual_seed(1))


def run(*words):
    result = subprocess.run([swiftlet, *map(str, words)], text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return result


def logits(model):
    with torch.no_grad():
        return model.float().eval()(IDS).logits


def distance(a, b):
    return float((a - b).norm() / b.norm())


def load(path, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager")


def adapter(base, output, seed, **settings):
    """Writes an adapter of random values."""
    model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.08 * torch.randn_like(parameter))
    model.save_pretrained(output)


def with_adapters(base, *adapters):
    """Base and the sum of adapters, as PEFT computes them."""
    model = load(base)
    for path in adapters:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            # Adds without rounding: everything is fp32.
            model = PeftModel.from_pretrained(model, path).merge_and_unload()
        assert not [w for w in said if "missing" in str(w.message) or "unexpected" in str(w.message)], said
    return logits(model)


def check(name, config, modules, folder):
    base = folder / "base"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(base)
    plain = logits(load(base))
    adapter(base, folder / "one", 1, r=4, lora_alpha=6, target_modules=modules, use_rslora=True)
    adapter(base, folder / "two", 2, r=2, lora_alpha=3, target_modules=modules, layers_to_transform=[1],
            rank_pattern={"down_proj": 5}, alpha_pattern={"layers.1.self_attn.o_proj": 7})
    print(f"{name}")
    for adapters in [["one"], ["two"], ["one", "two"]]:
        paths = [folder / a for a in adapters]
        expected = with_adapters(base, *paths)
        flags = [word for path in paths for word in ("--adapter", path)]
        line = f"  {' + '.join(adapters):9s} moves logits by {distance(plain, expected):.3f};"
        for kind, dtype, bound in [("f32", torch.float32, 2e-6), ("f16", torch.float16, 5e-3),
                                   ("bf16", torch.bfloat16, 4e-2)]:
            output = folder / f"merged-{'-'.join(adapters)}-{kind}"
            run("export", base, *flags, "--format", "merged", "--type", kind, "--output", output)
            merged = load(output, dtype)
            assert type(merged) is type(model) and {p.dtype for p in merged.parameters()} == {dtype}
            found = distance(logits(merged), expected)
            assert found < bound, found
            # Not a bit worse than rounding the exact sum once.
            rounded = load(base)
            for path in paths:
                rounded = PeftModel.from_pretrained(rounded, path).merge_and_unload()
            state = {k: v.to(dtype).float() for k, v in rounded.state_dict().items()}
            stored = load_file(output / "model.safetensors")
            for key, value in stored.items():
                error = (value.float() - state[key]).abs().max() / state[key].abs().max().clamp(min=1e-3)
                assert error <= {"f32": 1e-6, "f16": 1e-3, "bf16": 8e-3}[kind], (key, error)
            line += f" {kind} {found:.1e}"
        for layout in ["llama", "phi3"] if modules is FUSED else ["llama"]:
            output = folder / f"adapter-{'-'.join(adapters)}-{layout}"
            run("export", base, *flags, "--format", "adapter", "--to", layout, "--output", output)
            target = base
            if modules is FUSED and layout == "llama":
                target = folder / "llama"
                if not target.exists():
                    run("convert", base, "--to", "llama", "--output", target)
            found = distance(with_adapters(target, output), expected)
            assert found < 2e-6, found
            line += f" adapter ({layout}) {found:.1e}"
        print(line)


def refusals(folder):
    base = folder / "base"
    for name, settings in {
        "DoRA": dict(use_dora=True), "bias": dict(bias="lora_only"), "lora_bias": dict(lora_bias=True),
        "modules_to_save": dict(modules_to_save=["lm_head"]), "embedding": dict(target_modules=["embed_tokens"]),
        "head": dict(target_modules=["lm_head"]), "trained tokens": dict(trainable_token_indices=[1, 2]),
    }.items():
        path = folder / f"refused-{name}"
        config = LoraConfig(**dict(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]) | settings)
        get_peft_model(load(base), config).save_pretrained(path)
        result = subprocess.run([swiftlet, "export", base, "--adapter", path, "--format", "merged", "--output",
                                 folder / "never"], text=True, capture_output=True)
        assert result.returncode == 2 and not (folder / "never").exists(), (name, result)
        assert result.stderr.count("\n") == 1, result.stderr
        print(f"  {name}: {result.stderr.strip().replace(str(folder), '')}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, (config, modules)) in enumerate(MODELS.items()):
            home = pathlib.Path(folder) / str(index)
            home.mkdir()
            check(name, config, modules, home)
        print("refused")
        refusals(pathlib.Path(folder) / "0")


main()
