import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from echoself_action.checkpoint.metadata import Comparison, Evaluation
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.evaluation.gate import Verdict
from echoself_action.hub.history import History, HistoryEntry
from echoself_action.report.report_page import PublishReport, page, read_log, write_page

from .browser import find_browser, look_at, picture_of

HOSTILE = "</pre><script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>{{ 7*7 }}&amp;\x00"
COMPARED = Comparison(
    against="0123456789abcdef",
    candidate=2.5,
    published=2.6,
    low=-0.12,
    high=-0.08,
    unit="nats per token",
    windows=64,
    tokens=4096,
)


def history(length: int) -> list[HistoryEntry]:
    return [
        HistoryEntry(
            published_at=datetime(2026, 1, day + 1, tzinfo=UTC),
            run_id="a",
            step=100 * day,
            tokens_seen=1,
            elapsed_s=1,
            weights_sha256="0",
            val_loss=4 - day / 10,
            commit=HOSTILE,
        )
        for day in range(length)
    ]


@pytest.fixture
def model(model_folder: ModelFolder) -> ModelFolder:
    """A model with everything that a page shows, and with markup wherever text comes from outside."""
    assert model_folder.metadata
    facts = model_folder.metadata
    assert facts.data
    changes = {
        "step": 1000,
        "val_loss": 2.5,
        "evaluations": [Evaluation(step=10 * n, train_loss=3 - n / 100, val_loss=3.1 - n / 100) for n in range(1, 31)],
        "settings": {**facts.settings, HOSTILE: HOSTILE, "long": "x" * 500},
        "versions": {"torch": HOSTILE},
        "data": facts.data.model_copy(update={"patterns": [HOSTILE, "a/very/long/path/" * 20]}),
        "tokenizer": facts.tokenizer.model_copy(update={"name": HOSTILE}),
    }
    return ModelFolder(model_folder.path, model_folder.config, facts.model_copy(update=changes))


@pytest.fixture
def report(model: ModelFolder, tmp_path: Path) -> Path:
    log = tmp_path / "log.jsonl"
    lines = [{"step": n, "loss": 3 - n / 400, "lr": 1e-3, "tokens_per_second": 1234.5} for n in range(5, 305, 5)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    verdict = Verdict(True, f"it is better than the published model: {HOSTILE}", COMPARED)
    publishing = PublishReport(f"http://hub/me/{HOSTILE}", verdict, "c0ffee", history=History(b"", tuple(history(5))))
    return write_page(tmp_path / "out", log, model, [HOSTILE, "Once upon a time\n  there was"], publishing)


def test_the_page_is_self_contained(report: Path) -> None:
    text = report.read_text()
    assert "<script" not in text
    assert '<link rel="icon" href="data:,">' in text
    assert not [word for word in ('src="', "@import", "url(") if word in text]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_page_without_requests_or_sideways_scrolling(
    report: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    seen = look_at(find_browser(), report, tmp_path, width, dark)
    facts = seen.facts
    assert seen.console == []
    assert facts["fetched"] == []
    assert facts["title"].startswith("Step 1,000")
    assert facts["width"] == facts["seen_width"] == width  # nothing to scroll to at the side
    assert facts["background"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert len(facts["charts"]) == 4
    assert all(250 < chart < width for chart in facts["charts"])


def test_text_from_outside_is_never_markup(report: Path, tmp_path: Path) -> None:
    facts = look_at(find_browser(), report, tmp_path, 1200).facts
    assert facts["scripts"] == 0
    assert "</pre><script>document.title='owned'</script><img src=" in facts["text"]
    assert "{{ 7*7 }}&amp;" in facts["text"]


def test_the_page_shows_gate_samples_and_history(report: Path, tmp_path: Path) -> None:
    text = look_at(find_browser(), report, tmp_path, 1200).facts["text"]
    for shown in ("Published", "passed", "-0.1200 to -0.0800", "Once upon a time", "2026-01-05", "Samples"):
        assert shown in text


def test_light_and_dark_differ(report: Path, tmp_path: Path) -> None:
    light, dark = (picture_of(find_browser(), report, tmp_path, 390, dark) for dark in (False, True))
    assert light.startswith(b"\x89PNG")
    assert light != dark


def test_sections_without_data_are_left_out(model_folder: ModelFolder) -> None:
    stock = ModelFolder(model_folder.path, model_folder.config, None)
    text = page(stock, [], [""], None)
    assert not [part for part in ("gate", "curves", "samples", "history", "evaluations") if f'id="{part}"' in text]
    assert "None" not in text


@pytest.mark.parametrize(
    ("passed", "commit", "pr_url", "title"),
    [
        (False, "", "", "Not published"),
        (True, "c0ffee", "", "Published"),
        (True, "", "http://hub/me/a/discussions/1", "Proposed"),
        (True, "", "", "Nothing new to publish"),
    ],
)
def test_the_title_says_whether_the_model_was_published(
    model_folder: ModelFolder, passed: bool, commit: str, pr_url: str, title: str
) -> None:
    publishing = PublishReport("http://hub/me/a", Verdict(passed, "so it is"), commit, pr_url)
    assert f"<h2>{title}</h2>" in page(model_folder, [], [], publishing)


def test_read_log_keeps_the_last_line_of_a_step_and_skips_bad_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [
        '{"step": 1, "loss": 3}',
        '{"step": 5, "loss": 2}',
        "{half",
        '{"step": 3, "loss": 1, "lr": NaN}',
        "[]",
        '{"loss": 1}',
    ]
    log.write_text("\n".join(rows))
    assert read_log(log) == [{"step": 1, "loss": 3}, {"step": 3, "loss": 1}]
    assert read_log(tmp_path / "none") == []
