"""nanoGPT's own train.py resumes from what we export, in three of its versions.

They run if NANOGPT names a clone of github.com/karpathy/nanoGPT, of which the commits are taken. The export of a run that
train.py itself began must go on as that run does, to the last digit that it prints. A model that Muon trained has no run to
compare with: its first losses must be those that we compute on the same tokens.
"""

import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.nanogpt_export import EARLY, export_nanogpt
from echoself_action.model.config import Activation
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data
from echoself_action.training.trainer import Callbacks
from echoself_action.training.trainer import train as train_here

from ..conftest import SCENES, training_settings

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32}


@dataclass(frozen=True)
class Version:
    """A commit of nanoGPT. Its train.py computes the GELU of `activation`."""

    commit: str
    activation: Activation


VERSIONS = {
    "February 2023": Version("ae3a8d5f", "gelu_new"),
    "April 2023": Version(EARLY, "gelu_new"),
    "June 2023": Version("eba36e84", "gelu"),
    "newest": Version("HEAD", "gelu"),
}


@dataclass(frozen=True)
class NanoGPT:
    """A version in a folder of its own, with its data in data/tokens."""

    folder: Path
    version: Version

    def write_tokens(self, train: Any, val: Any, vocabulary: int) -> None:
        place = self.folder / "data/tokens"
        place.mkdir(parents=True, exist_ok=True)
        np.asarray(train, np.uint16).tofile(place / "train.bin")
        np.asarray(val, np.uint16).tofile(place / "val.bin")
        (place / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocabulary}))

    def train(self, out: Path, **settings: object) -> list[str]:
        """Run train.py with its checkpoint in `out`; returns the lines of its losses."""
        options = SIZES | {
            **{"device": "cpu", "compile": False, "dtype": "float32", "dataset": "tokens", "out_dir": out, "bias": True},
            **{"dropout": 0.0, "batch_size": 8, "gradient_accumulation_steps": 1, "eval_interval": 20, "eval_iters": 4},
            **{"warmup_iters": 5, "lr_decay_iters": 100, "learning_rate": 1e-3, "min_lr": 1e-4, "weight_decay": 0.05},
            **{"beta2": 0.99, "log_interval": 1, "always_save_checkpoint": True},
        }
        command = [sys.executable, "train.py", *(f"--{name}={value}" for name, value in (options | settings).items())]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return re.findall(r"(?:iter \d+: loss|step \d+: train loss) [^\s,]+(?:, val loss \S+)?", done.stdout)

    def logits(self, checkpoint: Path, ids: torch.Tensor) -> torch.Tensor:
        """Those of its model.py: (batch, length) -> (batch, length, vocab_size)."""
        torch.save(ids.contiguous(), self.folder / "ids.pt")
        code = (
            "import torch, model, sys\n"
            "content = torch.load(sys.argv[1], weights_only=True)\n"
            "gpt = model.GPT(model.GPTConfig(**content['model_args'])).eval()\n"
            "gpt.load_state_dict(content['model'])\n"
            "ids = torch.load('ids.pt')\n"
            "with torch.no_grad(): torch.save(gpt(ids, ids)[0], 'logits.pt')\n"
        )
        subprocess.run([sys.executable, "-c", code, str(checkpoint)], cwd=self.folder, check=True, capture_output=True)
        found: torch.Tensor = torch.load(self.folder / "logits.pt")
        return found


@pytest.fixture(params=VERSIONS)
def nanogpt(request: pytest.FixtureRequest, tmp_path: Path) -> NanoGPT:
    clone, version = os.environ.get("NANOGPT"), VERSIONS[request.param]
    if not clone:
        pytest.skip("NANOGPT does not name a clone of karpathy/nanoGPT")
    folder = tmp_path / "nanogpt"
    folder.mkdir()
    for name in ("train.py", "model.py", "configurator.py"):
        source = subprocess.run(["git", "-C", clone, "show", f"{version.commit}:{name}"], capture_output=True, check=True)
        (folder / name).write_bytes(source.stdout)
    return NanoGPT(folder, version)


def ids_of(text: str) -> tuple[list[int], int]:
    characters = sorted(set(text))
    return [characters.index(one) for one in text], len(characters)


def test_an_imported_run_goes_on_as_the_original(nanogpt: NanoGPT, tmp_path: Path) -> None:
    ids, vocabulary = ids_of("".join(scene.read_text() for scene in SCENES))
    nanogpt.write_tokens(ids[:-20_000], ids[-20_000:], vocabulary)
    original, exported = tmp_path / "original", tmp_path / "exported"
    nanogpt.train(original, max_iters=20)
    folder = import_checkpoint(original / "ckpt.pt", tmp_path / "out", None, print)
    assert isinstance(folder.config, GPT2Config)
    assert folder.config.activation == nanogpt.version.activation
    export_nanogpt(folder, exported / "ckpt.pt")
    theirs = nanogpt.train(original, max_iters=40, init_from="resume")
    ours = nanogpt.train(exported, max_iters=40, init_from="resume")
    print(list(zip(theirs, ours, strict=True)))
    assert len(theirs) > 20
    assert ours == theirs


def muon_trained(tokens: Tokens, activation: Activation, place: Path) -> ModelFolder:
    config = GPT2Config(vocab_size=257, activation=activation, **SIZES)
    run = new_run(config, Data(tokens, ["*.md"]), training_settings(max_iters=20, optimizer="muon"))
    train_here(run, place / "model", StopRequest(), Callbacks(lambda _: None, print))
    return resumable(place / "model")[0]


@pytest.mark.parametrize("optimizer", ["muon", "none"])
def test_a_model_that_muon_trained_has_the_same_first_losses(
    nanogpt: NanoGPT, tokens: Tokens, tmp_path: Path, optimizer: str
) -> None:
    """Each file of tokens has one block, so train.py has no choice of a batch, and its loss is that of the block."""
    folder = muon_trained(tokens, nanogpt.version.activation, tmp_path)
    if optimizer == "none":
        (folder.path / "training_state").rename(tmp_path / "training_state")
        folder = read_model_folder(folder.path)
    blocks = np.random.default_rng(3).integers(0, 257, (2, SIZES["block_size"] + 1))
    nanogpt.write_tokens(blocks[0], blocks[1], 257)
    export_nanogpt(folder, tmp_path / "exported/ckpt.pt")
    with torch.no_grad():
        model: Any = AutoModelForCausalLM.from_pretrained(folder.path)
        logits = model.eval()(torch.from_numpy(blocks[:, :-1])).logits
    theirs = nanogpt.logits(tmp_path / "exported/ckpt.pt", torch.from_numpy(blocks[:, :-1]))
    print("max absolute difference of logits", (theirs - logits).abs().max().item())
    torch.testing.assert_close(theirs, logits, atol=2e-6, rtol=0)  # with the other GELU it is 6e-5
    train, val = (
        cross_entropy(one.double(), torch.from_numpy(block[1:])).item() for one, block in zip(logits, blocks, strict=True)
    )
    interval = {"eval_interval": folder.step, "max_iters": 2 * folder.step}
    said = nanogpt.train(tmp_path / "exported", init_from="resume", **interval)
    print(said[:2], train, val)
    expected = [f"step {folder.step}: train loss {train:.4f}, val loss {val:.4f}", f"iter {folder.step}: loss {train:.4f}"]
    assert said[:2] == expected
    back = import_checkpoint(tmp_path / "exported/ckpt.pt", tmp_path / "back", None, print)  # with train.py's own AdamW
    assert (back.step, back.has_training_state) == (2 * folder.step, True)
