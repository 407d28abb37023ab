"""Checks that a checkpoint's pickle only builds tensors, numbers and dicts, from the globals that `unpickle` has.

It is checked before it is unpickled, because Python's unpickler calls any function that a pickle names. PyTorch's own
(`weights_only=True`) allows more than checkpoints need, some of which (`bytearray(10**11)`) costs memory, and takes seconds to
load.
"""

import pickletools
from collections.abc import Iterator

from .archive import Archive, refuse
from .pickle_dry_run import check_by_symbolic_evaluation
from .unpickle import NAMES

# What torch.save writes, and nothing else: protocol 2, without what makes objects of classes.
_OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "BINPERSID", "REDUCE", "BUILD"),
    *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "BINUNICODE", "SHORT_BINSTRING"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
}
_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
_MOST_TUPLES = 50_000  # they can be nested, and C's stack ends where a hash of 100,000 of them would


def check_pickle(archive: Archive) -> None:
    """Raises CheckpointError where the pickle asks for what is not allowed, naming it."""
    try:
        refused = list(dict.fromkeys(_forbidden(archive.pickle)))
        if not refused:
            check_by_symbolic_evaluation(archive.pickle)
    except Exception as error:  # pickletools raises nearly anything for a broken one
        refuse(archive.path, f"has a pickle that can't be read ({type(error).__name__}: {str(error)[:100]})")
    if refused:
        shown = ", ".join(item[:100] for item in refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
        refuse(
            archive.path,
            f"asks for {shown}, which no checkpoint of plain tensors and numbers needs",
            "If you trust where it comes from, save it again with tensors, numbers, strings, lists and dicts alone.",
        )


def _forbidden(pickle: bytes) -> Iterator[str]:
    """Descriptions of what the pickle uses and must not."""
    strings: list[str] = []
    tuples = 0
    for opcode, argument, position in pickletools.genops(pickle):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            item = str(argument).replace(" ", ".", 1)
            if name == "INST" or item not in NAMES:
                yield item
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
