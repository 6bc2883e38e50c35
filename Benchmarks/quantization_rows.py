#!/usr/bin/env python3
"""What `Benchmarks/quantization` measured, as it is committed, and as a table.

usage: Benchmarks/quantization_rows.py RAW.jsonl OUT.jsonl MODEL TEXT [MACHINE]

MODEL and TEXT say in words what was quantized and on what. Rows keep the number of layers in 16 bits instead of their names.
Prints mean KL by budget, in brackets how much less than plain NF4's with the nearest codes.
"""
import json
import statistics
import sys

raw, output, model, text = sys.argv[1:5]
head, *rows = [json.loads(line) for line in open(raw)]
machine = (sys.argv[5:] or [head["machine"]])[0]
on = f"DEVICE=cuda JOBS={head['jobs']} " if head.get("device") else ""
command = (f"{on}EVALUATION_TOKENS={head['evaluation_tokens']} CALIBRATION_TOKENS={head['calibration_tokens']} COMPENSATED_TOKENS="
           f"{head['calibration_tokens_of_compensated']} Benchmarks/quantization SWIFTLET MODEL EVALUATION.txt CALIBRATION.txt"
           " RESULTS.jsonl")
plain = next(row["found"]["mean_kl"] for row in rows if row["name"] == "nf4 nearest")
with open(output, "w") as file:
    print(json.dumps({"date": head["date"], "commit": head["commit"], "machine": machine, "device": head.get("device", ""),
                      "command": command, "model": model, "text": text}), file=file)
    for row in rows:
        made, found = row["made"], row["found"]
        line = {"name": row["name"], "options": row["options"], "seconds": row["seconds"], "bytes": made["bytes"],
                "nf4_bytes": made["nf4_bytes"],
                "more_bytes_percent": round(100 * (made["bytes"] / made["nf4_bytes"] - 1), 3), "kept": len(made["kept"])}
        line |= {key: made[key] for key in ["predicted_kl", "finalists"] if key in made}
        line |= {key: round(value, 6) if isinstance(value, float) else value for key, value in found.items()}
        line["less_kl_than_nf4_percent"] = round(100 * (1 - found["mean_kl"] / plain), 2)
        print(json.dumps(line), file=file)


def cell(name):
    found = [row["found"]["mean_kl"] for row in rows if row["name"] == name or row["name"].startswith(f"{name} seed ")]
    if not found:
        return ""
    return f"{statistics.mean(found):.4f} ({100 * (1 - statistics.mean(found) / plain):.0f}%)"


for codes in ["nearest", "searched", "compensated"]:
    if any(codes in row["name"] for row in rows):
        print(f"| {codes} | {cell(f'nf4 {codes}')} | | |")
    for way in ["random", "weight error", "predicted", "dynamic"]:
        cells = [cell(f"{way} {budget}% {codes}") for budget in [5, 10, 20]]
        if any(cells):
            print(f"| {codes}: {way} | | {' | '.join(cells)} |")
