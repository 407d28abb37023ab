"""A pickle gone through on paper: what it calls with what, and how large what it makes is. Nothing is made or called.

A tuple of twice the same tuple of twice the same tuple takes forty lines of a pickle and no memory, and longer to hash, to
compare or to print than anyone can wait: so what is used twice is counted twice.
"""

import pickletools
from collections.abc import Iterator
from typing import Any

_CHANGES = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # what is there already, instead of making something new
_OF_MARKS = (pickletools.stackslice, pickletools.markobject)
_CALLS = {"REDUCE", "NEWOBJ"}
_LARGEST = 2_000_000  # values
_ENCODINGS = ("latin1", "latin-1")  # pickles have them for bytes; others load modules, and some are slow
_ATTRIBUTES = ("_metadata",)  # of a state dict


class _Name(str):
    """A function or type that is called."""


class _Made(list[Any]):
    """A value, as those it was made of, the last one first; plain numbers and strings are themselves."""


class _Dict(_Made):
    pass


def rehearse(pickle: bytes) -> None:
    """Raises ValueError where it calls what is no function's name, or makes too much; any error where it is no pickle."""
    made: list[_Made] = []
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, Any]] = pickletools.genops(pickle)
    for opcode, argument, _ in operations:
        name = opcode.name
        if name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            taken = _Dict() if name == "EMPTY_DICT" else _Made()
            if pickletools.stackslice in opcode.stack_before:
                start = marks.pop()
                taken.extend(reversed(stack[start:]))
                del stack[start:]
            taken.extend(stack.pop() for kind in opcode.stack_before if kind not in _OF_MARKS)
            if name in _CHANGES:
                changed = taken.pop()
                if name == "BUILD":
                    _require_known_attributes(changed, taken[0])
                if isinstance(changed, _Made):
                    changed.extend(taken)
                stack.append(changed)
            elif opcode.stack_after:
                if name in _CALLS:
                    _require_known_call(*taken)
                new: Any = _Name(argument.replace(" ", ".", 1)) if name == "GLOBAL" else argument
                if taken or name.startswith("EMPTY"):
                    made.append(taken)
                    new = taken
                stack.append(new)
    if _largest(made) > _LARGEST:
        raise ValueError(f"it makes more than {_LARGEST:,} values, or one that is part of itself")


def _require_known_call(arguments: Any, function: Any) -> None:
    if not isinstance(function, _Name):
        raise ValueError("it calls what is no function")
    if function == "_codecs.encode" and (len(arguments) != 2 or arguments[0] not in _ENCODINGS):
        raise ValueError("it asks for an encoding that pickles do not use")


def _require_known_attributes(changed: Any, state: Any) -> None:
    """What a pickle sets on an OrderedDict is found before its methods."""
    ordered = isinstance(changed, _Made) and len(changed) > 1 and changed[1] == "collections.OrderedDict"
    if ordered and not (isinstance(state, _Dict) and all(key in _ATTRIBUTES for key in state[1::2])):
        raise ValueError("it sets attributes of a dict that are none of a state dict's")


def _largest(made: list[_Made]) -> float:
    """The size of the largest value, each part counted where it is used; infinity where one is part of itself."""
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
                sizes[id(node)] = 1 + len(node) - len(inner) + sum(sizes[id(child)] for child in inner)
    return max(sizes.values(), default=1)
