"""Times the tools that people use today, on the same model and machine: one JSON object per line.

  peers.py convert MODEL.gguf FOLDER     the GGUF's dequantized weights as a Hugging Face folder, bf16
  peers.py lora FOLDER BATCH LENGTH      transformers + PEFT: LoRA r = 16 on all seven projections, AdamW, bf16
  peers.py infer FOLDER                  transformers, bf16: a prompt of 512 tokens, 128 tokens of an answer
  peers.py llamacpp MODEL.gguf           llama.cpp on the GGUF itself, likewise

Needs torch, transformers, peft, gguf, safetensors, xllamacpp. THREADS sets the threads (2).
"""

import json
import os
import resource
import statistics
import sys
import time

THREADS = int(os.environ.get("THREADS", "2"))
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def report(name, **values):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"name": name, **values, "peak_bytes": peak, "threads": THREADS}), flush=True)


def convert(path, folder):
    import numpy as np
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    reader = GGUFReader(path)
    value = lambda key: reader.fields[key].contents()
    heads, kv_heads = value("llama.attention.head_count"), value("llama.attention.head_count_kv")
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        weight = weight.reshape(tuple(int(n) for n in reversed(tensor.shape.tolist())))
        if tensor.name in ("token_embd.weight", "output_norm.weight"):
            name = "model.embed_tokens.weight" if tensor.name.startswith("token") else "model.norm.weight"
        else:
            _, layer, kind, _ = tensor.name.split(".")
            if kind in ("attn_q", "attn_k"):  # llama.cpp stores the pairs of a rotation side by side
                count = heads if kind == "attn_q" else kv_heads
                weight = weight.reshape(count, weight.shape[0] // count // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)
            name = f"model.layers.{layer}.{names[kind]}.weight"
        tensors[name] = torch.from_numpy(np.ascontiguousarray(weight)).to(torch.bfloat16)
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"), "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": value("llama.rope.dimension_count"), "vocab_size": value("llama.vocab_size"),
        "max_position_embeddings": value("llama.context_length"), "rms_norm_eps": 1e-5,
        "rope_theta": value("llama.rope.freq_base"), "hidden_act": "silu", "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    }
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file, indent=2)


def load(folder):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    return torch, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")


def lora(folder, batch, length):
    import peft
    import transformers

    torch, model = load(folder)
    model.config.use_cache = False
    config = peft.LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4)
    seconds = []
    for _ in range(4):
        ids = torch.randint(0, 49152, (batch, length))
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16):  # measured faster here than without
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
    step = min(seconds[1:])  # its best, so that a comparison is fair to it
    report(
        f"transformers+peft train:{batch}x{length}", tokens_per_second=batch * length / step, step_seconds=step,
        loss=loss.item(), grad_norm=norm.item(), torch=torch.__version__, transformers=transformers.__version__,
        peft=peft.__version__)


def infer(folder):
    torch, model = load(folder)
    model.eval()
    ids = torch.randint(0, 49152, (1, 512))

    def best(work, count=6):
        times = []
        for _ in range(count):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return min(times[1:])

    with torch.inference_mode():
        full = best(lambda: model(input_ids=ids, use_cache=False).logits)
        report("transformers prefill:512 all logits", tokens_per_second=512 / full, step_seconds=full)
        last = best(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1).logits)
        report("transformers prefill:512", tokens_per_second=512 / last, step_seconds=last)
        prompt = ids[:, :32]
        options = dict(attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=2)
        whole = best(lambda: model.generate(prompt, max_new_tokens=129, min_new_tokens=129, **options), 3)
        first = best(lambda: model.generate(prompt, max_new_tokens=1, min_new_tokens=1, **options), 3)
        report("transformers decode:128", tokens_per_second=128 / (whole - first), step_seconds=whole - first)


def llamacpp(path):
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = 1024
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = THREADS
    parameters.cpuparams_batch.n_threads = THREADS
    server = xllamacpp.Server(parameters)
    best = {}
    for attempt in range(3):
        ids = [(7919 * (i + 31 * attempt)) % 49152 for i in range(512)]
        for prompt, count in ((ids, 1), (ids[:32], 128)):
            request = dict(prompt=prompt, n_predict=count, ignore_eos=True, cache_prompt=False, temperature=0)
            answer = server.handle_completions(request)
            answer = json.loads(answer) if isinstance(answer, str) else answer
            timings = answer["timings"]
            if count == 1:
                best["prefill:512"] = max(best.get("prefill:512", 0), timings["prompt_per_second"])
            else:
                best["decode:128"] = max(best.get("decode:128", 0), timings["predicted_per_second"])
    for name, speed in best.items():
        report(f"llama.cpp {name}", tokens_per_second=speed, xllamacpp=getattr(xllamacpp, "__version__", None))


if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    commands = {
        "convert": convert, "infer": infer, "llamacpp": llamacpp,
        "lora": lambda folder, batch, length: lora(folder, int(batch), int(length)),
    }
    commands[command](*arguments)
