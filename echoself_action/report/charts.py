"""Line charts as inline SVG: small enough to read, and with no script, no font and no colour of their own.

Colours come from the page's style (`.s0`, `.s1`, ...), so that one chart serves a light and a dark page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 16, 44  # margins, for the labels
_POINTS = 400  # of a line; more do not show
_DOTTED = 60  # points that still look like points


@dataclass(frozen=True)
class Line:
    """A series of (x, y), all finite. `style` is which of the page's colours it has."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0


def line_chart(title: str, x_label: str, lines: Sequence[Line]) -> str:
    """SVG, or nothing where there are not two points to draw a line through."""
    lines = [Line(line.name, _thinned(line.points), line.style) for line in lines if line.points]
    if not any(len(line.points) > 1 for line in lines):
        return ""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_ticks = [tick for tick in _ticks(min(xs), max(xs)) if min(xs) <= tick <= max(xs)]
    y_ticks = _ticks(min(ys), max(ys))
    low, high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - min(xs)) / ((max(xs) - min(xs)) or 1)
        up = (y - low) / ((high - low) or 1)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        _, y = at(xs[0], tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        x, _ = at(tick, low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    for line in lines:
        places = [at(x, y) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line s{line.style}" points="{path}"/>')
        if len(places) <= _DOTTED:
            for (x, y), (step, value) in zip(places, line.points, strict=True):
                told = escape(f"{line.name}: {value:.4g} at {_number(step)}")
                dot = f'class="dot s{line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"'
                parts.append(f"<circle {dot}><title>{told}</title></circle>")
    return "".join(parts) + "</svg>"


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    stride = -(-len(points) // _POINTS)
    return points[::-1][::stride][::-1]  # the last one always shows


def _ticks(low: float, high: float) -> list[float]:
    """Some four round numbers from at most `low` to at least `high`."""
    if high <= low:
        low, high = low - (abs(low) * 0.05 or 1), high + (abs(high) * 0.05 or 1)
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next((factor for factor in (1, 2, 2.5, 5) if factor * unit >= rough), 10)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _number(value: float) -> str:
    """Short, whatever its size."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e7):
        return f"{value:.3g}"
    return f"{value:,.6f}".rstrip("0").rstrip(".")
