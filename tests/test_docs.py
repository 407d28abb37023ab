"""The documentation matches the code: tables, presets, exit codes, links, and the error messages that it quotes."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from echoself_action.config.inputs import Inputs, modes_of
from echoself_action.config.outputs import Outputs
from echoself_action.config.reference import with_tables
from echoself_action.errors import (
    GATE_REFUSED,
    INTERRUPTED,
    CheckpointError,
    EchoselfError,
    HubError,
    InputError,
    TrainingError,
)
from echoself_action.input_field import MODES
from echoself_action.training.auto_preset import MINUTES
from echoself_action.training.settings import PRESETS

from .count_docs import counts

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CHECKPOINTS = ROOT / "docs/checkpoints.md"
# of workflows (EchoSelf's, too), records of a corpus, config.json, the search for secrets, and OAuth
KEYS_OF_OTHER_FILES = {"permissions", "contents", "actions", "if", "lfs", "weight", "train", "label", "legacy", "pragma"}
KEYS_OF_OTHER_FILES |= {"scale_attn_by_inverse_layer_idx", "invalid_grant", "training_type"}
TROUBLESHOOTING = sorted((ROOT / "docs").glob("troubleshooting*.md"))


@pytest.mark.parametrize("page", ["inputs", "settings"])
def test_the_tables_are_those_of_inputs_py(page: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    assert text == with_tables(text), "run ./run docs"
    assert len(text.splitlines()) < 150


def test_each_input_and_setting_is_in_one_table() -> None:
    text = "".join((ROOT / f"docs/{page}.md").read_text(encoding="utf-8") for page in ("inputs", "settings"))
    for name, field in Inputs.model_fields.items():
        assert text.count(f"| `{name}` | {', '.join(modes_of(name)) if len(modes_of(name)) < len(MODES) else 'all'} |") == 1, (
            name
        )
        assert field.description in text


def test_the_table_of_presets_is_that_of_the_settings() -> None:
    text = (ROOT / "docs/presets.md").read_text(encoding="utf-8")
    for name in next(iter(PRESETS.values())).__dataclass_fields__:
        assert f"| `{name}` | {' | '.join(str(getattr(preset, name)) for preset in PRESETS.values())} |" in text


def test_the_messages_quoted_in_troubleshooting_exist_in_the_code() -> None:
    lines = [line for page in TROUBLESHOOTING for line in page.read_text(encoding="utf-8").splitlines()]
    quoted = [line[2:] for line in lines if line.startswith("> ")]
    in_code = "\n".join([*_strings_of_the_package(), *_messages_of_the_launcher()])
    assert quoted
    assert [message for message in quoted if message not in in_code] == []


def test_every_exit_code_is_in_the_table() -> None:
    text = (ROOT / "docs/inputs.md").read_text(encoding="utf-8")
    errors: list[type[EchoselfError]] = [InputError, CheckpointError, TrainingError, HubError]
    for code in {error.exit_code for error in errors} | {1, GATE_REFUSED, INTERRUPTED}:
        assert f"\n| {code} | " in text


def test_no_page_is_longer_than_its_limit() -> None:
    assert [str(count) for count in counts() if count.value > count.limit] == []


def test_the_costs_are_those_of_the_presets() -> None:
    """A run is its training, two to four minutes around it, rounded up; a month is 30 nights."""
    limits = {"auto": MINUTES} | {name: preset.max_minutes for name, preset in PRESETS.items()}
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| `preset` |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:4]] for row in table.splitlines()[2:]]
    assert [re.findall(r"`(\w+)`", name) for name, _, _ in rows] == [[name] for name in limits]
    for (_, minutes, month), limit in zip(rows, limits.values(), strict=True):
        assert int(re.findall(r"^\d+", minutes)[0]) == limit
        assert 30 * (limit + 2) <= int(month.removeprefix("about ").replace(",", "")) <= 30 * (limit + 4)


def test_pictures_are_light_and_dark_with_a_text_for_those_who_do_not_see_them() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        pictures = re.findall(r"<picture>(.*?)</picture>", text, re.DOTALL)
        assert len(re.findall(r"<img |!\[", re.sub(r"\[!\[.*", "", text))) == len(pictures), "badges aside, each is a <picture>"
        for picture in pictures:
            [dark] = re.findall(r'<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">', picture)
            [light] = re.findall(r'<img src="([^"]+)"', picture)
            [alt] = re.findall(r'alt="([^"]+)"', picture)
            assert dark.replace("-dark.", "-light.") == light != dark
            assert (page.parent / dark).is_file()
            assert (page.parent / light).is_file()
            assert len(alt.split()) > 5


def test_every_picture_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [path.name for path in (ROOT / "docs/images").iterdir() if f"images/{path.name}" not in shown] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target
    for named in re.findall(r"`((?:tests|examples|docs|echoself_action|packages|\.github/workflows)/[\w./-]+)`", text):
        assert (ROOT / named).exists() or named == ".github/workflows/model.yml", named  # the user's own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_input_that_is_set_in_the_text_exists(page: Path) -> None:
    """`name: value` in a sentence is an input, a setting, an output, or one of the keys of other files."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    known = set(Inputs.model_fields) | {output.name for output in fields(Outputs)} | KEYS_OF_OTHER_FILES
    assert [name for name in re.findall(r"`([a-z_]+): [^`]*`", text) if name not in known] == []


def test_the_index_has_every_page_once() -> None:
    text = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([\w-]+\.md)\)", text)
    assert sorted(linked) == sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")
    assert "](docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_example_is_on_the_page_of_workflows() -> None:
    page = (ROOT / "docs/workflows.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "examples").glob("*.yml") if f"](../examples/{path.name})" not in page] == []


def test_every_row_of_the_table_of_checkpoints_names_its_tests() -> None:
    table = CHECKPOINTS.read_text(encoding="utf-8").partition("| checkpoint | result |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) > 10
    for row in rows:
        linked = re.findall(r"\[`(\w+)`\]\(([^)]+)\)", row)
        assert linked, row
        for name, path in linked:
            assert f"\ndef {name}(" in (CHECKPOINTS.parent / path).read_text(encoding="utf-8"), row


def _strings_of_the_package() -> Iterator[str]:
    """Every string of the package but docstrings, with … for values that are filled in."""
    package = ROOT / "echoself_action"
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in docstrings:
                yield re.sub(r"…(\s*…)+", "…", _template(node)).replace("\n", " ")


def _messages_of_the_launcher() -> list[str]:
    refused = re.findall(r'refuse "([^"]*)"', (ROOT / "launch.sh").read_text(encoding="utf-8"))
    return [re.sub(r"\$\w+", "…", message) for message in refused]


def _template(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_template(part) for part in parts)
    return "…"


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
