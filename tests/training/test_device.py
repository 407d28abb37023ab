import pytest
import torch

from echoself_action.errors import InputError
from echoself_action.training.device import choose_precision
from tests.conftest import training_settings


def test_a_dtype_that_is_given_is_taken() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        precision = choose_precision(training_settings(dtype=str(dtype).removeprefix("torch.")))
        assert (precision.device.type, precision.dtype) == ("cpu", dtype)


def test_auto_takes_bfloat16_only_where_the_processor_multiplies_it() -> None:
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    assert choose_precision(training_settings(dtype="auto")).dtype is (torch.bfloat16 if fast else torch.float32)


def test_autocast_multiplies_in_the_chosen_dtype() -> None:
    for dtype in ("float32", "bfloat16"):
        precision = choose_precision(training_settings(dtype=dtype))
        with precision.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is precision.dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(InputError, match="sees no CUDA device"):
        choose_precision(training_settings(device="cuda"))
    assert choose_precision(training_settings(device="auto")).device.type == "cpu"
