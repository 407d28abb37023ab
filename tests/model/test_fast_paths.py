"""The attention and the chunked cross-entropy compute the same as PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from echoself_action.model.attention import causal_attention
from echoself_action.model.cross_entropy import linear_cross_entropy


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


def plain_attention(heads: Tensor, n_head: int) -> Tensor:
    batch, length, width = heads.shape[0], heads.shape[1], heads.shape[2] // 3
    query, key, value = heads.view(batch, length, 3, n_head, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).reshape(batch, length, width)


@pytest.mark.parametrize("length", [1, 17, 64, 128, 201])
def test_attention_in_bfloat16_equals_fp32_up_to_rounding(length: int) -> None:
    torch.manual_seed(0)
    heads = torch.randn(3, length, 3 * 24, dtype=torch.bfloat16, requires_grad=True)
    exact = heads.detach().float().requires_grad_()
    ours, theirs, gradient = causal_attention(heads, 4, 0.0), plain_attention(exact, 4), torch.randn(3, length, 24)
    assert distance(ours, theirs) < 0.01
    (of_ours,) = torch.autograd.grad(ours, heads, gradient.bfloat16())
    (of_theirs,) = torch.autograd.grad(theirs, exact, gradient)
    assert distance(of_ours, of_theirs) < 0.02


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("vocabulary", [65, 4096])
def test_linear_cross_entropy_has_the_loss_and_gradients_of_pytorchs(vocabulary: int, reduction: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(300, 16, requires_grad=True), torch.randn(vocabulary, 16, requires_grad=True)
    targets = torch.randint(vocabulary, (300,))
    ours = linear_cross_entropy(x, weight, targets, reduction) / 3
    theirs = F.cross_entropy(F.linear(x, weight), targets, reduction=reduction) / 3
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for own, its in zip(torch.autograd.grad(ours, [x, weight]), torch.autograd.grad(theirs, [x, weight]), strict=True):
        assert distance(own, its) < 1e-5


def test_chunked_cross_entropy_equals_that_of_all_positions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, weight, targets = (
        torch.randn(50, 8, requires_grad=True),
        torch.randn(40, 8, requires_grad=True),
        torch.randint(40, (50,)),
    )
    whole = torch.autograd.grad(linear_cross_entropy(x, weight, targets), [x, weight])
    monkeypatch.setattr("echoself_action.model.cross_entropy.LOGITS_AT_ONCE", 64 * 7)
    monkeypatch.setattr("echoself_action.model.cross_entropy._FLOATS_AT_ONCE", 64 * 3)
    parts = torch.autograd.grad(linear_cross_entropy(x, weight, targets), [x, weight])
    assert all(distance(one, other) < 1e-5 for one, other in zip(parts, whole, strict=True))


def test_autocast_products_are_in_its_dtype_and_gradients_in_the_dtype_of_the_parameters() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(64, 16, requires_grad=True), torch.randn(65, 16, requires_grad=True)
    targets = torch.randint(65, (64,))
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(x, weight, targets)
        theirs = F.cross_entropy(F.linear(x, weight).float(), targets)
    assert ours.dtype is torch.float32
    for own, its in zip(torch.autograd.grad(ours, [x, weight]), torch.autograd.grad(theirs, [x, weight]), strict=True):
        assert own.dtype is torch.float32
        assert distance(own, its) < 0.02
