#!/usr/bin/env python3
"""Puts real conversations into one ShareGPT file: those of LLaMA-Factory's glaive_toolcall_en_demo.json, and those of its
dpo_en_demo.json with their chosen answers. Usage: real_chats.py GLAIVE.json DPO.json > chats.jsonl
"""
import json
import sys

glaive, dpo = (json.load(open(path)) for path in sys.argv[1:3])
chats = [{"conversations": chat["conversations"]} for chat in glaive]
chats += [{"conversations": chat["conversations"] + [chat["chosen"]]} for chat in dpo]
for chat in chats:
    print(json.dumps(chat))
