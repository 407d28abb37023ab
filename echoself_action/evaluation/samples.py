"""Text from a model, to look at."""

import time

import torch

from ..corpus.tokenizer import Tokenizer
from ..model import Model


@torch.no_grad()
def sample_ids(
    model: Model, ids: list[int], end: int | None, tokens: int, temperature: float, seed: int, seconds: float = 10
) -> list[int]:
    """Up to `tokens` sampled ids after `ids`; ends early, and without it, at the id `end`.

    No token is begun after `seconds`: a large model on a CPU would else take a job beyond its time.
    """
    deadline = time.monotonic() + seconds
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    ids, prompt_length = list(ids), len(ids)
    was_training = model.training
    model.eval()
    while len(ids) < prompt_length + tokens and time.monotonic() < deadline:
        window = torch.tensor([ids[-model.config.block_size :]], device=device)
        probabilities = (model.logits(window)[0, -1].float().cpu() / temperature).softmax(-1)
        ids.append(int(torch.multinomial(probabilities, 1, generator=generator)))
        if ids[-1] == end:
            ids.pop()
            break
    model.train(was_training)
    return ids[prompt_length:]


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
