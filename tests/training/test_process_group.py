"""Several processes: the same loss curve and checkpoints as one, which any number of processes can resume."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from echoself_action import native
from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.select import latest
from echoself_action.checkpoint.weights import load_model
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import InputError
from echoself_action.evaluation.loss import HeldOut
from echoself_action.model import ModelConfig
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.model.nanecho import NanEchoConfig
from echoself_action.training.distributed.process_group import ProcessGroup, join_process_group
from echoself_action.training.init_or_resume import new_run, receive_run, resume_run
from echoself_action.training.phases import Phase
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data
from echoself_action.training.settings import TrainingSettings
from echoself_action.training.trainer import Callbacks, train, train_as_worker
from tests.conftest import training_settings

from .processes import run_in_group
from .test_trainer import StopAt, ignore, same, weights


def train_in_group(
    tokens: Tokens, start: "Path | ModelConfig", settings: TrainingSettings, output_dir: Path, stop_at: int | None = None
) -> None:
    """Train from `start`, in one process of a group."""
    with join_process_group("cpu") as process_group:
        stop = StopRequest() if stop_at is None else StopAt(stop_at)
        if not process_group.is_main:
            train_as_worker(receive_run(process_group), StopRequest())
            return
        data = Data(tokens, [])
        if isinstance(start, Path):
            run = resume_run(read_model_folder(start), data, settings, print, process_group)
        else:
            run = new_run(start, data, settings, process_group)
        train(run, output_dir, stop, Callbacks(stop.watch if isinstance(stop, StopAt) else ignore, print))


def trained(
    size: int, tokens: Tokens, start: "ModelFolder | ModelConfig", output_dir: Path, stop_at: int | None = None, **changes: Any
) -> ModelFolder:
    """Train in `size` processes; returns the newest checkpoint."""
    settings = training_settings(**{"max_iters": 12, "batch_size": 8, "log_interval": 1, "decay": 0, **changes})
    place = start.path if isinstance(start, ModelFolder) else start
    run_in_group(size, train_in_group, tokens, place, settings, output_dir, stop_at)
    newest = latest(output_dir)
    assert newest
    return newest


def curve(output_dir: Path) -> list[float]:
    lines = [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("loss", "val_loss") if name in line]


def state(folder: ModelFolder) -> dict[str, torch.Tensor]:
    """Weights and moments."""
    return weights(folder) | load_file(folder.path / "training_state/optimizer.safetensors")


def close(one: ModelFolder, other: ModelFolder, tolerance: float) -> None:
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], atol=tolerance, rtol=0, msg=name)


GENTLE = {"learning_rate": 1e-3}  # a large step makes rounding grow


@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation": 2}, {"sharding": "full"}], ids=str)
def test_one_two_and_four_processes_have_the_same_loss_curve(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = GENTLE | {"batch_size": 4} | changes
    folders = {size: trained(size, tokens, small_config, tmp_path / str(size), **settings) for size in (1, 2, 4)}
    for size in (2, 4):
        assert curve(tmp_path / str(size)) == pytest.approx(curve(tmp_path / "1"), abs=1e-5)
        close(folders[size], folders[1], 1e-5)
        metadata = folders[size].metadata
        assert metadata
        assert metadata.settings["processes"] == size
        loss = HeldOut(tokens.val, 32, 1024).loss(load_model(folders[size]))
        assert metadata.val_loss == pytest.approx(loss, abs=1e-6)


def test_processes_with_native_kernels_have_the_loss_curve_of_one_process(
    native_code: None, tokens: Tokens, tmp_path: Path
) -> None:
    config = GPT2Config(vocab_size=257, block_size=32, n_layer=2, n_head=2, n_embd=64)
    for size in (1, 2):
        folder = trained(size, tokens, config, tmp_path / str(size), batch_size=4, dtype="auto", **GENTLE)
        state = json.loads((folder.path / "training_state/state.json").read_text())
        assert state["instruction_set"] == native.instruction_set(native.fastest_dtype() or torch.float32)
    assert curve(tmp_path / "2") == pytest.approx(curve(tmp_path / "1"), abs=2e-3)  # each process rounds its gradients


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_nanecho_in_two_processes_equals_one_process(tokens: Tokens, tmp_path: Path, sharding: str) -> None:
    sizes = {"vocab_size": 257, "n_embd": 16, "n_head": 2, "n_layer": 2, "block_size": 16, "dropout": 0.0}
    phases = (Phase("a", 0.5, (("**/*-0*.md", 0.0),), 1.2, 0.3), Phase("b", 0.5, connections=0.9))
    gentle = {"learning_rate": 5e-4, "phases": phases}  # its recursion makes rounding grow more
    config = NanEchoConfig(**sizes, persona_dimensions=["calm", "curious"]).growing_over(12)
    # its patterns are injected at random, once for each batch of a process, as dropout is
    one = trained(1, tokens, config, tmp_path / "1", batch_size=4, gradient_accumulation=2, **gentle)
    two = trained(2, tokens, config, tmp_path / "2", sharding=sharding, **gentle)
    assert curve(tmp_path / "2") == pytest.approx(curve(tmp_path / "1"), abs=1e-5)
    close(two, one, 1e-5)


def test_resume_in_a_phase_with_another_number_of_processes(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    gentle = {**GENTLE, "phases": (Phase("a", 0.5, (("**/*-0*.md", 0.0),)), Phase("b", 0.5, (("**/*-0*.md", 3.0),)))}
    long = trained(1, tokens, small_config, tmp_path / "long", **gentle)
    first = trained(2, tokens, small_config, tmp_path / "short", stop_at=3, **gentle)
    assert first.step == 4
    second = trained(1, tokens, first, tmp_path / "short", max_iters=4, warmup=0, **gentle)
    third = trained(4, tokens, second, tmp_path / "short", max_iters=4, warmup=0, **gentle)
    assert third.step == long.step == 12
    close(third, long, 1e-5)


def test_resume_with_another_sharding(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    long = trained(1, tokens, small_config, tmp_path / "long", **GENTLE)
    first = trained(2, tokens, small_config, tmp_path / "short", stop_at=3, sharding="full", **GENTLE)
    second = trained(2, tokens, first, tmp_path / "short", max_iters=4, **GENTLE)
    third = trained(4, tokens, second, tmp_path / "short", max_iters=4, sharding="full", **GENTLE)
    assert third.step == long.step == 12
    close(third, long, 1e-5)


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16", "gradient_accumulation": 2}, {"sharding": "full"}], ids=str)
def test_resume_with_the_same_number_of_processes_is_bit_exact(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(small_config, dropout=0.1)
    long = trained(2, tokens, config, tmp_path / "long", **changes)
    stopped = trained(2, tokens, config, tmp_path / "short", stop_at=4, **changes)
    resumed = trained(2, tokens, stopped, tmp_path / "short", max_iters=12 - stopped.step, **changes)
    assert stopped.step == 5
    assert same(state(resumed), state(long))


def test_dropout_in_two_processes_equals_gradient_accumulation_in_one(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    config = replace(small_config, dropout=0.1)
    two = trained(2, tokens, config, tmp_path / "2", **GENTLE)
    one = trained(1, tokens, config, tmp_path / "1", batch_size=4, gradient_accumulation=2, **GENTLE)
    close(two, one, 1e-5)


def test_transformers_loads_the_checkpoint_of_a_sharded_run(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    folder = trained(2, tokens, small_config, tmp_path, sharding="full", max_iters=4)
    ids = torch.arange(32)[None]
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(folder.path)(ids).logits
        torch.testing.assert_close(load_model(folder).logits(ids), theirs, atol=1e-5, rtol=0)


def test_batch_size_not_divisible_by_processes_is_an_input_error(tokens: Tokens, small_config: GPT2Config) -> None:
    with pytest.raises(InputError, match="batch_size: 4 can't be divided by 3 processes"):
        new_run(small_config, Data(tokens, []), training_settings(), ProcessGroup(0, 3))
