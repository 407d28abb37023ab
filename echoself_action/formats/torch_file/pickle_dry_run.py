"""Symbolic evaluation of a pickle: which functions it calls with which arguments, and how large its values are.

Nothing is built or called. A tuple of two references to a tuple of two references, and so on, takes forty opcodes and no
memory, and longer to hash, compare or print than anyone can wait. A call builds its result each time, from arguments that the
pickle stores once. So a value is counted wherever it is used.
"""

import pickletools
from collections.abc import Iterator
from typing import Any

_MUTATING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # opcodes that change an existing value
_MARK_KINDS = (pickletools.stackslice, pickletools.markobject)
_LARGEST = 2_000_000  # values: in one value, and in the arguments of all calls together
_CHARACTERS = 8  # of a string that count as one more value
_MOST_KEYS = 20_000  # that are not strings: their hashes can be chosen to collide
_ENCODINGS = ("latin1", "latin-1")  # pickles have them for bytes
_ATTRIBUTES = ("_metadata",)  # of a state dict
_STATEFUL = ("numpy.dtype", *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")))


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
    """Raises ValueError if it calls something other than a global or builds too much; any error if it is not a valid pickle."""
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
            if argument > len(memo):  # the unpickler has room for all that are below it
                raise ValueError(f"it remembers {len(memo)} values, and the next as number {argument}")
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
    """Lists and dicts get items, and the result of a call gets the state that it is known to have: no function, no tensor."""
    function = target[1] if type(target) is _Value and len(target) > 1 and isinstance(target[1], _Global) else None
    ordered = function == "collections.OrderedDict"
    if name == "BUILD":
        plain = isinstance(operands[0], _Dict) and all(key in _ATTRIBUTES for key in operands[0][1::2])
        known = function in _STATEFUL or (ordered and plain)
    else:
        known = type(target) is _List if name.startswith("APPEND") else type(target) is _Dict or ordered
    if not known:
        raise ValueError("it sets items or attributes of what has none in a checkpoint")


def _sizes(values: list[_Value]) -> dict[int, float]:
    """The size of each value by its id, each part counted where it is used; infinity where one is part of itself."""
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
