import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from echoself_action.checkpoint.curriculum_facts import CurriculumFacts, PhaseFacts
from echoself_action.checkpoint.fidelity_facts import FidelityFacts, FidelityScores
from echoself_action.checkpoint.introspection_facts import AblationFacts, IntrospectionFacts, ThresholdFacts
from echoself_action.checkpoint.metadata import Comparison, Evaluation, Sample
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.question_facts import (
    Estimate,
    GeneratedAnswers,
    QuestionComparison,
    QuestionFacts,
    QuestionScores,
)
from echoself_action.evaluation.gate import Verdict, judge_loss
from echoself_action.hub.history import History, HistoryEntry
from echoself_action.report.html_page import followable
from echoself_action.report.question_tables import question_lines
from echoself_action.report.report_page import PublishReport, page, read_log, write_page

from .browser import find_browser, look_at, picture_of
from .github_page import contrast

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
INSIDE = IntrospectionFacts(
    held_out="0",
    windows=64,
    tokens=4096,
    bits_per_byte=2.5,
    entropy=tuple(tuple((layer + head) / 8 for head in range(12)) for layer in range(30)),
    uniform_entropy=5.0,
    thresholds=(ThresholdFacts(mean=0.5, deviation=0.01, low=0.45, high=0.9, at_limit=0.25),),
    connections=0.251,
    stated_connections=0.25,
    recursion_depth=3,
    max_recursion_depth=5,
    ablations=(
        AblationFacts(path="adaptive_attention", change=-0.00001, low=-0.01, high=0.01, logit_share=0.02),
        AblationFacts(path=f"persona_dimensions.{HOSTILE}", change=0.2, low=0.1, high=0.3, logit_share=1.5),
    ),
    ablation_windows=32,
    seconds=12.3,
)
_SCORES = FidelityScores(
    answers=30,
    score=Estimate(value=0.123, low=0.1, high=0.15),
    echo_score=Estimate(value=0.456, low=0.4, high=0.5),
    by_category={"identity_recognition": 0.25},
    by_dimension={"neural_symbolic": 0.125},
    consistency=0.75,
)
FIDELITY = FidelityFacts(
    text="0",
    prompts=30,
    all_prompts=30,
    characters=512,
    unprompted=_SCORES,
    prompted=_SCORES,
    held_out=_SCORES.model_copy(update={"score": Estimate(value=0.789, low=0.7, high=0.9)}),
    other_category=0.111,
    difference=Estimate(value=0.012, low=-0.01, high=0.03),
    empty_prompt=(0.075, 0.222),
    seconds=12.3,
)

