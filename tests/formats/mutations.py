"""Mutations of checkpoints that know their structure: a zip with a directory, a pickle, and the data of tensors.

Older files are pickles with the data behind them, and those of llm.c a header with the data behind it.
"""

import argparse
import collections
import functools
import io
import pickletools
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
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
    *("__main__ GPTConfig", "argparse Namespace", "omegaconf.dictconfig DictConfig", "omegaconf.nodes AnyNode", "builtins set"),
    *(
        "copyreg _reconstructor",
        "numpy._core.numeric _frombuffer",
        "collections deque",
        "collections defaultdict",
        "torch float16",
    ),
    *(
        "functools partial",
        "torch._tensor _rebuild_from_type_v2",
        "operator getitem",
        "pathlib PosixPath",
        "builtins frozenset",
    ),
)
_NUMBERS = (0, 1, 2, -1, 3, 16, 64, 255, 10**6, 2**31 - 1, -(2**31))
_KEYS = ("model", "optimizer", "model_args", "iter_num", "state", "param_groups", "config", "transformer.wte.weight", "storage")


@dataclass
class Settings:
    """A config object, which is read as a stub."""

    n_layer: int = 2
    n_head: int = 2
    values: dict[str, Any] = field(default_factory=dict)


def odd_seeds(folder: Path) -> list[bytes]:
    """Valid files with objects in them, of other pickle protocols, from before PyTorch 1.6, of Lightning, and of llm.c."""
    first = nanogpt_checkpoint()
    config = Settings(values={"n_head": np.int64(2), "betas": np.array([0.9, 0.95]), "set": {1, 2}, "bytes": bytearray(b"ab")})
    config.values["self"] = config
    odd = {"device": torch.device("cuda:0"), "dtype": torch.float16, "path": folder, "deque": collections.deque([1])}
    sizes = first["model_args"]
    lightning = {
        **{"state_dict": {f"model.{name}": tensor for name, tensor in first["model"].items()}, "global_step": 3},
        **{"pytorch-lightning_version": "2.5", "hyper_parameters": {"cfg": argparse.Namespace(model=sizes)}, "loops": {}},
        **{"callbacks": {Settings: {}}, "optimizer": functools.partial(torch.optim.AdamW, lr=1e-3)},
    }
    contents: list[Any] = [
        {"model": first["model"], "config": argparse.Namespace(**sizes), "step": 4, "val_loss": 1.5},
        first | {"config": first["config"] | odd, "object": config},
        lightning,
    ]
    found = [llmc_bytes(version) for version in (3, 5)]
    for content in contents:
        for protocol, as_zip in ((2, True), (4, True), (5, True), (2, False), (4, False)):
            target = io.BytesIO()
            torch.save(content, target, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
            found.append(target.getvalue())
    return found


def llmc_bytes(version: int) -> bytes:
    """A model of llm.c with random numbers: 1 layer, width 8."""
    header = np.zeros(256, np.int32)
    header[:8] = [20240326, version, 4, 5, 1, 2, 8, 8]
    numbers = np.random.default_rng(0).standard_normal(8 * 8 + 4 * 8 + 12 * 8 * 8 + 13 * 8 + 2 * 8).astype(np.float32)
    data = numbers if version == 3 else (numbers.view(np.uint32) >> 16).astype(np.uint16)
    return header.tobytes() + data.tobytes()


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


def _zips(starts: list[bytes]) -> list[bytes]:
    return [start for start in starts if start.startswith(b"PK")]


def _old(starts: list[bytes]) -> list[bytes]:
    return [start for start in starts if start.startswith(b"\x80")]


def _with_pickles(starts: list[bytes]) -> list[bytes]:
    return _zips(starts) + _old(starts)


def _pickles(content: bytes) -> list[bytes]:
    """The five pickles of an older file, and the rest."""
    file, parts = io.BytesIO(content), []
    for _ in range(5):
        start = file.tell()
        collections.deque(pickletools.genops(file), maxlen=0)
        parts.append(content[start : file.tell()])
    return [*parts, content[file.tell() :]]


@functools.cache
def _is_plain(content: bytes) -> bool:
    """Whether PyTorch's own unpickler reads it."""
    try:
        load(io.BytesIO(content))
    except Exception:  # it raises several kinds
        return False
    return True


def _with_pickle(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    if content.startswith(b"\x80"):
        parts = _pickles(content)
        return b"".join([*parts[:3], change(parts[3]), *parts[4:]])
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
    newer = (b"\x94", b"\x93", b"\x81", b"\x8f", b"\x90", b"\x91", b"b", b"\x92", b"\x97", b"C\x02ab", b"\x8c\x02os")
    lengths = (b"\x95", b"\x96", b"\x8d", b"\x8e")  # of frames, bytearrays, text and bytes, in 8 bytes
    made = (
        lambda: chance.choice(plain),
        lambda: chance.choice((b"b", b"\x81", b"Q", b"0", b"2", b"\x93", b"\x94", b"o", b"\x8f", b"1")),
        lambda: _number(chance),
        lambda: _global(chance),
        lambda: _text(chance.choice((*_KEYS, "cpu", "0", "1", "os", "system", "__reduce__", "a" * chance.randrange(2000)))),
        lambda: chance.choice(newer),
        lambda: chance.choice(lengths) + chance.choice((3, 100, 2**31, 2**62)).to_bytes(8, "little") + b"abc",
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

    return _with_pickle(chance.choice(_with_pickles(starts)), change)


def same_kind_of_operation(chance: random.Random, starts: list[bytes]) -> bytes:
    """Sizes, strides, names and counts replaced by others: the pickle stays readable, but is wrong."""

    def change(content: bytes) -> bytes:
        operations = _operations(content)
        numbers = [i for i, one in enumerate(operations) if one[:1] in (b"K", b"J", b"M", b"\x8a")]
        names = [i for i, one in enumerate(operations) if one[:1] in (b"c", b"X", b"\x8c")]
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

    return _with_pickle(chance.choice(_with_pickles(starts)), change)


def invented_pickle(chance: random.Random, starts: list[bytes]) -> bytes:
    made = b"".join(_operation(chance) for _ in range(chance.randint(1, 60)))
    return _with_pickle(chance.choice(_with_pickles(starts)), lambda _: b"\x80\x02" + made + b".")


def hostile_value(chance: random.Random, starts: list[bytes]) -> bytes:
    """A hostile pickle's operations in place of a value of a good one, under any layout's keys."""
    hostile = chance.choice(list(PICKLES.values()))[:100_000].removeprefix(b"\x80\x02").removesuffix(b".")

    def change(content: bytes) -> bytes:
        operations = _operations(content)
        operations[chance.randrange(1, len(operations))] = hostile
        return b"".join(operations)

    return _with_pickle(chance.choice(_with_pickles(starts)), change)


def changed_records(chance: random.Random, starts: list[bytes]) -> bytes:
    records = _records(chance.choice(_zips(starts)))
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
    content: Any = load(io.BytesIO(chance.choice([start for start in _with_pickles(starts) if _is_plain(start)])))
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
    torch.save(
        content, target, pickle_protocol=chance.choice((2, 2, 4, 5)), _use_new_zipfile_serialization=chance.random() < 0.7
    )
    return target.getvalue()


def changed_old_file(chance: random.Random, starts: list[bytes]) -> bytes:
    """An older file with other pickles around its object, other counts of elements, or other lengths."""
    parts = _pickles(chance.choice(_old(starts)))
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(6)
        way = chance.randrange(6)
        if way == 0:
            parts[place] = b""
        elif way == 1:
            parts[place] = chance.choice(parts)
        elif way == 2 and parts[place]:
            parts[place] = _flipped(chance, parts[place], 4)
        elif way == 3:
            parts[5] = chance.choice((-1, 0, 1, 2**31, 2**62)).to_bytes(8, "little", signed=True) + parts[5][8:]
        elif way == 4:
            parts[place] = parts[place][: chance.randrange(len(parts[place]) + 1)]
        else:
            parts[chance.choice((0, 1, 2, 4))] = chance.choice(list(PICKLES.values()))[:100_000]
    return b"".join(parts)


def changed_header(chance: random.Random, starts: list[bytes]) -> bytes:
    """A model of llm.c with other numbers in its header, or of another length."""
    content = bytearray(chance.choice([start for start in starts if start.startswith(b"\xc6\xd7\x34\x01")]))
    for _ in range(chance.randint(1, 3)):
        place = 4 * chance.randrange(9)
        number = chance.choice((*_NUMBERS, 3, 5, 20240327, 20240520, 20240803))
        content[place : place + 4] = number.to_bytes(4, "little", signed=True)
    if chance.random() < 0.3:
        del content[chance.randrange(len(content)) :]
    return bytes(content) + chance.randbytes(chance.choice((0, 0, 4, 1000)))


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
    "bytes of the pickle": lambda chance, starts: _with_pickle(
        chance.choice(_with_pickles(starts)), lambda one: _flipped(chance, one, 16)
    ),
    "opcodes spliced": spliced,
    "numbers and names of the pickle": same_kind_of_operation,
    "a pickle of random opcodes": invented_pickle,
    "a hostile value in a good pickle": hostile_value,
    "records of the zip": changed_records,
    "values of the checkpoint": changed_values,
    "cut and pasted": cut_and_pasted,
    "parts of an older file": changed_old_file,
    "the header of llm.c": changed_header,
}
