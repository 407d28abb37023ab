"""Questions whose prompt and reference are in the training text: a model may answer them from memory.

White space is normalised. The reference must start within a thousand characters after the prompt, in the same document, so that
a short prompt and a short answer that are far apart do not count. The text is decoded from the ids that training reads: what
was left out of training is not in it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...corpus.tokenizer import Tokenizer
from ...errors import EchoselfError
from .question_set import Question, normalised

_REACH = 1_000  # characters between the prompt and the reference
_MOST_IDS = 1 << 25  # ids that are decoded, which take up to half a minute
_PIECE = 1 << 16  # ids decoded at a time, if no end-of-text token separates documents
_END = "\0"  # between documents

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class TrainingText:
    """The training text with single spaces, as one string. `is_whole`: it has all of it."""

    text: str
    is_whole: bool
    tokenizer: Tokenizer

    @property
    def has_chats(self) -> bool:
        """Whether most of its documents are chats."""
        documents = self.text.count(_END) + 1
        return 2 * self.text.count("User: ") > documents and 2 * self.text.count("Assistant: ") > documents

    def has(self, question: Question) -> bool:
        """Whether it has the prompt and, shortly after it, a reference."""
        ask = self._as_learnt(question.ask)
        return any(self._has(ask, self._as_learnt(reference)) for reference in question.references)

    def _has(self, ask: str, reference: str) -> bool:
        if not ask or not reference:
            return False
        place = self.text.find(reference)
        while place >= 0:
            start = max(self.text.rfind(_END, 0, place) + 1, place - _REACH - len(ask))
            if self.text.find(ask, start, place) >= 0:
                return True
            place = self.text.find(reference, place + 1)
        return False

    def _as_learnt(self, text: str) -> str:
        """The text as it comes back from its ids: some tokenizers change letters. "" if it has no ids."""
        if self.tokenizer.is_lossless:
            return normalised(text)
        try:
            return normalised(self.tokenizer.decode(self.tokenizer.encode_batch([text])[0]))
        except EchoselfError:
            return ""


def training_text(ids: Ids, tokenizer: Tokenizer) -> TrainingText:
    """The text of the training split (1-D ids)."""
    part = np.asarray(ids[:_MOST_IDS])
    end = tokenizer.end_of_text_id
    places = range(_PIECE, len(part), _PIECE) if end is None else np.flatnonzero(part == end)
    pieces = np.split(part, list(places))
    texts = tokenizer.decode_batch([piece if end is None else piece[piece != end] for piece in pieces])
    text = normalised("".join(texts)) if end is None else _END.join(map(normalised, texts))
    return TrainingText(text, len(ids) <= _MOST_IDS, tokenizer)
