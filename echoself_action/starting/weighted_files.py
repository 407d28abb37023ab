"""The input `phases` against the corpus and the model that it is for: what does not fit, and what the log says of it."""

from collections.abc import Sequence

from ..checkpoint.architectures import ARCHITECTURES, DEFAULT, architecture_of
from ..config.inputs import Inputs
from ..corpus.source_weights import hidden_globs, source_weights, unmatched
from ..corpus.tokens import Source, Tokens
from ..errors import InputError
from ..model import ModelConfig
from ..report.log import note
from ..training.phases import Phase


def require_growing_connections(inputs: Inputs, config: "ModelConfig | None") -> None:
    """Raises InputError if a phase has `connections`, and the model has none that grow. `config` None: it is a new model."""
    architecture = architecture_of(config) if config else ARCHITECTURES[inputs.architecture or DEFAULT.name]
    phase = next((phase for phase in inputs.phases or () if phase.connections is not None), None)
    if phase and architecture is DEFAULT:
        raise InputError(
            f"phases: phase {phase.name}: connections: the model is a {architecture.display_name}, and only a NanEcho has "
            "connections that grow. Nothing was trained.",
            "Remove connections from the phases, or train a new model with architecture: nanecho.",
        )


def require_weighted_files(phases: Sequence[Phase], names: Sequence[str]) -> None:
    """Raises InputError if a glob of the weights of a phase matches none of the files `names`."""
    problems = [
        InputError(
            f"phases: phase {phase.name}: weights: '{glob}' matches none of the {len(names):,} files of `data`.",
            f"Use a glob that matches one, such as {names[0]}, or remove it." if names else "Remove it.",
        )
        for phase in phases
        for glob in unmatched(names, phase.weights)
    ]
    if problems:
        raise InputError("Weights of phases match no file. Nothing was trained.", problems=problems)


def never_read(phases: Sequence[Phase], names: Sequence[str]) -> set[str]:
    """Those of the files `names` that have the weight 0 in all phases."""
    weights = [source_weights(names, phase.weights) for phase in phases]
    return {name for number, name in enumerate(names) if weights and not any(own[number] for own in weights)}


def read_share(inputs: Inputs, tokens: Tokens) -> float:
    """The share of the training tokens that phases read, by a weight above 0 in at least one."""
    sources = tokens.sources or ()
    unread = never_read(inputs.phases or (), [one.name for one in sources])
    return 1 - sum(one.tokens for one in sources if one.name in unread) / len(tokens.train)


def note_weights(phases: Sequence[Phase], sources: Sequence[Source]) -> None:
    """Log what each phase reads more or less of than its share of the tokens, and what it leaves out.

    Raises InputError if a phase leaves out all text.
    """
    names, total = [one.name for one in sources], sum(one.tokens for one in sources)
    for phase in phases:
        weights = source_weights(names, phase.weights)
        read = sum(one.tokens * weight for one, weight in zip(sources, weights, strict=True))
        if not read:
            raise InputError(
                f"phases: phase {phase.name}: weights: 0 for all training text. Nothing was trained.",
                "Leave some text in each phase, with a weight above 0.",
            )
        parts = []
        for weight in dict.fromkeys(weight for _, weight in phase.weights):
            share = sum(one.tokens for one, own in zip(sources, weights, strict=True) if own == weight) / total
            globs = ", ".join(glob for glob, own in phase.weights if own == weight)
            seen = f"{weight * share * total / read:.1%} of the text that it reads" if weight else "left out"
            parts.append(f"{globs} ({share:.1%} of the training tokens) x {weight:g}: {seen}")
        if parts:
            note(f"phase {phase.name}: {'; '.join(parts)}")
        if hidden := hidden_globs(names, phase.weights):
            note(f"phase {phase.name}: without effect, because globs before them match the same files: {', '.join(hidden)}")
