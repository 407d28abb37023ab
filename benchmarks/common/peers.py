"""Training programs to measure side by side: this package's, nanoGPT's own train.py, and transformers' Trainer.

Without a checkout of nanoGPT, `nanogpt_reference/` is used: the same arithmetic in plain PyTorch. All programs get the same
token files, sizes and batches. They run as whole processes; the time of a step is the program's own figure.
"""

import argparse
import importlib.util
import os
import pickle
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echoself_action.checkpoint.select import latest
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.model.config import GPT2Config

from .instruction_sets import OURS

_PATIENCE_S = 600  # for a few steps, or for the first ones: torch.compile takes minutes
ENDLESS = 10**6  # steps: more than a benchmark takes
REFERENCE = Path(__file__).parent / "nanogpt_reference"
TEXT = Path(__file__).parents[3] / "shared/corpora/tinyshakespeare.txt"


@dataclass(frozen=True)
class Shape:
    """A model and its batches: layers, heads, width, block size, sequences a step, the tokenizer, and the rate of dropout.

    `preset` has the settings of ours that are not given here.
    """

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    tokenizer: str
    dropout: float = 0.0
    preset: str = "ci"

    @property
    def sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("n_layer", "n_head", "n_embd", "block_size")}

    def flops_per_token(self, vocabulary: int) -> float:
        return GPT2Config(vocabulary, **self.sizes).flops_per_token()

    def describe(self, tokenizer: str) -> str:
        """The model in a table; `tokenizer` is the name of its tokenizer."""
        chosen = f"`preset: {self.preset}`: " if self.preset == "auto" else ""
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return (
            f"{chosen}{self.n_layer} layers, {self.n_head} heads, width {self.n_embd}, block {self.block_size}, batch "
            f"{self.batch_size}, {tokenizer}{dropout}"
        )


SHAPES = {
    "baby": Shape(4, 4, 128, 64, 12, "chars"),
    "mid": Shape(6, 6, 384, 256, 8, "bpe:4096"),
    "small": Shape(12, 12, 768, 256, 4, "gpt2"),
    "gpt2": Shape(12, 12, 768, 1024, 12, "gpt2"),  # for a GPU
}


@dataclass(frozen=True)
class Tokens:
    """A folder with train.bin and val.bin (uint16) and their tokenizer; `padded` is the size of nanoGPT's vocabulary."""

    folder: Path
    name: str
    vocabulary: int
    padded: int

    @property
    def val(self) -> np.ndarray[Any, np.dtype[np.uint16]]:
        return np.fromfile(self.folder / "val.bin", np.uint16)


def write_tokens(text: Path, tokenizer: str, work: Path) -> Tokens:
    """nanoGPT's layout: `work`/data/tokens/{train,val}.bin, nine tenths and one, and a tokenizer.json for this package."""
    if not text.is_file():
        raise SystemExit(f"{text} does not exist: pass a text of about a megabyte with --text")
    folder = work / "data/tokens"
    folder.mkdir(parents=True)
    content = text.read_text(encoding="utf-8")
    if tokenizer == "chars":
        characters = sorted(set(content))
        of = {character: number for number, character in enumerate(characters)}
        meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": of}
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
        made = make_tokenizer(str(folder / "meta.pkl"), lambda: iter(()))
        ids = np.array([of[character] for character in content], np.uint16)
    else:
        made = make_tokenizer(tokenizer, lambda: iter((content,)))
        ids = np.array(made.encode_batch([content])[0], np.uint16)
    padded = made.vocab_size if made.vocab_size < 50000 else -(-made.vocab_size // 64) * 64
    if tokenizer != "chars":
        (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": padded}))
        made.save(folder)
    cut = int(len(ids) * 0.9)
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    return Tokens(folder, made.name, made.vocab_size, padded)


def auto_shape(text: Path, work: Path) -> Shape:
    """The model that `preset: auto` chooses for `text` on this machine, by a run of one step in `work`."""
    out = work / "auto"
    given = {"preset": "auto", "data": text.absolute(), "max-iters": 1, "eval-tokens": 4096, "output-dir": out}
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, "-m", "echoself_action", "train", *flags], cwd=work, capture_output=True, text=True)
    folder = latest(out) if done.returncode == 0 else None
    if not folder or not folder.metadata:
        raise SystemExit((done.stdout + done.stderr)[-3000:])
    config, sequences = folder.config, folder.metadata.settings["batch_size"]
    sizes = (config.n_layer, config.n_head, config.n_embd, config.block_size)
    return Shape(*sizes, sequences, folder.metadata.tokenizer.name, config.dropout, "auto")


