"""Whether EchoSelf's own trainer and runtime (github.com/9cog/echoself) go on from our export as from their own checkpoint.

    python benchmarks/echoself_trainer.py --echoself CHECKOUT [--before 20] [--steps 15] [--text FILE ...]

CHECKOUT is a copy of their repository, of August 2026 or later; its code runs in processes of its own. Their trainer
(train_cached.py) trains a small NanEcho on GPT-2's tokens of the text and saves it. That checkpoint is imported and exported
again, and their trainer continues from both, with equal seeds: each loss must be the same number. Their runtime
(NanEcho/runtime.py) then loads both files, and must compute the same logits, as we do with random patterns disabled, and
generate the same text. GPT-2's vocabulary is downloaded, or read from TIKTOKEN_CACHE_DIR.

Ends with 1 if anything differs.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import results
from common.results import Figures, machine, print_row

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.weights import load_model
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.nanecho_export import export_nanecho

_TEXT = sorted((Path(__file__).parents[1] / "tests/data/scenes").glob("*.md"))
_HELD_OUT = 3000  # ids
_PROVENANCE = {"name": "gpt2", "vocab_size": 50257, "eos_token": "<|endoftext|>", "eos_token_id": 50256}
_SETTINGS: dict[str, Any] = {
    **{"data_dir": "data", "batch_size": 4, "device": "cpu", "dtype": "float32", "enable_introspection": False},
    **{"n_layer": 4, "n_head": 2, "n_embd": 16, "block_size": 32, "dropout": 0.1, "connection_growth_interval": 10},
    **{
        "learning_rate": 1e-3,
        "warmup_iters": 5,
        "lr_decay_iters": 100,
        "log_interval": 1,
        "eval_interval": 10,
        "eval_iters": 2,
    },
}
_TRAIN = """
import json, sys
import torch
from train_cached import CachedNanEchoTrainer
from train_nanecho import TrainingConfig
losses = []
torch.manual_seed(1)
trainer = CachedNanEchoTrainer(TrainingConfig(**json.loads(sys.argv[1])))
trainer.model.register_forward_hook(lambda model, given, output: losses.append(output["loss"].item()))
torch.manual_seed(2)
trainer.train()
print("losses: " + json.dumps([trainer.starting_iteration, losses]))
"""
_RUNTIME = """
import json, sys
import numpy as np
import torch
from NanEcho.runtime import NanEchoRuntime
runtime = NanEchoRuntime.load(sys.argv[1])
ids = torch.from_numpy(np.load(sys.argv[2]))
with torch.inference_mode():
    seeded = runtime.model(ids, generator=torch.Generator().manual_seed(3))["logits"]
    text = runtime.generate("Once upon a time", max_new_tokens=20, seed=4)
    runtime.config.pattern_injection_rate = 0.0
    plain = runtime.model(ids)["logits"]
