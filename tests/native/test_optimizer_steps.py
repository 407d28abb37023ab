"""The norm, AdamW and Muon by native kernels, compared with PyTorch in float64, for every instruction set of this CPU."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from echoself_action.native import Memory, optimizer_steps
from echoself_action.training.optim.muon import _COEFFICIENTS, MOMENTUM, orthogonalize

SHAPES = [(1,), (7,), (64,), (5, 3), (300, 211), (1 << 14,), ((1 << 14) + 1,)]  # a kernel's iteration is 2**14 elements


def random(shapes: Sequence[tuple[int, ...]], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def error(found: Tensor, wanted: Tensor) -> float:
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("shapes", [SHAPES, SHAPES[:1], []], ids=["many", "one", "none"])
def test_norm_is_that_of_all_elements(isa: str, shapes: list[tuple[int, ...]]) -> None:
    tensors = random(shapes)
    wanted = sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5
    assert optimizer_steps.norm(tensors) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_norm_of_nan_and_infinity(isa: str, value: float) -> None:
    tensors = random(SHAPES)
    tensors[4][299, 210] = value
    assert str(optimizer_steps.norm(tensors)) == str(value)


def adamw_steps(gradients: Sequence[Sequence[Tensor]], scale: float, epsilon: float) -> list[Tensor]:
    parameters = random(SHAPES, 2)
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for step, of_step in enumerate(gradients, 1):
        numbers = [float(step)] * len(parameters)
        optimizer_steps.adamw(parameters, of_step, means, squares, numbers, 0.01, (0.9, 0.95), epsilon, 0.1, scale)
    return [*parameters, *means, *squares]


@pytest.mark.parametrize(("scale", "epsilon"), [(1.0, 1e-8), (0.25, 0.1)])
def test_adamw_is_pytorchs(isa: str, scale: float, epsilon: float) -> None:
    gradients = [random(SHAPES, 3 + step) for step in range(20)]
    wanted = [torch.nn.Parameter(p.double()) for p in random(SHAPES, 2)]
    optimizer = torch.optim.AdamW(wanted, lr=0.01, betas=(0.9, 0.95), eps=epsilon, weight_decay=0.1)
    for of_step in gradients:
        for p, gradient in zip(wanted, of_step, strict=True):
            p.grad = gradient.double() * scale
        optimizer.step()
    found, states = adamw_steps(gradients, scale, epsilon), [optimizer.state[p] for p in wanted]
    moments = [state[name] for name in ("exp_avg", "exp_avg_sq") for state in states]
    for one, other in zip(found, [*(p.detach() for p in wanted), *moments], strict=True):
        assert error(one, other) < 1e-6


def test_adamw_updates_each_parameter_by_its_own_step_number(isa: str) -> None:
    gradients = random([(10,), (10,)])
    parameters, means, squares = ([torch.zeros(10) for _ in range(2)] for _ in range(3))
    optimizer_steps.adamw(parameters, gradients, means, squares, [1, 100], 0.1, (0.9, 0.95), 0.0, 0.0, 1.0)
    assert torch.allclose(parameters[0], -0.1 * gradients[0].sign())
    bias = (1 - 0.9) / (1 - 0.9**100), (1 - 0.95) / (1 - 0.95**100)
    assert torch.allclose(parameters[1], -0.1 * bias[0] * gradients[1] / (bias[1] ** 0.5 * gradients[1].abs()))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_adamw_passes_on_nan_and_infinity(isa: str, value: float) -> None:
    gradients = random(SHAPES)
    gradients[4][299, 210] = value
    parameter = adamw_steps([gradients], 1.0, 1e-8)[4]
    assert parameter[299, 210].isnan()
    assert parameter.isnan().sum() == 1


MATRICES = {
    "square": (48, 48, 1),
    "tall": (96, 64, 1),
    "wide": (64, 96, 1),
    "tall, by the Gram matrix": (160, 40, 1),
    "wide, by the Gram matrix": (40, 160, 1),
    "just by the Gram matrix": (40, 80, 1),
    "odd": (37, 53, 1),
    "odd, by the Gram matrix": (201, 35, 1),
    "one row": (1, 30, 1),
    "one column": (30, 1, 1),
    "query, key and value": (48, 144, 3),
    "odd query, key and value": (35, 105, 3),
    "several blocks of rows": (150, 170, 1),
}


RATE, DECAY = 1.0, 0.9


def muon_steps(shape: tuple[int, int], side_by_side: int, dtype: torch.dtype, count: int = 3) -> list[Tensor]:
    """The parameters and momenta after three steps, with gradients times 0.25."""
    parameters, memory = random([shape] * count, 1), Memory()
    momenta = [torch.zeros_like(p) for p in parameters]
    for step in range(3):
        gradients, settings = random([shape] * count, 2 + step), (side_by_side, _COEFFICIENTS, MOMENTUM, RATE, DECAY, 0.25)
        optimizer_steps.muon(parameters, gradients, momenta, *settings, dtype, memory)
    return [*parameters, *momenta]


def muon_in_pytorch(shape: tuple[int, int], side_by_side: int, dtype: torch.dtype, count: int = 3) -> list[Tensor]:
    """`muon_steps` in float64, with Newton-Schulz iterations in `dtype`."""
    parameters = [p.double() for p in random([shape] * count, 1)]
    momenta = [torch.zeros_like(p) for p in parameters]
    for step in range(3):
        for p, momentum, gradient in zip(parameters, momenta, random([shape] * count, 2 + step), strict=True):
            scaled = gradient.double() * 0.25
            update = scaled.lerp(momentum.lerp_(scaled, 1 - MOMENTUM), MOMENTUM).chunk(side_by_side, 1)
            orthogonal = [orthogonalize(one[None], dtype)[0].double() for one in update]
            p.mul_(DECAY).sub_(RATE * torch.cat(orthogonal, 1))
    return [*parameters, *momenta]


@pytest.mark.parametrize("name", MATRICES)
def test_muon_is_pytorchs(dtype: torch.dtype, name: str) -> None:
    """Within 1e-5 of that in float64; in bfloat16 as near to it as PyTorch's."""
    rows, columns, side_by_side = MATRICES[name]
    wanted, found = (
        one((rows, columns), side_by_side, of) for one, of in ((muon_in_pytorch, torch.float64), (muon_steps, dtype))
    )
    pytorchs = muon_in_pytorch((rows, columns), side_by_side, torch.bfloat16)
    for i in range(3):
        allowed = 1e-5 if dtype is torch.float32 else 1.3 * error(pytorchs[i], wanted[i]) + 1e-4
        assert error(found[i], wanted[i]) < allowed
        assert error(found[3 + i], wanted[3 + i]) < 1e-6


