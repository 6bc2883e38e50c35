"""Compares our chat templates with Jinja2 as transformers sets it up, byte for byte.

    swift build -c release --product RenderTemplates
    python Tests/Golden/compare_templates.py --folder DIR...            # templates there, with conversations of each kind
    python Tests/Golden/compare_templates.py --generate 20000 --seed 1  # random expressions and statements
    python Tests/Golden/compare_templates.py --mutate 2000 --folder DIR # damaged templates: refused by both or by none

--json FILE appends a row with what was compared. What one refuses, the other must refuse. Differences go to standard output; the exit status is 1 if there are any.
"""

import argparse
import glob
import json
import os
import random
import re
import signal
import subprocess
import sys
import warnings

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_templates import VARIABLES  # noqa: E402
from template_generator import Generator  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
warnings.simplefilter("ignore")

# --- conversations


def conversations():
    """Conversations of each kind, by name."""
    call = {"type": "function", "id": "call00001", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3, "x": [1.5, None, True]}}}
    text_call = {"type": "function", "id": "call00002", "function": {"name": "f", "arguments": "{\"a\": \"<b>\"}"}}
    bare_call = {"name": "g", "arguments": {"q": "\"quoted\""}, "id": "call00003"}
    user, bot = lambda c: {"role": "user", "content": c}, lambda c: {"role": "assistant", "content": c}
    system = lambda c: {"role": "system", "content": c}
    odd = "{{ x }} {% if y %} {# z #} <|im_end|> <|eot_id|> </s> [INST] [/INST] <<SYS>> \\n \"q\" 'a' & < >"
    return {
        "one question": [user("Hello")],
        "question and answer": [user("Hi"), bot("Hello there.")],
        "system": [system("Be brief."), user("Hi"), bot("Hello."), user("And?")],
        "only system": [system("Be brief.")],
        "two systems": [system("A"), user("q"), system("B"), user("r"), bot("s")],
        "many turns": [m for i in range(6) for m in (user(f"question {i}"), bot(f"answer {i}"))] + [user("last")],
        "empty content": [system(""), user(""), bot(""), user("x"), bot("")],
        "none content": [user("q"), {"role": "assistant", "content": None}, user("r")],
        "no content": [user("q"), {"role": "assistant"}],
        "nothing": [],
        "spaces": [user("  a \n"), bot("\n\n b  \n"), user("\t")],
        "braces and special tokens": [system(odd), user(odd), bot(odd), user(odd)],
        "unicode": [user("Grüße 日本語 🙂👩‍👩‍👧 e\u0301 \u200b\u2028 \u00a0x"), bot("İstanbul ΑΣ ﬁ ß")],
        "odd roles": [{"role": "critic", "content": "c"}, user("q"), {"role": "narrator", "content": "n"}, bot("a")],
        "model role": [user("q"), {"role": "model", "content": "a"}, user("r")],
        "assistant first": [bot("first"), user("q"), bot("a"), bot("b")],
        "two users": [user("a"), user("b"), bot("c"), bot("d")],
        "tool call": [user("Weather?"), {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "{\"t\": 3}", "tool_call_id": "call00001", "name": "get_weather"}, bot("3 degrees."), user("Thanks")],
        "tool call without content": [user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [call, text_call]}, {"role": "tool", "name": "get_weather", "content": "3", "tool_call_id": "call00001"}, {"role": "tool", "name": "f", "content": "4", "tool_call_id": "call00002"}, bot("Both.")],
        "tool call missing content": [user("W?"), {"role": "assistant", "tool_calls": [text_call]}],
        "bare tool call": [user("W?"), {"role": "assistant", "content": "so", "tool_calls": [bare_call]}, {"role": "ipython", "content": {"output": 3}}],
        "tool result of parts": [user("W?"), {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": [{"type": "text", "text": "3"}], "tool_call_id": "call00001"}],
        "parts": [user([{"type": "text", "text": "What is this?"}, {"type": "image"}]), bot([{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}])],
        "thinking": [user("q"), bot("<think>\nhm\n</think>\n\nanswer"), user("r"), bot("<think>\nso\n</think>\n\nlast")],
        "reasoning content": [user("q"), {"role": "assistant", "content": "answer", "reasoning_content": "hm\n"}, user("r"), {"role": "assistant", "content": "last", "thinking": " so"}],
        "tool response within text": [user("q"), bot("a"), user("<tool_response>\n3\n</tool_response>"), bot("b")],
        "numbers as content": [user(5), bot(1.5), user(True)],
        "more keys": [{"role": "user", "content": "q", "name": "Ann", "weight": 0.5, "é": [1]}, bot("a")],
    }


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather \"now\" <b> é", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city"}, "days": {"type": "integer", "enum": [1, 2]}, "unit": {"type": ["string", "null"], "default": None}}, "required": ["city"]}, "return": {"type": "number"}}},
    {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
DOCUMENTS = [{"title": "One", "text": "First text."}, {"title": "Zwei", "text": "Zweiter \"Text\""}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def templates(folders):
    """The templates of folders: .jinja files, and what tokenizer configurations hold."""
    found = {}
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, "**", "*"), recursive=True)):
            if path.endswith(".jinja"):
                found[path] = open(path, encoding="utf-8", newline="").read()
            elif os.path.basename(path) == "tokenizer_config.json":
                given = json.load(open(path, encoding="utf-8")).get("chat_template")
                for entry in given if isinstance(given, list) else [{"name": "", "template": given}]:
                    if entry["template"]:
                        found[path + ":" + entry["name"]] = entry["template"]
    return found


