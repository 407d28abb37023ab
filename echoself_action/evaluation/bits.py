"""A loss that does not depend on the tokenizer: bits per byte of the held-out text."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..corpus.tokenizer import Tokenizer


def bits_per_byte(
    loss: float, tokenizer: Tokenizer, windows: Sequence[npt.NDArray[np.integer]], label_shift: int = 1
) -> float | None:
    """`loss` (nats per token, over `windows`: 1-D ids, each with `label_shift` that nobody predicts) in bits per byte."""
    predicted = [window[label_shift:] for window in windows]
    text = (tokenizer.decode(int(i) for i in ids if i != tokenizer.end_of_text_id) for ids in predicted)
    size = sum(len(piece.encode("utf-8", "replace")) for piece in text)
    return loss / math.log(2) * sum(map(len, predicted)) / size if size else None
