"""Text from a model, to look at."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.weights import load_model
from ..corpus.tokenizer import Tokenizer, load_tokenizer
from ..model import Model


@torch.no_grad()
def sample_ids(
    model: Model, ids: list[int], end: int | None, tokens: int, temperature: float, seed: int, seconds: float = 10
) -> list[int]:
    """Up to `tokens` sampled ids after `ids`; ends early, and without it, at the id `end`.

    No token is begun after `seconds`: a large model on a CPU would else take a job beyond its time.
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
    """A function of a text's ids: the logits (vocab_size) of the one after them. Each call has the text of the last, gone on.

    While the text fits into the model's window, its new ids alone are computed; then, for each call, all of the window.
    """
    incremental, device, seen = model.incremental(), next(model.parameters()).device, 0

    def logits(ids: Sequence[int]) -> Tensor:
        nonlocal seen
        if incremental is None or len(ids) > model.config.block_size:
            return model.logits(torch.tensor([ids[-model.config.block_size :]], device=device))[0, -1]
        new, seen = ids[seen:], len(ids)
        return incremental(torch.tensor([new], device=device))[0]

    return logits


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """What a model is given to go on from: the start of a document, and `prompt`."""
    # the first character of nanoGPT's vocabularies, which have no end of text, is a line break: its sample.py begins so too
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
    """Up to `tokens` sampled tokens after `prompt` (none: the start of a document); ends early at end-of-text.

    No token is begun after `seconds`.
    """
    begun, end = prompt_ids(tokenizer, prompt), tokenizer.end_of_text_id
    return prompt + tokenizer.decode(sample_ids(model, begun, end, tokens, temperature, seed, seconds))


def sample_of(folder: ModelFolder) -> str:
    """A sample from the model in `folder`, with the defaults of `sample`."""
    return sample(load_model(folder), load_tokenizer(folder.path))
