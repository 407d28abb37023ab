"""Looks inside a model: where its attention goes, and what each path of a NanEcho does for its loss and its logits.

The model card of the original NanEcho claims adaptive attention, persona dimensions, recursive reasoning and hypergraph
patterns. Here each is a figure, measured on held-out text. The figures come from the same forward pass as the loss. A path is
switched off in that pass; the model is not trained again without it. What it would have learnt without the path is another
question: train a model without it (the setting `nanecho_paths`), and compare the two.

Everything is computed in fp32 by PyTorch, on up to `TOKENS` tokens and for about `SECONDS`.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint.introspection_facts import FEWEST_WINDOWS, AblationFacts, IntrospectionFacts, ThresholdFacts
from ..checkpoint.model_folder import ModelFolder, record
from ..model import Model
from ..model.gpt2 import GPT2
from .held_out import digest_of
from .loss import HeldOut, byte_counts
from .paired_bootstrap import Ids, LanguageModel, Scores, difference, load_language_model

if TYPE_CHECKING:
    from ..model.nanecho import NanEchoForCausalLM

TOKENS, SECONDS = 8192, 30.0
_ATTENTION_SHARE = 0.25  # of the time, at most, for what is measured without an ablation
_TOKENS_AT_ONCE, _ELEMENTS_AT_ONCE = 1024, 1 << 25  # elements of logits or of attention weights: 128 MiB in fp32
_SEED = 0
ADAPTIVE_THRESHOLD = "adaptive_threshold"

Threshold = Callable[[Tensor], Tensor]


def with_introspection(folder: ModelFolder, val: npt.NDArray[np.unsignedinteger]) -> ModelFolder:
    """The model folder, with the figures of `introspect` on evenly spaced windows of the validation split (1-D ids) in its
    metadata. They are not measured again if the metadata has them for the same text."""
    windows = HeldOut(val, folder.config.block_size, TOKENS).windows()
    known = folder.metadata.introspection if folder.metadata else None
    if known and known.held_out == digest_of(windows):
        return folder
    return record(folder, overwrite=True, introspection=introspect(load_language_model(folder), windows))


def introspect(language_model: LanguageModel, held_out: Sequence[Ids], seconds: float = SECONDS) -> IntrospectionFacts:
    """Measure the model on the windows of full length in `held_out` (1-D ids of its tokenizer), in an order drawn once.

    After `seconds`, no further windows are measured once there are enough for an interval, and none at all after twice that
    time; at least one batch always is. Raises ValueError if `held_out` has no window that the model predicts a token of.
    """
    started = time.monotonic()
    model = language_model.model
    was_training = model.training
    model.eval()
    windows = _chosen(held_out)
    if not windows or len(windows[0]) <= model.label_shift:
        raise ValueError("introspection needs a window with a token to predict")
    measured = _measure_attention(model, windows, started + _ATTENTION_SHARE * seconds, seconds)
    paths = paths_of(model)
    constants = [values.mean() for values in measured.thresholds]
    losses, shares = _measure_ablations(model, windows[: len(measured.losses)], paths, constants, started + seconds, seconds)
    model.train(was_training)
    sizes = np.maximum(byte_counts(language_model.tokenizer, [window[model.label_shift :] for window in windows]), 1.0)
    digest, per_window = language_model.tokenizer.digest, len(windows[0]) - model.label_shift

    def scores(nats: Sequence[float]) -> Scores:
        count = len(nats)
        return Scores(np.array(nats), np.full(count, float(per_window)), sizes[:count], 0.0, digest)

    config: Any = model.config
    masks: list[Any] = [module for module in model.modules() if hasattr(module, "_current_ratio_tensor")]
    stated = [float(module._current_ratio_tensor) for module in masks]
    return IntrospectionFacts(
        held_out=digest_of(held_out),
        windows=len(measured.losses),
        tokens=per_window * len(measured.losses),
        bits_per_byte=scores(measured.losses).bits_per_byte,
        entropy=tuple(tuple((heads / measured.positions).tolist()) for heads in measured.entropy),
        uniform_entropy=float(np.log2(np.arange(1, len(windows[0]))).mean()),
        thresholds=tuple(_threshold_facts(values, config) for values in measured.thresholds),
        connections=_share_of_ones(masks) if masks else None,
        stated_connections=sum(stated) / len(stated) if stated else None,
        recursion_depth=config.recursion_depth if "recursive_reasoning" in paths else None,
        max_recursion_depth=config.max_recursion_depth if "recursive_reasoning" in paths else None,
        ablations=tuple(
            _ablation(path, scores(losses[path]), scores(losses[""]), shares[path]) for path in (paths if losses[""] else ())
        ),
        ablation_windows=len(losses[""]) if paths else 0,
        seconds=round(time.monotonic() - started, 3),
    )


def paths_of(model: Model) -> list[str]:
    """The paths of a model that `without` can switch off: those of `nanecho_paths` that it has, the adaptation of its
    thresholds, and each persona dimension; none of a GPT-2."""
    if isinstance(model, GPT2):
        return []
    blocks = _blocks(model)
    dimensions = list(dict.fromkeys(name for block in blocks for name in block.persona_dims))
    found = ["adaptive_attention", ADAPTIVE_THRESHOLD] if model.config.enable_adaptive_attention else []
    found += ["persona_dimensions", *(f"persona_dimensions.{name}" for name in dimensions)] if dimensions else []
    found += ["recursive_reasoning"] if any(block.recursive is not None for block in blocks) else []
    return found + (["hypergraph_patterns"] if any(block.hypergraph is not None for block in blocks) else [])


@contextmanager
def without(model: Model, path: str, constants: Sequence[float] = ()) -> Iterator[None]:
    """In the block, `model` computes without `path`, one of `paths_of`: as one that was built without it, with the same
    weights. `constants` are the thresholds of its layers, which `adaptive_threshold` holds."""
    assert not isinstance(model, GPT2)
    name, _, dimension = path.partition(".")
    with ExitStack() as restored:
        if path == ADAPTIVE_THRESHOLD:
            for attention, constant in zip(_attentions(model), constants, strict=True):
                restored.enter_context(_replaced(attention, "threshold", _held_at(constant)))
        elif name == "adaptive_attention":
            model.config.enable_adaptive_attention = False
            restored.callback(setattr, model.config, "enable_adaptive_attention", True)
        for block in _blocks(model):
            if name == "persona_dimensions":
                kept = {one: module for one, module in block.persona_dims.items() if dimension and one != dimension}
                restored.callback(setattr, block, "persona_dims", block.persona_dims)
                block.persona_dims = nn.ModuleDict(kept)
            for attribute, of_path in (("recursive", "recursive_reasoning"), ("hypergraph", "hypergraph_patterns")):
                if name == of_path and getattr(block, attribute) is not None:
                    restored.callback(setattr, block, attribute, getattr(block, attribute))
                    setattr(block, attribute, None)
        yield


@dataclass
class _Attention:
    """What one pass over the windows measured: the loss of each in nats, the sums of entropies by layer (heads), over
    `positions` tokens, and the thresholds by layer."""

    losses: list[float] = field(default_factory=list)
    entropy: list[Tensor] = field(default_factory=list)
    thresholds: list[Tensor] = field(default_factory=list)
    positions: int = 0


@torch.no_grad()
def _measure_attention(model: Model, windows: Sequence[Ids], deadline: float, seconds: float) -> _Attention:
    found = _Attention()
    layers = _attentions(model)
    found.entropy = [torch.zeros(model.config.n_head, dtype=torch.float64) for _ in layers]
    thresholds: list[list[Tensor]] = [[] for _ in layers]
    with ExitStack() as hooks:
        for layer, attention in enumerate(layers):
            if isinstance(model, GPT2):
                hooks.callback(attention.register_forward_pre_hook(_entropy_hook(found.entropy[layer])).remove)
                continue
            hooks.enter_context(_replaced(attention, "weights", _adding_entropy(attention.weights, found.entropy[layer])))
            hooks.enter_context(_replaced(attention, "threshold", _recording(attention.threshold, thresholds[layer])))
        for rows in _batches(model, windows):
            if _is_over(len(found.losses), deadline, seconds):
                break
            found.losses += _losses(model, model.logits(rows[:, :-1]), rows[:, 1:])
            found.positions += rows[:, 1:].numel()
    found.thresholds = [torch.cat(seen) for seen in thresholds if seen]
    return found


@torch.no_grad()
def _measure_ablations(
    model: Model,
    windows: Sequence[Ids],
    paths: Sequence[str],
    constants: Sequence[Tensor],
    deadline: float,
    seconds: float,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The loss in nats of each window by path, "" for the whole model, and the logit shares."""
    losses: dict[str, list[float]] = {path: [] for path in ("", *paths)}
    changed, whole = dict.fromkeys(paths, 0.0), 0.0
    held = [float(one) for one in constants]
    for rows in _batches(model, windows) if paths else ():
        if _is_over(len(losses[""]), deadline, seconds):
            break
        ids, targets = rows[:, :-1], rows[:, 1:]
        logits = model.logits(ids)
        losses[""] += _losses(model, logits, targets)
        centred = logits - logits.mean(-1, keepdim=True)
        whole += _squares(centred)
        for path in paths:
            with without(model, path, held):
                logits = model.logits(ids)
            losses[path] += _losses(model, logits, targets)
            changed[path] += _squares(centred - (logits - logits.mean(-1, keepdim=True)))
    return losses, {path: math.sqrt(changed[path] / whole) if whole else 0.0 for path in paths}


