"""What merging keeps of a tuning: python merging.py SWIFTLET MODEL.gguf FOLDER [--epochs N] [--questions N] [--compute TYPE].

The sample model as a bf16 folder is tuned on Examples/data; then the adapter is added to the weights as f32, f16 and bf16.
For the adapter and each merged model: the loss on held-out chats, and greedy answers to their first questions compared with
the adapter's. For each type also how much of the adapters' change Δ of the weights is left: `kept` is the part of what
changed that points along Δ (1: all of it), `noise` the size of the rest, both relative to Δ; `swallowed` the share of
weights that did not change at all. `bf16, drawn` is no type of Swiftlet's: the sum rounded up or down at random, so that its
mean is kept (stochastic rounding). With fp32, the default here, the model computes as its weights are stored; bf16 would round
all of them again. JSON lines. Needs numpy and safetensors.
"""
import argparse
import json
import pathlib
import shutil
import subprocess

import numpy
from safetensors.numpy import load_file

parser = argparse.ArgumentParser()
parser.add_argument("swiftlet")
parser.add_argument("model")
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--epochs", default="3")
parser.add_argument("--questions", type=int, default=40)
parser.add_argument("--compute", default="fp32")
options = parser.parse_args()
DATA = pathlib.Path(__file__).parent.parent / "Examples" / "data"
EVAL = DATA / "swiftlet-persona-eval.jsonl"


def run(*words):
    words = [*map(str, words)] + (["--compute", options.compute] if words[0] in ("generate", "tune") else [])
    result = subprocess.run([options.swiftlet, *words], text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def answers(*words):
    found = []
    for line in EVAL.read_text().splitlines()[: options.questions]:
        question = json.loads(line)["messages"][0]["content"]
        text = run("generate", *words, "--prompt", question, "--temperature", "0", "--max-tokens", "60", "--json")
        found.append(json.loads(text)["text"])
    return found


def loss(*words):
    """The loss on the held-out chats before the first step."""
    output = options.folder / "throwaway"
    summary = json.loads(run("tune", *words, "--data", DATA / "swiftlet-persona.jsonl", "--eval-data", EVAL, "--output", output,
                             "--max-steps", "1", "--batch-size", "1", "--gradient-accumulation", "1", "--json"))
    subprocess.run(["rm", "-r", output], check=True)
    return summary["eval_before"]


def tensors(folder):
    def widened(values):
        return (values.astype(numpy.uint32) << 16).view(numpy.float32) if values.dtype == numpy.uint16 else values

    # safetensors reads bf16 into numpy as 16-bit words only by its own type.
    found = {}
    data = numpy.memmap(folder / "model.safetensors", mode="r", dtype=numpy.uint8)
    length = int.from_bytes(data[:8].tobytes(), "little")
    for name, entry in json.loads(data[8 : 8 + length].tobytes()).items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            kind = {"BF16": numpy.uint16, "F16": numpy.float16, "F32": numpy.float32}[entry["dtype"]]
            values = numpy.frombuffer(data[8 + length + start : 8 + length + end].tobytes(), kind)
            found[name] = widened(values).astype(numpy.float64).reshape(entry["shape"])
    return found


def changes(base, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    halves = load_file(adapter / "adapter_model.safetensors")
    for name, a in halves.items():
        if ".lora_A." in name:
            b = halves[name.replace("lora_A", "lora_B")].astype(numpy.float64)
            yield (name.removeprefix("base_model.model.").replace(".lora_A", ""),
                   b @ a.astype(numpy.float64) * config["lora_alpha"] / config["r"])


def draw(exact, output):
    """The folder of fp32 weights in bf16, each rounded up or down as likely as it is near."""
    shutil.copytree(exact, output)
    random = numpy.random.default_rng(3407)
    path = output / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", entry
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            bits = numpy.frombuffer(data, numpy.uint32, (end - start) // 4, start)
            drawn = (bits.astype(numpy.uint64) + random.integers(0, 1 << 16, len(bits), numpy.uint64)) & 0xFFFF0000
            data[start:end] = drawn.astype(numpy.uint32).tobytes()
    path.write_bytes(data)


def main():
    options.folder.mkdir(parents=True, exist_ok=True)
    base, tuned = options.folder / "base", options.folder / "run"
    if not base.exists():
        run("convert", options.model, "--to", "llama", "--type", "bf16", "--output", base)
    if not tuned.exists():
        run("tune", base, "--data", DATA / "swiftlet-persona.jsonl", "--eval-data", EVAL, "--output", tuned, "--epochs",
            options.epochs)
    wanted = answers(base, "--adapter", tuned)
    plain = answers(base)
    print(json.dumps({"name": "base", "eval_loss": loss(base),
                      "same_answers": sum(a == b for a, b in zip(plain, wanted)), "questions": len(wanted)}), flush=True)
    print(json.dumps({"name": "adapter", "eval_loss": loss(base, "--adapter", tuned), "same_answers": len(wanted),
                      "questions": len(wanted)}), flush=True)
    weights = tensors(base)
    delta = dict(changes(base, tuned))
    for kind in ["f32", "f16", "bf16", "bf16, drawn"]:
        merged = options.folder / kind
        if merged.exists():
            pass
        elif kind == "bf16, drawn":
            draw(options.folder / "f32", merged)
        else:
            run("export", base, "--adapter", tuned, "--format", "merged", "--type", kind, "--output", merged)
        found = tensors(merged)
        along = size = rest = same = count = 0
        for name, change in delta.items():
            made = found[name] - weights[name]
            along += (made * change).sum()
            size += (change * change).sum()
            same += (made == 0).sum()
            count += made.size
        kept = along / size
        for name, change in delta.items():
            rest += ((found[name] - weights[name] - kept * change) ** 2).sum()
        got = answers(merged)
        print(json.dumps({
            "name": f"merged {kind}", "eval_loss": loss(merged), "same_answers": sum(a == b for a, b in zip(got, wanted)),
            "questions": len(wanted), "kept": round(float(kept), 5), "noise": round(float((rest / size) ** 0.5), 5),
            "swallowed": round(float(same / count), 4)}), flush=True)


main()
