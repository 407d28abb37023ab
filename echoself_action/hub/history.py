"""metrics/history.jsonl: a line per run with its time, result and metrics.

The line of a publish is in the commit of the model. Those of other runs are on the branch of the training state until the next
publish, which includes them.

The file is append-only. Invalid lines, or lines of other programs, are kept and skipped by readers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ..checkpoint.metadata import BITS_PER_BYTE, NATS_PER_TOKEN, Comparison, Ending
from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, sha256
from .endpoint import Hub
from .fetch import download
from .repo import HISTORY_FILE, Listing, Remote


class HistoryEntry(BaseModel):
    """A run, as one line of the file. Losses are in nats per token. `result` is None for a publish of an older version.

    `elapsed_s` and `tokens_seen` are totals over all training of the model; `duration_s` is the time of its training since the
    entry before that it continues, including evaluations and saves. `tokens_per_second` is the speed of the run that trained
    it, as its metadata records it; earlier versions divided by `duration_s`.
    The scores on questions (checkpoint/question_facts.py) can be compared where `questions_digest` is the same.
    `attention_entropy` (bits, the mean over all heads) and `connections` are those of its introspection, `echo_fidelity` is the
    score without the system prompt, `echo_fidelity_held_out` that of the held-out text.
    `dataset` is the dataset repo of its documents, as owner/name@commit. `repository`, `commit` and `run_url` identify the job
    that published it; a job that trains it too does so with the code and text of that commit.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    published_at: AwareDatetime  # the end of the run, if it published nothing
    result: Ending | None = None
    run_id: str
    step: int
    tokens_seen: int
    elapsed_s: float
    weights_sha256: str
    train_loss: float | None = None
    val_loss: float | None = None
    bits_per_byte: float | None = None
    parity_max_abs_diff: float | None = None
    compared: Comparison | None = None
    question_accuracy: float | None = None
    question_preference: float | None = None
    question_bits_per_byte: float | None = None
    questions_digest: str | None = None
    data_digest: str | None = None
    dataset: str | None = None
    settings_digest: str | None = None
    duration_s: float | None = None
    tokens_per_second: float | None = None
    device: str | None = None
    attention_entropy: float | None = None
    connections: float | None = None
    echo_fidelity: float | None = None
    echo_fidelity_held_out: float | None = None
    repository: str | None = None
    commit: str | None = None
    run_url: str | None = None

    @property
    def is_publish(self) -> bool:
        return self.result in (None, "published")


@dataclass(frozen=True)
class History:
    """`content` is the file, byte for byte; `entries` are its valid lines, oldest first."""

    content: bytes
    entries: tuple[HistoryEntry, ...]

    @property
    def publishes(self) -> tuple[HistoryEntry, ...]:
        return tuple(entry for entry in self.entries if entry.is_publish)

    def runs_since_publish(self) -> int:
        """The number of runs after the last publish."""
        return sum(1 for _ in takewhile(lambda entry: not entry.is_publish, reversed(self.entries)))

    def followed_by(self, entry: HistoryEntry) -> "History":
        """This history with one more line."""
        before = self.content if not self.content or self.content.endswith(b"\n") else self.content + b"\n"
        return History(before + entry.model_dump_json(exclude_none=True).encode() + b"\n", (*self.entries, entry))


NO_HISTORY = History(b"", ())


def parse_history(content: bytes) -> History:
    """The history in the content of a file."""
    return History(content, tuple(entry for line in content.split(b"\n") if (entry := _parsed(line))))


def read_history(folder: Path) -> History:
    """The history in a downloaded model folder; empty if it has none."""
    try:
        return parse_history((folder / HISTORY_FILE).read_bytes())
    except OSError:
        return parse_history(b"")


def fetch_history(hub: Hub, remote: Remote) -> History:
    """The history of the model, with the runs that the branch of the training state has in addition. Raises HubError."""
    published = _fetch(hub, remote.repo_id, remote.model)
    known = set(published.splitlines())
    further = [line for line in _fetch(hub, remote.repo_id, remote.state).splitlines() if line not in known]
    separator = b"\n" if published and further and not published.endswith(b"\n") else b""
    return parse_history(published + separator + b"".join(line + b"\n" for line in further))


def _fetch(hub: Hub, repo_id: str, listing: Listing | None) -> bytes:
    if not listing or HISTORY_FILE not in listing.files:
        return b""
    with TemporaryDirectory() as folder:
        return download(hub, repo_id, listing.commit, listing.files[HISTORY_FILE], Path(folder)).read_bytes()


def history_entry(
    folder: ModelFolder,
    history: History,
    run: Mapping[str, str],
    bits_per_byte: float | None,
    now: datetime,
    result: Ending = "published",
) -> HistoryEntry | None:
    """The entry for a run of the job `run` with the model `folder`, after `history`; None for a model without metadata."""
    facts = folder.metadata
    if facts is None:
        return None
    # training did not continue from a run that was rolled back
    continued = (one for one in reversed(history.entries) if one.run_id == facts.run_id and one.result != "rolled_back")
    before = next(continued, None)
    duration = facts.elapsed_s - (before.elapsed_s if before else 0)
    measured = duration > 0  # not if an older checkpoint is published again
    asked = facts.questions
    return HistoryEntry(
        published_at=now.replace(microsecond=0),
        result=result,
        run_id=facts.run_id,
        step=facts.step,
        tokens_seen=facts.tokens_seen,
        elapsed_s=facts.elapsed_s,
        weights_sha256=facts.weights_sha256 or sha256(folder.path / WEIGHTS_FILE),
        train_loss=facts.train_loss,
        val_loss=facts.val_loss,
        bits_per_byte=bits_per_byte,
        parity_max_abs_diff=facts.parity.max_abs_diff if facts.parity else None,
        compared=facts.compared,
        question_accuracy=asked.scores.accuracy.value if asked else None,
        question_preference=asked.scores.preference.value if asked else None,
        question_bits_per_byte=asked.scores.bits_per_byte.value if asked else None,
        questions_digest=asked.digest if asked else None,
        data_digest=facts.data.digest if facts.data else None,
        dataset=str(facts.dataset) if facts.dataset else None,
        settings_digest=_digest(facts.settings),
        duration_s=round(duration, 3) if measured else None,
        tokens_per_second=facts.tokens_per_second,
        device=facts.device,
        attention_entropy=facts.introspection.mean_entropy if facts.introspection else None,
        connections=facts.introspection.connections if facts.introspection else None,
        echo_fidelity=facts.fidelity.unprompted.score.value if facts.fidelity else None,
        echo_fidelity_held_out=facts.fidelity.held_out.score.value if facts.fidelity and facts.fidelity.held_out else None,
        repository=run.get("repository"),
        commit=run.get("commit"),
        run_url=run.get("run_url"),
    )


def trend(publishes: Sequence[HistoryEntry]) -> tuple[str, list[tuple[int, float]]]:
    """The unit of the held-out losses over the publishes, and the number and the loss of each that has one.

    They are in bits per byte, or in nats per token where no two publishes record bits per byte, as in old histories.
    """
    numbered = list(enumerate(publishes, 1))
    bits = [(number, one.bits_per_byte) for number, one in numbered if one.bits_per_byte is not None]
    if len(bits) > 1:
        return BITS_PER_BYTE, bits
    return NATS_PER_TOKEN, [(number, one.val_loss) for number, one in numbered if one.val_loss is not None]


def _parsed(line: bytes) -> HistoryEntry | None:
    try:
        return HistoryEntry.model_validate_json(line)
    except ValidationError:
        return None


def _digest(settings: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
