"""Memory of training: smaller batches when a step runs out of memory, and the C library's allocator.

By default glibc returns free memory at the end of its heap to the kernel, so every step waits for the same pages to be mapped
and zeroed again: thousands of them a step, a tenth of the time of a small model. (mallopt(3), malloc_trim(3))
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from ..checkpoint.architectures import architecture_of
from ..errors import TrainingError, in_short
from ..model.cross_entropy import LOGITS_AT_ONCE
from .run import Run
from .settings import TrainingSettings


def smaller_batches(run: Run, error: BaseException) -> TrainingSettings:
    """Settings whose step sees the same sequences in smaller batches. Raises TrainingError where they are of one already."""
    settings, processes = run.settings, run.process_group.world_size
    sizes = range(settings.batch_size // 2, 0, -1)
    smaller = next((size for size in sizes if settings.batch_size % size == 0 and size % processes == 0), 0)
    if not smaller:
        raise out_of_memory(run, error) from error
    times = settings.batch_size // smaller
    return settings.model_copy(update={"batch_size": smaller, "gradient_accumulation": settings.gradient_accumulation * times})


def out_of_memory(run: Run, error: BaseException) -> TrainingError:
    """What was asked for, in numbers."""
    config, settings = run.model.config, run.settings
    parameters = run.model.parameter_count()
    logits = settings.batch_size * config.block_size * config.vocab_size
    if architecture_of(config).accelerated:
        logits = min(logits, LOGITS_AT_ONCE)
    return TrainingError(
        f"Step {run.step + 1} needs more memory than is available ({in_short(error)}): {parameters:,} parameters with "
        f"gradients and moments take up to {_gigabytes(16 * parameters)}, what a checkpoint copies of them "
        f"{_gigabytes(12 * parameters)}, and the logits of {settings.batch_size} sequences of {config.block_size} tokens over "
        f"a vocabulary of {config.vocab_size:,} "
        f"take up to {_gigabytes(4 * logits)}. Training stopped; its checkpoints stay.",
        "Lower batch_size (and raise gradient_accumulation, for the same result), block_size, n_embd or n_layer, or use a "
        "smaller vocabulary, such as tokenizer: bpe:4096.",
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


_LIBC = ctypes.CDLL(None)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_ALL = (1 << 31) - 1  # bytes: the most that its arguments, which are ints, can say
_MAPPED = 1 << 25  # bytes: larger blocks are given back at once as before, and filling them takes longer than mapping them


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Meanwhile this process keeps what it frees. Nothing happens with a C library that has no such setting."""
    _set(_MMAP_THRESHOLD, _MAPPED)
    _set(_TRIM_THRESHOLD, _ALL)
    try:
        yield
    finally:
        _set(_TRIM_THRESHOLD, 2 * _MAPPED)  # as glibc itself sets it, to the one
        give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Let the system have what is free now, between what is in use as well."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def _set(name: int, value: int) -> None:
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(name, value)
