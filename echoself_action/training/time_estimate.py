"""How many of the planned steps fit into max_minutes: logged while a run goes on, so that its end is no surprise."""

from collections.abc import Callable

_CHANGED = 0.1  # an estimate that differs by this fraction is logged again


class TimeEstimate:
    """The estimate of one run of `planned` steps within `minutes` (0: no limit).

    It starts at the second log line, because the first steps of a process are slower, and counts evaluations and saves.
    """

    def __init__(self, planned: int, minutes: float, note: Callable[[str], None]) -> None:
        self.planned, self._minutes, self._note = planned, minutes, note
        self._first: tuple[int, float] | None = None  # steps and seconds at the first log line
        self._seconds_per_step: float | None = None
        self._noted = planned

    def seconds_per_step(self, done: int, seconds: float) -> float:
        """The time of a step with its share of evaluations and saves, from a log line after `done` steps and `seconds`."""
        if self._first is None:
            self._first = done, seconds
        elif done > self._first[0]:
            self._seconds_per_step = (seconds - self._first[1]) / (done - self._first[0])
        return self._seconds_per_step or seconds / done

    def steps_that_fit(self, done: int, end: int, seconds_left: float) -> int:
        """The number of steps of the run that are expected, at most `end`. If fewer than planned fit, the change is logged."""
        if not self._minutes or self._seconds_per_step is None:
            return end
        fit = min(end, done + max(0, int(seconds_left / self._seconds_per_step)))
        if abs(fit - self._noted) > _CHANGED * self._noted or (fit < self.planned == self._noted):
            self._noted = fit
            about = f"about {fit:,} of {self.planned:,}" if fit < self.planned else f"all {self.planned:,}"
            self._note(f"{about} steps fit in {self._limit}")
        return fit

    def ends_early(self, steps: int, consequence: str) -> None:
        """Log that the run ends after `steps` because of the time limit."""
        if steps < self.planned:
            self._note(f"{steps:,} of {self.planned:,} steps: the time limit of {self._limit} is near; {consequence}")

    @property
    def _limit(self) -> str:
        return f"{self._minutes:g} minute{'' if self._minutes == 1 else 's'}"
