"""Compares adapters and merged models with PEFT and transformers; usage: check_adapters.py SWIFTLET.

For small random models of each architecture PEFT makes random adapters: of single projections, of Phi-3's fused ones, with
rsLoRA, with ranks and alphas of their own, of some layers, with DoRA's magnitudes. `swiftlet export --format merged` must have
the logits of PEFT's base + adapters in transformers, whatever is listed; `--format adapter` must load in PEFT without a missing
or unexpected key and give the same logits, for one adapter and for the sum of two (of DoRA, which has no sums, for one), for
the Llama layout and for Phi-3's.
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
            if "lora_magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
            elif "lora_" in name:
                parameter.copy_(0.08 * torch.randn_like(parameter))
    model.save_pretrained(output)


def with_adapters(base, *adapters):
    """Base and adapters as PEFT merges them, one after the other; one alone also beside the weights."""
    model = load(base)
    for path in adapters:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            # Adds without rounding: everything is fp32.
            model = PeftModel.from_pretrained(model, path)
        assert not [w for w in said if "missing" in str(w.message) or "unexpected" in str(w.message)], said
        beside = logits(model)
        model = model.merge_and_unload()
    found = logits(model)
    assert len(adapters) > 1 or distance(beside, found) < 5e-6, distance(beside, found)
    return found


def check(name, config, modules, folder):
    base = folder / "base"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(base)
    plain = logits(load(base))
    adapter(base, folder / "one", 1, r=4, lora_alpha=6, target_modules=modules, use_rslora=True)
    adapter(base, folder / "two", 2, r=2, lora_alpha=3, target_modules=modules, layers_to_transform=[1],
            rank_pattern={"down_proj": 5}, alpha_pattern={"layers.1.self_attn.o_proj": 7})
    adapter(base, folder / "dora", 3, r=4, lora_alpha=5, target_modules=modules, use_dora=True, use_rslora=True)
    adapter(base, folder / "dora-some", 4, r=2, lora_alpha=3, target_modules=modules[:3], use_dora=True,
            layers_to_transform=[0, 2], rank_pattern={modules[1]: 3})
    print(f"{name}")
    for adapters in [["one"], ["two"], ["dora"], ["dora-some"], ["one", "two"], ["one", "dora"], ["dora-some", "dora"]]:
        paths = [folder / a for a in adapters]
        expected = with_adapters(base, *paths)
        flags = [word for path in paths for word in ("--adapter", path)]
        has_dora = any("dora" in a for a in adapters)
        line = f"  {' + '.join(adapters):16s} moves logits by {distance(plain, expected):.3f};"
        for kind, dtype, bound in [("f32", torch.float32, 2e-6), ("f16", torch.float16, 5e-3),
                                   ("bf16", torch.bfloat16, 4e-2)]:
            output = folder / f"merged-{'-'.join(adapters)}-{kind}"
            run("export", base, *flags, "--format", "merged", "--type", kind, "--output", output)
            merged = load(output, dtype)
            assert type(merged) is type(model) and {p.dtype for p in merged.parameters()} == {dtype}
            found = distance(logits(merged), expected)
            assert found < bound, found
            # Not a bit worse than rounding the exact weights once.
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
            words = ["export", base, *flags, "--format", "adapter", "--to", layout, "--output", output]
            if has_dora and len(paths) > 1:
                result = subprocess.run([swiftlet, *map(str, words)], text=True, capture_output=True)
                assert result.returncode != 0 and "whose sum with others is no adapter" in result.stderr, result
                assert not output.exists()
                continue
            run(*words)
            target = base
            if modules is FUSED and layout == "llama":
                target = folder / "llama"
                if not target.exists():
                    run("convert", base, "--to", "llama", "--output", target)
            found = distance(with_adapters(target, output), expected)
            assert found < 2e-6, found
            line += f" adapter ({layout}) {found:.1e}"
        print(line)


def parts_alone(folder):
    """DoRA of some projections, written for the matrices in which Phi-3 keeps them with others."""
    base = folder / "base"
    llama = folder / "llama"
    adapter(llama, folder / "parts", 5, r=3, lora_alpha=4, target_modules=["k_proj", "up_proj", "down_proj"], use_dora=True,
            rank_pattern={"up_proj": 2})
    expected = with_adapters(llama, folder / "parts")
    run("export", llama, "--adapter", folder / "parts", "--format", "adapter", "--to", "phi3", "--output",
        folder / "parts-fused")
    found = distance(with_adapters(base, folder / "parts-fused"), expected)
    assert found < 2e-6, found
    print(f"DoRA of k, up and down, for fused matrices: {found:.1e}")


def refusals(folder):
    base = folder / "base"
    for name, settings in {
        "bias": dict(bias="lora_only"), "lora_bias": dict(lora_bias=True),
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
        parts_alone(pathlib.Path(folder) / str(len(MODELS) - 1))
        print("refused")
        refusals(pathlib.Path(folder) / "0")


main()
