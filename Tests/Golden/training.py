"""What reference implementations make of training: makes Tests/Golden/training.json.

- adamw8bit: steps of bitsandbytes' 8-bit blockwise AdamW with the rounding of its CUDA kernel, and its dynamic maps.
- dora: loss, gradients and file names of PEFT's DoRA, without dropout and with one that drops what Swiftlet drops.
- preference: losses and gradients of DPO and ORPO by the formulas of TRL's trainers, in torch. TRL's ORPO counts the prompt
  in its likelihood of the chosen answer; here, as in the paper, the answer alone is counted.
- full: gradients of every weight, and AdamW's steps on all of them.

Models and adapters follow the rule of Tests/TestSupport/TinyModel.swift, so that only results need to be kept.
Ran with transformers 5.24.0, peft 0.21.2, bitsandbytes 0.50.2, torch 2.13.0, numpy 2.4.6.
"""
import json
import pathlib
import tempfile

import bitsandbytes as bnb
import bitsandbytes.backends.cpu.ops as bnb_cpu
import bitsandbytes.functional as bnb_functional
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open

from tiny import SMALL, build, tokens, uniform

# Two layers, and room for documents of any length.
CONFIG = SMALL | {"num_hidden_layers": 2, "max_position_embeddings": 2048}
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tiny(seed, **changes):
    return build(CONFIG | changes, seed)


def adapted(model, seed, **options):
    """PEFT's adapter with A and B of half the rule's values, magnitudes that of 1.2 + u / 2."""
    config = LoraConfig(r=3, lora_alpha=6, lora_dropout=0, target_modules=MODULES, task_type="CAUSAL_LM", **options)
    model = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" not in name:
                continue
            name = name.replace(".default", "")
            u = uniform(name, parameter.numel(), seed)
            if "magnitude" in name:
                u = uniform(name.removesuffix(".weight"), parameter.numel(), seed)
                u = 1.2 + u / 2
            else:
                u = u / 2
            parameter.copy_(torch.from_numpy(u.astype(np.float32)).reshape(parameter.shape))
    return model


def rounded(tensor):
    return [float(f"{x:.8g}") for x in tensor.detach().double().flatten().tolist()]


def learned(model):
    return {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}


def logps(model, ids, start):
    """Log-probabilities of the tokens from `start` on."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logits.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1)[start - 1 :]


def nearest(values, code, absmax_out, codes_out, blocksize):
    """The code nearest to each value, as bitsandbytes' CUDA kernel takes it."""
    flat = values.flatten()
    for index, start in enumerate(range(0, flat.numel(), blocksize)):
        block = flat[start : start + blocksize]
        largest = block.abs().max()
        middles = (code[1:] + code[:-1]) / 2
        absmax_out[index] = largest
        codes_out.view(-1)[start : start + blocksize] = torch.searchsorted(middles, block / largest).to(torch.uint8)


def adamw8bit():
    # The CPU's kernel looks small values up in a coarse table, up to four codes away.
    bnb_cpu._quant_blockwise_fp32_direct = nearest
    count = 700
    p = torch.nn.Parameter(torch.from_numpy(uniform("parameters", count, 5).astype(np.float32)))
    optimizer = bnb.optim.AdamW8bit([p], lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, min_8bit_size=1)
    steps = []
    for step in range(4):
        # Gradients of several sizes within a block.
        g = uniform(f"gradient {step}", count, 5) ** 3 * 10.0 ** (np.arange(count) % 4 - 2)
        p.grad = torch.from_numpy(g.astype(np.float32))
        optimizer.step()
        state = optimizer.state[p]
        steps.append({
            "parameters": rounded(p), "first_codes": state["state1"].tolist(),
            "second_codes": state["state2"].tolist(), "first_scales": rounded(state["absmax1"]),
            "second_scales": rounded(state["absmax2"]),
        })
    return {
        "signed_map": rounded(bnb_functional.create_dynamic_map(signed=True)),
        "unsigned_map": rounded(bnb_functional.create_dynamic_map(signed=False)), "count": count, "steps": steps,
    }


