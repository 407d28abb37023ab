"""`init_from`: what a pretrained start gains over random weights at equal time, and what GPT-2's own sizes cost.

    python benchmarks/init_from.py gain --base CORPUS --corpus CORPUS [--base-minutes 2] [--minutes 1] [--seeds 3]
    python benchmarks/init_from.py cost [--sizes gpt2 distilgpt2] [--block-size 256] [--batch-size 4] [--steps 6]

`gain`: a model is trained on the text of `--base`, for `--base-minutes`. Then, seed by seed, a model that starts from it and a
new model of `preset: auto` are trained on `--corpus` for the same minutes. One function measures each on all held-out text of
`--corpus`, in fp32, in bits per byte; "before" is the base model itself.

`cost`: a folder of random weights of a size on the Hub (12 or 6 layers of width 768, 50,257 tokens, 1,024 positions), as
save_pretrained writes it, is the `init_from` of one `cycle`: cropped to `--block-size`, trained for a few steps, compared with
transformers and published, with its training state, to a local Hub. Printed: seconds of each part, peak resident memory, and
tokens per second of the steps.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from common import results
from common.corpora import EVERYTHING, bits_per_byte_of_folder, name_of, split_text
from common.peers import TEXT
from common.results import Figures, spread

LAYERS = {"gpt2": 12, "distilgpt2": 6}
WIDTH, POSITIONS = 768, 1024
PARTS = ("Pulling", "Pretrained model", "Corpus", "Training", "Publishing", "Publishing the training state")


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("measure", choices=["gain", "cost"])
    parser.add_argument("--corpus", type=Path, default=TEXT, help="the text to train on: a file or a folder")
    parser.add_argument("--base", type=Path, help="gain: the text of the pretrained model")
    parser.add_argument("--base-minutes", type=float, default=2)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--block-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--eval-tokens", type=int, default=4096, help="cost: of an evaluation")
    parser.add_argument("--tokenizer", default="gpt2", help="cost: gpt2, or bytes without GPT-2's vocabulary on this machine")
    given = parser.parse_args()
    if given.measure == "gain" and not given.base:
        parser.error("gain needs --base")
    figures = Figures(given)
    print(results.machine())
    with tempfile.TemporaryDirectory() as work:
        if given.measure == "gain":
            gain(given.base, given.corpus, given.base_minutes, given.minutes, given.seeds, Path(work), figures)
        for size in given.sizes if given.measure == "cost" else ():
            cost(size, given, Path(work) / size, figures)
    figures.write()


def gain(base: Path, corpus: Path, base_minutes: float, minutes: float, seeds: int, work: Path, figures: Figures) -> None:
    """Train from `base` and from random weights on `corpus`, each for `minutes`."""
    held_out = split_text(corpus).held_out
    pretrained = train(base, base_minutes, 1, work / "base")
    what = f"{name_of(corpus)}, bits per byte"
    rows = {"before": [bits_per_byte_of_folder(pretrained, held_out)], "random weights": [], "init_from": []}
    for seed in range(1, seeds + 1):
        for name, options in (("init_from", ["--init-from", str(pretrained)]), ("random weights", [])):
            folder = train(corpus, minutes, seed, work / f"{name}-{seed}", *options)
            rows[name].append(bits_per_byte_of_folder(folder, held_out))
            print(f"seed {seed}, {name}: {rows[name][-1]:.4f} bits per byte", flush=True)
    print(f"\n{what}, after {minutes:g} minutes; the base model had {base_minutes:g} minutes of {name_of(base)}")
    for name, values in rows.items():
        print(f"{name:15} {spread(values, '.4f')}")
        figures.add(what, name, *values)


def train(corpus: Path, minutes: float, seed: int, output: Path, *options: str) -> Path:
    """The best model of a run of `echoself train` on `corpus`."""
    data = str(corpus.resolve() if corpus.is_file() else corpus.resolve() / EVERYTHING)
    words = ["train", "--data", data, "--max-minutes", str(minutes), "--seed", str(seed), "--output-dir", str(output)]
    return Path(run([*words, *options], output.with_suffix(".log"))["model_dir"])


def cost(size: str, given: argparse.Namespace, work: Path, figures: Figures) -> None:
    """One cycle from a random model of `size`."""
    work.mkdir()
    # in a process of its own: a child's peak memory begins with what its parent has
    writer = get_context("spawn").Process(target=write_random, args=(work / "pretrained", LAYERS[size], given.tokenizer))
    writer.start()
    writer.join()
    corpus = given.corpus.resolve()
    words = ["cycle", "--hub", str(work / "hub"), "--repo-id", "me/model", "--init-from", str(work / "pretrained")]
    words += ["--data", str(corpus if corpus.is_file() else corpus / EVERYTHING), "--output-dir", str(work / "out")]
    words += ["--max-iters", str(given.steps), "--block-size", str(given.block_size), "--max-minutes", "0"]
    words += ["--batch-size", str(given.batch_size), "--gate", "none", "--eval-tokens", str(given.eval_tokens)]
    outputs = run(words, work / "log")
    seconds = {name.removeprefix("s of "): float(took) for name, took in outputs.items() if name.startswith("s of ")}
    print(f"\n{size}: {LAYERS[size]} layers, width {WIDTH}, context cropped to {given.block_size}")
    for name, took in seconds.items():
        print(f"{name:30} {took:7.1f} s")
        figures.add("by the clock, s", f"{size}: {name}", took)
    print(f"{'processor time':30} {float(outputs['processor']):7.1f} s")
    memory, rate = float(outputs["peak memory"]) / 1e9, float(outputs["tokens_per_second"])
    print(f"{'peak memory':30} {memory:7.2f} GB\n{'tokens per second':30} {rate:7.0f}\n{parity(work / 'log')}", flush=True)
    figures.add("peak memory, GB", size, memory)
    figures.add("tokens/s", size, rate)
    assert outputs["deployed"] == "true", outputs


def write_random(folder: Path, layers: int, tokenizer: str) -> None:
    """A model of random weights, as transformers saves it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from echoself_action.corpus.make_tokenizer import make_tokenizer

    torch.manual_seed(1)
    GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=WIDTH, n_head=12, n_positions=POSITIONS)).save_pretrained(folder)
    make_tokenizer(tokenizer, lambda: iter(())).save(folder)