@pytest.mark.parametrize("shape", [(64, 64), (32, 128), (128, 32)])
def test_muons_update_has_singular_values_near_1(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    """Of a gradient whose singular values are from 0.01 to 1, and the same for a gradient of any size."""
    size = min(shape)
    left, right = (torch.linalg.qr(one).Q[:, :size] for one in random([(shape[0], shape[0]), (shape[1], shape[1])]))
    gradient = left @ torch.diag(torch.logspace(-2, 0, size)) @ right.T
    for scale in (1e-5, 1.0, 1e5):
        parameter, momentum = torch.zeros(shape), torch.zeros(shape)
        arguments = (1, _COEFFICIENTS, MOMENTUM, 1.0, 1.0, scale, dtype, Memory())
        optimizer_steps.muon([parameter], [gradient], [momentum], *arguments)
        values = torch.linalg.svdvals(-parameter)
        assert values.min() > 0.3
        assert values.max() < 1.7
        assert ((-parameter * gradient).sum() / gradient.norm()).item() > 0  # not its opposite


@pytest.mark.parametrize("name", ["odd", "odd, by the Gram matrix", "odd query, key and value"])
def test_muon_does_not_depend_on_the_number_of_threads(dtype: torch.dtype, name: str) -> None:
    rows, columns, side_by_side = MATRICES[name]
    torch.set_num_threads(1)
    alone = muon_steps((rows, columns), side_by_side, dtype, count=5)
    for threads in (2, 3, 7, 100):
        torch.set_num_threads(threads)
        together = muon_steps((rows, columns), side_by_side, dtype, count=5)
        assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_norm_and_adamw_do_not_depend_on_the_number_of_threads(isa: str) -> None:
    gradients = random([*SHAPES, (200_000,)])
    torch.set_num_threads(1)
    norm, alone = optimizer_steps.norm(gradients), adamw_steps([gradients[:-1]] * 3, 0.5, 1e-8)
    for threads in (2, 3, 7, 100):
        torch.set_num_threads(threads)
        assert optimizer_steps.norm(gradients) == norm
        assert all(map(torch.equal, adamw_steps([gradients[:-1]] * 3, 0.5, 1e-8), alone))


def test_muon_of_no_gradient_changes_nothing_but_the_decay(dtype: torch.dtype) -> None:
    parameter, before = torch.ones(5, 40), torch.zeros(5, 40)
    arguments = (1, _COEFFICIENTS, MOMENTUM, 0.1, 0.5, 1.0, dtype, Memory())
    optimizer_steps.muon([parameter], [torch.zeros(5, 40)], [before], *arguments)
    assert (parameter == 0.5).all()
    assert (before == 0).all()


def test_muon_passes_on_nan(dtype: torch.dtype) -> None:
    gradient = random([(20, 30)])[0]
    gradient[3, 4] = torch.nan
    parameter = torch.ones(20, 30)
    arguments = (1, _COEFFICIENTS, MOMENTUM, 0.1, 0.5, 1.0, dtype, Memory())
    optimizer_steps.muon([parameter], [gradient], [torch.zeros(20, 30)], *arguments)
    assert parameter.isnan().all()
