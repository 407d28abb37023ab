"""The charts of the HTML pages, as inline SVG: lines over steps, the confidence interval of a difference, and heat maps.

Colours come from templates/style.css, so that one chart serves a light and a dark page. Text in a chart is escaped here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 16, 44  # margins, for the labels
_POINTS = 400  # of a line; more are not visible
_DOTTED = 60  # lines with up to this many points show them as dots
_CELL, _TALLEST = 30.0, 360.0  # of a heat map: the height of a row, and of all rows at most
_LABELLED = 12  # columns of a heat map with labels
_BAND_LABEL = 14  # above the lines, for the label of a band
_NARROWEST, _WIDTH_OF_LABEL = 1, 12  # of a band that is drawn; for each character of a label
_INTERVAL_WIDTH, _INTERVAL_HEIGHT, _AXIS = 480, 70, 14  # of an interval chart, and the y of its bar


@dataclass(frozen=True)
class Line:
    """A series of (x, y), all finite, ordered by x. `style` is the number of its CSS class: s0, s1, s2 or s3.

    `is_listed`: the legend has it. A further part of a line that was interrupted is not listed.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0
    is_listed: bool = True


@dataclass(frozen=True)
class Band:
    """A range of x behind the lines, such as a phase of the training. The chart shows its short `label` at the top."""

    name: str
    label: str
    start: float
    end: float


def line_chart(title: str, x_label: str, lines: Sequence[Line], bands: Sequence[Band] = ()) -> Markup:
    """A line chart over whole numbers, such as steps; empty unless a line has at least two points."""
    lines = [replace(line, points=_thinned(line.points)) for line in lines if line.points]
    if not any(len(line.points) > 1 for line in lines):
        return Markup()
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_ticks = [tick for tick in _ticks(min(xs), max(xs), 6, whole=True) if min(xs) <= tick <= max(xs)]
    y_ticks = _ticks(min(ys), max(ys))
    low, high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - min(xs)) / ((max(xs) - min(xs)) or 1)
        up = (y - low) / ((high - low) or 1)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for number, band in enumerate(bands):
        (left, _), (right, _) = (at(min(max(x, min(xs)), max(xs)), low) for x in (band.start, band.end))
        if right - left < _NARROWEST:
            continue
        label = escape(f"{band.name}: from {_number(band.start)} to {_number(band.end)}")
        top, height = _TOP - _BAND_LABEL, HEIGHT - _TOP - _BOTTOM + _BAND_LABEL
        size = f'x="{left:.1f}" width="{right - left:.1f}" y="{top}" height="{height}"'
        parts.append(f'<rect class="band b{number % 2}" {size}><title>{label}</title></rect>')
        if right - left >= _WIDTH_OF_LABEL * len(band.label):
            place = f'x="{(left + right) / 2:.1f}" y="{_TOP - 3}"'
            parts.append(f'<text class="of-band" {place} text-anchor="middle">{escape(band.label)}</text>')
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
                label = escape(f"{line.name}: {value:.4g} at {_number(step)}")
                dot = f'class="dot s{line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"'
                parts.append(f"<circle {dot}><title>{label}</title></circle>")
    return Markup("".join(parts) + "</svg>")  # noqa: S704, its text is escaped above


