"""report.html: a run on one page, in one file. Nothing is fetched, nothing is a script, and all text is text.

Jinja2 escapes everything but the charts, which escape themselves: what a model writes can be no markup. A policy in the page
forbids whatever is not in it, should that ever fail.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup

from ..checkpoint.atomic import new_file
from ..checkpoint.metadata import Comparison, in_words
from ..checkpoint.model_folder import ModelFolder
from ..evaluation.gate import Verdict
from ..hub.cards.history_chart import perplexity
from ..hub.history import Publish, read_history
from .charts import Line, line_chart

REPORT_FILE = "report.html"
_SHOWN = 50  # publishes and evaluations in a table


@dataclass(frozen=True)
class Publishing:
    """What became of the model: the repo's page, what the gate said, and the commit or the pull request that was made."""

    repo_url: str
    verdict: Verdict
    commit: str = ""
    pr_url: str = ""
    history: Sequence[Publish] = ()


def write_page(output_dir: Path, log: Path, model: ModelFolder, samples: Sequence[str], publishing: Publishing | None) -> Path:
    """Write the page about `model` into output_dir. `log` is the run's log.jsonl, which may be absent."""
    html = page(model, read_log(log), samples, publishing)
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / REPORT_FILE
    with new_file(path) as file:
        file.write(html.encode("utf-8", "replace"))
    return path


def page(model: ModelFolder, log: Sequence[dict[str, float]], samples: Sequence[str], publishing: Publishing | None) -> str:
    """The HTML."""
    facts = model.metadata
    history = publishing.history if publishing else read_history(model.path).publishes
    return _template().render(
        style=Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8")),  # noqa: S704, a file of ours
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        model=model,
        facts=facts,
        figures=_figures(model, log),
        publishing=publishing,
        compared=_compared(publishing.verdict.compared) if publishing and publishing.verdict.compared else None,
        charts=_charts(model, log, history),
        samples=[sample for sample in samples if sample.strip()],
        evaluations=list(reversed(facts.evaluations[-_SHOWN:])) if facts else [],
        history=list(reversed(history[-_SHOWN:])),
        tables=_tables(model),
        perplexity=perplexity,
    )


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of log.jsonl: of a stretch that was trained again, the later ones. Lines that can't be read are skipped."""
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


def _figures(model: ModelFolder, log: Sequence[dict[str, float]]) -> list[tuple[str, str]]:
    """The few numbers that everybody looks for."""
    facts = model.metadata
    if facts is None:
        return []
    figures = [
        ("Validation loss", _number(facts.val_loss, 4)),
        ("Perplexity", _number(perplexity(facts.val_loss), 1)),
        ("Steps", f"{facts.step:,}"),
        ("Parameters", f"{facts.parameters:,}"),
        ("Tokens seen", f"{facts.tokens_seen:,}"),
        ("Tokens a second", _number(log[-1].get("tokens_per_second"), 0) if log else ""),
    ]
    return [figure for figure in figures if figure[1]]


def _charts(
    model: ModelFolder, log: Sequence[dict[str, float]], history: Sequence[Publish]
) -> list[tuple[str, list[Line], Markup]]:
    """Title, lines for the legend, SVG: those that have something to show."""

    def of(name: str) -> list[tuple[float, float]]:
        return [(line["step"], line[name]) for line in log if name in line]

    evaluations = model.metadata.evaluations if model.metadata else []
    measured = [(float(one.step), one.val_loss) for one in evaluations]
    begins = log[0]["step"] if log else math.inf  # what runs before this one had logged is in their evaluations
    earlier = [(float(one.step), one.train_loss) for one in evaluations if one.train_loss is not None and one.step < begins]
    trend = [(float(number), one.val_loss) for number, one in enumerate(history, 1) if one.val_loss is not None]
    wanted = [
        (
            "Loss, nats per token",
            "step",
            [Line("training", earlier + of("loss")), Line("validation", measured or of("val_loss"), 1)],
        ),
        ("Learning rate", "step", [Line("learning rate", of("lr"), 2)]),
        ("Speed, tokens a second", "step", [Line("tokens a second", of("tokens_per_second"), 3)]),
        ("Validation loss of what was published", "publish", [Line("validation loss", trend, 1)]),
    ]
    charts = []
    for title, x_label, lines in wanted:
        lines = [line for line in lines if line.points]
        if svg := line_chart(title, x_label, lines):
            charts.append((title, lines, Markup(svg)))  # noqa: S704, its text is escaped there
    return charts


def _compared(facts: Comparison) -> dict[str, Any]:
    """The figures, and the interval as shares of a bar's width: the difference in it, with zero always in sight."""
    reach = max(abs(facts.low), abs(facts.high), abs(facts.candidate - facts.published)) * 1.15 or 1

    def share(value: float) -> float:
        return round(50 + 50 * value / reach, 2)

    difference = facts.candidate - facts.published
    return {
        "facts": facts,
        "difference": difference,
        "left": share(facts.low),
        "width": round(share(facts.high) - share(facts.low), 2),
        "middle": share(difference),
    }


def _tables(model: ModelFolder) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything else that is known."""
    facts, config = model.metadata, model.config
    shape = [(name, str(getattr(config, name))) for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")]
    tables = [("Model", [("architecture", model.architecture), *shape])]
    if facts is None:
        return tables
    tables[0][1].append(("tokenizer", f"{facts.tokenizer.name}, {facts.tokenizer.vocab_size:,} entries"))
    if facts.parity:
        tables[0][1].append(("stock transformers", in_words(facts.parity)))
    if data := facts.data:
        rows = [
            ("files", ", ".join(data.patterns)),
            ("documents", f"{data.documents:,}, {data.val_documents or 0:,} held out" if data.documents else ""),
            ("tokens", f"{data.train_tokens:,} to train on, {data.val_tokens:,} held out"),
            ("digest", data.digest),
        ]
        tables.append(("Corpus", [row for row in rows if row[1]]))
    tables.append(("Settings", [(name, str(value)) for name, value in facts.settings.items() if value is not None]))
    device = [("device", facts.device)] if facts.device else []
    tables.append(("Software", [*facts.versions.items(), *device]))
    return tables


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    return environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
