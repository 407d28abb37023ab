"""nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT, train.py and model.py), checked and in our names; and back.

nanoGPT keeps nn.Linear's matrices as (out, in), GPT-2's files as (in, out); biases may be absent; GELU is the exact one; the
head is tied. Its AdamW numbers parameters in the order of `named_parameters`: first those with two dimensions, then the rest.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...model.gpt2 import GPT2Config
from .layouts import number
from .reader import Foreign, check_tensor
from .source import Source

_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_HEAD, _TOKENS = "lm_head.weight", "transformer.wte.weight"
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_MOMENTS = ("exp_avg", "exp_avg_sq")
_UNTRAINED = 1e9  # best_val_loss of a run that was never evaluated
# What of train.py's settings says how the model was trained; the others are paths and names on somebody's machine.
_SETTINGS = (
    *("batch_size", "gradient_accumulation_steps", "max_iters", "weight_decay", "beta1", "beta2", "grad_clip", "dtype"),
    *("learning_rate", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr", "dataset"),
)


def read_nanogpt(foreign: Foreign) -> Source:
    """Check everything against `model_args`. Raises CheckpointError where the file contradicts itself or holds no numbers."""
    content = foreign.content
    config = _config(foreign, content["model_args"])
    weights = _weights(foreign, config)
    settings = content.get("config")
    plain = settings if isinstance(settings, Mapping) else {}
    kept = {name: plain[name] for name in _SETTINGS if isinstance(plain.get(name), bool | int | float | str)}
    moments, groups = _moments(foreign, weights, content.get("optimizer"))
    step = content["iter_num"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        foreign.refuse("has an iter_num that is no count of steps")
    loss = number(content.get("best_val_loss"))
    return Source(
        foreign,
        config,
        turned(weights),
        partial(_logits, config, weights),
        turned(moments),
        step,
        None if loss == _UNTRAINED else loss,
        kept | groups,
    )


def turned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Views in the other program's orientation: of weights or moments, from nanoGPT's to GPT-2's or back."""
    return {name: tensor.t() if name.endswith(_TRANSPOSED) else tensor for name, tensor in tensors.items()}


