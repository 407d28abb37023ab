import pytest
import torch

from echoself_action.errors import InputError
from echoself_action.training.precision import Pace, choose_precision, peak_of
from tests.conftest import training_settings


def test_a_dtype_that_is_given_is_taken() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
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


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("Tesla T4", 65),
        ("NVIDIA T400 4GB", None),
        ("CPU", None),
    ],
)
def test_a_gpu_is_known_by_its_name(name: str, tflops: int | None) -> None:
    assert peak_of(name) == (tflops and tflops * 1e12)


def test_a_cpu_has_no_peak_and_is_never_behind() -> None:
    assert choose_precision(training_settings(dtype="bfloat16")).peak is None
    assert Pace(torch.device("cpu")).step_given(catches_up=False)
