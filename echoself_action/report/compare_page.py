"""compare.html: the compared models side by side, with their figures, the intervals of their differences and samples."""

from pathlib import Path

from ..evaluation.ranking import Contest
from .charts import interval_chart
from .comparison import against_first, figures, prompt_title, verdict
from .html_page import render, write_html

PAGE_FILE = "compare.html"


def write_page(output_dir: Path, contest: Contest) -> Path:
    """Write the page into `output_dir`; returns its path."""
    return write_html(output_dir / PAGE_FILE, page(contest))


def page(contest: Contest) -> str:
    """The HTML."""
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
