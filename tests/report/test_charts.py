from xml.etree import ElementTree

import pytest

from echoself_action.report.charts import HEIGHT, WIDTH, Band, Line, interval_chart, line_chart


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


def test_bands_are_behind_the_lines_cut_to_the_chart_and_have_short_labels_where_they_fit() -> None:
    bands = [
        Band("<first>", "1", -50, 40),
        Band("second", "2", 40, 99),
        Band("third", "3", 99, 5000),
        Band("none", "4", 300, 400),
    ]
    root = ElementTree.fromstring(line_chart("Loss", "step", [Line("a", [(0, 3.0), (100, 1.0)])], bands))  # noqa: S314
    found = [(float(band.get("x", "")), float(band.get("width", ""))) for band in root.iter("rect")]
    assert [round(left + width, 1) for left, width in found[:-1]] == [left for left, _ in found[1:]]
    left, width = places(line_chart("Loss", "step", [Line("a", [(0, 3.0), (100, 1.0)])]))[0][0], WIDTH - 58 - 14
    assert found[0] == (left, pytest.approx(0.4 * width, abs=0.06))
    assert found[-1][0] + found[-1][1] == WIDTH - 14
    assert [text.text for text in root.iter("text") if text.get("class") == "of-band"] == ["1", "2"]  # the third is too narrow
    assert [title.text for title in root.iter("title")][:3] == [
        "<first>: from -50 to 40",
        "second: from 40 to 99",
        "third: from 99 to 5,000",
    ]
    assert [part.tag for part in root][:2] == ["rect", "text"]


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
    chart = ElementTree.fromstring(interval_chart(low, mean, high, "bits per byte"))  # noqa: S314
    assert chart.get("class") == f"interval {kind}"
    [dot] = chart.iter("circle")
    assert 0 < float(dot.get("cx", "")) < 480
    assert f"{low:+.4f} to {high:+.4f}" in chart.get("aria-label", "")
    texts = {text.text: float(text.get("x", "")) for text in chart.iter("text")}
    assert texts["0"] == 240
    assert "bits per byte" in texts
    assert len(texts) >= 6
    assert all(0 <= x <= 480 for x in texts.values())


def test_interval_charts_share_a_scale() -> None:
    narrow, wide = (ElementTree.fromstring(interval_chart(-x, -x, -x, "bits per byte", reach=0.4)) for x in (0.1, 0.4))  # noqa: S314
    assert [float(dot.get("cx", "")) for chart in (narrow, wide) for dot in chart.iter("circle")] == [183.0, 12.0]


def ticks(svg: str, anchor: str) -> list[float]:
    texts = [text.text or "" for text in ElementTree.fromstring(svg).iter("text") if text.get("text-anchor") == anchor]  # noqa: S314
    factors = {"k": 1e3, "M": 1e6, "G": 1e9}
    return [float(text.strip("kMG").replace(",", "")) * factors.get(text[-1], 1) for text in texts if text != "step"]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((1, 2), (2.4951, 3.2784)),
        ((1, 4), (0.1, 0.9)),
        ((5, 305), (39_560, 53_709)),
        ((1, 7_000_000), (3e-5, 3e-4)),
        ((7, 12_345), (1, 1)),
    ],
)
def test_ticks_are_round_and_those_of_steps_are_whole(x: tuple[float, float], y: tuple[float, float]) -> None:
    svg = line_chart("Loss", "step", [Line("a", list(zip(x, y, strict=True)))])
    steps, losses = ticks(svg, "middle"), ticks(svg, "end")
    assert steps == [int(step) for step in steps]
    assert len(steps) >= 2
    assert 3 <= len(losses) <= 7
    for found in (steps, losses):
        size = found[1] - found[0]
        assert f"{size:.6e}".partition("e")[0] in ("1.000000", "2.000000", "5.000000")
        assert all(abs(tick / size - round(tick / size)) < 1e-6 for tick in found)
