"""Learning rates of transformers' schedulers, printed as the Swift literals of LearningRateScheduleTests.

Ran with transformers 5.23.0, torch 2.13.0.  Usage: python schedules.py
"""
import textwrap

import torch
from transformers.optimization import get_scheduler

PEAK, TOTAL = 2e-4, 20
for name, warmup, extra in [
    ("linear", 5, {}),
    ("linear", 0, {}),
    ("cosine", 5, {}),
    ("cosine_with_min_lr", 3, {"min_lr_rate": 0.1}),
    ("polynomial", 3, {"lr_end": 0.1 * PEAK, "power": 1.0}),  # linear with a minimum
    ("constant_with_warmup", 5, {}),
    ("constant", 0, {}),
    ("linear", 30, {}),  # a warm-up longer than the run
    ("warmup_stable_decay", 5, {"num_decay_steps": 6}),
]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=TOTAL, scheduler_specific_kwargs=extra
    )
    rates = []
    for _ in range(TOTAL):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    print(f"    // {name}, warm-up {warmup}, {extra}")
    text = ", ".join(f"{rate:.9g}" for rate in rates)
    print(textwrap.fill("[" + text + "],", 116, initial_indent="    ", subsequent_indent="     "))