def _is_over(windows: int, deadline: float, seconds: float) -> bool:
    """Whether to end with `windows` windows: at the deadline, or `seconds` later while they are too few for an interval."""
    late = time.monotonic() - deadline
    return windows > 0 and late > (0 if windows >= FEWEST_WINDOWS else seconds)


def _losses(model: Model, logits: Tensor, targets: Tensor) -> list[float]:
    """The summed cross-entropy in nats of each row, from the logits (batch, length, vocab_size): as `Model.loss` has it."""
    ahead = model.label_shift - 1
    predicted, expected = logits[:, : logits.shape[1] - ahead], targets[:, ahead:]
    losses = F.cross_entropy(predicted.flatten(0, 1).float(), expected.flatten(), reduction="none")
    sums: list[float] = losses.view(len(targets), -1).double().sum(1).tolist()
    return sums


def _squares(values: Tensor) -> float:
    return float(values.square().sum(dtype=torch.float64))


def _chosen(held_out: Sequence[Ids]) -> list[Ids]:
    """Windows of one length, in an order that is drawn once, so that the first of them are spread over the text as all are."""
    longest = max(map(len, held_out), default=0)
    whole = [window for window in held_out if len(window) == longest]
    return [whole[index] for index in np.random.default_rng(_SEED).permutation(len(whole))]


