"""The curve of a held-out loss in Mermaid, which GitHub draws in a job summary, and as a table, for a comment."""

import re
from collections.abc import Sequence
from itertools import pairwise

from ...checkpoint.metadata import BITS_PER_BYTE, NATS_PER_TOKEN, Metadata, bits_per_byte
from ...markdown import table

FEWEST = 2  # points
_POINTS = 40  # more are not visible
_ROWS = 12  # of the table
_NUMBERS = 12  # on an axis; a range of fewer would have marks between whole numbers
_THOUSANDS = 10_000  # steps from which the axis counts thousands: longer numbers overlap
# Mermaid's own first colour is nearly white on GitHub's light page. This one has a contrast of 3 or more on GitHub's light and
# dark page, whose background the chart has.
COLOUR = "#2f81f7"
# The size in CSS pixels. On a phone the chart shrinks to its screen with all text in it, so it is not wider. Up to 14 numbers
# at an axis need its height.
_INIT = (
    '%%{init: {"xyChart": {"width": 460, "height": 300, "titleFontSize": 16, "titlePadding": 6, '
    '"xAxis": {"labelFontSize": 12, "titleFontSize": 13}, '
    '"yAxis": {"labelFontSize": 12, "titleFontSize": 13, "titlePadding": 10}}, '
    '"themeVariables": {"xyChart": {"backgroundColor": "transparent", "plotColorPalette": "' + COLOUR + '"}}}}%%'
)


# The measured points, in a comment of the chart: its line goes through evenly spaced ones between them.
_MEASURED = "%% measured: "
_CHART = re.compile(rf"^```mermaid\n(?:(?!```).*\n)*?{_MEASURED}(.*)\n(?:(?!```).*\n)*?```$", re.MULTILINE)


def training_curve(facts: Metadata | None) -> str:
    """The evaluations of a model, by step; "" if there are too few."""
    if facts is None:
        return ""
    factor = bits_per_byte(1, facts.bytes_per_token)
    points = [(one.step, one.val_loss * (factor or 1)) for one in facts.evaluations]
    return loss_curve("Loss on held-out text", "step", BITS_PER_BYTE if factor else NATS_PER_TOKEN, points)


def loss_curve(title: str, x_axis: str, unit: str, points: Sequence[tuple[int, float]]) -> str:
    """A line through `points`, whose x increases; "" if there are fewer than FEWEST."""
    if len(points) < FEWEST:
        return ""
    losses = _evenly_spaced(points)
    low, high = min(losses), max(losses)
    margin = (high - low) * 0.05 or 0.01
    lines = [
        "```mermaid",
        _INIT,
        "xychart-beta",
        f'    title "{title}"',
        f"    x-axis {_x_axis(x_axis, points, len(losses))}",
        f'    y-axis "{unit}" {max(0, low - margin):.4f} --> {high + margin:.4f}',
        f"    line [{', '.join(f'{loss:.4f}' for loss in losses)}]",
        f"{_MEASURED}{x_axis}; {unit}; {', '.join(f'{x} {loss:.4f}' for x, loss in _thinned(points))}",
        "```",
    ]
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """Markdown with each chart of `loss_curve` as a table of measured points; other charts stay."""

    def as_table(chart: re.Match[str]) -> str:
        x_axis, unit, points = chart[1].split("; ")
        return table((x_axis, unit), [tuple(point.split()) for point in points.split(", ")])

    return _CHART.sub(as_table, text)


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most _ROWS: the last, every so many before it, and the first."""
    shown = list(points[:: -len(points) // (_ROWS - 1)][::-1])
    return shown if shown[0] == points[0] else [points[0], *shown]


def _x_axis(label: str, points: Sequence[tuple[int, float]], count: int) -> str:
    """The axis of `count` points: single numbers if they are few and follow one another, else a range."""
    first, last = points[0][0], points[-1][0]
    if last - first == len(points) - 1 < _NUMBERS:
        return f'"{label}" [{", ".join(str(x) for x, _ in points)}]'
    scale, label = (1, label) if last < _THOUSANDS else (1000, f"{label}, thousands")
    return f'"{label}" {first / scale:g} --> {_end(float(f"{first / scale:g}"), last / scale, count)}'


def _end(first: float, last: float, count: int) -> str:
    """The end of a range of `count` points from `first` to `last`, a millionth or a few before `last`.

    Mermaid 11 adds up the distance of the points and loses the last one where rounding takes the sum past the end, so an end is
    taken where it does not. And a mark at the very end has its number cut off on a phone: there is none that far.
    """
    for millionths in range(1, 1000):
        end = f"{last - millionths / 1e6:.6f}"
        step, place, points = (float(end) - first) / (count - 1), first, 0
        while place <= float(end):
            place, points = place + step, points + 1
        if points == count:
            return end
    return f"{last:g}"


def _evenly_spaced(points: Sequence[tuple[int, float]]) -> list[float]:
    """The losses at evenly spaced x, which an axis of numbers needs, from the first to the last; straight between points."""
    steps = {right[0] - left[0] for left, right in pairwise(points)}
    count = len(points) if len(steps) == 1 and len(points) <= _POINTS else _POINTS
    first, last = points[0][0], points[-1][0]
    places = [first + (last - first) * number / (count - 1) for number in range(count)]
    losses, segment = [], 0
    for place in places[:-1]:
        while points[segment + 1][0] <= place:
            segment += 1
        (left, one), (right, other) = points[segment], points[segment + 1]
        losses.append(one + (other - one) * (place - left) / (right - left))
    return [*losses, points[-1][1]]
