"""How many of the planned steps fit into max_minutes: logged while a run goes on, so that its end is no surprise."""

from collections.abc import Callable

_CHANGED = 0.1  # an estimate that differs by this fraction is logged again


class TimeEstimate:
    """The estimate of one run of `planned` steps (None: as many as fit) within `minutes` (0: no limit).

    It starts at the second log line, because the first steps of a process are slower, and counts evaluations and saves.
    """

    def __init__(self, planned: int | None, minutes: float, note: Callable[[str], None]) -> None:
        self.planned, self._minutes, self._note = planned, minutes, note
        self._first: tuple[int, float] | None = None  # steps and seconds at the first log line
        self._seconds_per_step: float | None = None  # None before the second log line
        self._latest = 0.0
        self._noted = planned or 0

    def seconds_per_step(self, done: int, seconds: float) -> float:
        """The time of a step with its share of evaluations and saves, from a log line after `done` steps and `seconds`."""
        if self._first is None:
            self._first = done, seconds
        elif done > self._first[0]:
            self._seconds_per_step = (seconds - self._first[1]) / (done - self._first[0])
        self._latest = self._seconds_per_step or seconds / done
        return self._latest

    def steps_that_fit(self, done: int, end: int, seconds_left: float) -> int:
        """The number of steps of the run that are expected, at most `end`. If fewer than planned fit, the change is logged."""
        if not self._minutes or (self._seconds_per_step is None and self.planned is not None):
            return end
        fit = int(min(end, done + max(0.0, seconds_left / self._latest)))  # only the main process has a limit
        if self._seconds_per_step is not None and self._differs(fit):
            self._noted = fit
            of_planned = f" of {self.planned:,}" if self.planned else ""
            about = f"all {fit:,}" if fit == self.planned else f"about {fit:,}{of_planned}"
            self._note(f"{about} steps fit in {self._limit}")
        return fit

    def _differs(self, fit: int) -> bool:
        falls_short = self.planned is not None and fit < self.planned == self._noted
        return falls_short or abs(fit - self._noted) > _CHANGED * self._noted

    def ends_early(self, steps: int, consequence: str) -> None:
        """Log that the run ends after `steps` because of the time limit."""
        if self.planned is None or steps < self.planned:
            of_planned = f" of {self.planned:,}" if self.planned else ""
            self._note(f"{steps:,}{of_planned} steps: the time limit of {self._limit} is near; {consequence}")

    @property
    def _limit(self) -> str:
        return f"{self._minutes:g} minute{'' if self._minutes == 1 else 's'}"
