"""The result of a comparison of models: figures, verdict and differences, for the log, the job summary and compare.html."""

import math
from pathlib import Path

from ..evaluation.paired_bootstrap import Difference
from ..evaluation.ranking import Contest, Entrant
from ..markdown import code, indented, table
from .charts import interval_chart
from .html_page import render, write_html

PAGE_FILE = "compare.html"


def figures(entrant: Entrant) -> dict[str, str]:
    """The figures of a model, by their labels."""
    reading = entrant.reading
    return {
        "source": entrant.place,
        "step": f"{entrant.step:,}",
        "loss, nats per token": f"{reading.loss:.4f}",
        "perplexity": f"{math.exp(min(reading.loss, 700)):,.2f}",
        "bits per byte": f"{reading.bits_per_byte:.4f}",
        "parameters": f"{entrant.parameters:,}",
        "size of the weights": f"{entrant.size:,} bytes",
        "architecture": entrant.architecture,
        "tokenizer": entrant.tokenizer,
        "evaluation speed": f"{reading.tokens_per_second:,.0f} tokens/s",
        "generation speed": f"{entrant.tokens_per_second:,.0f} tokens/s",
    }


def verdict(contest: Contest) -> str:
    """The result, as a title."""
    if contest.winner is None:
        return "No candidate is significantly better than all others"
    return f"{contest.winner.name} is significantly better than every other candidate"


def against_first(contest: Contest) -> list[tuple[str, str, Difference]]:
    """Each candidate but the first: its name, its relation to the first ("significantly better than X"), the difference."""
    first, *others = contest.entrants
    return [
        (other.name, f"{_relation(found)} {first.name}", found)
        for other, found in zip(others, contest.differences, strict=True)
    ]


def comparison_log(contest: Contest) -> list[str]:
    """Lines for the log."""
    lines = [f"held-out text: {contest.held_out}"]
    for entrant in contest.entrants:
        lines.append(f"{entrant.name}: {', '.join(f'{name} {value}' for name, value in figures(entrant).items())}")
    lines += [f"{name} is {relation}: {found}" for name, relation, found in against_first(contest)]
    return [*lines, f"{verdict(contest)}."]


def comparison_summary(contest: Contest, page: str) -> str:
    """Markdown for the job summary; `page` is the path of compare.html."""
    columns = [figures(entrant) for entrant in contest.entrants]
    head = ["", *(code(entrant.name) for entrant in contest.entrants)]
    rows = [[name, *(code(column[name]) for column in columns)] for name in columns[0]]
    sections = [
        f"## Compared: {verdict(contest)}",
        table(head, rows),
        "\n".join(f"- {code(name)} is {code(relation)}: {found}" for name, relation, found in against_first(contest)),
        f"Held-out text: {code(contest.held_out)}. The full report is {code(page)}; upload it as an artifact to view it.",
    ]
    for number, prompt in enumerate(contest.prompts):
        texts = "\n\n".join(f"{code(entrant.name)}\n\n{indented(entrant.texts[number])}" for entrant in contest.entrants)
        title = prompt_title(prompt).replace("&", "&amp;").replace("<", "&lt;")
        sections.append(f"<details><summary>Samples, prompt: {title}</summary>\n\n{texts}\n\n</details>")
    return "\n\n".join(sections) + "\n"


def write_comparison_page(output_dir: Path, contest: Contest) -> Path:
    """Write compare.html, the models side by side, into `output_dir`; returns its path."""
    return write_html(output_dir / PAGE_FILE, _page(contest))


def prompt_title(prompt: str) -> str:
    """A prompt as the title of its samples."""
    return f"“{prompt}”" if prompt else "start of a document"


def _relation(found: Difference) -> str:
    if found.high < 0:
        return "significantly better than"
    return "significantly worse than" if found.low > 0 else "not significantly different from"


def _page(contest: Contest) -> str:
    columns = [figures(entrant) for entrant in contest.entrants]
    compared = against_first(contest)
    reach = max((max(abs(one.low), abs(one.high)) for _, _, one in compared), default=0.0)  # one scale for all bars
    return render(
        "compare.html",
        contest=contest,
        verdict=verdict(contest),
        rows=[(name, [column[name] for column in columns]) for name in columns[0]],
        intervals=[
            (name, f"{relation}: {one}", interval_chart(one.low, one.mean, one.high, reach)) for name, relation, one in compared
        ],
        samples=[
            (prompt_title(prompt), [(entrant.name, entrant.texts[number]) for entrant in contest.entrants])
            for number, prompt in enumerate(contest.prompts)
        ],
    )
