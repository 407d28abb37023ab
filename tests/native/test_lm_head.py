"""The native cross-entropy of the language model head, and its gradients, compared with PyTorch's."""

import pytest
import torch
from torch import Tensor

from echoself_action import native
from echoself_action.errors import TrainingError
from echoself_action.model import cross_entropy
from echoself_action.model.cross_entropy import head_cross_entropy, padded_head
from echoself_action.native.lm_head import native_chunk_gradients


def inputs(positions: int, width: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(size, width, generator=generator) for size in (positions, vocabulary))
    return x, weight * 3 * width**-0.5, torch.randint(vocabulary, (positions,), generator=generator)


def by_native(x: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its gradients for x and the weight."""
    panels = native.panels_for(weight)
    native.pack(weight, panels)
    x, head = x.clone().requires_grad_(), panels[0].requires_grad_()
    loss = head_cross_entropy(x, head, targets, len(weight), gradients=native_chunk_gradients())
    grad_x, grad_head = torch.autograd.grad(loss * 3, [x, head])
    assert loss.isnan() or (grad_head[len(weight) :] == 0).all()
    return loss.detach(), grad_x, grad_head[: len(weight)]


def by_pytorch(x: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = head_cross_entropy(x, padded_head(weight, dtype), targets, len(weight))
    return loss.detach(), *torch.autograd.grad(loss * 3, [x, weight])


def error(found: Tensor, wanted: Tensor) -> float:
    return ((found.float() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize(("positions", "width", "vocabulary"), [(32, 32, 1), (96, 64, 65), (64, 96, 257), (32, 32, 6000)])
def test_errors_against_fp32_are_as_small_as_pytorchs(native_code: None, positions: int, width: int, vocabulary: int) -> None:
    given = inputs(positions, width, vocabulary)
    exact, pytorchs = (by_pytorch(*given, dtype) for dtype in (torch.float32, torch.bfloat16))
    for found, wanted, pytorch in zip(by_native(*given), exact, pytorchs, strict=True):
        if vocabulary == 1:  # probability 1
            assert found.abs().max() < 1e-6
            continue
        assert error(found, wanted) < 0.02
        assert error(found, wanted) < 1.1 * error(pytorch, wanted) + 1e-3


def test_chunks_of_positions_change_only_rounding(native_code: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(160, 64, 65)
    whole = by_native(*given)
    monkeypatch.setattr(cross_entropy, "LOGITS_AT_ONCE", 96 * 70)  # two of 64 positions, and one of 32
    for found, wanted in zip(by_native(*given), whole, strict=True):
        assert error(found, wanted) < 0.005


@pytest.mark.parametrize("count", [2, 5, 80])
def test_results_do_not_depend_on_the_number_of_threads(native_code: None, two_cores: None, count: int) -> None:
    given = inputs(96, 64, 257)
    torch.set_num_threads(1)
    alone = by_native(*given)
    torch.set_num_threads(count)
    assert all(torch.equal(one, other) for one, other in zip(by_native(*given), alone, strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_infinity_make_the_loss_nan(native_code: None, value: float) -> None:
    x, weight, targets = inputs(32, 32, 50)
    x[3, 4] = value
    assert by_native(x, weight, targets)[0].isnan()


def test_large_logits_of_the_right_targets_give_a_loss_near_0(native_code: None) -> None:
    x, weight, targets = inputs(32, 32, 50)
    targets = (1e4 * x @ weight.t()).argmax(1)
    loss, grad_x, _ = by_native(1e4 * x, weight, targets)
    assert loss < 1e-2
    assert grad_x.isfinite().all()


@pytest.mark.parametrize("target", [-1, 50, 63, 64, -(1 << 40), 1 << 40])
def test_a_target_outside_the_vocabulary_is_an_error_and_no_access(native_code: None, target: int) -> None:
    x, weight, targets = inputs(32, 32, 50)
    targets[31] = target
    panels = native.panels_for(weight)
    native.pack(weight, panels)
    grad_x = torch.full((32, 32), 7.0, dtype=torch.bfloat16)
    with pytest.raises(TrainingError, match=rf"Token id {target} is not in the model's vocabulary of 50 tokens"):
        native_chunk_gradients()(x.bfloat16(), panels[0], targets, 50, grad_x)
    assert (grad_x == 7).all()