def optimizer_order(weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """The names in each of AdamW's two groups: those that decay, and the rest."""
    names = [name for name in weights if name != _HEAD]
    return [name for name in names if weights[name].dim() > 1], [name for name in names if weights[name].dim() < 2]


def shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """nanoGPT's parameters in the order of its `named_parameters`, the tied head left out."""
    width, found = config.n_embd, {_TOKENS: (config.vocab_size, config.n_embd)}
    result: dict[str, tuple[int, ...]] = {**found, "transformer.wpe.weight": (config.block_size, width)}

    def add(name: str, shape: tuple[int, ...]) -> None:
        result[f"{name}.weight"] = shape
        if config.bias:
            result[f"{name}.bias"] = shape[:1]

    for i in range(config.n_layer):
        block = f"transformer.h.{i}"
        add(f"{block}.ln_1", (width,))
        add(f"{block}.attn.c_attn", (3 * width, width))
        add(f"{block}.attn.c_proj", (width, width))
        add(f"{block}.ln_2", (width,))
        add(f"{block}.mlp.c_fc", (4 * width, width))
        add(f"{block}.mlp.c_proj", (width, 4 * width))
    add("transformer.ln_f", (width,))
    return result


def _config(foreign: Foreign, args: object) -> GPT2Config:
    if not isinstance(args, Mapping):
        foreign.refuse("has model_args that are no dict")
    sizes = {name: value for name in _SIZES if type(value := args.get(name)) is int and value > 0}
    if missing := [name for name in _SIZES if name not in sizes]:
        foreign.refuse(f"has no whole number for {', '.join(missing)} in its model_args")
    if sizes["n_embd"] % sizes["n_head"]:
        foreign.refuse(f"says n_embd={sizes['n_embd']}, which is not divisible by n_head={sizes['n_head']}")
    bias, dropout = args.get("bias", True), number(args.get("dropout", 0.0))
    if type(bias) is not bool or dropout is None or not 0 <= dropout < 1:
        foreign.refuse("has a bias or a dropout in its model_args that is none")
    if sizes["n_layer"] > len(foreign.weights):  # before anything is made for every layer
        foreign.refuse(f"says n_layer={sizes['n_layer']}, and has {len(foreign.weights)} tensors")
    return GPT2Config(**sizes, dropout=dropout, bias=bias, activation="gelu")


def _weights(foreign: Foreign, config: GPT2Config) -> dict[str, Tensor]:
    """The parameters in nanoGPT's order, each of its shape, and of finite floating-point numbers."""
    buffers = (".attn.bias", ".attn.masked_bias")  # the causal mask, where PyTorch had no flash attention
    stored = {name: tensor for name, tensor in foreign.weights.items() if not name.endswith(buffers)}
    head, expected = stored.pop(_HEAD, None), shapes(config)
    if head is not None:
        stored.setdefault(_TOKENS, head)
    problems = [f"{name} is missing" for name in expected if name not in stored]
    problems += [f"{name[:100]} is no tensor of that model" for name in stored if name not in expected]
    problems += [
        f"{name} has the shape {tuple(stored[name].shape)} and not {shape}"
        for name, shape in expected.items()
        if name in stored and tuple(stored[name].shape) != shape
    ]
    problems += [f"{name} is of {tensor.dtype}" for name, tensor in stored.items() if not tensor.is_floating_point()]
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        foreign.refuse(f"contradicts its model_args: {'; '.join(problems[:4])}{more}")
    for name in expected:
        _require_numbers(foreign, name, stored[name])
    if head is not None and not torch.equal(head, stored[_TOKENS]):
        foreign.refuse("has an lm_head.weight that is not its wte.weight, and nanoGPT ties the two")
    return {name: stored[name] for name in expected}


def _moments(foreign: Foreign, weights: Mapping[str, Tensor], optimizer: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """AdamW's state by parameter name, and its settings. Both empty where it has taken no step, or none was saved."""
    if not isinstance(optimizer, Mapping) or not optimizer.get("state"):
        return {}, {}
    decayed, rest = optimizer_order(weights)
    state: Any = optimizer["state"]
    groups: Any = optimizer.get("param_groups")
    order = dict(enumerate([*decayed, *rest]))
    try:
        positions = [list(group["params"]) for group in groups]
        beta1, beta2 = groups[0]["betas"]
        settings = {"weight_decay": float(groups[0]["weight_decay"]), "beta1": float(beta1), "beta2": float(beta2)}
        fits = positions == [list(range(len(decayed))), list(range(len(decayed), len(order)))] and set(state) == set(order)
        found = {f"{moment}.{name}": state[i][moment] for i, name in order.items() for moment in _MOMENTS}
        steps = {f"steps.{name}": number(state[i]["step"]) for i, name in order.items()}
    except (TypeError, KeyError, ValueError, IndexError):
        fits = False
    if not fits:
        foreign.refuse("has an optimizer state that is not nanoGPT's AdamW of this model")
    for key, tensor in found.items():
        shape = weights[key.partition(".")[2]].shape
        if not isinstance(tensor, Tensor) or tensor.shape != shape or not tensor.is_floating_point():
            foreign.refuse(f"has an optimizer state that does not fit the model: {key}")
        check_tensor(foreign.archive, key, tensor)
        _require_numbers(foreign, key, tensor)
    if any(step is None or step < 0 for step in steps.values()):
        foreign.refuse("has an optimizer state that counts no steps")
    return {**found, **{key: torch.tensor(step) for key, step in steps.items()}}, settings


@torch.no_grad()
def _logits(config: GPT2Config, weights: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """nanoGPT's own arithmetic on its own tensors, in fp32: (batch, length) -> (batch, length, vocab_size)."""

    def linear(x: Tensor, name: str) -> Tensor:
        bias = weights.get(f"{name}.bias")
        return F.linear(x, weights[f"{name}.weight"].float(), None if bias is None else bias.float())

    def norm(x: Tensor, name: str) -> Tensor:
        bias = weights.get(f"{name}.bias")
        scale = weights[f"{name}.weight"].float()
        return F.layer_norm(x, scale.shape, scale, None if bias is None else bias.float(), 1e-5)

    tokens = weights[_TOKENS].float()
    x = tokens[ids] + weights["transformer.wpe.weight"][: ids.shape[1]].float()
    for i in range(config.n_layer):
        block = f"transformer.h.{i}"
        heads = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn").chunk(3, dim=2)
        query, key, value = (part.view(*ids.shape, config.n_head, -1).transpose(1, 2) for part in heads)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + linear(y.transpose(1, 2).flatten(2), f"{block}.attn.c_proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")), f"{block}.mlp.c_proj")
    return F.linear(norm(x, "transformer.ln_f"), tokens)


def _require_numbers(foreign: Foreign, name: str, tensor: Tensor) -> None:
    low, high = tensor.aminmax()  # NaN comes through
    if not (torch.isfinite(low) and torch.isfinite(high)):
        foreign.refuse(f"has weights that are not numbers: {name} holds NaN or infinity")
    foreign.archive.release()
