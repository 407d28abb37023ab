"""The calls of other clients that the tests make, read from their source: `python tests/client_calls.py` prints a table."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
_LIBRARIES = ("transformers", "datasets")
_LIBRARY_CALLS = ("push_to_hub", "from_pretrained", "pipeline", "read_csv")
_SHARED = {"clone": "clone", "committed": "clone", "push": "push"}  # fixtures of the tests that run git


def rows() -> Iterator[tuple[str, str, str]]:
    """Client, calls, and the link to their test."""
    names = sorted(set(re.findall(r"\bhub\.(\w+)\(", (FOLDER / "huggingface_js.mjs").read_text())))
    yield "huggingface.js", _code(names), "[all tests](tests/test_huggingface_js.py)"
    for client, module in (
        ("hf", "hf_cli"),
        ("transformers", "transformers"),
        ("datasets", "datasets"),
        ("git", "clone"),
        ("git", "push"),
        ("git-lfs", "git_lfs"),
    ):
        path = FOLDER / f"test_{module}.py"
        functions = _functions(path)
        bodies = functions if client not in _LIBRARIES else _functions(FOLDER / f"{client}_calls.py")
        for name in [name for name in functions if name.startswith("test_")]:
            body = bodies[name if client not in _LIBRARIES else name.removeprefix("test_")]
            calls = _library_calls(body) if client in _LIBRARIES else _commands(body, client)
            yield client, _code(calls), f"[{name.removeprefix('test_').replace('_', ' ')}](tests/{path.name})"
            if module == "push":  # its other tests are about what is rejected
                break


def table() -> str:
    return "\n".join(("| Client | Calls | Test |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows())))


def _functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def _code(calls: list[str]) -> str:
    return ", ".join(f"`{call}`" for call in calls)


def _calls(body: ast.FunctionDef) -> list[ast.Call]:
    found = [node for node in ast.walk(body) if isinstance(node, ast.Call)]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def _name(function: ast.expr) -> tuple[str, str]:
    """`hf` and `read` of hf.read, `` and `git` of git."""
    if isinstance(function, ast.Attribute):
        return (function.value.id if isinstance(function.value, ast.Name) else ""), function.attr
    return "", function.id if isinstance(function, ast.Name) else ""


def _library_calls(body: ast.FunctionDef) -> list[str]:
    """`Name.from_pretrained(revision)`: with the options of all its calls. A call may be the argument of another one."""
    found: dict[str, set[str]] = {}
    for call in _calls(body):
        for function in (call.func, *call.args[:1]):
            owner, name = _name(function)
            if name in _LIBRARY_CALLS or name.startswith(("load_dataset", "get_dataset")):
                shown = f"{owner}.{name}" if owner[:1].isupper() or owner == "pandas" else name
                found.setdefault(shown, set()).update(word.arg or "" for word in call.keywords)
    return [f"{name}({', '.join(sorted(options - {''}))})" for name, options in found.items()]


def _text(node: ast.expr) -> str | None:
    """A string, with its replaced parts as a slash: they are paths or ids."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "/" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _commands(body: ast.FunctionDef, client: str) -> list[str]:
    """`hf repos create --private`, with the options of all its calls."""
    found: dict[str, list[str]] = {}
    for call in _calls(body):
        owner, name = _name(call.func)
        words = [_text(argument) or "/" for argument in call.args]
        if client == "hf" and "hf" in (owner, name):
            command, options = _split(words[0].split())
        elif name in ("git", "git_lfs"):
            command, options = _split(words[2:] if words[0] == "-c" else words)
            command = command if words[0] == "lfs" else command[:1]
        elif name in _SHARED:
            command, options = [_SHARED[name]], _split(words)[1]
        elif name == "run" and isinstance(call.args[0], ast.List):
            program, *command = [_text(word) or "/" for word in call.args[0].elts]
            found[" ".join((program, *_split(command)[0]))] = []
            continue
        else:
            continue
        if client != "hf" and command[0] not in ("lfs", "clone", "fetch", "pull", "push", "ls-remote", "sparse-checkout"):
            continue  # works without a server
        known = found.setdefault(" ".join(["hf" if client == "hf" else "git", *command]), [])
        known += [option for option in options if option not in known]
    return [" ".join((command, *options)) for command, options in found.items()]


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of a command before its arguments, and its long options."""
    command: list[str] = []
    for word in words:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        command.append(word)
    options = dict.fromkeys(word.partition("=")[0] for word in words if word.startswith("--"))
    return command, [option for option in options if option not in ("--token", "--quiet")]


if __name__ == "__main__":
    print(table())
