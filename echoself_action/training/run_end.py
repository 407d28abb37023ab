"""How a run ended, and whether another one is worth its time.

A run is sound unless it diverged, or its last model is significantly worse than the one it started from. After a run without a
gain, the stable checkpoint to resume from must not be significantly worse either: a decay phase hides that a model memorises.
"""

import math
from dataclasses import dataclass
from typing import Any

from .. import evaluation
from ..checkpoint.metadata import Metadata, loss_text
from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.select import branched_from
from ..evaluation.held_out import read_held_out
from .result import Result
from .run import Run
from .settings import TrainingInputs
from .training_state import TrainingState


@dataclass(frozen=True)
class RunEnd:
    """Whether a run was sound, and the reason if not.

    `gained`: it reached a new lowest validation loss. `ended_early`: its validation loss rose, so that its learning rate was
    too high for this corpus.
    """

    sound: bool
    gained: bool
    reason: str
    ended_early: bool = False


def end_of(
    run: Run, start: ModelFolder | None, result: Result | None, newest_stable: ModelFolder | None, diverged: str
) -> RunEnd:
    """The end of `run` from `start` (None: a new model). `result` is None if it `diverged`, which is the message.

    `newest_stable` is the newest checkpoint before its decay phase.
    """
    if result is None:
        return RunEnd(False, False, diverged)
    facts = result.latest.metadata
    assert facts
    gained = facts.best_val_loss is not None and (
        result.best_before is None or facts.best_val_loss < result.best_before.val_loss
    )
    reason = _worse_than_start(start, result, facts, run.model.config.vocab_size)
    if not reason and not gained and start and newest_stable and branched_from(start) is None:
        worse = _significantly_worse(newest_stable, start, result)
        reason = f"the model before the decay phase is significantly worse than at the start: {worse}" if worse else ""
    return RunEnd(not reason, gained, reason, result.stopped_by == "early_stopping")


def _worse_than_start(start: ModelFolder | None, result: Result, facts: Metadata, vocab_size: int) -> str:
    """Why the last model, of which `facts` are, is significantly worse than the first; "" if it is not, or not evaluated."""
    before, loss = result.start_val_loss, facts.val_loss
    if loss is None:
        return ""
    if start is None or before is None:
        guessing = math.log(vocab_size)
        if loss <= guessing:
            return ""
        guessed = loss_text(guessing, facts.bytes_per_token)
        return f"its validation loss of {facts.val_loss_text} is above that of guessing, {guessed}"
    worse = _significantly_worse(result.latest, start, result) if loss > before else ""
    return f"it ended significantly worse than it started: {worse}" if worse else ""


def _significantly_worse(folder: ModelFolder, start: ModelFolder, result: Result) -> str:
    """The difference of the two on the held-out text of the run, if `folder` is significantly worse; else ""."""
    windows = read_held_out(result.latest.path)
    if not windows or folder.path == start.path:
        return ""
    difference = evaluation.compare(evaluation.load_language_model(folder), evaluation.load_language_model(start), windows)
    return str(difference) if difference.low > 0 else ""


def converged(facts: Metadata | None, state: TrainingState | None, data_digest: str, settings: TrainingInputs[Any]) -> str:
    """Why no more steps are trained from a checkpoint with this metadata and state on this corpus; "" if they are.

    `settings` have `patience` and `phases`: with other phases it is trained on.
    """
    patience = settings.patience
    if (
        state is None
        or (state.curriculum.phases if state.curriculum else None) != settings.phases
        or not patience
        or state.runs_without_gain < patience
        or state.data_digest != data_digest
    ):
        return ""
    best = ""
    if facts and facts.best_val_loss is not None:
        best = f", {loss_text(facts.best_val_loss, facts.bytes_per_token)} at step {facts.best_step}"
    return f"{state.runs_without_gain} runs in a row on this corpus did not reach a validation loss below the lowest{best}"
