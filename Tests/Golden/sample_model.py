"""What transformers and PEFT make of the sample model: golden values of Tests/TrainingTests/SampleModelTests.swift.

sample_model.py logits MODEL_FOLDER      makes sample_logits.json
sample_model.py training MODEL_FOLDER    makes sample_training.json
sample_model.py adapter MODEL_FOLDER DIR compares the logits that the test wrote into DIR (SWIFTLET_ADAPTER_OUT=DIR) with
                                         those of PEFT with the adapter that it wrote there

MODEL_FOLDER holds the sample GGUF's weights, dequantized to fp32. Everything here is fp32.
Ran with transformers 5.23.0, peft 0.21.2, torch 2.13.0.
"""
import json
import pathlib
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, get_linear_schedule_with_warmup

HERE = pathlib.Path(__file__).parent
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS, MICRO_BATCHES, SEQUENCES, LENGTH = 20, 2, 2, 64


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def tokens_of(folder):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    lines = (HERE / "../../Examples/data/swiftlet-persona.jsonl").read_text().splitlines()
    texts = [message["content"] for line in lines for message in json.loads(line)["messages"]]
    return tokenizer("\n".join(texts), add_special_tokens=False)["input_ids"]


def logits(folder):
    tokens = tokens_of(folder)[:64]
    with torch.inference_mode():
        values = load(folder).eval()(input_ids=torch.tensor([tokens])).logits[0]
    positions = [0, 1, 7, 15, 31, 47, 62, 63]
    rows = []
    for position in positions:
        row = values[position]
        # The best tokens, and some from all over the vocabulary.
        ids = row.topk(32).indices.tolist() + list(range(0, row.shape[0], 512))
        rows.append({"position": position, "ids": ids, "logits": [round(row[i].item(), 5) for i in ids]})
    (HERE / "sample_logits.json").write_text(json.dumps({"tokens": tokens, "rows": rows}) + "\n")


class Xoshiro:
    """xoshiro256++ seeded as Sources/Models/RandomSource.swift does it."""

    def __init__(self, seed):
        self.mixer = 0
        self.mixer = seed ^ self.split()
        self.s = [self.split() for _ in range(4)]

    def split(self):
        self.mixer = (self.mixer + 0x9E3779B97F4A7C15) % 2**64
        z = self.mixer
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def uniform(self):
        def rotated(x, k):
            return (x << k | x >> (64 - k)) & (2**64 - 1)

        s = self.s
        result = (rotated((s[0] + s[3]) % 2**64, 23) + s[0]) % 2**64
        t = (s[1] << 17) % 2**64
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], 45)
        return (result >> 11) * 2.0**-53


def initialize(model):
    """A uniform in ±1/√inputs in the order of layers and modules, B zero: Adapter.initialize(seed: 3407)."""
    random = Xoshiro(3407)
    parameters = dict(model.named_parameters())
    for layer in range(model.config.num_hidden_layers):
        for module in MODULES:
            part = "self_attn" if module in MODULES[:4] else "mlp"
            path = f"base_model.model.model.layers.{layer}.{part}.{module}"
            a = parameters[f"{path}.lora_A.default.weight"]
            bound = 1 / a.shape[1] ** 0.5
            values = [(2 * random.uniform() - 1) * bound for _ in range(a.numel())]
            with torch.no_grad():
                a.copy_(torch.tensor(values, dtype=torch.float64).reshape(a.shape))
                parameters[f"{path}.lora_B.default.weight"].zero_()


def training(folder):
    count = STEPS * MICRO_BATCHES * SEQUENCES * LENGTH
    tokens = tokens_of(folder)[:count]
    config = LoraConfig(r=16, lora_alpha=16, lora_dropout=0, target_modules=MODULES, task_type="CAUSAL_LM")
    model = get_peft_model(load(folder), config)
    initialize(model)
    model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=2e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, 5, STEPS)
    batches = torch.tensor(tokens).view(STEPS, MICRO_BATCHES, SEQUENCES, LENGTH)
    losses, norms = [], []
    for step in range(STEPS):
        # The first 8·j tokens of sequence j are not trained on: micro-batches differ in what they count.
        labels = batches[step].clone()
        for index, row in enumerate(labels.view(-1, LENGTH)):
            row[: 8 * index] = -100
        targets = labels[..., 1:]
        trained = (targets != -100).sum()
        total = 0.0
        for micro in range(MICRO_BATCHES):
            output = model(input_ids=batches[step, micro]).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(
                output.reshape(-1, output.shape[-1]), targets[micro].reshape(-1), reduction="sum")
            (loss / trained).backward()
            total += loss.item()
        norms.append(torch.nn.utils.clip_grad_norm_(learned, 1.0).item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total / trained.item())
        print(step, losses[-1], norms[-1], flush=True)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    square = {ab: sum(float(p.detach().double().square().sum()) for n, p in parameters.items() if ab in n)
              for ab in ("lora_A", "lora_B")}
    (HERE / "sample_training.json").write_text(json.dumps({
        "tokens": tokens, "losses": losses, "gradient_norms": norms,
        "norm_of_a": square["lora_A"] ** 0.5, "norm_of_b": square["lora_B"] ** 0.5}) + "\n")


def adapter(folder, directory):
    base = load(folder).eval()
    stored = load_file(f"{directory}/logits.safetensors")["logits"]
    tokens = torch.tensor([json.loads((HERE / "sample_logits.json").read_text())["tokens"]])
    with torch.inference_mode():
        plain = base(input_ids=tokens).logits[0]
        tuned = PeftModel.from_pretrained(base, directory).eval()(input_ids=tokens).logits[0]
    print("relative distance of ours from PEFT's:", ((stored - tuned).norm() / tuned.norm()).item())
    print("relative distance that the adapter makes:", ((plain - tuned).norm() / tuned.norm()).item())


{"logits": logits, "training": training, "adapter": adapter}[sys.argv[1]](*sys.argv[2:])
