"""Memory management: smaller batches when a step runs out of memory, and settings of the C library's allocator.

By default glibc returns free memory at the top of its heap to the kernel, so that each step has thousands of page faults on the
same memory. They take a tenth of a small model's training time. See mallopt(3) and malloc_trim(3).
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
    """Settings with a smaller batch_size and the same sequences per step. Raises TrainingError if there is none smaller."""
    settings, processes = run.settings, run.process_group.world_size
    sizes = range(settings.batch_size // 2, 0, -1)
    smaller = next((size for size in sizes if settings.batch_size % size == 0 and size % processes == 0), 0)
    if not smaller:
        raise out_of_memory(run, error) from error
    times = settings.batch_size // smaller
    return settings.model_copy(update={"batch_size": smaller, "gradient_accumulation": settings.gradient_accumulation * times})


def out_of_memory(run: Run, error: BaseException) -> TrainingError:
    """The error for a step that ran out of memory, with estimates of what needs it."""
    config, settings = run.model.config, run.settings
    parameters = run.model.parameter_count()
    logits = settings.batch_size * config.block_size * config.vocab_size
    if architecture_of(config).accelerated:
        logits = min(logits, LOGITS_AT_ONCE)
    return TrainingError(
        f"Step {run.step + 1} needs more memory than is available ({in_short(error)}): {parameters:,} parameters with "
        f"gradients and optimizer state take up to {_gigabytes(16 * parameters)}, the copy of them for a checkpoint up to "
        f"{_gigabytes(12 * parameters)}, and the logits of {settings.batch_size} sequences of {config.block_size} tokens over "
        f"a vocabulary of {config.vocab_size:,} "
        f"up to {_gigabytes(4 * logits)}. Training stopped; its checkpoints are kept.",
        "Lower batch_size (and raise gradient_accumulation, for the same result), block_size, n_embd or n_layer, or use a "
        "smaller vocabulary, such as tokenizer: bpe:4096.",
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


_LIBC = ctypes.CDLL(None)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_UNLIMITED = (1 << 31) - 1  # bytes: the maximum of mallopt's int argument
_MAPPED = 1 << 25  # bytes: larger blocks are still mapped separately; for them the page faults cost little


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory in this process inside the block. No effect if the C library has no `mallopt`."""
    _set(_MMAP_THRESHOLD, _MAPPED)
    _set(_TRIM_THRESHOLD, _UNLIMITED)
    try:
        yield
    finally:
        _set(_TRIM_THRESHOLD, 2 * _MAPPED)  # glibc's own rule
        release_freed_memory()


def release_freed_memory() -> None:
    """Return all free memory to the system, including free pages between blocks in use."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def _set(name: int, value: int) -> None:
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(name, value)
