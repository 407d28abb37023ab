"""What a run measures of its own steps: the training loss and the speed. They have one definition each, for every report."""

from collections import deque


class LossMeter:
    """The training loss: the mean over the steps since the last log line, but over at least `fewest` steps of the run.

    Where a run evaluates or ends just after a log line, the mean over one or two steps would be noise: the steps of the lines
    before are then included.
    """

    def __init__(self, fewest: int) -> None:
        self._fewest = fewest
        self._lines: deque[tuple[float, int]] = deque()  # the sum of the losses, and their number, of each log line

    def add(self, total: float, steps: int) -> float:
        """Add the `steps` since the last log line, with the sum of their losses; returns the mean."""
        self._lines.append((total, steps))
        while sum(count for _, count in self._lines) - self._lines[0][1] >= self._fewest:
            self._lines.popleft()
        return self.mean

    @property
    def mean(self) -> float:
        return sum(total for total, _ in self._lines) / max(1, sum(count for _, count in self._lines))


class SpeedMeter:
    """The speed: tokens of steps by the seconds of these steps, without evaluations, saves and compiling."""

    def __init__(self, tokens_per_step: int) -> None:
        self._tokens_per_step = tokens_per_step
        self._steps = self._steps_before_line = 0
        self._seconds = self._seconds_before_line = 0.0

    def add(self, seconds: float) -> None:
        """Add a step."""
        self._steps += 1
        self._seconds += seconds

    @property
    def seconds_per_step(self) -> float:
        return self._seconds / max(1, self._steps)

    @property
    def of_run(self) -> float:
        """Tokens per second over the steps of the run so far, rounded: every report shows digits of this number. 0 before the
        first step."""
        return round(self._steps * self._tokens_per_step / self._seconds, 1) if self._steps else 0.0

    def of_line(self) -> float:
        """Tokens per second over the steps since the last call."""
        steps, seconds = self._steps - self._steps_before_line, self._seconds - self._seconds_before_line
        self._steps_before_line, self._seconds_before_line = self._steps, self._seconds
        return steps * self._tokens_per_step / seconds