def philox(counter, stream, seed):
    """Philox 4x32-10 (Salmon et al., 2011): four words for each counter."""
    c = [counter & 0xFFFFFFFF, counter >> 32, np.full_like(counter, stream & 0xFFFFFFFF), np.full_like(counter, stream >> 32)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & np.uint64(0xFFFFFFFF),
             (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & np.uint64(0xFFFFFFFF)]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack(c, -1)


class Dropped(torch.nn.Module):
    """A dropout that drops the elements that Swiftlet drops."""

    def __init__(self, probability, seed, stream):
        super().__init__()
        self.probability, self.seed, self.stream = probability, seed, stream

    def forward(self, x):
        count = x.numel()
        words = philox(np.arange((count + 3) // 4, dtype=np.uint64), self.stream, self.seed).reshape(-1)[:count]
        keep = (words >= int(self.probability * 2**32)).astype(np.float32) / (1 - self.probability)
        return x * torch.from_numpy(keep).reshape(x.shape)


def dora():
    seed, ids = 31, tokens(31, 14)
    probability, key, counter = 0.25, 3407, 9
    results = {}
    for kind in ("plain", "dropout"):
        model = adapted(tiny(seed, attention_bias=True), seed, use_dora=True)
        if kind == "dropout":
            model.train()
            for name, module in model.named_modules():
                if hasattr(module, "lora_dropout"):
                    layer = int(name.split(".layers.")[1].split(".")[0])
                    stream = counter << 20 ^ layer * len(MODULES) + MODULES.index(name.split(".")[-1])
                    module.lora_dropout["default"] = Dropped(float(np.float32(probability)), key, stream)
        loss = -logps(model, ids, 1).sum()
        loss.backward()
        results[kind] = {"loss": float(loss), "gradients": {
            name.removesuffix(".weight") if "magnitude" in name else name: rounded(p.grad)
            for name, p in learned(model).items()}}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safe_open(f"{folder}/adapter_model.safetensors", "pt") as file:
            names = {name: list(file.get_tensor(name).shape) for name in file.keys()}
    return {"seed": seed, "config": CONFIG | {"attention_bias": True}, "tokens": ids} | results["plain"] | {
        "files": names, "dropout": {"probability": probability, "seed": key, "counter": counter} | results["dropout"]}


def preference():
    seed, beta = 41, 0.3
    # A prompt and two answers each.
    pairs = [(tokens(1, 5), tokens(2, 4), tokens(3, 7)), (tokens(4, 3), tokens(5, 6), tokens(6, 2)),
             (tokens(7, 8), tokens(8, 3), tokens(9, 3))]
    base = tiny(seed)
    with torch.no_grad():
        reference = [[logps(base, prompt + answer, len(prompt)).sum() for answer in (chosen, rejected)]
                     for prompt, chosen, rejected in pairs]
    results = {}
    for method in ("dpo", "orpo"):
        model = adapted(tiny(seed), seed)
        losses, margins, nll, chosen_tokens = [], [], 0, 0
        for (prompt, chosen, rejected), (reference_chosen, reference_rejected) in zip(pairs, reference):
            c, r = (logps(model, prompt + answer, len(prompt)) for answer in (chosen, rejected))
            if method == "dpo":
                logits = (c.sum() - r.sum()) - (reference_chosen - reference_rejected)
                losses.append(-torch.nn.functional.logsigmoid(beta * logits))
                margins.append(beta * logits)
            else:
                log_odds = (c.mean() - r.mean()) - (torch.log1p(-c.mean().exp()) - torch.log1p(-r.mean().exp()))
                losses.append(-beta * torch.nn.functional.logsigmoid(log_odds))
                margins.append(beta * (c.mean() - r.mean()))
                nll, chosen_tokens = nll - c.sum(), chosen_tokens + len(chosen)
        loss = torch.stack(losses).mean()
        if method == "orpo":
            loss = loss + nll / chosen_tokens
        loss.backward()
        results[method] = {
            "loss": float(loss), "margins": rounded(torch.stack(margins)),
            "gradients": {name: rounded(p.grad) for name, p in learned(model).items()},
        }
    return {"seed": seed, "config": CONFIG, "beta": beta, "pairs": pairs} | results


def full():
    cases = []
    for seed, changes in [(51, {}), (52, {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True})]:
        model = tiny(seed, **changes)
        ids = tokens(seed, 20)
        decayed = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() == 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3, eps=1e-6)
        steps = []
        for _ in range(3):
            loss = -logps(model, ids, 1).mean()
            loss.backward()
            # A norm and a product with values that the name decides say all that is needed of a tensor.
            steps.append({"loss": float(loss), "gradients": {
                name: [float(p.grad.norm()), float(
                    (p.grad.double().flatten() * torch.from_numpy(uniform(name, p.numel(), 7))).sum())]
                for name, p in model.named_parameters()}})
            optimizer.step()
            optimizer.zero_grad()
        cases.append({"seed": seed, "config": CONFIG | changes, "tokens": ids, "steps": steps})
    return cases


golden = {"adamw8bit": adamw8bit(), "dora": dora(), "preference": preference(), "full": full()}
lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
(pathlib.Path(__file__).parent / "training.json").write_text("{" + lines + "}\n")
