"""Compare the settings of a resumed run with those of its checkpoint, and report each change that affects training.

`max_iters`, `max_minutes`, `warmup` (which happens once), and the settings for evaluation, checkpoints and logging do not
affect training and are not reported. A different tokenizer or model size is an error (modes/train.py).
"""

from collections.abc import Mapping
from typing import Any

from ..input_field import declared
from .curriculum import changes_of_curriculum
from .optim.schedule import Schedule
from .settings import TrainingSettings
from .training_state import TrainingState

_STATE_EFFECTS = {
    "seed": "batches and dropout differ from here on",
    "sequences_per_step": "a step sees more or fewer sequences from here on",
    "dtype": "results are rounded differently from here on",
    "kernels": "results are rounded differently from here on",
}
_SETTINGS_EFFECTS = {
    name: effect for name, field in TrainingSettings.model_fields.items() if (effect := declared(field, "effect"))
}


def changes(
    before: TrainingState, settings_before: Mapping[str, Any], now: TrainingState, settings: TrainingSettings, step: int
) -> list[str]:
    """One sentence per change. `settings_before` are the settings in the metadata, which may be another program's."""
    sentences = [
        _sentence(name, getattr(before, name), getattr(now, name), effect)
        for name, effect in _STATE_EFFECTS.items()
        if getattr(before, name) != getattr(now, name)
        and not (name == "kernels" and before.dtype != now.dtype)  # a consequence
    ]
    optimizer = settings_before.get("optimizer", "adamw")  # checkpoints of other programs and of older versions
    if optimizer != settings.optimizer:
        effect = "parameters that change to another optimizer start with a new optimizer state"
        sentences.append(_sentence("optimizer", optimizer, settings.optimizer, effect))
    sentences += _learning_rate_changes(before.schedule, settings_before, settings, step)
    sentences += [
        _sentence(name, settings_before[name], getattr(settings, name), effect)
        for name, effect in _SETTINGS_EFFECTS.items()
        if settings_before.get(name, getattr(settings, name)) != getattr(settings, name)
    ]
    sentences += changes_of_curriculum(before.curriculum, now.curriculum, step)
    if before.data_digest != now.data_digest:
        sentences.append(_corpus_change(before, now))
    return sentences


def _corpus_change(before: TrainingState, now: TrainingState) -> str:
    """How the corpus has changed. With a larger val_fraction, the same documents are held out, and others in addition."""
    if not before.val_digest:
        return (
            "the corpus has changed, or a newer version splits and tokenizes it differently: batches differ from here on, and "
            "losses are not compared with those of earlier runs."
        )
    if before.val_digest == now.val_digest:
        return (
            "the training text has changed: batches differ from here on. The held-out text is the same, so losses are "
            "comparable with those of earlier runs."
        )
    fraction, new_fraction = before.val_fraction, now.val_fraction
    if not fraction or not new_fraction or fraction == new_fraction:
        return (
            "the corpus has changed: batches and the held-out text differ from here on, so losses are not comparable with "
            "those of earlier runs."
        )
    if fraction < new_fraction:
        effect = (
            "more documents are held out, and this model has already been trained on those: its held-out loss is too low. "
            f"Set val_fraction: {fraction:g} again, or train a new model"
        )
    else:
        effect = (
            "some of the documents that were held out are trained on from here on. The others stay held out; losses on them "
            "are not comparable with those of earlier runs"
        )
    return _sentence("val_fraction", f"{fraction:g}", f"{new_fraction:g}", effect)


def _learning_rate_changes(
    before: Schedule, settings_before: Mapping[str, Any], settings: TrainingSettings, step: int
) -> list[str]:
    total, peak = settings.total_iters, settings.learning_rate
    total_before = before.end if before.shape == "cosine" else None
    if total and total != total_before:
        effect = f"the learning rate falls from {peak:g} here to a tenth of it at step {total}, as a cosine"
        return [_sentence("total_iters", total_before or "not given", total, effect)]
    if total_before and not total:
        if settings_before.get("total_iters") is None or step >= total_before:  # imported, or finished
            return []
        return [
            _sentence(
                "total_iters",
                total_before,
                "not given",
                f"the cosine decay continues to step {total_before}, followed by a constant rate",
            )
        ]
    if total_before and settings_before.get("learning_rate", peak) != peak:
        effect = (
            f"ignored: the cosine decay to step {total_before} keeps its peak of {before.peak:g} unless total_iters changes"
        )
        return [_sentence("learning_rate", settings_before["learning_rate"], peak, effect)]
    if not total_before and before.peak != peak:
        return [_sentence("learning_rate", f"{before.peak:g}", f"{peak:g}", "from here on")]
    return []


def _sentence(name: str, before: object, now: object, effect: str) -> str:
    return f"{name} was {before} and is now {now}: {effect}."
