"""Two or more models side by side: all read the same held-out text and go on from the same prompts; is one surely better?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from ..corpus.tokenizer import Tokenizer
from .generation import prompt_ids, sample_ids
from .paired_bootstrap import Difference, Ids, Reading, difference, read, reader_of

SAMPLE_TOKENS, _TEMPERATURE, _SEED = 60, 0.8, 0
_PROMPTS, _PROMPT_WORDS = 2, 8


@dataclass(frozen=True)
class Entrant:
    """A model and what it did. `name` is what the user calls it, `place` where exactly it is from; `size` in bytes.

    `texts` is what it wrote after each prompt, at `tokens_per_second`.
    """

    name: str
    place: str
    step: int
    architecture: str
    tokenizer: str
    parameters: int
    size: int
    reading: Reading
    texts: tuple[str, ...]
    tokens_per_second: float


@dataclass(frozen=True)
class Contest:
    """`differences` are each entrant's from the first, without the first. `winner` is surely better than every other:

    the 95% interval of each difference is on its side of zero. None where no entrant is.
    """

    held_out: str
    prompts: tuple[str, ...]
    entrants: tuple[Entrant, ...]
    differences: tuple[Difference, ...]
    winner: Entrant | None


def prompts_from(windows: Sequence[Ids], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The start of a document, and the first words of some held-out windows, which are evenly spaced."""
    stride = max(1, len(windows) // _PROMPTS)
    texts = [tokenizer.decode(i for i in window if i != tokenizer.end_of_text_id) for window in windows[::stride][:_PROMPTS]]
    return ("", *dict.fromkeys(" ".join(text.split()[:_PROMPT_WORDS]) for text in texts if text.split()))


def enter(
    name: str, place: str, folder: ModelFolder, windows: Sequence[Ids], tokenizer: Tokenizer, prompts: Sequence[str]
) -> Entrant:
    """Have a model write and read. `windows` are ids of `tokenizer`, which may be another than the model's."""
    reader = reader_of(folder)
    ours = reader.tokenizer
    begun = [prompt_ids(ours, prompt) for prompt in prompts]
    sample_ids(reader.model, begun[0], None, 1, _TEMPERATURE, _SEED)  # the first step of a process is slower than all others
    started = time.perf_counter()
    written = [sample_ids(reader.model, ids, ours.end_of_text_id, SAMPLE_TOKENS, _TEMPERATURE, _SEED) for ids in begun]
    seconds = time.perf_counter() - started
    return Entrant(
        name=name,
        place=place,
        step=folder.step,
        architecture=folder.architecture.name,
        tokenizer=ours.name,
        parameters=reader.model.parameter_count(),
        size=(folder.path / WEIGHTS_FILE).stat().st_size,
        reading=read(reader, windows, tokenizer),
        texts=tuple(ours.decode(ids) for ids in written),
        tokens_per_second=sum(map(len, written)) / seconds,
    )


def judge(held_out: str, prompts: tuple[str, ...], entrants: Sequence[Entrant]) -> Contest:
    """The verdict. `held_out` says which text was read."""
    first, *others = entrants
    ranked = sorted(entrants, key=lambda entrant: entrant.reading.bits_per_byte)
    ahead = [difference(ranked[0].reading, other.reading).high < 0 for other in ranked[1:]]
    return Contest(
        held_out=held_out,
        prompts=prompts,
        entrants=tuple(entrants),
        differences=tuple(difference(other.reading, first.reading) for other in others),
        winner=ranked[0] if all(ahead) else None,
    )
