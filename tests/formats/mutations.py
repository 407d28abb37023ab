"""Mutations of checkpoints that know their structure: a zip with a directory, a pickle, and the data of tensors."""

import io
import pickletools
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .foreign_files import nanogpt_checkpoint, save
from .hostile_pickles import PICKLES
from .nanecho_files import load, nanecho_checkpoint, state_dict

_NAMES = (
    *("os system", "posix system", "builtins eval", "builtins getattr", "__builtin__ exec", "importlib import_module"),
    *("torch.serialization load", "torch load", "torch Tensor", "torch device", "torch._utils _rebuild_sparse_tensor"),
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch FloatStorage", "torch BFloat16Storage"),
    *("torch.storage UntypedStorage", "collections OrderedDict", "_codecs encode", "numpy dtype", "numpy ndarray"),
    *("numpy._core.multiarray scalar", "numpy._core.multiarray _reconstruct", "torch Size", "builtins bytearray"),
)
_NUMBERS = (0, 1, 2, -1, 3, 16, 64, 255, 10**6, 2**31 - 1, -(2**31))
_KEYS = ("model", "optimizer", "model_args", "iter_num", "state", "param_groups", "config", "transformer.wte.weight", "storage")


def seeds(folder: Path) -> list[bytes]:
    """Valid files: nanoGPT's, and the same tensors in other layouts."""
    first, second = nanogpt_checkpoint(), nanogpt_checkpoint(bias=False, n_embd=8)
    contents: list[Any] = [
        first,
        second,
        {"model": first["model"], "model_args": first["model_args"], "iter_num": 1},
        {"model_state_dict": first["model"], "step": 4, "loss": 1.5, "config": first["model_args"]},
        {"model": first["model"], "config": first["model_args"], "metadata": {"val_loss": np.float64(1.5)}},
        *(nanecho_checkpoint(layout, state_dict(n_layer=1), n_layer=1) for layout in ("train_nanecho", "cache", "native")),
    ]
    return [save(content, folder / "seed.pt").read_bytes() for content in contents]


def _records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(records: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return target.getvalue()


def _pickle_name(records: dict[str, bytes]) -> str:
    return next(name for name in records if name.endswith("data.pkl"))


def _with_pickle(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    records = _records(content)
    name = _pickle_name(records)
    return _packed(records | {name: change(records[name])})


def _flipped(chance: random.Random, content: bytes, most: int, start: int = 0) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, most)):
        place = chance.randrange(min(start, len(changed) - 1), len(changed))
        changed[place] = chance.choice((changed[place] ^ 1 << chance.randrange(8), chance.randrange(256), 0, 255))
    return bytes(changed)


def _operations(content: bytes) -> list[bytes]:
    """A pickle split at its opcodes, and the rest if one can't be read."""
    places: list[int] = []
    try:
        places.extend(position or 0 for _, _, position in pickletools.genops(content))
    except Exception:  # a hostile one need not be whole
        places = places or [0]
    return [content[start:end] for start, end in zip(places, [*places[1:], len(content)], strict=True)]


def _text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def _number(chance: random.Random) -> bytes:
    value = chance.choice(_NUMBERS)
    if chance.random() < 0.2:
        return b"\x8a\x08" + chance.randbytes(8)
    return b"J" + value.to_bytes(4, "little", signed=True)


def _global(chance: random.Random) -> bytes:
    module, name = chance.choice(_NAMES).split()
    return f"c{module}\n{name}\n".encode()


def _operation(chance: random.Random) -> bytes:
    """An operation that PyTorch's unpickler allows, or one close to it."""
    plain = (b"}", b"]", b")", b"(", b"N", b"\x88", b"\x89", b"\x85", b"\x86", b"\x87", b"t", b"s", b"u", b"a", b"e", b"R")
    made = (
        lambda: chance.choice(plain),
        lambda: chance.choice((b"b", b"\x81", b"Q", b"0", b"2", b"\x93", b"\x94", b"o", b"\x8f", b"1")),
        lambda: _number(chance),
        lambda: _global(chance),
        lambda: _text(chance.choice((*_KEYS, "cpu", "0", "1", "os", "system", "__reduce__", "a" * chance.randrange(2000)))),
        lambda: chance.choice((b"q", b"h")) + bytes([chance.randrange(40)]),
        lambda: b"G" + chance.choice((b"\x7f\xf8" + bytes(6), b"\x7f\xf0" + bytes(6), chance.randbytes(8))),
    )
    return chance.choice(made)()


def spliced(chance: random.Random, starts: list[bytes]) -> bytes:
    other = _operations(chance.choice(list(PICKLES.values())))[:200]

    def change(content: bytes) -> bytes:
        operations = _operations(content)
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(operations))
            way = chance.randrange(6)
            if way == 0:
                operations.insert(place, _operation(chance))
            elif way == 1 and len(operations) > 1:
                del operations[place : place + chance.randint(1, 4)]
            elif way == 2:
                operations.insert(chance.randrange(len(operations)), operations[place])
            elif way == 3:
                operations[place] = _operation(chance)
            elif way == 4:
                start = chance.randrange(len(other))
                operations[place:place] = other[start : start + chance.randint(1, 6)]
            else:
                operations[place] = chance.choice(operations)
            operations = operations or [b"."]
        return b"".join(operations)

    return _with_pickle(chance.choice(starts), change)


