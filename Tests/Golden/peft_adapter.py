"""Adapters between PEFT and Swiftlet, both ways, on a tiny random Llama.

python peft_adapter.py write    makes Tests/Golden/peft_adapter (committed; AdapterFileTests reads it)
python peft_adapter.py read DIR loads the adapter that AdapterFileTests writes into DIR when SWIFTLET_ADAPTER_OUT=DIR is
                                set, and compares its logits with those of the golden adapter

Ran with peft 0.21.2, transformers 5.23.0, torch 2.13.0.
"""
import json
import pathlib
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

GOLDEN = pathlib.Path(__file__).parent / "peft_adapter"


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    ).eval()


def write():
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(
        r=3, lora_alpha=6, lora_dropout=0.05, target_modules=names, task_type="CAUSAL_LM", use_rslora=True
    )
    model = get_peft_model(base(), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(GOLDEN)
    (GOLDEN / "README.md").unlink()
    # PEFT writes its set of modules in any order.
    path = GOLDEN / "adapter_config.json"
    text = json.loads(path.read_text())
    text["target_modules"] = names
    path.write_text(json.dumps(text, indent=2))


def read(folder):
    ids = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        plain = base()(ids).logits
        golden = PeftModel.from_pretrained(base(), GOLDEN)(ids).logits
        ours = PeftModel.from_pretrained(base(), folder)(ids).logits
    print("adapter against none:", (golden - plain).abs().max().item())
    print("ours against PEFT's: ", (golden - ours).abs().max().item())
    assert torch.equal(golden, ours) and not torch.allclose(golden, plain)


if sys.argv[1] == "write":
    write()
else:
    read(sys.argv[2])
