"""What is said of a pull request on the Hub: the comment there, and the job summary. All that is from it stands in code."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..markdown import code, indented
from .fetch_pull_request import Incoming

_LONGEST = 600  # characters of what a check found
_FILES = 30  # in a table
FILES = "files"
CHECKS = ("config and tensors", "tokenizer", "stock transformers", "gate")  # of the files, once they are fetched


@dataclass(frozen=True)
class Check:
    """One check: what it found, in words that may hold text from outside."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class HeldTo:
    """What pull requests are compared with: main at `commit`, on `windows` windows that `data` holds out; `digest` is of these
    windows, `is_trained_on` whether main was last trained on that very corpus."""

    gate: str
    commit: str
    windows: int
    data: Sequence[str]
    digest: str
    is_trained_on: bool


@dataclass(frozen=True)
class Judged:
    """A pull request, and the checks up to the first that failed; without any where a run before this one checked it."""

    number: int
    url: str
    passed: bool
    checks: Sequence[Check]

    @property
    def is_new(self) -> bool:
        return bool(self.checks)

    @property
    def result(self) -> str:
        return "passed" if self.passed else "refused"


def comment(incoming: Incoming, judged: Judged, held_to: HeldTo) -> str:
    """Markdown for the pull request."""
    changed = [(name, f"{file.size:,}") for name, file in sorted(incoming.changed.items())]
    files = [*changed, *((name, "taken away") for name in incoming.removed)]
    more = [f"| and {len(files) - _FILES} more | |"] if len(files) > _FILES else []
    other = "" if held_to.is_trained_on else ", which is not the corpus that main was last trained on"
    return "\n".join(
        [
            f"**{judged.result.capitalize()}**: commit {code(incoming.head.commit)}, held to main at {code(held_to.commit)}.",
            "",
            *_table(judged.checks),
            "",
            f"The gate is {code(held_to.gate)}. Held-out text: {held_to.windows:,} windows of {code(', '.join(held_to.data))}"
            f"{other}; their sha256 is {code(held_to.digest)}.",
            "",
            "| file | bytes |",
            "|---|---|",
            *(f"| {code(_short(name))} | {size} |" for name, size in files[:_FILES]),
            *more,
            "",
            "Checked by [echoself-action](https://github.com/9cog/echoself-action), which ran no code of it and merges nothing."
            " After a new commit this comment is written anew.",
            "",
        ]
    )


def incoming_summary(repo_url: str, judged: Sequence[Judged], unchecked: Sequence[str]) -> str:
    """Markdown for the job summary."""
    new = [one for one in judged if one.is_new]
    refused = sum(not one.passed for one in new)
    sections = [f"## Pull requests of [{repo_url}]({repo_url}): {len(new)} checked, {refused} refused"]
    for one in new:
        sections.append("\n".join([f"### [{one.number}]({one.url}): {one.result}", "", *_table(one.checks)]))
    if old := [f"[{one.number}]({one.url}) ({one.result})" for one in judged if not one.is_new]:
        sections.append(f"As they were when they were checked: {', '.join(old)}.")
    sections += [f"Not checked:\n\n{indented(error)}" for error in unchecked]
    return "\n\n".join(sections) + "\n"


def _table(checks: Sequence[Check]) -> list[str]:
    made = {check.name: check for check in checks}
    rows = [
        f"| {name} | {'yes' if made[name].passed else '**no**'} | {code(_short(made[name].found))} |"
        if name in made
        else f"| {name} | not checked | |"
        for name in (FILES, *CHECKS)
    ]
    return ["| check | passed | found |", "|---|---|---|", *rows]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
