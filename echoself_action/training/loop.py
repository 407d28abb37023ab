"""The training loop: steps, evaluations, checkpoints, until the run has had its steps, its time, or a signal."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from ..checkpoint.atomic import remove_leftovers
from ..checkpoint.find import prune
from ..checkpoint.folder import ModelFolder
from ..checkpoint.metadata import Evaluation
from ..errors import TrainingError
from ..evaluation.loss import HeldOut
from .run import Run
from .schedule import plan
from .stop import StopRequest

StoppedBy = Literal["max_iters", "max_minutes", "signal"]
LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class Progress:
    """One logged step, and one line of log.jsonl. `loss` is the mean since the line before; `val_loss` where evaluated.

    Losses are nats per token; `elapsed_s` and `time_left_s` (an estimate) are of this run.
    """

    step: int
    end_step: int
    loss: float
    val_loss: float | None
    lr: float
    tokens_per_second: float
    elapsed_s: float
    time_left_s: float


@dataclass(frozen=True)
class Result:
    """What a run leaves. `start_val_loss` is of the model it began with, on the same text; None for a fresh one."""

    latest: ModelFolder
    start_step: int
    start_val_loss: float | None
    tokens_per_second: float
    elapsed_s: float
    stopped_by: StoppedBy


def train(
    run: Run, output_dir: Path, stop: StopRequest, on_progress: Callable[[Progress], None], started: float | None = None
) -> Result:
    """Take `run` on by `max_iters` steps, or until `max_minutes` since `started` (time.monotonic(); default: now).

    Raises TrainingError where the loss is no longer finite, and CheckpointError where a checkpoint can't be written; the
    checkpoints written before stay.
    """
    return _Loop(run, output_dir, stop, on_progress, time.monotonic() if started is None else started).train()


class _Loop:
    def __init__(
        self, run: Run, output_dir: Path, stop: StopRequest, on_progress: Callable[[Progress], None], started: float
    ) -> None:
        self.run, self.output_dir, self.stop, self.on_progress = run, output_dir, stop, on_progress
        self.started = time.monotonic()
        self.deadline = started + run.settings.max_minutes * 60 if run.settings.max_minutes else math.inf
        self.start_step, self.end_step = run.step, run.step + run.settings.max_iters
        self.elapsed_before = run.elapsed_s
        self.batches = run.batches()
        self.tokens_per_step = run.settings.sequences_per_step * run.model.config.block_size
        tokens = run.data.tokens
        self.held_out = HeldOut(tokens.val, run.model.config.block_size, run.settings.eval_tokens)
        self.loss_sum = torch.zeros((), device=run.precision.device)  # on the device: reading it makes a GPU wait
        self.norm_sum = torch.zeros((), device=run.precision.device)
        self.steps_summed = 0
        self.seconds_summed = 0.0  # spent in those steps, without evaluations and saves
        self.stepping_s = 0.0  # the same over the whole run
        self.longest_end_s = 0.0  # of an evaluation and a save, to be kept back from the budget
        self.saved: ModelFolder | None = None

    def train(self) -> Result:
        run, settings = self.run, self.run.settings
        self.output_dir.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.output_dir)
        if run.step and run.val_loss is None:
            run.val_loss = self._held_out_loss()
            self._note_if_best(run.val_loss)
        start_val_loss = run.val_loss if run.step else None
        run.model.train()
        stopped_by: StoppedBy | None = None
        while stopped_by is None:
            began = time.monotonic()
            self._step()
            self.seconds_summed += time.monotonic() - began
            stopped_by = self._reason_to_stop()
            last = stopped_by is not None
            if last or run.step % settings.eval_interval == 0 or run.step % settings.checkpoint_interval == 0:
                self._evaluate_and_save(last)
            elif run.step % settings.log_interval == 0:
                self._log(None)
        assert self.saved is not None
        return Result(
            latest=self.saved,
            start_step=self.start_step,
            start_val_loss=start_val_loss,
            tokens_per_second=(run.step - self.start_step) * self.tokens_per_step / self.stepping_s,
            elapsed_s=time.monotonic() - self.started,
            stopped_by=stopped_by,
        )

    def _step(self) -> None:
        run, settings = self.run, self.run.settings
        if run.step >= run.schedule.end:
            run.schedule = plan(run.step, self.end_step - run.step, settings.warmup, settings.learning_rate)
        device = run.precision.device
        run.model.advance(run.step)
        for _ in range(settings.gradient_accumulation):
            ids, targets = self.batches.at(run.sequences_seen, settings.batch_size)
            torch.manual_seed(_random_seed(settings.seed, run.sequences_seen))
            with run.precision.autocast():
                loss = run.model.loss(ids.to(device), targets.to(device)) / settings.gradient_accumulation
            loss.backward()  # type: ignore[no-untyped-call]
            self.loss_sum += loss.detach()
            run.sequences_seen += settings.batch_size
        self.norm_sum += torch.nn.utils.clip_grad_norm_(run.model.parameters(), settings.grad_clip or math.inf)
        for group in run.optimizer.param_groups:
            group["lr"] = run.schedule.learning_rate(run.step)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
        run.tokens_seen += self.tokens_per_step
        self.steps_summed += 1

    def _reason_to_stop(self) -> StoppedBy | None:
        if self.stop.requested:
            return "signal"
        if self.run.step >= self.end_step:
            return "max_iters"
        if time.monotonic() + 1.5 * self.longest_end_s >= self.deadline:
            return "max_minutes"
        return None

    def _evaluate_and_save(self, last: bool) -> None:
        run, settings = self.run, self.run.settings
        began = time.monotonic()
        improved = False
        # whoever asks a run to stop gives it seconds: they are for the save
        evaluate = not self.stop.requested and (last or run.step % settings.eval_interval == 0)
        train_loss = self._mean_loss()
        val_loss = self._held_out_loss() if evaluate else None
        if val_loss is not None:
            improved = self._note_if_best(val_loss)
            run.evaluations.append(Evaluation(step=run.step, train_loss=train_loss, val_loss=val_loss))
        run.val_loss = val_loss
        self._log(val_loss)
        if last or improved or run.step % settings.checkpoint_interval == 0:
            run.elapsed_s = self.elapsed_before + time.monotonic() - self.started
            self.saved = run.save(self.output_dir)
            prune(self.output_dir, settings.keep_checkpoints)
        self.longest_end_s = max(self.longest_end_s, time.monotonic() - began)

    def _note_if_best(self, val_loss: float) -> bool:
        run = self.run
        if run.best_val_loss is not None and val_loss >= run.best_val_loss:
            return False
        run.best_val_loss, run.best_step = val_loss, run.step
        return True

    def _held_out_loss(self) -> float:
        return self._finite(self.held_out.loss(self.run.model), "validation loss")

    def _mean_loss(self) -> float:
        self._finite(self.norm_sum.item(), "gradient norm")
        return self._finite(self.loss_sum.item() / self.steps_summed, "training loss")

    def _finite(self, value: float, name: str) -> float:
        if math.isfinite(value):
            return value
        kept = f"{self.saved.path} is the last good checkpoint" if self.saved else "No checkpoint was written by this run"
        raise TrainingError(
            f"The {name} became {value} at or before step {self.run.step}; training was ended. {kept}.",
            "Lower learning_rate, set grad_clip, or use dtype: float32, and start the run again.",
        )

    def _log(self, val_loss: float | None) -> None:
        run = self.run
        run.train_loss = self._mean_loss()
        self.stepping_s += self.seconds_summed
        elapsed = time.monotonic() - self.started
        done = run.step - self.start_step
        remaining_s = (self.end_step - run.step) * elapsed / done
        progress = Progress(
            step=run.step,
            end_step=self.end_step,
            loss=run.train_loss,
            val_loss=val_loss,
            lr=run.schedule.learning_rate(run.step - 1),
            tokens_per_second=self.steps_summed * self.tokens_per_step / self.seconds_summed,
            elapsed_s=elapsed,
            time_left_s=max(0.0, min(remaining_s, self.deadline - time.monotonic())),
        )
        with (self.output_dir / LOG_FILE).open("a", encoding="utf-8") as file:
            line = {name: value for name, value in asdict(progress).items() if value is not None}
            file.write(json.dumps(line) + "\n")
        self.loss_sum.zero_()
        self.norm_sum.zero_()
        self.steps_summed = 0
        self.seconds_summed = 0.0
        self.on_progress(progress)


def _random_seed(seed: int, position: int) -> int:
    """Dropout, too, is a function of where the run stands, so there is no random state to save."""
    return int.from_bytes(hashlib.blake2b(f"dropout {seed} {position}".encode(), digest_size=7).digest())
