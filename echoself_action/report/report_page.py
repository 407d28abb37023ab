"""report.html: a run on one page, with its figures, gate, curves, sample, history and settings."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ..checkpoint.curriculum_facts import curriculum_rows
from ..checkpoint.fidelity_facts import FidelityFacts
from ..checkpoint.introspection_facts import IntrospectionFacts
from ..checkpoint.metadata import (
    BITS_PER_BYTE,
    BITS_PER_BYTE_MEANING,
    NATS_PER_TOKEN,
    Comparison,
    Ending,
    ExportFacts,
    Metadata,
    Sample,
    bits_per_byte,
    export_notes,
    export_text,
    leaks_text,
    parity_text,
    ppmd_text,
)
from ..checkpoint.model_folder import ModelFolder
from ..evaluation.gate import Verdict
from ..formats.learning_phases import original_meanings
from ..hub.cards.fidelity_text import FIDELITY_HEAD, FIDELITY_MEANING, fidelity_about, fidelity_parts, fidelity_rows
from ..hub.cards.history_chart import perplexity
from ..hub.cards.introspection_text import (
    ABLATION_HEAD,
    LOGIT_SHARE_MEANING,
    ablation_rows,
    attention_text,
    measured_text,
    structure_texts,
)
from ..hub.cards.origin import origin_rows, tokens_seen_text
from ..hub.history import NO_HISTORY, History, HistoryEntry, read_history, trend
from ..hub.provenance import this_run
from ..hub.repo import CARD_FILE
from ..markdown import duration, number, percent
from .charts import Band, Line, heat_map, interval_chart, line_chart
from .html_page import SHA, job_links, render, write_html
from .question_tables import question_lines, question_tables

REPORT_FILE = "report.html"
_SHOWN = 50  # publishes and evaluations in a table
_FIRST = 10  # of them that are shown at once
_RUN_LABELS = ("ended (UTC)", "result", "step", "bits/byte", "nats/token", "perplexity", "questions", "time", "tokens/s", "job")


@dataclass(frozen=True)
class PublishReport:
    """What publishing did: the repo, the input `gate` with its verdict, and the commit or pull request, "" if none was made.

    `repo_url` is empty if there is no such repo on the Hub. `result` is the end of the job, and `reason` why it was rolled back
    or has converged. `is_new_model`: the repo did not hold these weights before. `demo_url` is the Space
    that runs the model in the browser.
    """

    repo_id: str
    repo_url: str
    gate: str
    verdict: Verdict
    commit: str = ""
    pr_url: str = ""
    result: Ending | str = ""
    reason: str = ""
    is_new_model: bool = True
    history: History = NO_HISTORY
    demo_url: str = ""


def write_page(
    output_dir: Path, log: Path, model: ModelFolder, sample: Sample | None, publishing: PublishReport | None
) -> Path:
    """Write the page about `model` into `output_dir`; returns its path. `log` is the run's log.jsonl, which may not exist."""
    return write_html(output_dir / REPORT_FILE, page(model, read_log(log), sample, publishing))


def page(model: ModelFolder, log: Sequence[dict[str, float]], sample: Sample | None, publishing: PublishReport | None) -> str:
    """The HTML. `sample` is by default the one that the metadata of the model records."""
    facts, run = model.metadata, this_run()
    history = publishing.history if publishing else read_history(model.path)
    is_proposed = publishing is not None and bool(publishing.pr_url) and publishing.is_new_model and facts is not None
    proposal = history.entries[-1] if is_proposed and history.entries else None
    published = [entry for entry in history.publishes if entry is not proposal]
    compared = publishing.verdict.compared if publishing else None
    runs = [_run_row(entry, entry is proposal) for entry in reversed(history.entries[-_SHOWN:])]
    return render(
        "report.html",
        name=publishing.repo_id if publishing else run.get("repository") or model.path.resolve().parent.name,
        model=model,
        facts=facts,
        headline=facts.val_loss_text if facts and facts.val_loss is not None else "",
        links=_links(publishing, run),
        figures=_figures(model),
        notes=[BITS_PER_BYTE_MEANING, ppmd_text(facts.data)] if facts and facts.bits_per_byte is not None else [],
        bits_per_byte=bits_per_byte,
        publishing=publishing,
        outcome=_outcome(publishing) if publishing else None,
        compared=compared,
        interval=_interval(compared) if compared else "",
        charts=_charts(model, log if _is_of_its_training(facts) else (), published),
        introspection=_introspection(facts.introspection) if facts and facts.introspection else None,
        fidelity=_fidelity(facts.fidelity) if facts and facts.fidelity else None,
        sample=sample or (facts.sample if facts else None),
        questions=question_tables(facts.questions) if facts and facts.questions else None,
        evaluations=list(reversed(facts.evaluations[-_SHOWN:])) if facts else [],
        runs=runs,
        run_labels=[label for label in _RUN_LABELS if any(row[label] for row in runs)],
        first=_FIRST,
        sha=SHA,
        tables=_tables(model),
    )


