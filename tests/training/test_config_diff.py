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

Said = Callable[[dict[str, Any], dict[str, Any]], list[str]]


@pytest.fixture
def said(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> Said:
    """What a run with some settings says that goes on from one with others, each beside the tests' own."""

    def said(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        run = new_run(small_config, Data(tokens, []), training_settings(**before))
        train(run, tmp_path, StopRequest(), Callbacks(lambda _: None, pytest.fail))
        notes: list[str] = []
        resume_run(resumable(tmp_path)[0], Data(tokens, []), training_settings(**after), notes.append)
        return notes

    return said


def test_what_changes_nothing_is_not_said(said: Said) -> None:
    quiet = {"max_iters": 7, "max_minutes": 3, "warmup": 3, "eval_interval": 3, "checkpoint_interval": 2, "log_interval": 3}
    assert said({}, quiet | {"checkpoint_minutes": 3, "keep_checkpoints": 9, "batch_size": 2, "gradient_accumulation": 2}) == []


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
def test_what_changes_the_result_is_said_with_what_it_does(said: Said, change: dict[str, Any], sentence: str) -> None:
    [note] = said({}, change)
    assert note.startswith(sentence)


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        ({"total_iters": 40}, []),
        ({"total_iters": 50}, ["total_iters was 40 and is now 50: the learning rate falls from 0.01 here to a tenth"]),
        ({}, ["total_iters was 40 and is now not given: the cosine to step 40 is finished, and a constant rate follows"]),
        (
            {"total_iters": 40, "learning_rate": 0.02},
            ["learning_rate was 0.01 and is now 0.02: the cosine to step 40 keeps its peak, 0.01"],
        ),
    ],
    ids=str,
)
def test_a_cosine_over_a_total_is_kept_or_what_comes_of_it_is_said(
    said: Said, change: dict[str, Any], sentences: list[str]
) -> None:
    notes = said({"total_iters": 40}, change)
    assert len(notes) == len(sentences)
    assert all(note.startswith(sentence) for note, sentence in zip(notes, sentences, strict=True))
