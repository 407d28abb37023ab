"""A pickle gone through on paper: what it calls with what, and how large what it makes is. Nothing is made or called.

A tuple of twice the same tuple of twice the same tuple takes forty lines of a pickle and no memory, and longer to hash, to
compare or to print than anyone can wait; a call makes its result anew each time, of arguments that stand in the pickle once. So
what is used twice is counted twice.
"""

import pickletools
from collections.abc import Iterator
from typing import Any

_CHANGES = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # what is there already, instead of making something new
_OF_MARKS = (pickletools.stackslice, pickletools.markobject)
_LARGEST = 2_000_000  # values: in one of them, and given to all calls together
_LETTERS = 8  # of a text that count as one more value
_MOST_KEYS = 20_000  # that are no strings: the hashes of others can be chosen to be all the same
_ENCODINGS = ("latin1", "latin-1")  # pickles have them for bytes
_ATTRIBUTES = ("_metadata",)  # of a state dict
_STATEFUL = ("numpy.dtype", *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")))


class _Name(str):
    """A function or type that is called."""


class _Made(list[Any]):
    """A value, as those it was made of, the last one first; plain numbers and strings are themselves."""


class _Dict(_Made):
    pass


class _List(_Made):
    pass


_EMPTY = {"EMPTY_DICT": _Dict, "EMPTY_LIST": _List}


def rehearse(pickle: bytes) -> None:
    """Raises ValueError where it calls what is no function's name, or makes too much; any error where it is no pickle."""
    made: list[_Made] = []
    given: list[_Made] = []  # to calls
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    keys = 0
    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, Any]] = pickletools.genops(pickle)
    for opcode, argument, _ in operations:
        name = opcode.name
        if name.endswith("PUT"):
            if argument > len(memo):  # the unpickler has room for all that are below it
                raise ValueError(f"it remembers {len(memo)} values, and the next as number {argument}")
            memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            taken = _EMPTY.get(name, _Made)()
            if pickletools.stackslice in opcode.stack_before:
                start = marks.pop()
                taken.extend(reversed(stack[start:]))
                del stack[start:]
            taken.extend(stack.pop() for kind in opcode.stack_before if kind not in _OF_MARKS)
            if name in _CHANGES:
                changed = taken.pop()
                _require_known_change(name, changed, taken)
                if name.startswith("SET"):
                    keys += sum(not isinstance(key, str) for key in taken[1::2])
                changed.extend(taken)
                stack.append(changed)
            elif opcode.stack_after:
                if name == "REDUCE":
                    _require_known_call(*taken)
                    given.append(taken[0])
                new: Any = _Name(argument.replace(" ", ".", 1)) if name == "GLOBAL" else argument
                if taken or name.startswith("EMPTY"):
                    made.append(taken)
                    if len(made) > _LARGEST:
                        raise ValueError(f"it makes more than {_LARGEST:,} values")
                    new = taken
                stack.append(new)
    if keys > _MOST_KEYS:
        raise ValueError(f"it has {keys:,} keys that are no names")
    sizes = _sizes(made)
    if max(sizes.values(), default=1) > _LARGEST or sum(sizes[id(arguments)] for arguments in given) > _LARGEST:
        raise ValueError(f"it makes more than {_LARGEST:,} values, or one that is part of itself")


def _require_known_call(arguments: Any, function: Any) -> None:
    if not isinstance(function, _Name) or not isinstance(arguments, _Made):
        raise ValueError("it calls what is no function, or with what are no arguments")
    if function == "_codecs.encode" and (len(arguments) != 2 or arguments[0] not in _ENCODINGS):
        raise ValueError("it asks for an encoding that pickles do not use")


def _require_known_change(name: str, changed: Any, taken: _Made) -> None:
    """Lists and dicts get items, and what a call has made gets the state that it is known to have: no function, no tensor."""
    function = changed[1] if type(changed) is _Made and len(changed) > 1 and isinstance(changed[1], _Name) else None
    ordered = function == "collections.OrderedDict"
    if name == "BUILD":
        plain = isinstance(taken[0], _Dict) and all(key in _ATTRIBUTES for key in taken[0][1::2])
        known = function in _STATEFUL or (ordered and plain)
    else:
        known = type(changed) is _List if name.startswith("APPEND") else type(changed) is _Dict or ordered
    if not known:
        raise ValueError("it sets items or attributes of what has none in a checkpoint")


def _sizes(made: list[_Made]) -> dict[int, float]:
    """The size of each value by its id, each part counted where it is used; infinity where one is part of itself."""
    sizes: dict[int, float] = {}
    for start in made:
        path = [start]
        while path:
            node = path[-1]
            inner = [child for child in node if isinstance(child, _Made)]
            if id(node) not in sizes:
                sizes[id(node)] = float("inf")  # until it is known: whoever finds it here is part of it
                path.extend(child for child in inner if id(child) not in sizes)
            else:
                path.pop()
                letters = sum(len(child) // _LETTERS for child in node if isinstance(child, str))
                sizes[id(node)] = 1 + len(node) - len(inner) + letters + sum(sizes[id(child)] for child in inner)
    return sizes
