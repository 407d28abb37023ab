"""AdamW's state in a `.pt` of another program, by the names of the parameters that it belongs to.

PyTorch numbers the parameters of an optimizer in the order in which it was given them, so a state without names can be
assigned only if that order is known. Any other state costs the optimizer, not the weights: it is not imported, and the reason
is recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.arrays import Array, is_finite, is_floating_point, is_negative
from ..checkpoint.gpt2_config import TOKENS
from .detect_layout import number, shown, without_prefixes
from .imported_model import HEAD, TensorSource
from .torch_file.stub import StubObject

if TYPE_CHECKING:
    from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state of each parameter, besides its step count
NOT_IMPORTED = "optimizer state not imported"
_ENTRY = {"step", *MOMENTS}
# The options of a group of AdamW: PyTorch's, Transformers' (correct_bias), and what schedulers and users add.
_OPTIONS = {
    *("params", "param_names", "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable"),
    *("differentiable", "fused", "decoupled_weight_decay", "correct_bias"),
    *("name", "initial_lr", "min_lr", "max_lr", "swa_lr", "base_momentum", "max_momentum"),
}
_LINEAR = (".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight")
Groups = tuple[Sequence[str], ...]


@dataclass(frozen=True)
class Grouping:
    """The parameters of each group of an AdamW, in its order. `remark` is what an import says about it."""

    groups: Groups
    remark: str = ""


@dataclass(frozen=True)
class OptimizerState:
    """AdamW's moments in the form of training_state, in the orientation of the file; its settings under nanoGPT's names.

    `notes` say why a state was not imported, or what about it is not as it was.
    """

    moments: dict[str, Array] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _NotAdamWError(Exception):
    """Why a state can't be AdamW's state of this model."""


def nanogpt_groups(weights: "Mapping[str, Array] | Mapping[str, Tensor]") -> Groups:
    """nanoGPT's groups since May 2023: parameters with two dimensions, which decay, and the rest, as in `named_parameters`."""
    names = [name for name in weights if name != HEAD]
    return [name for name in names if len(weights[name].shape) > 1], [name for name in names if len(weights[name].shape) < 2]


def early_nanogpt_groups(weights: "Mapping[str, Array] | Mapping[str, Tensor]") -> Groups:
    """nanoGPT's groups before May 2023: the weights of nn.Linear, which decay, and the rest, each sorted by name."""
    names = sorted(name for name in weights if name != HEAD)
    return [name for name in names if name.endswith(_LINEAR)], [name for name in names if not name.endswith(_LINEAR)]


def nanogpt_groupings(weights: Mapping[str, Array]) -> tuple[Grouping, ...]:
    """The groups of nanoGPT's AdamW in its versions, and one group of all parameters. Their sizes differ."""
    early = (
        "its optimizer state has the parameter groups of nanoGPT before May 2023, which did not decay embeddings; training "
        "here decays them"
    )
    return (
        Grouping(nanogpt_groups(weights)),
        Grouping(early_nanogpt_groups(weights), early),
        Grouping(([name for name in weights if name != HEAD],)),
    )


def stored_optimizer(content: Mapping[Any, Any]) -> Any:
    """The optimizer of a checkpoint: under any key that begins with `optim`, or with the groups of one. None without one.

    Several are a tuple.
    """
    found = [
        value
        for key, value in content.items()
        if (isinstance(key, str) and key.startswith("optim")) or (isinstance(value, Mapping) and "param_groups" in value)
    ]
    stored = [value for value in found if not isinstance(value, bool | int | float | str | None)]  # else the name of one
    if len(stored) == 1 and isinstance(stored[0], list | tuple) and len(stored[0]) == 1:
        return stored[0][0]
    return tuple(stored) if len(stored) > 1 else next(iter(stored), None)


