"""The checkpoint and the training state that the next run starts from.

After a sound run it is the newest stable checkpoint; if the run ended early, the next one has other batches and at most
half of the learning rate. Otherwise the run is rolled back to the best stable checkpoint, which may
be the one that it started from, and the next run has other batches and at most half of the learning rate: no two runs compute
the same.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.copy_in import copy_checkpoint
from ..checkpoint.model_folder import ModelFolder, record
from ..checkpoint.select import branched_from, checkpoints, resumable
from ..report.log import warn
from ..training.async_checkpointer import AsyncCheckpointer
from ..training.run import Run
from ..training.run_end import RunEnd
from ..training.training_state import update_state
from .resume import set_aside_other_runs


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended. It started from `start` (None: a new model) with the validation loss `val_loss_before`.

    `begin` starts the same run again, which is used if it had no training state to roll back to.
    """

    run: Run
    output_dir: Path
    start: ModelFolder | None
    val_loss_before: float | None
    end: RunEnd
    begin: Callable[[], Run]

    def next_start(self) -> ModelFolder:
        """The checkpoint that the next run resumes from, with a training state that counts this run."""
        return self._move_on() if self.end.sound else self.roll_back(self.end.reason)

    @property
    def _runs_without_gain(self) -> int:
        """With this run; before the last phase of a curriculum none count, because what follows reads other text."""
        curriculum, begun = self.run.curriculum, self.start.step if self.start else 0
        is_counted = not self.end.gained and (curriculum is None or begun >= curriculum.bounds[-2])
        return self.run.runs_without_gain + 1 if is_counted else 0

    @property
    def _half_rate(self) -> float:
        return self.run.settings.learning_rate / 2

    def _move_on(self) -> ModelFolder:
        folder, latest = resumable(self.output_dir)[0], checkpoints(self.output_dir)[-1].metadata
        update_state(folder, runs_without_gain=self._runs_without_gain)
        if self.end.ended_early:
            update_state(folder, rollbacks=self.run.rollbacks + 1, max_learning_rate=self._half_rate)
        if latest and folder.metadata and latest.run_id == folder.metadata.run_id:
            # the stable checkpoint is from before the decay phase, whose losses count too
            folder = record(folder, overwrite=True, best_val_loss=latest.best_val_loss, best_step=latest.best_step)
        return folder

    def roll_back(self, reason: str) -> ModelFolder:
        """Set the checkpoints aside that are later than the one to resume from; returns that one."""
        folder = self._best_stable_checkpoint()
        set_aside_other_runs(self.output_dir, folder)
        if folder is None or not folder.has_training_state:
            folder = self._save_first_checkpoint()
        folder = copy_checkpoint(folder, self.output_dir)
        # the counters of the run: those in the folder may be of another corpus
        rate = self._half_rate
        update_state(
            folder,
            rollbacks=self.run.rollbacks + 1,
            max_learning_rate=rate,
            runs_without_gain=self._runs_without_gain,
            data_digest=self.run.data.tokens.digest,
        )
        warn(
            f"rolled back to step {folder.step}: {reason}. The next run resumes from there with other batches and a learning "
            f"rate of at most {rate:g}."
        )
        return folder

    def _best_stable_checkpoint(self) -> ModelFolder | None:
        """The stable checkpoint of the run with the lowest validation loss, if that is below the one before; else the start."""
        guessing = math.log(self.run.model.config.vocab_size)
        before = guessing if self.val_loss_before is None else self.val_loss_before
        begun = self.start.step if self.start else 0
        better = {
            facts.val_loss: folder
            for folder in checkpoints(self.output_dir)
            if branched_from(folder) is None
            and folder.has_training_state
            and (facts := folder.metadata)
            and facts.run_id == self.run.run_id
            and facts.step > begun
            and facts.val_loss is not None
            and facts.val_loss < before
        }
        return better[min(better)] if better else self.start

    def _save_first_checkpoint(self) -> ModelFolder:
        """Save the state before the first step of the run, so that the next run does not repeat it."""
        run = self.begin()
        saver = AsyncCheckpointer(self.output_dir, run.settings.keep_checkpoints, warn)
        saver.save(run)
        return saver.finish()
