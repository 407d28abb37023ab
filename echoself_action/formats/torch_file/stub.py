"""Inert objects in place of the objects of classes that a pickle names: what was stored, without the class and its code.

Nothing is imported: a stub knows the name of its class, the arguments it was made with, and the attributes and items that the
pickle assigned. `StubObject` says how to read one. Which globals may become stubs:

- a class of any package but Python's own library, PyTorch and NumPy: as a value or an instance; called only if its name
  begins with a capital;
- classes of PyTorch and NumPy: as a value or an instance that holds its attributes, not called;
- of Python's own library only the classes of data in _DATA. Any other name of it (os.system) is refused.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

_LONGEST_NAME = 200
_STANDARD_LIBRARY = sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands", "nt", "posix"}  # also of Python 2
_LIBRARIES = ("torch", "numpy")  # their functions build tensors and arrays of any size: those that are needed are replaced
_BUILTINS = ("builtins", "__builtin__")
_TYPES = ("bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "str", "tuple", "type")
_OLD_TYPES = ("long", "unicode")  # of Python 2, in whose names the protocols up to 2 store those of Python 3
_DATA = {
    "argparse.Namespace",
    "functools.partial",
    "types.SimpleNamespace",
    "uuid.UUID",
    "decimal.Decimal",
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"{module}.{kind}" for module in _BUILTINS for kind in ("complex", "range", "slice", "xrange")),
}
_VALUES = _DATA | {f"{module}.{kind}" for module in _BUILTINS for kind in (*_TYPES, *_OLD_TYPES)}


# OmegaConf (and so Hydra) wraps each value: a DictConfig and a ListConfig have a _content, the nodes in them a _val.
_OMEGACONF, _CONTENT, _VALUE = "omegaconf.", "_content", "_val"


class StubObject(Mapping[Any, Any]):
    """An object of a class that was not loaded, as a read-only mapping of what its pickle stored.

    A dataclass, a Namespace and a dict are read alike, as a `Mapping`: `config["n_layer"]` or `config.get("n_layer")`
    is the attribute `n_layer` of an instance, or the item of a subclass of dict; the item, if an object has both.
    `isinstance(value, Mapping)` is true for it, `isinstance(value, dict)` is not. Attributes of the class instead of the
    instance (`class Config: n_layer = 12` without @dataclass) are not in a pickle, so they are missing.

    - `class_name`: "__main__.GPTConfig". The name of a class or function that the pickle stores as a value, such as
      `activation=torch.nn.functional.gelu`, is a subclass of StubObject with that `class_name`: see `name_of`.
    - `arguments`: what its class was called with, without names: (2,) of an enum member `Activation(2)`.
    - `elements`: of a subclass of list.
    - `state`: what the pickle assigned, if it was not attributes by name (a frozen dataclass with slots stores a list).

    Values are as in the rest of the file: arrays for tensors, stubs in stubs. Objects are equal only if they are the same one,
    and the repr does not show values, because stubs may contain each other.
    """

    class_name: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    elements: list[Any]
    state: Any
    _attributes: dict[Any, Any]
    _items: dict[Any, Any]

    def __new__(cls, *arguments: Any) -> "StubObject":
        """An object as the unpickler makes it, often without calling `__init__`."""
        self = super().__new__(cls)
        self.arguments, self.elements, self.state = arguments, [], None
        self._attributes, self._items = {}, {}
        return self

    def __init__(self, *_: Any) -> None:
        """Nothing to do: `__new__` keeps the arguments."""

    def __getitem__(self, key: Any) -> Any:
        for fields in self._fields():
            if key in fields:
                return _value_of(fields[key])
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        items, *attributes = self._fields()
        yield from items
        for fields in attributes:
            yield from (key for key in fields if key not in items)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _fields(self) -> tuple[dict[Any, Any], ...]:
        content = self._attributes.get(_CONTENT) if self.class_name.startswith(_OMEGACONF) else None
        return (content,) if isinstance(content, dict) else (self._items, self._attributes)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{self.class_name} object>"

    def __setstate__(self, state: Any) -> None:
        """Called by the unpickler, as are the methods below it."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # (attributes, slots)
        if not all(part is None or isinstance(part, dict) for part in parts):
            self.state = state
            return
        for part in parts:
            plain = part or {}
            inner = plain.get("__dict__")  # of pydantic
            self._attributes.update(inner if isinstance(inner, dict) else plain)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value

    def append(self, value: Any) -> None:
        self.elements.append(value)

    def extend(self, values: list[Any]) -> None:
        self.elements.extend(values)


def _value_of(value: Any) -> Any:
    """The value in a node of OmegaConf, of a ListConfig the list of its values; the same for any other object."""
    found = _leaf(value)
    if found is value and isinstance(value, StubObject) and value.class_name.startswith(_OMEGACONF):
        content = value._attributes.get(_CONTENT)
        return [_leaf(item) for item in content] if isinstance(content, list) else value
    return found


def _leaf(value: Any) -> Any:
    node = isinstance(value, StubObject) and value.class_name.startswith(_OMEGACONF)
    return value._attributes.get(_VALUE, value) if node else value


def name_of(value: object) -> str | None:
    """The dotted name of the class of a stub, or of a class or function that the file stores as a value; None of all else."""
    if isinstance(value, StubObject) or (isinstance(value, type) and issubclass(value, StubObject)):
        return value.class_name
    return None


def stub_class(name: str) -> type[StubObject]:
    """The class of the stubs for the global `name`. Raises ValueError if there must be none."""
    if not may_be_named(name):
        raise ValueError(f"the global {name[:_LONGEST_NAME]} is not allowed")
    return type("StubObject", (StubObject,), {"class_name": name})


def may_be_named(name: str) -> bool:
    """Whether a pickle may hold the global as a value, or as the class of an instance."""
    parts = name.split(".")
    plain = len(name) <= _LONGEST_NAME and all(part.isidentifier() or part == "<locals>" for part in parts)
    return plain and (name in _VALUES or parts[0] == "typing" or parts[0] not in _STANDARD_LIBRARY)


def may_be_called(name: str) -> bool:
    """Whether a pickle may call the global: it is then a class, whose arguments its stub keeps."""
    root, last = name.split(".")[0], name.rpartition(".")[2]
    foreign = may_be_named(name) and root not in (*_LIBRARIES, *_STANDARD_LIBRARY)
    return name in _DATA or name.startswith("numpy.random.") or (foreign and last.lstrip("_")[:1].isupper())
