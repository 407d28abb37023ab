"""The learning rate of a step, in steps that count over all runs of a model.

Open-ended: linear warmup once, then a constant rate for as long as the model lives. Every run leaves that line at its end, on
a branch that decays to nothing (warmup-stable-decay: Hu et al. 2024, arXiv 2404.06395; Hägele et al. 2024, arXiv 2405.18392):
the end of the branch is what is published, and the next run goes on from the line. Or, over a total that was decided
beforehand: a cosine down to a tenth (Loshchilov & Hutter 2017, as GPT-3 used it).
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

FLOOR = 0.1  # of the peak, at the end of a cosine


@dataclass(frozen=True)
class Schedule:
    """From step `start`, `warmup` steps up to `peak`; constant until `decay_start`; then down, until `end`.

    `shape` says how it goes down: `linear` to nothing, on a branch; or `cosine` to a tenth, where it stays.
    """

    start: int
    warmup: int
    peak: float
    decay_start: int
    end: int
    shape: Literal["linear", "cosine"]

    def learning_rate(self, step: int) -> float:
        """The rate for the update that takes the model from `step` to `step + 1`."""
        done = step - self.start
        if done < self.warmup:
            return self.peak * (done + 1) / (self.warmup + 1)
        progress = min(1.0, max(0.0, (step - self.decay_start) / max(1, self.end - self.decay_start)))
        if self.shape == "linear":
            return self.peak * (1 - progress)
        return self.peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))

    def decaying(self, step: int, end: int) -> "Schedule":
        """The same line, to be left at `step` for a branch that ends at `end`."""
        return replace(self, decay_start=step, end=end)

    def decays_from(self, step: int) -> int | None:
        """Where the branch that a model at `step` is on left the line; None where it is on no branch."""
        return self.decay_start if self.shape == "linear" and step > self.decay_start else None


def open_ended(step: int, warmup: int, peak: float) -> Schedule:
    """A line that begins at `step`; nobody knows yet where a branch leaves it."""
    return Schedule(step, warmup, peak, _NEVER, _NEVER, "linear")


def over_total(step: int, total: int, warmup: int, peak: float) -> Schedule:
    """A cosine that begins at `step` and ends at step `total`."""
    return Schedule(step, warmup, peak, min(step + warmup, total), total, "cosine")


def planned(schedule: Schedule, step: int, steps: int, decay: float) -> Schedule:
    """What a run of `steps` steps that begins at `step` makes of `schedule`: the last `decay` of them are on a branch.

    A branch that was begun stays as it is, and so does one that was planned to end where this run does.
    """
    end = step + steps
    if schedule.shape == "cosine" or schedule.end == end or schedule.decays_from(step) is not None:
        return schedule
    return schedule.decaying(end - round(decay * steps), end)


_NEVER = 1 << 53
