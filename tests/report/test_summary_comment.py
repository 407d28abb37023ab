"""The comment made from a job summary: charts as tables, nothing that notifies or links, at most what GitHub accepts."""

import re

import pytest

from echoself_action.report.job_summary.loss_curve import loss_curve
from echoself_action.report.summary_comment import comment_text, inert

ORIGIN = "Written by a run."
CHART = loss_curve("Validation loss", "step", "bits per byte", [(10, 3.5), (20, 2.25), (300, 2.0)])


def text_of(summary: str, limit: int = 60_000) -> str:
    return comment_text(summary, ORIGIN, limit)


def test_the_summary_is_the_comment_with_its_curve_as_a_table_of_measured_points() -> None:
    text = text_of(f"# Published: 2.0000 bits per byte\n\n{CHART}\n\nafter")
    rows = "| 10 | 3.5000 |\n| 20 | 2.2500 |\n| 300 | 2.0000 |"
    table = f"| step | bits per byte |\n|---|---|\n{rows}"
    assert text == f"# Published: 2.0000 bits per byte\n\n{table}\n\nafter\n\n{ORIGIN}"


def test_a_long_curve_keeps_its_ends() -> None:
    chart = loss_curve("Loss", "step", "bits per byte", [(7 * step, 5 - step / 10) for step in range(40)])
    rows = re.findall(r"^\| (\d+) \| (\S+) \|", text_of(chart), re.MULTILINE)
    assert [int(step) for step, _ in rows] == [7 * step for step in (0, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39)]
    assert [loss for _, loss in rows] == [f"{5 - int(step) / 70:.4f}" for step, _ in rows]


def test_each_of_several_curves_is_a_table() -> None:
    text = text_of(f"{CHART}\n\n```text\nsample\n```\n\n{CHART}")
    assert (text.count("| 300 | 2.0000 |"), text.count("```")) == (2, 2)


@pytest.mark.parametrize("body", ["pie\n    a: 1\n", "xychart-beta\n    x-axis [1]\n    line [1, 2]\n", "xychart-beta\n"])
def test_another_chart_stays_a_chart(body: str) -> None:
    assert f"```mermaid\n{body}```" in text_of(f"```mermaid\n{body}```")


@pytest.mark.parametrize(
    "harm",
    [
        "@octocat", "@org/team", "#12", "GH-12", "me/repo#12", "https://github.com/me/repo/issues/12",
        "github.com/me/repo/pull/12", "![x](https://evil.test/x.png)", "<img src=x>", "<IMG SRC=x>", "</details", "<!-- x -->",
        "<script>", "<details onclick=x>", "<a href=x>", "&#64;octocat", "&commat;octocat", "&num;12", "&#35;12", "\\@octocat",
        "https://GitHub.com/me/repo/Issues/12",
    ],
)  # fmt: skip
def test_nothing_in_the_text_notifies_links_or_loads(harm: str) -> None:
    live = (
        r"@\w", r"#\d", r"GH-\d", r"(?i)github\.com/\S+/(issues|pull)/", r"!\[", r"<[A-Za-z/!]", r"&[#a-z]",
    )  # fmt: skip
    made = text_of(f"# Title\n\n    sample {harm} text\n\n`{harm}` and {harm}{harm}")
    assert not [pattern for pattern in live if re.search(pattern, made)]
    assert made.replace("\u200b", "").count(harm) == 4


def test_what_summaries_fold_stays_folded() -> None:
    folded = "<details open><summary>Samples &amp; &lt;x&gt;</summary>\n\n<b>a</b><br>&nbsp;b\n\n</details>"
    assert inert(folded) == folded


@pytest.mark.parametrize("letter", ["x", "é", "日", "😀"])
def test_a_long_summary_is_cut_at_a_line_with_what_is_open_closed(letter: str) -> None:
    lines = f"{letter * 50}\n" * 3000
    summary = f"# Title\n\n<details open><summary>More</summary>\n\n```text\n{lines}```\n\n</details>"
    text = text_of(summary, limit=5000)
    assert 4000 < len(text.encode("utf-16-le")) // 2 <= 5000
    assert f"{letter * 50}\n```\n\n</details>\n\n(The comment is cut" in text
    assert text.endswith(ORIGIN)
    assert len(text_of(f"{letter * 70_000}", limit=5000).encode("utf-16-le")) // 2 <= 5000


def test_control_characters_of_generated_text_are_replaced() -> None:
    assert text_of("    a\x00b\x1b[31m\x85c\td\n").startswith("a\ufffdb\ufffd[31m\ufffdc\td")


def test_an_empty_summary_is_said() -> None:
    assert text_of("").startswith("The run wrote no summary.")
