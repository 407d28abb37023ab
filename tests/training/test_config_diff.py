from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.split import is_validation
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokens import Tokens
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.config_diff import changes
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data, Run
from echoself_action.training.trainer import Callbacks, train
from echoself_action.training.training_state import TrainingState
from tests.conftest import SCENES, training_settings

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
        ({"input_noise": 0.1}, "input_noise was 0.0 and is now 0.1: from here on."),
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


Resumed = Callable[..., tuple[Run, list[str]]]


@pytest.fixture
def resumed(small_config: GPT2Config, tmp_path: Path) -> Resumed:
    """Resume a run that was trained on the scenes, with a val_fraction of 0.1, on `files`; returns the changes too."""

    def data(files: list[Path], val_fraction: float) -> Data:
        tokenizer = make_tokenizer("bytes", lambda: iter(()))
        return Data(prepare_tokens(files, tokenizer, tmp_path / "cache", val_fraction, "fail", pytest.fail), [])

    def resumed(files: list[Path], val_fraction: float = 0.1, before: float = 0.1, **settings: Any) -> tuple[Run, list[str]]:
        run = new_run(small_config, data(SCENES, before), training_settings())
        train(run, tmp_path / "out", StopRequest(), Callbacks(lambda _: None, pytest.fail))
        notes: list[str] = []
        settings_now = training_settings(**settings)
        run = resume_run(resumable(tmp_path / "out")[0], data(files, val_fraction), settings_now, notes.append)
        return run, notes

    return resumed


def _training_document(folder: Path) -> Path:
    path = folder / "more.md"
    path.write_text(next(text for text in (f"More text {i}.\n" * 9 for i in range(99)) if not is_validation(text, 0.1)))
    return path


def test_a_grown_corpus_with_the_same_held_out_text_keeps_its_best(resumed: Resumed, tmp_path: Path) -> None:
    run, notes = resumed([*SCENES, _training_document(tmp_path)])
    assert notes == [
        "the training text has changed: batches differ from here on. The held-out text is the same, so losses are comparable "
        "with those of earlier runs."
    ]
    known = resumable(tmp_path / "out")[0].metadata
    assert known
    assert known.best_step == run.best_step == 10
    assert known.best_val_loss == run.best_val_loss


def test_a_best_on_another_held_out_text_is_not_kept(resumed: Resumed) -> None:
    for files, changed in ((SCENES[1:20], {}), (SCENES, {"eval_tokens": 512}), (SCENES, {"val_fraction": 0.2})):
        run, _ = resumed(files, **changed)
        assert (run.val_loss, run.best_val_loss, run.best_step) == (None, None, None)


def test_raising_val_fraction_says_that_the_new_held_out_text_was_trained_on(resumed: Resumed) -> None:
    assert resumed(SCENES, 0.2)[1] == [
        "val_fraction was 0.1 and is now 0.2: more documents are held out, and this model has already been trained on those: "
        "its held-out loss is too low. Set val_fraction: 0.1 again, or train a new model."
    ]


def test_lowering_val_fraction_says_what_is_trained_on(resumed: Resumed) -> None:
    [note] = resumed(SCENES, 0.1, before=0.2)[1]
    assert note.startswith("val_fraction was 0.2 and is now 0.1: some of the documents that were held out are trained on from")


def test_other_held_out_text_is_reported(resumed: Resumed) -> None:
    [note] = resumed(SCENES[1:20])[1]
    assert note.startswith("the corpus has changed: batches and the held-out text differ from here on, so losses are not")


def test_a_checkpoint_of_an_older_version_is_not_said_to_have_other_text(tokens: Tokens, small_config: GPT2Config) -> None:
    run = new_run(small_config, Data(tokens, []), training_settings())
    older = run.state().model_dump(exclude={"val_digest", "val_fraction"}) | {"data_digest": "of an older version"}
    [note] = changes(TrainingState(**older), run.settings.record(), run.state(), run.settings, 0)
    assert note.startswith("the corpus has changed, or a newer version splits and tokenizes it differently: batches differ")
