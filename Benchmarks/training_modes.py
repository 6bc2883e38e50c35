#!/usr/bin/env python3
"""Trains a real model in every way that `swiftlet tune` has, some steps each, and says what became of the losses.

Usage: training_modes.py SWIFTLET MODEL QUESTIONS PAIRS [STEPS [NAME...]]. QUESTIONS: GSM8K's train.jsonl; PAIRS: a file of
`chosen` and `rejected`. Prints a JSON object a line: held-out loss before and after, mean training loss of the first and the
last five steps, tokens/s, most memory, the longest time that a step waited for a save. Exits 1 where a held-out loss has not
fallen.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

swiftlet, model, questions, pairs = sys.argv[1:5]
steps = int(sys.argv[5]) if len(sys.argv) > 5 else 30
chosen = sys.argv[6:]
MODES = {
    "lora": [],
    "lora, fp32": ["--compute", "fp32"],
    "rslora": ["--use-rslora"],
    "lora+": ["--loraplus-ratio", "4"],
    "dora": ["--use-dora"],
    "dora, dropout": ["--use-dora", "--lora-dropout", "0.05"],
    "lora, dropout": ["--lora-dropout", "0.05"],
    "8-bit adamw": ["--optimizer", "adamw8bit"],
    "wsd": ["--lr-scheduler", "wsd"],
    "cosine": ["--lr-scheduler", "cosine"],
    "ema": ["--ema-decay", "0.9"],
    "neftune": ["--neftune-alpha", "5"],
    "packing": ["--packing", "--batch-size", "1"],
    "nf4": ["--quantization", "nf4"],
    "full": ["--full", "--learning-rate", "3e-5"],
    "full, 8-bit adamw": ["--full", "--learning-rate", "3e-5", "--optimizer", "adamw8bit"],
    "full, ema": ["--full", "--learning-rate", "3e-5", "--ema-decay", "0.9"],
    "dpo": ["--method", "dpo", "--learning-rate", "5e-5"],
    "dpo, dora": ["--method", "dpo", "--use-dora", "--learning-rate", "5e-5"],
    "orpo": ["--method", "orpo", "--learning-rate", "1e-4"],
    "orpo, full": ["--method", "orpo", "--full", "--learning-rate", "1e-5"],
}


def run(name, options, folder):
    learns_pairs = "--method" in options
    data = [str(folder / "pairs.jsonl"), str(folder / "held-out-pairs.jsonl")] if learns_pairs else [
        str(folder / "questions.jsonl"), str(folder / "held-out.jsonl")]
    output = folder / name.replace(" ", "").replace(",", "-")
    command = [
        swiftlet, "tune", model, "--data", data[0], "--eval-data", data[1], "--output", str(output), "--max-steps", str(steps),
        "--batch-size", "4", "--gradient-accumulation", "1", "--max-seq-length", "512", "--learning-rate", "5e-4",
        "--save-steps", str(steps // 3), "--save-limit", "1", "--quiet", "--json"] + options
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        return {"name": name, "error": result.stderr.strip().splitlines()[-1]}
    summary = json.loads(result.stdout)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line.get("loss") is not None]
    row = {
        "name": name, "options": " ".join(options), "steps": summary["steps"],
        "eval_before": round(summary["eval_before"], 4), "eval_after": round(summary["eval_after"], 4),
        "first_losses": round(sum(losses[:5]) / 5, 4), "last_losses": round(sum(losses[-5:]) / 5, 4),
        "grad_norm": round(lines[-1]["grad_norm"], 4), "tokens_per_second": round(summary["tokens_per_second"], 1),
        "peak_gib": round(summary["peak_bytes"] / 2**30, 2),
        "longest_save_stall": round(summary.get("longest_save_stall", 0), 3),
        "skipped": summary["skipped_steps"], "spikes": summary["loss_spikes"],
    }
    if learns_pairs:
        row["reward_accuracy"] = [line["reward_accuracy"] for line in lines if "reward_accuracy" in line][-1]
        row["reward_margin"] = round([line["reward_margin"] for line in lines if "reward_margin" in line][-1], 4)
    return row


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    lines = pathlib.Path(questions).read_text().splitlines(keepends=True)
    (folder / "questions.jsonl").write_text("".join(lines[: 4 * steps]))
    (folder / "held-out.jsonl").write_text("".join(lines[-32:]))
    records = json.loads(pathlib.Path(pairs).read_text())
    # The shorter ones: a step holds eight answers.
    records = [r for r in records if sum(len(m["value"]) for m in r["conversations"] + [r["chosen"], r["rejected"]]) < 1200]
    records = [json.dumps(r) + "\n" for r in records]
    (folder / "pairs.jsonl").write_text("".join(records[:-16]))
    (folder / "held-out-pairs.jsonl").write_text("".join(records[-16:]))
    failed = False
    for name in chosen or MODES:
        row = run(name, MODES[name], folder)
        print(json.dumps(row), flush=True)
        failed |= not row.get("eval_after", float("inf")) < row.get("eval_before", 0)
    sys.exit(1 if failed else 0)
