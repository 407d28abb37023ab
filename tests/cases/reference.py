"""GPT-2 in NumPy and double precision: the logits of an imported checkpoint equal these. Shares no code with the product."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ids = np.ndarray[Any, np.dtype[np.int64]]

TOLERANCE = 1e-4  # of a logit, from a folder that Transformers computes in float32, against double precision


def some_ids(vocab_size: int, length: int = 16, batch: int = 2) -> Ids:
    """(batch, length) ids, the same in each run."""
    return np.random.default_rng(0).integers(0, vocab_size, (batch, length))


def gpt2_logits(
    weights: Mapping[str, Any],
    ids: Ids,
    n_head: int,
    activation: str = "gelu",
    epsilon: float = 1e-5,
    *,
    scale: bool = True,
    scale_by_layer: bool = False,
) -> Floats:
    """(batch, length, vocabulary) logits of `ids`, (batch, length).

    `weights` has Transformers' names without `transformer.`: `wte.weight`, `h.0.attn.c_attn.weight`, matrices as (in, out).
    Biases may be absent; without `lm_head.weight`, (vocabulary, width), the head is tied. `scale` and `scale_by_layer` are
    GPT2Config's `scale_attn_weights` and `scale_attn_by_inverse_layer_idx`.
    """
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    length = ids.shape[1]
    future = np.triu(np.full((length, length), -np.inf), 1)
    x = w["wte.weight"][ids] + w["wpe.weight"][:length]
    layers = len({name.split(".")[1] for name in w if name.startswith("h.")})
    for i in range(layers):
        h = f"h.{i}."
        q, k, v = np.split(_linear(w, f"{h}attn.c_attn", _layer_norm(w, f"{h}ln_1", x, epsilon)), 3, axis=-1)
        q, k, v = (part.reshape(*part.shape[:2], n_head, -1).swapaxes(1, 2) for part in (q, k, v))
        scores = q @ k.swapaxes(2, 3) / (math.sqrt(q.shape[-1]) if scale else 1.0) / (i + 1 if scale_by_layer else 1)
        scores = scores + future
        chances = np.exp(scores - scores.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        x = x + _linear(w, f"{h}attn.c_proj", (chances @ v).swapaxes(1, 2).reshape(x.shape))
        hidden = ACTIVATIONS[activation](_linear(w, f"{h}mlp.c_fc", _layer_norm(w, f"{h}ln_2", x, epsilon)))
        x = x + _linear(w, f"{h}mlp.c_proj", hidden)
    head = w.get("lm_head.weight", w["wte.weight"])
    logits: Floats = _layer_norm(w, "ln_f", x, epsilon) @ head.T
    return logits


def assert_exact(folder: Path, ids: Ids, logits: Floats) -> None:
    """The model folder, loaded by Transformers in float32, has these logits, and the same first choice at every position."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(torch.from_numpy(ids)).logits.double().numpy()
    assert found.shape == logits.shape
    assert np.abs(found - logits).max() <= TOLERANCE
    assert (found.argmax(-1) == logits.argmax(-1)).all()


def assert_reference(folder: Path, case: Path) -> None:
    """As `assert_exact`, against the reference.npz of a reported case."""
    with np.load(case / "reference.npz") as reference:
        assert_exact(folder, reference["ids"], reference["logits"].astype(np.float64))


def _linear(w: Mapping[str, Floats], name: str, x: Floats) -> Floats:
    return x @ w[f"{name}.weight"] + w.get(f"{name}.bias", np.zeros(1))


def _layer_norm(w: Mapping[str, Floats], name: str, x: Floats, epsilon: float) -> Floats:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * w[f"{name}.weight"] + w.get(f"{name}.bias", np.zeros(1))


def _erf(x: Floats) -> Floats:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
}
