from xml.etree import ElementTree

import pytest

from echoself_action.report.charts import HEIGHT, WIDTH, Line, line_chart


def places(svg: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)  # noqa: S314, of our own making
    return [
        (float(x), float(y))
        for line in root.iter("polyline")
        for x, y in (point.split(",") for point in line.get("points", "").split())
    ]


@pytest.mark.parametrize(
    "points",
    [
        [(0, 1.0), (10, 3.0), (20, 2.0)],
        [(1, 5.0), (2, 5.0)],
        [(0, 0.0), (1, 0.0)],
        [(3, 1e-9), (3, 2e-9)],
        [(10**9, 1e12), (2 * 10**9, -1e12)],
        [(n, n % 7) for n in range(10_000)],
    ],
)
def test_every_point_is_inside_whatever_the_numbers(points: list[tuple[float, float]]) -> None:
    found = places(line_chart("Loss", "step", [Line("a", points)]))
    assert 2 <= len(found) <= 400
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in found)


def test_lower_is_lower_and_later_is_further_right() -> None:
    (x1, y1), (x2, y2) = places(line_chart("Loss", "step", [Line("a", [(0, 3.0), (5, 1.0)])]))
    assert x1 < x2
    assert y1 < y2  # down the page


@pytest.mark.parametrize("lines", [[], [Line("a", [])], [Line("a", [(1, 1.0)])]])
def test_where_there_is_no_line_there_is_no_chart(lines: list[Line]) -> None:
    assert line_chart("Loss", "step", lines) == ""


def test_no_name_is_markup() -> None:
    svg = line_chart('"><script>', "<b>", [Line("</title><script>", [(0, 1.0), (1, 2.0)])])
    assert not list(ElementTree.fromstring(svg).iter("script"))  # noqa: S314