def _batches(model: Model, windows: Sequence[Ids]) -> Iterator[Tensor]:
    """Stacks of windows: (batch, length)"""
    config, length = model.config, len(windows[0])
    elements = length * max(config.vocab_size, config.n_head * length)
    at_once = max(1, min(_TOKENS_AT_ONCE // length, _ELEMENTS_AT_ONCE // elements))
    device = next(model.parameters()).device
    for start in range(0, len(windows), at_once):
        stack = np.stack([np.asarray(window, np.int64) for window in windows[start : start + at_once]])
        yield torch.from_numpy(stack).to(device)


def _add_entropy(weights: Tensor, sums: Tensor) -> None:
    """Add the entropies in bits of attention weights (batch, heads, length, length) to `sums` (heads)."""
    entropy = -torch.special.xlogy(weights, weights).sum(-1) / math.log(2)
    sums.add_(entropy.sum((0, 2), dtype=torch.float64).cpu())


def _entropy_hook(sums: Tensor) -> Callable[[Any, tuple[Any, ...]], None]:
    """For a GPT-2, whose attention does not compute its weights by themselves."""
    return lambda attention, arguments: _add_entropy(attention.weights(arguments[0]), sums)


def _adding_entropy(original: Callable[[Tensor, Any], tuple[Tensor, Tensor]], sums: Tensor) -> Callable[..., Any]:
    def weights(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        found = original(x, context)
        _add_entropy(found[0], sums)
        return found

    return weights


def _recording(original: Threshold, seen: list[Tensor]) -> Threshold:
    def threshold(mean: Tensor) -> Tensor:
        found = original(mean)
        seen.append(found.flatten().cpu())
        return found

    return threshold


@contextmanager
def _replaced(module: Any, method: str, function: Callable[..., Any]) -> Iterator[None]:
    """In the block, `module` calls `function` for its method of this name."""
    setattr(module, method, function)  # of the instance, before that of the class
    try:
        yield
    finally:
        delattr(module, method)


def _held_at(constant: float) -> Threshold:
    return lambda mean: torch.full_like(mean[..., :1], constant)


def _threshold_facts(values: Tensor, config: Any) -> ThresholdFacts:
    low, high = config.attention_threshold_min, config.attention_threshold_max
    return ThresholdFacts(
        mean=float(values.double().mean()),
        deviation=float(values.double().std(correction=0)),
        low=float(values.min()),
        high=float(values.max()),
        at_limit=float(((values <= low) | (values >= high)).double().mean()),
    )


def _ablation(path: str, ablated: Scores, whole: Scores, share: float) -> AblationFacts:
    found = difference(ablated, whole)
    enough = found.windows >= FEWEST_WINDOWS
    return AblationFacts(
        path=path,
        change=found.mean,
        low=found.low if enough else None,
        high=found.high if enough else None,
        logit_share=share,
    )


def _share_of_ones(masks: Sequence[Any]) -> float:
    ones = sum(int((one.mask != 0).sum()) for one in masks)
    return ones / sum(int(one.mask.numel()) for one in masks)


def _blocks(model: "NanEchoForCausalLM") -> list[Any]:
    return list(model.blocks)


def _attentions(model: Model) -> list[Any]:
    blocks: list[Any] = list(model.transformer.h if isinstance(model, GPT2) else model.blocks)
    return [block.attn for block in blocks]
