"""Learning-rate schedules. Steps are counted over all runs of a model.

Warmup-stable-decay (WSD; Hu et al. 2024, arXiv 2404.06395; Hägele et al. 2024, arXiv 2405.18392): linear warmup once, then a
constant rate. Each run ends with a decay phase, in which the rate falls linearly to zero; the decayed model is published, and
the next run resumes from the stable checkpoint before the decay phase. Or, over a fixed total number of steps: cosine decay to
a tenth of the peak (Loshchilov & Hutter 2017, as in GPT-3).
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

FLOOR = 0.1  # the final rate of a cosine, as a fraction of the peak


@dataclass(frozen=True)
class Schedule:
    """From step `start`, `warmup` steps of linear warmup to `peak`; constant until `decay_start`; then decay until `end`.

    `shape` is the decay: `linear` to zero, or `cosine` to a tenth of the peak, which is then kept.
    """

    start: int
    warmup: int
    peak: float
    decay_start: int
    end: int
    shape: Literal["linear", "cosine"]

    def learning_rate(self, step: int) -> float:
        """The learning rate of the update from `step` to `step + 1`."""
        progress = min(1.0, max(0.0, (step - self.decay_start) / max(1, self.end - self.decay_start)))
        if self.shape == "linear":  # a run may be too short for its warmup: it decays from the rate that it has reached
            return self._warmed_up(min(step, self.decay_start)) * (1 - progress)
        if step - self.start < self.warmup:
            return self._warmed_up(step)
        return self.peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))

    def _warmed_up(self, step: int) -> float:
        done = step - self.start
        return self.peak * (done + 1) / (self.warmup + 1) if done < self.warmup else self.peak

    def with_decay(self, step: int, end: int) -> "Schedule":
        """The same schedule with a decay phase from `step` to `end`."""
        return replace(self, decay_start=step, end=end)

    def decays_from(self, step: int) -> int | None:
        """The first step of the decay phase that includes `step`; None in the stable phase, and for a cosine."""
        return self.decay_start if self.shape == "linear" and step > self.decay_start else None


def wsd_schedule(step: int, warmup: int, peak: float) -> Schedule:
    """A WSD schedule that starts at `step`, with no decay phase yet."""
    return Schedule(step, warmup, peak, _NEVER, _NEVER, "linear")


def cosine_schedule(step: int, total: int, warmup: int, peak: float) -> Schedule:
    """A cosine schedule that starts at `step` and ends at step `total`."""
    return Schedule(step, warmup, peak, min(step + warmup, total), total, "cosine")


def plan_decay(schedule: Schedule, step: int, steps: int | None, decay: float) -> Schedule:
    """`schedule` for a run of `steps` steps from `step`, whose last fraction `decay` is the decay phase.

    With `steps` None the run has no last step, and its decay phase is planned when its time ends. A decay phase that has begun,
    or that already ends with this run, is kept.
    """
    if steps is None:
        kept = schedule.shape == "cosine" or schedule.decays_from(step) is not None
        return schedule if kept else schedule.with_decay(_NEVER, _NEVER)
    end = step + steps
    if schedule.shape == "cosine" or schedule.end == end or schedule.decays_from(step) is not None:
        return schedule
    return schedule.with_decay(end - round(decay * steps), end)


_NEVER = 1 << 53
