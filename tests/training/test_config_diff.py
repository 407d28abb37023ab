from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data
from echoself_action.training.trainer import Callbacks, train
from tests.conftest import training_settings

ReportedChanges = Callable[[dict[str, Any], dict[str, Any]], list[str]]


@pytest.fixture
def reported(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> ReportedChanges:
    """The changes reported when a run with settings `before` is resumed with settings `after`."""

    def reported(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        run = new_run(small_config, Data(tokens, []), training_settings(**before))
        train(run, tmp_path, StopRequest(), Callbacks(lambda _: None, pytest.fail))
        notes: list[str] = []
        resume_run(resumable(tmp_path)[0], Data(tokens, []), training_settings(**after), notes.append)
        return notes

    return reported


def test_changes_without_effect_are_not_reported(reported: ReportedChanges) -> None:
    quiet = {"max_iters": 7, "max_minutes": 3, "warmup": 3, "eval_interval": 3, "checkpoint_interval": 2, "log_interval": 3}
    assert (
        reported({}, quiet | {"checkpoint_minutes": 3, "keep_checkpoints": 9, "batch_size": 2, "gradient_accumulation": 2})
        == []
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 2}, "seed was 1 and is now 2: batches and dropout differ"),
        ({"batch_size": 8}, "sequences_per_step was 4 and is now 8: a step sees more"),
        ({"dtype": "bfloat16"}, "dtype was float32 and is now bfloat16: results are rounded differently"),
        ({"learning_rate": 0.02}, "learning_rate was 0.01 and is now 0.02: from here on."),
        ({"decay": 0.5}, "decay was 0.2 and is now 0.5: the decay phase starts at a different step; the stable phase"),
        ({"weight_decay": 0}, "weight_decay was 0.1 and is now 0.0: from here on."),
        ({"grad_clip": 2}, "grad_clip was 1.0 and is now 2.0: from here on."),
        ({"eval_tokens": 512}, "eval_tokens was 1024 and is now 512: held-out losses are measured on different text"),
        ({"total_iters": 100}, "total_iters was not given and is now 100: the learning rate falls from 0.01 here"),
    ],
    ids=str,
)
def test_resume_reports_each_changed_setting_and_its_effect(
    reported: ReportedChanges, change: dict[str, Any], sentence: str
) -> None:
    [note] = reported({}, change)
    assert note.startswith(sentence)


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        ({"total_iters": 40}, []),
        ({"total_iters": 50}, ["total_iters was 40 and is now 50: the learning rate falls from 0.01 here to a tenth"]),
        ({}, ["total_iters was 40 and is now not given: the cosine decay continues to step 40, followed by a constant"]),
        (
            {"total_iters": 40, "learning_rate": 0.02},
            ["learning_rate was 0.01 and is now 0.02: ignored: the cosine decay to step 40 keeps its peak of 0.01"],
        ),
    ],
    ids=str,
)
def test_resume_keeps_a_cosine_schedule_or_reports_how_it_changes(
    reported: ReportedChanges, change: dict[str, Any], sentences: list[str]
) -> None:
    notes = reported({"total_iters": 40}, change)
    assert len(notes) == len(sentences)
    assert all(note.startswith(sentence) for note, sentence in zip(notes, sentences, strict=True))
