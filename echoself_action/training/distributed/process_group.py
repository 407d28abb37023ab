"""The process group of a run: collective operations, and how a process joins the group.

Each process (rank) has the whole model, or its shards (sharding.py), and computes the gradient of its share of every batch.
Decisions that depend on a clock or a signal are reduced over the group, so that all processes take the same step.
`SINGLE_PROCESS` needs no communication. Rendezvous uses torchrun's variables: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
"""

import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ...errors import InputError, LostProcessError
from .rank import is_distributed

Shared = TypeVar("Shared")
Numbers = npt.NDArray[Any]

_RENDEZVOUS_TIMEOUT = timedelta(days=1)  # workers wait while the main process downloads the model and tokenizes the corpus
_COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # longer than any save takes
_BUCKET = 1 << 24  # gradient elements per all-reduce: many small messages are slow, a single large one doubles memory
_CHUNK = 1 << 26  # bytes of the corpus per broadcast


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run. Every method is collective: all processes must call it, in the same order."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which reads, writes and logs."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is true in any process."""
        return [value > 0 for value in self._reduced([float(flag) for flag in flags], dist.ReduceOp.MAX)]

    def min(self, value: float) -> float:
        """The minimum of `value` over the processes."""
        return self._reduced([value], dist.ReduceOp.MIN)[0]

    def sum(self, *values: float) -> list[float]:
        """The sum over the processes of each value."""
        return self._reduced(list(values), dist.ReduceOp.SUM)

    def broadcast(self, value: Shared) -> Shared:
        """The main process's value, pickled; the argument is ignored in other processes."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors with those of the main process."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient with its mean over the processes. A parameter without one has none in any process."""
        if self.world_size == 1:
            return
        for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            flat /= self.world_size
            pieces = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, piece in zip(bucket, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def broadcast_array(self, array: Numbers | None) -> Numbers:
        """The main process's array: memory-mapped if its file exists on this machine, else received into a temporary file."""
        if self.world_size == 1:
            assert array is not None
            return array
        source = self.broadcast(None if array is None else _Source.of(array))
        assert source
        mine = array if self.is_main else source.mapped()
        if self.any(mine is None)[0]:
            received = _transferred(None if array is None else array.view(np.uint8), source.nbytes)
            mine = received.view(source.dtype) if mine is None else mine
        assert mine is not None
        return mine

    def _reduced(self, values: list[float], operation: Any) -> list[float]:
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, operation)
        reduced: list[float] = tensor.tolist()
        return reduced


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def join_process_group(device: str = "") -> Iterator[ProcessGroup]:
    """Join the process group, and yield it once all processes have joined. The main process sets the `device`: cpu or cuda.

    Raises LostProcessError if another process ends inside the block, and InputError if there are too few GPUs.
    """
    if not is_distributed():
        yield SINGLE_PROCESS
        return
    store, rank, size = next(rendezvous("env://", timeout=_RENDEZVOUS_TIMEOUT))
    try:
        if rank == 0:
            store.set("device", device)
        device = store.get("device").decode()
        _set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        run_store = PrefixStore("run", store)
        dist.init_process_group(backend, store=run_store, rank=rank, world_size=size, timeout=_COLLECTIVE_TIMEOUT)
        yield ProcessGroup(rank, size)
    except RuntimeError as error:
        if not _is_lost_process(error):
            raise
        raise LostProcessError(
            f"Another process of this run ended: {str(error).splitlines()[0][:200]}. Training stopped.",
            "See its log. Run again to resume from the newest checkpoint.",
        ) from error
    dist.destroy_process_group()


def _set_device(device: str) -> None:
    """Select this process's GPU, or its share of the CPU cores."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cuda":
        count = torch.cuda.device_count()
        if count < local_size:
            raise InputError(
                f"processes: {local_size} on this machine, and PyTorch sees {count} CUDA devices. Nothing was trained.",
                "Use processes: auto, or device: cpu.",
            )
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))


def _is_lost_process(error: RuntimeError) -> bool:
    """Whether the error means that another process does not respond. gloo raises plain RuntimeErrors."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@dataclass(frozen=True)
class _Source:
    """The origin of an array: a file with exactly its content, or memory (`file` is empty)."""

    dtype: str
    nbytes: int
    file: str
    identity: tuple[str, int, int, int]

    @classmethod
    def of(cls, array: Numbers) -> "_Source":
        file = str(getattr(array, "filename", None) or "")
        if file and Path(file).stat().st_size != array.nbytes:
            file = ""
        return cls(array.dtype.str, array.nbytes, file, _identity(Path(file)) if file else ("", 0, 0, 0))

    def mapped(self) -> Numbers | None:
        """The memory-mapped array, or None if its file does not exist on this machine."""
        path = Path(self.file)
        if not self.file or not path.is_file() or _identity(path) != self.identity:
            return None
        return np.memmap(path, np.dtype(self.dtype), "r")


def _identity(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return socket.gethostname(), found.st_dev, found.st_ino, found.st_mtime_ns


def _transferred(content: Numbers | None, nbytes: int) -> Numbers:
    """Broadcast the main process's bytes; other processes receive them into an anonymous temporary file."""
    if content is None:
        content = np.memmap(tempfile.TemporaryFile(), np.uint8, "w+", shape=(nbytes,))  # noqa: SIM115  # the map keeps it
        receives = True
    else:
        receives = False
    for start in range(0, nbytes, _CHUNK):
        piece = torch.from_numpy(np.array(content[start : start + _CHUNK]))
        dist.broadcast(piece, 0)
        if receives:
            content[start : start + _CHUNK] = piece.numpy()
    return content
