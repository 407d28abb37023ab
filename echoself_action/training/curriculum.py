"""The curriculum of a model: which phase each of its steps is in, and what that changes.

Bounds are global steps, counted over all runs, so a run that resumes is in the phase that an uninterrupted one would be in.
Everything here is a pure function of the step: there is no state to save but where the curriculum starts and how long it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..checkpoint.curriculum_facts import CurriculumFacts, PhaseFacts
from ..errors import InputError
from ..markdown import counted
from .phases import Phase
from .settings import TrainingSettings

_GROWTH = 0.01  # of the connections, at least, at a time: each growth draws a random number for each weight


@dataclass(frozen=True)
class Curriculum:
    """`phases` divide `iters` steps from step `start` on. After them the last phase stays."""

    phases: tuple[Phase, ...]
    iters: int
    start: int = 0

    @property
    def bounds(self) -> list[int]:
        """The first step of each phase, and the step after the last."""
        ends = accumulate(phase.share for phase in self.phases[:-1])
        return [self.start, *(self.start + round(self.iters * end) for end in ends), self.start + self.iters]

    def index(self, step: int) -> int:
        """The number, from 0, of the phase of the update from `step` to `step + 1`."""
        return max(0, sum(step >= bound for bound in self.bounds[:-1]) - 1)

    def phase(self, step: int) -> Phase:
        """The phase of the update from `step` to `step + 1`."""
        return self.phases[self.index(step)]

    def connections(self, step: int, own: Callable[[int], float]) -> float | None:
        """The share of connections at `step`, None for the model's own growth, which `own` gives for a step.

        It grows in equal steps over the phase, from what the phase before ends with.
        """
        number, bounds = self.index(step), self.bounds
        goal = self.phases[number].connections
        if goal is None:
            return None
        first, end = bounds[number], bounds[number + 1]
        before = self.phases[number - 1].connections if number else None
        low = own(first) if before is None else before
        if goal <= low or step + 1 >= end:
            return goal
        parts = max(1, round((goal - low) / _GROWTH))
        return low + (goal - low) * ((step + 1 - first) * parts // (end - first)) / parts

    def summary(self, settings: TrainingSettings, step: int) -> str:
        """The bounds of all phases in one line, and where their number of steps is from, for a run that starts at `step`."""
        by = "max_iters of the run that starts it" if step == self.start else "from the run that started it"
        by = "curriculum_iters" if settings.curriculum_iters else "total_iters" if settings.total_iters else by
        ends = ", ".join(f"{phase.name} to {end:,}" for phase, end in zip(self.phases, self.bounds[1:], strict=True))
        steps = f"{self.iters:,} steps ({by}) from step {self.start:,} on"
        return f"curriculum: {counted(len(self.phases), 'phase')} in {steps}: {ends}"

    def text(self, step: int) -> str:
        """The phase of the step that follows `step`, for logs: `phase a (1 of 3), to step 200: learning rate x 1.2`."""
        number = self.index(step)
        phase, end = self.phases[number], self.bounds[number + 1]
        last = number == len(self.phases) - 1
        until = f"to step {end:,}{' and after it' if last else ''}" if step < end else f"which stays after step {end:,}"
        parts = [f"learning rate x {phase.learning_rate:g}"]
        if phase.connections is not None:
            parts.append(f"connections to {phase.connections:.0%}")
        parts += [f"{glob} x {weight:g}" for glob, weight in phase.weights]
        return f"phase {phase.name} ({number + 1} of {len(self.phases)}), {until}: {', '.join(parts)}"

    @property
    def facts(self) -> CurriculumFacts:
        """What the metadata of a checkpoint records."""
        return CurriculumFacts(
            iters=self.iters,
            start=self.start,
            phases=tuple(
                PhaseFacts(
                    name=phase.name,
                    start=first,
                    end=end,
                    learning_rate=phase.learning_rate,
                    weights=dict(phase.weights),
                    connections=phase.connections,
                )
                for phase, first, end in zip(self.phases, self.bounds, self.bounds[1:], strict=False)
            ),
        )


def curriculum_of(settings: TrainingSettings, step: int, known: CurriculumFacts | None) -> Curriculum | None:
    """The curriculum of a run that starts at `step`; None without `phases`. `known` is that of the run before, if it had one.

    Raises InputError if its length is not known, or a phase would have no step.
    """
    if not settings.phases:
        return None
    start = known.start if known else step
    total = max(0, (settings.total_iters or 0) - start)  # a cosine ends at that step, wherever it starts
    iters = settings.curriculum_iters or total or (known.iters if known else settings.max_iters)
    if not iters:
        raise InputError(f"phases: {NO_LENGTH} Nothing was trained.", NO_LENGTH_FIX)
    if problem := without_steps(settings.phases, iters):
        raise InputError(f"phases: {problem}. Nothing was trained.", STEPS_FIX)
    return Curriculum(settings.phases, iters, start)


NO_LENGTH = "there is no number of steps that they divide: neither curriculum_iters nor total_iters nor max_iters is set."
NO_LENGTH_FIX = "Set curriculum_iters to the steps of all runs that the phases divide."
STEPS_FIX = "Raise curriculum_iters, or the share of that phase."


def without_steps(phases: Sequence[Phase], iters: int) -> str:
    """Which phase has no step if they divide `iters`; "" if each has one."""
    bounds = Curriculum(tuple(phases), iters).bounds
    for phase, first, end in zip(phases, bounds, bounds[1:], strict=False):
        if first >= end:
            return f"phase {phase.name}: share: {phase.share:g} of {iters:,} steps is less than a step"
    return ""


def changes_of_curriculum(before: Curriculum | None, now: Curriculum | None, step: int) -> list[str]:
    """One sentence for each change that a resumed run reports."""
    if before == now:
        return []
    if before is None or now is None:
        if now:
            return [f"phases were not given and are now {_names(now)}: from step {step} on."] if step else []
        return [f"phases were {_names(before)} and are now not given: from here on none applies."] if before else []
    sentences = []
    if before.iters != now.iters:
        effect = f"the bounds of the phases change: step {step} is in phase {now.phase(step).name}"
        sentences.append(f"curriculum_iters was {before.iters:,} and is now {now.iters:,}: {effect}.")
    if before.phases != now.phases:
        effect = f"from here on, and step {step} is in phase {now.phase(step).name}"
        sentences.append(f"phases have changed ({'; '.join(_differences(before, now))}): {effect}.")
    return sentences


def _names(curriculum: Curriculum) -> str:
    return ", ".join(phase.name for phase in curriculum.phases)


def _differences(before: Curriculum, now: Curriculum) -> list[str]:
    if [phase.name for phase in before.phases] != [phase.name for phase in now.phases]:
        return [f"they were {_names(before)} and are now {_names(now)}"]
    found = []
    for one, other in zip(before.phases, now.phases, strict=True):
        for key in ("share", "learning_rate", "connections"):
            if getattr(one, key) != getattr(other, key):
                found.append(f"{key} of {one.name} was {_shown(getattr(one, key))} and is now {_shown(getattr(other, key))}")
        if one.weights != other.weights:
            weights = (", ".join(f"{glob}: {weight:g}" for glob, weight in phase.weights) or "none" for phase in (one, other))
            found.append("weights of {} were {} and are now {}".format(one.name, *weights))
    return found


def _shown(value: float | None) -> str:
    return "not given" if value is None else f"{value:g}"