def _introspection(facts: IntrospectionFacts) -> dict[str, object]:
    """What the section about the inside of the model shows."""
    title = f"Entropy of the attention, bits (uniform attention: {facts.uniform_entropy:.2f})"
    return {
        "texts": [attention_text(facts), *structure_texts(facts)],
        "measured": measured_text(facts),
        "heat_title": title,
        "heat_map": heat_map(title, facts.entropy, facts.uniform_entropy, "bits"),
        "head": ABLATION_HEAD,
        "rows": [dict(zip(ABLATION_HEAD, row, strict=True)) for row in ablation_rows(facts)],
        "meaning": LOGIT_SHARE_MEANING,
    }


def _fidelity(facts: FidelityFacts) -> dict[str, object]:
    """What the section about echo fidelity shows."""
    return {
        "about": fidelity_about(facts),
        "meaning": FIDELITY_MEANING,
        "head": FIDELITY_HEAD,
        "rows": [dict(zip(FIDELITY_HEAD, row, strict=True)) for row in fidelity_rows(facts)],
        "parts": fidelity_parts(facts),
    }


@dataclass(frozen=True)
class _Outcome:
    """`badge`: the gate's verdict in one word; "" if there was no gate. `kind` is the CSS class of its colour."""

    title: str
    text: str
    badge: str = ""
    kind: str = "open"


def _outcome(publishing: PublishReport) -> _Outcome:
    """What became of the model."""
    verdict = publishing.verdict
    has_gate = publishing.gate != "none" or verdict.questions is not None
    short = verdict.reason.partition(": ")[0] if verdict.compared else verdict.reason  # the figures are in the table below it
    if publishing.result == "converged":
        return _Outcome("Converged: no steps were trained", _sentence(publishing.reason))
    reason = _sentence(short) if has_gate or not verdict.passed else "No quality gate is set (gate: none)."
    if verdict.questions:
        reason += f" On questions: {verdict.questions.reason}."
    badge, kind = ("gate passed", "good") if verdict.passed else ("gate refused", "bad")
    badge = badge if has_gate else ""
    if publishing.result == "rolled_back":
        return _Outcome("Rolled back", _sentence(publishing.reason.partition(": ")[0] or short), badge, kind)
    if not verdict.passed:
        return _Outcome("Not published", reason, badge, kind)
    title = "Published" if publishing.commit else "Proposed" if publishing.pr_url else "Nothing new to publish"
    return _Outcome(title, reason, badge, kind)


