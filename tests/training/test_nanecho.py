"""NanEcho in the training loop: exactly resumed while its connections grow, gone on with from another program's file, used."""

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

from ..conftest import training_settings
from ..formats.foreign_files import save
from ..formats.nanecho_files import SIZES, nanecho_checkpoint, state_dict
from .test_trainer import StopAt, same, weights


def growing(steps: int) -> NanEchoConfig:
    sizes = {"vocab_size": 257, "n_embd": 16, "n_head": 2, "n_layer": 2, "block_size": 16, "dropout": 0.1}
    return NanEchoConfig(**sizes, persona_dimensions=["calm", "curious"]).growing_over(steps)


def go_on(
    tokens: Tokens, start: ModelFolder | NanEchoConfig, place: Path, stop: StopRequest | None = None, **changes: Any
) -> Result:
    settings, data = training_settings(**{"keep_checkpoints": 9, "eval_tokens": 512, "decay": 0.0, **changes}), Data(tokens, [])
    run = resume_run(start, data, settings, print) if isinstance(start, ModelFolder) else new_run(start, data, settings)
    watch = stop.watch if isinstance(stop, StopAt) else lambda _: None
    return train(run, place, stop or StopRequest(), Callbacks(watch, pytest.fail))


def masks(folder: ModelFolder) -> float:
    held = [tensor.mean() for name, tensor in weights(folder).items() if name.endswith(".mask")]
    return float(torch.stack(held).mean())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stopped_and_resumed_run_equals_one_long_run(tokens: Tokens, tmp_path: Path, dtype: str) -> None:
    long = go_on(tokens, growing(20), tmp_path / "long", dtype=dtype)
    stopped = go_on(tokens, growing(20), tmp_path / "short", StopAt(5), dtype=dtype)
    assert (stopped.stopped_by, stopped.latest.step) == ("signal", 6)
    middle = go_on(tokens, stopped.latest, tmp_path / "short", max_iters=5, dtype=dtype)
    resumed = go_on(tokens, middle.latest, tmp_path / "short", max_iters=9, dtype=dtype)
    assert resumed.latest.step == long.latest.step == 20
    assert 0.1 < masks(stopped.latest) < masks(middle.latest) < masks(resumed.latest) == 1  # they grew between the stops
    assert same(weights(resumed.latest), weights(long.latest))
    state = "training_state/optimizer.safetensors"
    assert same(load_file(resumed.latest.path / state), load_file(long.latest.path / state))
    assert resumed.latest.metadata
    assert long.latest.metadata
    assert resumed.latest.metadata.val_loss == long.latest.metadata.val_loss
    assert resumed.latest.config == long.latest.config


@pytest.fixture(scope="module")
def trained(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return go_on(tokens, growing(60), tmp_path_factory.mktemp("trained"), max_iters=60, dtype="bfloat16").latest


def test_it_learns_and_what_is_recorded_is_what_was_saved(tokens: Tokens, trained: ModelFolder) -> None:
    assert trained.metadata
    first, last = trained.metadata.evaluations[0].val_loss, trained.metadata.val_loss
    assert last
    assert last < first - 0.3
    assert HeldOut(tokens.val, 16, 512).loss(load_model(trained)) == pytest.approx(last, abs=1e-6)


def test_transformers_writes_the_same_text_with_and_without_a_cache(trained: ModelFolder) -> None:
    assert check_parity(trained).max_abs_diff <= 1e-4
    model: Any = AutoModelForCausalLM.from_pretrained(trained.path, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(trained.path)
    ids = tokenizer("def", return_tensors="pt").input_ids
    texts = []
    for cache in (True, False):
        torch.manual_seed(3)
        drawn = model.generate(ids, max_new_tokens=12, do_sample=True, use_cache=cache)
        sure = model.generate(ids, max_new_tokens=12, do_sample=False, use_cache=cache)
        texts.append([tokenizer.decode(drawn[0]), tokenizer.decode(sure[0])])
    assert texts[0] == texts[1]
    assert all(text.startswith("def") and len(text) > 3 for text in texts[0])


def test_the_card_says_what_it_is_and_its_snippet_runs(trained: ModelFolder, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert 'from_pretrained("someone/echo", trust_remote_code=True)' in snippet
    exec(snippet.replace("someone/echo", str(trained.path)))  # noqa: S102
    assert capsys.readouterr().out.startswith("The")


def test_training_goes_on_from_an_imported_checkpoint_where_it_stood(tokens: Tokens, tmp_path: Path) -> None:
    wide = {"vocab_size": 257}
    content = nanecho_checkpoint("cache", state_dict(**wide), **wide)
    for held in content["optimizer_state_dict"]["state"].values():  # as small as gradients are
        held["exp_avg"] *= 0
        held["exp_avg_sq"] *= 1e-4
    imported = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", "bytes", print)
    assert (imported.step, imported.config.legacy) == (40, True)  # type: ignore[union-attr]
    held_out = HeldOut(tokens.val, SIZES["block_size"], 512)
    result = go_on(tokens, imported, tmp_path / "out", max_iters=10, learning_rate=3e-3)
    assert result.start_val_loss == held_out.loss(load_model(imported))
    assert (result.start_step, result.latest.step) == (40, 50)
    assert result.latest.metadata
    assert result.latest.metadata.val_loss
    assert result.latest.metadata.val_loss < result.start_val_loss
    assert result.latest.config.current_iteration == 49  # type: ignore[union-attr]
    moments = load_file(result.latest.path / "training_state/optimizer.safetensors")
    assert moments["steps.token_embedding.weight"] == 50


def test_a_checkpoint_that_was_imported_before_is_not_imported_again(tmp_path: Path) -> None:
    path = save(nanecho_checkpoint("train_nanecho", state_dict()), tmp_path / "a.pt")
    notes: list[str] = []
    first = import_checkpoint(path, tmp_path / "out", None, notes.append)
    made = (first.path / "model.safetensors").stat().st_mtime_ns
    again = import_checkpoint(path, tmp_path / "out", None, notes.append)
    assert notes[-1] == f"already imported: {first.path}"
    assert (again.path / "model.safetensors").stat().st_mtime_ns == made
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["checkpoint-40"]
