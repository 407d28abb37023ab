"""Tensors into a safetensors file, one after the other: the memory that it takes is the largest tensor, not all of them.

safetensors' own writer wants every tensor in memory in its final form. A model that is being converted is a dict of views of
a mapped file: what has its final form there goes from one file into the other, and the rest gets it in memory that is used
again for the next. (The format: 8 bytes of header length, a JSON header, the data; github.com/huggingface/safetensors.)
"""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_PIECE = 1 << 22  # numbers that are written, hashed and let go at a time: 16 MiB


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    release: Callable[[], None] = lambda: None,
    hashed: Callable[[bytes | memoryview], None] = lambda _: None,
) -> None:
    """Write `tensors` in fp32, by name. Raises OSError where the file can't be written.

    `release` is called after each piece of a tensor: whoever maps them from a file can let go of it. `hashed` gets the bytes
    that are written, in another thread.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in sorted(tensors):
        begin, end = end, end + 4 * tensors[name].numel()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    start = len(text).to_bytes(8, "little") + text
    largest = max((tensor.numel() for tensor in tensors.values() if not _is_plain(tensor)), default=0)
    spare = torch.empty(largest), torch.empty(largest)
    with path.open("wb") as file, ThreadPoolExecutor(1) as thread:
        file.write(start)
        behind = thread.submit(hashed, start)
        for turn, name in enumerate(sorted(tensors)):
            tensor = tensors[name].detach()
            plain = tensor if _is_plain(tensor) else spare[turn % 2][: tensor.numel()].view(tensor.shape).copy_(tensor)
            for piece in torch.split(plain.view(-1), _PIECE):
                data = piece.numpy().data
                file.write(data)
                behind.result()  # one piece is hashed while the next is made, and no more of them wait in memory
                behind = thread.submit(hashed, data)
                release()
                # to the disk while the rest is made, and out of memory: else it piles up until the folder is synced
                if hasattr(os, "posix_fadvise"):  # macOS has none
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        behind.result()


def _is_plain(tensor: Tensor) -> bool:
    """Does it lie in memory as it does in the file?"""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()
