"""The C library's allocator, set for training: a step needs the memory of the step before it again.

glibc gives what is free at the end of its heap back to the kernel, and each step then waits for the same pages to be mapped and
filled with zeros anew: thousands of them a step, a tenth of the time of a small model. (mallopt(3), malloc_trim(3))
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

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
