"""The input `phases`: what is read, and that each error names its phase and key."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from echoself_action.config.inputs import DEFAULT_CONFIG
from echoself_action.config.load import ACTION_VARIABLE, load_models
from echoself_action.errors import InputError
from echoself_action.training.phases import Phase, parse_phases


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(DEFAULT_CONFIG).parent.mkdir()


def problems_of(text: str) -> list[str]:
    Path(DEFAULT_CONFIG).write_text(f"mode: train\nmax_iters: 100\n{text}")
    with pytest.raises(InputError) as caught:
        load_models({})
    assert all(problem.hint for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


FILE = """
mode: train
curriculum_iters: 2000
phases:
  - {name: first, share: 0.2, weights: {"docs/**": 2, "chats/*.jsonl": 0.5, b.md: 0}, learning_rate: 1.2, connections: 0.3}
  - name: second
    share: 0.3
    learning_rate:
  - {name: third}
"""
PHASES = (
    Phase("first", 0.2, (("docs/**", 2.0), ("chats/*.jsonl", 0.5), ("b.md", 0.0)), 1.2, 0.3),
    Phase("second", 0.3),
    Phase("third", 0.5),
)


def test_phases_of_the_file_keep_the_order_of_their_globs_and_the_last_gets_the_rest() -> None:
    Path(DEFAULT_CONFIG).write_text(FILE)
    (inputs,) = load_models({}).values()
    assert inputs.phases == PHASES
    assert inputs.curriculum_iters == 2000


@pytest.mark.parametrize("as_json", [False, True])
def test_phases_of_settings_beat_those_of_the_file(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(DEFAULT_CONFIG).write_text(FILE)
    given = [{"name": "only", "weights": {"a": 3}}]
    settings = f"phases: {json.dumps(given)}" if as_json else "phases:\n- name: only\n  weights: {a: 3}"
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"settings": settings}))
    (inputs,) = load_models({}).values()
    assert inputs.phases == (Phase("only", 1.0, (("a", 3.0),)),)


def test_each_of_several_models_may_have_its_own_phases() -> None:
    Path(DEFAULT_CONFIG).write_text(FILE + "models:\n  a: {repo_id: me/a}\n  b: {phases: [{name: x, weights: {c: 0.5}}]}\n")
    models = load_models({})
    assert models["a"].phases == PHASES
    assert models["b"].phases == (Phase("x", 1.0, (("c", 0.5),)),)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ("[{name: a, share: 0.5}, {name: b, share: 0.4}]", "phase b: share: all shares sum to 0.9, not to 1"),
        ("[{name: a}, {name: b, share: 0.4}]", "phase a: share: missing"),
        ("[{name: a, share: 1}, {name: b}]", "phase b: share: nothing is left of 1, because those before it sum to 1"),
        ("[{name: a, share: 0}, {name: b}]", "phase a: share: '0' is not a number above 0 to 1"),
        ("[{name: a, share: half}, {name: b}]", "phase a: share: 'half' is not a number above 0 to 1"),
        ("[{share: 0.5}, {name: b}]", "phase 1: name: missing"),
        ("[{name: a, share: 0.5}, {name: a}]", "phase a: name: given to several phases"),
        ("[{name: a, wieghts: {b: 1}}]", "phase a: unknown key wieghts"),
        ("[{name: a, weights: {b: -1}}]", "phase a: weights: b: '-1' is not a number 0 to 100"),
        ("[{name: a, weights: {b: 101}}]", "phase a: weights: b: '101' is not a number 0 to 100"),
        ("[{name: a, weights: {b: }}]", "phase a: weights: b: no number"),
        ("[{name: a, weights: [b]}]", "phase a: weights: not a mapping of globs to numbers"),
        ("[{name: a, learning_rate: 0}]", "phase a: learning_rate: '0' is not a number above 0"),
        ("[{name: a, connections: 1.1}]", "phase a: connections: '1.1' is not a number above 0 to 1"),
        (
            "[{name: a, share: 0.5, connections: 0.5}, {name: b, connections: 0.4}]",
            "phase b: connections: 0.4 is less than 0.5, with which phase a ends, and connections are never removed",
        ),
        ("[{name: a, share: 0.001}, {name: b}]", "phase a: share: 0.001 of 100 steps is less than a step"),
        ("[{name: a, share: 0.5, share: 0.4}, {name: b}]", "share: given twice, in line 3 and in line 3."),
        ("[{name: a, connections: 0.5}]\narchitecture: gpt2", "phase a: connections: only a NanEcho model has connections"),
        ("[a, b]", "not a list of mappings."),
        ("[{name: a}, b]", "not a list of mappings."),
        ("[]", "not a list of mappings."),
        ("{name: a}", "a mapping, not a value."),
    ],
    ids=str,
)
def test_an_error_names_the_phase_and_the_key(phases: str, message: str) -> None:
    (problem,) = problems_of(f"phases: {phases}\n")
    assert problem.startswith(f"phases in {DEFAULT_CONFIG}: {message}"), problem


def test_all_problems_of_phases_are_reported_at_once() -> None:
    (problem,) = problems_of("phases: [{name: a, shares: 1}, {name: b, learning_rate: fast}]")
    assert "phase a: unknown key shares; phase b: learning_rate: 'fast' is not a number above 0." in problem


def test_a_run_with_a_time_limit_alone_needs_curriculum_iters() -> None:
    Path(DEFAULT_CONFIG).write_text("mode: train\nmax_minutes: 5\nphases: [{name: a}]\n")
    with pytest.raises(InputError, match="neither curriculum_iters nor total_iters nor max_iters is set") as caught:
        load_models({})
    assert "Set curriculum_iters" in caught.value.problems[0].hint
    Path(DEFAULT_CONFIG).write_text("mode: train\nmax_minutes: 5\ncurriculum_iters: 9\n")
    with pytest.raises(InputError, match="there are no phases to divide these steps"):
        load_models({})


@pytest.mark.parametrize("given", [[1], [{"name": "a"}, 1], "a", [], {"name": "a"}], ids=str)
def test_other_values_are_refused(given: Any) -> None:
    with pytest.raises(PydanticCustomError, match="not a list of phases"):
        parse_phases(given)
