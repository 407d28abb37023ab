"""Checks that a checkpoint's pickle only builds tensors, numbers, strings and containers, before it is unpickled.

Python's unpickler calls any function that a pickle names. PyTorch's own (`weights_only=True`) allows more than checkpoints
need, some of which costs gigabytes of memory or seconds (`bytearray(10**11)`). So there are two checks:

1. Every opcode is one that `torch.save` writes, and every global is one of `unpickle.NAMES` or may become a stub (stub.py).
2. Symbolic evaluation: which functions the pickle calls with which arguments, and how large its values are. Nothing is built
   or called. Objects of other classes, which become stubs, may contain themselves, because no code of ours follows them without
   end. A tuple of two references to a tuple of two references, and so on, takes forty opcodes and no memory, but hashing,
   comparing or printing it takes forever. A call builds its result each time, from arguments that the pickle stores once. So a
   value is counted at each use.
"""

import pickletools
from collections.abc import Iterator
from typing import Any

from .archive import Archive, refuse
from .stub import may_be_called, may_be_named
from .unpickle import NAMES

# The opcodes that torch.save writes, with the protocols 1 to 5 (INT and LONG are of 1), also in Python 2 (BINSTRING).
_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "BINPERSID", "REDUCE", "NEWOBJ", "BUILD"),
    *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *(
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "SHORT_BINSTRING",
        "BINSTRING",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINBYTES8",
    ),
    "BYTEARRAY8",
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT"),
}
_CALLS = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
_MOST_CLASSES = 1000  # that become stubs: each is a type, of a kilobyte
_MOST_TUPLES = 50_000  # hashing 100,000 nested tuples would overflow the C stack
_MUTATING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}  # opcodes that change an existing value
_MARK_KINDS = (pickletools.stackslice, pickletools.markobject)
_LARGEST = 2_000_000  # values: in one value, and in the arguments of all calls together
_MOST_MEMOIZED = 500_000  # each takes one byte of a pickle, and a hundred of memory here
_CHARACTERS = 8  # of a string that count as one value
_MOST_KEYS = 20_000  # that are not strings: their hashes could be chosen to collide
_ENCODINGS = ("latin1", "latin-1")  # pickles encode bytes with them
_ATTRIBUTES = ("_metadata",)  # of a state dict
_RECONSTRUCTORS = ("copyreg._reconstructor", "copy_reg._reconstructor")  # of an object of a class, which becomes a stub
_DICTS, _DEQUE = ("collections.OrderedDict", "collections.defaultdict"), "collections.deque"
_STATEFUL = ("numpy.dtype", *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")))


def check_pickle(archive: Archive) -> dict[str, str]:
    """The type of each storage that the pickle names, by its key.

    Raises CheckpointError if it uses a global, call or opcode that is not allowed; the message names it.
    """
    refused: dict[str, None] = {}
    storages: dict[str, str] = {}
    try:
        refused |= _forbidden_opcodes(archive.pickle)
        if not refused:
            check_by_symbolic_evaluation(archive.pickle, refused, storages)
    except Exception as error:  # pickletools may raise any exception for an invalid pickle
        if not refused:
            refuse(archive.path, f"has a pickle that can't be read ({type(error).__name__}: {str(error)[:100]})")
    if refused:
        names = list(refused)
        shown = ", ".join(item[:100] for item in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        refuse(
            archive.path,
            f"uses {shown}, which a checkpoint of tensors and numbers does not need",
            "If you trust its source, save it again with only tensors, numbers, strings, lists and dicts.",
        )
    return storages


def check_plain_pickle(pickle: bytes) -> None:
    """Raises ValueError if it uses any global or a forbidden opcode, any exception if it is invalid."""
    refused = _forbidden_opcodes(pickle)
    check_by_symbolic_evaluation(pickle, refused, {})
    if refused or any(opcode.name in ("GLOBAL", "STACK_GLOBAL") for opcode, _, _ in pickletools.genops(pickle)):
        raise ValueError("it does not consist of numbers and strings")


def _forbidden_opcodes(pickle: bytes) -> dict[str, None]:
    """Descriptions of the opcodes that the pickle uses and is not allowed, and of the names that it calls with them."""
    found: dict[str, None] = {}
    tuples = 0
    for opcode, argument, position in pickletools.genops(pickle):
        name = opcode.name
        if name == "GLOBAL" and not _is_known(item := str(argument).replace(" ", ".", 1)):
            found[item] = None
        elif name in _CALLS:
            found[str(argument).replace(" ", ".", 1) if name == "INST" else f"a call by {name}"] = None
        elif name not in _OPCODES:
            found[f"opcode {name} at {position}"] = None
        tuples += name.startswith("TUPLE")
        if tuples > _MOST_TUPLES:
            found[f"more than {_MOST_TUPLES:,} tuples"] = None
            break
    return found


def _is_known(name: str) -> bool:
    return name in NAMES or may_be_named(name)


class _Global(str):
    """A global: the name of a function or type."""


class _Value(list[Any]):
    """A value: its operands, the last one first. Numbers and strings are stored as they are."""


class _Dict(_Value):
    pass


class _List(_Value):
    pass


class _Set(_Value):
    pass


class _Stub(_Value):
    """An object of another class. It counts as one value where it is used, and its content once."""


_KINDS = {"EMPTY_DICT": _Dict, "EMPTY_LIST": _List, "EMPTY_SET": _Set, "NEWOBJ": _Stub}


def check_by_symbolic_evaluation(pickle: bytes, refused: dict[str, None], storages: dict[str, str]) -> None:
    """Add the globals that it calls and must not to `refused`, and the types of its storages, by their keys, to `storages`.

    Raises ValueError if it builds too much, any exception if it is invalid.
    """
    values: list[_Value] = []
    arguments_of_calls: list[_Value] = []
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    classes: set[str] = set()
    keys = 0
    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, Any]] = pickletools.genops(pickle)
    for opcode, argument, _ in operations:
        name = opcode.name
        if name.endswith("PUT") or name == "MEMOIZE":
            number = len(memo) if name == "MEMOIZE" else argument
            if number > len(memo):  # the unpickler allocates memory for all numbers below it
                raise ValueError(f"it memoizes {len(memo)} values, but the next one as number {number}")
            if number > _MOST_MEMOIZED:
                raise ValueError(f"it memoizes more than {_MOST_MEMOIZED:,} values")
            memo[number] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            operands = _KINDS.get(name, _Value)()
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
                elif name == "ADDITEMS":
                    keys += len(operands)
                elif name == "BUILD" and isinstance(operands[0], _Value) and not isinstance(target, _Stub):
                    arguments_of_calls.append(operands[0])  # an array copies its content
                target.extend(operands)
                stack.append(target)
            elif opcode.stack_after:
                new: Any = argument
                if "GLOBAL" in name:
                    new = _global(name, argument, operands)
                    if not _is_known(new):
                        refused[new] = None
                    classes.add(new)
                elif operands or name in _KINDS or name.startswith("EMPTY"):
                    if name in ("REDUCE", "NEWOBJ"):
                        operands = _called(name, operands, refused)
                        arguments_of_calls.append(operands[0])
                    keys += len(operands) * (name == "FROZENSET")
                    values.append(operands)
                    if len(values) > _LARGEST:
                        raise ValueError(f"it builds more than {_LARGEST:,} values")
                    new = _persistent(operands, storages) if name == "BINPERSID" else operands
                stack.append(new)
    if keys > _MOST_KEYS:
        raise ValueError(f"it has {keys:,} keys that are not strings")
    if len(classes) > _MOST_CLASSES:
        raise ValueError(f"it names {len(classes):,} classes and functions")
    sizes = _sizes(values)
    if max(sizes.values(), default=1) > _LARGEST or sum(sizes[id(arguments)] for arguments in arguments_of_calls) > _LARGEST:
        raise ValueError(f"it builds more than {_LARGEST:,} values, or one that is part of itself")


