"""How often a run evaluates, saves and logs: by its settings, or by how long it is expected to take (`preset: auto`)."""

import math
from dataclasses import dataclass, replace

from .settings import TrainingSettings

NEVER = 1 << 53
_EVALUATIONS = (5, 20)  # in a run, at least and at most
_EVALUATION_SHARE, _LARGEST_SHARE = 0.05, 0.2  # of the time of a run; the larger one for the least number of evaluations
_SAVES, _LOG_LINES = 5, 30  # in a run


@dataclass(frozen=True)
class Intervals:
    """Steps between evaluations, checkpoints and log lines."""

    evaluate: int
    save: int
    log: int

    def are_due(self, step: int) -> bool:
        """Whether anything is due after `step`."""
        return any(step % interval == 0 for interval in (self.evaluate, self.save, self.log))


def intervals_of(settings: TrainingSettings) -> Intervals:
    """The intervals of the settings; those that are not set are never due until `fitted` knows how long a step takes."""
    return Intervals(*(interval or NEVER for interval in _of(settings)))


def fitted(before: Intervals, settings: TrainingSettings, steps: float, step_s: float, evaluation_s: float) -> Intervals:
    """`before`, with the intervals that are not set chosen for a run of `steps` of `step_s` seconds.

    There are at most 20 evaluations, fewer if they would take more than a twentieth of the time, but at least 5, or as many as
    a fifth of the time is enough for.
    """
    least, most = _EVALUATIONS
    evaluations = steps * step_s / evaluation_s if evaluation_s else math.inf
    count = min(most, max(_EVALUATION_SHARE * evaluations, min(least, max(1.0, _LARGEST_SHARE * evaluations))))
    counts = {"evaluate": count, "save": _SAVES, "log": _LOG_LINES}
    given = dict(zip(counts, _of(settings), strict=True))
    return replace(before, **{name: _rounded(steps / count) for name, count in counts.items() if given[name] is None})


def _of(settings: TrainingSettings) -> tuple[int | None, int | None, int | None]:
    return settings.eval_interval, settings.checkpoint_interval, settings.log_interval


def _rounded(interval: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 and so on that is not larger; at least 1."""
    unit = 10 ** math.floor(math.log10(max(1.0, interval)))
    return int(max(factor * unit for factor in (1, 2, 5) if factor * unit <= max(1.0, interval)))
