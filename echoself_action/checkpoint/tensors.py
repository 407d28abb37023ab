"""Tensors into a safetensors file, one after the other: the memory that it takes is the largest tensor, not all of them.

safetensors' own writer wants every tensor in memory in its final form. A model that is being converted is a dict of views of
a mapped file, and each is made what the file needs when its turn comes. (The format: 8 bytes of header length, a JSON header,
the data; github.com/huggingface/safetensors.)
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    release: Callable[[], None] = lambda: None,
    hashed: Callable[[bytes | memoryview], None] | None = None,
) -> None:
    """Write `tensors` in fp32, by name. Raises OSError where the file can't be written.

    `release` is called after each tensor: whoever maps them from a file can let go of it. `hashed` gets the bytes that are
    written, in another thread.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in sorted(tensors):
        begin, end = end, end + 4 * tensors[name].numel()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    start = len(text).to_bytes(8, "little") + text
    with path.open("wb") as file, ThreadPoolExecutor(1) as thread:
        file.write(start)
        behind = thread.submit(hashed, start) if hashed else None
        for name in sorted(tensors):
            plain = tensors[name].detach().to("cpu", torch.float32).contiguous().reshape(-1).numpy()
            file.write(plain.data)
            if hashed and behind:
                behind.result()  # one tensor is hashed while the next is made, and no more of them wait in memory
                behind = thread.submit(hashed, plain.data)
            release()