# as if the package had been installed without a C compiler
WITHOUT_NATIVE = (
    "from echoself_action import __main__, native; native._library = lambda: 'disabled by the benchmark'; __main__.main()"
)


def our_command(shape: Shape, tokens: Tokens, out: Path, native: bool = True, **settings: object) -> list[str]:
    """`echoself train` on the token files, as a command line; `settings` are inputs."""
    vocabulary = "meta.pkl" if shape.tokenizer == "chars" else "tokenizer.json"
    given: dict[str, object] = {
        "preset": shape.preset, "data": f"{tokens.folder}/train.bin,{tokens.folder}/val.bin", "output_dir": out,
        "tokenizer": tokens.folder / vocabulary, "device": "cpu", "bias": False, "dropout": shape.dropout,
        "batch_size": shape.batch_size, "gradient_accumulation": 1, "max_minutes": 0, "checkpoint_minutes": 0,
        "log_interval": 1, "eval_tokens": shape.block_size * shape.batch_size,
    } | shape.sizes | settings  # fmt: skip
    flags = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, *(("-m", "echoself_action") if native else ("-c", WITHOUT_NATIVE)), "train", *flags]


def nanogpt_command(checkout: Path, shape: Shape, work: Path, out: Path, steps: int, **settings: object) -> list[str]:
    """nanoGPT's train.py, eager, in fp32, on the CPU, with the defaults that its README gives for one; to be run in `work`."""
    given = shape.sizes | {
        "dataset": "tokens", "out_dir": out, "device": "cpu", "compile": False, "dtype": "float32", "bias": False,
        "dropout": shape.dropout, "batch_size": shape.batch_size, "gradient_accumulation_steps": 1, "max_iters": steps,
        "lr_decay_iters": steps, "learning_rate": 1e-3, "min_lr": 1e-4, "beta2": 0.99, "warmup_iters": 100,
        "eval_interval": steps, "eval_iters": 1, "log_interval": 1, "always_save_checkpoint": True,
    } | settings  # fmt: skip
    for name in ("train.py", "model.py", "configurator.py"):
        if (checkout / name).exists() and not (work / name).exists():
            (work / name).symlink_to(checkout.resolve() / name)
    return [sys.executable, "train.py", *(f"--{name}={value}" for name, value in given.items())]


