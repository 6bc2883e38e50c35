"""Loss and gradient norm of one LoRA step by transformers and PEFT, beside Swiftlet's on the same weights and tokens.

  gpu_reference.py MODEL_FOLDER ADAPTER_FOLDER IDS.json METRICS.jsonl

MODEL_FOLDER holds bf16 weights; the projections are rounded to NF4 with double quantization here, by its definition, as
Swiftlet's --quantization nf4 does. ADAPTER_FOLDER is the run's, saved before its weights changed (a first step at learning
rate 0); METRICS.jsonl is the run's. IDS.json: {"ids": [[...], ...]}, the tokens of the step's documents.
Needs torch with CUDA, transformers, peft.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

CODES = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0])
BORDERS = torch.tensor([
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
    -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
    0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011])


def dynamic_map():
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        means = 10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2
        values += means.tolist() + (-means).tolist()
    return torch.tensor(sorted(values))


def nearest(values, x):
    upper = torch.searchsorted(values, x.contiguous()).clamp(1, len(values) - 1)
    lower = upper - 1
    return torch.where(x - values[lower] <= values[upper] - x, values[lower], values[upper])


def nf4(weight):
    blocks = weight.float().reshape(-1, 64)
    absmax = blocks.abs().amax(1)
    codes = torch.searchsorted(BORDERS.to(weight.device), blocks / absmax[:, None].clamp_min(1e-30))
    offset = absmax.double().mean().float()
    rest = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % 256)).reshape(-1, 256)
    highest = rest.abs().amax(1, keepdim=True).clamp_min(1e-30)
    kept = (nearest(dynamic_map().to(weight.device), rest / highest) * highest).reshape(-1)[: len(absmax)] + offset
    return (CODES.to(weight.device)[codes] * kept[:, None]).to(torch.bfloat16).reshape(weight.shape)


def main():
    folder, adapter, ids, metrics = sys.argv[1:5]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map={"": 0})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_proj.weight"):
                parameter.copy_(nf4(parameter))
    model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    model.train()
    documents = json.load(open(ids))["ids"]
    count = sum(len(document) - 1 for document in documents)
    total = 0.0
    for document in documents:
        tokens = torch.tensor([document], device="cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = model(input_ids=tokens).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[0, 1:], reduction="sum") / count
        loss.backward()
        total += loss.item()
        del logits, loss
    norm = sum(p.grad.double().pow(2).sum() for p in model.parameters() if p.grad is not None).sqrt().item()
    ours = json.loads(open(metrics).readline())
    print(json.dumps({
        "name": "reference", "documents": [len(document) for document in documents], "loss": total, "grad_norm": norm,
        "swiftlet_loss": ours["loss"], "swiftlet_grad_norm": ours["grad_norm"],
        "loss_ratio": ours["loss"] / total, "grad_norm_ratio": ours["grad_norm"] / norm,
        "peak_bytes": torch.cuda.max_memory_allocated(), "torch": torch.__version__}))


main()
