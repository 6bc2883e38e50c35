"""Makes the golden values of the mask tests: what transformers takes for the assistant's where a template says it.

    python Tests/Golden/make_masks.py

The templates are ours, in the manner of the families that they are named after; each marks the assistant's part, with the
token that ends the turn, by `{% generation %}`. Without the marks the same mask must be found from the template itself.

Made with transformers 5.23.0, tokenizers 0.23.3, Jinja2 3.1.6.
"""

import json
import os
import tempfile

import tokenizers
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|start|>", "<|stop|>", "<|user|>", "<|assistant|>", "<|eot|>", "<turn>", "</turn>", "[INST]", "[/INST]", "[CALLS]", "[RESULTS]", "<|call|>", "<|channel|>", "<|message|>", "<|return|>"]

G, E = "{% generation %}", "{% endgeneration %}"
CALLS = "{% for c in m.tool_calls or [] %}{{ '<call>' + (c.function | tojson) + '</call>' }}{% endfor %}"
TEMPLATES = {
    "phi4": "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' }}{% if m.role == 'assistant' %}" + G + "{{ m.content + '<|im_end|>' }}" + E + "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}" + G + "{{ m.content or '' }}" + CALLS + "{{ '<|im_end|>' }}" + E + "{{ '\\n' }}{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "llama3": "{% set all = messages %}{{ bos_token }}{% for m in all %}{{ '<|start|>' + m.role + '<|stop|>\\n\\n' }}{% if m.role == 'assistant' %}" + G + "{{ (m.content or '') | trim }}" + CALLS + "{{ '<|eot|>' }}" + E + "{% else %}{{ m.content | trim + '<|eot|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\\n\\n' }}{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}" + G + "{% if m.tool_calls %}{{ '[CALLS] [' }}" + CALLS + "{{ ']' }}{% else %}{{ ' ' + m.content }}{% endif %}{{ eos_token }}" + E + "{% elif m.role == 'tool' %}{{ '[RESULTS] ' + m.content }}{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}",
    "qwen3": "{% set ns = namespace(last=messages | length - 1, open=true) %}{% for m in messages[::-1] %}{% if ns.open and m.role == 'user' %}{% set ns.open = false %}{% set ns.last = messages | length - 1 - loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% set content = m.content or '' %}{% set reasoning = m.reasoning_content or '' %}{% if '</think>' in content %}{% set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}" + G + "{% if loop.index0 > ns.last and (loop.last or reasoning) %}{{ '<think>\\n' + reasoning + '\\n</think>\\n\\n' }}{% endif %}{{ content }}" + CALLS + "{{ '<|im_end|>' }}" + E + "{{ '\\n' }}{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "deepseek": "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>' }}" + G + "{{ (m.content or '').split('</think>')[-1] }}" + CALLS + "{{ eos_token }}" + E + "{% elif m.role == 'user' %}{{ '<|user|>' + m.content }}{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}",
    "gemma": "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}{{ '<turn>' + role + '\\n' }}{% if role == 'model' %}" + G + "{{ (m.content or '') | trim }}" + CALLS + "{{ '</turn>' }}" + E + "{{ '\\n' }}{% else %}{{ m.content | trim + '</turn>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif %}",
    "zephyr": "{% for m in messages %}{{ '<|' + m.role + '|>\\n' }}{% if m.role == 'assistant' %}" + G + "{{ m.content + eos_token }}" + E + "{{ '\\n' }}{% else %}{{ m.content + eos_token + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
    "alpaca": "{% for m in messages %}{% if m.role == 'assistant' %}{{ '### Response:\\n' }}" + G + "{{ m.content + eos_token }}" + E + "{{ '\\n\\n' }}{% elif m.role == 'system' %}{{ m.content + '\\n\\n' }}{% else %}{{ '### Instruction:\\n' + m.content + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
    "alpaca without request": "{% for m in messages %}{% if m.role == 'assistant' %}{{ '### Response:\\n' }}" + G + "{{ m.content + eos_token }}" + E + "{{ '\\n\\n' }}{% else %}{{ '### Instruction:\\n' + m.content + '\\n\\n' }}{% endif %}{% endfor %}",
    "chatml without request": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}" + G + "{{ m.content or '' }}" + CALLS + "{{ '<|im_end|>' }}" + E + "{{ '\\n' }}{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}",
    "always open": "{% for m in messages %}{% if m.role == 'assistant' %}" + G + "{{ m.content + '<|im_end|>' }}" + E + "{% elif m.role == 'user' %}{{ '<|im_start|>user<|im_sep|>' + m.content + '<|im_end|><|im_start|>assistant<|im_sep|>' }}{% else %}{{ '<|im_start|>system<|im_sep|>' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}",
    "vicuna": "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'ASSISTANT:' }}" + G + "{{ ' ' + m.content + eos_token }}" + E + "{% elif m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}{% else %}{{ m.content + ' ' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
    "harmony": "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|start|>assistant' }}" + G + "{% if m.tool_calls %}{{ '<|channel|>commentary<|message|>' }}" + CALLS + "{{ '<|call|>' }}{% elif loop.last %}{{ '<|channel|>final<|message|>' + m.content + '<|return|>' }}{% else %}{{ '<|channel|>final<|message|>' + m.content + '<|stop|>' }}{% endif %}" + E + "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|stop|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
}


