"""What is folded in the summary of a run: figures, corpus, origin, checks, files and history; and its warnings."""

from collections.abc import Sequence
from pathlib import Path

from ...checkpoint.metadata import (
    BITS_PER_BYTE,
    BITS_PER_BYTE_MEANING,
    NATS_PER_TOKEN,
    Comparison,
    ExportFacts,
    Metadata,
    ParityFacts,
    leaks_text,
    parity_text,
    ppmd_text,
)
from ...checkpoint.model_folder import ModelFolder
from ...checkpoint.question_facts import questions_text
from ...corpus.findings import Finding
from ...evaluation.gate import Verdict
from ...hub.cards.fidelity_text import fidelity_text
from ...hub.cards.introspection_text import summary_text
from ...hub.cards.model_card_text import export_table, history_table
from ...hub.cards.origin import origin_rows, tokens_seen_text
from ...hub.history import HistoryEntry, trend
from ...hub.publish import CommitResult
from ...markdown import code, escaped, prose, table
from ...training.result import Result
from .layout import change_table, sentence
from .loss_curve import FEWEST, loss_curve

_STOPPED = {
    "max_iters": "The run completed all its steps.",
    "max_minutes": "The run stopped at its time limit.",
    "early_stopping": "The run ended early, because it began to memorise the text: more text or `init_from` would help.",
    "signal": "The run was interrupted by a signal.",
}
_HEAD = ("what", "value")
_VISIBLE_LOSSES = 5  # findings of the corpus


def figures(
    model: ModelFolder,
    training: Result | None,
    before_and_now: tuple[float | None, float | None],
    compared: Comparison | None,
) -> str:
    """The figures of the model and of its training, each once."""
    facts = model.metadata
    if facts is None:
        return ""
    before, now = before_and_now
    changes = _changes(model, training, compared, before, now)
    rows = [
        ("Model", "" if changes else f"step {facts.step:,}"),
        ("Validation loss", "" if changes or facts.val_loss is None else facts.val_loss_text),
        ("Training loss", f"{facts.train_loss:.4f} nats per token" if facts.train_loss is not None else ""),
        ("Parameters", f"{facts.parameters:,}"),
        ("Tokens seen", tokens_seen_text(training.latest.metadata if training and training.latest.metadata else facts)),
        ("Steps of this run", f"{training.start_step:,} to {training.latest.step:,}" if training else ""),
        ("Phases of this run", _phases(training) if training else ""),
        ("End of this run", stop_text(training) if training else ""),
        ("Speed", _speed(training) if training else ""),
        ("Of that time", _shares(training) if training else ""),
        ("Tokenizer", f"{code(facts.tokenizer.name)}, {facts.tokenizer.vocab_size:,} entries"),
        ("Device", prose(facts.device) if facts.device else ""),
        ("Echo fidelity", prose(fidelity_text(facts.fidelity)) if facts.fidelity else ""),
        ("Inside the model", prose(summary_text(facts.introspection)) if facts.introspection else ""),
    ]
    parts = (change_table(changes), table(_HEAD, [row for row in rows if row[1]]))
    return "\n\n".join(part for part in parts if part)


def _changes(
    model: ModelFolder, training: Result | None, compared: Comparison | None, before: float | None, now: float | None
) -> list[tuple[str, str, str, str]]:
    """Rows of what was before and what is now: of the published model, or of the best one before the run."""
    facts = model.metadata
    if facts is None or (before is None and not compared):
        return []
    best = training.best_before if training and not compared else None
    nats = (compared.published_nats, compared.candidate_nats) if compared else (best.val_loss if best else None, facts.val_loss)
    steps = [("step", f"{best.step:,}", f"{model.step:,}", "")] if best else []
    losses = ((BITS_PER_BYTE, before, now), (NATS_PER_TOKEN, nats[0], facts.val_loss if nats[1] is not None else None))
    return steps + [
        (unit, f"{first:.4f}", f"{second:.4f}", f"{second - first:+.4f}")
        for unit, first, second in losses
        if first is not None and second is not None
    ]


def verdict_text(verdict: Verdict, gate: str) -> str:
    """The verdict of the gate in a sentence, and that of `evaluate_gate`; what was compared is in the title."""
    found, asked = verdict.compared, verdict.questions
    by_questions = f"On questions: {prose(asked.reason)}." if asked else ""
    if found:
        interval = f"95 % CI of the difference {found.low:+.4f} to {found.high:+.4f}"
        by_loss = prose(sentence(f"{verdict.reason.partition(':')[0]} ({interval})"))
    else:
        by_loss = prose(sentence(verdict.reason)) if gate != "none" else ""
    return " ".join(part for part in (by_loss, by_questions) if part)


def stop_text(training: Result) -> str:
    """Why the run ended, and how much of its plan a time limit cut off."""
    done = training.latest.step - training.start_step
    cut = f" It took {done:,} of {training.planned_steps:,} planned steps." if 0 < done < training.planned_steps else ""
    return _STOPPED[training.stopped_by] + cut


def beside_bits_per_byte(facts: Metadata | None) -> str:
    """What to compare the number in the title with."""
    if facts is None or facts.bits_per_byte is None:
        return ""
    known = facts.data.ppmd_bits_per_byte if facts.data else None
    compressor = "" if known is None else f" A text compressor, PPMd, needs {known:.4f}."
    return f"Bits per byte of the held-out text, which is not used for training: lower is better.{compressor}"


