"""Judges exported GGUFs by llama.cpp; usage: gguf_judged.py SWIFTLET SAMPLE.gguf DATA_FOLDER RESULTS.jsonl [PART]

PART is one of architectures, phi4, padded, tuned, dora; without it, all.

DATA_FOLDER has phi4/, tokenizers/ and sets/. The models: SmolLM2-135M with an adapter of a short run (rows of 576, so that
K-types fall back) of LoRA or DoRA, the same without an adapter, padded with zeros to rows of 768, a random one in Phi-4's layout
with Phi-4's tokenizer and an adapter that learned three answers by heart, and that in the Llama layout.
Each is exported in every type. llama.cpp must load it, cut a page of text into our tokens, give our greedy answers
(f32, f16, bf16), our perplexity (f16 within 0.5%) and that of its own quantization of the same weights (within 1%, or nearer to f32's; and
about as far from f32 by KL divergence); answers must
end where ours end, and what was learned by heart at the end of the turn, in every type. Then small random models of every
architecture.
Ran with xllamacpp 2026.10.11549, gguf 0.19.0, safetensors 0.8.0, numpy 2.
"""
import ctypes
import datetime
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

import llama_cpp

swiftlet, sample, data, results = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), open(sys.argv[4], "a")
TYPES = ["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"]
WINDOW = 256
llama_cpp.lib.ggml_quantize_chunk.restype = ctypes.c_size_t
failures = []


