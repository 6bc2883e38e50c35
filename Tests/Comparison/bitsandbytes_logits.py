"""Logits of a folder that `swiftlet quantize` wrote, by transformers and bitsandbytes on the CPU.

usage: bitsandbytes_logits.py FOLDER TEXT OUT.safetensors [TOKENS]

Reads the first TOKENS (256) tokens of TEXT and leaves their ids and logits, computed in fp32, in OUT, which
BitsAndBytesLogitsTests compares with Swiftlet's (SWIFTLET_LOGITS="FOLDER OUT.safetensors"). Prints one line of JSON: which
modules stayed in 16 bits, and how far the logits are from these where the folder is loaded as its config.json says.

Three things stay in bf16 there although `dtype` asks for fp32: embedding, norms and the layers that are not quantized, which
transformers leaves as the file has them, and with them what flows between the layers; the products, which
`bnb_4bit_compute_dtype` of config.json decides; and, on processors with AVX512-BF16, absmax values and products, since
`Linear4bit` repacks its weights the first time it runs in eval mode. All three are undone here.
Ran with torch 2.13.0, transformers 5.24.0, bitsandbytes 0.50.2.
"""
import json
import sys

import bitsandbytes
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

folder, text, output, count = *sys.argv[1:4], int((sys.argv[4:] or [256])[0])
tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
ids = tokenizer(open(text, encoding="utf-8").read()[: 16 * count], add_special_tokens=False)["input_ids"][:count]
assert len(ids) == count, len(ids)


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def load(**options):
    model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", **options).eval()
    return model, [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]


exact, quantized = load(dtype=torch.float32)
for module in quantized:
    module.compute_dtype, module.compute_type_is_set = torch.float32, True
    module.support_avx512bf16_for_cpu = False
left = sorted({str(value.dtype) for value in exact.parameters()} - {"torch.uint8", "torch.float32"})
for value in exact.parameters():
    if value.dtype != torch.uint8:
        value.data = value.data.float()
found = logits(exact)
linear = {name for name, module in exact.named_modules() if isinstance(module, torch.nn.Linear)}
kept = sorted(linear - {name for name, module in exact.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)})
save_file({"ids": torch.tensor(ids, dtype=torch.int32), "logits": found.contiguous()}, output)


def distance(other):
    divergence = torch.nn.functional.kl_div(
        other.double().log_softmax(-1), found.double().log_softmax(-1), log_target=True, reduction="none").sum(-1)
    return {"mean_kl": divergence.mean().item(), "relative": ((other - found).norm() / found.norm()).item()}


for module in quantized:
    module.compute_dtype = torch.bfloat16
only_compute = distance(logits(exact))
as_loaded, _ = load()
print(json.dumps({
    "tokens": count, "quantized": len(quantized), "kept": kept, "torch": torch.__version__,
    "transformers": transformers.__version__, "bitsandbytes": bitsandbytes.__version__,
    "avx512_bf16": bitsandbytes.functional.has_avx512bf16(),
    "left_although_fp32_was_asked": left,
    "fp32_but_compute_dtype_of_config": only_compute, "as_config_says": distance(logits(as_loaded))}))