def same_kind_of_operation(chance: random.Random, starts: list[bytes]) -> bytes:
    """Sizes, strides, names and counts replaced by others: the pickle stays readable, but is wrong."""

    def change(content: bytes) -> bytes:
        operations = _operations(content)
        numbers = [i for i, one in enumerate(operations) if one[:1] in (b"K", b"J", b"M", b"\x8a")]
        names = [i for i, one in enumerate(operations) if one[:1] in (b"c", b"X")]
        for _ in range(chance.randint(1, 4)):
            if chance.random() < 0.7:
                operations[chance.choice(numbers)] = _number(chance)
            else:
                place = chance.choice(names)
                same = [operations[i] for i in names if operations[i][:1] == operations[place][:1]]
                operations[place] = (
                    _global(chance) if operations[place][:1] == b"c" and chance.random() < 0.5 else chance.choice(same)
                )
        return b"".join(operations)

    return _with_pickle(chance.choice(starts), change)


def invented_pickle(chance: random.Random, starts: list[bytes]) -> bytes:
    made = b"".join(_operation(chance) for _ in range(chance.randint(1, 60)))
    return _with_pickle(chance.choice(starts), lambda _: b"\x80\x02" + made + b".")


def hostile_value(chance: random.Random, starts: list[bytes]) -> bytes:
    """A hostile pickle's operations in place of a value of a good one, under any layout's keys."""
    hostile = chance.choice(list(PICKLES.values()))[:100_000].removeprefix(b"\x80\x02").removesuffix(b".")

    def change(content: bytes) -> bytes:
        operations = _operations(content)
        operations[chance.randrange(1, len(operations))] = hostile
        return b"".join(operations)

    return _with_pickle(chance.choice(starts), change)


def changed_records(chance: random.Random, starts: list[bytes]) -> bytes:
    records = _records(chance.choice(starts))
    for _ in range(chance.randint(1, 4)):
        name = chance.choice(list(records))
        way = chance.randrange(6)
        if way == 0 and len(records) > 1:
            del records[name]
        elif way == 1:
            records[name] = records[name][: chance.randrange(len(records[name]) + 1)]
        elif way == 2:
            records[name] += chance.randbytes(chance.randrange(5000))
        elif way == 3:
            records[chance.choice(("../x", "/etc/x", "a\nb", name + "/", name.upper(), "ckpt/data/99", "x/data.pkl"))] = b"x"
        elif way == 4:
            records[name] = chance.randbytes(len(records[name]))
        else:
            records[chance.choice(list(records))] = records[name]
    return _packed(records)


def changed_values(chance: random.Random, starts: list[bytes]) -> bytes:
    """Saved by PyTorch, with wrong values."""
    content: Any = load(io.BytesIO(chance.choice(starts)))
    odd = (None, -1, True, 2**70, float("nan"), "", "a\n::error::b", [], {}, (1, [2]), b"x", torch.ones(3), torch.zeros(()))
    odd += (torch.zeros(1).expand(2**20, 2**20), torch.eye(3).to_sparse(), torch.tensor(["nan" == "x"]), torch.Size([1]))
    odd += (
        torch.full((4, 4), float("inf")),
        torch.ones(2, dtype=torch.complex64),
        torch.empty(0),
        torch.ones(2, device="meta"),
    )
    for _ in range(chance.randint(1, 3)):
        place = content
        while isinstance(place, dict) and place:
            key = chance.choice(list(place))
            inner = place[key]
            if isinstance(inner, dict) and inner and chance.random() < 0.85:
                place = inner
                continue
            way = chance.randrange(4)
            if way == 0:
                del place[key]
            elif way == 1 and isinstance(inner, torch.Tensor) and inner.layout == torch.strided and inner.dim():
                place[key] = chance.choice(
                    (inner.t() if inner.dim() == 2 else inner[:-1], inner[:1], inner[:1].double(), inner[:1].int())
                )
            elif way == 2:
                place[chance.choice((0, "x", "_orig_mod.module.x", 2**40, key))] = chance.choice(odd)
            else:
                place[key] = chance.choice(odd)
            break
    target = io.BytesIO()
    torch.save(content, target)
    return target.getvalue()


def cut_and_pasted(chance: random.Random, starts: list[bytes]) -> bytes:
    content = chance.choice(starts)
    start, end = sorted((chance.randrange(len(content)), chance.randrange(len(content))))
    return chance.choice(
        (
            content[:end],
            content[:start] + content[end:],
            content[:end] + content[start:],
            content + chance.randbytes(end - start),
        )
    )


MUTATIONS: dict[str, Callable[[random.Random, list[bytes]], bytes]] = {
    "bytes anywhere": lambda chance, starts: _flipped(chance, chance.choice(starts), 16),
    "bytes of the zip's directory": lambda chance, starts: _flipped(
        chance, starts_ := chance.choice(starts), 8, len(starts_) - 4000
    ),
    "bytes of the pickle": lambda chance, starts: _with_pickle(chance.choice(starts), lambda one: _flipped(chance, one, 16)),
    "opcodes spliced": spliced,
    "numbers and names of the pickle": same_kind_of_operation,
    "a pickle of random opcodes": invented_pickle,
    "a hostile value in a good pickle": hostile_value,
    "records of the zip": changed_records,
    "values of the checkpoint": changed_values,
    "cut and pasted": cut_and_pasted,
}
