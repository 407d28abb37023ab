"""Exported models in their runtimes: how far their logits are from the model's, their sizes, and their tokens per second.

    python benchmarks/exports.py [FOLDER ...] [--tokenizers gpt2,bpe:1024,...] [--minutes 1] [--tokens 64] [--turns 5]

The models are those in the folders. Without one, a model is trained for each tokenizer, because untrained weights are too kind
to rounding: by `echoself train --preset auto` on the documentation, the code and the text of the tests. `characters` is the
vocabulary of a meta.pkl of nanoGPT. `imported` is a checkpoint of nanoGPT's train.py, without biases, with GPT-2's vocabulary
padded to a multiple of 64.

Each file is compared with its model as a publish does it. Then the programs take turns in one process, each with one thread,
and generate greedily after a prompt of one token. `transformers` is GPT2LMHeadModel.generate in fp32, llama.cpp its server over
HTTP, ONNX Runtime a loop in Python with its key-value cache. Times are processor time, which is more reliable than wall time on
a machine with other load.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import httpx2
import numpy as np
import torch
from common import results
from common.peers import write_tokens
from common.results import Figures, machine, print_row, spread
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging

from echoself_action import libraries
from echoself_action.checkpoint.metadata import ExportFacts
from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.select import latest
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.runtimes.onnx_worker import OnnxModel
from echoself_action.formats.runtimes.runtime_formats import GGUF, ONNX

ROOT = Path(__file__).parent.parent
PEER = "transformers"
CHARACTERS, IMPORTED = "characters", "imported"
TOKENIZERS = ("gpt2", "bpe:1024", "bpe:8192", "bytes", CHARACTERS, IMPORTED)
PROMPT = 10
SIZES = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 128}  # of the imported model
STEP_SECONDS = 1  # about

Write = Callable[[int], None]  # generates a number of tokens


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="model folders")
    parser.add_argument("--tokenizers", default=",".join(TOKENIZERS), help="of the models to train, without folders")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training for each")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    figures = Figures(given)
    print(f"{machine()}; transformers {version('transformers')}.\n")
    heads = (
        "model",
        "file",
        "max abs. logit difference",
        "top-1 agreement",
        "bits per byte",
        "texts with equal ids",
        "MB",
        "tokens/s",
    )
    print_row(*heads, "of transformers'", "runtime")
    print(f"|{'---|' * (len(heads) + 2)}")
    with tempfile.TemporaryDirectory() as work:
        for name, folder in models(given, Path(work)):
            measure(f"{name}, step {folder.step}", folder, given, figures)
    figures.write()


def models(given: argparse.Namespace, work: Path) -> Iterator[tuple[str, ModelFolder]]:
    """The models and their names in the table."""
    for path in given.folders:
        yield path.name, read_model_folder(path)
    for tokenizer in () if given.folders else given.tokenizers.split(","):
        place = work / tokenizer.replace(":", "-")
        place.mkdir()
        text = place / "text.txt"
        text.write_text("\n\n".join(source.read_text(encoding="utf-8") for source in sources()), encoding="utf-8")
        yield tokenizer, trained_by_nanogpt(given, text) if tokenizer == IMPORTED else trained(given, text, tokenizer)


def sources() -> list[Path]:
    """The documentation, the code, and the text of the tests."""
    found = [path for folder in ("docs", "echoself_action", "tests/data") for path in (ROOT / folder).rglob("*.*")]
    return sorted(path for path in found if path.suffix in (".md", ".py"))


def trained(given: argparse.Namespace, text: Path, tokenizer: str) -> ModelFolder:
    if tokenizer == CHARACTERS:
        tokenizer = str(write_tokens(text, "chars", text.parent).folder / "meta.pkl")
    out = text.parent / "model"
    inputs = {"data": text, "tokenizer": tokenizer, "max-minutes": given.minutes, "output-dir": out, "preset": "auto"}
    run("-m", "echoself_action", "train", *(word for name, value in inputs.items() for word in (f"--{name}", str(value))))
    folder = latest(out)
    assert folder
    return folder


def trained_by_nanogpt(given: argparse.Namespace, text: Path) -> ModelFolder:
    tokens = write_tokens(text, "gpt2", text.parent)
    steps = max(2, int(given.minutes * 60 / STEP_SECONDS))
    settings = {**SIZES, "max_iters": steps, "eval_interval": steps, "lr_decay_iters": steps, "warmup_iters": steps // 10}
    script = ROOT / "benchmarks/common/nanogpt_reference/train.py"
    run(str(script), "--dataset=tokens", "--out_dir=out", *(f"--{k}={v}" for k, v in settings.items()), cwd=text.parent)
    return import_checkpoint(text.parent / "out/ckpt.pt", text.parent / "model", str(tokens.folder), lambda _: None)


def run(*words: str, cwd: Path | None = None) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise SystemExit((done.stdout + done.stderr)[-3000:])


def measure(name: str, folder: ModelFolder, given: argparse.Namespace, figures: Figures) -> None:
    """Export, check and time one model."""
    facts: dict[str, ExportFacts] = {}
    with contextlib.ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        ways = {PEER: transformers_way(folder)}
        for one in (GGUF, ONNX):
            exported = one.export(folder, place)
            for fact in one.check(folder, exported):
                path = exported.files[fact.file]
                facts[fact.file] = fact
                ways[fact.file] = onnx_way(path) if one is ONNX else opened.enter_context(llama_cpp_way(path, folder))
        rates = take_turns(ways, given.tokens, given.turns)
    weights = folder.path / "model.safetensors"
    print_row(name, PEER, "", "", "", "", f"{weights.stat().st_size / 1e6:.1f}", spread(rates[PEER], ".0f"), "1", PEER)
    for file, fact in facts.items():
        ratios = [rate / other for rate, other in zip(rates[file], rates[PEER], strict=True)]
        change = "" if fact.bits_per_byte_change is None else f"{fact.bits_per_byte_change:+z.5f}"
        cells = [
            f"{fact.max_abs_diff:.2g}",
            f"{fact.argmax_agreement:.2%}",
            change,
            f"{fact.texts:,}",
            f"{fact.size / 1e6:.1f}",
        ]
        print_row(name, file, *cells, spread(rates[file], ".0f"), spread(ratios, ".2f"), fact.runtime)
        figures.add("tokens/s", f"{name}: {file}", *rates[file])
        figures.add("tokens/s, of transformers'", f"{name}: {file}", *ratios)
        figures.add("max abs. logit difference", f"{name}: {file}", fact.max_abs_diff)
        figures.add("top-1 agreement", f"{name}: {file}", fact.argmax_agreement)
        figures.add("size, MB", f"{name}: {file}", fact.size / 1e6)


def take_turns(ways: dict[str, Write], tokens: int, turns: int) -> dict[str, list[float]]:
    """Tokens a second of processor time in each turn."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, write in ways.items():
            began = time.process_time()
            write(tokens if turn else 3)
            if turn:  # the first one of a process is slower than all others
                rates[name].append(tokens / (time.process_time() - began))
    return rates


