"""Is one model better than another? Both read the same held-out text, window by window, and the difference gets an interval.

Windows are resampled in pairs (a paired bootstrap: Efron & Tibshirani 1993; Koehn 2004, for translation), so what makes one
window harder than another cancels out. Models with one tokenizer are compared in nats per token, others in bits per byte.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.weights import load_model
from ..corpus.tokenizer import Tokenizer, load_tokenizer
from ..model import Model

RESAMPLES, _SEED = 10_000, 0
_LOGITS_AT_ONCE, _PICKS_AT_ONCE = 1 << 26, 1 << 20  # numbers, which bounds the memory that they take

Ids = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Reader:
    """A model and the tokenizer of its ids."""

    model: Model
    tokenizer: Tokenizer


def reader_of(folder: ModelFolder) -> Reader:
    """The model and the tokenizer of a model folder."""
    return Reader(load_model(folder), load_tokenizer(folder.path))


@dataclass(frozen=True)
class Difference:
    """Candidate minus published: below zero is better. `low` to `high` is the 95% interval; `windows` were resampled.

    `candidate` and `published` are the losses, in `unit`; `tokens` is how many the candidate predicted.
    """

    candidate: float
    published: float
    low: float
    high: float
    unit: Literal["nats per token", "bits per byte"]
    windows: int
    tokens: int

    @property
    def mean(self) -> float:
        return self.candidate - self.published

    def __str__(self) -> str:
        return (
            f"{self.candidate:.4f} against {self.published:.4f} {self.unit}, a difference of {self.mean:+.4f} (95% interval "
            f"{self.low:+.4f} to {self.high:+.4f}, from {self.windows} windows with {self.tokens:,} tokens)"
        )


@dataclass(frozen=True)
class Reading:
    """What a model made of the held-out text: for each window, what it lost in nats, over how many tokens and how many bytes.

    `seconds` is how long the model took.
    """

    nats: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    seconds: float
    tokenizer: str  # its digest

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


def read(reader: Reader, windows: Sequence[Ids], tokenizer: Tokenizer) -> Reading:
    """Read `windows`: 1-D ids of `tokenizer`, each with a first token that nobody predicts.

    A reader with another tokenizer reads the same text in its own ids.
    """
    if reader.tokenizer.digest != tokenizer.digest:
        texts = [_text(tokenizer, window) for window in windows]
        windows = [np.asarray(ids, np.int64) for ids in reader.tokenizer.encode_batch(texts)]
    started = time.perf_counter()
    scores = _scores(reader.model, windows)
    seconds = time.perf_counter() - started
    shift = reader.model.label_shift
    sizes = [len(_text(reader.tokenizer, window[shift:]).encode("utf-8", "replace")) for window in windows]
    return Reading(scores[:, 0], scores[:, 1], np.maximum(sizes, 1.0), seconds, reader.tokenizer.digest)


def difference(candidate: Reading, published: Reading) -> Difference:
    """Between two readings of the same windows."""
    same = candidate.tokenizer == published.tokenizer
    usable = (candidate.tokens > 0) & (published.tokens > 0)
    ours, theirs = (_pairs(reading, same)[usable] for reading in (candidate, published))
    low, high = interval(ours, theirs)
    return Difference(
        candidate=float(_ratio(ours.sum(0))),
        published=float(_ratio(theirs.sum(0))),
        low=low,
        high=high,
        unit="nats per token" if same else "bits per byte",
        windows=len(ours),
        tokens=int(candidate.tokens[usable].sum()),
    )


def compare(candidate: Reader, published: Reader, windows: Sequence[Ids]) -> Difference:
    """Compare on `windows`, in ids of the candidate's tokenizer; see `read`."""
    ours, theirs = (read(reader, windows, candidate.tokenizer) for reader in (candidate, published))
    return difference(ours, theirs)


def interval(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95% interval of the difference of two losses, each given by window: (summed loss, what it is divided by)."""
    windows, random = len(ours), np.random.default_rng(_SEED)
    at_once = max(1, _PICKS_AT_ONCE // windows)
    differences = []
    for start in range(0, resamples, at_once):
        rows = np.arange(min(at_once, resamples - start))[:, None]
        # a tenth of the time of drawing the counts themselves: the windows of every row have numbers of their own
        picks = random.integers(windows, size=(len(rows), windows)) + rows * windows
        counts = np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape).astype(np.float64)
        differences.append(_ratio(counts @ ours) - _ratio(counts @ theirs))  # one after the other: of equals exactly zero
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    return float(low), float(high)


def _pairs(reading: Reading, by_token: bool) -> npt.NDArray[np.float64]:
    """By window: the loss, and what it is divided by."""
    if by_token:
        return np.column_stack([reading.nats, reading.tokens])
    return np.column_stack([reading.nats / math.log(2), reading.bytes])


def _text(tokenizer: Tokenizer, ids: Ids) -> str:
    """Without what ends a document: another tokenizer writes that differently."""
    return tokenizer.decode(int(i) for i in ids if i != tokenizer.end_of_text_id)


def _ratio(pairs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(pairs[..., 0] / pairs[..., 1])


@torch.no_grad()
def _scores(model: Model, windows: Sequence[Ids]) -> npt.NDArray[np.float64]:
    """For every window: the summed negative log-likelihood in nats, and how many tokens were predicted."""
    size, device = model.config.block_size, next(model.parameters()).device
    pieces = [
        (index, window[start : start + size + 1])
        for index, window in enumerate(windows)
        for start in range(0, len(window) - 1, size)
    ]
    pieces.sort(key=lambda piece: len(piece[1]))
    result = np.zeros((len(windows), 2))
    at_once = max(1, _LOGITS_AT_ONCE // (size * model.config.vocab_size))
    was_training = model.training
    model.eval()
    while pieces:
        length = len(pieces[0][1])
        batch = [piece for piece in pieces[:at_once] if len(piece[1]) == length]
        pieces = pieces[len(batch) :]
        predicted = length - model.label_shift
        if predicted < 1:
            continue
        rows = torch.from_numpy(np.stack([ids.astype(np.int64) for _, ids in batch])).to(device)
        losses = model.loss(rows[:, :-1], rows[:, 1:], reduction="none").view(len(batch), predicted).double().sum(1)
        for (index, _), loss in zip(batch, losses.tolist(), strict=True):
            result[index] += (loss, predicted)
    model.train(was_training)
    return result