def _links(publishing: PublishReport | None, run: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(label, text, URL) of what belongs to the model elsewhere. The page shows only the text of a URL of this machine."""
    links = []
    if publishing:
        url, commit = publishing.repo_url, publishing.commit
        links = [
            ("Model", publishing.repo_id, url),
            ("Commit", commit[:SHA], f"{url}/commit/{commit}"),
            ("Model card", CARD_FILE if commit else "", f"{url}/blob/{commit}/{CARD_FILE}"),
            ("Pull request", _number_of(publishing.pr_url), publishing.pr_url),
            ("In the browser", "/".join(publishing.demo_url.split("/")[-2:]), publishing.demo_url),
        ]
    links += job_links(run)
    return [link for link in links if link[1]]


def _number_of(pr_url: str) -> str:
    return f"#{pr_url.rstrip('/').rpartition('/')[2]}" if pr_url else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _run_row(entry: HistoryEntry, is_proposal: bool) -> dict[str, str]:
    """A run in the table of the history, by the labels of its columns; `job` is followed by its URL in `url`."""
    return {
        "ended (UTC)": f"{entry.published_at:%Y-%m-%d %H:%M}",
        "result": "proposed" if is_proposal else (entry.result or "published").replace("_", " "),
        "step": f"{entry.step:,}",
        "bits/byte": number(entry.bits_per_byte),
        "nats/token": number(entry.val_loss),
        "perplexity": number(perplexity(entry.val_loss), 2),
        "questions": percent(entry.question_accuracy),
        "time": duration(entry.duration_s),
        "tokens/s": number(entry.tokens_per_second, 0),
        "job": (entry.commit or "")[:SHA] or ("job" if entry.run_url else ""),
        "url": entry.run_url or "",
    }


def _is_of_its_training(facts: Metadata | None) -> bool:
    """Whether the log of output_dir can be that of the model: not for weights that only other programs have trained."""
    return facts is not None and (facts.is_trained_here or not (facts.imported_from or facts.init_from))


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of log.jsonl. For steps that were trained more than once, the last; unreadable lines are skipped."""
    lines: list[dict[str, float]] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return lines
    for raw in text.splitlines():
        try:
            values = json.loads(raw)
        except ValueError:
            continue
        line = {name: float(value) for name, value in values.items() if _is_finite(value)} if isinstance(values, dict) else {}
        if "step" not in line:
            continue
        while lines and lines[-1]["step"] >= line["step"]:
            lines.pop()
        lines.append(line)
    return lines


def _figures(model: ModelFolder) -> list[tuple[str, str, str]]:
    """The headline figures: label, value, unit."""
    facts = model.metadata
    if facts is None:
        return []
    tokens, _, since = tokens_seen_text(facts).partition(" ")
    ppmd = facts.data.ppmd_bits_per_byte if facts.data else None
    figures = [
        ("Held-out text", number(facts.bits_per_byte), "bits per byte"),
        ("PPMd, same text", number(ppmd) if facts.bits_per_byte is not None else "", "bits per byte"),
        ("Validation loss", number(facts.val_loss), "nats per token"),
        ("Perplexity", number(perplexity(facts.val_loss), 1), "per token"),
        ("Training loss", number(facts.train_loss), "nats per token"),
        ("Trained", f"{facts.step:,}", "steps"),
        ("Size", f"{facts.parameters:,}", "parameters"),
        ("Text seen", tokens, f"tokens {since}".strip()),
        ("Speed", number(facts.tokens_per_second, 0), "tokens per second"),
    ]
    return [figure for figure in figures if figure[1]]


def _charts(
    model: ModelFolder, log: Sequence[dict[str, float]], publishes: Sequence[HistoryEntry]
) -> list[tuple[str, list[Line], list[Band], Markup]]:
    """Title, lines and bands for the legend, SVG; charts without data are left out."""

    def of(name: str) -> list[tuple[float, float]]:
        return [(line["step"], line[name]) for line in log if name in line]

    facts = model.metadata
    evaluations = facts.evaluations if facts else []
    factor = bits_per_byte(1, facts.bytes_per_token if facts else None)

    def converted(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(step, loss * (factor or 1)) for step, loss in points]

    measured = [(float(one.step), one.val_loss) for one in evaluations]
    first = log[0]["step"] if log else math.inf  # losses of earlier runs are in their evaluations only
    earlier = [(float(one.step), one.train_loss) for one in evaluations if one.train_loss is not None and one.step < first]
    unit, published = trend(publishes)
    wanted = [
        (
            f"Loss, {BITS_PER_BYTE if factor else NATS_PER_TOKEN}",
            "step",
            [Line("training", converted(earlier + of("loss"))), Line("validation", converted(measured or of("val_loss")), 1)],
        ),
        ("Learning rate", "step", [Line("learning rate", of("lr"), 2)]),
        ("Speed, tokens per second", "step", [Line("tokens per second", of("tokens_per_second"), 3)]),
        (f"Validation loss of published models, {unit}", "publish", [Line("validation loss", published, 1)]),
        ("Answers to questions of published models, %", "publish", question_lines(publishes)),
        ("Echo fidelity of published models", "publish", _fidelity_lines(publishes)),
    ]
    charts = []
    for title, x_label, lines in wanted:
        lines = [line for line in lines if line.points]
        steps = [step for line in lines for step, _ in line.points]
        bands = _bands(facts, min(steps), max(steps)) if steps and x_label == "step" else []
        if svg := line_chart(title, x_label, lines, bands):
            charts.append((title, lines, bands, svg))
    return charts


def _fidelity_lines(publishes: Sequence[HistoryEntry]) -> list[Line]:
    """The echo fidelity of the publishes, beside that of the held-out text."""
    of_models = [(n, one.echo_fidelity) for n, one in enumerate(publishes, 1) if one.echo_fidelity is not None]
    of_text = [(n, one.echo_fidelity_held_out) for n, one in enumerate(publishes, 1) if one.echo_fidelity_held_out is not None]
    return [Line("held-out text", of_text), Line("answers", of_models, 1)]


def _bands(facts: Metadata | None, first: float, last: float) -> list[Band]:
    """The phases of the curriculum that have steps between `first` and `last`. The last one has no end."""
    phases = facts.curriculum.phases if facts and facts.curriculum else ()
    ends = [*(phase.end for phase in phases[:-1]), math.inf]
    bands = [
        Band(phase.name, str(number), phase.start, min(end, max(last, phase.end)))
        for number, (phase, end) in enumerate(zip(phases, ends, strict=False), 1)
    ]
    return [band for band in bands if band.start < last and band.end > first]


def _interval(compared: Comparison) -> Markup:
    return interval_chart(compared.low, compared.candidate - compared.published, compared.high, compared.unit)


def _tables(model: ModelFolder) -> list[tuple[str, list[tuple[str, str]]]]:
    """The tables of settings: title, rows of name and value."""
    facts, config = model.metadata, model.config
    shape = [(name, str(getattr(config, name))) for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")]
    tables = [("Model", [("architecture", model.architecture.name), *shape])]
    if facts is None:
        return tables
    tables[0][1].append(("tokenizer", f"{facts.tokenizer.name}, {facts.tokenizer.vocab_size:,} entries"))
    if facts.parity:
        tables[0][1].append(("stock transformers", parity_text(facts.parity)))
    if data := facts.data:
        rows = [
            ("files", ", ".join(data.patterns)),
            ("documents", f"{data.documents:,}, {data.val_documents or 0:,} held out" if data.documents else ""),
            ("tokens", f"{data.train_tokens:,} to train on, {data.val_tokens:,} held out"),
            ("in both splits", leaks_text(data)),
            ("digest", data.digest[:16]),
            ("PPMd", ppmd_text(data)),
        ]
        tables.append(("Corpus", [row for row in rows if row[1]]))
    if facts.curriculum:
        original = original_meanings(phase.name for phase in facts.curriculum.phases)
        tables.append(("Curriculum", curriculum_rows(facts.curriculum) + ([("names", original)] if original else [])))
    if facts.exports:
        tables.append(("Other formats", _export_rows(facts.exports)))
    if origin := origin_rows(facts):
        tables.insert(1, ("Origin", origin))
    by_file = facts.is_import
    title = "Settings recorded in the imported file" if by_file else "Settings"
    tables.append((title, [(name, str(value)) for name, value in facts.settings.items() if value is not None]))
    device = [("device", facts.device)] if facts.device else []
    tables.append(("Imported with" if by_file else "Software", [*facts.versions.items(), *device]))
    return tables


def _export_rows(exports: Sequence[ExportFacts]) -> list[tuple[str, str]]:
    files = [(one.file, export_text(one).partition(", ")[2]) for one in exports]
    return [*files, *(("note", note) for note in export_notes(exports))]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
