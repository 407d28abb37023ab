"""A corpus as this package splits it, and bits per byte of the held-out text, measured alike for every model.

Models of other tokenizers, and of other programs, are comparable in bits per byte only: the sum of the negative log-likelihoods
of all tokens of the held-out text, over the bytes of that text.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.corpus.globs import find_files
from echoself_action.corpus.make_tokenizer import load_tokenizer, make_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokenizer import Tokenizer

from .peers import TEXT

EVERYTHING = "**/*"


@dataclass(frozen=True)
class SplitText:
    """The documents of both splits, after the removal of held-out text from the training text; adjacent passages are joined."""

    train: list[str]
    held_out: list[str]

    @property
    def held_out_bytes(self) -> int:
        return sum(len(text.encode()) for text in self.held_out)


def add_corpora(parser: argparse.ArgumentParser) -> None:
    """The option for the corpora."""
    parser.add_argument("--corpus", type=Path, nargs="+", default=[TEXT], help="folders of text, or text files")


def name_of(corpus: Path) -> str:
    """A corpus in tables."""
    return corpus.stem if corpus.is_file() else corpus.resolve().name


def files_of(corpus: Path) -> list[Path]:
    """The files of a folder, or the one file. Raises SystemExit if it is neither."""
    if not corpus.exists():
        raise SystemExit(f"{corpus} does not exist: pass a folder of text, or a text file, with --corpus")
    return [corpus] if corpus.is_file() else find_files([EVERYTHING], corpus)


def split_text(corpus: Path) -> SplitText:
    """The text that this package trains on and the text that it holds out, by its defaults.

    They are read from the token files of a tokenizer whose ids are bytes, which `train` would use unchanged.
    """
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    fraction = TrainInputs.model_fields["val_fraction"].default
    with tempfile.TemporaryDirectory() as cache:
        tokens = prepare_tokens(files_of(corpus), tokenizer, Path(cache), fraction, "fail", print)
        return SplitText(_documents(tokens.train, tokenizer), _documents(tokens.val, tokenizer))


def _documents(ids: npt.NDArray[np.unsignedinteger[Any]], tokenizer: Tokenizer) -> list[str]:
    ends = np.flatnonzero(ids == tokenizer.end_of_text_id)
    pieces = (piece[piece != tokenizer.end_of_text_id] for piece in np.split(ids, ends + 1))
    return [piece.astype(np.uint8).tobytes().decode() for piece in pieces if len(piece)]


def bits_per_byte_of_folder(folder: Path, documents: Sequence[str]) -> float:
    """Of the model in a model folder, with its tokenizer; an end-of-text token follows each document."""
    from echoself_action.checkpoint.weights import load_model

    read = read_model_folder(folder)
    ids, size = encoded(folder, documents)
    return bits_per_byte(load_model(read), ids, read.config.block_size, size)


def encoded(folder: Path, documents: Sequence[str]) -> tuple[npt.NDArray[np.unsignedinteger[Any]], int]:
    """The ids of `documents` by the tokenizer of a model folder, and the bytes that all of them but the first stand for."""
    tokenizer = load_tokenizer(folder)
    ending = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    ids = np.concatenate([[*ids, *ending] for ids in tokenizer.encode_batch(documents)]).astype(np.uint32)
    first = len(tokenizer.decode(ids[:1]).encode("utf-8", "replace"))
    return ids, sum(len(text.encode()) for text in documents) - first


def bits_per_byte(model: Any, ids: npt.NDArray[np.unsignedinteger[Any]], block_size: int, size: int) -> float:
    """Of a model that predicts all of `ids` but the first, which are `size` bytes of text; in fp32.

    The text is cut into windows of `block_size`, so that each token is predicted once, from those before it in its window.
    """
    from echoself_action.evaluation.loss import HeldOut

    nats, _ = HeldOut(ids, block_size).sums(model)
    return nats / math.log(2) / size
