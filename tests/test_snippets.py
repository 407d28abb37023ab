"""The YAML in README and docs: inputs that exist with values that are accepted, and whole workflows as safe as our own."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from echoself_action.config.inputs import DEFAULT_CONFIG
from echoself_action.config.load import ACTION_VARIABLE, load_models

from .test_workflows import EXAMPLES, OUR_ACTION, is_ours

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCHEMA = json.loads((ROOT / "docs/echoself.schema.json").read_text(encoding="utf-8"))
INPUTS = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
WORKFLOW_KEYS = {True, "permissions", "concurrency", "env"}  # YAML 1.1 reads the key `on` as true
# what a fragment leaves to the text around it
COMMON = {"mode": "cycle", "repo_id": "you/your-model"}


@dataclass(frozen=True)
class Snippet:
    """A block of YAML, and where it is."""

    page: Path
    line: int
    text: str

    @property
    def content(self) -> Any:
        return yaml.safe_load(self.text)

    @property
    def is_workflow(self) -> bool:
        return isinstance(self.content, dict) and "jobs" in self.content

    @property
    def is_config(self) -> bool:
        """Whether it is a file of inputs, not a part of a workflow."""
        return self.text.startswith(f"# {DEFAULT_CONFIG}") or "models" in self.content

    @property
    def steps(self) -> list[dict[str, Any]]:
        match self.content:
            case {"jobs": jobs}:
                return [step for job in jobs.values() for step in job["steps"]]
            case list() as steps:
                return steps
            case dict() as fragment if not self.is_config and not fragment.keys() & WORKFLOW_KEYS:
                return [{"uses": "9cog/echoself-action@v1", "with": fragment}]
        return []


def snippets() -> Iterator[Snippet]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^( *)```ya?ml\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            yield Snippet(page, text[: block.start()].count("\n") + 1, block[2])


SNIPPETS = list(snippets())
WORKFLOWS = [snippet for snippet in SNIPPETS if snippet.is_workflow]
named = {"ids": lambda snippet: f"{snippet.page.stem}-{snippet.line}"}


def test_the_blocks_are_found() -> None:
    fences = sum(len(re.findall(r"^ *```ya?ml$", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES)
    assert len(SNIPPETS) == fences > 10
    assert {snippet.page.name for snippet in WORKFLOWS} >= {"README.md", "keyless.md", "training.md"}


@pytest.mark.parametrize("snippet", SNIPPETS, **named)
def test_the_action_accepts_what_it_is_given(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()  # as the runner's temporary folder, with the file of the step before
    (tmp_path / "x/key.pem").touch()
    if snippet.is_config:
        (tmp_path / DEFAULT_CONFIG).parent.mkdir()
        (tmp_path / DEFAULT_CONFIG).write_text(snippet.text)
        jsonschema.validate(snippet.content, SCHEMA)
        monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"mode": "cycle"}))
        load_models({})
    for step in filter(is_ours, snippet.steps):
        assert set(step["with"]) <= set(INPUTS), "all other settings are lines of `settings`"
        given = {name: filled(name, str(value)) for name, value in step["with"].items()}
        monkeypatch.setenv(ACTION_VARIABLE, json.dumps(COMMON | given))
        load_models({})


@pytest.mark.parametrize("snippet", WORKFLOWS, **named)
def test_a_workflow_is_complete_and_safe(snippet: Snippet, tmp_path: Path) -> None:
    path = tmp_path / "workflow.yml"
    path.write_text(snippet.text)
    checker = Path(sys.executable).with_name("check-jsonschema")
    for schema in ("vendor.github-workflows", "custom.github-workflows-require-timeout"):
        ended = subprocess.run([checker, "--builtin-schema", schema, path], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout
    workflow = snippet.content
    assert "permissions" in workflow
    assert "workflow_dispatch" in workflow[True], "the first run is started by hand"
    for step in snippet.steps:
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    publishes = any(step["with"]["mode"] in ("deploy", "cycle") for step in filter(is_ours, snippet.steps))
    assert not publishes or "concurrency" in workflow


@pytest.mark.parametrize("snippet", SNIPPETS, **named)
def test_other_actions_are_pinned_by_commit_and_as_in_the_examples(snippet: Snippet) -> None:
    pins = dict(re.findall(r"uses: ([\w-]+/[\w-]+)@(.*)", "".join(path.read_text(encoding="utf-8") for path in EXAMPLES)))
    for used in re.findall(r"uses: (.*)", snippet.text):
        action, _, pin = used.partition("@")
        assert OUR_ACTION.match(used) or re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", pin), used
        assert pins.get(action, pin) == pin


def filled(name: str, value: str) -> str:
    """A value of `with:` as the action gets it, with something likely for what only GitHub knows."""
    return re.sub(r"\$\{\{.*?\}\}", {"repo_id": "you/your-model", "hf_token": "hf_x"}.get(name, "x"), value)
