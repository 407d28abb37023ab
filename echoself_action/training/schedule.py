"""The learning rate of a step: linear warmup, then a cosine down to a tenth (Loshchilov & Hutter 2017, as GPT-3 used it)."""

import math
from dataclasses import dataclass

FLOOR = 0.1  # of the peak, at the end


@dataclass(frozen=True)
class Schedule:
    """From step `start` to step `end`, with `warmup` steps up to `peak`. Steps count over all runs of a model."""

    start: int
    end: int
    warmup: int
    peak: float

    def learning_rate(self, step: int) -> float:
        """The rate for the update that takes the model from `step` to `step + 1`."""
        done = step - self.start
        if done < self.warmup:
            return self.peak * (done + 1) / (self.warmup + 1)
        progress = min(1.0, (done - self.warmup) / max(1, self.end - self.start - self.warmup))
        return self.peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))


def plan(step: int, steps: int, warmup: int | None, peak: float) -> Schedule:
    """The schedule of `steps` steps that begin at `step`; `warmup` None is a twentieth of them."""
    return Schedule(step, step + steps, steps // 20 if warmup is None else warmup, peak)
