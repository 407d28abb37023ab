"""The training loop: steps, evaluations and checkpoints, until max_iters, max_minutes or a signal ends the run."""

import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import torch

from ..checkpoint.architectures import architecture_of
from ..checkpoint.atomic import remove_leftovers, set_aside
from ..checkpoint.metadata import Evaluation, bits_per_byte
from ..checkpoint.select import branched_from, checkpoints
from ..errors import DivergedError, is_out_of_memory
from ..evaluation.loss import HeldOut, bytes_per_token
from ..model.gpt2 import GPT2
from ..workspace import create_output_dir
from .async_checkpointer import AsyncCheckpointer
from .compile import Compiler
from .early_stopping import EarlyStopping, RewindPoint
from .intervals import NEVER, fitted, intervals_of
from .memory import keep_freed_memory, out_of_memory, release_freed_memory, smaller_batches
from .meters import LossMeter, SpeedMeter
from .optim.schedule import plan_decay
from .phases import Phase
from .precision import CudaThrottle
from .result import LOG_FILE, Callbacks, Progress, Result, StoppedBy, StopRequest
from .run import Run
from .time_estimate import TimeEstimate
from .train_step import Stepper

_FITS_INTERVALS_AFTER = (3, 10, 30, 100, 300)  # steps of a run
_SAFETY_FACTOR = 1.5  # on the measured time of the last evaluation and save


def train(run: Run, output_dir: Path, stop: StopRequest, callbacks: Callbacks, started: float | None = None) -> Result:
    """Train `run` for `max_iters` steps, or until `max_minutes` after `started` (time.monotonic(); default: now).

    Raises DivergedError if a loss is not finite, TrainingError if a step runs out of memory, and CheckpointError if the last
    checkpoint can't be written. Earlier checkpoints are kept.
    """
    try:
        return _Trainer(run, output_dir, stop, callbacks, time.monotonic() if started is None else started).train()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(run, error) from error


def train_as_worker(run: Run, stop: StopRequest) -> None:
    """Take the same steps as the main process, which alone writes checkpoints, logs, and checks the time limit."""
    _Trainer(run, Path(), stop, Callbacks(lambda _: None, lambda _: None), time.monotonic()).take_steps()


