"""Training through the phases of a curriculum: bounds, exact resume, growth, and what a resumed run says of changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.checkpoint.curriculum_facts import CurriculumFacts
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import InputError
from echoself_action.hub.cards.origin import training_settings as training_settings_of
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.report.report_page import read_log
from echoself_action.training.curriculum import Curriculum, curriculum_of
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.phases import Phase
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data
from echoself_action.training.trainer import Callbacks, Result, train
from echoself_action.training.training_state import read_counters

from ..conftest import training_settings
from .test_nanecho import growing, masks
from .test_trainer import StopAt, same, weights

GLOB = "**/scene-0*.md"
PHASES = (
    Phase("first", 0.4, ((GLOB, 0.0),), 1.2),
    Phase("second", 0.35, ((GLOB, 3.0),)),
    Phase("third", 0.25, (), 0.5),
)


def trained(
    tokens: Tokens, start: Any, place: Path, notes: list[str] | None = None, stop: StopRequest | None = None, **changes: Any
) -> Result:
    """Train from a checkpoint, or a new model of a configuration; `notes` gets the log."""
    settings, data, log = training_settings(**{"phases": PHASES, **changes}), Data(tokens, []), [] if notes is None else notes
    run = resume_run(start, data, settings, log.append) if isinstance(start, ModelFolder) else new_run(start, data, settings)
    watch = stop.watch if isinstance(stop, StopAt) else lambda _: None
    return train(run, place, stop or StopRequest(), Callbacks(watch, pytest.fail, log.append))


def test_bounds_are_shares_of_the_steps_and_the_last_phase_stays() -> None:
    curriculum = Curriculum(PHASES, 20, start=100)
    assert curriculum.bounds == [100, 108, 115, 120]
    names = [curriculum.phase(step).name for step in (0, 100, 107, 108, 114, 115, 119, 120, 10_000)]
    assert names == ["first"] * 3 + ["second"] * 2 + ["third"] * 4
    assert curriculum.facts.text(104, 112) == "first to step 108, then second (2 of 3, to step 115)"
    assert curriculum.facts.text(108, 115) == "second (2 of 3, to step 115)"
    assert curriculum.facts.text(115, 500) == "third (3 of 3, the last, from step 115 on)"


def test_connections_grow_evenly_to_the_goal_of_the_phase_and_to_no_less() -> None:
    phases = (Phase("a", 0.5, connections=0.5), Phase("b", 0.25), Phase("c", 0.25, connections=0.9))
    curriculum = Curriculum(phases, 40)
    found = [curriculum.connections(step, lambda step: 0.1 + step / 100) for step in range(60)]
    ratios = [ratio for ratio in found if ratio is not None]
    assert found[20:30] == [None] * 10
    assert ratios[:20] == pytest.approx([0.1 + 0.4 * (step + 1) / 20 for step in range(20)], abs=0.01 + 1e-9)
    assert ratios[20:30] == pytest.approx([0.4 + 0.5 * (step + 1) / 10 for step in range(10)], abs=0.01 + 1e-9)
    assert ratios[19] == 0.5
    assert ratios[29:] == [0.9] * 21
    assert ratios[:20] == sorted(ratios[:20])


@pytest.mark.parametrize(
    ("changes", "known", "bounds"),
    [
        ({"curriculum_iters": 40}, None, (10, 50)),
        ({"total_iters": 40}, None, (10, 40)),  # a cosine ends at a step, wherever it starts
        ({"max_iters": 40}, None, (10, 50)),
        ({"max_iters": 40}, CurriculumFacts(iters=20, start=5, phases=()), (5, 25)),
        ({"curriculum_iters": 40}, CurriculumFacts(iters=20, start=5, phases=()), (5, 45)),
    ],
    ids=str,
)
def test_where_a_curriculum_starts_and_ends(
    changes: dict[str, Any], known: CurriculumFacts | None, bounds: tuple[int, int]
) -> None:
    curriculum = curriculum_of(training_settings(phases=PHASES, **changes), 10, known)
    assert curriculum
    assert (curriculum.bounds[0], curriculum.bounds[-1]) == bounds


def test_a_curriculum_without_a_length_or_with_a_phase_without_a_step_is_refused() -> None:
    with pytest.raises(InputError, match="neither curriculum_iters"):
        curriculum_of(training_settings(phases=PHASES, max_iters=None, max_minutes=1), 0, None)
    with pytest.raises(InputError, match=r"phase third: share: 0\.25 of 2 steps is less than a step"):
        curriculum_of(training_settings(phases=PHASES, curriculum_iters=2), 0, None)


@pytest.fixture(scope="module")
def long_run(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> Result:
    config = GPT2Config(vocab_size=257, block_size=32, n_layer=2, n_head=2, n_embd=16, dropout=0.1)
    return trained(tokens, config, tmp_path_factory.mktemp("long"), input_noise=0.1, log_interval=1)


@pytest.mark.parametrize("stop", [5, 8, 12], ids="stopped after {} steps".format)
def test_a_run_resumed_in_a_phase_equals_an_uninterrupted_one(
    tokens: Tokens, long_run: Result, tmp_path: Path, stop: int
) -> None:
    """Phases end at steps 8 and 15, the decay phase of the learning rate begins at 16."""
    config = replace(long_run.latest.config, dropout=0.1)  # type: ignore[type-var]
    stopped = trained(tokens, config, tmp_path, stop=StopAt(stop - 1), input_noise=0.1, log_interval=1)
    assert (stopped.stopped_by, stopped.latest.step) == ("signal", stop)
    notes: list[str] = []
    rest = {"max_iters": 20 - stop, "input_noise": 0.1, "log_interval": 1}
    resumed = trained(tokens, stopped.latest, tmp_path, notes, **rest)
    assert same(weights(resumed.latest), weights(long_run.latest))
    names = ["first"] * (stop < 8) + ["second"] + ["third"]
    assert [note.split()[3] for note in notes] == names, "the length is that of the run that started it, and nothing changed"


def test_the_factor_of_a_phase_applies_to_every_part_of_the_schedule(long_run: Result) -> None:
    rates = [line["lr"] for line in read_log(long_run.latest.path.parent / "log.jsonl")]
    plain = [0.01 * (step + 1) / 2 if step < 1 else 0.01 if step < 16 else 0.01 * (20 - step) / 4 for step in range(20)]
    assert rates == pytest.approx([rate * (1.2 if step < 8 else 1 if step < 15 else 0.5) for step, rate in enumerate(plain)])


def test_the_next_run_is_in_the_phase_of_the_stable_checkpoint(tokens: Tokens, long_run: Result, tmp_path: Path) -> None:
    facts = long_run.latest.metadata
    assert facts
    assert facts.curriculum
    assert [(phase.name, phase.start, phase.end) for phase in facts.curriculum.phases] == [
        ("first", 0, 8),
        ("second", 8, 15),
        ("third", 15, 20),
    ]
    assert "phases" not in facts.settings
    assert ("Curriculum", "first to step 8, second to step 15, then third") in training_settings_of(facts)  # in the card
    stable = resumable(long_run.latest.path.parent)[0]
    state = read_counters(stable)
    assert state
    assert (stable.step, state.curriculum) == (16, Curriculum(PHASES, 20))
    notes: list[str] = []
    trained(tokens, stable, tmp_path, notes, max_iters=6, input_noise=0.1)
    assert notes == ["step 16: phase third (3 of 3), to step 20 and after it: learning rate x 0.5"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"phases": None}, "phases were first, second, third and are now not given: from here on none applies."),
        (
            {"phases": (PHASES[0], replace(PHASES[1], learning_rate=2.0), replace(PHASES[2], weights=(("**", 2.0),)))},
            "phases have changed (learning_rate of second was 1 and is now 2; weights of third were none and are now **: 2): "
            "from here on, and step 16 is in phase third.",
        ),
        ({"phases": (Phase("only", 1.0),)}, "phases have changed (they were first, second, third and are now only): from"),
        (
            {"curriculum_iters": 200},
            "curriculum_iters was 20 and is now 200: the bounds of the phases change: step 16 is in phase first.",
        ),
    ],
    ids=["removed", "changed", "replaced", "longer"],
)
def test_changes_of_the_phases_are_said(tokens: Tokens, long_run: Result, changes: dict[str, Any], expected: str) -> None:
    notes: list[str] = []
    stable = resumable(long_run.latest.path.parent)[0]
    resume_run(stable, Data(tokens, []), training_settings(**{"phases": PHASES, "input_noise": 0.1, **changes}), notes.append)
    (note,) = notes
    assert note.startswith(expected)


def test_phases_without_weights_read_the_batches_of_a_run_without_phases(tokens: Tokens, small_config: GPT2Config) -> None:
    with_phases = new_run(small_config, Data(tokens, []), training_settings(phases=(Phase("a", 0.5, (), 2.0), Phase("b", 0.5))))
    without = new_run(small_config, Data(tokens, []), training_settings())
    assert torch.equal(with_phases.batches().at(3, 8, 9)[0], without.batches().at(3, 8)[0])
    weighted = new_run(small_config, Data(tokens, []), training_settings(phases=PHASES))
    assert not torch.equal(weighted.batches().at(3, 8, 0)[0], without.batches().at(3, 8)[0])
    assert torch.equal(weighted.batches().at(3, 8, 17)[0], without.batches().at(3, 8)[0])


def test_a_nanecho_resumed_while_a_phase_grows_its_connections_equals_an_uninterrupted_one(
    tokens: Tokens, tmp_path: Path
) -> None:
    phases = (Phase("a", 0.5, ((GLOB, 0.0),), connections=0.3), Phase("b", 0.5, connections=0.7))
    changes = {"phases": phases, "decay": 0.0, "eval_tokens": 512}
    long = trained(tokens, growing(20), tmp_path / "long", **changes)
    stopped = trained(tokens, growing(20), tmp_path / "short", stop=StopAt(5), **changes)
    assert 0.15 < masks(stopped.latest) < 0.3
    resumed = trained(tokens, stopped.latest, tmp_path / "short", **changes, max_iters=14)
    assert resumed.latest.step == 20
    assert same(weights(resumed.latest), weights(long.latest))
    assert masks(long.latest) == pytest.approx(0.7, abs=0.02)


def test_connections_are_never_removed_and_the_log_says_so(tokens: Tokens, tmp_path: Path) -> None:
    first = trained(tokens, growing(4), tmp_path, phases=None, decay=0.0, max_iters=4)
    notes: list[str] = []
    second = trained(tokens, first.latest, tmp_path, notes, phases=(Phase("a", 1.0, connections=0.2),), decay=0.0, max_iters=2)
    assert masks(second.latest) == masks(first.latest) > 0.2
    assert notes[0] == "phases were not given and are now a: from step 4 on."
    assert notes[1].endswith("connections to 20%; the model has 25% of its connections, and none are removed")
