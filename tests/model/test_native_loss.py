"""The loss that native code computes, and the gradient that it leaves of the logits."""

import pytest
import torch

from echoself_action.model.cross_entropy import into_gradient, native_into_gradient


def some_logits(rows: int, columns: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = (4 * torch.randn(rows, columns, generator=generator)).bfloat16()
    logits[0, :vocabulary] = -1000  # with one word that is sure
    targets = torch.randint(vocabulary, (rows, 1), generator=generator)
    logits[0, targets[0]] = 0
    return logits, targets


@pytest.mark.parametrize(("rows", "columns", "vocabulary"), [(1, 32, 1), (7, 96, 65), (64, 288, 257), (3, 4096, 4096)])
def test_it_is_what_pytorch_computes_and_what_are_no_words_get_no_gradient(
    native_code: None, rows: int, columns: int, vocabulary: int
) -> None:
    logits, targets = some_logits(rows, columns, vocabulary)
    found, pytorchs = logits.clone(), logits.clone()
    loss, wanted = native_into_gradient()(found, targets, vocabulary), into_gradient(pytorchs, targets, vocabulary)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, pytorchs, rtol=2**-7, atol=1e-8)  # a rounding of bfloat16
    assert (found[:, vocabulary:] == 0).all()
    exact = logits[:, :vocabulary].double().requires_grad_()
    torch.nn.functional.cross_entropy(exact, targets[:, 0], reduction="sum").backward()  # type: ignore[no-untyped-call]
    assert exact.grad is not None
    torch.testing.assert_close(found[:, :vocabulary].double(), exact.grad, rtol=2**-8, atol=1e-6)


def test_threads_change_no_bit(native_code: None, two_cores: None) -> None:
    logits, targets = some_logits(50, 96, 65)
    results = []
    for count in (1, 2, 5, 80):
        torch.set_num_threads(count)
        gradient = logits.clone()
        results.append((native_into_gradient()(gradient, targets, 65), gradient))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_logit_that_is_no_number_makes_the_loss_none(native_code: None, value: float) -> None:
    logits, targets = some_logits(3, 64, 50)
    logits[1, 20] = value
    assert native_into_gradient()(logits, targets, 50).isnan()
