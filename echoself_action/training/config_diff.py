"""What a continuation changes, beside the run that would have been: said, never hidden.

`max_iters`, `max_minutes`, `warmup` (which was once), and what is about evaluating, saving and logging change nothing and
are not said. Another tokenizer or another size of the model is refused before (modes/train.py).
"""

from collections.abc import Mapping
from typing import Any

from ..config.input_field import declared
from .optim.schedule import Schedule
from .settings import TrainingSettings
from .training_state import TrainingState

_OF_THE_STATE = {
    "seed": "batches and dropout differ from here on",
    "sequences_per_step": "a step sees more or fewer sequences from here on",
    "dtype": "results are rounded differently from here on",
    "compiled": "results are rounded differently from here on",
    "native": "results are rounded differently from here on",
}
_OF_THE_SETTINGS = {
    name: effect for name, field in TrainingSettings.model_fields.items() if (effect := declared(field, "effect"))
}


def changes(
    before: TrainingState, settings_before: Mapping[str, Any], now: TrainingState, settings: TrainingSettings, step: int
) -> list[str]:
    """A sentence for each change. `settings_before` are those that the metadata has, which may be another program's."""
    found = [
        _sentence(name, getattr(before, name), getattr(now, name), effect)
        for name, effect in _OF_THE_STATE.items()
        if getattr(before, name) != getattr(now, name)
    ]
    optimizer = settings_before.get("optimizer", "adamw")  # before there was another one, and in other programs
    if optimizer != settings.optimizer:
        effect = "parameters that another optimizer updates from here on start without its state"
        found.append(_sentence("optimizer", optimizer, settings.optimizer, effect))
    found += _of_the_rate(before.schedule, settings_before, settings, step)
    found += [
        _sentence(name, settings_before[name], getattr(settings, name), effect)
        for name, effect in _OF_THE_SETTINGS.items()
        if settings_before.get(name, getattr(settings, name)) != getattr(settings, name)
    ]
    if before.data_digest != now.data_digest:
        found.append("the corpus has changed: batches and the held-out text differ from here on.")
    return found


def _of_the_rate(before: Schedule, settings_before: Mapping[str, Any], settings: TrainingSettings, step: int) -> list[str]:
    total, peak = settings.total_iters, settings.learning_rate
    was = before.end if before.shape == "cosine" else None
    if total and total != was:
        effect = f"the learning rate falls from {peak:g} here to a tenth of it at step {total}, as a cosine"
        return [_sentence("total_iters", was or "not given", total, effect)]
    if was and not total:
        if settings_before.get("total_iters") is None or step >= was:  # of another program, or over
            return []
        return [
            _sentence("total_iters", was, "not given", f"the cosine to step {was} is finished, and a constant rate follows")
        ]
    if was and settings_before.get("learning_rate", peak) != peak:
        effect = f"the cosine to step {was} keeps its peak, {before.peak:g}; another total_iters would begin another"
        return [_sentence("learning_rate", settings_before["learning_rate"], peak, effect)]
    if not was and before.peak != peak:
        return [_sentence("learning_rate", f"{before.peak:g}", f"{peak:g}", "from here on")]
    return []


def _sentence(name: str, before: object, now: object, effect: str) -> str:
    return f"{name} was {before} and is now {now}: {effect}."