def run(words: list[str], log: Path) -> dict[str, str]:
    """The outputs of a whole process, with its peak memory in bytes and `s of <part>` for each part of its log."""
    outputs = log.with_suffix(".outputs")
    outputs.touch()
    environment = os.environ | {"GITHUB_OUTPUT": str(outputs), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("GITHUB_ACTIONS", None)  # it prints groups instead of titles
    command = [sys.executable, "-m", "echoself_action", *words]
    began, title, seconds = time.monotonic(), "start", dict[str, float]()
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process,
        log.open("w") as kept,
    ):
        assert process.stdout
        for line in process.stdout:
            kept.write(line)
            kept.flush()
            if line.strip() in PARTS:
                now = time.monotonic()
                seconds[title], title, began = now - began, line.strip(), now
        seconds[title] = time.monotonic() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}:\n{log.read_text()[-3000:]}")
    found = dict(re.findall(r"(\w+)<<\S+\n(.*)\n\S+\n", outputs.read_text()))
    return (
        found
        | {f"s of {name}": str(took) for name, took in seconds.items()}
        | {"peak memory": str(usage.ru_maxrss * 1024), "processor": str(usage.ru_utime + usage.ru_stime)}
    )


def parity(log: Path) -> str:
    """The lines of the log about the comparison with transformers."""
    return "\n".join(line for line in log.read_text().splitlines() if "tensors match" in line)


if __name__ == "__main__":
    main()
