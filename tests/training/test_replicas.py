"""The replicas of two threads: they have the model's weights, and compute the same loss and gradients."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from echoself_action.corpus.tokens import Tokens
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.training.cpu.replicas import Replicas
from echoself_action.training.cpu.threads import Threads
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.optim.param_groups import Part, make_optimizer
from echoself_action.training.run import Data, Run
from echoself_action.training.train_step import Stepper
from tests.conftest import training_settings

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@pytest.fixture
def model(small_config: GPT2Config) -> GPT2:
    model = GPT2(small_config)
    model.initialise(1)
    return model.train()


def parts_of(model: GPT2) -> Sequence[Part]:
    return make_optimizer(model, "adamw", 1e-2, 0.1, parts=2).parts


def sequences(model: GPT2, seed: int) -> tuple[Tensor, Tensor]:
    # few distinct tokens, so that embedding gradients are sums
    ids = torch.randint(5, (3, model.config.block_size + 1), generator=torch.Generator().manual_seed(seed))
    return ids[:, :-1], ids[:, 1:]


def backward(loss: Tensor) -> float:
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def taken(model: GPT2) -> dict[str, Tensor]:
    """Return and clear the gradients."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return gradients


@DTYPES
@pytest.mark.parametrize("working", [1, 2], ids=["one thread", "two threads"])
def test_reduced_gradients_equal_those_of_the_model(model: GPT2, dtype: torch.dtype, working: int) -> None:
    parts = parts_of(model)
    replicas = Replicas(model, dtype, parts)
    batches = [sequences(model, seed) for seed in range(working)]
    with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
        losses = [backward(model.loss(*batch)) for batch in batches]
        wanted = taken(model)
        assert [backward(loss(*batch)) for loss, batch in zip(replicas.losses, batches, strict=False)] == losses
    assert not taken(model)
    for part in parts:
        replicas.reduce(part)
    found = taken(model)
    assert found.keys() == wanted.keys() == dict(model.named_parameters()).keys()
    for name, gradient in wanted.items():
        assert found[name].dtype is torch.float32
        if name == "transformer.wte.weight":  # summed in another order
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(found[name], gradient), name
    for part in parts:  # gradients are reduced once
        with pytest.raises(ValueError, match="not enough values"):
            replicas.reduce(part)


@DTYPES
def test_broadcast_updates_the_weights_of_the_replicas(model: GPT2, dtype: torch.dtype) -> None:
    parts = parts_of(model)
    replicas = Replicas(model, dtype, parts)
    loss, other_loss = replicas.losses
    batch = sequences(model, 0)
    with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
        before = loss(*batch).item()
        with torch.no_grad():
            for number, p in enumerate(model.parameters()):
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(number)), alpha=0.1)
        for part in parts:
            replicas.broadcast(part)
        after = loss(*batch).item()
        assert after == other_loss(*batch).item() == model.loss(*batch).item()
        assert after != before


def make_run(tokens: Tokens, config: GPT2Config) -> Run:
    run = new_run(config, Data(tokens, []), training_settings())
    run.model.train()
    return run


def test_gradients_of_a_failed_step_are_discarded(
    two_cores: None, monkeypatch: pytest.MonkeyPatch, tokens: Tokens, small_config: GPT2Config
) -> None:
    wanted, found = make_run(tokens, small_config), make_run(tokens, small_config)
    with Threads(2) as threads:
        Stepper(wanted, wanted.batches(), threads).gradients()
        stepper = Stepper(found, found.batches(), threads)
        backward = Stepper._backward

        def failing(stepper: Stepper, part: Any) -> Tensor:
            loss = backward(stepper, part)
            if part.position:
                raise MemoryError("raised by a test")
            return loss

        with monkeypatch.context() as patch:
            patch.setattr(Stepper, "_backward", failing)
            with pytest.raises(MemoryError):
                stepper.gradients()
        stepper.forget()
        stepper.gradients()
    assert isinstance(wanted.model, GPT2)
    assert isinstance(found.model, GPT2)
    one, other = taken(wanted.model), taken(found.model)
    assert all(torch.equal(gradient, other[name]) for name, gradient in one.items())


def test_thread_switch_interval_is_shorter_and_restored_afterwards() -> None:
    before = sys.getswitchinterval()
    with Threads(2):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
    with Threads(1):
        assert sys.getswitchinterval() == before