def _global(opcode: str, argument: Any, operands: _Value) -> _Global:
    if opcode == "GLOBAL":
        return _Global(argument.replace(" ", ".", 1))
    name, module = operands
    if type(name) is not str or type(module) is not str:
        raise ValueError("it computes the name of a global")
    return _Global(f"{module}.{name}")


def _persistent(operands: _Value, storages: dict[str, str]) -> Any:
    """The value of a persistent id: ("storage", type, key, ...), or ("module", class, its source code) of old files."""
    parts = operands[0][::-1] if isinstance(operands[0], _Value) else ()
    if len(parts) > 1 and parts[0] == "module" and isinstance(parts[1], _Global):
        return parts[1]
    if len(parts) > 2 and isinstance(parts[1], _Global) and isinstance(parts[2], str):
        storages[parts[2]] = parts[1]
    return operands


def _called(opcode: str, operands: _Value, refused: dict[str, None]) -> _Value:
    """The result of a call or of NEWOBJ. A function that must not be called is added to `refused`."""
    _check_call(*operands)
    function = operands[1]
    new = opcode == "NEWOBJ"
    if function in NAMES and not new and _takes(function, operands[0]):
        return _Stub(operands) if function in _RECONSTRUCTORS else operands
    if function in NAMES or not (may_be_named(function) if new else may_be_called(function)):
        refused[function] = None
    return _Stub(operands)


