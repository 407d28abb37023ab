"""Which token ids a model was trained on, from its embeddings: whether it knows GPT-2's tokens, or characters.

Programs of EchoSelf (github.com/9cog/echoself, before August 2026) gave models GPT-2's 50,257 ids, but trained them on texts
encoded as character codes, and their files name no tokenizer: `ord(character)` in the sample data of train_nanecho.py and of
the workflow netrain-cached.yml, `ord(character) - 32` in prepare_nanecho_data.py and in netrain's SimpleTokenizer.

The embedding is tied to the output head. So the row of an id that is in no training text is moved too, at each step by what
the softmax adds to the gradient: nearly the same for all such ids. They keep their random values around a common mean that
moves away from zero, and the rows of ids in the text move elsewhere. Measured is, for a group of ids, the mean projection of
their rows on the direction of that mean, in standard errors of the mean of as many rows that are like all the others. With the
original trainers, 60 steps at a learning rate of 2e-4 give the letters -23 and -26, other ids at most 2.4 on either side, and
ids above 256 -36 for GPT-2's tokens.
"""

import math
from enum import Enum

import numpy as np

from ..checkpoint.arrays import Array, as_float32

GPT2_SIZE = 50257
_TRAINED, _UNTRAINED = 8.0, 5.0  # standard errors, from where and up to where a group is taken to be so
_ONE_ROW = 6.0  # of a row by itself: of 256 that are not trained, the largest is 3
_CODES = 256  # above the ids of characters; GPT-2's ids above are those of the most frequent tokens
_LETTERS = slice(ord("a"), ord("z") + 1)  # in GPT-2's vocabulary, ids of bytes that English text does not have
_SHIFTED = slice(ord("a") - 32, ord("z") - 31)
_BLOCKS = ((_CODES, 1024), (1024, 4096), (4096, 16384), (16384, GPT2_SIZE))


class TrainedIds(Enum):
    """What the ids of the training text were. The value is the spec of the tokenizer."""

    CODE_POINTS = "code_points"
    PRINTABLE_ASCII = "printable_ascii"
    BELOW_256 = "ids"  # and neither of these: nothing says what they meant
    OTHERS = "gpt2"  # ids above 256 too
    UNKNOWN = ""  # no row stands out, as after a few steps


OF_CODES = (TrainedIds.CODE_POINTS, TrainedIds.PRINTABLE_ASCII)


def trained_ids(embedding: Array) -> TrainedIds:
    """What a token embedding, (vocab_size, n_embd) of at least GPT-2's size, was trained on."""
    rows = as_float32(embedding)[:GPT2_SIZE]
    mean = rows[_CODES:].mean(0, dtype=np.float64).astype(np.float32)
    length = float(np.linalg.norm(mean))
    if not length:
        return TrainedIds.UNKNOWN
    along = (rows @ (mean / length)).astype(np.float64)
    spread = float(along[_CODES:].std())
    if not spread:
        return TrainedIds.UNKNOWN
    scores = (along - along[_CODES:].mean()) / spread

    def score(ids: slice) -> float:
        return abs(float(scores[ids].mean())) * math.sqrt(len(scores[ids]))

    if any(score(slice(*block)) > _UNTRAINED for block in _BLOCKS):
        return TrainedIds.OTHERS
    letters, shifted = score(_LETTERS), score(_SHIFTED)
    if letters > _TRAINED:
        return TrainedIds.CODE_POINTS
    if shifted > _TRAINED and letters < _UNTRAINED and score(slice(ord("z") - 31, _CODES)) < _UNTRAINED:
        return TrainedIds.PRINTABLE_ASCII
    if float(abs(scores[_CODES:]).max()) > _ONE_ROW:  # a text with a few tokens
        return TrainedIds.OTHERS
    return TrainedIds.BELOW_256 if float(abs(scores[:_CODES]).max()) > _ONE_ROW else TrainedIds.UNKNOWN
