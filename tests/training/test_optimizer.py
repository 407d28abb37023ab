from dataclasses import replace

import pytest
import torch

from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.training.optimizer import make_optimizer, moments, restore_moments


def stepped(config: GPT2Config, steps: int) -> tuple[GPT2, torch.optim.AdamW]:
    model = GPT2(config)
    model.initialise(0)
    optimizer = make_optimizer(model, 1e-2, 0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: GPT2, optimizer: torch.optim.AdamW) -> None:
    ids = torch.arange(17)[None]
    model.loss(ids[:, :-1], ids[:, 1:]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def test_matrices_decay_and_vectors_do_not(small_config: GPT2Config) -> None:
    model = GPT2(small_config)
    groups = make_optimizer(model, 1e-3, 0.1).param_groups
    decay = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert decay[parameter] == (0.1 if parameter.dim() > 1 else 0.0), name


def test_restored_moments_give_the_same_next_step(small_config: GPT2Config) -> None:
    model, optimizer = stepped(small_config, 3)
    other = GPT2(small_config)
    other.load_state_dict(model.state_dict())
    restored = make_optimizer(other, 1e-2, 0.1)
    restore_moments(other, restored, {name: tensor.clone() for name, tensor in moments(model, optimizer).items()})
    step(model, optimizer)
    step(other, restored)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_moments_of_another_model_are_refused(small_config: GPT2Config) -> None:
    held = moments(*stepped(small_config, 1))
    wider = GPT2(replace(small_config, n_embd=32))
    with pytest.raises(ValueError, match="has shape"):
        restore_moments(wider, make_optimizer(wider, 1e-2, 0.1), held)
    shallower = GPT2(replace(small_config, n_layer=1))
    with pytest.raises(ValueError, match="no optimizer state of this model"):
        restore_moments(shallower, make_optimizer(shallower, 1e-2, 0.1), held)
