"""Training on a GPU. Skipped if PyTorch finds none."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.model.cross_entropy import chunk_gradients, into_gradient, linear_cross_entropy
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.precision import CudaThrottle, choose_precision
from echoself_action.training.result import Callbacks, Result, StopRequest
from echoself_action.training.run import Data
from echoself_action.training.trainer import train
from tests.conftest import training_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")
QUIET = Callbacks(lambda _: None, pytest.fail)


def trained(tokens: Tokens, config: GPT2Config, place: Path, start: ModelFolder | None = None, **changes: Any) -> Result:
    settings = training_settings(**({"device": "cuda", "dtype": "auto", "compile": "false", "warmup": 2} | changes))
    data = Data(tokens, [])
    run = resume_run(start, data, settings, pytest.fail) if start else new_run(config, data, settings)
    return train(run, place, StopRequest(), QUIET)


def tensors(folder: ModelFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.path / "model.safetensors") | load_file(folder.path / "training_state/optimizer.safetensors")


def loss_of(result: Result) -> float:
    assert result.latest.metadata
    assert result.latest.metadata.val_loss
    return result.latest.metadata.val_loss


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize(
    "changes", [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "float16"}, {"compile": "true"}], ids=str
)
def test_gpu_run_has_the_validation_loss_of_a_cpu_run(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path, changes: dict[str, Any], optimizer: str
) -> None:
    on_gpu = trained(tokens, small_config, tmp_path / "gpu", optimizer=optimizer, **changes)
    on_cpu = trained(tokens, small_config, tmp_path / "cpu", optimizer=optimizer, device="cpu", dtype="float32")
    assert loss_of(on_gpu) == pytest.approx(loss_of(on_cpu), rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"dtype": "float16"}, {"compile": "true"}, {"gradient_accumulation": 2}], ids=str)
def test_resumed_gpu_run_equals_an_uninterrupted_run(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(small_config, dropout=0.1)
    long = trained(tokens, config, tmp_path / "long", decay=0, **changes).latest
    trained(tokens, config, tmp_path / "parts", decay=0, max_iters=7, **changes)
    start = resumable(tmp_path / "parts")[0]
    parts = trained(tokens, config, tmp_path / "parts", start, decay=0, max_iters=13, **changes).latest
    one, other = tensors(long), tensors(parts)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_compiled_lm_head_equals_cross_entropy() -> None:
    torch.manual_seed(0)
    x = torch.randn(3000, 64, device="cuda", requires_grad=True)
    weight = torch.randn(50257, 64, device="cuda", requires_grad=True)
    targets = torch.randint(50257, (3000,), device="cuda")
    by = functools.partial(chunk_gradients, into_gradient=torch.compile(into_gradient, dynamic=False))
    with torch.autocast("cuda", torch.bfloat16):
        ours = linear_cross_entropy(x, weight, targets, gradients=by)
        theirs = torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, weight).float(), targets)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-3)
    for own, its in zip(torch.autograd.grad(ours, [x, weight]), torch.autograd.grad(theirs, [x, weight]), strict=True):
        assert (own - its).norm() < 0.02 * its.norm()


def test_throttle_lets_the_cpu_run_one_step_ahead_of_the_gpu() -> None:
    throttle = CudaThrottle(torch.device("cuda"))
    matrix = torch.randn(4096, 4096, device="cuda")

    def step(synchronize: bool) -> bool:
        for _ in range(20):
            torch.mm(matrix, matrix)
        return throttle.after_step_submitted(synchronize)

    assert [step(False), step(False), step(True), step(False), step(True), step(True)] == [False, True, True, False, True, True]
    assert torch.cuda.current_stream().query()


def test_dtype_auto_is_the_fastest_of_the_gpu() -> None:
    generation = torch.cuda.get_device_capability()[0]
    expected = torch.bfloat16 if generation >= 8 else torch.float16 if generation == 7 else torch.float32
    assert choose_precision(training_settings(device="auto", dtype="auto")).dtype is expected
