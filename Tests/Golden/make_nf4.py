"""What bitsandbytes makes of matrices and of tiny models: nf4.safetensors and the folders in bitsandbytes/.

nf4.safetensors: random matrices quantized to NF4, with and without double quantization, and what they decode to. The double
quantization runs bitsandbytes' definition in torch (bitsandbytes/backends/default), which its kernels for GPUs follow; its
library for CPUs looks codes up in a table instead and picks a neighbour now and then.
bitsandbytes/: tiny models of random weights, quantized and saved by transformers; logits.json holds what transformers
computes with each.

Run in this folder. Ran with bitsandbytes 0.50.2, transformers 5.24.0, torch 2.13.0 on a CPU."""
import json
import pathlib
import shutil
import tempfile

import bitsandbytes
import bitsandbytes.functional as F
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Phi3Config

torch.manual_seed(3407)
HERE = pathlib.Path(__file__).parent


def nested(absmax, code, block=256):
    """bitsandbytes/backends/default/ops.py, quantize_blockwise."""
    offset = absmax.mean()
    values = absmax - offset
    codes, scales = [], []
    for part in values.split(block):
        scale = part.abs().max()
        scaled = torch.clamp(part * (1.0 / scale.clamp(min=1e-38)), -1, 1)
        codes.append(torch.bucketize(scaled, (code[:-1] + code[1:]) / 2, out_int32=True).to(torch.uint8))
        scales.append(scale.reshape(1))
    return torch.cat(codes), torch.cat(scales), offset


def matrices():
    code = F.create_dynamic_map()
    tensors = {"dynamic_map": code}
    cases = {
        "gauss": torch.randn(33, 512) * 0.02,
        "outliers": torch.randn(9, 64) * 0.02,
        "bf16": (torch.randn(6, 384) * 0.05).bfloat16().float(),
        "ragged": torch.randn(3, 50),
    }
    cases["outliers"][2, 7] = 3.5
    cases["outliers"][4] = 0
    for name, matrix in cases.items():
        codes, state = F.quantize_4bit(matrix, quant_type="nf4")
        tensors[f"{name}.matrix"] = matrix
        tensors[f"{name}.codes"] = codes.reshape(-1)
        tensors[f"{name}.absmax"] = state.absmax
        for dtype in (torch.float32, torch.bfloat16, torch.float16) if name != "gauss" else ():
            state.dtype = dtype
            tensors[f"{name}.decoded.{str(dtype)[6:]}"] = F.dequantize_4bit(codes, state).float().reshape(matrix.shape)
        absmax, scales, offset = nested(state.absmax, code)
        tensors[f"{name}.nested_codes"], tensors[f"{name}.nested_absmax"] = absmax, scales
        tensors[f"{name}.nested_offset"] = offset.reshape(1)
        tensors[f"{name}.nested_decoded"] = F.dequantize_blockwise(absmax, absmax=scales, code=code, blocksize=256) + offset
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "nf4.safetensors",
              metadata={"made_by": "make_nf4.py"})


def models():
    shape = dict(vocab_size=40, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
                 pad_token_id=0)
    cases = {
        "llama": (LlamaConfig(**shape, tie_word_embeddings=True), True, [], torch.bfloat16),
        "llama_plain": (LlamaConfig(**shape, tie_word_embeddings=False), False,
                        ["lm_head", "model.layers.1.self_attn.v_proj", "model.layers.0.mlp.down_proj"], torch.float32),
        "phi3": (Phi3Config(**shape, tie_word_embeddings=False), True, [], torch.bfloat16),
    }
    logits = {}
    tokens = [1, 7, 39, 3, 12, 25, 25, 8, 30, 2]
    for name, (config, double, skip, dtype) in cases.items():
        folder = HERE / "bitsandbytes" / name
        shutil.rmtree(folder, ignore_errors=True)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.12)
        with tempfile.TemporaryDirectory() as temporary:
            model.save_pretrained(temporary)
            quantization = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
                bnb_4bit_compute_dtype=torch.float32, llm_int8_skip_modules=skip or None)
            quantized = AutoModelForCausalLM.from_pretrained(
                temporary, quantization_config=quantization, device_map="cpu", dtype=dtype)
            quantized.save_pretrained(folder)
        # As whoever gets the folder loads it, computing in fp32.
        loaded = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float32)
        # bitsandbytes' products for CPUs round scales to bf16; its definition is dequantize_4bit.
        for path, module in list(loaded.named_modules()):
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                plain = torch.nn.Linear(module.in_features, module.out_features, bias=False)
                plain.weight.data = F.dequantize_4bit(module.weight.data, module.weight.quant_state).float()
                loaded.set_submodule(path, plain)
        torch.nn.Module.float(loaded)
        with torch.inference_mode():
            rows = loaded(input_ids=torch.tensor([tokens])).logits[0].float()
        logits[name] = {"tokens": tokens, "logits": [[round(value, 6) for value in row] for row in rows.tolist()]}
    (HERE / "bitsandbytes" / "logits.json").write_text(json.dumps(logits) + "\n")


if __name__ == "__main__":
    print(bitsandbytes.__version__, transformers.__version__, torch.__version__)
    matrices()
    models()
