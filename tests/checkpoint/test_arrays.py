"""Arrays have the values of PyTorch's tensors for every dtype and memory layout."""

import numpy as np
import pytest
import torch

from echoself_action.checkpoint.arrays import (
    BFLOAT16,
    Array,
    as_array,
    as_float32,
    copy_into,
    is_finite,
    is_floating_point,
    type_name,
)
from echoself_action.formats.reference_logits import as_tensors

NUMBERS = torch.linspace(-3e4, 3e4, 300 * 520).view(300, 520)  # not multiples of the block size


def bfloat16(tensor: torch.Tensor) -> Array:
    return tensor.bfloat16().view(torch.int16).numpy().view(BFLOAT16)


def test_bfloat16_converts_as_in_pytorch() -> None:
    array = bfloat16(NUMBERS)
    assert torch.equal(torch.from_numpy(as_float32(array)), NUMBERS.bfloat16().float())
    assert torch.equal(as_tensors({"a": array})["a"], NUMBERS.bfloat16())
    assert (type_name(array), is_floating_point(array)) == ("torch.bfloat16", True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_a_tensor_and_its_array_share_memory(dtype: torch.dtype) -> None:
    tensor = NUMBERS.to(dtype).t()
    array = as_array(tensor)
    assert array.ctypes.data == tensor.data_ptr()
    assert torch.equal(as_tensors({"a": array})["a"], tensor)
    assert type_name(array) == str(dtype)
    assert is_floating_point(array) == dtype.is_floating_point


@pytest.mark.parametrize("source", [NUMBERS.numpy(), NUMBERS.numpy().T, bfloat16(NUMBERS).T, NUMBERS.double().numpy()[::2, 1:]])
def test_copy_into_copies_all_elements_for_every_layout(source: Array) -> None:
    target = np.full(source.shape, np.nan, np.float32)
    copy_into(target, source)
    assert np.array_equal(target, as_float32(source))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (150, 301), (299, 519)])
@pytest.mark.parametrize("layout", ["plain", "transposed", "every second", "bfloat16"])
def test_is_finite_finds_a_single_nan_or_infinity_anywhere(wrong: float, place: tuple[int, int], layout: str) -> None:
    def with_layout(tensor: torch.Tensor) -> Array:
        if layout == "every second":
            wide = torch.zeros(300, 1040)
            wide[:, ::2] = tensor
            return wide.numpy()[:, ::2]
        return {"plain": tensor.numpy(), "transposed": tensor.numpy().T, "bfloat16": bfloat16(tensor)}[layout]

    assert is_finite(with_layout(NUMBERS))
    changed = NUMBERS.clone()
    changed[place] = wrong
    assert not is_finite(with_layout(changed))


def test_an_empty_array_is_finite() -> None:
    assert is_finite(np.empty((0, 3), np.float32))
