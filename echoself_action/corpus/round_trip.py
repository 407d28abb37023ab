"""Whether a corpus comes back from its token ids: what a tokenizer loses, changes or adds.

Each text is decoded while the corpus is tokenized, and compared with the original. Text that is lost is counted in characters,
without regard to white space, case and Unicode form, in which many tokenizers differ by design.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TokenizerError
from .findings import Finding
from .tokenizer import Tokenizer

# Shares of the characters of a corpus, above which a tokenizer is refused.
MOST_DROPPED = 0.01  # without a trace: the words around them read as if they were whole
MOST_UNKNOWN = 0.05  # as the token for unknown text, or without their accents
MOST_ADDED = 0.05
_MOST_EXAMPLES = 20  # tried until one shows the difference
_CONTEXT = 20  # characters on either side of an example
_HINT = (
    "Remove such text from `data`. For a new model, use a tokenizer that keeps every text: gpt2, bpe:<size> (for example "
    "bpe:4096) or bytes."
)

Ids = npt.NDArray[np.unsignedinteger[Any]]


@dataclass
class _Difference:
    """One kind of difference: in how many texts, of how many characters, and the worst example."""

    texts: int = 0
    characters: int = 0
    share: float = -1.0  # of the characters of the example's text
    example: str = ""

    def add(self, characters: int, size: int) -> bool:
        """Count a text. Returns whether it is the worst one so far, so that its example is wanted."""
        self.texts += 1
        self.characters += characters
        share = characters / size
        worst = share > self.share
        self.share = max(share, self.share)
        return worst


@dataclass
class RoundTrip:
    """Compares texts with what comes back from their ids, and collects the differences."""

    tokenizer: Tokenizer
    characters: int = 0
    dropped: _Difference = field(default_factory=_Difference)
    unknown: _Difference = field(default_factory=_Difference)
    accents: _Difference = field(default_factory=_Difference)
    added: _Difference = field(default_factory=_Difference)
    form: _Difference = field(default_factory=_Difference)
    space: _Difference = field(default_factory=_Difference)
    special: _Difference = field(default_factory=_Difference)
    ends: _Difference = field(default_factory=_Difference)

    @cached_property
    def _is_special(self) -> npt.NDArray[np.bool_]:
        flags = np.zeros(self.tokenizer.vocab_size, np.bool_)
        flags[list(self.tokenizer.special_ids)] = True
        return flags

    def add(self, texts: Sequence[str], sources: Sequence[str], all_ids: Sequence[Ids]) -> None:
        """Compare a batch. `sources` names the file of each text, for the examples."""
        if self.tokenizer.is_lossless:
            return
        unknown = self.tokenizer.unknown_id
        known = all_ids if unknown is None else [ids[ids != unknown] for ids in all_ids]
        for text, source, ids, back, some in zip(
            texts, sources, all_ids, self.tokenizer.decode_batch(known), known, strict=True
        ):
            self.characters += len(text)
            self._check_ids(text, source, ids)
            if text != back:
                self._compare(text, back, source, has_unknown=len(some) < len(ids))

    def _check_ids(self, text: str, source: str, ids: Ids) -> None:
        special = self.tokenizer.special_ids
        for i in np.unique(ids[self._is_special[ids]]).tolist():
            difference = self.ends if i == self.tokenizer.end_of_text_id else self.special
            if difference.add(int((ids == i).sum()), len(text)):
                place = int((ids == i).argmax())
                around = self.tokenizer.decode(ids[max(place - 5, 0) : place + 6])
                difference.example = f"{special[i]!r} in {around!r} ({source})"

    def _compare(self, text: str, back: str, source: str, *, has_unknown: bool) -> None:
        if _without_space(text) == _without_space(back):
            self._note(self.space, 0, text, back, source, None)
            return
        wanted, found = _folded(text), _folded(back)
        if wanted != found:
            plain, plain_found = _without_marks(wanted), _without_marks(found)
            marks = (len(wanted) - len(plain)) - (len(found) - len(plain_found))
            before, after = Counter(plain), Counter(plain_found)
            lost, added = before - after, after - before
            if lost:
                self._note(self.unknown if has_unknown else self.dropped, lost.total(), text, back, source, lost)
            if added:
                self._note(self.added, added.total(), text, back, source, None)
            if marks > lost.total():  # others are of characters that are lost as a whole
                self._note(self.accents, marks - lost.total(), text, back, source, None)
            if plain != plain_found or marks > 0:
                return
        self._note(self.form, 0, text, back, source, None)

    def _note(
        self, difference: _Difference, characters: int, text: str, back: str, source: str, moved: Counter[str] | None
    ) -> None:
        if not difference.add(characters, len(text)):
            return
        if moved is None:
            same = next((i for i, (one, other) in enumerate(zip(text, back, strict=False)) if one != other), len(text))
        places = iter([same]) if moved is None else _places(text, moved)
        for place in islice(places, _MOST_EXAMPLES):
            part = _words_around(text, place)
            came_back = self.tokenizer.decode(self.tokenizer.encode_batch([part])[0])
            difference.example = f"{part!r} comes back as {came_back!r} ({source})"
            if _folded(part) != _folded(came_back):
                return

    def check(self) -> None:
        """Raises TokenizerError if the tokenizer can't be used for this corpus."""
        problems = []
        size, name = max(self.characters, 1), self.tokenizer.name
        if self.ends.texts:
            problems.append(
                f"gives the end-of-text id {self.tokenizer.end_of_text_id} for ordinary text, so {self.ends.texts:,} documents "
                f"would end in their middle: {self.ends.example}"
            )
        if self.dropped.characters > MOST_DROPPED * size:
            problems.append(
                f"drops {_share(self.dropped.characters, size)} of the text without a token (at most {MOST_DROPPED:.0%} is "
                f"accepted): {self.dropped.example}"
            )
        if self.unknown.characters > MOST_UNKNOWN * size:
            problems.append(
                f"has no tokens for {_share(self.unknown.characters, size)} of the text (at most {MOST_UNKNOWN:.0%} is "
                f"accepted): {self.unknown.example}"
            )
        if self.accents.characters > MOST_UNKNOWN * size:
            problems.append(
                f"removes {_share(self.accents.characters, size)} of the text as accents or vowel signs (at most "
                f"{MOST_UNKNOWN:.0%} is accepted): {self.accents.example}"
            )
        if self.added.characters > MOST_ADDED * size:
            problems.append(
                f"decodes the text with {_share(self.added.characters, size)} characters that are not in it (at most "
                f"{MOST_ADDED:.0%} is accepted; its tokenizer.json may lack a decoder): {self.added.example}"
            )
        if problems:
            raise TokenizerError(f"The tokenizer {name} {'; it '.join(problems)}. Nothing was trained.", _HINT)

    def findings(self) -> Iterator[Finding]:
        """One for each kind of difference that was found."""
        name = self.tokenizer.name
        if unused := self.tokenizer.unused_ids:
            example = f"of {self.tokenizer.vocab_size:,} in {name}: a model has a row for each"
            yield Finding("ids without a token", "", unused, example, is_loss=False)
        kinds = [
            (self.dropped, "characters that the tokenizer drops"),
            (self.unknown, "characters that the tokenizer has no token for"),
            (self.accents, "accents or vowel signs that the tokenizer removes"),
            (self.added, "characters that the tokenizer adds to the decoded text"),
            (self.form, "texts whose case or Unicode form the tokenizer changes"),
            (self.space, "texts whose white space the tokenizer changes"),
            (self.special, "texts that the tokenizer gives the id of a special token"),
        ]
        for difference, kind in kinds:
            if difference.texts:
                share = (
                    f"{difference.characters / max(self.characters, 1):.2%} of the text, by" if difference.characters else "by"
                )
                count = difference.characters or difference.texts
                yield Finding(kind, "", count, f"{share} {name}: {difference.example}")


def _share(characters: int, size: int) -> str:
    return f"{characters / size:.2%} ({characters:,} of {size:,} characters)"


def _folded(text: str) -> str:
    """Without white space, case and compatibility forms; accents are characters of their own."""
    return _without_space(unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()))


def _without_space(text: str) -> str:
    return "".join(text.split())


def _without_marks(folded: str) -> str:
    """Without accents, and the vowel signs of many scripts."""
    return folded.translate({ord(one): None for one in set(folded) if unicodedata.category(one) == "Mn"})


def _words_around(text: str, place: int) -> str:
    before, after = text[max(place - _CONTEXT, 0) : place], text[place : place + _CONTEXT]
    if place > _CONTEXT:
        before = before.partition(" ")[2] or before
    if place + _CONTEXT < len(text):
        after = after.rpartition(" ")[0] or after
    return before + after


def _places(text: str, lost: Counter[str]) -> Iterator[int]:
    """The places of the characters of `text` that are among the `lost`: first of those that are lost most often."""
    for wanted, _ in lost.most_common():
        yield from (i for i, one in enumerate(text) if wanted in _folded(one))
