#!/usr/bin/env python3
"""Opens a run's event files with TensorBoard and compares them with the run's metrics.jsonl.

Usage: tensorboard_opened.py RUN. Prints one line, or says what differs and exits 1. Seen by tensorboard 2.21.0.
"""

import json
import math
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, TENSORS
from tensorboard.version import VERSION

run = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(run / "tensorboard"), size_guidance={TENSORS: 0, "scalars": 0})
events.Reload()
lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
keys = {
    "train/loss": "loss",
    "train/learning_rate": "learning_rate",
    "train/grad_norm": "grad_norm",
    "train/tokens_per_second": "tokens_per_second",
    "train/tokens": "tokens",
    "train/memory_bytes": "memory_bytes",
    "eval/loss": "eval_loss",
}
tags = events.Tags()
compared = 0
for tag, key in keys.items():
    wanted = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    found = [(event.step, event.value) for event in events.Scalars(tag)] if tag in tags["scalars"] else []
    if [step for step, _ in wanted] != [step for step, _ in found]:
        sys.exit(f"{tag}: steps {[step for step, _ in found]} instead of {[step for step, _ in wanted]}")
    for (step, a), (_, b) in zip(wanted, found):
        if not math.isclose(a, b, rel_tol=1e-6):
            sys.exit(f"{tag}: {b} at step {step} instead of {a}")
    compared += len(found)
if "configuration" not in tags["tensors"]:
    sys.exit("the configuration is not there as text")
answers = 0
for tag in [tag for tag in tags["tensors"] if tag.startswith("answers/")]:
    for event in events.Tensors(tag):
        samples = next(line for line in lines if line["step"] == event.step)["samples"]
        sample = samples[int(tag.split("/")[1]) - 1]
        text = event.tensor_proto.string_val[0].decode()
        if text != f"**{sample['prompt']}**\n\n{sample['answer']}":
            sys.exit(f"{tag} at step {event.step}: {text!r}")
        answers += 1
print(f"TensorBoard {VERSION}: {compared} scalars and {answers} answers of {run} are those of metrics.jsonl")
