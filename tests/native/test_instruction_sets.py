"""All kernels, run by a program in C: those for ARM under qemu, and those for this CPU as GCC and as Clang compile them.

What is shown for ARM is that the results are correct. An emulator says nothing about speed.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import hatch_build
from echoself_action import native
from echoself_action.model.gpt2 import GPT2Config

from .dropout_reference import factors
from .gpt2_reference import Drop, a_batch, a_model, by_pytorch, error

SYSROOT = "/usr/aarch64-linux-gnu"  # where Debian and Ubuntu have the C library of the cross compiler
NO_SUCH_KERNELS = 3
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02}
HERE = platform.machine()
CASES = [(HERE, compiler, isa) for compiler in ("cc", "clang") for isa in hatch_build.INSTRUCTION_SETS.get(HERE, {})]
ARM = "aarch64-linux-gnu-gcc"
CASES += [("aarch64", ARM, isa) for isa in hatch_build.INSTRUCTION_SETS["aarch64"] if HERE != "aarch64"]


@dataclass(frozen=True)
class Driver:
    """driver.c, and the library for it."""

    command: tuple[str | Path, ...]
    library: Path

    def run(self, isa: str, folder: Path, numbers: Iterable[np.ndarray] = ()) -> np.ndarray | None:
        """The fp32 numbers that driver.c writes for its input; None where the CPU lacks the instruction set."""
        given, written = folder / "input", folder / "output"
        given.write_bytes(b"".join(array.tobytes() for array in [*numbers, ints(0)]))
        command = [*self.command, self.library, isa, given, written]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
        if ended.returncode == NO_SUCH_KERNELS:
            return None
        assert ended.returncode == 0, f"exit code {ended.returncode}: {ended.stderr}"
        return np.fromfile(written, np.float32)


@pytest.fixture(scope="session")
def build(compiled: Callable[[str, str], Path]) -> "Build":
    return Build(compiled)


@dataclass(frozen=True)
class Build:
    """The library and its driver, compiled by each compiler. Skips where there are no tools for it."""

    compiled: Callable[[str, str], Path]

    def driver(self, machine: str, compiler: str, cpu: str = "") -> Driver:
        """`cpu` is the one that is emulated; by default one with all instructions, if `machine` is not this one."""
        emulated: tuple[str, ...] = ()
        if cpu or machine != HERE:
            emulator = shutil.which(f"qemu-{machine}") or f"qemu-{machine}-static"
            emulated = (emulator, "-cpu", cpu or "max", *(("-L", SYSROOT) if machine != HERE else ()))
        if missing := [tool for tool in (compiler, *emulated[:1]) if not shutil.which(tool)]:
            reason = f"{' and '.join(missing)} can't be found (.ci/packages installs them)"
            required = os.environ.get("CI") == "true" and platform.system() == "Linux"
            pytest.fail(f"{reason}, and this test must run under CI=true") if required else pytest.skip(reason)
        folder = self.compiled(machine, compiler)
        return Driver((*emulated, folder / "driver"), folder / hatch_build.LIBRARY)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


@dataclass(frozen=True)
class Kernels:
    """Runs the kernels of an instruction set, compiled by one compiler."""

    build: Build
    folder: Path
    machine: str
    compiler: str
    isa: str

    @property
    def tolerance(self) -> float:
        return TOLERANCE[native.dtype_of(self.isa)]

    def run(self, numbers: Iterable[np.ndarray]) -> Tensor:
        found = self.build.driver(self.machine, self.compiler).run(self.isa, self.folder, numbers)
        if found is None:
            assert self.machine == HERE, f"qemu's CPU `max` has {self.isa}, and the library must have kernels for it"
            pytest.skip(f"this CPU has no {self.isa}")
        return torch.from_numpy(found)


@pytest.fixture(params=CASES, ids=[f"{isa}-{compiler}" for _, compiler, isa in CASES])
def kernels(build: Build, tmp_path: Path, request: pytest.FixtureRequest) -> Kernels:
    return Kernels(build, tmp_path, *request.param)


# Models, how many sequences, their length, and whether gradients are added to what is there. Among them are sizes that no tile
# divides, no biases, both GELUs, sequences shorter than the context, and a single position.
CONFIGS = {
    "odd": (GPT2Config(37, 20, 2, 3, 15, dropout=0.1, bias=False, activation="gelu"), 3, 17, False),
    "tiles": (GPT2Config(257, 64, 2, 2, 64, dropout=0.0), 2, 64, True),
    "wide": (GPT2Config(131, 40, 1, 2, 140, dropout=0.3), 2, 37, True),
    "one": (GPT2Config(5, 3, 3, 12, 36, dropout=0.2), 5, 1, False),
}
SEEDS = (0, 1, 2**64 - 1, 2**32, 0x123456789ABCDEF)


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients(kernels: Kernels, name: str) -> None:
    config, sequences, length, accumulate = CONFIGS[name]
    model = a_model(config)
    ids, targets = a_batch(config, sequences, length)
    parameters = {parameter: tensor.detach() for parameter, tensor in model.named_parameters()}  # in the order of driver.c
    generator = torch.Generator().manual_seed(3)
    before = {parameter: 0.01 * torch.randn(tensor.shape, generator=generator) for parameter, tensor in parameters.items()}
    sizes = (config.n_layer, config.n_head, config.n_embd, config.vocab_size, config.block_size)
    head = ints(1, *sizes, config.activation == "gelu_new", config.bias, sequences, length, 3, accumulate)
    numbers = [head, floats(config.layer_norm_epsilon, config.dropout, 1 / ids.numel()), ids.numpy(), targets.numpy()]
    numbers += [np.array(SEEDS[:sequences], np.uint64), *map(numpy, parameters.values()), *map(numpy, before.values())]
    found = kernels.run(numbers)
    shapes = [ids.shape, ids.shape, *(tensor.shape for tensor in parameters.values())]
    losses, dropped, *gradients = divided(found, shapes)

    expected = by_pytorch(model, ids, targets, drop=dropout(SEEDS, config.dropout))
    assert error(losses, by_pytorch(model, ids, targets).losses) < kernels.tolerance
    assert error(dropped, expected.losses) < kernels.tolerance
    for parameter, gradient in zip(parameters, gradients, strict=True):
        wanted = expected.gradients[parameter] + before[parameter] * accumulate
        assert error(gradient, wanted) < kernels.tolerance, parameter


def numpy(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().numpy()


def divided(numbers: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    parts = numbers.split([int(np.prod(shape)) for shape in shapes])
    return [part.view(*shape) for part, shape in zip(parts, shapes, strict=True)]


def dropout(seeds: Sequence[int], rate: float) -> Drop:
    """What drops from each sequence as its seed says."""

    def drop(place: str, layer: int, x: Tensor) -> Tensor:
        rows, columns = x[0].numel() // x.shape[-1], x.shape[-1]
        by_sequence = [factors(seed, layer, place, rows, columns, rate) for seed in seeds[: len(x)]]
        return x * torch.from_numpy(np.stack(by_sequence)).view(x.shape)

    return drop


@pytest.mark.parametrize(("rows", "columns", "side_by_side"), [(33, 33, 1), (20, 60, 3), (19, 77, 1), (77, 19, 1), (64, 96, 2)])
def test_muon(kernels: Kernels, rows: int, columns: int, side_by_side: int) -> None:
    count, momentum, rate, decay, scale = 3, 0.9, 0.5, 0.99, 0.25
    coefficients = torch.tensor([[3.0, -3.2, 1.2], [2.5, -2.0, 0.5]])
    generator = torch.Generator().manual_seed(4)
    parameters, momenta, gradients = torch.randn(3, count, rows, columns, generator=generator)
    head = [ints(2, count, rows, columns, side_by_side, len(coefficients), 2), floats(momentum, rate, decay, scale)]
    numbers = [*head, *map(numpy, (coefficients, parameters, momenta, gradients))]
    found = kernels.run(numbers).view(2, count, rows, columns)

    scaled = scale * gradients.double()
    new_momenta = momenta.double().lerp(scaled, 1 - momentum)
    updates = [orthogonalised(x, coefficients.double()) for x in scaled.lerp(new_momenta, momentum).chunk(side_by_side, 2)]
    assert error(found[1], new_momenta) < 1e-6, "momenta are always fp32"
    assert error(parameters.double() * decay - found[0], rate * torch.cat(updates, 2)) < kernels.tolerance


def orthogonalised(x: Tensor, coefficients: Tensor) -> Tensor:
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def test_adamw_and_the_sum_of_squares(kernels: Kernels) -> None:
    sizes, steps, rate, betas, epsilon, decay, scale = (1, 7, 33, 40_003), (1, 2, 9, 100), 0.01, (0.9, 0.99), 1e-8, 0.1, 0.5
    generator = torch.Generator().manual_seed(5)
    parameters, means, squares, gradients = ([torch.randn(size, generator=generator) for size in sizes] for _ in range(4))
    squares = [square.abs() for square in squares]
    corrections = [floats(*(1 - beta**step for step in steps)) for beta in betas]
    head = [ints(3, len(sizes), 2), floats(rate, *betas, epsilon, scale), np.array(sizes, np.int64)]
    head += [np.full(len(sizes), 1 - rate * decay, np.float32), *corrections]
    numbers = [*head, *map(numpy, (*parameters, *means, *squares, *gradients))]
    found, shapes = kernels.run(numbers), [(size,) for size in sizes]
    total, *tensors = divided(found, [(1,), *shapes * 3])

    assert error(total, torch.cat(gradients).double().square().sum()) < 1e-6
    for number, step in enumerate(steps):
        gradient = gradients[number].double() * scale
        mean = means[number].double().lerp(gradient, 1 - betas[0])
        square = squares[number].double().lerp(gradient**2, 1 - betas[1])
        root = (square / (1 - betas[1] ** step)).sqrt() + epsilon
        expected = parameters[number] * (1 - rate * decay) - rate * mean / (1 - betas[0] ** step) / root
        for got, wanted in zip(tensors[number :: len(sizes)], (expected, mean, square), strict=True):
            assert error(got, wanted) < 1e-6


@pytest.mark.skipif(HERE != "x86_64", reason="the CPU is not emulated here")
@pytest.mark.parametrize(
    ("machine", "compiler", "cpu", "usable"),
    [
        ("x86_64", "cc", "Nehalem", []),
        ("x86_64", "cc", "Haswell", ["avx2", "avx2_bf16"]),
        ("aarch64", ARM, "cortex-a57", ["neon"]),
        ("aarch64", ARM, "max", ["neon_bf16", "neon"]),
    ],
)
def test_a_cpu_gets_the_kernels_for_its_instructions(
    build: Build, machine: str, compiler: str, cpu: str, usable: list[str], tmp_path: Path
) -> None:
    driver = build.driver(machine, compiler, cpu)
    found = [isa for isa in native.DTYPE_NAMES if driver.run(isa, tmp_path) is not None]
    assert sorted(found) == sorted(usable)