def run(*arguments):
    result = subprocess.run([swiftlet, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, (arguments, result.stderr)
    return result.stdout, result.stderr


def check(holds, what):
    if not holds:
        failures.append(what)
        print("FAILED:", what, flush=True)


def report(**row):
    row = {"date": datetime.date.today().isoformat(), **row}
    print(json.dumps(row), flush=True)
    results.write(json.dumps(row) + "\n")
    results.flush()


def own_quantization(f32, ours, path):
    """The weights of `f32` in the types of `ours`, quantized by llama.cpp."""
    source, wanted = gguf.GGUFReader(f32), gguf.GGUFReader(ours)
    types = {t.name: t.tensor_type for t in wanted.tensors}
    writer = gguf.GGUFWriter(path, "llama")
    del writer.kv_data[0]["general.architecture"]
    for field in wanted.fields.values():
        if not field.name.startswith("GGUF."):
            kind = field.types[0]
            sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)
    for tensor in source.tensors:
        kind, x = types[tensor.name], np.ascontiguousarray(tensor.data, np.float32)
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, x)
            continue
        length, size = gguf.GGML_QUANT_SIZES[kind]
        rows, width = int(np.prod(x.shape[:-1])), x.shape[-1]
        out = np.zeros((rows, width // length * size), np.uint8)
        llama_cpp.lib.ggml_quantize_chunk(
            ctypes.c_int(kind.value), x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(0), ctypes.c_int64(rows), ctypes.c_int64(width), None)
        writer.add_tensor(tensor.name, out, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def judge(name, source, folder, text, page, prompts, adapter=None, learned=None, kinds=TYPES):
    """Exports `source` in every type and compares; `learned`: the answers that every type must give and end."""
    more = ["--adapter", adapter] if adapter else []
    ours = json.loads(run("eval", source, *more, "--perplexity", text, "--window", WINDOW, "--compute", "fp32", "--json")[0])
    answers = {}
    for prompt in prompts:
        out, _ = run("generate", source, *more, "--prompt", prompt, "--temperature", 0, "--max-tokens", 48, "--compute",
                     "fp32", "--json")
        answers[prompt] = json.loads(out)
    ids = json.loads(run("tokenize", source, "--file", page, "--no-special-tokens", "--json")[0])["ids"]
    words, passage = page.read_bytes().decode(), pathlib.Path(text).read_text()
    reference = []
    for kind in kinds:
        path = folder / f"{name}-{kind}.gguf"
        _, log = run("export", source, *more, "--format", "gguf", "--type", kind, "--output", path)
        model = llama_cpp.Model(path)
        theirs = model.tokenize(words)
        check(theirs == ids, f"{name} {kind}: token ids")
        tokens = model.tokenize(passage)
        if kind == "f32":
            reference = [logs for logs, _ in model.log_probabilities(tokens, WINDOW)]
            count = sum(len(logs) for logs in reference)
            check(count == ours["tokens"], f"{name} {kind}: predicted tokens {count} for {ours['tokens']}")
        nll, divergence = model.divergence(reference, tokens, WINDOW)
        ratio = math.exp(nll - ours["nll"])
        row = dict(model=name, type=kind, bytes=path.stat().st_size, tokens_equal=theirs == ids,
                   perplexity=round(math.exp(nll), 4), ours=round(ours["perplexity"], 4), ratio=round(ratio, 6),
                   kl=float(f"{divergence:.3g}"))
        if kind in ("f32", "f16", "bf16"):
            check(abs(ratio - 1) < 0.005, f"{name} {kind}: perplexity {ratio}")
        else:
            other = folder / "theirs.gguf"
            own_quantization(folder / f"{name}-f32.gguf", path, other)
            their_model = llama_cpp.Model(other)
            their_nll, their_divergence = their_model.divergence(reference, tokens, WINDOW)
            their_model.close()
            row |= dict(llama_cpp_quantized=round(math.exp(their_nll), 4), against=round(math.exp(nll - their_nll), 6),
                        llama_cpp_kl=float(f"{their_divergence:.3g}"))
            # Of a random model, theirs can be better than the weights themselves by luck: what is nearer to those will do.
            nearer = abs(nll - ours["nll"]) < abs(their_nll - ours["nll"])
            check(nearer or math.exp(nll - their_nll) < 1.01, f"{name} {kind}: {math.exp(nll - their_nll)} of llama.cpp's own")
            # A draw of rounding errors differs from another by so much in a small model.
            check(divergence < 1.3 * their_divergence, f"{name} {kind}: KL {divergence}, llama.cpp's own {their_divergence}")
        same = []
        for index, (prompt, answer) in enumerate(answers.items()):
            rendered, _ = run("template", source, "--messages", messages(folder, prompt), "--generation-prompt")
            answer_ids, end = model.generate(model.tokenize(rendered), 48)
            said = b"".join(model.piece(i) for i in answer_ids).decode(errors="replace")
            same.append(said.strip() == answer["text"].strip())
            if kind in ("f32", "f16", "bf16"):
                check(same[-1], f"{name} {kind}: {said!r} for {answer['text']!r}")
                check(end == (answer["finish_reason"] == "stop"), f"{name} {kind}: ends {end}, ours {answer['finish_reason']}")
            if learned:
                check(said.strip() == learned[index] and end, f"{name} {kind}: {said!r} for {learned[index]!r}, ended {end}")
            check(b"<|im_end|>" not in said.encode(), f"{name} {kind}: ran on: {said!r}")
            row.setdefault("ends", []).append(end)
        row |= dict(greedy_equal=same)
        row["warnings"] = [w.strip() for w in model.warnings if len(w.strip()) > 3][:3]
        report(**row)
        model.close()
        if kind != "f32":
            path.unlink()
    (folder / f"{name}-f32.gguf").unlink()


def messages(folder, prompt):
    path = folder / "messages.json"
    path.write_text(json.dumps([{"role": "user", "content": prompt}]))
    return path


def random_model(folder, config, seed=1, scale=1.0):
    """A folder with random bf16-exact weights in Phi-3's or the Llama layout."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    tensors = {}
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim", hidden // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head

    def add(name, *shape):
        if name.endswith("norm.weight"):
            x = 1 + random.uniform(-0.2, 0.2, shape)
        elif name.endswith("bias"):
            x = random.uniform(-0.3, 0.3, shape)
        else:
            x = random.standard_t(5, shape) * scale * (1 / shape[1]) ** 0.5
        bits = x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
        tensors[name] = bits.view(np.float32)

    kind = config["model_type"]
    add("model.embed_tokens.weight", vocab, hidden)
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}."
        add(at + "input_layernorm.weight", hidden)
        add(at + "post_attention_layernorm.weight", hidden)
        if kind == "phi3":
            add(at + "self_attn.qkv_proj.weight", queries + 2 * keys, hidden)
            add(at + "mlp.gate_up_proj.weight", 2 * inner, hidden)
        else:
            for part, rows in [("q", queries), ("k", keys), ("v", keys)]:
                add(at + f"self_attn.{part}_proj.weight", rows, hidden)
                if config.get("attention_bias") or kind == "qwen2":
                    add(at + f"self_attn.{part}_proj.bias", rows)
            add(at + "mlp.gate_proj.weight", inner, hidden)
            add(at + "mlp.up_proj.weight", inner, hidden)
        add(at + "self_attn.o_proj.weight", hidden, queries)
        add(at + "mlp.down_proj.weight", hidden, inner)
        if config.get("attention_bias"):
            add(at + "self_attn.o_proj.bias", hidden)
        if config.get("mlp_bias"):
            for part, rows in [("gate", inner), ("up", inner), ("down", hidden)]:
                add(at + f"mlp.{part}_proj.bias", rows)
        if kind == "qwen3":
            add(at + "self_attn.q_norm.weight", head)
            add(at + "self_attn.k_norm.weight", head)
    add("model.norm.weight", hidden)
    if not config.get("tie_word_embeddings"):
        add("lm_head.weight", vocab, hidden)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def padded(folder):
    """SmolLM2 with zeros up to rows that K-types hold: a width of 768, three more heads. It says what SmolLM2 says."""
    run("convert", sample, "--to", "llama", "--type", "f32", "--output", folder / "whole")
    path = folder / "padded"
    shutil.copytree(folder / "whole", path)
    tensors = {}
    for name, x in load_file(folder / "whole/model.safetensors").items():
        queries, keys, hidden = 12 * 64, 4 * 64, 768
        part = name.split(".")[-2]
        shape = {"q_proj": (queries, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden), "o_proj": (hidden, queries),
                 "gate_proj": (1536, hidden), "up_proj": (1536, hidden), "down_proj": (hidden, 1536),
                 "embed_tokens": (len(x), hidden)}.get(part, (hidden,))
        wide = np.zeros(shape, np.float32)
        # The mean square is taken over more elements.
        wide[tuple(slice(n) for n in x.shape)] = x * (576 / 768) ** 0.5 if x.ndim == 1 else x
        tensors[name] = wide
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    config |= dict(hidden_size=768, num_attention_heads=12, num_key_value_heads=4,
                   rms_norm_eps=config["rms_norm_eps"] * 576 / 768)
    (path / "config.json").write_text(json.dumps(config))
    return path


def architectures(folder, text, data):
    """Small random models of every architecture: llama.cpp's perplexity must be ours."""
    base = dict(vocab_size=49152, hidden_size=64, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4,
                num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=2048,
                bos_token_id=1, eos_token_id=2)
    llama3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=64)
    longrope = dict(type="longrope", short_factor=[1 + i / 9 for i in range(8)], long_factor=[2.0 + i for i in range(8)])
    cases = {
        "llama": dict(architectures=["LlamaForCausalLM"], model_type="llama"),
        "llama-head-dim": dict(architectures=["LlamaForCausalLM"], model_type="llama", head_dim=32),
        "llama-biases": dict(architectures=["LlamaForCausalLM"], model_type="llama", attention_bias=True, mlp_bias=True),
        "llama3-rope": dict(architectures=["LlamaForCausalLM"], model_type="llama", rope_scaling=llama3),
        "llama-linear": dict(architectures=["LlamaForCausalLM"], model_type="llama",
                             rope_scaling=dict(type="linear", factor=4.0)),
        "llama-yarn": dict(architectures=["LlamaForCausalLM"], model_type="llama", rope_scaling=dict(
            rope_type="yarn", factor=4.0, original_max_position_embeddings=64)),
        "mistral": dict(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=None),
        "phi3": dict(architectures=["Phi3ForCausalLM"], model_type="phi3", sliding_window=None),
        "phi3-partial": dict(architectures=["Phi3ForCausalLM"], model_type="phi3", sliding_window=None,
                             partial_rotary_factor=0.75),
        # llama.cpp takes the long factors where the context may be longer than the original one.
        "phi3-longrope": dict(architectures=["Phi3ForCausalLM"], model_type="phi3", sliding_window=None,
                              original_max_position_embeddings=2048, max_position_embeddings=8192, rope_scaling=longrope),
        "qwen2": dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", tie_word_embeddings=True),
        "qwen3": dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", head_dim=32),
        "smollm3": dict(architectures=["SmolLM3ForCausalLM"], model_type="smollm3", tie_word_embeddings=True,
                        no_rope_layers=[1, 1, 1, 0]),
    }
    for name, change in cases.items():
        path = random_model(folder / name, base | change, seed=len(name), scale=2.0)
        for file in ["tokenizer.json", "tokenizer_config.json"]:
            if (data / "tokenizers/smollm2" / file).exists():
                shutil.copy(data / "tokenizers/smollm2" / file, path / file)
        ours = json.loads(run("eval", path, "--perplexity", text, "--window", WINDOW, "--compute", "fp32", "--json")[0])
        run("export", path, "--format", "gguf", "--type", "f32", "--output", folder / f"{name}.gguf")
        model = llama_cpp.Model(folder / f"{name}.gguf")
        nll, count = model.nll(model.tokenize(pathlib.Path(text).read_text()), WINDOW)
        ratio = math.exp(nll - ours["nll"])
        check(count == ours["tokens"] and abs(ratio - 1) < 2e-3, f"{name}: perplexity {ratio}")
        report(model=name, type="f32", perplexity=round(math.exp(nll), 2), ours=round(ours["perplexity"], 2),
               ratio=round(ratio, 6))
        model.close()


def phi4(folder, text, page):
    config = json.loads((data / "phi4/original/config.json").read_text())
    config |= dict(hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=8,
                   num_key_value_heads=2, max_position_embeddings=4096, original_max_position_embeddings=4096)
    # Logits of a spread below 1, as a model that says something has them: perplexity then says how far rounding goes.
    phi = random_model(folder / "phi4-layout", config, scale=0.5)
    shutil.copy(data / "phi4/original/tokenizer.json", phi)
    shutil.copy(data / "phi4/fixed/tokenizer_config.json", phi)
    chats = {"Who are you?": "A swift, made of code.", "What is 2 + 2?": "4, as always.", "Say nothing new.": "The sky is blue."}
    with open(folder / "chats.jsonl", "w") as file:
        for question, answer in chats.items():
            file.write(json.dumps({"messages": [{"role": "user", "content": question},
                                                {"role": "assistant", "content": answer}]}) + "\n")
    words, learned = list(chats), list(chats.values())
    adapter = folder / "by-heart"
    run("tune", phi, "--data", folder / "chats.jsonl", "--output", adapter, "--max-steps", 150, "--batch-size", 3,
        "--gradient-accumulation", 1, "--learning-rate", "3e-3", "--lora-rank", 32, "--compute", "fp32")
    judge("phi4-layout", phi, folder, text, page, words, adapter, learned)
    # The adapter of Phi-3's folder is one of the Llama layout.
    run("convert", phi, "--to", "llama", "--output", folder / "phi4-llama")
    judge("phi4-llama", folder / "phi4-llama", folder, text, page, words, adapter, learned)


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        text, page = folder / "text.txt", folder / "page.txt"
        whole = (data / "sets/wikitext2_valid.txt").read_text()
        text.write_text(whole[:12000])
        page.write_text(whole[30000:34000] + "\n\n\tfor (int i = 0; i < 10; i++) { x[i] += 3.14; }  // naïve  Ångström 中文 🚀\r\n"
                        + "don't WE'LL 1234567890<|im_start|>user<|im_sep|>spaces<|im_end|>end\n")
        short = folder / "short.txt"
        short.write_text(whole[:6000])
        part = sys.argv[5] if len(sys.argv) > 5 else None
        if part in (None, "architectures"):
            architectures(folder, short, data)
        if part in (None, "phi4"):
            phi4(folder, short, page)
        prompts = ["What is the capital of France?", "Name three colours.", "Translate to French: Good morning."]
        if part in (None, "padded"):
            judge("SmolLM2-135M padded", padded(folder), folder, text, page, prompts)
        for kind, words, kinds in [("tuned", [], TYPES), ("dora", ["--use-dora"], ["f32", "f16", "bf16", "q4_k_m"])]:
            if part in (None, kind):
                run("tune", sample, "--data", data / "sets/llamafactory_alpaca_en_demo.json", "--max-steps", 20,
                    "--max-seq-length", 256, "--batch-size", 2, "--gradient-accumulation", 1, "--output", folder / kind, *words)
                judge(f"SmolLM2-135M {kind}", sample, folder, text, page, prompts, adapter=folder / kind, kinds=kinds)
    print(f"{len(failures)} failures", *failures, sep="\n")
    sys.exit(1 if failures else 0)


main()
