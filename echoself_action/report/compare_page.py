"""compare.html: models side by side in one file that needs nothing else, light or dark, on a phone too."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from ..checkpoint.atomic import new_file
from ..evaluation.paired_bootstrap import Difference
from ..evaluation.ranking import Contest
from .comparison import against_first, figures, prompt_title, verdict

PAGE_FILE = "compare.html"
_WIDTH, _HEIGHT = 480, 44  # of the drawing of an interval


def write_page(output_dir: Path, contest: Contest) -> Path:
    """Write the page into `output_dir`; returns its path."""
    output_dir.mkdir(parents=True, exist_ok=True)
    with new_file(output_dir / PAGE_FILE) as file:
        file.write(page(contest).encode("utf-8", "replace"))
    return output_dir / PAGE_FILE


def page(contest: Contest) -> str:
    """The HTML. Names and samples are text from outside, and stay text."""
    names = [entrant.name for entrant in contest.entrants]
    columns = [figures(entrant) for entrant in contest.entrants]
    rows = [(name, [column[name] for column in columns]) for name in columns[0]]
    best = [entrant is contest.winner for entrant in contest.entrants]
    title = escape(verdict(contest))
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n<main>\n<h1>{title}</h1>",
            f"<p>Held-out text: {escape(contest.held_out)}. Lower losses are better; speeds are of this machine's CPU.</p>",
            '<div class="wide"><table>',
            f"<tr><th></th>{''.join(_head(name, won) for name, won in zip(names, best, strict=True))}</tr>",
            *(f"<tr><th>{escape(name)}</th>{''.join(map(_cell, values))}</tr>" for name, values in rows),
            "</table></div>",
            f"<h2>Against {escape(names[0])}</h2>",
            *_intervals(against_first(contest)),
            "<p>Each interval holds the true difference with 95% confidence: a paired bootstrap over the windows of the "
            "held-out text. Left of zero is better.</p>\n<h2>Samples, with one seed</h2>",
            *_samples(contest),
            "</main>\n</html>\n",
        ]
    )


def _head(name: str, won: bool) -> str:
    return f'<th class="won">{escape(name)} <span>better</span></th>' if won else f"<th>{escape(name)}</th>"


def _cell(value: str) -> str:
    return f"<td>{escape(value)}</td>"


def _intervals(found: Sequence[tuple[str, str, Difference]]) -> Iterator[str]:
    reach = max((max(abs(one.low), abs(one.high)) for _, _, one in found), default=0) or 1
    for name, sense, one in found:
        low, mean, high = (_WIDTH / 2 * (1 + 0.95 * value / reach) for value in (one.low, one.mean, one.high))
        kind = "good" if one.high < 0 else "bad" if one.low > 0 else "open"
        yield (
            f'<figure class="{kind}"><figcaption><b>{escape(name)}</b> is {escape(sense)}: {escape(str(one))}.</figcaption>'
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{one.low:+.4f} to {one.high:+.4f}">'
            f'<path class="zero" d="M{_WIDTH / 2} 4V28"/><path class="span" d="M{low:.1f} 16H{high:.1f}"/>'
            f'<circle cx="{mean:.1f}" cy="16" r="5"/><text x="{_WIDTH / 2}" y="42">0</text></svg></figure>'
        )


def _samples(contest: Contest) -> Iterator[str]:
    for number, prompt in enumerate(contest.prompts):
        yield f"<h3>After {escape(prompt_title(prompt))}</h3>\n<div class='sides'>"
        for entrant in contest.entrants:
            yield f"<section><h4>{escape(entrant.name)}</h4><pre>{escape(entrant.texts[number])}</pre></section>"
        yield "</div>"


_STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f6f8fa; --ink: #1f2328; --soft: #59636e; --edge: #d1d9e0;
  --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --card: #161b22; --ink: #e6edf3; --soft: #9198a1;
  --edge: #30363d; --good: #3fb950; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3, h4 { font-size: 1rem; margin: 1rem 0 .4rem; } h4, p { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; overflow-wrap: normal; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
td { font-variant-numeric: tabular-nums; min-width: 8rem; overflow-wrap: anywhere; }
tr th:first-child { color: var(--soft); font-weight: 400; white-space: nowrap; }
.won span { color: var(--good); border: 1px solid; border-radius: 1rem; padding: 0 .5rem; font-size: .8rem; }
figure, pre { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: .8rem; margin: .6rem 0; }
svg { width: 100%; max-width: 30rem; height: auto; display: block; margin-top: .4rem; }
svg text { fill: var(--soft); font-size: 12px; text-anchor: middle; } .zero { stroke: var(--soft); stroke-dasharray: 3 3; }
.span { stroke-width: 4; stroke-linecap: round; stroke: var(--soft); } circle { fill: var(--soft); }
.good .span { stroke: var(--good); } .good circle { fill: var(--good); }
.bad .span { stroke: var(--bad); } .bad circle { fill: var(--bad); }
.sides { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; margin: 0; }
"""
