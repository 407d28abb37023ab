"""`evaluate: echo-fidelity`: measured once, recorded, shown and published; and for a model that was trained without it."""

from pathlib import Path

import pytest

from echoself_action.checkpoint.fidelity_facts import FidelityFacts
from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.checkpoint.question_facts import Estimate
from echoself_action.evaluation import echo_fidelity
from echoself_action.hub.cards.fidelity_text import fidelity_about, prompt_effect
from echoself_action.hub.client import open_hub
from echoself_action.hub.history import parse_history

from ..config.test_inputs import load_inputs, problems
from ..conftest import SMALL, Cli

HUB = "--hub hub --repo-id me/model"
TRAIN = f"train --tokenizer bytes {SMALL}"


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo_fidelity, "CHARACTERS", 6)


def fidelity_of(folder: str) -> FidelityFacts:
    facts = read_metadata(Path(folder))
    assert facts
    assert facts.fidelity
    assert facts.questions is None
    return facts.fidelity


def test_it_is_measured_at_the_end_of_training_recorded_and_shown(
    begun: Cli, echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(TRAIN)
    trained = echoself(f"{TRAIN} --max-iters 2 --evaluate echo-fidelity")
    facts = fidelity_of(trained["model_dir"])
    assert (facts.prompts, facts.characters) == (30, 6)
    assert facts.held_out
    figure = f"echo fidelity {facts.unprompted.score.value:.3f} ("
    assert figure in capsys.readouterr().out
    assert figure in (tmp_path / "summary.md").read_text()
    assert '<section id="fidelity">' in Path(trained["report"]).read_text()


def test_it_is_published_and_measured_only_once(begun: Cli, echoself: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(TRAIN)
    dry = read_metadata(Path(echoself(f"deploy {HUB} --evaluate echo-fidelity --dry-run true")["model_dir"]))
    assert dry
    assert dry.fidelity is None  # a dry run changes no file
    facts = fidelity_of(echoself(f"deploy {HUB} --evaluate echo-fidelity")["model_dir"])
    monkeypatch.setattr(echo_fidelity, "greedy_answer", None)  # with which nothing could be measured again
    assert fidelity_of(echoself(f"deploy {HUB} --evaluate echo-fidelity")["model_dir"]) == facts
    with open_hub("hub", None) as hub:
        card = Path(hub.api.hf_hub_download("me/model", "README.md")).read_text()
        history = parse_history(Path(hub.api.hf_hub_download("me/model", "metrics/history.jsonl")).read_bytes())
    assert "### Echo fidelity" in card
    assert f"| answers without the system prompt | {facts.unprompted.score.value:.3f} (" in card
    assert history.entries[-1].echo_fidelity == facts.unprompted.score.value


def test_too_little_time_gives_a_warning_and_no_figure(
    begun: Cli, echoself: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(TRAIN)
    monkeypatch.setattr(echo_fidelity, "greedy_answer", lambda *_: None)
    facts = read_metadata(Path(echoself(f"deploy {HUB} --evaluate echo-fidelity")["model_dir"]))
    assert facts
    assert facts.fidelity is None
    assert "echo fidelity was not measured: 120 seconds are not enough" in capsys.readouterr().out


def test_it_has_no_questions_for_a_gate() -> None:
    given = {"mode": "deploy", "repo_id": "me/model", "evaluate": "echo-fidelity", "license": "mit"}
    assert load_inputs(given).question_sources == []
    [problem] = problems(given | {"evaluate_gate": "improved"})
    assert problem == "--evaluate-gate: improved needs questions, and evaluate names none."
    assert load_inputs(given | {"evaluate": "echo-fidelity,held-out"}).question_sources == ["held-out"]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-0.1, 0.1, "no measurable effect"), (0.1, 0.2, "score more"), (-0.2, -0.1, "score less")]
)
def test_what_is_said_about_the_prompts(low: float, high: float, expected: str) -> None:
    facts = FIDELITY.model_copy(update={"difference": Estimate(value=(low + high) / 2, low=low, high=high)})
    assert expected in prompt_effect(facts)
    assert "18 prompts of 30, because the time was over" in fidelity_about(facts)


SCORES = echo_fidelity.score_answers([(category, "adaptive") for category in echo_fidelity.CATEGORIES])
FIDELITY = FidelityFacts(
    text="0",
    prompts=18,
    all_prompts=30,
    characters=512,
    unprompted=SCORES,
    prompted=SCORES,
    other_category=0.1,
    difference=SCORES.score,
    empty_prompt=(0.1, 0.2),
    seconds=1,
)