def transformers_way(folder: ModelFolder) -> Write:
    model = AutoModelForCausalLM.from_pretrained(folder.path, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # all write as many tokens
    ids = torch.tensor([[PROMPT]])

    def write(tokens: int) -> None:
        settings = GenerationConfig(max_new_tokens=tokens, do_sample=False, use_cache=True, pad_token_id=0)
        found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        assert found.shape[1] == 1 + tokens

    return write


def onnx_way(path: Path) -> Write:
    model = OnnxModel(path, 1)

    def write(tokens: int) -> None:
        model.reset()
        token = PROMPT
        for _ in range(tokens):
            token = int(model.logits(np.array([[token]]))[0, -1].argmax())

    return write


@contextlib.contextmanager
def llama_cpp_way(path: Path, folder: ModelFolder) -> Iterator[Write]:
    """llama.cpp's server in this process, so that its threads count as processor time."""
    params = libraries.xllamacpp.CommonParams()
    params.model.path, params.n_ctx = str(path), folder.config.block_size
    params.n_parallel = params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers, params.verbosity = 0, 0
    server = libraries.xllamacpp.Server(params)
    with httpx2.Client(base_url=server.listening_address, timeout=600) as client:

        def write(tokens: int) -> None:
            asked = {"prompt": [PROMPT], "n_predict": tokens, "temperature": 0, "ignore_eos": True}
            answer = client.post("/completion", json=asked).raise_for_status().json()
            assert answer["tokens_predicted"] == tokens

        yield write
    del server


if __name__ == "__main__":
    main()