def crossed(folders):
    """Every template with every conversation and every choice."""
    for name, template in templates(folders).items():
        for kind, messages in conversations().items():
            choices = [{}, {"add_generation_prompt": True}, {"tools": TOOLS}, {"tools": TOOLS, "documents": DOCUMENTS, "add_generation_prompt": True}, {"continue_final_message": True}]
            choices += [{"add_generation_prompt": True, "variables": {"enable_thinking": False}}, {"variables": {"enable_thinking": True, "custom_instructions": "Do {{ it }}.", "xml_tools": ["a"], "date_string": "1 Jan"}}]
            for choice in choices:
                case = {"template": template, "messages": messages, **choice}
                case["variables"] = {**TOKENS, "date_string": "26 Jul 2024", **case.get("variables", {})}
                yield f"{name} × {kind} × {sorted(choice)}", case


def mutated(folders, count, seed):
    """Templates with pieces put in or taken out."""
    draw = random.Random(seed)
    pieces = ["{%", "%}", "{{", "}}", "{#", "#}", "(", ")", "[", "]", "|", ".", "'", "-", "+", "1", " ", "if", "for", "x", "in", ":", ",", "not", "is", "endif", "\n", "~", "\\"]
    sources = list(templates(folders).values())
    kinds = conversations()
    for index in range(count):
        source = draw.choice(sources)
        for _ in range(draw.randint(1, 3)):
            place = draw.randint(0, len(source))
            if draw.random() < 0.5:
                source = source[:place] + draw.choice(pieces) + source[place:]
            else:
                source = source[:place] + source[place + draw.randint(1, 4):]
        yield f"mutation {index}", {"template": source, "messages": kinds[draw.choice(list(kinds))], "variables": {**TOKENS, "date_string": "26 Jul 2024"}}


def generated(count, seed):
    generator = Generator(seed)
    for index in range(count):
        yield f"generated {index}", {"template": generator.template(), "variables": VARIABLES}


# --- both sides


class TooSlow(BaseException):
    pass


def alarm(*_):
    raise TooSlow


def reference(case):
    variables = case.get("variables", {})
    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        if "messages" in case:
            text = render_jinja_template(
                [case["messages"]], tools=case.get("tools"), documents=case.get("documents"), chat_template=case["template"],
                add_generation_prompt=case.get("add_generation_prompt", False),
                continue_final_message=case.get("continue_final_message", False), **variables)[0][0]
        else:
            text = _compile_jinja_template(case["template"]).render(
                messages=[], tools=None, documents=None, add_generation_prompt=False, **variables)
        text.encode("utf-8")
        return text, None
    except (Exception, TooSlow) as error:  # What is refused there must be refused here.
        return None, f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def explanation(error, answer):
    """Why a difference is none of ours; None when it is."""
    if error and error.startswith("TooSlow"):
        return "the reference did not come to an end"
    if error and error.startswith("NameError: name 'inf'"):
        return "Jinja folds an infinite constant into a name that Python does not know"
    if " has no slices" in (answer.get("error") or "") or "object is not subscriptable" in (error or ""):
        return "Jinja folds slices of constants in some places, and refuses them in others"
    if "the power is no real number" in (answer.get("error") or ""):
        return "complex numbers are refused"


def without_addresses(text):
    return None if text is None else re.sub(r"(?i)at 0x[0-9a-f]+", "at 0x", text)


def ours(runner, cases):
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    result = subprocess.run([runner], input=lines.encode(), stdout=subprocess.PIPE)
    answers = [json.loads(line) for line in result.stdout.decode().split("\n")[:-1]]
    if result.returncode != 0 or len(answers) != len(cases):
        print("the runner ended with", result.returncode, "at", json.dumps(cases[len(answers)])[:2000])
        sys.exit(2)
    return answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default=os.path.join(ROOT, ".build/release/RenderTemplates"))
    parser.add_argument("--folder", action="append", default=[])
    parser.add_argument("--generate", type=int, default=0)
    parser.add_argument("--mutate", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=40)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    print(f"jinja2 {jinja2.__version__}, transformers {transformers.__version__}, Python {sys.version.split()[0]}")
    cases = list(generated(arguments.generate, arguments.seed))
    if arguments.mutate:
        cases += list(mutated(arguments.folder, arguments.mutate, arguments.seed))
    else:
        cases += list(crossed(arguments.folder))
    differences = explained = refused = slow = 0
    for start in range(0, len(cases), 1000):
        part = cases[start:start + 1000]
        for (name, case), answer in zip(part, ours(arguments.runner, [case for _, case in part])):
            text, error = reference(case)
            refused += text is None
            slow += "seconds" in answer
            if without_addresses(text) == without_addresses(answer.get("text")):
                continue
            if explanation(error, answer):
                explained += 1
                continue
            differences += 1
            if differences <= arguments.show:
                print(f"--- {name}\n{case['template'] if 'generated' in name else ''}\n  theirs: {error or repr(text)[:600]}\n  ours:   {answer.get('error') or repr(answer.get('text'))[:600]}")
    print(f"{len(cases)} cases, {refused} refused by the reference, {differences} differences, {explained} explained, {slow} took us longer than a second")
    if arguments.json:
        suite = ("mutated" if arguments.mutate else "crossed") if arguments.folder else "generated"
        with open(arguments.json, "a") as out:
            out.write(json.dumps({
                "templates": suite, "seed": arguments.seed, "jinja2": jinja2.__version__,
                "transformers": transformers.__version__, "sources": len(templates(arguments.folder)),
                "conversations": len(conversations()) if arguments.folder else 0, "cases": len(cases),
                "refused_by_both": refused - explained, "differences": differences, "explained": explained}) + "\n")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
