"""Weights of phases against the files of `data`: what ends a run before any work, and what the log says."""

import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.config.inputs import DEFAULT_CONFIG
from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.errors import InputError
from echoself_action.starting.corpus_files import require_files
from echoself_action.starting.tokenize_corpus import corpus_tokens
from echoself_action.starting.weighted_files import read_share

from ..conftest import SMALL, Cli


def inputs(*weights: dict[str, float], **others: Any) -> TrainInputs:
    phases = [{"name": f"p{n}", "share": 1 / len(weights), "weights": own} for n, own in enumerate(weights)]
    return TrainInputs(mode="train", data=["docs/*.md"], tokenizer="bytes", max_iters=9, phases=phases, **others)


def test_globs_that_match_no_file_end_the_run_before_any_work(workspace: Path) -> None:
    given = inputs({"docs/**": 2}, {"doc/**": 2, "docs/*.txt": 1})
    with pytest.raises(InputError) as caught:
        require_files(given)
    assert [problem.message for problem in caught.value.problems] == [
        "phases: phase p1: weights: 'doc/**' matches none of the 40 files of `data`.",
        "phases: phase p1: weights: 'docs/*.txt' matches none of the 40 files of `data`.",
    ]
    assert "such as docs/scene-01.md" in caught.value.problems[0].hint
    require_files(inputs({"docs/**": 2}))


def test_the_log_says_what_is_read_more_often_what_is_left_out_and_what_has_no_effect(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = inputs(
        {"docs/scene-0*.md": 0, "docs/*1.md": 2, "docs/scene-01.md": 3}, {"docs/scene-1*.md": 0, "docs/scene-0*.md": 0}
    )
    tokens = corpus_tokens(given, None)
    assert tokens.sources
    sizes = {source.name: source.tokens for source in tokens.sources}
    total = sum(sizes.values())
    zero = sum(size for name, size in sizes.items() if "scene-0" in name) / total
    double = sum(size for name, size in sizes.items() if name.endswith("1.md") and "scene-0" not in name) / total
    seen = 2 * double / (1 - zero + double)
    log = capsys.readouterr().out
    assert (
        f"phase p0: docs/scene-0*.md ({zero:.1%} of the training tokens) x 0: left out; docs/*1.md ({double:.1%} of the "
        f"training tokens) x 2: {seen:.1%} of the text that it reads; "
    ) in log
    assert "phase p0: without effect, because globs before them match the same files: docs/scene-01.md\n" in log
    assert read_share(given, tokens) == pytest.approx(1 - zero)  # p1 reads what p0 leaves out, but for these


def test_a_phase_that_reads_nothing_is_refused(workspace: Path) -> None:
    with pytest.raises(InputError, match="phases: phase p1: weights: 0 for all training text"):
        corpus_tokens(inputs({"docs/**": 2}, {"docs/**": 0}), None)


def test_connections_need_a_nanecho_and_log_summary_and_metadata_name_the_phases(
    echoself: Cli, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(DEFAULT_CONFIG).parent.mkdir()
    Path(DEFAULT_CONFIG).write_text("phases: [{name: first, share: 0.5, connections: 0.5}, {name: second}]\n")
    train = f"train --tokenizer bytes {SMALL} --data docs/*.md"
    echoself(train, code=2)
    assert "phase first: connections: the model is a GPT-2, and only a NanEcho has" in capsys.readouterr().err
    Path(DEFAULT_CONFIG).write_text("phases: [{name: first, share: 0.5, learning_rate: 0.5}, {name: second}]\n")
    model = Path(echoself(train)["model_dir"])
    log = capsys.readouterr().out
    assert "curriculum: 2 phases in 20 steps (max_iters of the run that starts it) from step 0 on: first to 10, second" in log
    assert log.index("step 0: phase first (1 of 2), to step 10: learning rate x 0.5\n") < log.index("step 10: phase second (2")
    assert "first to step 10, then second (2 of 2, the last, from step 10 on)" in (tmp_path / "summary.md").read_text()
    facts = json.loads((model / "training_metadata.json").read_text())
    assert [(phase["name"], phase["start"], phase["end"]) for phase in facts["curriculum"]["phases"]] == [
        ("first", 0, 10),
        ("second", 10, 20),
    ]
