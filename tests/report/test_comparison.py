from pathlib import Path

import numpy as np
import pytest

from echoself_action.evaluation.paired_bootstrap import Scores
from echoself_action.evaluation.ranking import RankedModel, rank
from echoself_action.report.comparison import write_comparison_page

from .browser import find_browser, look_at, picture_of
from .github_page import contrast
from .test_report_page import HOSTILE


def model(name: str, loss: float, url: str = "") -> RankedModel:
    spread = np.random.default_rng(0).normal(loss, 0.01, 32)
    scores = Scores(spread * 100, np.full(32, 100.0), np.full(32, 400.0), 1.0, "digest")
    return RankedModel(
        name, "commit " + "0123" * 10, 1200, "gpt2", HOSTILE, 10, 40, scores, (HOSTILE, "once upon " * 30), 5.0, url
    )


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    """The page of three models, with markup wherever text comes from outside."""
    models = [
        model("me/model", 3.0, "https://huggingface.co/me/model"),
        model(HOSTILE, 2.9, "http://127.0.0.1:1/me/model"),
        model("a/long/path/" * 10, 3.1),
    ]
    return write_comparison_page(tmp_path / "out", rank(HOSTILE, ("", HOSTILE), models))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_page_without_requests_or_sideways_scrolling(
    compared: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    seen = look_at(find_browser(), compared, tmp_path, width, dark)
    assert seen.console == []
    assert seen.facts["fetched"] == []
    assert seen.facts["width"] == seen.facts["seen_width"] == width
    assert seen.facts["cut"] == seen.facts["small"] == []
    assert [found for found in seen.facts["colours"] if contrast(*found[:2]) < 4.5] == []
    assert [text for text, _ in seen.facts["links"]] == ["me/model"] * 2  # of the two forms of the table, one is shown
    assert seen.facts["background"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


def test_text_from_outside_is_never_markup(compared: Path, tmp_path: Path) -> None:
    facts = look_at(find_browser(), compared, tmp_path, 1200).facts
    assert facts["scripts"] == 0
    assert facts["html"].count("<svg") == 2
    assert "</pre><script>document.title='owned'</script><img src=" in facts["text"]
    assert "{{ 7*7 }}&amp;" in facts["text"]


def test_light_and_dark_differ(compared: Path, tmp_path: Path) -> None:
    light, dark = (picture_of(find_browser(), compared, tmp_path, 390, dark) for dark in (False, True))
    assert light != dark
