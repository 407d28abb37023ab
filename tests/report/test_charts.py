from xml.etree import ElementTree

import pytest

from echoself_action.report.charts import HEIGHT, WIDTH, Line, interval_chart, line_chart


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
def test_every_point_of_a_line_chart_is_inside_its_frame(points: list[tuple[float, float]]) -> None:
    found = places(line_chart("Loss", "step", [Line("a", points)]))
    assert 2 <= len(found) <= 400
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in found)


def test_axes_point_up_and_right() -> None:
    (x1, y1), (x2, y2) = places(line_chart("Loss", "step", [Line("a", [(0, 3.0), (5, 1.0)])]))
    assert x1 < x2
    assert y1 < y2  # down the page


@pytest.mark.parametrize("lines", [[], [Line("a", [])], [Line("a", [(1, 1.0)])]])
def test_a_chart_without_a_line_is_empty(lines: list[Line]) -> None:
    assert line_chart("Loss", "step", lines) == ""


def test_names_in_a_chart_are_escaped() -> None:
    svg = line_chart('"><script>', "<b>", [Line("</title><script>", [(0, 1.0), (1, 2.0)])])
    assert not list(ElementTree.fromstring(svg).iter("script"))  # noqa: S314


@pytest.mark.parametrize(
    ("low", "mean", "high", "kind"),
    [(-0.3, -0.2, -0.1, "good"), (0.1, 0.2, 0.3, "bad"), (-0.1, 0.1, 0.2, "open"), (0.0, 0.0, 0.0, "open")],
)
def test_an_interval_chart_is_coloured_by_significance_and_inside_its_frame(
    low: float, mean: float, high: float, kind: str
) -> None:
    chart = ElementTree.fromstring(interval_chart(low, mean, high))  # noqa: S314
    assert chart.get("class") == f"interval {kind}"
    [dot] = chart.iter("circle")
    assert 0 < float(dot.get("cx", "")) < 480
    assert f"{low:+.4f} to {high:+.4f}" in chart.get("aria-label", "")


def test_interval_charts_share_a_scale() -> None:
    narrow, wide = (ElementTree.fromstring(interval_chart(-x, -x, -x, reach=0.4)) for x in (0.1, 0.4))  # noqa: S314
    assert [float(dot.get("cx", "")) for chart in (narrow, wide) for dot in chart.iter("circle")] == [183.0, 12.0]