def read_optimizer(
    file: TensorSource, optimizer: Any, weights: Mapping[str, Array], groupings: Sequence[Grouping]
) -> OptimizerState:
    """Assign `optimizer`, the state dict of an AdamW or None, to the parameters `weights`.

    Names in the state dict decide. A state without names must have the sizes of the groups of one of `groupings`. Parameters
    that never had a gradient have no state; they start with a new one, as in the original program.
    """
    if optimizer is None or (isinstance(optimizer, Mapping) and not optimizer):
        return OptimizerState()
    try:
        return _assigned(file, optimizer, weights, groupings)
    except _NotAdamWError as reason:
        return OptimizerState(notes=(f"{NOT_IMPORTED}: {reason}. Training resumes from the weights with a new optimizer",))


def _assigned(
    file: TensorSource, optimizer: Any, weights: Mapping[str, Array], groupings: Sequence[Grouping]
) -> OptimizerState:
    state, groups = _parts(optimizer)
    if not state:
        return OptimizerState()
    settings = _settings(groups)
    names, remark = _names(groups, weights, groupings)
    moments: dict[str, Array] = {}
    counts: dict[str, Array] = {}
    for key, entry in state.items():
        if type(key) not in (int, str) or key not in names:
            raise _NotAdamWError(f"it has an entry {shown([key])}, which is not in its parameter groups")
        name = names[key]
        if not isinstance(entry, Mapping) or set(entry) != _ENTRY:
            found = shown(list(entry)) if isinstance(entry, Mapping) else f"a {type(entry).__name__}"
            raise _NotAdamWError(f"the entry of {name} has {found}, but AdamW has 'step', 'exp_avg' and 'exp_avg_sq'")
        steps = number(entry["step"])
        if steps is None or steps < 0:
            raise _NotAdamWError(f"the step of {name} is not a valid step count")
        counts[f"steps.{name}"] = np.array(steps, np.float32)
        for moment in MOMENTS:
            moments[f"{moment}.{name}"] = _checked(file, moment, name, entry[moment], weights[name].shape)
    notes = [remark] if remark else []
    if len(counts) < len(weights):
        have = f"its optimizer state has {len(counts)} of the {len(weights)} parameters"
        notes.append(f"{have}; the others start with a new one")
    return OptimizerState(moments | counts, settings, tuple(notes))


def _parts(optimizer: Any) -> tuple[Mapping[Any, Any], list[Mapping[Any, Any]]]:
    """The entries and the groups of a state dict."""
    if isinstance(optimizer, list | tuple):
        raise _NotAdamWError(f"it is a list of {len(optimizer)} optimizers, expected one AdamW")
    if not isinstance(optimizer, Mapping):
        raise _NotAdamWError(f"it is a {type(optimizer).__name__}, expected the state dict of an AdamW")
    state, groups = optimizer.get("state"), optimizer.get("param_groups")
    if isinstance(state, Mapping) and not state:
        return {}, []
    if isinstance(optimizer, StubObject):
        raise _NotAdamWError(f"it is an object of {optimizer.class_name}, expected its state_dict")
    if not isinstance(state, Mapping) or not isinstance(groups, list) or not groups:
        raise _NotAdamWError(f"it has the keys {shown(list(optimizer))}, expected 'state' and 'param_groups' of one AdamW")
    if not all(isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups):
        raise _NotAdamWError("its param_groups are not lists of parameters")
    return state, groups


def _settings(groups: list[Mapping[Any, Any]]) -> dict[str, float]:
    """The settings of an AdamW, those of its first group."""
    for group in groups:
        if other := [key for key in group if key not in _OPTIONS]:
            raise _NotAdamWError(f"its parameter groups have {shown(other)}, which AdamW does not have")
        for option in ("amsgrad", "maximize"):
            if _is_set(group, option):
                raise _NotAdamWError(f"it was trained with {option}, which AdamW here does not have")
        if not _is_set(group, "correct_bias", default=True):
            raise _NotAdamWError("it was trained without the correction of AdamW's bias (correct_bias)")
        if not _is_set(group, "decoupled_weight_decay", default=True) and number(group.get("weight_decay")) != 0:
            raise _NotAdamWError("it is Adam with L2 regularisation (decoupled_weight_decay: false), not AdamW")
    betas = groups[0].get("betas")
    first, second = map(number, betas) if isinstance(betas, list | tuple) and len(betas) == 2 else (None, None)
    decay = number(groups[0].get("weight_decay"))
    if first is None or second is None or decay is None:
        raise _NotAdamWError("its first parameter group has no betas or no weight_decay")
    return {"weight_decay": decay, "beta1": first, "beta2": second}