def questions(facts: Metadata | None) -> str:
    """How the model answers the questions of `evaluate`, in one line; "" if that was not measured."""
    return f"Questions: {questions_text(facts.questions)}." if facts and facts.questions else ""


def meaning(facts: Metadata | None) -> str:
    """What a bit per byte means, and what PPMd needs."""
    if facts is None or facts.bits_per_byte is None:
        return ""
    return " ".join(part for part in (BITS_PER_BYTE_MEANING, ppmd_text(facts.data)) if part)


def losses_of_corpus(findings: Sequence[Finding]) -> list[str]:
    """What was to be learnt and is not, which needs an action."""
    lost = [one for one in findings if one.is_loss]
    if not lost:
        return []
    more = len(lost) - _VISIBLE_LOSSES
    rest = f"\n\nAnd {more:,} more below, under Corpus." if more > 0 else ""
    return [f"**Not learnt as it is in the files:**\n\n{_findings(lost[:_VISIBLE_LOSSES])}{rest}"]


def corpus(facts: Metadata | None, findings: Sequence[Finding]) -> str:
    """The sizes of the corpus, what is in both splits, and the findings that are not warnings."""
    data = facts.data if facts else None
    rows = []
    if data:
        rows = [
            ("Files", ", ".join(map(code, data.patterns))),
            ("Documents", f"{data.documents:,}, {data.val_documents or 0:,} held out" if data.documents else ""),
            ("Tokens", f"{data.train_tokens:,}, {data.val_tokens:,} held out"),
            ("In both splits", leaks_text(data)),
        ]
    lost = [one for one in findings if one.is_loss]
    folded = [*lost[_VISIBLE_LOSSES:], *(one for one in findings if not one.is_loss)]
    parts = (table(_HEAD, [row for row in rows if row[1]]) if rows else "", _findings(folded) if folded else "")
    return "\n\n".join(part for part in parts if part)


def _findings(findings: Sequence[Finding]) -> str:
    places = [f" in {code(one.file)}" if one.file else "" for one in findings]
    lines = [f"- {one.kind} ({one.count:,}){place}: {code(one.example)}" for one, place in zip(findings, places, strict=True)]
    return "\n".join(lines).replace("\\|", "|")  # which only a table needs


def origin(facts: Metadata | None) -> str:
    """Where an imported or pretrained model is from, and what was assumed about it; "" for others."""
    rows = [(label, escaped(text)) for label, text in origin_rows(facts)]
    return table(_HEAD, rows) if rows else ""


def assumptions(facts: Metadata | None) -> str:
    """The origin of a model that is not known for certain, or that has remarks for its users; "" for others."""
    notes = {label for label, _ in origin_rows(facts)} & {"Assumed", "Note"}
    return f"**Please check: not all of this model is known for certain.**\n\n{origin(facts)}" if notes else ""


def checks(parity: ParityFacts | None, verdict: Verdict | None) -> str:
    """What the model had to pass before the upload."""
    parts = []
    if verdict:
        parts.append(f"Gate: {prose(verdict.full_reason)}.")
    if parity:
        parts.append(f"Stock transformers: {parity_text(parity)}.")
    return "\n\n".join(parts)


def exports(found: Sequence[ExportFacts]) -> str:
    """The files for other programs, and how these compute them; "" without any."""
    return export_table(found) if found else ""


def files(commit: CommitResult, tag: str, release_url: str, documents: str) -> str:
    """What was sent, and where else it is."""
    rows = [(code(change.path), f"{change.size:,}") for change in commit.changes]
    places = [f"Commit {code(commit.commit)}." if commit.commit else ""]
    places += [f"Tag {code(tag)}." if tag else "", f"[Release]({release_url})." if release_url else ""]
    places.append(f"[Documents]({documents})." if documents else "")
    return f"{' '.join(place for place in places if place)}\n\n{table(('file', 'bytes'), rows)}"


def history(publishes: Sequence[HistoryEntry]) -> str:
    """The publishes of the repo, as a curve and a table."""
    if len(publishes) < FEWEST:
        return ""
    unit, points = trend(publishes)
    parts = (loss_curve("Loss of the published models", "publish", unit, points), history_table(publishes))
    return "\n\n".join(part for part in parts if part)


def places(model: ModelFolder, resumable: ModelFolder, report: Path | None) -> str:
    """The paths of the model, the checkpoint and the page."""
    rows = [
        ("Model to use", f"step {model.step:,}: {code(model.path)}"),
        ("Training resumes from", f"step {resumable.step:,}: {code(resumable.path)}"),
        ("Report with all curves", f"{code(report)}; upload it as an artifact to view it" if report else ""),
    ]
    return table(_HEAD, [row for row in rows if row[1]])


def _phases(result: Result) -> str:
    facts = result.latest.metadata
    curriculum = facts.curriculum if facts else None
    return prose(curriculum.text(result.start_step, result.latest.step)) if curriculum else ""


def _speed(result: Result) -> str:
    mfu = f" ({result.mfu:.0%} MFU)" if result.mfu else ""
    return f"{result.tokens_per_second:,.0f} tokens/s{mfu}, {result.elapsed_s / 60:.1f} minutes"


def _shares(result: Result) -> str:
    seconds = {"evaluations": result.evaluating_s, "saves": result.saving_s}
    if result.compiling_s:
        seconds["compiling"] = result.compiling_s
    return ", ".join(f"{name} {taken / result.elapsed_s:.1%}" for name, taken in seconds.items())
