"""When a run's steps are compiled: from its start on where the run is, or when a model's first steps have told that it pays.

That is decided once in the life of a model: however many runs train it, it comes to what one long run would have.
"""

import time

from ..errors import TrainingError, in_short
from .compiled import pays, why_not
from .result import Listeners
from .run import Run
from .train_step import Stepper

_DECIDED_AT = 20  # steps
_TIMED = 5  # of them, at least: the first ones take longer


class Compiling:
    """`seconds` is what the compiler has taken."""

    def __init__(self, run: Run, stepper: Stepper, listeners: Listeners) -> None:
        self._run, self._stepper, self._listeners = run, stepper, listeners
        self._start = run.step
        self.seconds = 0.0

    def before_step(self, seconds_to_go: float) -> None:
        """Compile once, where the run is compiled, or where it pays for what takes `seconds_to_go` without.

        Raises TrainingError where compiling fails and was asked for.
        """
        run, device = self._run, self._run.precision.device
        # native code is faster than what is compiled
        decides = run.settings.compile == "auto" and not run.compiled and not run.native
        if decides and run.step == _DECIDED_AT >= self._start + _TIMED:
            repaid = run.team.is_lead and pays(run.model, device, seconds_to_go)
            repaid, hindered = run.team.any(repaid, why_not(run.model, device, run.sharded) is not None)
            run.compiled = repaid and not hindered
        if run.compiled and not self._stepper.compiled:
            self._listeners.note("compiling the model")
            self.anew()

    def anew(self) -> None:
        """Compile what is compiled again, for batches of another size. It raises what `before_step` does."""
        run, failure = self._run, None
        if not run.compiled:
            return
        began = time.monotonic()
        try:
            self._stepper.compile()
        except Exception as error:
            failure = error
        self.seconds += time.monotonic() - began
        if not run.team.any(failure is not None)[0]:
            return
        self._stepper.leave_uncompiled()
        run.compiled = False
        reason = in_short(failure) if failure else "another process failed at it"
        if run.settings.compile == "true":
            raise TrainingError(
                f"compile: true was asked for, and the model could not be compiled: {reason}. Training was ended at step "
                f"{run.step}.",
                "Use compile: auto, which goes on without.",
            ) from failure
        self._listeners.warn(f"The model could not be compiled: {reason}. Training goes on as it was.")
