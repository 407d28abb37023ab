"""The documentation is in step with the code: tables, presets, links, and every error message that a user can meet."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from echoself_action.config.reference import with_tables
from echoself_action.errors import INTERRUPTED, CheckpointError, EchoselfError, HubError, InputError, TrainingError
from echoself_action.training.settings import PRESETS

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TROUBLESHOOTING = ROOT / "docs/troubleshooting.md"

RAISED = {"InputError", "MissingTokenError", "CheckpointError", "TrainingError", "LostProcessError", "HubError", "MovedOnError"}
FEWEST_LETTERS = 6  # of a message that says something by itself: `input …: …` only joins others


def test_the_tables_are_those_of_inputs_py() -> None:
    text = (ROOT / "docs/inputs.md").read_text(encoding="utf-8")
    assert text == with_tables(text), "run ./run docs"
    assert "| `mode` |" in text
    assert "| `val_loss` |" in text


def test_the_table_of_presets_is_that_of_the_settings() -> None:
    text = (ROOT / "docs/inputs.md").read_text(encoding="utf-8")
    for name in next(iter(PRESETS.values())).__dataclass_fields__:
        assert f"| `{name}` | {' | '.join(str(getattr(preset, name)) for preset in PRESETS.values())} |" in text


def test_every_error_message_is_in_troubleshooting_and_no_other() -> None:
    documented = {line[2:] for line in TROUBLESHOOTING.read_text(encoding="utf-8").splitlines() if line.startswith("> ")}
    in_code = {message for path in _modules() for message in _messages(ast.parse(path.read_text(encoding="utf-8")))}
    in_code |= set(_messages_of_the_launcher())
    assert sorted(in_code - documented) == [], "add these lines to docs/troubleshooting.md, with a > before and the cause after"
    assert sorted(documented - in_code) == [], "no code says these lines of docs/troubleshooting.md any more"


def test_every_exit_code_has_its_section() -> None:
    text = TROUBLESHOOTING.read_text(encoding="utf-8")
    errors: list[type[EchoselfError]] = [InputError, CheckpointError, TrainingError, HubError]
    for code in {error.exit_code for error in errors} | {1, INTERRUPTED}:
        assert f"\n## Exit code {code}: " in text


def test_exit_codes_are_the_same_in_readme_and_docs() -> None:
    tables = [re.findall(r"^\| \d+ \| .*$", path.read_text(encoding="utf-8"), re.MULTILINE) for path in _with_exit_codes()]
    assert tables[0]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target
    for named in re.findall(r"`((?:tests|examples|docs|echoself_action|\.github/workflows)/[\w./-]+)`", text):
        assert (ROOT / named).exists(), named


def _modules() -> Iterator[Path]:
    package = ROOT / "echoself_action"
    return (path for path in sorted(package.rglob("*.py")) if "localhub" not in path.relative_to(package).parts)


def _messages(module: ast.Module) -> Iterator[str]:
    """Every message that a user can meet, with … for what is filled in."""
    for node in ast.walk(module):
        for part in _message_parts(node):
            message = re.sub(r"…(\s*…)+", "…", part).replace("\n", " ")
            if sum(letter.isalpha() for letter in message) >= FEWEST_LETTERS:
                yield message


def _messages_of_the_launcher() -> list[str]:
    refused = re.findall(r'refuse "([^"]*)"', (ROOT / "launch.sh").read_text(encoding="utf-8"))
    return [re.sub(r"\$\w+", "…", message) for message in refused]


def _message_parts(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[message, *_]) if name in RAISED:
            yield _template(message)
        case ast.Call(func=ast.Name(id="_BadFileError"), args=[message]):  # the message follows the file's path
            yield f"…{_template(message)}, so the corpus was not read."
        case ast.Call(func=ast.Name(id="add"), args=[_, message, _]):  # contradictions between inputs
            yield _template(message)
        case ast.Assign(targets=[ast.Name(id="message")], value=ast.IfExp(body=one, orelse=other)):
            yield from (_template(one), _template(other))
        case ast.Assign(targets=[ast.Name(id="message")], value=value):
            yield _template(value)
        case ast.FunctionDef(name="_field_problem"):  # what is wrong with one input
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Tuple):
                    yield _template(inner.value.elts[1])


def _template(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_template(part) for part in parts)
    return "…"


def _with_exit_codes() -> list[Path]:
    return [ROOT / "README.md", ROOT / "docs/inputs.md"]


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
