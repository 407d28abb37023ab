"""Checks that a checkpoint's pickle only builds tensors, numbers, strings and containers, before it is unpickled.

Python's unpickler calls any function that a pickle names. PyTorch's own (`weights_only=True`) allows more than checkpoints
need, some of which costs gigabytes of memory or seconds (`bytearray(10**11)`). So there are two checks:

1. Every opcode is one that `torch.save` writes, and every global is one of `unpickle.NAMES`.
2. Symbolic evaluation: which functions the pickle calls with which arguments, and how large its values are. Nothing is built
   or called. A tuple of two references to a tuple of two references, and so on, takes forty opcodes and no memory, but hashing,
   comparing or printing it takes forever. A call builds its result each time, from arguments that the pickle stores once. So a
   value is counted at each use.
"""

import pickletools
from collections.abc import Iterator
from typing import Any

from .archive import Archive, refuse
from .unpickle import NAMES

# The opcodes that torch.save writes: protocol 2, without those that construct objects.
_OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "BINPERSID", "REDUCE", "BUILD"),
    *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "BINUNICODE", "SHORT_BINSTRING"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
}
_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
_MOST_TUPLES = 50_000  # hashing 100,000 nested tuples would overflow the C stack
_MUTATING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # opcodes that change an existing value
_MARK_KINDS = (pickletools.stackslice, pickletools.markobject)
_LARGEST = 2_000_000  # values: in one value, and in the arguments of all calls together
_CHARACTERS = 8  # of a string that count as one value
_MOST_KEYS = 20_000  # that are not strings: their hashes could be chosen to collide
_ENCODINGS = ("latin1", "latin-1")  # pickles encode bytes with them
_ATTRIBUTES = ("_metadata",)  # of a state dict
_STATEFUL = ("numpy.dtype", *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")))


def check_pickle(archive: Archive) -> None:
    """Raises CheckpointError if the pickle uses a global, call or opcode that is not allowed; the message names it."""
    try:
        refused = list(dict.fromkeys(_forbidden(archive.pickle)))
        if not refused:
            check_by_symbolic_evaluation(archive.pickle)
    except Exception as error:  # pickletools may raise any exception for an invalid pickle
        refuse(archive.path, f"has a pickle that can't be read ({type(error).__name__}: {str(error)[:100]})")
    if refused:
        shown = ", ".join(item[:100] for item in refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
        refuse(
            archive.path,
            f"uses {shown}, which a checkpoint of tensors and numbers does not need",
            "If you trust its source, save it again with only tensors, numbers, strings, lists and dicts.",
        )


def _forbidden(pickle: bytes) -> Iterator[str]:
    """Descriptions of what the pickle uses and is not allowed."""
    strings: list[str] = []
    tuples = 0
    for opcode, argument, position in pickletools.genops(pickle):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            item = str(argument).replace(" ", ".", 1)
            if name == "INST" or item not in NAMES:
                yield item
        elif name == "STACK_GLOBAL":
            yield ".".join(strings[-2:]) or "a computed name"
        elif name in _CALLS:
            yield f"a call by {name} {'' if argument is None else argument}".rstrip()
        elif name not in _OPCODES:
            if isinstance(argument, str):  # a string of another protocol, which may be the name of a global
                strings.append(argument)
            if "UNICODE" not in name and "STRING" not in name and name not in ("MEMOIZE", "FRAME"):
                yield f"opcode {name} at {position}"
        elif isinstance(argument, str):
            strings.append(argument)
        tuples += name.startswith("TUPLE")
        if tuples > _MOST_TUPLES:
            yield f"more than {_MOST_TUPLES:,} tuples"
            return


class _Global(str):
    """A global: the name of a function or type."""


class _Value(list[Any]):
    """A value: its operands, the last one first. Numbers and strings are stored as they are."""


class _Dict(_Value):
    pass


class _List(_Value):
    pass


_EMPTY = {"EMPTY_DICT": _Dict, "EMPTY_LIST": _List}


def check_by_symbolic_evaluation(pickle: bytes) -> None:
    """Raises ValueError if it calls something other than a global or builds too much, any exception if it is invalid."""
    values: list[_Value] = []
    arguments_of_calls: list[_Value] = []
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    keys = 0
    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, Any]] = pickletools.genops(pickle)
    for opcode, argument, _ in operations:
        name = opcode.name
        if name.endswith("PUT"):
            if argument > len(memo):  # the unpickler allocates memory for all numbers below it
                raise ValueError(f"it memoizes {len(memo)} values, but the next one as number {argument}")
            memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            operands = _EMPTY.get(name, _Value)()
            if pickletools.stackslice in opcode.stack_before:
                start = marks.pop()
                operands.extend(reversed(stack[start:]))
                del stack[start:]
            operands.extend(stack.pop() for kind in opcode.stack_before if kind not in _MARK_KINDS)
            if name in _MUTATING:
                target = operands.pop()
                _check_mutation(name, target, operands)
                if name.startswith("SET"):
                    keys += sum(not isinstance(key, str) for key in operands[1::2])
                target.extend(operands)
                stack.append(target)
            elif opcode.stack_after:
                if name == "REDUCE":
                    _check_call(*operands)
                    arguments_of_calls.append(operands[0])
                new: Any = _Global(argument.replace(" ", ".", 1)) if name == "GLOBAL" else argument
                if operands or name.startswith("EMPTY"):
                    values.append(operands)
                    if len(values) > _LARGEST:
                        raise ValueError(f"it builds more than {_LARGEST:,} values")
                    new = operands
                stack.append(new)
    if keys > _MOST_KEYS:
        raise ValueError(f"it has {keys:,} keys that are not strings")
    sizes = _sizes(values)
    if max(sizes.values(), default=1) > _LARGEST or sum(sizes[id(arguments)] for arguments in arguments_of_calls) > _LARGEST:
        raise ValueError(f"it builds more than {_LARGEST:,} values, or one that is part of itself")


