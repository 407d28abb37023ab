"""Training with native kernels: when they are used, their gradients, and resume."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echoself_action import native
from echoself_action.__main__ import main
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.tokens import Tokens
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import Callbacks, Result, StopRequest
from echoself_action.training.run import Data, Run
from echoself_action.training.train_step import Stepper
from echoself_action.training.trainer import train
from tests.conftest import training_settings

CONFIG = GPT2Config(vocab_size=257, block_size=32, n_layer=2, n_head=2, n_embd=64)
QUIET = Callbacks(lambda _: None, pytest.fail)
ROUNDED = "results are rounded differently from here on."


def make_run(tokens: Tokens, config: GPT2Config = CONFIG, **changes: Any) -> Run:
    return new_run(config, Data(tokens, []), training_settings(**({"dtype": "auto"} | changes)))


def gradients(run: Run) -> dict[str, torch.Tensor]:
    run.model.train()
    Stepper(run, run.batches()).gradients()
    return {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}


def train_from(tokens: Tokens, start: ModelFolder, place: Path, notes: list[str], **changes: Any) -> Result:
    settings = training_settings(**({"dtype": "auto"} | changes))
    return train(resume_run(start, Data(tokens, []), settings, notes.append), place, StopRequest(), QUIET)


def tensors(folder: ModelFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.path / "model.safetensors") | load_file(folder.path / "training_state/optimizer.safetensors")


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_library", lambda: "not compiled")


def test_native_kernels_are_used_for_every_gpt2(native_code: None, tokens: Tokens) -> None:
    for config in (CONFIG, replace(CONFIG, dropout=0.1), replace(CONFIG, n_embd=51, n_head=3, block_size=31)):
        assert make_run(tokens, config, dtype="float32").kernels == native.instruction_set(torch.float32)
    by_bfloat16 = make_run(tokens, dtype="bfloat16").kernels
    assert by_bfloat16 == (native.instruction_set(torch.bfloat16) or "eager")


@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation": 3}, {"batch_size": 1}], ids=str)
def test_native_gradients_are_as_accurate_as_pytorch(
    native_code: None, two_cores: None, monkeypatch: pytest.MonkeyPatch, tokens: Tokens, changes: dict[str, Any]
) -> None:
    if native.instruction_set(torch.bfloat16) is None:
        pytest.skip("this CPU has no native kernels for bfloat16")
    changes = changes | {"dtype": "bfloat16"}
    by_native, in_fp32 = gradients(make_run(tokens, **changes)), gradients(make_run(tokens, **(changes | {"dtype": "float32"})))
    without_library(monkeypatch)
    eager = make_run(tokens, **changes)
    assert eager.kernels == "eager"
    by_pytorch = gradients(eager)
    assert by_native.keys() == by_pytorch.keys() == in_fp32.keys() == dict(eager.model.named_parameters()).keys()
    assert any(not torch.equal(gradient, by_pytorch[name]) for name, gradient in by_native.items())
    for name, wanted in in_fp32.items():
        error, pytorch_error = (((some[name] - wanted).norm() / wanted.norm()).item() for some in (by_native, by_pytorch))
        assert error < 1.3 * pytorch_error + 1e-6, name


def test_native_gradients_are_bit_identical_on_one_and_two_cores(native_code: None, two_cores: None, tokens: Tokens) -> None:
    first, *others = (gradients(make_run(tokens, gradient_accumulation=3)) for _ in range(4))
    torch.set_num_threads(1)
    for other in (*others, gradients(make_run(tokens, gradient_accumulation=3))):
        assert all(torch.equal(gradient, other[name]) for name, gradient in first.items())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_native_run_has_the_validation_loss_of_pytorch(
    native_code: None, monkeypatch: pytest.MonkeyPatch, tokens: Tokens, tmp_path: Path, optimizer: str
) -> None:
    def val_loss(place: str) -> float:
        # large steps amplify rounding: with ten times this rate, PyTorch's bfloat16 and fp32 losses differ as much
        run = make_run(tokens, optimizer=optimizer, max_iters=40, learning_rate=1e-3)
        result = train(run, tmp_path / place, StopRequest(), QUIET)
        assert result.latest.metadata
        assert result.latest.metadata.val_loss is not None
        return result.latest.metadata.val_loss

    by_native = val_loss("native")
    without_library(monkeypatch)
    assert by_native == pytest.approx(val_loss("pytorch"), rel=0.001)
    assert by_native < 5  # from 5.5


def test_resumed_native_run_equals_an_uninterrupted_run(native_code: None, tokens: Tokens, tmp_path: Path) -> None:
    notes: list[str] = []
    whole = train(make_run(tokens, max_iters=8, decay=0), tmp_path / "whole", StopRequest(), QUIET).latest
    part = train(make_run(tokens, max_iters=3, decay=0), tmp_path / "part", StopRequest(), QUIET).latest
    part = train_from(tokens, part, tmp_path / "part", notes, max_iters=5, decay=0).latest
    one, other = tensors(whole), tensors(part)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert notes == []


def test_resume_without_native_kernels_is_reported(
    native_code: None, monkeypatch: pytest.MonkeyPatch, tokens: Tokens, tmp_path: Path
) -> None:
    notes: list[str] = []
    run = make_run(tokens, max_iters=2, decay=0)
    start = train(run, tmp_path, StopRequest(), QUIET).latest
    without_library(monkeypatch)
    start = train_from(tokens, start, tmp_path, notes, max_iters=2, decay=0).latest
    assert notes == [f"kernels was native, {run.kernels} and is now PyTorch's own: {ROUNDED}"]
    train_from(tokens, start, tmp_path, notes, max_iters=2, decay=0)
    assert len(notes) == 1


def test_log_names_the_kernels_or_why_there_are_none(
    native_code: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.md").write_text(f"document {number} " * 20)
    monkeypatch.chdir(tmp_path)
    sizes = [
        "--n-layer=1",
        "--n-head=1",
        "--n-embd=32",
        "--block-size=32",
        "--batch-size=2",
        "--dropout=0.1",
        "--dtype=float32",
    ]
    command = [
        "train",
        "--preset=ci",
        "--data=*.md",
        "--tokenizer=bytes",
        "--device=cpu",
        "--dtype=float32",
        "--max-iters=1",
        *sizes,
    ]
    assert main(command) == 0
    log = capsys.readouterr().out
    assert f"float32 on cpu, kernels: {native.instruction_set(torch.float32)}\n" in log
    assert "native kernels are not used" not in log
    without_library(monkeypatch)
    assert main(command) == 0
    assert log.count("\n") > 5
    assert capsys.readouterr().out.count("native kernels are not used (slower): not compiled\n") == 1


def test_echoself_isa_forces_an_instruction_set(
    native_code: None, monkeypatch: pytest.MonkeyPatch, tokens: Tokens, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    usable = list(native._usable())
    for name in usable:
        monkeypatch.setenv("ECHOSELF_ISA", name)
        run = make_run(tokens, dtype="auto")
        assert (run.kernels, run.precision.dtype) == (name, native.dtype_of(name))
    monkeypatch.setenv("ECHOSELF_ISA", "avx1024")
    for number in range(40):
        (tmp_path / f"{number}.md").write_text(f"document {number} " * 20)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--preset=ci", "--data=*.md", "--tokenizer=bytes", "--max-iters=1"]) == 2
    assert f"Unset ECHOSELF_ISA, or set it to one of: {', '.join(usable)}." in capsys.readouterr().err


def test_a_run_with_dropout_resumes_exactly(native_code: None, tokens: Tokens, tmp_path: Path) -> None:
    config, changes = replace(CONFIG, dropout=0.2), {"dtype": "float32", "decay": 0}
    whole = train(make_run(tokens, config, max_iters=6, **changes), tmp_path / "whole", StopRequest(), QUIET).latest
    part = train(make_run(tokens, config, max_iters=2, **changes), tmp_path / "part", StopRequest(), QUIET).latest
    part = train_from(tokens, part, tmp_path / "part", [], max_iters=4, **changes).latest
    one, other = tensors(whole), tensors(part)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_dropout_does_not_depend_on_how_a_step_is_divided(native_code: None, tokens: Tokens) -> None:
    config = replace(CONFIG, dropout=0.2)
    whole, divided, other = (
        gradients(make_run(tokens, config, dtype="float32", **changes))
        for changes in ({}, {"batch_size": 2, "gradient_accumulation": 2}, {"seed": 2})
    )
    for name, gradient in whole.items():
        torch.testing.assert_close(divided[name], gradient, atol=1e-7, rtol=1e-4)
        assert not torch.equal(other[name], gradient)
