from dataclasses import replace

import pytest
import torch

from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.training.optim import adamw
from echoself_action.training.optim.optimizers import OptimizerName
from echoself_action.training.optim.param_groups import Optimizer, make_optimizer, moments, restore_moments

OPTIMIZERS: tuple[OptimizerName, ...] = ("muon", "adamw")


def stepped(config: GPT2Config, steps: int, name: OptimizerName = "muon") -> tuple[GPT2, Optimizer]:
    model = GPT2(config)
    model.initialise(0)
    optimizer = make_optimizer(model, name, 1e-2, 0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: GPT2, optimizer: Optimizer) -> None:
    ids = torch.arange(17)[None]
    model.loss(ids[:, :-1], ids[:, 1:]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def test_adamw_weight_decay_applies_to_matrices_only(small_config: GPT2Config) -> None:
    model = GPT2(small_config)
    groups = make_optimizer(model, "adamw", 1e-3, 0.1).param_groups
    decay = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert decay[parameter] == (0.1 if parameter.dim() > 1 else 0.0), name


def test_muon_weight_decay_applies_to_block_matrices_only(small_config: GPT2Config) -> None:
    model = GPT2(small_config)
    optimizer = make_optimizer(model, "muon", 1e-3, 0.1)
    decay = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        inside = ".h." in name and parameter.dim() == 2
        assert decay[parameter] == (0.1 if inside else 0.0), name
        assert optimizer.moments_of(parameter) == (("momentum",) if inside else ("exp_avg", "exp_avg_sq")), name


@pytest.mark.parametrize("native", [True, False])
def test_muon_takes_query_key_and_value_of_each_head_as_matrices(
    small_config: GPT2Config, native: bool, request: pytest.FixtureRequest
) -> None:
    """The singular values of each one's update are near 1, in units of the rate and of the RMS of an update."""
    if native:
        request.getfixturevalue("native_code")
    model, size = GPT2(small_config), small_config.n_embd // small_config.n_head
    for parameter in model.parameters():
        parameter.data.zero_()
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    make_optimizer(model, "muon", 1.0, 0.0, native=native).step()
    update = model.get_parameter("transformer.h.0.attn.c_attn.weight").detach()
    for head in update.split(size, 1):
        values = torch.linalg.svdvals(head) / (0.2 * small_config.n_embd**0.5)
        assert values.min() > 0.3
        assert values.max() < 1.7
    together = torch.linalg.svdvals(update[:, : small_config.n_embd]) / (0.2 * small_config.n_embd**0.5)
    assert together.min() < 0.3  # the heads are not a matrix together


def test_beside_muon_embeddings_and_vectors_learn_at_a_lower_rate(small_config: GPT2Config) -> None:
    model = GPT2(small_config)
    factors: dict[OptimizerName, float] = {"muon": 0.3, "adamw": 1.0}
    for name, factor in factors.items():
        optimizer = make_optimizer(model, name, 1.0, 0.1)
        for rate in (1.0, 0.5):
            rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
            for parameter_name, parameter in model.named_parameters():
                inside = ".h." in parameter_name and parameter.dim() == 2
                assert rates[parameter] == pytest.approx(rate * (1 if inside else factor)), parameter_name
            optimizer.set_learning_rate(0.5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_restored_optimizer_state_gives_the_same_next_step(small_config: GPT2Config, name: OptimizerName) -> None:
    model, optimizer = stepped(small_config, 3, name)
    other = GPT2(small_config)
    other.load_state_dict(model.state_dict())
    restored = make_optimizer(other, name, 1e-2, 0.1)
    restore_moments(other, restored, {name: tensor.clone() for name, tensor in moments(model, optimizer).items()})
    step(model, optimizer)
    step(other, restored)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_optimizer_state_of_another_model_is_rejected(small_config: GPT2Config) -> None:
    held = moments(*stepped(small_config, 1))
    wider = GPT2(replace(small_config, n_embd=32))
    with pytest.raises(ValueError, match="has shape"):
        restore_moments(wider, make_optimizer(wider, "muon", 1e-2, 0.1), held)
    shallower = GPT2(replace(small_config, n_layer=1))
    with pytest.raises(ValueError, match="is not optimizer state of this model"):
        restore_moments(shallower, make_optimizer(shallower, "muon", 1e-2, 0.1), held)


def test_changing_the_optimizer_keeps_the_state_they_share(small_config: GPT2Config) -> None:
    model, optimizer = stepped(small_config, 2, "adamw")
    held = {name: tensor.clone() for name, tensor in moments(model, optimizer).items()}
    other = make_optimizer(model, "muon", 1e-2, 0.1)
    restore_moments(model, other, held)
    assert moments(model, other).keys() == {key for key in held if not (".h." in key and held[key].dim() == 2)} - {
        f"steps.{name}" for name, parameter in model.named_parameters() if ".h." in name and parameter.dim() == 2
    }


def test_adamw_is_bit_identical_to_torch_optim_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(start) for start in torch.randn(5, 3).repeat(2, 1, 1))
    settings = {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "fused": True}
    optimizers = adamw.AdamW([ours], **settings), torch.optim.AdamW([theirs], **settings)
    for _ in range(3):
        gradient = torch.randn(5, 3)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert all(torch.equal(*(one.state_dict()["state"][0][name] for one in optimizers)) for name in ("exp_avg", "exp_avg_sq"))
