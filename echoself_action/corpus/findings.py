"""What was not learnt as it is in the files of a corpus: counted for each kind and file, with an example.

Readers, records and tokenizers report a `Finding` for all that they skip, leave out, replace or assume. The findings are kept
with the cached tokens (token_cache.py), and the run writes each once to its log and to the job summary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

SKIPPED_RECORDS, SKIPPED_FILES, SKIPPED_RESTS = "skipped records", "skipped files", "skipped rests of files"
REFUSED_BY_FAIL = (SKIPPED_RECORDS, SKIPPED_FILES, SKIPPED_RESTS)  # kinds that end the run under `on_bad_file: fail`
_SHOWN = 10  # findings of a kind; the others are counted together
_LONGEST = 300  # characters of an example
_MOST_NAMES, _LONGEST_NAME = 20, 60  # names in an example, and characters of each


@dataclass(frozen=True)
class Finding:
    """`kind` is a plural, such as "skipped records"; `example` the first one, such as "line 2 is invalid JSON".

    `file` is a path, or empty for the whole corpus. `is_loss`: text that was to be learnt is not, so it is a warning; otherwise
    a line in the log.
    """

    kind: str
    file: str
    count: int
    example: str
    is_loss: bool = True

    def __str__(self) -> str:
        place = f"{self.file}: " if self.file else ""
        return f"{self.kind} ({self.count:,}): {place}{self.example}"


Report = Callable[[Finding], None]


class FileFindings:
    """Counts the findings of one file, and reports one for each kind when the file was read."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, Finding] = {}
        self._names: dict[str, dict[str, None]] = {}

    def add(self, kind: str, example: str, is_loss: bool = True, count: int = 1) -> None:
        """Count one more of this kind; the example of the first one is kept."""
        before = self._found.get(kind)
        count += before.count if before else 0
        shown = before.example if before else shortened(example)
        self._found[kind] = Finding(kind, self._file, count, shown, is_loss)

    def add_name(self, kind: str, name: str, is_loss: bool = True) -> None:
        """Count a name, such as that of a key, once; the example has the first names of this kind."""
        names = self._names.setdefault(kind, {})
        if name in names or len(names) > _MOST_NAMES:
            return
        names[name] = None
        more = " and others" if len(names) > _MOST_NAMES else ""
        shown = ", ".join(f"`{shortened(one, _LONGEST_NAME)}`" for one in list(names)[:_MOST_NAMES])
        self._found[kind] = Finding(kind, self._file, len(names), shown + more, is_loss)

    def report_to(self, report: Report) -> None:
        for finding in self._found.values():
            report(finding)


def shown_path(path: Path) -> str:
    """The path in the workspace, as a log shows it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """The text on one line, cut at a number of characters that a log line can have, without characters that it can't have."""
    line = " ".join(text.split())
    line = line if len(line) <= longest else line[:longest] + "..."
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def condensed(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The first findings of each kind; the others of that kind are one, with the sum of their counts."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    kept = []
    for kind, found in kinds.items():
        kept += found[:_SHOWN]
        if others := found[_SHOWN:]:
            first = others[0]
            count, is_loss = sum(one.count for one in others), any(one.is_loss for one in others)
            kept.append(Finding(kind, f"{len(others):,} other files", count, f"{first.file}: {first.example}", is_loss))
    return tuple(kept)
