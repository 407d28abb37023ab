"""Compares two models on the same held-out text: the difference of their losses with a 95 % confidence interval.

Windows are resampled in pairs (paired bootstrap: Efron & Tibshirani 1993; Koehn 2004 for machine translation), so differences
in difficulty between windows cancel out. Losses are compared in bits per byte, which does not depend on the tokenizer.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.weights import load_model
from ..corpus.make_tokenizer import load_tokenizer
from ..corpus.tokenizer import Tokenizer
from ..model import Model
from ..native.models import evaluated_natively
from .loss import byte_counts, texts_of

RESAMPLES, _SEED = 10_000, 0
_LOGITS_AT_ONCE, _DRAWS_AT_ONCE = 1 << 26, 1 << 20  # elements at a time, to limit memory

Ids = npt.NDArray[np.integer]


@dataclass(frozen=True)
class LanguageModel:
    """A model and its tokenizer."""

    model: Model
    tokenizer: Tokenizer


def load_language_model(folder: ModelFolder) -> LanguageModel:
    """Load the model and the tokenizer of a model folder."""
    return LanguageModel(load_model(folder), load_tokenizer(folder.path))


@dataclass(frozen=True)
class Difference:
    """The loss of a candidate minus that of the published model: below zero, the candidate is better.

    `candidate` and `published` are the losses in bits per byte. `low` and `high` are the bounds of the 95 % confidence interval
    of their difference, from `windows` resampled windows. `tokens` is the number of tokens that the candidate predicted.
    `candidate_nats`, `published_nats` and `high_nats` are the same in nats per token; None if the tokenizers differ.
    """

    candidate: float
    published: float
    low: float
    high: float
    windows: int
    tokens: int
    candidate_nats: float | None = None
    published_nats: float | None = None
    high_nats: float | None = None

    @property
    def mean(self) -> float:
        return self.candidate - self.published

    def __str__(self) -> str:
        nats = (
            "" if self.candidate_nats is None else f" ({self.candidate_nats:.4f} vs. {self.published_nats:.4f} nats per token)"
        )
        return (
            f"{self.candidate:.4f} vs. {self.published:.4f} bits per byte{nats}, difference {self.mean:+.4f} "
            f"(95 % CI {self.low:+.4f} to {self.high:+.4f}; {self.windows} windows, {self.tokens:,} tokens)"
        )


@dataclass(frozen=True)
class Scores:
    """The losses of a model on held-out text. For each window: the summed loss in nats, and the number of predicted tokens and
    of their bytes.

    `seconds` is the time that the model took, `tokenizer` the digest of its tokenizer.
    """

    nats: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    seconds: float
    tokenizer: str

    @property
    def loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def bits_per_byte(self) -> float:
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())

    @property
    def tokens_per_second(self) -> float:
        return float(self.tokens.sum() / self.seconds)


def score(language_model: LanguageModel, windows: Sequence[Ids], tokenizer: Tokenizer) -> Scores:
    """Compute the losses of a model on `windows` (1-D ids of `tokenizer`). The first token of each is only context.

    For a model with another tokenizer the text of the windows is tokenized again.
    """
    model, own = language_model.model, language_model.tokenizer
    if own.digest != tokenizer.digest:
        texts = texts_of(tokenizer, windows)
        windows = [np.asarray(ids, np.int64) for ids in own.encode_batch(texts)]
    started = time.perf_counter()
    losses = _window_losses(model, windows)
    seconds = time.perf_counter() - started
    shift = model.label_shift
    sizes = byte_counts(own, [window[shift:] for window in windows])
    return Scores(losses[:, 0], losses[:, 1], np.maximum(sizes, 1.0), seconds, own.digest)


def difference(candidate: Scores, published: Scores) -> Difference:
    """The difference of two models, from their scores on the same windows."""
    predicted = (candidate.tokens > 0) & (published.tokens > 0)
    bits = [np.column_stack([one.nats / math.log(2), one.bytes])[predicted] for one in (candidate, published)]
    nats = [np.column_stack([one.nats, one.tokens])[predicted] for one in (candidate, published)]
    same_tokens = candidate.tokenizer == published.tokenizer
    (low, high), *of_nats = intervals([bits, nats] if same_tokens else [bits])
    ours, theirs = bits
    found = Difference(
        candidate=float(_ratio(ours.sum(0))),
        published=float(_ratio(theirs.sum(0))),
        low=low,
        high=high,
        windows=len(ours),
        tokens=int(candidate.tokens[predicted].sum()),
    )
    if not same_tokens:
        return found
    ours, theirs = nats
    return replace(
        found,
        candidate_nats=float(_ratio(ours.sum(0))),
        published_nats=float(_ratio(theirs.sum(0))),
        high_nats=of_nats[0][1],
    )


def compare(candidate: LanguageModel, published: LanguageModel, windows: Sequence[Ids]) -> Difference:
    """Compare two models on `windows` (1-D ids of the candidate's tokenizer)."""
    ours, theirs = (score(model, windows, candidate.tokenizer) for model in (candidate, published))
    return difference(ours, theirs)


def intervals(pairs: Sequence[Sequence[npt.NDArray[np.float64]]], resamples: int = RESAMPLES) -> list[tuple[float, float]]:
    """The 95 % confidence intervals of the differences of two losses, over the same resamples, which take most of the time.

    Each pair is a loss of both models: for each window, the summed loss and its divisor.
    """
    windows, random = len(pairs[0][0]), np.random.default_rng(_SEED)
    at_once = max(1, _DRAWS_AT_ONCE // windows)
    differences: list[list[npt.NDArray[np.float64]]] = [[] for _ in pairs]
    for start in range(0, resamples, at_once):
        rows = np.arange(min(at_once, resamples - start))[:, None]
        # one bincount for all rows takes a tenth of the time of drawing counts: each row has its own range of window numbers
        draws = random.integers(windows, size=(len(rows), windows)) + rows * windows
        counts = np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape).astype(np.float64)
        for (ours, theirs), found in zip(pairs, differences, strict=True):
            found.append(_ratio(counts @ ours) - _ratio(counts @ theirs))  # subtract last: exactly zero for equal models
    limits = [np.quantile(np.concatenate(found), [0.025, 0.975]) for found in differences]
    return [(float(low), float(high)) for low, high in limits]


def _ratio(pairs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(pairs[..., 0] / pairs[..., 1])


@torch.no_grad()
def _window_losses(model: Model, windows: Sequence[Ids]) -> npt.NDArray[np.float64]:
    """For each window, the summed negative log-likelihood in nats and the number of predicted tokens: (windows, 2)."""
    size, device = model.config.block_size, next(model.parameters()).device
    pieces = [
        (index, window[start : start + size + 1])
        for index, window in enumerate(windows)
        for start in range(0, len(window) - 1, size)
    ]
    pieces.sort(key=lambda piece: len(piece[1]))
    result = np.zeros((len(windows), 2))
    at_once = max(1, _LOGITS_AT_ONCE // (size * model.config.vocab_size))
    was_training, native = model.training, evaluated_natively(model)
    model.eval()
    while pieces:
        length = len(pieces[0][1])
        batch = [piece for piece in pieces[:at_once] if len(piece[1]) == length]
        pieces = pieces[len(batch) :]
        predicted = length - model.label_shift
        if predicted < 1:
            continue
        rows = torch.from_numpy(np.stack([ids.astype(np.int64) for _, ids in batch])).to(device)
        ids, targets = rows[:, :-1], rows[:, 1:]
        losses = native.losses(ids, targets) if native else model.loss(ids, targets, reduction="none")
        losses = losses.view(len(batch), predicted).double().sum(1)
        for (index, _), loss in zip(batch, losses.tolist(), strict=True):
            result[index] += (loss, predicted)
    model.train(was_training)
    return result
