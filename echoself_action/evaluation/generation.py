"""Sampling text from a model."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.weights import load_model
from ..corpus.make_tokenizer import load_tokenizer
from ..corpus.tokenizer import Tokenizer
from ..model import Model


@torch.no_grad()
def sample_ids(
    model: Model, ids: list[int], end: int | None, tokens: int, temperature: float, seed: int, seconds: float = 10
) -> list[int]:
    """Up to `tokens` sampled ids that continue `ids`. Sampling stops at the id `end`, which is not returned.

    It also stops after `seconds`, because a large model on a CPU could exceed the time limit of a job.
    """
    deadline = time.monotonic() + seconds
    generator = torch.Generator().manual_seed(seed)
    ids, prompt_length = list(ids), len(ids)
    was_training = model.training
    model.eval()
    logits = next_logits(model)
    while len(ids) < prompt_length + tokens and time.monotonic() < deadline:
        probabilities = (logits(ids).float().cpu() / temperature).softmax(-1)
        ids.append(int(torch.multinomial(probabilities, 1, generator=generator)))
        if ids[-1] == end:
            ids.pop()
            break
    model.train(was_training)
    return ids[prompt_length:]


def next_logits(model: Model) -> Callable[[Sequence[int]], Tensor]:
    """A function of a text's ids that returns the logits (vocab_size) of the next one. Each call must continue the last text.

    While the text fits into block_size, only its new ids are computed; beyond that, each call computes the whole window.
    """
    incremental, device, seen = model.incremental(), next(model.parameters()).device, 0

    def logits(ids: Sequence[int]) -> Tensor:
        nonlocal seen
        if incremental is None or len(ids) > model.config.block_size:
            return model.logits(torch.tensor([ids[-model.config.block_size :]], device=device))[0, -1]
        new, seen = ids[seen:], len(ids)
        return incremental(torch.tensor([new], device=device))[0]

    return logits


def next_logits_by_halves(model: Model) -> Callable[[Sequence[int]], Tensor]:
    """`next_logits` for long texts: several times faster beyond block_size, because all but the first window is incremental.

    When the window is full, its older half is dropped at once, so that a token sees at least half of block_size, and not always
    all of it. Up to block_size the logits are those of `next_logits`.
    """
    size, start, logits = model.config.block_size, 0, next_logits(model)

    def by_halves(ids: Sequence[int]) -> Tensor:
        nonlocal start, logits
        if len(ids) - start > size:
            start, logits = len(ids) - max(1, size // 2), next_logits(model)
        return logits(ids[start:])

    return by_halves


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of `prompt` at the start of a document."""
    # nanoGPT's vocabularies have no end-of-text token; their first character is a line break, with which its sample.py starts
    start = 0 if tokenizer.end_of_text_id is None else tokenizer.end_of_text_id
    return [start, *(int(i) for i in tokenizer.encode_batch([prompt])[0])]


def sample(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str = "",
    tokens: int = 100,
    temperature: float = 0.8,
    seed: int = 0,
    seconds: float = 10,
) -> str:
    """`prompt`, at the start of a document, and up to `tokens` sampled tokens. Stops at end-of-text and after `seconds`."""
    ids, end = prompt_ids(tokenizer, prompt), tokenizer.end_of_text_id
    new = sample_ids(model, ids, end, tokens, temperature, seed, seconds)
    start, whole = tokenizer.decode(ids[1:]), tokenizer.decode([*ids[1:], *new])
    # decoded together: between two tokens, some vocabularies have a space that neither of the two has
    return prompt + (whole.removeprefix(start) if whole.startswith(start) else tokenizer.decode(new))


def sample_from(folder: ModelFolder, prompt: str) -> str:
    """What the model in `folder` continues `prompt` with, by `sample` with its defaults."""
    return sample(load_model(folder), load_tokenizer(folder.path), prompt).removeprefix(prompt)
