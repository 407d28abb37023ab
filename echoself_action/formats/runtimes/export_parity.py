"""How an exported file is compared with the model folder that it was made from: the same token ids and texts for every format.

The runtime of the format computes the logits of `token_ids` and the ids of `texts`; `facts` compares them.
"""

import math
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...checkpoint.metadata import ExportFacts
from ...checkpoint.model_folder import ModelFolder, sha256
from ...checkpoint.weights import load_model
from ...corpus.make_tokenizer import load_tokenizer
from ...corpus.tokenizer import Tokenizer
from ...errors import CheckpointError, EchoselfError
from ...evaluation.held_out import read_held_out
from ...evaluation.loss import byte_counts

TEXTS = 1000  # whose token ids must be equal
_HELD_OUT = 8  # sequences, at most
_POSITIONS = 64  # in each sequence, at most
_TEXT_TOKENS = 24
_TIE = 1e-4  # logits that differ by less are equal up to rounding: either is the largest
# What tokenizers treat in different ways: words, case, contractions, digits, marks, scripts, emoji, spaces, line ends.
_WORDS = (
    "the The THE don't DON'T it's we'll they've I'm x naïve Ünïcödé straße ﬁne 0 42 1234567890 3.14 1e-5 0x1F ² ½ ٣ "
    ". , ... !? -- ( ) [] {} => == :: # ` \" ' \u2019 \u201c\u201d _ __init__ / \\ "
    "日本語 中文字符 한국어 русский ελληνικά עברית العربية हिन्दी ไทย 🙂 👩‍👩‍👧 e\u0301"
)
_SPACES = (" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u200b", "\ufeff")
_PIECES = (*_WORDS.split(" "), *_SPACES)


@dataclass(frozen=True)
class Bounds:
    """The largest absolute difference of a logit, and the smallest share of positions with the same most likely token.

    For the second, tokens also count as the same if our logits of the two differ by at most `tie` standard deviations of the
    logits of the position: an untrained model prefers no token by more than rounding to a smaller type can change.
    """

    max_abs_diff: float
    argmax_agreement: float
    tie: float = 0.0


