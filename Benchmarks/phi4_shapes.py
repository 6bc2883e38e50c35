"""Models of Phi-4's true tensor shapes with few layers go through swiftlet: time, bytes per second, peak memory.

phi4_shapes.py SWIFTLET FILES FOLDER [--layers N] [--steps convert,back,tune|adapter,merge,gguf,copy] [--types q8_0,q4_k_m]
               [--data FILE] [--judge TEXT]

FILES holds Phi-4's config.json and tokenizer files; the weights are random bf16 in shards of 5 GB, so that only the path is
tested, not what a model says. FOLDER, which should lie on the disk to be measured, is filled and left. Prints a JSON object
for each step; `copy` is `cp` and a sync of the same files, the speed of the disk itself. Source files are put out of the
page cache before each step. With --judge, llama.cpp loads each GGUF, and its perplexity on a text must be near ours of the
model with its adapter. `adapter` draws one of rank 16 on all projections where `tune` would take too long. Needs numpy; with
--judge, xllamacpp.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy

parser = argparse.ArgumentParser()
parser.add_argument("swiftlet")
parser.add_argument("files", type=pathlib.Path)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--steps", default="copy,convert,back,merge,tune")
parser.add_argument("--data", type=pathlib.Path)
parser.add_argument("--types", default="f16,q8_0,q4_k_m")
parser.add_argument("--judge", type=pathlib.Path)
options = parser.parse_args()

HIDDEN, INNER, HEADS, KEYS, WIDTH, VOCABULARY = 5120, 17920, 40, 10, 128, 100352


def shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(options.layers):
        path = f"model.layers.{layer}"
        yield f"{path}.input_layernorm.weight", (HIDDEN,)
        yield f"{path}.self_attn.qkv_proj.weight", ((HEADS + 2 * KEYS) * WIDTH, HIDDEN)
        yield f"{path}.self_attn.o_proj.weight", (HIDDEN, HEADS * WIDTH)
        yield f"{path}.post_attention_layernorm.weight", (HIDDEN,)
        yield f"{path}.mlp.gate_up_proj.weight", (2 * INNER, HIDDEN)
        yield f"{path}.mlp.down_proj.weight", (HIDDEN, INNER)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def bf16(values):
    bits = values.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def make(folder):
    folder.mkdir(parents=True)
    for file in options.files.iterdir():
        shutil.copy(file, folder / file.name)
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = options.layers
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    random = numpy.random.default_rng(3407)
    # A prime count, so that no two rows are alike.
    noise = random.standard_normal(16_777_259)
    shards, size = [[]], 0
    for name, shape in shapes():
        count = 2 * int(numpy.prod(shape))
        if size and size + count > 5_000_000_000:
            shards.append([])
            size = 0
        shards[-1].append((name, shape, count))
        size += count
    places = {}
    for index, shard in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        header, end = {}, 0
        for name, shape, count in shard:
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + count]}
            places[name] = file
            end += count
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for name, shape, count in shard:
                scale = 1 if "embed" in name else shape[-1] ** -0.5
                values = bf16(numpy.ones(shape)) if len(shape) == 1 else bf16(noise * scale)
                left, start = count // 2, int(random.integers(len(values))) if len(shape) > 1 else 0
                while left:
                    piece = values[start : start + left]
                    out.write(piece.tobytes())
                    left, start = left - len(piece), 0
            out.flush()
            os.fsync(out.fileno())
    total = sum(count for shard in shards for _, _, count in shard)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2))


def draw_adapter(folder):
    folder.mkdir()
    random, rank = numpy.random.default_rng(1), 16
    header, data = {}, []
    for layer in range(options.layers):
        for part, outputs, inputs in [
            ("self_attn.q_proj", HEADS * WIDTH, HIDDEN), ("self_attn.k_proj", KEYS * WIDTH, HIDDEN),
            ("self_attn.v_proj", KEYS * WIDTH, HIDDEN), ("self_attn.o_proj", HIDDEN, HEADS * WIDTH),
            ("mlp.gate_proj", INNER, HIDDEN), ("mlp.up_proj", INNER, HIDDEN), ("mlp.down_proj", HIDDEN, INNER),
        ]:
            for half, shape in [("A", (rank, inputs)), ("B", (outputs, rank))]:
                values = (0.01 * random.standard_normal(shape)).astype(numpy.float32).tobytes()
                end = sum(map(len, data))
                header[f"base_model.model.model.layers.{layer}.{part}.lora_{half}.weight"] = {
                    "dtype": "F32", "shape": shape, "data_offsets": [end, end + len(values)]}
                data.append(values)
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank}))


def weights(folder):
    return sorted(folder.glob("*.safetensors"))


def stored(folder):
    """The bytes of each tensor."""
    found = {}
    for file in weights(folder):
        data = numpy.memmap(file, mode="r", dtype=numpy.uint8)
        length = int.from_bytes(data[:8].tobytes(), "little")
        for name, entry in json.loads(data[8 : 8 + length].tobytes()).items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                found[name] = data[8 + length + start : 8 + length + end]
    return found


def forget(folder):
    """Puts the files out of the page cache."""
    for file in weights(folder):
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def size_of(path):
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in weights(path))


def timed(name, words, source, output=None, **more):
    if output is not None and output.exists():
        output.unlink() if output.is_file() else shutil.rmtree(output)
    forget(source)
    began = time.monotonic()
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE)
    text = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    assert status == 0, f"{name} failed"
    size = size_of(source)
    row = {"name": name, "commit": os.environ.get("SWIFTLET_COMMIT", "unknown"), "layers": options.layers, "bytes": size,
           "seconds": round(seconds, 2), "megabytes_per_second": round(size / seconds / 1e6),
           "peak_bytes": usage.ru_maxrss * 1024, "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2), **more}
    if output is not None and output.exists():
        row["written_bytes"] = size_of(output)
    if name == "tune":
        row["summary"] = json.loads(text)
    print(json.dumps(row), flush=True)


def main():
    home, steps = options.folder, options.steps.split(",")
    source, llama, run = home / "phi4", home / "llama", home / "run"
    if not source.exists():
        # In a process of its own: what this one has taken would count as its children's.
        child = os.fork()
        if child == 0:
            make(source)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, "the model could not be made"
    swiftlet = options.swiftlet
    if "copy" in steps:
        timed("copy", ["sh", "-c", f"mkdir '{home}/copy' && cp '{source}'/*.safetensors '{home}/copy' && sync '{home}/copy'/*"],
              source, home / "copy")
        shutil.rmtree(home / "copy")
    if "convert" in steps:
        timed("convert --to llama", [swiftlet, "convert", source, "--to", "llama", "--output", llama], source, llama)
    if "back" in steps:
        timed("convert --to phi3", [swiftlet, "convert", llama, "--to", "phi3", "--output", home / "back"], llama,
              home / "back")
        before, after = stored(source), stored(home / "back")
        assert before.keys() == after.keys()
        assert all(numpy.array_equal(before[name], after[name]) for name in before), "other bytes"
        shutil.rmtree(home / "back")
    if "tune" in steps:
        timed("tune", [swiftlet, "tune", llama, "--data", options.data, "--output", run, "--max-steps", "2",
                       "--batch-size", "1", "--gradient-accumulation", "1", "--max-seq-length", "256", "--packing",
                       "--json"], llama, run, tokens_per_step=256)
    if "adapter" in steps and not run.exists():
        draw_adapter(run)
    adapted = ["--adapter", run] if run.exists() else []
    if "merge" in steps:
        merged = home / "merged"
        timed("export --format merged", [swiftlet, "export", llama, *adapted, "--format", "merged", "--output", merged], llama,
              merged)
        shutil.rmtree(merged)
    if "gguf" in steps:
        ours = perplexity(llama, adapted) if options.judge else None
        for kind in options.types.split(","):
            path = home / f"{kind}.gguf"
            timed(f"export --format gguf --type {kind}",
                  [swiftlet, "export", llama, *adapted, "--format", "gguf", "--type", kind, "--output", path], llama, path)
            if options.judge:
                judge(path, ours)
            path.unlink()
            (home / "Modelfile").unlink()


def perplexity(model, adapted):
    words = [options.swiftlet, "eval", model, *adapted, "--perplexity", options.judge, "--window", "64", "--compute", "fp32",
             "--json"]
    return json.loads(subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout)


def judge(path, ours):
    sys.path.append(str(pathlib.Path(__file__).parent.parent / "Tests" / "Comparison"))
    import llama_cpp

    model = llama_cpp.Model(path)
    nll, count = model.nll(model.tokenize(options.judge.read_text()), 64)
    model.close()
    assert count == ours["tokens"], (count, ours)
    print(json.dumps({"name": f"llama.cpp on {path.name}", "layers": options.layers, "tokens": count, "nll": round(nll, 5),
                      "ours": round(ours["nll"], 5), "ratio": round(float(numpy.exp(nll - ours["nll"])), 6)}), flush=True)

main()
