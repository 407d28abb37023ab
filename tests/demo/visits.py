"""Opens demos in Chromium as a reader does (visit.mjs), and what transformers writes, to compare."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.checkpoint.model_folder import ModelFolder

from ..node_packages import PLAYWRIGHT
from ..report.browser import find_browser
from .internet import WebServer

VISIT = Path(__file__).with_name("visit.mjs")


def visit(scenario: str, net: WebServer, given: dict[str, Any]) -> dict[str, Any]:
    words = json.dumps(given | {"browser": find_browser(), "internet": net.port, "key": net.key})
    facts: dict[str, Any] = json.loads(PLAYWRIGHT.run(VISIT, scenario, words).stdout)
    return facts


def greedy(folder: ModelFolder, prompt: str, tokens: int) -> tuple[list[int], str]:
    """The ids and the text that transformers continues `prompt` with."""
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    model = AutoModelForCausalLM.from_pretrained(folder.path)
    given = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        [ids] = model.generate(**given, max_new_tokens=tokens, do_sample=False).tolist()
    start = given["input_ids"].shape[1]
    return ids[start:], tokenizer.decode(ids).removeprefix(tokenizer.decode(ids[:start]))
