"""The layers: a part imports only parts below it, nothing imports in a circle, and no two public classes share a name."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "echoself_action"

# From top to bottom: a part imports its own modules and those of parts after it. The parts above `errors` are leaves.
LAYERS = (
    ("__main__",),
    ("modes",),
    ("exit_codes",),
    ("reviewing",),
    ("publishing",),
    ("starting",),
    ("config",),
    ("report",),
    ("hub",),
    ("github",),
    ("formats",),
    ("training",),
    ("evaluation",),
    ("checkpoint",),
    ("native",),
    ("model", "corpus"),
    ("config.input_field", "hub.repo_id", "libraries", "markdown", "workspace"),
    ("errors",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def module_name(path: Path) -> str:
    names = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


MODULES = {name: path for path in sorted(PACKAGE.rglob("*.py")) if (name := module_name(path))}


def test_a_part_imports_only_parts_below_it() -> None:
    upward = [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in imports(module)
        if part(module) != part(imported) and LEVEL[part(module)] >= LEVEL[part(imported)]
    ]
    assert upward == []


def test_there_are_no_import_cycles() -> None:
    """Strongly connected modules, by repeatedly removing those that import nothing that is left."""
    left = {module: set(imports(module)) - {module} for module in MODULES}
    while leaves := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in leaves:
            del left[module]
    assert sorted(left) == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def part(module: str) -> str:
    return module if module in LEVEL else module.partition(".")[0]


def imports(module: str) -> Iterator[str]:
    """The modules of this package that `module` imports, wherever the import is; not those for type checking alone."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in _without_type_checking(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for name in node.names:
                imported = ".".join([*base, name.name])
                found = imported if imported in MODULES else ".".join(base)
                if found in MODULES and found:
                    yield found


def _without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _without_type_checking(child)