def interval_chart(low: float, mean: float, high: float, unit: str, reach: float | None = None) -> Markup:
    """The interval `low` to `high` of a difference in loss and its `mean`, in `unit`, on an axis with zero in the middle.

    Negative is better: the CSS class is `good` or `bad` if the interval excludes zero, else `open`. `reach` is the largest
    absolute value that the axis has to show, by default that of this interval.
    """
    reach = reach or max(abs(low), abs(mean), abs(high)) or 1.0

    def at(value: float) -> float:
        return _INTERVAL_WIDTH / 2 * (1 + 0.95 * value / reach)

    kind = "good" if high < 0 else "bad" if low > 0 else "open"
    middle, label_y = _INTERVAL_WIDTH / 2, _INTERVAL_HEIGHT - 6
    label = escape(f"difference {mean:+.4f} {unit}, 95 % confidence interval {low:+.4f} to {high:+.4f}")
    ticks = [tick for tick in _ticks(-reach, reach, 6) if abs(tick) <= reach]
    parts = [
        f'<svg class="interval {kind}" viewBox="0 0 {_INTERVAL_WIDTH} {_INTERVAL_HEIGHT}" role="img" aria-label="{label}">',
        f'<path class="zero" d="M{middle} 2V{2 * _AXIS - 2}"/><path class="span" d="M{at(low):.1f} {_AXIS}H{at(high):.1f}"/>',
        f'<circle class="mean" cx="{at(mean):.1f}" cy="{_AXIS}" r="5"/>',
        *(f'<text x="{at(tick):.1f}" y="44" text-anchor="middle">{_signed(tick)}</text>' for tick in ticks),
        f'<text x="0" y="{label_y}">better</text>',
        f'<text x="{middle}" y="{label_y}" text-anchor="middle">{escape(unit)}</text>',
        f'<text x="{_INTERVAL_WIDTH}" y="{label_y}" text-anchor="end">worse</text></svg>',
    ]
    return Markup("".join(parts))  # noqa: S704, its text is escaped above


def heat_map(title: str, rows: Sequence[Sequence[float]], highest: float, unit: str) -> Markup:
    """A value for each layer (row) and head (column) as a darker or lighter cell, from 0 to `highest`, in `unit`.

    Each cell has its value as a tooltip; up to `_LABELLED` columns also show it.
    """
    columns = max(len(row) for row in rows)
    wide, high = (WIDTH - _LEFT - _RIGHT) / columns, min(_CELL, _TALLEST / len(rows))
    bottom = _TOP + high * len(rows)
    parts = [f'<svg class="heat-map" viewBox="0 0 {WIDTH} {bottom + _BOTTOM:.0f}" role="img" aria-label="{escape(title)}">']
    shown = max(1, -(-len(rows) * 16 // int(_TALLEST)))  # every so many rows have room for a label
    for row, values in enumerate(rows):
        y = _TOP + row * high
        middle = y + high / 2 + 5
        if row % shown == 0:
            parts.append(f'<text x="{_LEFT - 8}" y="{middle:.1f}" text-anchor="end">{row}</text>')
        for column, value in enumerate(values):
            x = _LEFT + column * wide
            opacity = 0.5 * min(1.0, max(0.0, value / highest)) if highest else 0.0
            label = escape(f"layer {row}, head {column}: {value:.2f} {unit}")
            place = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" height="{max(1.0, high - 2):.1f}"'
            parts.append(f'<rect class="cell" {place} fill-opacity="{opacity:.3f}"><title>{label}</title></rect>')
            if columns <= _LABELLED and high >= 16:
                at = f'x="{x + wide / 2:.1f}" y="{middle:.1f}"'
                parts.append(f'<text class="value" {at} text-anchor="middle">{value:.1f}</text>')
    step = max(1, -(-columns // _LABELLED))
    for column in range(0, columns, step):
        x = _LEFT + (column + 0.5) * wide
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{column}</text>')
    parts.append(f'<text x="0" y="{_TOP - 4}">layer</text>')
    parts.append(f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{bottom + 38:.1f}" text-anchor="middle">head</text></svg>')
    return Markup("".join(parts))  # noqa: S704, its text is escaped above


def _signed(tick: float) -> str:
    return f"+{_number(tick)}" if tick > 0 else _number(tick)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    stride = -(-len(points) // _POINTS)
    return points[::-1][::stride][::-1]  # always with the last point


def _ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers from at most `low` to at least `high`, with up to `most` between the two; integers if `whole`."""
    if high <= low:
        low, high = low - (abs(low) * 0.05 or 1), high + (abs(high) * 0.05 or 1)
    rough = max((high - low) / most, 1 if whole else 0)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next((factor for factor in (1, 2, 5) if factor * unit >= rough), 10)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _number(value: float) -> str:
    """A tick: with k and M for thousands and millions, from 10,000 on."""
    if value and abs(value) < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-")
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:,.6g}{suffix}"
    return f"{value:,.6f}".rstrip("0").rstrip(".")
