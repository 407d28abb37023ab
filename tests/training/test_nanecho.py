"""Training NanEcho: exact resume while its connections grow, resume from an imported checkpoint, use in transformers."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.weights import load_model
from echoself_action.corpus.tokens import Tokens
from echoself_action.evaluation.loss import HeldOut
from echoself_action.evaluation.parity import check_parity
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.hub.cards.model_card import CardChoices, model_card
from echoself_action.model.nanecho import NanEchoConfig
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data
from echoself_action.training.trainer import Callbacks, Result, train

from ..conftest import contents, training_settings
from ..formats.foreign_files import save
from ..formats.nanecho_files import SIZES, nanecho_checkpoint, state_dict
from .test_trainer import StopAt, same, weights


def growing(steps: int) -> NanEchoConfig:
    sizes = {"vocab_size": 257, "n_embd": 16, "n_head": 2, "n_layer": 2, "block_size": 16, "dropout": 0.1}
    return NanEchoConfig(**sizes, persona_dimensions=["calm", "curious"]).growing_over(steps)


def train_from(
    tokens: Tokens, start: ModelFolder | NanEchoConfig, place: Path, stop: StopRequest | None = None, **changes: Any
) -> Result:
    settings, data = training_settings(**{"keep_checkpoints": 9, "eval_tokens": 512, "decay": 0.0, **changes}), Data(tokens, [])
    run = resume_run(start, data, settings, print) if isinstance(start, ModelFolder) else new_run(start, data, settings)
    watch = stop.watch if isinstance(stop, StopAt) else lambda _: None
    return train(run, place, stop or StopRequest(), Callbacks(watch, pytest.fail))


def masks(folder: ModelFolder) -> float:
    means = [tensor.mean() for name, tensor in weights(folder).items() if name.endswith(".mask")]
    return float(torch.stack(means).mean())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_nanecho_run_equals_an_uninterrupted_run(tokens: Tokens, tmp_path: Path, dtype: str) -> None:
    long = train_from(tokens, growing(20), tmp_path / "long", dtype=dtype)
    stopped = train_from(tokens, growing(20), tmp_path / "short", StopAt(5), dtype=dtype)
    assert (stopped.stopped_by, stopped.latest.step) == ("signal", 6)
    middle = train_from(tokens, stopped.latest, tmp_path / "short", max_iters=5, dtype=dtype)
    resumed = train_from(tokens, middle.latest, tmp_path / "short", max_iters=9, dtype=dtype)
    assert resumed.latest.step == long.latest.step == 20
    assert 0.1 < masks(stopped.latest) < masks(middle.latest) < masks(resumed.latest) == 1  # connections grew between the stops
    assert same(weights(resumed.latest), weights(long.latest))
    state = "training_state/optimizer.safetensors"
    assert same(load_file(resumed.latest.path / state), load_file(long.latest.path / state))
    assert resumed.latest.metadata
    assert long.latest.metadata
    assert resumed.latest.metadata.val_loss == long.latest.metadata.val_loss
    assert resumed.latest.config == long.latest.config


@pytest.fixture(scope="module")
def trained(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return train_from(tokens, growing(60), tmp_path_factory.mktemp("trained"), max_iters=60, dtype="bfloat16").latest


def test_nanecho_learns_and_the_recorded_loss_is_that_of_the_checkpoint(tokens: Tokens, trained: ModelFolder) -> None:
    assert trained.metadata
    first, last = trained.metadata.evaluations[0].val_loss, trained.metadata.val_loss
    assert last
    assert last < first - 0.3
    assert HeldOut(tokens.val, 16, 512).loss(load_model(trained)) == pytest.approx(last, abs=1e-6)


def test_transformers_generates_the_same_text_with_and_without_kv_cache(trained: ModelFolder) -> None:
    assert check_parity(trained).max_abs_diff <= 1e-4
    model: Any = AutoModelForCausalLM.from_pretrained(trained.path, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(trained.path)
    ids = tokenizer("def", return_tensors="pt").input_ids
    texts = []
    for cache in (True, False):
        torch.manual_seed(3)
        sampled = model.generate(ids, max_new_tokens=12, do_sample=True, use_cache=cache)
        greedy = model.generate(ids, max_new_tokens=12, do_sample=False, use_cache=cache)
        texts.append([tokenizer.decode(sampled[0]), tokenizer.decode(greedy[0])])
    assert texts[0] == texts[1]
    assert all(text.startswith("def") and len(text) > 3 for text in texts[0])


def test_model_card_describes_nanecho_and_its_snippet_runs(trained: ModelFolder, capsys: pytest.CaptureFixture[str]) -> None:
    card = model_card("someone/echo", trained, check_parity(trained), CardChoices(license="mit"))
    for fact in (
        "A NanEcho language model with 2 layers",
        "- nanecho\n",
        "`trust_remote_code=True`, which runs that file",
        "persona dimensions (calm, curious)",
        "recursive reasoning, 4 deep at step 59",
    ):
        assert fact in card, fact
    assert "legacy" not in card
    [snippet] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert 'pipeline("text-generation", "someone/echo", trust_remote_code=True)' in snippet
    exec(snippet.replace("someone/echo", str(trained.path)))  # noqa: S102
    assert capsys.readouterr().out.startswith("The")


def test_resume_from_an_imported_checkpoint_with_its_optimizer_state(tokens: Tokens, tmp_path: Path) -> None:
    wide = {"vocab_size": 257}
    content = nanecho_checkpoint("cache", state_dict(**wide), **wide)
    for state in content["optimizer_state_dict"]["state"].values():  # the size of real gradients
        state["exp_avg"] *= 0
        state["exp_avg_sq"] *= 1e-4
    imported = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", "bytes", print)
    assert (imported.step, imported.config.legacy) == (40, True)  # type: ignore[union-attr]
    held_out = HeldOut(tokens.val, SIZES["block_size"], 512)
    result = train_from(tokens, imported, tmp_path / "out", max_iters=10, learning_rate=3e-3)
    assert result.start_val_loss == held_out.loss(load_model(imported))
    assert (result.start_step, result.latest.step) == (40, 50)
    assert result.latest.metadata
    assert result.latest.metadata.val_loss
    assert result.latest.metadata.val_loss < result.start_val_loss
    assert result.latest.config.current_iteration == 49  # type: ignore[union-attr]
    moments = load_file(result.latest.path / "training_state/optimizer.safetensors")
    assert moments["steps.token_embedding.weight"] == 50


def test_checkpoint_is_not_imported_twice(tmp_path: Path) -> None:
    path = save(nanecho_checkpoint("train_nanecho", state_dict()), tmp_path / "a.pt")
    notes: list[str] = []
    first = import_checkpoint(path, tmp_path / "out", None, notes.append)
    made = (first.path / "model.safetensors").stat().st_mtime_ns
    again = import_checkpoint(path, tmp_path / "out", None, notes.append)
    assert notes[-1] == f"already imported: {first.path}"
    assert (again.path / "model.safetensors").stat().st_mtime_ns == made
    assert contents(tmp_path / "out") == ["checkpoint-40"]
