"""Programs that people run GGUF files with: llama.cpp's server over HTTP, as Ollama does, and node-llama-cpp."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from echoself_action.formats.registry import Exported
from echoself_action.formats.runtimes.llama_cpp import BOUNDS
from echoself_action.formats.runtimes.runtime_formats import GGUF

from ..node_packages import LLAMA_CPP
from .llama_server import llama_server
from .random_models import write_random_model

PROMPT = "The cat sat"
TOKENS = 50
F32, F16, Q8_0 = BOUNDS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFolder, Exported]:
    """A model that prefers printable characters, so that what it writes is text, and its GGUF files."""
    folder = write_random_model(tmp_path_factory.mktemp("made") / "model")
    weights = load_file(folder.path / WEIGHTS_FILE)
    weights["transformer.wte.weight"][[i for i in range(257) if not 32 <= i < 127]] = 0
    save_file(weights, folder.path / WEIGHTS_FILE, {"format": "pt"})
    return folder, GGUF.export(folder, folder.path.parent)


@pytest.fixture(scope="module")
def stock(made: tuple[ModelFolder, Exported]) -> Any:
    return AutoModelForCausalLM.from_pretrained(made[0].path).eval()


def post(url: str, **body: object) -> Any:
    return httpx2.post(url, json=body, timeout=60).raise_for_status().json()


def assert_greedy(stock: Any, ids: list[int], following: list[int], allowed: float) -> None:
    """Each token is the most likely one of transformers, or its logit is lower by at most `allowed`, what the file rounds."""
    assert len(following) == TOKENS
    with torch.no_grad():
        logits = stock(torch.tensor([ids + following[:-1]])).logits[0, len(ids) - 1 :].numpy()
    behind = logits.max(-1) - logits[np.arange(TOKENS), following]
    assert behind.max() <= allowed
    if allowed <= 1e-2:
        greedy = stock.generate(torch.tensor([ids]), max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)[0, len(ids) :]
        first = next((i for i, gap in enumerate(behind) if gap > 0), TOKENS)
        assert following[:first] == greedy.tolist()[:first]


def test_the_server_writes_what_transformers_writes_with_the_parameters_of_the_modelfile(
    made: tuple[ModelFolder, Exported], stock: Any
) -> None:
    folder, exported = made
    modelfile = exported.files["Modelfile"].read_text()
    (name,) = re.findall(r"^FROM \./(.*)$", modelfile, re.MULTILINE)
    parameters = dict(re.findall(r"^PARAMETER (\w+) (.*)$", modelfile, re.MULTILINE))
    context, stop = int(parameters["num_ctx"]), [json.loads(parameters["stop"])]
    assert name == Q8_0
    ids = AutoTokenizer.from_pretrained(folder.path)(PROMPT)["input_ids"]
    for file, allowed in ((F32, 1e-2), (name, 0.5)):
        with llama_server(exported.files[file], context) as url:
            asked = {"prompt": PROMPT, "temperature": 0, "stop": stop}
            answer = post(f"{url}/completion", **asked, n_predict=TOKENS, return_tokens=True)
            openai = post(f"{url}/v1/completions", **asked, max_tokens=TOKENS)
            message = {"role": "user", "content": PROMPT}
            chat = post(f"{url}/v1/chat/completions", messages=[message], temperature=0, max_tokens=TOKENS)
            assert post(f"{url}/tokenize", content=PROMPT)["tokens"] == ids
            sampled = post(f"{url}/completion", prompt=PROMPT, temperature=float(parameters["temperature"]), n_predict=5)
        assert_greedy(stock, ids, answer["tokens"], allowed)
        text = "".join(map(chr, answer["tokens"]))
        assert answer["content"] == openai["choices"][0]["text"] == text
        assert chat["choices"][0]["message"]["content"] == text
        assert len(sampled["content"]) > 0


def test_node_llama_cpp_writes_the_same(made: tuple[ModelFolder, Exported], stock: Any) -> None:
    folder, exported = made
    prompts = [PROMPT, "naïve 日本語 🙂\r\n\t  x", "a ? b : it 's ( x ) , or n't !"]
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    for file, allowed in ((F32, 1e-2), (Q8_0, 0.5)):
        script = Path(__file__).with_name("llama_greedy.mjs")
        done = LLAMA_CPP.run(script, str(exported.files[file]), str(TOKENS), stdin=json.dumps(prompts))
        found = json.loads(done.stdout)
        assert found["ids"] == [tokenizer(prompt)["input_ids"] for prompt in prompts]
        assert found["texts"] == prompts  # with the pre-tokenizer `gpt-2`, it would remove spaces before punctuation
        assert_greedy(stock, found["ids"][0], found["following"], allowed)
        assert found["text"] == "".join(map(chr, found["following"]))
