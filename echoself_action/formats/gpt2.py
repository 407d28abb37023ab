"""Reads GPT-2 checkpoints in any layout but nanoGPT's: a state dict with GPT-2's names, whose tensors determine the sizes.

The number of heads can't be inferred from tensors. The activation can't either: see activation.py.
"""

from collections.abc import Mapping
from functools import partial

from ..model.config import GPT2Config
from .activation import choose_activation, of_state_dict
from .arithmetic import stated_arithmetic
from .detect_layout import number
from .gpt2_tensors import gpt2_weights, inferred_sizes, logits, stored_as_linear, tensors_by_gpt2_name, transposed
from .imported_model import CONTRADICTION, NOTHING_GIVEN, Given, ImportedModel
from .optimizer_state import read_optimizer, stored_optimizer
from .recorded_config import (
    SIZES,
    RecordedConfig,
    configs_beside,
    configs_in_file,
    losses_of,
    read_json,
    step_of,
    training_settings,
)
from .torch_file.reader import TorchFile

HEADS_ADVICE = (
    "Give n_head, or put the model's config.json (or model_config.json) with n_head beside the file. A wrong number of heads "
    "fits the same tensors, but computes another model."
)


def read(file: TorchFile, given: Given = NOTHING_GIVEN) -> ImportedModel:
    """Convert the checkpoint; `given` is for files that do not record it.

    Raises CheckpointError if the file contradicts itself, contains NaN or infinity, or if the number of heads is unknown.
    """
    stored, recorded = tensors_by_gpt2_name(file), configs_in_file(file)
    linear = stored_as_linear(file, stored)
    sizes = inferred_sizes(file, stored)
    nearby = configs_beside(file.path)
    heads, remarks = _heads(file, sizes, recorded, nearby, given.n_head)
    config, assumptions = _config(file, {**sizes, "n_head": heads}, recorded, nearby, linear, given)
    weights = gpt2_weights(file, config, linear, "the sizes of its other tensors")
    step = step_of(file)
    if step is None:
        remarks += ("it records no step: steps count from 0",)
    state = read_optimizer(file, stored_optimizer(file.content), weights, ())
    remarks += (_orientation_remark(config, linear),)
    trained = next(
        (file.content[key] for key in ("training_config", "config", "hyper_parameters") if key in file.content), None
    )
    train_loss, best_val_loss = losses_of(file)
    return ImportedModel(
        file.origin,
        config,
        transposed(weights) if linear else weights,
        partial(logits, config, weights, linear),
        transposed(state.moments) if linear else state.moments,
        step=step or 0,
        train_loss=train_loss,
        best_val_loss=best_val_loss,
        settings=training_settings(trained) | state.settings,
        remarks=remarks,
        optimizer_notes=state.notes,
        assumptions=assumptions,
    )


def _heads(
    file: TorchFile, sizes: Mapping[str, int], recorded: list[RecordedConfig], nearby: list[RecordedConfig], given: int | None
) -> tuple[int, tuple[str, ...]]:
    """The number of heads, and a remark on its source: the file, otherwise the user, otherwise a JSON file beside it."""
    for place in recorded:
        _require_agreement(file, place, sizes)
    inner = {place.where: heads for place in recorded if (heads := place.size("n_head"))}
    outer = {place.where: heads for place in nearby if (heads := place.size("n_head"))}
    if len(set(inner.values())) > 1:
        file.refuse(f"contradicts itself: {_listed(inner)}", "Correct the wrong one in a copy of the file.")
    if inner:
        heads = next(iter(inner.values()))
        if given not in (None, heads):
            file.refuse(f"records n_head={heads} in {next(iter(inner))}, but n_head: {given} was given", "Leave n_head out.")
        remark: tuple[str, ...] = ()
    elif given:
        heads, remark = given, (f"n_head={given} was given; it can't be verified from the tensors",)
    elif outer:
        for place in nearby:
            _require_agreement(file, place, sizes)
        where, heads = next(iter(outer.items()))
        if len(set(outer.values())) > 1 and not _by_echoself_converter(file):
            file.refuse(f"has files beside it that contradict each other: {_listed(outer)}", "Give n_head.")
        others = f", not {_listed(outer).split(', ', 1)[1]}" if len(set(outer.values())) > 1 else ""
        remark = (f"n_head={heads} is from {where}{others}; it can't be verified from the tensors",)
    else:
        file.refuse(
            "does not record the number of attention heads (n_head), which can't be inferred from its tensors", HEADS_ADVICE
        )
    if sizes["n_embd"] % heads:
        file.refuse(f"has n_embd={sizes['n_embd']}, which is not divisible by n_head={heads}", HEADS_ADVICE)
    return heads, remark


def _config(
    file: TorchFile,
    sizes: Mapping[str, int],
    recorded: list[RecordedConfig],
    nearby: list[RecordedConfig],
    linear: bool,
    given: Given,
) -> tuple[GPT2Config, tuple[str, ...]]:
    """The model's config, and what was assumed. Settings in the file or beside it must be such that our GPT-2 computes them."""
    bias = any(name.endswith(".bias") for name in tensors_by_gpt2_name(file))
    for place in recorded:
        declared = place.values.get("bias", bias)
        if declared != bias:
            file.refuse(f"records bias={declared!r} in {place.where}, but has {'' if bias else 'no '}biases", CONTRADICTION)
    if _by_echoself_converter(file):  # of the files beside it that converters write, only one that is not known to be wrong
        nearby = []
    nearby = [place for place in nearby if place.agrees(sizes)]
    stated, beside = (stated_arithmetic(file, places, sizes) for places in (recorded, nearby))
    dropout = next((value for place in recorded if (value := number(place.values.get("dropout"))) is not None), 0.0)
    if not 0 <= dropout < 1:
        file.refuse(
            f"has an invalid dropout ({dropout})", "Correct it in a copy of the file: a rate is at least 0 and below 1."
        )
    activation, assumptions = choose_activation(file, given, stated, beside, of_state_dict(file, linear, [*recorded, *nearby]))
    return (
        GPT2Config(
            **sizes,
            dropout=dropout,
            bias=bias,
            activation=activation,
            layer_norm_epsilon=stated.layer_norm_epsilon or beside.layer_norm_epsilon or 1e-5,
        ),
        assumptions,
    )


def _orientation_remark(config: GPT2Config, linear: bool) -> str:
    orientation = "nn.Linear (out, in)" if linear else "Conv1D (in, out)"
    gelu = "the exact GELU" if config.activation == "gelu" else "the tanh approximation of GELU"
    return f"its matrices are stored as in {orientation}; it was imported with {gelu} ({config.activation})"


def _require_agreement(file: TorchFile, place: RecordedConfig, sizes: Mapping[str, int]) -> None:
    wrong = [name for name in SIZES if place.size(name) not in (None, sizes[name])]
    if wrong:
        declared = ", ".join(f"{name}={place.size(name)}" for name in wrong)
        seen = ", ".join(f"{name}={sizes[name]}" for name in wrong)
        file.refuse(f"contradicts {place.where}: recorded {declared}, but its tensors have {seen}", CONTRADICTION)


def _by_echoself_converter(file: TorchFile) -> bool:
    """Whether EchoSelf's converter wrote its config.json, with a wrong n_head; training_metadata.json has the trainer's."""
    return "echo_self_version" in read_json(file.path.parent / "config.json")


def _listed(heads: Mapping[str, int]) -> str:
    return ", ".join(f"n_head={count} in {where}" for where, count in heads.items())
