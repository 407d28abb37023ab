"""The learning phases of EchoSelf's trainer: which one applies at a step, and what is said about an imported checkpoint."""

from pathlib import Path

import pytest

from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.learning_phases import PHASES, original_meanings, phase_at, phase_text
from echoself_action.hub.cards.origin import origin_rows

from .foreign_files import save
from .nanecho_files import nanecho_checkpoint, state_dict


@pytest.mark.parametrize(
    ("step", "start", "name"),
    [
        (0, 0.0, "basic_awareness"),
        (
            20,
            0.0,
            "basic_awareness",
        ),  # their bounds overlap, and the first that matches applies: not persona_dimensions from 15
        (21, 0.2, "persona_dimensions"),
        (50, 0.2, "persona_dimensions"),
        (51, 0.5, "hypergraph_patterns"),
        (70, 0.5, "hypergraph_patterns"),
        (71, 0.7, "recursive_reasoning"),
        (85, 0.7, "recursive_reasoning"),
        (86, 0.85, "adaptive_mastery"),
        (100, 0.85, "adaptive_mastery"),
        (140, 0.85, "adaptive_mastery"),
    ],
)
def test_the_phase_at_a_step(step: int, start: float, name: str) -> None:
    assert phase_at(step, 100) == (start, next(phase for phase in PHASES if phase.name == name))


def test_a_phase_is_said_to_change_what_it_changes() -> None:
    text = phase_text(2_000, 5_000)
    assert text.startswith(
        "step 2,000 of max_iters 5,000 is in the learning phase persona_dimensions of its trainer (20% to 50%): "
    )
    assert "learning rate x 1, weight 2/11 for cognitive, introspective, adaptive, 1/11 for the other dimensions" in text
    assert "says nothing about what the model has learnt" in text
    assert "learning rate x 0.7, equal weights of all persona dimensions" in phase_text(5_000, 5_000)
    assert "the learning rate of its schedule, weight 2/9 for recursive" in phase_text(80, 100, scales_rate=False)


@pytest.mark.parametrize(
    ("layout", "phase"), [("train_nanecho", "hypergraph_patterns"), ("cache", "hypergraph_patterns"), ("native", "")]
)
def test_an_imported_checkpoint_keeps_its_phase_as_a_remark(layout: str, phase: str, tmp_path: Path) -> None:
    content = nanecho_checkpoint(layout, state_dict(), iteration=26)  # of max_iters 40
    notes: list[str] = []
    folder = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", None, notes.append)
    said = f"step 26 of max_iters 40 is in the learning phase {phase} of its trainer (50% to 70%)"
    facts = read_model_folder(folder.path).metadata
    assert facts
    assert facts.imported_from
    assert [remark for remark in facts.imported_from.remarks if said in remark] == (
        [remark for remark in notes if said in remark]
    )
    assert any(said in text for _, text in origin_rows(facts)) == bool(phase)


def test_the_documented_table_is_that_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()
    for phase in PHASES:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{phase.name}` |"))
        assert f"x {phase.rate_factor:.1f} |" in row
        assert all(name in row for name in phase.dimensions)
        assert f"{phase.end:.0%}".rstrip("%") in row or phase is PHASES[-1]


def test_phases_of_a_curriculum_that_have_their_names_are_explained() -> None:
    assert original_meanings(["warm", "cold"]) == ""
    text = original_meanings(["cold", "recursive_reasoning"])
    assert "recursive_reasoning: learning rate x 0.8, weight 2/9 for recursive, 1/9 for the other dimensions" in text
    assert "cold" not in text
    assert "says nothing about what the model has learnt" in text
