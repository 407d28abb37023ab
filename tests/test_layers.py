"""The layers: a part imports only parts below it, nothing imports in a circle, and no two public classes share a name."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "echoself_action"

# From top to bottom: a part imports its own modules and those of parts after it. The parts above `errors` are leaves.
LAYERS = (
    ("__main__",),
    ("modes",),
    ("preflight",),
    ("exit_codes",),
    ("reviewing",),
    ("publishing",),
    ("starting",),
    ("config",),
    ("report",),
    ("hub",),
    ("github",),
    ("demo",),
    ("formats",),
    ("training",),
    ("evaluation",),
    ("checkpoint",),
    ("native",),
    ("model", "corpus"),
    ("hub.repo_id", "input_field", "installation", "libraries", "markdown", "resources", "workspace"),
    ("errors",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# Modules that import other modules when they need them, because imports at the top would make every start slow.
LATE_IMPORTS = {
    "__main__": "what runs a command: --help loads none of it",
    "modes.start_mode": "the mode",
    "evaluation": "what computes loads PyTorch",
    "checkpoint.architectures": "models load PyTorch, and NanEcho's configuration loads transformers",
    "formats.registry": "the module of a format, which may load PyTorch",
    "libraries": "large and optional libraries that few runs need",
}
# Names of several files.
SHARED_NAMES = {
    "__init__.py": "Python's name for a package",
    "gpt2.py": "the architecture in model/, its checkpoint format in formats/",
    "nanecho.py": "the architecture in model/, its checkpoint format in formats/",
}


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


def test_only_the_listed_modules_import_in_functions() -> None:
    late = {module for module, path in MODULES.items() if _imports_late(ast.parse(path.read_text(encoding="utf-8")))}
    assert late == LATE_IMPORTS.keys()


def test_no_two_files_have_one_name() -> None:
    names = [path.name for path in MODULES.values()]
    assert {name for name in names if names.count(name) > 1} == SHARED_NAMES.keys()


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


def _imports_late(tree: ast.AST) -> bool:
    """Whether a function of the module has an import statement, or anything in it calls import_module or __import__."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    in_functions = any(isinstance(node, ast.Import | ast.ImportFrom) for function in functions for node in ast.walk(function))
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {
        func.attr if isinstance(func, ast.Attribute) else func.id
        for func in called
        if isinstance(func, ast.Attribute | ast.Name)
    }
    return in_functions or bool(names & {"import_module", "__import__"})
