"""What a checkpoint records of its curriculum: the names and bounds of its phases, for pages, summaries and later runs."""

from pydantic import Field

from .facts import Facts


class PhaseFacts(Facts):
    """A phase: from step `start` to `end`, the last one also after it. The rest is as in the input `phases`."""

    name: str
    start: int
    end: int
    learning_rate: float = 1.0
    weights: dict[str, float] = Field(default_factory=dict)
    connections: float | None = None


class CurriculumFacts(Facts):
    """`phases` divide `iters` steps, counted over all runs from step `start` on."""

    iters: int
    start: int = 0
    phases: tuple[PhaseFacts, ...]

    @property
    def overview(self) -> str:
        """The phases with their bounds, on one line."""
        ends = ", ".join(f"{phase.name} to step {phase.end:,}" for phase in self.phases[:-1])
        return f"{ends}, then {self.phases[-1].name}" if ends else self.phases[-1].name

    def number_at(self, step: int) -> int:
        """The number, from 0, of the phase of the update that led to `step`."""
        return max(0, sum(step > phase.start for phase in self.phases) - 1)

    def text(self, first: int, last: int) -> str:
        """The phases of the steps from `first` to `last` (of a run), with the steps at which they end."""
        begun, reached = self.number_at(first + 1), self.number_at(last)
        passed = [f"{phase.name} to step {phase.end:,}" for phase in self.phases[begun:reached]]
        phase = self.phases[reached]
        is_last = reached == len(self.phases) - 1
        end = f"the last, from step {phase.start:,} on" if is_last else f"to step {phase.end:,}"
        return ", then ".join([*passed, f"{phase.name} ({reached + 1} of {len(self.phases)}, {end})"])


def curriculum_rows(facts: CurriculumFacts) -> list[tuple[str, str]]:
    """(name of a phase, its steps and what it changes), as plain text."""
    rows = []
    for number, phase in enumerate(facts.phases, 1):
        after = " and after" if number == len(facts.phases) else ""
        parts = [f"steps {phase.start:,} to {phase.end:,}{after}", f"learning rate x {phase.learning_rate:g}"]
        if phase.connections is not None:
            parts.append(f"connections to {phase.connections:.0%}")
        parts += [f"{glob} x {weight:g}" for glob, weight in phase.weights.items()]
        rows.append((f"{number} {phase.name}", ", ".join(parts)))
    return rows