def _takes(function: str, arguments: _Value) -> bool:
    """Whether the function may have these arguments. Bytes of a length, and attributes of functions, are refused."""
    kind = function.rpartition(".")[2]
    if kind in ("bytes", "bytearray"):
        return not any(isinstance(argument, int) for argument in arguments)
    return kind != "getattr" or (len(arguments) == 2 and isinstance(arguments[1], _Global | _Stub))


def _check_call(arguments: Any, function: Any) -> None:
    if not isinstance(function, _Global) or not isinstance(arguments, _Value):
        raise ValueError("it calls something other than a function")
    if function == "_codecs.encode" and (len(arguments) != 2 or arguments[0] not in _ENCODINGS):
        raise ValueError("it uses an encoding that pickles do not")


def _check_mutation(name: str, target: Any, operands: _Value) -> None:
    """Only containers and stubs may get items, only stubs and results of known calls may get state: no function, no tensor."""
    if isinstance(target, _Stub) and name != "ADDITEMS":
        return
    function = target[1] if type(target) is _Value and len(target) > 1 and isinstance(target[1], _Global) else None
    ordered = function in _DICTS
    if name == "BUILD":
        plain = isinstance(operands[0], _Dict) and all(key in _ATTRIBUTES for key in operands[0][1::2])
        known = function in _STATEFUL or (ordered and plain)
    elif name == "ADDITEMS":
        known = type(target) is _Set
    else:
        known = type(target) is _List or function == _DEQUE if name.startswith("APPEND") else type(target) is _Dict or ordered
    if not known:
        raise ValueError("it sets items or attributes of an object that has none in a checkpoint")


def _sizes(values: list[_Value]) -> dict[int, float]:
    """The size of each value by its id. Each part counts at every use; the size is infinite if a value contains itself."""
    sizes: dict[int, float] = {}
    for start in values:
        path = [start]
        while path:
            node = path[-1]
            inner = [child for child in node if isinstance(child, _Value) and not isinstance(child, _Stub)]
            if id(node) not in sizes:
                sizes[id(node)] = float("inf")  # until it is known; found again here, the value contains itself
                path.extend(child for child in inner if id(child) not in sizes)
            else:
                path.pop()
                characters = sum(len(child) // _CHARACTERS for child in node if isinstance(child, str | bytes | bytearray))
                sizes[id(node)] = 1 + len(node) - len(inner) + characters + sum(sizes[id(child)] for child in inner)
    return sizes
