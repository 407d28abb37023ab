"""What a checkpoint's settings state about its forward pass, beyond the sizes.

Forks of nanoGPT and other trainers record switches that nanoGPT does not have: another activation, rotary embeddings, capped
logits. With the same tensors these compute another model. A setting is accepted if known_settings.py says that with its value
the forward pass is GPT-2's. With another value it is refused by name, and so is an unknown setting of a model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ..model.config import Activation
from . import known_settings as known
from .imported_model import HEAD, TensorSource
from .recorded_config import SIZE_NAMES, RecordedConfig, describes_a_model, is_group
from .torch_file.stub import StubObject, name_of

_SHOWN = 6  # settings in a message
_LONGEST_NAME = 100
_MOST_SETTINGS = 2000  # in one place; each is compared with a few dozen patterns


@dataclass(frozen=True)
class Arithmetic:
    """What settings state about the forward pass; None where they are silent. `where` names the place of the activation."""

    activation: Activation | None = None
    where: str = ""
    layer_norm_epsilon: float | None = None


def stated_arithmetic(file: TensorSource, places: Iterable[RecordedConfig], sizes: Mapping[str, Any]) -> Arithmetic:
    """What all `places` state. `sizes` has n_embd, n_head and block_size.

    Raises CheckpointError for a setting that changes the forward pass, for one of a model (`RecordedConfig.of_model`) whose
    effect is unknown, and for two places that contradict each other.
    """
    found = Arithmetic()
    for place in places:
        one = _stated(file, place, sizes)
        for name in ("activation", "layer_norm_epsilon"):
            here, before = getattr(one, name), getattr(found, name)
            if None not in (here, before) and here != before:
                file.refuse(f"contradicts itself: {name} is {here!r} in {place.where}, and {before!r} in another place")
        found = Arithmetic(
            found.activation or one.activation,
            found.where or one.where,
            found.layer_norm_epsilon or one.layer_norm_epsilon,
        )
    return found


def _stated(file: TensorSource, place: RecordedConfig, sizes: Mapping[str, Any]) -> Arithmetic:
    families: dict[str, dict[str, Any]] = {}
    wrong: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    gelu: dict[str, str] = {}
    epsilon: float | None = None
    for name, value in _settings(file, place).items():
        fits = True
        if known.INERT.search(name):
            continue
        if known.ACTIVATION.search(name):
            fits = _read_gelu(gelu, "activation", value)
        elif known.APPROXIMATE.search(name) and (place.of_model or "gelu" in name):
            fits = _read_gelu(gelu, "approximate", ("tanh" if value else "none") if isinstance(value, bool) else value)
        elif known.EXACT_SWITCH.search(name) and isinstance(value, bool):
            fits = _read_gelu(gelu, "approximate", "none" if value else "tanh")
        elif known.EPSILON.search(name) and (place.of_model or "norm" in name or "ln" in name):
            epsilon = value if isinstance(value, float) and 0 < value < 1 else None
            fits = epsilon is not None or value is None
        elif known.TIED.search(name):
            fits = value is not False or HEAD in file.weights  # which is compared with the embedding
        elif family := next((family for family, pattern in known.FAMILIES.items() if pattern.search(name)), None):
            families.setdefault(family, {})[name] = value
        elif known.KEY_HEADS.search(name):
            fits = value in (None, 0, sizes["n_head"])
        elif known.HEAD_SIZE.search(name):
            fits = value in (None, 0, sizes["n_embd"] // sizes["n_head"])
        elif standard := next((allowed for pattern, allowed in known.STANDARD if pattern.search(name)), None):
            fits = value is None or _word(value) in standard or (_is_number(value) and not place.of_model)
        elif place.of_model and known.MODEL_TYPE.search(name):
            fits = value is None or "gpt" in str(value).lower()
        elif place.of_model and not known.INERT_IN_A_MODEL.search(name):
            unknown[name] = value
        if not fits:
            wrong[name] = value
    for family, members in families.items():
        wrong |= _active(family, members, sizes)
    if wrong or unknown:
        _refuse(file, place, wrong, unknown)
    activation = gelu.get("activation")
    if activation != known.TANH:  # `gelu` may be either form
        activation = gelu.get("approximate", activation)
    return Arithmetic(cast("Activation | None", activation), place.where if activation else "", epsilon)


def _settings(file: TensorSource, place: RecordedConfig) -> dict[str, Any]:
    """The settings by their names in one spelling, without sizes; those of a dict inside with its name before theirs.

    A dict with sizes is a place of its own. A name has at most _LONGEST_NAME characters, because the time of a search is not
    linear in them.
    """
    found: dict[str, Any] = {}
    for key, value in place.values.items():
        if not isinstance(key, str) or describes_a_model(key, value):
            continue
        if is_group(value):
            found |= {f"{_spelled(key)}_{_spelled(inner)}": part for inner, part in value.items()}
        elif _spelled(key) not in SIZE_NAMES:
            found[_spelled(key)] = value
    if len(found) > _MOST_SETTINGS:
        file.refuse(f"has {len(found):,} settings in {place.where}, more than any trainer ({_MOST_SETTINGS:,})")
    return {
        name: value.item() if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.size == 1) else value
        for name, value in found.items()
    }


def _spelled(key: object) -> str:
    return str(key)[:_LONGEST_NAME].lower().replace("-", "_").replace(".", "_")


def _read_gelu(found: dict[str, str], key: str, value: Any) -> bool:
    """Add the form of GELU that `value` names to `found`. Returns whether it names one, or is None."""
    name: str | None
    if isinstance(value, StubObject) and value.class_name.endswith(".GELU"):  # a module of PyTorch, in fields of a config
        name = "gelu_tanh" if value.get("approximate") == "tanh" else "gelu"
    else:
        if isinstance(value, StubObject) and len(value.arguments) == 1 and isinstance(value.arguments[0], str):
            value = value.arguments[0]  # a member of an enum
        spelled = name_of(value) or value  # of a function or class, such as torch.nn.functional.gelu
        name = spelled.lower().rpartition(".")[2].replace("-", "_") if isinstance(spelled, str) else None
    if name in known.GELUS:
        found[key] = known.GELUS[name]
    return value is None or name in known.GELUS


def _active(family: str, members: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `members` that say that the model has this part."""
    on = {name: value for name, value in members.items() if not _is_off(family, value, sizes)}
    counts = ("n_experts", "n_expert", "num_experts", "num_expert", "experts")
    off = any(value is False and known.SWITCH.search(name) for name, value in members.items())
    off |= any(name in counts and not value for name, value in members.items())
    return {} if off and not any(value is True for value in on.values()) else on