class _Trainer:
    def __init__(self, run: Run, output_dir: Path, stop: StopRequest, callbacks: Callbacks, started: float) -> None:
        self.run, self.output_dir, self.stop, self.callbacks = run, output_dir, stop, callbacks
        settings = run.settings
        self.started = time.monotonic()
        self.deadline = started + settings.max_minutes * 60 if settings.max_minutes and run.process_group.is_main else math.inf
        self.start_step, self.end_step = run.step, run.step + (settings.max_iters or NEVER)
        run.schedule = plan_decay(run.schedule, run.step, settings.max_iters, settings.decay)
        if run.schedule.decays_from(run.step) is not None:
            self.end_step = min(self.end_step, run.schedule.end)
        planned = self.end_step - run.step
        self.estimate = TimeEstimate(planned if planned < NEVER else None, settings.max_minutes, callbacks.note)
        self.intervals = intervals_of(settings)
        self.elapsed_before = run.elapsed_s
        self.stepper = Stepper(run, run.batches())
        self.compiler = Compiler(run, self.stepper.compile, self.stepper.use_eager, callbacks)
        self.throttle = CudaThrottle(run.precision.device)
        self.tokens_per_step = settings.sequences_per_step * run.model.config.block_size
        self.held_out = HeldOut(run.data.tokens.val, run.model.config.block_size, settings.eval_tokens)
        if run.process_group.is_main:
            run.bytes_per_token = bytes_per_token(run.data.tokens.tokenizer, self.held_out.windows(), run.model.label_shift)
        self.checkpointer = AsyncCheckpointer(output_dir, settings.keep_checkpoints, callbacks.warn, run.step)
        self.loss_sum = torch.zeros((), device=run.precision.device)  # on the device, because reading it synchronises
        self.norm_sum = torch.zeros((), device=run.precision.device)
        self.steps_summed = 0
        self.loss_meter, self.speed = LossMeter(settings.log_interval or 10), SpeedMeter(self.tokens_per_step)
        self.fastest_s = math.inf  # of a step
        self.evaluating_s = self.longest_evaluation_s = self.latest_evaluation_s = 0.0
        self.saved_step = run.step if run.step else None
        self.start_val_loss: float | None = None
        self.best_before: Evaluation | None = None
        self.out_of_time = self.ends_early = False
        self.early_stopping = EarlyStopping(settings.early_stopping)
        self.noted_phase: Phase | None = None

    def train(self) -> Result:
        create_output_dir(self.output_dir)
        remove_leftovers(self.output_dir)
        stopped_by = self.take_steps()
        tokens_per_second = self.speed.of_run
        return Result(
            latest=self.checkpointer.finish(tokens_per_second=tokens_per_second),
            start_step=self.start_step,
            start_val_loss=self.start_val_loss,
            best_before=self.best_before,
            tokens_per_second=tokens_per_second,
            mfu=self._mfu(tokens_per_second),
            elapsed_s=time.monotonic() - self.started,
            evaluating_s=self.evaluating_s,
            saving_s=self.checkpointer.waited_s,
            compiling_s=self.compiler.seconds,
            planned_steps=self.estimate.planned or 0,
            stopped_by=stopped_by,
        )

    def _mfu(self, tokens_per_second: float) -> float | None:
        run, peak = self.run, self.run.precision.peak
        flops = architecture_of(run.model.config).config.flops_per_token(run.model.config)
        return tokens_per_second * flops / (peak * run.process_group.world_size) if peak and flops else None

    def take_steps(self) -> StoppedBy:
        run = self.run
        is_trained = bool(run.step or run.init_from)
        if is_trained and run.val_loss is None:
            run.val_loss = self._held_out_loss()
            self._update_best(run.val_loss)
        self.start_val_loss = run.val_loss if is_trained else None
        if is_trained and run.best_val_loss is not None:
            self.best_before = Evaluation(step=run.best_step or 0, val_loss=run.best_val_loss)
        run.model.train()
        stopped_by: StoppedBy | None = None
        with keep_freed_memory():
            self.compiler.compile()
            while stopped_by is None:
                self._start_decay_if_due()
                self._note_phase()
                began = time.monotonic()
                self._step()
                is_whole_step = self.throttle.after_step_submitted(self._is_report_step())
                took = time.monotonic() - began
                self.speed.add(took)
                self.fastest_s = min(self.fastest_s, took) if is_whole_step else self.fastest_s
                if run.step - self.start_step in _FITS_INTERVALS_AFTER:
                    self._fit_intervals()
                stopped_by = self._reason_to_stop()
                self._evaluate_log_save(stopped_by)
        return stopped_by

    def _start_decay_if_due(self) -> None:
        """Start the decay phase at its planned step, when the time left is just enough for it, or when the run should end.

        If the decay phase turns out to take longer than the time left, it is shortened, so that the run ends fully decayed.
        """
        run = self.run
        if run.schedule.shape != "linear":
            return
        affordable = self._affordable_steps()
        if run.schedule.decays_from(run.step) is not None:
            if affordable < self.end_step - run.step:
                self._run_out_of_time(affordable, "the decay phase is shortened")
                run.schedule = run.schedule.with_decay(run.schedule.decay_start, self.end_step)
            return
        is_planned, wanted = run.step == run.schedule.decay_start, self._decay_steps()
        if not is_planned and not self.ends_early and affordable >= wanted:
            return
        if is_planned or affordable >= wanted:
            self.end_step = run.schedule.end if is_planned else min(self.end_step, run.step + wanted)
        else:
            self._run_out_of_time(affordable, "decaying now")
        if point := self.early_stopping.rewind_point:
            now = Evaluation(step=run.step, train_loss=run.train_loss, val_loss=self._loss_now())
            if self.early_stopping.is_above(now.val_loss):
                steps = self.end_step - run.step
                self.callbacks.warn(self.early_stopping.reason(now, run.bytes_per_token))
                self._rewind(point)
                self.end_step = run.step + min(steps, self._decay_steps())
        run.schedule = run.schedule.with_decay(run.step, self.end_step)
        if self.saved_step != run.step:
            if self.steps_summed:  # the checkpoint records the loss of its own steps
                self._measure_train_loss()
                self._log(None)
            self._save()  # the stable checkpoint, from which the next run resumes

    def _note_phase(self) -> None:
        """Log the phase of the curriculum if the next step begins one, or is the first of the run."""
        run = self.run
        if run.curriculum and (phase := run.curriculum.phase(run.step)) != self.noted_phase:
            reached = None if isinstance(run.model, GPT2) else run.model.connections
            more = reached is not None and phase.connections is not None and reached > phase.connections
            kept = f"; the model has {reached:.0%} of its connections, and none are removed" if more else ""
            self.callbacks.note(f"step {run.step:,}: {run.curriculum.text(run.step)}{kept}")
            self.noted_phase = phase

    def _loss_now(self) -> float:
        """The validation loss at this step, which is not recorded if it is not due: a resumed run need not measure it."""
        last = self.run.evaluations[-1]
        return last.val_loss if last.step == self.run.step else self._held_out_loss()

    def _decay_steps(self) -> int:
        """The length of a decay phase that starts now: the fraction `decay` of the whole run."""
        decay = self.run.settings.decay
        return max(1, round((self.run.step - self.start_step) * decay / (1 - decay)))

    def _affordable_steps(self) -> float:
        """The steps that the time left is enough for; infinite without max_minutes, and as long as no step was timed."""
        if not self.run.settings.max_minutes or self.run.step - self.start_step <= 1:
            return math.inf
        return max(1, int(self.run.process_group.min(self._time_left() / self.speed.seconds_per_step)))

    def _run_out_of_time(self, affordable: float, consequence: str) -> None:
        self.end_step = self.run.step + int(affordable)
        if not self.out_of_time:
            self.estimate.ends_early(self.end_step - self.start_step, consequence)
        self.out_of_time = True

    def _rewind(self, point: RewindPoint) -> None:
        """Take the run back to its lowest validation loss, and set the later checkpoints of its stable phase aside."""
        run = self.run
        self.ends_early = True
        point.restore(run)
        self.saved_step = None
        self.checkpointer.wait()
        if run.process_group.is_main:
            for folder in checkpoints(self.output_dir):
                if folder.step > run.step and branched_from(folder) is None:
                    self.callbacks.note(f"{folder.path}, from after step {run.step}, was renamed to {set_aside(folder.path)}")

    def _fit_intervals(self) -> None:
        """Choose the intervals that are not set, by how many steps this run is expected to take."""
        done, step_s = self.run.step - self.start_step, min(self.fastest_s, self.speed.seconds_per_step)
        evaluation_s, group = self.latest_evaluation_s or self._evaluation_s(), self.run.process_group
        affordable, step_s, evaluation_s = map(group.min, (self._time_left() / step_s, step_s, evaluation_s))
        steps = min(self.end_step - self.start_step, done + max(0.0, affordable))
        self.intervals = fitted(self.intervals, self.run.settings, steps, step_s, evaluation_s)

    def _step(self) -> None:
        run = self.run
        position, before = run.sequences_seen, self.loss_sum.clone()
        memory_exhausted = False
        try:
            self.loss_sum += self.stepper.gradients()
        except Exception as error:
            if run.sharded or not is_out_of_memory(error):  # other processes wait in a collective
                raise
            smaller_batches(run, error)
            memory_exhausted = True
        # outside the handler: the traceback keeps the tensors of the failed step alive
        if run.process_group.any(memory_exhausted)[0]:
            self.stepper.forget()
            run.sequences_seen, self.loss_sum = position, before
            run.settings = smaller_batches(run, MemoryError())
            release_freed_memory()
            self.callbacks.warn(
                f"Step {run.step + 1} ran out of memory. Training continues with batch_size: {run.settings.batch_size} and "
                f"gradient_accumulation: {run.settings.gradient_accumulation}, which gives the same result."
            )
            self.compiler.compile()
            self.loss_sum += self.stepper.gradients()
        if not run.sharded:
            run.process_group.average_gradients(run.model.parameters())
        run.optimizer.set_learning_rate(run.learning_rate(run.step))
        self.norm_sum += self.stepper.update()
        run.optimizer.zero_grad()
        run.step += 1
        run.tokens_seen += self.tokens_per_step
        self.steps_summed += 1

    def _reason_to_stop(self) -> StoppedBy | None:
        late = self._time_left() <= self.speed.seconds_per_step
        if self.run.step == self.start_step + 1:  # the first step includes warm-up, so its time is no estimate
            late = time.monotonic() >= self.deadline
        requested, late = self.run.process_group.any(self.stop.requested, late)
        if requested:
            return "signal"
        if self.run.step >= self.end_step:
            return "early_stopping" if self.ends_early else "max_minutes" if self.out_of_time else "max_iters"
        # a decay phase is not cut off: _start_decay_if_due shortens it before the next step
        if late and self.run.schedule.decays_from(self.run.step) is None:
            self.estimate.ends_early(self.run.step - self.start_step, "ending now")
            return "max_minutes"
        return None

    def _is_report_step(self) -> bool:
        """Whether this step is due to be evaluated, saved or logged, by its number."""
        return self.run.step >= self.end_step or self.intervals.are_due(self.run.step)

    def _evaluate_log_save(self, stopped_by: StoppedBy | None) -> None:
        """Evaluate, log and save after a step, as far as they are due."""
        run, settings = self.run, self.run.settings
        last = stopped_by is not None
        evaluates = last or run.step % self.intervals.evaluate == 0
        saves = last or run.step % self.intervals.save == 0
        if settings.checkpoint_minutes:
            (saves,) = run.process_group.any(
                saves or time.monotonic() - self.checkpointer.last_at >= 60 * settings.checkpoint_minutes
            )
        # after a signal there may be only seconds left, which the save needs
        if evaluates and stopped_by != "signal":
            self._measure_train_loss()
            run.val_loss = val_loss = self._held_out_loss()
            improved = self._update_best(val_loss)
            run.evaluations.append(Evaluation(step=run.step, train_loss=run.train_loss, val_loss=val_loss))
            self._end_early_if_worse()
            self._log(val_loss)
            saves = saves or improved
        else:
            run.val_loss = None
            if saves or run.step % self.intervals.log == 0:
                self._measure_train_loss()
                self._log(None)
        if saves:
            self._save()

    def _save(self) -> None:
        run = self.run
        run.elapsed_s = self.elapsed_before + time.monotonic() - self.started
        run.tokens_per_second = self.speed.of_run or None
        self.checkpointer.save(run)
        self.saved_step = run.step

    def _time_left(self) -> float:
        """Seconds left for steps: time to the deadline, minus the expected time of the last evaluation and save."""
        evaluating = self._evaluation_s()
        saving = self.checkpointer.longest_s or self.run.model.parameter_count() * 12 / 1e8  # weights and moments at 100 MB/s
        return self.deadline - time.monotonic() - _SAFETY_FACTOR * (evaluating + saving)

    def _evaluation_s(self) -> float:
        """The expected time of an evaluation."""
        # a forward pass is a third of a step's work; half leaves a margin
        return self.longest_evaluation_s or self.held_out.positions / self.tokens_per_step * self.fastest_s / 2

    def _update_best(self, val_loss: float) -> bool:
        run = self.run
        if run.best_val_loss is not None and val_loss >= run.best_val_loss:
            return False
        run.best_val_loss, run.best_step = val_loss, run.step
        return True

    def _end_early_if_worse(self) -> None:
        """End the stable phase if the validation loss has risen. A cosine keeps its length."""
        run = self.run
        if run.schedule.shape != "linear" or self.ends_early or run.schedule.decays_from(run.step) is not None:
            return
        if self.early_stopping.ends(run, self.start_val_loss):
            self.ends_early = True
            if not self.early_stopping.rewind_point:
                self.callbacks.warn(self.early_stopping.reason(run.evaluations[-1], run.bytes_per_token))

    def _held_out_loss(self) -> float:
        process_group, began = self.run.process_group, time.monotonic()
        total, count = process_group.sum(*self.held_out.sums(self.run.model, process_group.rank, process_group.world_size))
        took = time.monotonic() - began
        self.evaluating_s += took
        self.latest_evaluation_s = took  # the first one takes longer
        self.longest_evaluation_s = max(self.longest_evaluation_s, took)
        return self._require_finite(total / count, "validation loss")

    def _measure_train_loss(self) -> None:
        """Read the loss of the steps since the last log line from the device. Collective."""
        self._require_finite(self.norm_sum.item(), "gradient norm")
        (total,) = self.run.process_group.sum(self.loss_sum.item())
        total = self._require_finite(total / self.run.process_group.world_size, "training loss")
        self.run.train_loss = self.loss_meter.add(total, self.steps_summed)
        self.loss_sum.zero_()
        self.norm_sum.zero_()
        self.steps_summed = 0

    def _require_finite(self, value: float, name: str) -> float:
        if math.isfinite(value):
            return value
        self.checkpointer.wait()
        saved = self.checkpointer.saved
        kept = f"{saved.path} is the last good checkpoint" if saved else "No checkpoint was written by this run"
        raise DivergedError(
            f"The {name} became {value} at or before step {self.run.step}; training stopped. {kept}.",
            "Lower learning_rate, set grad_clip, or use dtype: float32, and start the run again.",
        )

    def _log(self, val_loss: float | None) -> None:
        run = self.run
        assert run.train_loss is not None
        elapsed = time.monotonic() - self.started
        done = run.step - self.start_step
        seconds_per_step = self.estimate.seconds_per_step(done, elapsed - self.compiler.seconds)
        end_step = self.end_step
        decays = run.schedule.shape == "linear" and run.step >= run.schedule.decay_start  # and is then not cut off
        if not decays and not self.out_of_time:
            end_step = self.start_step + self.estimate.steps_that_fit(done, end_step - self.start_step, self._time_left())
        remaining_s = (end_step - run.step) * seconds_per_step
        progress = Progress(
            step=run.step,
            end_step=end_step,
            loss=run.train_loss,
            val_loss=val_loss,
            lr=run.learning_rate(run.step - 1),
            tokens_per_second=self.speed.of_line(),
            elapsed_s=elapsed,
            time_left_s=max(0.0, min(remaining_s, self.deadline - time.monotonic())),
            bits_per_byte=bits_per_byte(val_loss, run.bytes_per_token),
        )
        if run.process_group.is_main:
            self._append_to_log(progress)
        self.callbacks.progress(progress)

    def _append_to_log(self, progress: Progress) -> None:
        """Append a line to the log file. If that fails, warn and continue."""
        line = {name: value for name, value in asdict(progress).items() if value is not None}
        try:
            with (self.output_dir / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            self.callbacks.warn(f"Step {progress.step} could not be written to {LOG_FILE}: {error}. Training continues.")
