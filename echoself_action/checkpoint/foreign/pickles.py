"""What may a checkpoint's pickle ask for? Only to put together tensors, numbers and dicts, by the names listed here.

PyTorch's own unpickler (`weights_only=True`) runs nothing that it does not know, and stays the one that reads. It knows
more than checkpoints need, some of which (`bytearray(10**11)`) costs memory: so the list is shorter here, and is looked
through first, to name what is refused.
"""

import pickletools
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from .archive import Archive, refuse
from .rehearsal import rehearse

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_ALLOWED = {
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
    *(f"torch.{kind}Storage" for kind in _STORAGES),
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
}
# What PyTorch's unpickler reads, and nothing else: protocol 2, without its calls by position or by extension code.
_OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "BINPERSID", "REDUCE", "BUILD", "NEWOBJ"),
    *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "BINUNICODE", "SHORT_BINSTRING"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
}
_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
_KINDS = "?bBhHiIlLqQefdUS"  # of NumPy's numbers and text
_MOST_TUPLES = 50_000  # they can be nested, and C's stack ends where a hash of 100,000 of them would


def check_pickle(archive: Archive) -> None:
    """Raises CheckpointError where the pickle asks for what is not allowed, naming it."""
    try:
        refused = list(dict.fromkeys(_wishes(archive.pickle)))
        if not refused:
            rehearse(archive.pickle)
    except Exception as error:  # pickletools raises nearly anything for a broken one
        refuse(archive.path, f"has a pickle that can't be read ({type(error).__name__}: {str(error)[:100]})")
    if refused:
        shown = ", ".join(wish[:100] for wish in refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
        refuse(
            archive.path,
            f"asks for {shown}, which no checkpoint of plain tensors and numbers needs",
            "If you trust where it comes from, save it again with tensors, numbers, strings, lists and dicts alone.",
        )


def numpy_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """NumPy's share of the allowed names, for `torch.serialization.safe_globals`, under both names of its core.

    Where the real one does more than a checkpoint needs, the name stands for one of ours.
    """
    from numpy._core import multiarray

    functions: list[tuple[Any, str]] = [(multiarray.scalar, "scalar"), (_empty_array, "_reconstruct")]  # type: ignore[attr-defined,unused-ignore]
    cores = ("numpy.core.multiarray", "numpy._core.multiarray")
    both: list[Any] = [(function, f"{core}.{name}") for function, name in functions for core in cores]
    named = [(_dtype, "numpy.dtype"), (_no_array, "numpy.ndarray")]
    # the types of what these make: they may be given their content, and can't be called, because no pickle can name them
    made = [(kind, f" {kind}") for kind in (np.ndarray, *dict.fromkeys(type(np.dtype(kind)) for kind in _KINDS))]
    return [*both, *named, *made]


def _empty_array(*_: object) -> Any:
    """`numpy._core.multiarray._reconstruct`: shape and content come later. The real one takes what memory it is asked for."""
    return np.empty(0, "b")


def _no_array(*_: object) -> NoReturn:
    raise ValueError("an array that is made without its content")


def _dtype(name: str, *_: object) -> Any:
    """`numpy.dtype` of a plain name: the real one evaluates expressions."""
    if not re.fullmatch(f"[<|=]?[{_KINDS}u][0-9]{{0,4}}", name):
        raise ValueError("a dtype that is none of numbers or text")
    return np.dtype(name, copy=True)


def _wishes(pickle: bytes) -> Iterator[str]:
    """What is asked for and not allowed, in words."""
    strings: list[str] = []
    tuples = 0
    for opcode, argument, position in pickletools.genops(pickle):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            wish = str(argument).replace(" ", ".", 1)
            if name == "INST" or wish not in _ALLOWED:
                yield wish
        elif name == "STACK_GLOBAL":
            yield ".".join(strings[-2:]) or "a name that it makes up"
        elif name in _CALLS:
            yield f"a call by {name} {'' if argument is None else argument}".rstrip()
        elif name not in _OPCODES:
            if isinstance(argument, str):  # another protocol's string: it may be a name
                strings.append(argument)
            if "UNICODE" not in name and "STRING" not in name and name not in ("MEMOIZE", "FRAME"):
                yield f"opcode {name} at {position}"
        elif isinstance(argument, str):
            strings.append(argument)
        tuples += name.startswith("TUPLE")
        if tuples > _MOST_TUPLES:
            yield f"more than {_MOST_TUPLES:,} tuples"
            return