def _is_set(group: Mapping[Any, Any], option: str, *, default: bool = False) -> bool:
    value = group.get(option, default)
    return default if value is None else number(value) != 0


def _names(
    groups: list[Mapping[Any, Any]], weights: Mapping[str, Array], groupings: Sequence[Grouping]
) -> tuple[dict[int | str, str], str]:
    """The name of the parameter of each key of the state, and a remark on how it was found."""
    keys = [key for group in groups for key in group["params"]]
    if not all(type(key) in (int, str) for key in keys) or len(set(keys)) < len(keys):
        raise _NotAdamWError("its param_groups are not lists of different parameters")
    recorded = list(_recorded_names(groups))
    remark = ""
    if None in recorded:
        sizes = [len(group["params"]) for group in groups]
        found = next((one for one in groupings if [len(names) for names in one.groups] == sizes), None)
        if not found or keys != list(range(len(keys))):
            raise _NotAdamWError(_other_groups(sizes, groupings))
        recorded, remark = [name for names in found.groups for name in names], found.remark
    names = {key: _parameter_name(name, weights) for key, name in zip(keys, recorded, strict=True)}
    if len(set(names.values())) < len(names):
        raise _NotAdamWError("its param_groups have a parameter twice")
    return names, remark


def _recorded_names(groups: list[Mapping[Any, Any]]) -> Iterator[Any]:
    """The name of each parameter, None if it is not recorded: as its key (FSDP), or beside it (PyTorch since 2.6)."""
    for group in groups:
        named, keys = group.get("param_names"), group["params"]
        beside = named if isinstance(named, list) and len(named) == len(keys) else [None] * len(keys)
        yield from (key if isinstance(key, str) else name for key, name in zip(keys, beside, strict=True))


def _parameter_name(name: Any, weights: Mapping[str, Array]) -> str:
    """The name of a parameter of the model; some programs omit the prefix `transformer.`, and the head is tied."""
    plain = without_prefixes(name) if isinstance(name, str) else ""
    found = next((one for one in (plain, f"transformer.{plain}") if one in weights), TOKENS if plain == HEAD else "")
    if found not in weights:
        raise _NotAdamWError(f"it has a state of {shown([name])}, which is not a parameter of this model")
    return found


def _other_groups(sizes: list[int], groupings: Sequence[Grouping]) -> str:
    if not groupings:
        return "it does not name its parameters, and the order in which this program numbers them is unknown"
    known = " or ".join(dict.fromkeys(_listed([len(names) for names in one.groups]) for one in groupings))
    return f"its parameter groups have {_listed(sizes)} parameters, expected {known}"


def _listed(sizes: list[int]) -> str:
    more = f" and {len(sizes) - 8} more" if len(sizes) > 8 else ""
    return " + ".join(map(str, sizes[:8])) + more


def _checked(file: TensorSource, moment: str, name: str, tensor: Any, shape: tuple[int, ...]) -> Array:
    if not isinstance(tensor, np.ndarray) or not is_floating_point(tensor):
        raise _NotAdamWError(f"{moment} of {name} is not a floating-point tensor")
    if tensor.shape != shape:
        raise _NotAdamWError(f"{moment} of {name} has the shape {tensor.shape}, but the parameter has {shape}")
    if not is_finite(tensor):
        raise _NotAdamWError(f"{moment} of {name} contains NaN or infinity")
    if moment == MOMENTS[1] and is_negative(tensor):
        raise _NotAdamWError(f"{moment} of {name} contains negative values, but it is a mean of squares")
    file.release()
    return tensor