@dataclass(frozen=True)
class Reference:
    """What the files of an export must compute, by the model in `folder`."""

    folder: ModelFolder

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder.path)

    @cached_property
    def held_out(self) -> npt.NDArray[np.int64]:
        """(sequences, length) ids of the held-out text, from windows that are evenly spaced over it. No sequence without it."""
        length = self._length
        windows = [ids[:length] for ids in read_held_out(self.folder.path) or () if len(ids) >= length]
        chosen = [windows[index * len(windows) // _HELD_OUT] for index in range(_HELD_OUT)] if windows else []
        return np.array(list({ids.tobytes(): ids for ids in chosen}.values()), np.int64).reshape(-1, length)

    @cached_property
    def token_ids(self) -> npt.NDArray[np.int64]:
        """(sequences, length) ids: the held-out text, or a random sequence without it, and a random sequence."""
        size = (1 if len(self.held_out) else 2, self._length)
        drawn = np.random.default_rng(0).integers(self.folder.config.vocab_size, size=size)
        return np.concatenate([self.held_out, drawn])

    @property
    def _length(self) -> int:
        return min(self.folder.config.block_size, _POSITIONS)

    @cached_property
    def logits(self) -> npt.NDArray[np.float32]:
        """(sequences, length, vocab_size) our logits of `token_ids`."""
        with torch.no_grad():
            return load_model(self.folder).eval().logits(torch.from_numpy(self.token_ids)).float().numpy()

    @cached_property
    def texts(self) -> list[str]:
        """Texts that the tokenizer can encode, of random tokens and of pieces that tokenizers treat in different ways."""
        rng, found = random.Random(0), dict[str, None]()  # noqa: S311 (a fixed choice of texts)
        for attempt in range(TEXTS * 20):
            if len(found) == TEXTS:
                break
            text = self._of_pieces(rng) if attempt % 2 else self._of_tokens(rng)
            if text and _can_encode(self.tokenizer, text):
                found[text] = None
        return list(found)

    @cached_property
    def ids_of_texts(self) -> list[list[int]]:
        return [ids.tolist() for ids in self.tokenizer.encode_batch(self.texts)]

    def bits_per_byte(self, logits: npt.NDArray[np.float32]) -> float | None:
        """The loss on the held-out text of a program that computed `logits` of `token_ids`; None without held-out text."""
        size = sum(byte_counts(self.tokenizer, [ids[1:] for ids in self.held_out]))
        if not size:
            return None
        predictions = torch.from_numpy(logits[: len(self.held_out), :-1]).flatten(0, 1)
        targets = torch.from_numpy(self.held_out[:, 1:]).flatten()
        return float(F.cross_entropy(predictions, targets, reduction="sum")) / math.log(2) / size

    def _of_pieces(self, rng: random.Random) -> str:
        return "".join(rng.choice(_PIECES) + rng.choice(("", " ")) for _ in range(rng.randint(1, 12)))

    def _of_tokens(self, rng: random.Random) -> str:
        ids = [rng.randrange(self.tokenizer.vocab_size) for _ in range(rng.randint(1, _TEXT_TOKENS))]
        return self.tokenizer.decode(one for one in ids if one not in self.tokenizer.special_ids)


def _can_encode(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the tokenizer has ids for all of `text`, and none of them is special."""
    try:
        ids = set(tokenizer.encode_batch([text])[0].tolist())
    except EchoselfError:
        return False
    return bool(ids) and tokenizer.unknown_id not in ids and not ids & tokenizer.special_ids.keys()


def agreement(expected: npt.NDArray[np.float32], logits: npt.NDArray[np.float32], tie: float = 0.0) -> float:
    """The share of positions with the same most likely token; see `Bounds` for `tie`."""
    chosen = np.take_along_axis(expected, logits.argmax(-1)[..., None], -1)[..., 0]  # our logits of the tokens chosen there
    return float((expected.max(-1) - chosen <= np.maximum(_TIE, tie * expected.std(-1))).mean())


def facts(
    reference: Reference,
    file: Path,
    name: str,
    form: str,
    runtime: str,
    logits: npt.NDArray[np.float32],
    ids_of_texts: list[list[int]],
    bounds: Bounds,
    notes: tuple[str, ...] = (),
) -> ExportFacts:
    """Compare what a runtime computed from `file` with `reference`. `name` is the path of the file in the repo.

    Raises CheckpointError if a logit or an id differs by more than `bounds` allow.
    """
    expected = reference.logits
    difference = float(np.abs(expected - logits).max())
    agreed = agreement(expected, logits, bounds.tie)
    ours, theirs = reference.bits_per_byte(expected), reference.bits_per_byte(logits)
    differs = [
        text for text, ours, theirs in zip(reference.texts, reference.ids_of_texts, ids_of_texts, strict=True) if ours != theirs
    ]
    if differs:
        raise CheckpointError(
            f"{file} has other token ids than {reference.folder.path} in {runtime}, for {len(differs)} of {len(ids_of_texts)} "
            f"texts, such as {differs[0][:60]!r}. Nothing was published.",
            f"Leave {form} out of formats, and report this as a bug.",
        )
    if not (difference <= bounds.max_abs_diff and agreed >= bounds.argmax_agreement):  # also refuses NaN
        raise CheckpointError(
            f"{file} has different logits in {runtime} than {reference.folder.path}: max |delta| {difference:.3g} (maximum "
            f"{bounds.max_abs_diff:g}), top-1 agreement {agreed:.2%} (minimum {bounds.argmax_agreement:.0%}). Nothing was "
            "published.",
            f"Leave {form} out of formats, and report this as a bug.",
        )
    return ExportFacts(
        format=form,
        file=name,
        sha256=sha256(file),
        size=file.stat().st_size,
        runtime=runtime,
        max_abs_diff=difference,
        argmax_agreement=agreement(expected, logits),
        positions=expected.shape[0] * expected.shape[1],
        texts=len(ids_of_texts),
        bits_per_byte_change=None if ours is None or theirs is None else theirs - ours,
        notes=notes,
    )