def _is_off(family: str, value: Any, sizes: Mapping[str, Any]) -> bool:
    if value is None or value is False or _word(value) in ("", "none", "no", "off", "false", "null", "disabled"):
        return True
    if isinstance(value, list | tuple | set):
        return not value
    if not isinstance(value, int | float) or value is True:
        return False
    if family == known.WINDOW:
        return value <= 0 or value >= sizes["block_size"]
    return value == 0 or (value == 1 and family in (known.SCALES, known.REPEATS))


def _is_number(value: Any) -> bool:
    """Whether it is a number that is not a switch: among a trainer's settings, `norm: 2.0` is of the gradient."""
    return isinstance(value, int | float) and value not in (0, 1)


def _word(value: Any) -> Any:
    """A word or a switch in one spelling; None for anything else."""
    if isinstance(value, str):
        return value.strip().lower().replace("-", "_")
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _refuse(file: TensorSource, place: RecordedConfig, wrong: Mapping[str, Any], unknown: Mapping[str, Any]) -> None:
    """Raises CheckpointError."""
    parts = []
    if wrong:
        parts.append(f"has settings in {place.where} that change what a GPT-2 computes: {_listed(wrong)}")
    if unknown:
        parts.append(f"has settings in {place.where} whose effect on the model is unknown: {_listed(unknown)}")
    hint = (
        "Only GPT-2's own forward pass can be imported: causal attention with learned positions, LayerNorm before each part, "
        "and an MLP with GELU."
    )
    doubtful = unknown if place.of_model else wrong  # a trainer's setting may be of something else than the model
    if wrong and place.of_model:
        hint += " Another one needs the program that it was trained with."
    elif key := next((key for key, value in place.values.items() if _is_named(key, value, doubtful)), None):
        hint += f" If a setting does not change what this model computes, remove it: {place.how_to_remove(str(key))}."
    file.refuse(" and ".join(parts), hint)


def _is_named(key: object, value: object, names: Mapping[str, Any]) -> bool:
    """Whether one of `names` is that of the setting, or of one inside it."""
    inside = (f"{_spelled(key)}_{_spelled(inner)}" for inner in value) if isinstance(value, Mapping) else ()
    return _spelled(key) in names or any(name in names for name in inside)


def _listed(values: Mapping[str, Any]) -> str:
    shown = [f"{name[:60]}={_shown(value)}" for name, value in list(values.items())[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def _shown(value: Any) -> str:
    plain = value is None or isinstance(value, bool | int | float | str)
    return f"{value!r:.60}" if plain else (name_of(value) or f"a {type(value).__name__}")[:60]