ASKED = QuestionScores(
    questions=1234,
    accuracy=Estimate(value=0.6125, low=0.55, high=0.6875),
    chance=0.25,
    accuracy_per_byte=0.5,
    preference=Estimate(value=0.7125, low=0.65, high=0.7625),
    bits_per_byte=Estimate(value=1.2345, low=1.1, high=1.4),
)
QUESTIONS = QuestionFacts(
    digest="0",
    sources=[HOSTILE],
    scores=ASKED,
    by_dimension={HOSTILE: ASKED, "a_very_long_name_of_a_dimension": ASKED},
    in_training=7,
    in_training_scores=ASKED.model_copy(update={"questions": 7}),
    left_out=9,
    cut_prompts=3,
    long_answers=2,
    generated=GeneratedAnswers(answers=50, exact_match=0.125, f1=0.375, distinct=(0.1, 0.2, 0.3), repetition=0.4),
    compared=QuestionComparison(
        against="0123456789abcdef", questions=1234, candidate=0.725, published=0.7, low=-0.01, high=0.035, p_value=0.0001
    ),
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
            run_url="javascript:alert(1)" if day % 2 else f"https://github.com/me/x/actions/runs/{day}",
            duration_s=90,
            tokens_per_second=1234,
            result="rolled_back" if day == 3 else "published",
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
        "bytes_per_token": 1.5,
        "sample": Sample(prompt=HOSTILE, continuation=" Once upon a time\n  there was", from_corpus=True),
        "evaluations": [Evaluation(step=10 * n, train_loss=3 - n / 100, val_loss=3.1 - n / 100) for n in range(1, 31)],
        "settings": {**facts.settings, HOSTILE: HOSTILE, "long": "x" * 500},
        "versions": {"torch": HOSTILE},
        "introspection": INSIDE,
        "curriculum": CurriculumFacts(
            iters=300,
            phases=(
                PhaseFacts(name=HOSTILE, start=0, end=100),
                PhaseFacts(name="second", start=100, end=300, weights={HOSTILE: 2}),
            ),
        ),
        "fidelity": FIDELITY,
        "questions": QUESTIONS,
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
    publishing = PublishReport(
        f"me/{HOSTILE}", f"http://hub/me/{HOSTILE}", "improved", verdict, "c0ffee" * 6, history=History(b"", tuple(history(15)))
    )
    return write_page(tmp_path / "out", log, model, None, publishing)


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
    assert facts["title"].startswith("me/")
    assert "step 1,000" in facts["title"]
    assert facts["width"] == facts["seen_width"] == width  # nothing to scroll to at the side
    assert facts["cut"] == []
    assert facts["small"] == []
    assert [found for found in facts["colours"] if contrast(*found[:2]) < 4.5] == []
    assert facts["background"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert len(facts["charts"]) == 4
    assert all(250 < chart < width for chart in facts["charts"])


def test_the_page_shows_what_is_inside_the_model(report: Path) -> None:
    shown = report.read_text()
    for text in (
        "Inside the model",
        "effectively to 5.7 of the 32.0 tokens",
        "At 25% of the tokens they are at a limit",
        "25.1% of the connections in its masks are on; the model states 25.0%",
        "The recursion is 3 of at most 5 layers deep",
        "on which the model needs 2.5000 bits per byte",
        "has no measurable effect",
        "lowers the loss",
        "150.0%",
    ):
        assert text in shown, text
    assert shown.count("<title>layer ") == 12 * 30


def test_the_page_shows_echo_fidelity_beside_what_it_is_worth(report: Path) -> None:
    text = report.read_text()
    for figure in ("0.123 (0.100 to 0.150)", "0.456 (0.400 to 0.500)", "0.789 (0.700 to 0.900)", "0.111", "0.222"):
        assert figure in text, figure
    for folded in (">identity recognition</th><td>0.250<", ">dimension neural symbolic</th><td>0.125<"):
        assert folded in text, folded
    assert "No measurable effect of the prompts on the words of the answers (+0.012, 95 % CI -0.010 to +0.030)" in text
    assert "A list of these words scores 1" in text


def test_the_page_draws_echo_fidelity_over_the_publishes(model: ModelFolder) -> None:
    entries = [
        one.model_copy(update={"echo_fidelity": 0.1 + n / 100, "echo_fidelity_held_out": 0.2})
        for n, one in enumerate(history(3))
    ]
    publishing = PublishReport("me/x", "", "none", Verdict(True, ""), history=History(b"", tuple(entries)))
    shown = page(model, [], None, publishing)
    assert shown.count("answers: 0.1 at 1") == 1
    assert "held-out text: 0.2 at 2" in shown
    assert "Echo fidelity of published models" not in page(model, [], None, None)


def test_the_page_shows_the_scores_on_questions_by_dimension_and_what_was_not_counted(report: Path) -> None:
    text = report.read_text()
    for shown in (
        ">1,234</td>",
        ">61.3% (55.0% to 68.8%)</td>",
        ">1.2345 (1.1000 to 1.4000)</td>",
        "Not counted, because in the training text: 7 of 1,241 questions.",
        "Left out beyond the limit evaluate_questions: 9 questions.",
        "Cut at the start, to fit into the context: 3 prompts.",
        "Scored in parts, because longer than three quarters of the context: 2 answers.",
        "Generated, to limit the time, only 50 answers.",
        "72.5% vs. 70.0% of the distractors rejected, difference +2.5 points (95 % CI -1.0 to +3.5, p &lt; 0.001",
        ">10.0%, 20.0%, 30.0%</td>",
    ):
        assert shown in text, shown


def test_a_line_connects_only_publishes_that_were_asked_the_same_questions(model: ModelFolder) -> None:
    changes = [
        {
            "question_accuracy": 0.5 + n / 100,
            "question_preference": 0.7,
            "questions_digest": "a" if n < 3 else "b",
            "result": "published",
        }
        for n in range(5)
    ]
    entries = [one.model_copy(update=change) for one, change in zip(history(6)[:5], changes, strict=True)]
    entries[1] = entries[1].model_copy(update={"question_accuracy": None, "question_preference": None})
    lines = question_lines(entries)
    assert [(line.name, [x for x, _ in line.points], line.is_listed) for line in lines] == [
        ("accuracy", [1, 3], True),
        ("preference", [1, 3], True),
        ("accuracy", [4, 5], False),
        ("preference", [4, 5], False),
    ]
    publishing = PublishReport("me/x", "", "none", Verdict(True, ""), history=History(b"", tuple(entries)))
    shown = page(model, [], None, publishing)
    assert shown.count("<title>accuracy: ") == 4
    (legend,) = re.findall(r"Answers to questions of published models.*?<p class=.legend.>(.*?)</p>", shown, re.DOTALL)
    assert legend.count("<span>") == 2
    assert "Answers to questions of published models" not in page(model, [], None, None)


def test_phases_named_as_those_of_echoself_are_explained(model: ModelFolder) -> None:
    def shown(name: str) -> str:
        phases = (PhaseFacts(name=name, start=0, end=10), PhaseFacts(name="rest", start=10, end=20))
        curriculum = CurriculumFacts(iters=20, phases=phases)
        return page(replace(model, metadata=model.metadata.model_copy(update={"curriculum": curriculum})), [], None, None)  # type: ignore[union-attr]

    assert "phases of these names change: adaptive_mastery: learning rate x 0.7" in shown("adaptive_mastery")
    assert "phases of these names" not in shown("mastery")


def test_text_from_outside_is_never_markup(report: Path, tmp_path: Path) -> None:
    facts = look_at(find_browser(), report, tmp_path, 1200).facts
    assert facts["scripts"] == 0
    assert "</pre><script>document.title='owned'</script><img src=" in facts["text"]
    assert "{{ 7*7 }}&amp;" in facts["text"]


def test_the_page_shows_gate_samples_and_history(report: Path, tmp_path: Path) -> None:
    text = look_at(find_browser(), report, tmp_path, 1200).facts["text"]
    for shown in ("Published", "passed", "-0.1200 to -0.0800", "Once upon a time", "2026-01-15", "Sample"):
        assert shown in text


def test_light_and_dark_differ(report: Path, tmp_path: Path) -> None:
    light, dark = (picture_of(find_browser(), report, tmp_path, 390, dark) for dark in (False, True))
    assert light.startswith(b"\x89PNG")
    assert light != dark


def test_only_pages_that_others_can_open_are_linked(report: Path, tmp_path: Path) -> None:
    links = look_at(find_browser(), report, tmp_path, 1200).facts["links"]
    assert {urlsplit(url).scheme for _, url in links} == {"http", "https"}
    commit = "c0ffee" * 6
    assert [text for text, url in links if url.endswith(f"/commit/{commit}")] == [commit[:7]]
    assert [text for text, url in links if url.endswith(f"/blob/{commit}/README.md")] == ["README.md"]
    assert len([url for _, url in links if "/actions/runs/" in url]) == 8


@pytest.mark.parametrize(
    ("url", "is_linked"),
    [
        ("https://huggingface.co/me/a", True),
        ("http://hub.example:8080/me/a", True),
        *((f"http://{host}/me/a", False) for host in ("127.0.0.1:8123", "localhost:1", "[::1]:5", "127.1.2.3")),
        ("javascript:alert(1)", False),
        ("/commit/1", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_what_can_be_followed(url: str, is_linked: bool) -> None:
    assert followable(url) == (url if is_linked else "")


def test_a_page_is_named_by_its_repo_and_links_the_job(model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "<h1>model</h1>" in page(ModelFolder(Path("model/checkpoint-1"), model_folder.config, None), [], None, None)
    for name, value in {"REPOSITORY": "me/docs", "RUN_ID": "42", "SHA": "abc1234" * 5}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    text = page(model_folder, [], None, None)
    assert "<h1>me/docs</h1>" in text
    assert 'href="https://github.com/me/docs/actions/runs/42" rel="noreferrer">run 42</a>' in text
    assert f'href="https://github.com/me/docs/commit/{"abc1234" * 5}" rel="noreferrer">abc1234</a>' in text


def test_sections_without_data_are_left_out(model_folder: ModelFolder) -> None:
    stock = ModelFolder(model_folder.path, model_folder.config, None)
    text = page(stock, [], None, None)
    assert not [part for part in ("gate", "curves", "sample", "history", "evaluations") if f'id="{part}"' in text]
    assert "None" not in text


@pytest.mark.parametrize(
    ("passed", "done", "title"),
    [
        (False, {}, "Not published"),
        (True, {"commit": "c0ffee"}, "Published"),
        (True, {"pr_url": "http://hub/me/a/discussions/1"}, "Proposed"),
        (True, {}, "Nothing new to publish"),
        (False, {"result": "converged", "reason": "nothing was gained"}, "Converged: no steps were trained"),
        (False, {"result": "rolled_back"}, "Rolled back"),
    ],
)
def test_the_title_says_what_became_of_the_model(
    model_folder: ModelFolder, passed: bool, done: dict[str, str], title: str
) -> None:
    publishing = PublishReport("me/a", "http://hub/me/a", "improved", Verdict(passed, "so it is"), **done)
    text = page(model_folder, [], None, publishing)
    assert f"<h2>{title}</h2>" in text
    assert ("gate refused" in text) == (not passed and done.get("result") != "converged")


def test_a_model_without_a_gate_has_not_passed_one(model_folder: ModelFolder) -> None:
    text = page(model_folder, [], None, PublishReport("me/a", "", "none", judge_loss("none", model_folder), "c0ffee"))
    assert "No quality gate is set" in text
    assert "passed" not in text


def test_a_proposal_is_not_among_the_publishes(model_folder: ModelFolder) -> None:
    runs = tuple(history(5))
    proposal = PublishReport("me/a", "", "none", Verdict(True, ""), pr_url="http://hub/1", history=History(b"", runs))
    text, published = (page(model_folder, [], None, one) for one in (proposal, replace(proposal, pr_url="", commit="1")))
    labels = [text.count(f'data-label="result">{result}<') for result in ("proposed", "published", "rolled back")]
    assert labels == [1, 3, 1]
    assert 'data-label="result">proposed<' not in published
    assert 'data-label="result">proposed<' not in page(model_folder, [], None, replace(proposal, is_new_model=False))
    points = [re.findall(r"validation loss: [0-9.]+ at [0-9]+", one) for one in (text, published)]
    assert [len(found) for found in points] == [3, 4]


def test_the_page_says_what_bits_per_byte_are_and_what_ppmd_needs(model: ModelFolder) -> None:
    text = page(model, [], None, None)
    assert "how many bits the model needs" in text
    assert model.metadata
    assert model.metadata.data
    assert f"{model.metadata.data.ppmd_bits_per_byte:.4f} <small>bits per byte</small>" in text
    older = model.metadata.model_copy(update={"data": model.metadata.data.model_copy(update={"ppmd_bits_per_byte": None})})
    assert "PPMd" not in page(ModelFolder(model.path, model.config, older), [], None, None)


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
