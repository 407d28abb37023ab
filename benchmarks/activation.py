"""Which GELU new models are trained with: the exact one (`gelu`), or its tanh approximation (`gelu_new`).

    python benchmarks/activation.py --corpus FOLDER_OR_FILE ... --seeds 3 --steps 300 --json FILE
    python benchmarks/activation.py --corpus FOLDER_OR_FILE --steps 0 --isa avx2          # speed only
    python benchmarks/activation.py --corpus FOLDER_OR_FILE --turns 0                     # without speed

**Loss**: for each seed a model is trained with each form, for the same steps, with the sizes that `preset: auto` chooses for
the first one. Bits per byte are of all held-out text, in fp32; the models are compared seed by seed (`common.results.paired`).

**Another program's GELU**: each model is also evaluated with the other form, and with llama.cpp's on a CPU: the tanh form from
a table of half-precision values. All three are computed by PyTorch in fp32, so that they differ in the GELU alone. `max abs
delta logit` and `same top-1` are against the form that the model was trained with, on the first windows of the held-out text.

**Speed**: training with both forms, which take turns; with native kernels, and without them, by PyTorch. Ratios are taken turn
by turn.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from common import results
from common.corpora import EVERYTHING, add_corpora, bits_per_byte, encoded, name_of, split_text
from common.instruction_sets import add_isa, best_isa, limit_to, shown
from common.limits import ratios
from common.peers import auto_shape, end, our_program, take_turns, write_tokens
from common.results import Figures, machine, paired, print_row, spread
from torch import Tensor, nn

from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.checkpoint.weights import load_model
from echoself_action.model.gpt2 import GPT2

FORMS = ("gelu", "gelu_new")
TABLE = "llama.cpp's table"
WINDOWS = 16  # of the held-out text, for the differences of logits
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
    parser.add_argument("--turns", type=int, default=9, help="of each program; 0: no speed")
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn")
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
            block.mlp.forward = lambda x, mlp=block.mlp: mlp.c_proj(gelu(mlp.c_fc(x)))

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
    text = work / "text.txt"
    text.write_text("\n\n".join(split_text(given.corpus[0]).train))
    shape = replace(auto_shape(text, work), dropout=0.0)
    tokens = write_tokens(text, shape.tokenizer, work)
    programs = {
        f"{form}{'' if native else ', by PyTorch'}": our_program(
            shape, tokens, work, f"{form}-{native}", native=native, activation=form
        )
        for native in (True, False)
        for form in FORMS
    }
    rates = take_turns(programs, given.turns, given.seconds)
    end(programs)
    isa = best_isa()
    print(f"Training, {shape.describe(tokens.name)}; {shown(isa) if isa else 'no native kernels'}\n")
    print_row("program", "gelu: tokens/s", "gelu_new: tokens/s", "gelu_new / gelu")
    print("|---" * 4 + "|")
    for program in ("", ", by PyTorch"):
        exact, tanh = (rates[f"{form}{program}"] for form in FORMS)
        ratio = ratios(tanh, exact)
        print_row(program.strip(", ") or "native kernels", spread(exact, ",.0f"), spread(tanh, ",.0f"), spread(ratio, ".3f"))
        for form, rate in (("gelu", exact), ("gelu_new", tanh)):
            figures.add("tokens/s", f"{form}{program}", *rate)
        figures.add("tokens/s of gelu_new / of gelu", program.strip(", ") or "native kernels", *ratio)


if __name__ == "__main__":
    main()