def _check_call(arguments: Any, function: Any) -> None:
    if not isinstance(function, _Global) or not isinstance(arguments, _Value):
        raise ValueError("it calls something other than a function")
    if function == "_codecs.encode" and (len(arguments) != 2 or arguments[0] not in _ENCODINGS):
        raise ValueError("it uses an encoding that pickles do not")


def _check_mutation(name: str, target: Any, operands: _Value) -> None:
    """Only lists and dicts may get items, and only results of known calls may get state: no function, no tensor."""
    function = target[1] if type(target) is _Value and len(target) > 1 and isinstance(target[1], _Global) else None
    ordered = function == "collections.OrderedDict"
    if name == "BUILD":
        plain = isinstance(operands[0], _Dict) and all(key in _ATTRIBUTES for key in operands[0][1::2])
        known = function in _STATEFUL or (ordered and plain)
    else:
        known = type(target) is _List if name.startswith("APPEND") else type(target) is _Dict or ordered
    if not known:
        raise ValueError("it sets items or attributes of an object that has none in a checkpoint")


def _sizes(values: list[_Value]) -> dict[int, float]:
    """The size of each value by its id. Each part counts at every use; the size is infinite if a value contains itself."""
    sizes: dict[int, float] = {}
    for start in values:
        path = [start]
        while path:
            node = path[-1]
            inner = [child for child in node if isinstance(child, _Value)]
            if id(node) not in sizes:
                sizes[id(node)] = float("inf")  # until it is known; found again here, the value contains itself
                path.extend(child for child in inner if id(child) not in sizes)
            else:
                path.pop()
                characters = sum(len(child) // _CHARACTERS for child in node if isinstance(child, str))
                sizes[id(node)] = 1 + len(node) - len(inner) + characters + sum(sizes[id(child)] for child in inner)
    return sizes
