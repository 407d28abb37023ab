"""Which GELU new models are trained with: the exact one (`gelu`), or its tanh approximation (`gelu_new`).

    python benchmarks/activation.py --corpus FOLDER_OR_FILE ... --seeds 3 --steps 300 --json FILE
    python benchmarks/activation.py --corpus FOLDER_OR_FILE --steps 0 --isa avx2          # speed only
    python benchmarks/activation.py --corpus FOLDER_OR_FILE --turns 0                     # without speed

**Loss**: for each seed a model is trained with each form, for the same steps, with the sizes that `preset: auto` chooses for
the first one. Bits per byte are of all held-out text, in fp32; the models are compared seed by seed (`common.results.paired`).

**Another program's GELU**: each model is also evaluated with the other form, and with llama.cpp's on a CPU: the tanh form from
a table of half-precision values. All three are computed by PyTorch in fp32, so that they differ in the GELU alone. `max abs
delta logit` and `same top-1` are against the form that the model was trained with, on the first windows of the held-out text.

**Speed**: training steps with both forms, which take turns, on one thread; with native kernels, and without them, by PyTorch.
Rates are per second of CPU time. Ratios are taken turn by turn.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from common import results
from common.corpora import EVERYTHING, add_corpora, bits_per_byte, encoded, files_of, name_of, split_text
from common.instruction_sets import OURS, add_isa, best_isa, limit_to, shown
from common.limits import ratios
from common.results import Figures, machine, paired, print_row, spread
from torch import Tensor, nn

from echoself_action import native
from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.checkpoint.weights import load_model
from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.corpus.make_tokenizer import load_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.model.config import GPT2Config
from echoself_action.model.gpt2 import GPT2
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.precision import fastest_dtype
from echoself_action.training.precision import name_of as dtype_name
from echoself_action.training.run import Data
from echoself_action.training.settings import TrainingSettings
from echoself_action.training.train_step import Stepper

FORMS = ("gelu", "gelu_new")
TABLE = "llama.cpp's table"
WINDOWS = 16  # of the held-out text, for the differences of logits
NATIVE, PYTORCH = "native kernels", "by PyTorch"
VAL_FRACTION = TrainInputs.model_fields["val_fraction"].default
SIZES = ("n_layer", "n_head", "n_embd", "block_size")


def table(x: Tensor) -> Tensor:
    """GELU as ggml computes it on a CPU: `ggml_vec_gelu_f32` with GGML_GELU_FP16."""
    y = F.gelu(x.half().float(), approximate="tanh").half().float()
    return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, y))


COMPUTED: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    TABLE: table,
}


@dataclass(frozen=True)
class Evaluated:
    """A model with one way to compute its GELU, against the way that it was trained with."""

    bits_per_byte: float
    difference: float  # the largest of a logit
    same_top_1: float


def main() -> None:
    parser = results.parser(__doc__)
    add_corpora(parser)
    add_isa(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of each model; 0: no models, speed only")
    parser.add_argument("--turns", type=int, default=9, help="of each way to train; 0: no speed")
    parser.add_argument("--seconds", type=float, default=1, help="CPU time of a turn")
    given = parser.parse_args()
    limit_to(given.isa)
    figures = Figures(given)
    print(f"{machine()}.\n", flush=True)
    for corpus in given.corpus if given.steps else ():
        with tempfile.TemporaryDirectory() as work:
            compare_losses(given, corpus, Path(work), figures)
    if given.turns:
        with tempfile.TemporaryDirectory() as work:
            compare_speed(given, Path(work), figures)
    figures.write()


def compare_losses(given: argparse.Namespace, corpus: Path, work: Path, figures: Figures) -> None:
    text = split_text(corpus)
    bits: dict[str, dict[int, float]] = {form: {} for form in FORMS}
    sizes: dict[str, object] = {}
    print_row("corpus", "seed", "trained with", "computed with", "bits per byte", "change", "max abs delta logit", "same top-1")
    print("|---" * 8 + "|", flush=True)
    for seed in range(1, given.seeds + 1):
        for form in FORMS:
            folder = trained(corpus, work / f"{form}-{seed}", max_iters=given.steps, seed=seed, activation=form, **sizes)
            config = read_model_folder(folder).config
            sizes = sizes or {name: getattr(config, name) for name in SIZES}
            evaluated = evaluate(folder, form, text.held_out)
            own = evaluated[form].bits_per_byte
            bits[form][seed] = own
            for computed, found in evaluated.items():
                change = f"{found.bits_per_byte / own - 1:+.5%}" if computed != form else ""
                row = [computed, f"{found.bits_per_byte:.5f}", change, f"{found.difference:.2g}", f"{found.same_top_1:.3%}"]
                print_row(name_of(corpus), str(seed), form, *row)
                of = f"{name_of(corpus)}: trained with {form}, computed with {computed}"
                figures.add("bits per byte", of, found.bits_per_byte)
                if computed != form:
                    figures.add("max abs delta logit", of, found.difference)
                    figures.add("same top-1", of, found.same_top_1)
    ratio, t, significant = paired(bits["gelu_new"], bits["gelu"])
    shape = ", ".join(f"{name} {size}" for name, size in sizes.items())
    print(f"\n{name_of(corpus)}: {shape}, {given.steps} steps: gelu_new / gelu {ratio}, t {t}, significant: {significant}\n")


def trained(corpus: Path, out: Path, **settings: object) -> Path:
    """The folder of the model of a run of `preset: auto`."""
    files = corpus.resolve()
    given = {"data": files if files.is_file() else f"{files}/{EVERYTHING}", "output_dir": out, "device": "cpu"} | settings
    flags = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    command = [sys.executable, "-m", "echoself_action", "train", "--preset", "auto", *flags]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, env=environment)
    found = re.search(r"^model_dir=(.*)$", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise SystemExit((done.stdout + done.stderr)[-3000:])
    return out.parent / found[1]


class Computed(nn.Module):
    """A GPT-2 whose MLPs compute their GELU by a function; no native kernels evaluate it."""

    label_shift = GPT2.label_shift

    def __init__(self, model: GPT2, gelu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        for block in model.transformer.h:
            block.mlp.activation = gelu

    def loss(self, ids: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return self.model.loss(ids, targets, reduction)


@torch.no_grad()
def evaluate(folder: Path, form: str, documents: list[str]) -> dict[str, Evaluated]:
    """The model in `folder`, which was trained with `form`, with each way to compute its GELU, `form` first."""
    ids, size = encoded(folder, documents)
    block = read_model_folder(folder).config.block_size
    windows = torch.from_numpy(ids[: min(WINDOWS, len(ids) // block) * block].astype("int64")).view(-1, block)
    expected, found = None, {}
    for name in sorted(COMPUTED, key=lambda name: name != form):
        model = Computed(load_model(read_model_folder(folder)).eval(), COMPUTED[name])
        logits = model.model.logits(windows)
        expected = logits if expected is None else expected
        found[name] = Evaluated(
            bits_per_byte=bits_per_byte(model, ids, block, size),
            difference=(logits - expected).abs().max().item(),
            same_top_1=(logits.argmax(-1) == expected.argmax(-1)).float().mean().item(),
        )
    return found


def compare_speed(given: argparse.Namespace, work: Path, figures: Figures) -> None:
    corpus = given.corpus[0]
    folder = read_model_folder(trained(corpus, work / "first", max_iters=1, eval_tokens=4096))
    tokens = prepare_tokens(files_of(corpus), load_tokenizer(folder.path), work, VAL_FRACTION, "fail", print)
    dtype = dtype_name(fastest_dtype(torch.device("cpu")))  # also of PyTorch, which could choose one that --isa makes slow
    settings = TrainInputs(mode="train", preset="auto", device="cpu", dtype=dtype).training_settings("muon", folder.config)
    torch.set_num_threads(1)
    steppers = {
        (kernels, form): stepper(replace(folder.config, activation=form), Data(tokens, []), settings, kernels == NATIVE)
        for kernels in (NATIVE, PYTORCH)
        for form in FORMS
    }
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in steppers}
    for _ in range(given.turns):
        for key, one in steppers.items():
            rates[key].append(steps_per_second(one, given.seconds) * settings.batch_size * folder.config.block_size)
    isa = best_isa()
    sizes = ", ".join(f"{name} {getattr(folder.config, name)}" for name in SIZES)
    print(f"Training by preset: auto, {sizes}, {shown(isa) if isa else 'no native kernels'}, {dtype}\n")
    print_row("", "gelu: tokens per second of CPU time", "gelu_new", "gelu_new / gelu")
    print("|---" * 4 + "|")
    for kernels in (NATIVE, PYTORCH):
        exact, tanh = (rates[kernels, form] for form in FORMS)
        ratio = ratios(tanh, exact)
        print_row(kernels, spread(exact, ",.0f"), spread(tanh, ",.0f"), spread(ratio, ".3f"))
        for form, rate in zip(FORMS, (exact, tanh), strict=True):
            figures.add("tokens per second of CPU time", f"{kernels}: {form}", *rate)
        figures.add("rate of gelu_new / of gelu", kernels, *ratio)


def stepper(config: GPT2Config, data: Data, settings: TrainingSettings, by_native: bool) -> Stepper:
    """A training run whose first steps, which set up memory, are done."""
    library, limit = native._library, os.environ.get(OURS)
    if not by_native:  # as if the package had been installed without a C compiler
        native._library = lambda: "disabled by the benchmark"
        os.environ.pop(OURS, None)  # it names native kernels that must be there
    try:
        run = new_run(config, data, settings)
    finally:
        native._library = library
        os.environ |= {OURS: limit} if limit else {}
    run.model.train()
    made = Stepper(run, run.batches())
    steps_per_second(made, 0.1)
    return made


def steps_per_second(of: Stepper, seconds: float) -> float:
    """Steps per second of CPU time, which other programs on the machine affect little."""
    began, steps = time.process_time(), 0
    while (taken := time.process_time() - began) < seconds or not steps:
        of.gradients()
        of.update()
        of.forget()
        steps += 1
    return steps / taken


if __name__ == "__main__":
    main()
