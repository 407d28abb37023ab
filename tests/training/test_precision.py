import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from echoself_action import native
from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import InputError
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.precision import (
    CudaThrottle,
    choose_device,
    choose_precision,
    fastest_dtype,
    name_of,
    no_gpu_reason,
    peak_flops,
)
from echoself_action.training.result import Callbacks, StopRequest
from echoself_action.training.run import Data
from echoself_action.training.trainer import train
from tests.conftest import SMALL, Cli, training_settings

CPU = torch.device("cpu")
QUIET = Callbacks(lambda _: None, pytest.fail)
FASTEST = name_of(fastest_dtype(CPU))
OTHER = "float32" if FASTEST == "bfloat16" else "bfloat16"  # the choice of another machine
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ECHOSELF_ISA": "avx2_bf16"}


def test_explicit_dtype_is_used() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        precision = choose_precision(training_settings(dtype=str(dtype).removeprefix("torch.")))
        assert (precision.device.type, precision.dtype) == ("cpu", dtype)


def test_a_cuda_build_without_a_gpu_says_that_it_trains_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert no_gpu_reason(training_settings(device="auto")) == (
        "PyTorch's build for CUDA 13.0 finds no GPU: none here, or its driver is too old"
    )
    assert no_gpu_reason(training_settings(device="cpu")) is None
    monkeypatch.setattr(torch.version, "cuda", None)
    assert no_gpu_reason(training_settings(device="auto")) is None


def test_dtype_auto_is_bfloat16_only_if_the_cpu_supports_it() -> None:
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    assert choose_precision(training_settings(dtype="auto")).dtype is (torch.bfloat16 if fast else torch.float32)


def test_autocast_multiplies_in_the_dtype_of_the_settings() -> None:
    for dtype in ("float32", "bfloat16"):
        precision = choose_precision(training_settings(dtype=dtype))
        with precision.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is precision.dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_device_cuda_without_a_gpu_is_an_input_error() -> None:
    with pytest.raises(InputError, match="finds no CUDA device"):
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
def test_peak_flops_by_gpu_name(name: str, tflops: int | None) -> None:
    assert peak_flops(name) == (tflops and tflops * 1e12)


def test_cpu_has_no_peak_flops_and_no_throttle() -> None:
    assert choose_precision(training_settings(dtype="bfloat16")).peak is None
    assert CudaThrottle(torch.device("cpu")).after_step_submitted(synchronize=False)


def test_dtype_auto_keeps_the_dtype_of_a_model_from_another_machine(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    data, notes = Data(tokens, []), list[str]()
    train(new_run(small_config, data, training_settings(dtype=OTHER, max_iters=2)), tmp_path, StopRequest(), QUIET)
    for _ in range(2):  # the next run keeps it too
        resumed = resume_run(resumable(tmp_path)[0], data, training_settings(dtype="auto", max_iters=2), notes.append)
        assert resumed.state().dtype == OTHER
        train(resumed, tmp_path, StopRequest(), QUIET)
    if OTHER == "bfloat16" and not native.why_not(torch.bfloat16):  # it is as fast, without the hardware for it
        assert notes == []
        return
    assert len(notes) == 2
    assert notes[0] == notes[1]
    assert notes[0].startswith(
        f"dtype: auto keeps {OTHER}, the dtype of the earlier runs of this model. {FASTEST} is faster on this machine"
    )


def test_dtype_auto_logs_nothing_if_the_dtype_is_the_fastest_here(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    data = Data(tokens, [])
    train(new_run(small_config, data, training_settings(dtype="auto", max_iters=2)), tmp_path, StopRequest(), QUIET)
    assert resume_run(resumable(tmp_path)[0], data, training_settings(dtype="auto"), pytest.fail).state().dtype == FASTEST


def test_resume_with_another_explicit_dtype_is_kept_by_later_runs(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    data, notes = Data(tokens, []), list[str]()
    train(new_run(small_config, data, training_settings(dtype=FASTEST, max_iters=2)), tmp_path, StopRequest(), QUIET)
    changed = resume_run(resumable(tmp_path)[0], data, training_settings(dtype=OTHER, max_iters=2), notes.append)
    assert notes == [f"dtype was {FASTEST} and is now {OTHER}: results are rounded differently from here on."]
    train(changed, tmp_path, StopRequest(), QUIET)
    assert resume_run(resumable(tmp_path)[0], data, training_settings(dtype="auto"), notes.append).state().dtype == OTHER


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_dtype_auto_never_uses_float16_on_a_cpu(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    data, notes = Data(tokens, []), list[str]()
    train(new_run(small_config, data, training_settings(dtype="float16", max_iters=2)), tmp_path, StopRequest(), QUIET)
    assert resume_run(resumable(tmp_path)[0], data, training_settings(dtype="auto"), notes.append).state().dtype == FASTEST
    assert notes == [f"dtype was float16 and is now {FASTEST}: results are rounded differently from here on."]


def test_bfloat16_runs_stay_bfloat16_on_a_runner_with_avx2_only(begun: Cli) -> None:
    begun(f"train --tokenizer bytes --dtype bfloat16 --device cpu {SMALL}")
    again = f"train --tokenizer bytes --device cpu {SMALL}"
    subprocess.run([sys.executable, "-m", "echoself_action", *again.split()], env=os.environ | AVX2, check=True, timeout=120)
    (newest, *_) = resumable(Path("echoself-model"))
    assert newest.step > 16
    assert json.loads((newest.path / "training_state/state.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("written", ["float8", "", "nn"])
def test_unknown_dtype_in_a_training_state_is_ignored(written: str) -> None:
    assert choose_precision(training_settings(dtype="auto"), written).dtype is fastest_dtype(choose_device(training_settings()))