def add_nanogpt(parser: argparse.ArgumentParser) -> None:
    """The option for the path of nanoGPT."""
    parser.add_argument(
        "--nanogpt",
        type=Path,
        default=os.environ.get("NANOGPT", REFERENCE),
        help="a checkout of karpathy/nanoGPT; without one, benchmarks/common/nanogpt_reference computes the same",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option for the device of all programs."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="nanoGPT compiles, in bfloat16, for cuda")


def nanogpt_on(device: str) -> dict[str, object]:
    """nanoGPT's settings for a device: its own defaults for a GPU, and what its README says for a CPU."""
    return {"device": "cuda", "compile": True, "dtype": "bfloat16"} if device == "cuda" else {}


def describe_nanogpt(checkout: Path) -> str:
    """What a table means by nanoGPT."""
    if checkout == REFERENCE:
        return "nanoGPT is benchmarks/common/nanogpt_reference, the same arithmetic"
    return f"nanoGPT is {checkout}"


class Program:
    """A training program and its processes, which can be stopped and continued. It logs a figure for each step."""

    def __init__(
        self, command: list[str], work: Path, log: Path, pattern: str, rate: Callable[[str], float], **variables: str
    ) -> None:
        """`pattern` finds the figure of a step in `log`, and `rate` makes of it what is compared. Without a file at `log`
        it is what the program prints. `variables` are of its environment."""
        self.log, self.pattern, self.rate = log, pattern, rate
        self.printed = work / f"{log.parent.name}-{log.name}.out"
        with self.printed.open("w") as output:
            settings = os.environ | {"PYTHONUNBUFFERED": "1"} | variables
            self.process = subprocess.Popen(
                command, cwd=work, stdout=output, stderr=subprocess.STDOUT, env=settings, start_new_session=True
            )

    def signal(self, number: int) -> None:
        for found in Path("/proc").glob("[0-9]*"):
            with suppress(ProcessLookupError):  # it has ended
                if os.getsid(int(found.name)) == self.process.pid:
                    os.kill(int(found.name), number)

    def rates(self) -> list[float]:
        text = (self.log if self.log.exists() else self.printed).read_text()
        return [self.rate(figure) for figure in re.findall(self.pattern, text)]

    def peak_mb(self) -> float:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


def our_program(
    shape: Shape,
    tokens: Tokens,
    work: Path,
    name: str,
    variables: dict[str, str] | None = None,
    native: bool = True,
    **settings: object,
) -> Program:
    """`echoself train` without an end, and without an evaluation or a save; its folder in `work` is `name`."""
    endless = {"max_iters": ENDLESS, "eval_interval": ENDLESS, "checkpoint_interval": ENDLESS}
    command = our_command(shape, tokens, work / name, native, **{"learning_rate": 1e-3} | endless | settings)
    figure = r'"tokens_per_second": ([0-9.]+)'
    unlimited = {} if native else {OURS: ""}  # it names native kernels that must be there
    return Program(command, work, work / name / "log.jsonl", figure, float, **unlimited | (variables or {}))


def take_turns(
    programs: dict[str, Program], turns: int, seconds: float, each: Callable[[int, dict[str, float]], None] | None = None
) -> dict[str, list[float]]:
    """For each turn the median rate of its whole steps. Other load on the machine affects all programs alike.

    `each` gets the number of a turn, from 1, and its rates.
    """
    medians: dict[str, list[float]] = {name: [] for name in programs}
    try:
        for program in programs.values():
            program.signal(signal.SIGSTOP)
        for program in programs.values():  # each starts up alone: those that only measure a limit never rest
            program.signal(signal.SIGCONT)
            _until(program, 5)
            program.signal(signal.SIGSTOP)
        for turn in range(1, turns + 1):
            for name, program in programs.items():
                before = len(program.rates())
                program.signal(signal.SIGCONT)
                time.sleep(seconds)
                _until(program, before + 3)  # the first one was under way when the program was stopped
                program.signal(signal.SIGSTOP)
                medians[name].append(statistics.median(program.rates()[before + 1 :]))
            if each:
                each(turn, {name: found[-1] for name, found in medians.items()})
        return medians
    except BaseException:
        end(programs)
        raise


def end(programs: dict[str, Program]) -> None:
    for program in programs.values():  # a stopped program would never end by itself
        program.signal(signal.SIGKILL)
        program.process.wait()


class NanoGPT(torch.nn.Module):
    """The model in nanoGPT's ckpt.pt in `out`, with the interface that the evaluation calls."""

    label_shift = 1

    def __init__(self, checkout: Path, out: Path) -> None:
        super().__init__()
        spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        checkpoint = torch.load(out / "ckpt.pt", weights_only=True)
        with redirect_stdout(sys.stderr):  # it prints its size, which would be in the middle of a table
            self.gpt = module.GPT(module.GPTConfig(**checkpoint["model_args"]))
        self.config = self.gpt.config
        self.gpt.load_state_dict(checkpoint["model"])

    def loss(self, ids: torch.Tensor, targets: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        _, mean = self.gpt(ids.contiguous(), targets.contiguous())
        return mean * targets.numel()  # type: ignore[no-any-return]


def _until(program: Program, steps: int) -> None:
    """Wait until `program` has logged so many steps. Raises SystemExit if it has ended, or does not get there in time."""
    deadline = time.monotonic() + _PATIENCE_S
    while len(program.rates()) < steps:
        if program.process.poll() is not None:
            raise SystemExit(program.printed.read_text()[-3000:])
        if time.monotonic() > deadline:
            done = len(program.rates())
            raise SystemExit(
                f"{program.log}: {done} steps, not {steps}, in {_PATIENCE_S} s\n{program.printed.read_text()[-3000:]}"
            )
        time.sleep(0.1)