def user(text):
    return {"role": "user", "content": text}


def bot(text, **more):
    return {"role": "assistant", "content": text, **more}


CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": "é"}}}
ODD = "x<|im_end|>\n<|im_start|>user\nfake<|eot|></turn></s>[/INST]<|im_start|>assistant\ny"
CONVERSATIONS = {
    "one": [user("Hi"), bot("Hello there.")],
    "many": [m for i in range(5) for m in (user(f"question {i}"), bot(f"answer {i}"))],
    "same words": [user("Hello"), bot("Hello"), user("Hello"), bot("Hello")],
    "system": [{"role": "system", "content": "Be brief."}, user("Hi"), bot("Yes?"), user("No."), bot("Well.")],
    "special tokens within": [user(ODD), bot(ODD), user("z"), bot("w " + ODD + " v")],
    "empty": [user("q"), bot(""), user("r"), bot("s")],
    "unicode": [user("Grüße 🙂"), bot("日本語 👩‍👩‍👧 e\u0301"), user("é"), bot("\u2028x\u00a0")],
    "spaces": [user(" a "), bot("  b\nc  "), user("d\n"), bot("\n\ne")],
    "two answers": [user("q"), bot("first"), bot("second"), user("r"), bot("third")],
    "thoughts": [user("q"), bot("<think>\nhm\n</think>\n\nanswer"), user("r"), bot("<think>\nso\n</think>\n\nlast")],
    "reasoning": [user("q"), bot("answer", reasoning_content="hm"), user("r"), bot("last", reasoning_content="so")],
    "calls": [user("q"), bot("", tool_calls=[CALL]), {"role": "tool", "content": "3"}, bot("It is 3."), user("Thanks"), bot("No problem.")],
    "call and words": [user("q"), bot("Let me see.", tool_calls=[CALL, CALL]), {"role": "tool", "content": "3"}, bot("It is 3.")],
    "call without content": [user("q"), {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "3"}, bot("It is 3.")],
}


def tokenizer():
    """The small tokenizer of the tests with more special tokens."""
    golden = json.load(open(os.path.join(HERE, "tokenization", "encodings.json"), encoding="utf-8"))
    kind = next(k for k in golden["kinds"] if k["name"] == "bytes_cl100k")
    data = dict(kind["rest"])
    data["model"] = json.load(open(os.path.join(HERE, "tokenization", f"model_{kind['model']}.json"), encoding="utf-8"))
    known = {t["content"] for t in data["added_tokens"]}
    plain = {"special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    # Without holes: `tokenizers` counts on from the last id.
    first = max([*data["model"]["vocab"].values(), *(t["id"] for t in data["added_tokens"])]) + 1
    data["added_tokens"] = data["added_tokens"] + [{"id": first + i, "content": c, **plain} for i, c in enumerate(c for c in SPECIAL if c not in known)]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(data, file)
        file.flush()
        return transformers.PreTrainedTokenizerFast(tokenizer_file=file.name, bos_token="<s>", eos_token="</s>"), data["added_tokens"]


def main():
    tok, added = tokenizer()
    cases = []
    for name, template in TEMPLATES.items():
        for kind, messages in CONVERSATIONS.items():
            if "calls" in kind or "call" in kind:
                if "tool_calls" not in template:
                    continue
            result = tok.apply_chat_template(messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
            mask = result["assistant_masks"]
            for place, (token, learned) in enumerate(zip(result["input_ids"], mask)):
                # transformers counts the white space that a token of the header takes in as that token's, and so marks the
                # header where an answer begins with a blank.
                if learned and not mask[place - 1] and tok.convert_ids_to_tokens(token) == "<|im_sep|>":
                    mask[place] = 0
            cases.append({"template": name, "messages": messages, "kind": kind, "ids": result["input_ids"], "mask": "".join(map(str, mask))})
    with open(os.path.join(HERE, "masks.json"), "w", encoding="utf-8") as file:
        file.write('{"added_tokens":' + json.dumps(added) + ',\n"templates":' + json.dumps(TEMPLATES, indent=0) + ',\n"cases":[\n')
        file.write(",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases) + "\n]}\n")
    print(len(cases), "cases; transformers", transformers.__version__, "tokenizers", tokenizers.__version__)


if __name__ == "__main__":
    main()
