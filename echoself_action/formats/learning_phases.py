"""The five learning phases of EchoSelf's NanEcho trainer, and what they change (github.com/9cog/echoself, commit a53698a,
train_nanecho.py, EchoSelfLearningPhase).

Its bounds overlap, and the first phase that matches applies, so in effect they are those of PHASES. A phase multiplies the
learning rate (unless enable_curriculum_learning is off) and doubles the weight of the persona dimensions that it names,
relative to the others. It changes neither data nor loss, and connections grow by a schedule of their own: that a model has been
through a phase says nothing about what it has learnt.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_DIMENSIONS = 8


@dataclass(frozen=True)
class LearningPhase:
    """A phase up to `end`, a share of max_iters. `dimensions` have twice the weight of the others."""

    name: str
    end: float
    rate_factor: float
    dimensions: tuple[str, ...] = ()

    def meaning(self, scales_rate: bool = True) -> str:
        """What it changes."""
        total = _DIMENSIONS + len(self.dimensions)
        weights = f"weight 2/{total} for {', '.join(self.dimensions)}, 1/{total} for the other dimensions"
        rate = f"learning rate x {self.rate_factor:g}, " if scales_rate else "the learning rate of its schedule, "
        return rate + (weights if self.dimensions else "equal weights of all persona dimensions")


PHASES = (
    LearningPhase("basic_awareness", 0.2, 1.2),
    LearningPhase("persona_dimensions", 0.5, 1.0, ("cognitive", "introspective", "adaptive")),
    LearningPhase("hypergraph_patterns", 0.7, 0.9, ("neural_symbolic",)),
    LearningPhase("recursive_reasoning", 0.85, 0.8, ("recursive",)),
    LearningPhase("adaptive_mastery", 1.0, 0.7),
)


def phase_at(step: int, max_iters: int) -> tuple[float, LearningPhase]:
    """The phase at `step` of `max_iters`, and where it starts, as a share of max_iters; the last one beyond the end."""
    start = 0.0
    for phase in PHASES[:-1]:
        if step / max_iters <= phase.end:
            return start, phase
        start = phase.end
    return start, PHASES[-1]


def phase_text(step: int, max_iters: int, scales_rate: bool = True) -> str:
    """The phase in words, for a remark."""
    start, phase = phase_at(step, max_iters)
    return (
        f"step {step:,} of max_iters {max_iters:,} is in the learning phase {phase.name} of its trainer ({start:.0%} to "
        f"{phase.end:.0%}): {phase.meaning(scales_rate)}. A phase changes nothing else, and says nothing about what "
        "the model has learnt"
    )


def original_meanings(names: Iterable[str]) -> str:
    """What phases of these names change in EchoSelf's trainer, for phases of a curriculum here; "" if none is named so."""
    given = set(names)
    found = [phase for phase in PHASES if phase.name in given]
    if not found:
        return ""
    meanings = "; ".join(f"{phase.name}: {phase.meaning()}" for phase in found)
    return (
        f"in EchoSelf's trainer, phases of these names change: {meanings}. Here a phase changes what `phases` says, and its "
        "name says nothing about what the model has learnt"
    )
