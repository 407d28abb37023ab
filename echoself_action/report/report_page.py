"""report.html: a run on one page, with its figures, gate, curves, samples, history and settings."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ..checkpoint.metadata import BITS_PER_BYTE, NATS_PER_TOKEN, Comparison, Metadata, bits_per_byte, leaks_text, parity_text
from ..checkpoint.model_folder import ModelFolder
from ..evaluation.gate import Verdict
from ..hub.cards.history_chart import perplexity
from ..hub.cards.origin import origin_rows, tokens_seen_text
from ..hub.history import NO_HISTORY, History, HistoryEntry, read_history, trend
from ..markdown import number
from .charts import Line, interval_chart, line_chart
from .html_page import render, write_html

REPORT_FILE = "report.html"
_SHOWN = 50  # publishes and evaluations in a table


@dataclass(frozen=True)
class PublishReport:
    """The result of publishing: the repo's URL, the gate's verdict, and the commit or the pull request, "" if none was made."""

    repo_url: str
    verdict: Verdict
    commit: str = ""
    pr_url: str = ""
    history: History = NO_HISTORY


def write_page(
    output_dir: Path, log: Path, model: ModelFolder, samples: Sequence[str], publishing: PublishReport | None
) -> Path:
    """Write the page about `model` into `output_dir`; returns its path. `log` is the run's log.jsonl, which may not exist."""
    return write_html(output_dir / REPORT_FILE, page(model, read_log(log), samples, publishing))


def page(model: ModelFolder, log: Sequence[dict[str, float]], samples: Sequence[str], publishing: PublishReport | None) -> str:
    """The HTML."""
    facts = model.metadata
    history = publishing.history if publishing else read_history(model.path)
    compared = publishing.verdict.compared if publishing else None
    return render(
        "report.html",
        model=model,
        facts=facts,
        figures=_figures(model),
        bits_per_byte=bits_per_byte,
        publishing=publishing,
        compared=compared,
        interval=_interval(compared) if compared else "",
        charts=_charts(model, log if _is_of_its_training(facts) else (), history.publishes),
        samples=[sample for sample in samples if sample.strip()],
        evaluations=list(reversed(facts.evaluations[-_SHOWN:])) if facts else [],
        history=list(reversed(history.entries[-_SHOWN:])),
        tables=_tables(model),
        perplexity=perplexity,
    )


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


def _figures(model: ModelFolder) -> list[tuple[str, str]]:
    """The headline figures: label, value."""
    facts = model.metadata
    if facts is None:
        return []
    figures = [
        ("Bits per byte", number(facts.bits_per_byte)),
        ("Validation loss", number(facts.val_loss)),
        ("Perplexity", number(perplexity(facts.val_loss), 1)),
        ("Training loss", number(facts.train_loss)),
        ("Steps", f"{facts.step:,}"),
        ("Parameters", f"{facts.parameters:,}"),
        ("Tokens seen", tokens_seen_text(facts)),
        ("Tokens/s", number(facts.tokens_per_second, 0)),
    ]
    return [figure for figure in figures if figure[1]]


def _charts(
    model: ModelFolder, log: Sequence[dict[str, float]], publishes: Sequence[HistoryEntry]
) -> list[tuple[str, list[Line], Markup]]:
    """Title, lines for the legend, SVG; charts without data are left out."""

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
    ]
    charts = []
    for title, x_label, lines in wanted:
        lines = [line for line in lines if line.points]
        if svg := line_chart(title, x_label, lines):
            charts.append((title, lines, svg))
    return charts


def _interval(compared: Comparison) -> Markup:
    return interval_chart(compared.low, compared.candidate - compared.published, compared.high)


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
            ("digest", data.digest),
        ]
        tables.append(("Corpus", [row for row in rows if row[1]]))
    if origin := origin_rows(facts):
        tables.insert(1, ("Origin", origin))
    by_file = facts.is_import
    title = "Settings recorded in the imported file" if by_file else "Settings"
    tables.append((title, [(name, str(value)) for name, value in facts.settings.items() if value is not None]))
    device = [("device", facts.device)] if facts.device else []
    tables.append(("Imported with" if by_file else "Software", [*facts.versions.items(), *device]))
    return tables


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
