"""The cost of a checkpoint: this package's (a copy in memory, written in the background) and torch.save in the loop.

    python benchmarks/saving.py [--rounds 7] [--sizes ci,124M]

A round has three turns of the same number of steps, one after the other: without a save; with a torch.save of the same weights
and optimizer state, as nanoGPT's loop does it (no checksum, no sync, in place of the file before); with our saver's save, which
has been written when the turn ends (two safetensors files with sha256, synced, renamed, old checkpoints pruned). Other load on
the machine affects all three alike. `blocking` is how long the loop waited for a save, `added` how much longer the turn took
than the one without a save, which includes what writing takes from the steps. Medians and ranges.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import results
from common.results import Figures, machine, spread

from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.async_checkpointer import AsyncCheckpointer
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.optim.param_groups import moments
from echoself_action.training.run import Data, Run

ROOT = Path(__file__).parent.parent
# layers, heads, width, block, batch, steps of a turn: a turn must last longer than the writing
SIZES = {"ci": (4, 4, 256, 128, 8, 12), "124M": (12, 12, 768, 64, 1, 4)}
VOCABULARY = 50257


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", default="ci,124M")
    given = parser.parse_args()
    figures = Figures(given)
    print(f"{machine()}, {torch.get_num_threads()} threads\n")
    print("| model | MB | step, ms | save | blocking, ms | added a save, s | of a run at 100 steps | at 10 minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for name in given.sizes.split(","):
        with tempfile.TemporaryDirectory() as place:
            measure(name, Path(place), given.rounds, figures)
    figures.write()


def measure(name: str, place: Path, rounds: int, figures: Figures) -> None:
    run, step, turn = make_run(name, place)
    saver = AsyncCheckpointer(place / "ours", 2, print)
    blocking: dict[str, list[float]] = {"none": [], "torch.save": [], "ours": []}
    took: dict[str, list[float]] = {way: [] for way in blocking}

    def plain() -> None:
        torch.save({"model": run.model.state_dict(), "optimizer": moments(run.model, run.optimizer)}, place / "ckpt.pt")

    def ours() -> None:
        run.step += 1  # of another name than the one before
        saver.save(run)

    saves: dict[str, Callable[[], None]] = {"none": lambda: None, "torch.save": plain, "ours": ours}
    for _ in range(rounds + 1):
        for way, save in saves.items():
            began = time.monotonic()
            save()
            blocking[way].append(time.monotonic() - began)
            for _ in range(turn):
                step()
            saver.wait()
            took[way].append(time.monotonic() - began)
    megabytes = 12 * run.model.parameter_count() / 1e6
    steps_ms = [1000 * seconds / turn for seconds in took["none"][1:]]
    figures.add("step, ms", name, *steps_ms)
    for way in ("torch.save", "ours"):
        # the first round allocates what the others use again
        added = [with_save - without for with_save, without in zip(took[way][1:], took["none"][1:], strict=True)]
        blocking_ms = [1000 * seconds for seconds in blocking[way][1:]]
        figures.add("blocking, ms", f"{name}: {way}", *blocking_ms)
        figures.add("added a save, s", f"{name}: {way}", *added)
        cost = statistics.median(added)
        interval_s = 0.1 * statistics.median(steps_ms)
        print(
            f"| {name} | {megabytes:.0f} | {spread(steps_ms, '.0f')} | {way} | {spread(blocking_ms, '.0f')} | "
            f"{spread(added, '.2f')} | {cost / interval_s:.1%} | {cost / 600:.2%} |",
            flush=True,
        )


def make_run(name: str, place: Path) -> tuple[Run, Callable[[], None], int]:
    """A run of this size, one step of it, and how many make a turn."""
    layers, heads, width, block, batch, turn = SIZES[name]
    files = sorted((ROOT / "tests/data/scenes").glob("*.md"))
    tokens = prepare_tokens(files, make_tokenizer("bytes", lambda: iter(())), place / "tokens", 0.1, "skip", print)
    config = GPT2Config(vocab_size=VOCABULARY, block_size=block, n_layer=layers, n_head=heads, n_embd=width)
    inputs = TrainInputs(mode="train", preset="ci", batch_size=batch, dtype="float32", device="cpu")
    run = new_run(config, Data(tokens, []), inputs.training_settings("adamw", config))
    batches = run.batches()

    def step() -> None:
        ids, targets = batches.at(run.sequences_seen, batch)
        run.model.loss(ids, targets).backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.sequences_seen += batch

    step()
    return run, step, turn


if __name__ == "__main__":
    main()