np.savez(sys.argv[3], seeded=seeded.numpy(), plain=plain.numpy())
print("runtime: " + json.dumps([text, runtime.metadata["tokenizer"], runtime.metadata["iteration"]]))
"""


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--echoself", type=Path, required=True, metavar="CHECKOUT", help="a copy of github.com/9cog/echoself")
    parser.add_argument("--before", type=int, default=20, help="steps of their trainer before the export")
    parser.add_argument("--steps", type=int, default=15, help="steps of their trainer after it")
    parser.add_argument("--text", type=Path, nargs="+", default=_TEXT, metavar="FILE")
    given = parser.parse_args()
    figures = Figures(given)
    print(f"{given.echoself}; {machine()}.\n")
    with tempfile.TemporaryDirectory() as folder:
        wrong = compare(given, Path(folder), figures)
    figures.write()
    print(
        f"\nDifferent: {', '.join(wrong)}."
        if wrong
        else "\nTheir programs continue from our export as from their own checkpoint."
    )
    return bool(wrong)


def compare(given: Any, work: Path, figures: Figures) -> list[str]:
    """Print each comparison; returns the names of those that differ."""
    write_data(given.text, work / "data")
    train(given.echoself, work, "original", given.before)
    newest = only_the_newest(work / "original/cache")
    folder = import_checkpoint(newest, work / "imported", None, lambda _: None)
    exported = export_nanecho(folder, work / "exported/cache")
    ids = np.random.default_rng(0).integers(0, 50257, (2, 32))
    np.save(work / "ids.npy", ids)
    runtimes = [runtime(given.echoself, work, name, path) for name, path in (("original", newest), ("exported", exported))]
    ours = our_logits(folder, ids)
    (start, losses), (same_start, after) = (train(given.echoself, work, name, given.steps) for name in ("original", "exported"))
    print_row("their program", "compared", "largest difference")
    print("|---|---|---|")
    differences = {
        f"trainer: {len(losses)} losses from iteration {start}": largest(losses, after) if start == same_start > 0 else np.inf,
        "runtime: logits with random patterns, seeded": largest(runtimes[0]["seeded"], runtimes[1]["seeded"]),
        "runtime: logits without, against ours": largest(runtimes[1]["plain"], ours),
        "runtime: generated text": float(runtimes[0]["text"] != runtimes[1]["text"]),
    }
    wrong = []
    for name, difference in differences.items():
        print_row(*name.split(": "), f"{difference:.1e}")
        figures.add("largest difference", name, float(difference))
        if difference > (1e-4 if "ours" in name else 0):
            wrong.append(name)
    figures.add("loss, nats per token", "first after the original", losses[0])
    figures.add("loss, nats per token", "first after the export", after[0])
    return wrong


def write_data(files: list[Path], folder: Path) -> None:
    """The token files that their trainer reads, with the provenance of the tokenizer that it requires."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    ids = np.asarray(make_tokenizer("gpt2", lambda: iter(())).encode_batch([text])[0], np.uint16)
    folder.mkdir()
    ids[:-_HELD_OUT].tofile(folder / "train.bin")
    ids[-_HELD_OUT:].tofile(folder / "val.bin")
    (folder / "metadata.json").write_text(json.dumps({"tokenizer": _PROVENANCE}))


def train(echoself: Path, work: Path, name: str, steps: int) -> tuple[int, list[float]]:
    """Train `steps` steps in the folder `name`; returns the iteration at which they start, and each loss of a forward pass."""
    settings = _SETTINGS | {"out_dir": name, "max_iters": steps}
    start, losses = answer(echoself, work, _TRAIN, "losses: ", json.dumps(settings))
    return start, losses


def only_the_newest(cache: Path) -> Path:
    """The newest checkpoint of their cache, without the others, of which the trainer would take the one that it thinks best."""
    listed = json.loads((cache / "metadata.json").read_text())
    newest = max(listed, key=lambda name: int(listed[name]["iteration"]))
    for name in listed:
        if name != newest:
            (cache / "checkpoints" / f"{name}.pt").unlink()
    return cache / "checkpoints" / f"{newest}.pt"


def runtime(echoself: Path, work: Path, name: str, path: Path) -> dict[str, Any]:
    """What their runtime computes from `path`. It refuses a file that does not name GPT-2's tokenizer."""
    text, tokenizer, _ = answer(echoself, work, _RUNTIME, "runtime: ", str(path), str(work / "ids.npy"), str(work / name))
    assert tokenizer == _PROVENANCE
    with np.load(work / f"{name}.npz") as logits:
        return {"text": text} | dict(logits)


def our_logits(folder: ModelFolder, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        logits: np.ndarray[Any, Any] = load_model(folder).eval()(torch.from_numpy(ids)).logits.numpy()
    return logits


def largest(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one) - np.asarray(other)).max()) if np.shape(one) == np.shape(other) else float("inf")


def answer(echoself: Path, work: Path, program: str, begins: str, *arguments: str) -> Any:
    """What `program` prints after `begins`, as JSON. It runs with the checkout's modules."""
    environment = os.environ | {"PYTHONPATH": str(echoself.resolve())}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith(begins)), None)
    if done.returncode or line is None:
        raise SystemExit(f"EchoSelf's program ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(line.removeprefix(begins))


if __name__ == "__main__":
    sys.exit(main())
