"""Counts the documentation, and prints each count beside its limit: `python tests/count_docs.py`. Ends with 1 above a limit.

Words are those of `wc -w`: what white space separates, with tables, code and links.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Count:
    """A number of the documentation, and the most that it may be."""

    name: str
    value: int
    limit: int

    def __str__(self) -> str:
        return f"{self.name}: {self.value:,} of at most {self.limit:,}{'' if self.value <= self.limit else '  <-- TOO MUCH'}"


def counts() -> Iterator[Count]:
    """The sizes of README, pages and pictures, and the inputs of the action."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    yield Count("README.md, lines", len(readme.splitlines()), 200)
    yield Count("README.md, words", len(readme.split()), 1800)
    for page in sorted((ROOT / "docs").glob("*.md")):
        yield Count(f"docs/{page.name}, lines", len(page.read_text(encoding="utf-8").splitlines()), 149)
    yield Count("docs/images, bytes", sum(path.stat().st_size for path in (ROOT / "docs/images").iterdir()), 999_999)
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    yield Count("action.yml, inputs", len(action["inputs"]), 26)
    yield Count("action.yml, characters of the description", len(action["description"]), 79)


if __name__ == "__main__":
    found = list(counts())
    print(*found, sep="\n")
    sys.exit(any(count.value > count.limit for count in found))
