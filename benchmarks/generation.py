"""Generated tokens per second of this package with and without its KV cache, and of transformers' `generate` with the same
model.

    python benchmarks/generation.py [--shape mid] [--vocabularies 4096,50257] [--tokens 100] [--turns 5]

One text, from its first token on, with one thread in fp32. `ours` samples every token, as for the samples in reports; `ours, no
cache` computes the whole text again for each token. `transformers` is a stock GPT2LMHeadModel with its cache and equal logits:
greedy, and `transformers, sampling`. They take turns in one process; times are processor time, which is more reliable than wall
time on a machine with other load.
"""

import argparse
import time
from collections.abc import Callable

import torch
from common import results
from common.peers import SHAPES
from common.results import Figures, machine, spread
from transformers import GenerationConfig, GPT2LMHeadModel
from transformers import GPT2Config as StockConfig

from echoself_action.evaluation.generation import sample_ids
from echoself_action.model.gpt2 import GPT2, GPT2Config

BEGUN, TEMPERATURE = [0], 0.8


class WithoutCache(GPT2):
    """The same model without its KV cache."""

    def incremental(self) -> None:  # type: ignore[override]
        return None


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--shape", default="mid", choices=SHAPES)
    parser.add_argument("--vocabularies", default="4096,50257")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = Figures(given)
    print(machine())
    print("| vocabulary | program | tokens/s (range) | of transformers' (range) |")
    print("|---|---|---|---|")
    for vocabulary in map(int, given.vocabularies.split(",")):
        taken = measured(given, vocabulary)
        for name, rates in taken.items():
            ratios = [rate / other for rate, other in zip(rates, taken["transformers"], strict=True)]
            print(f"| {vocabulary} | {name} | {spread(rates, '.0f')} | {spread(ratios, '.2f')} |", flush=True)
            figures.add("tokens/s", f"{vocabulary}: {name}", *rates)
            figures.add("tokens/s, of transformers'", f"{vocabulary}: {name}", *ratios)
    figures.write()


def measured(given: argparse.Namespace, vocabulary: int) -> dict[str, list[float]]:
    """Tokens a second in each turn, by program."""
    ways = programs(given.shape, vocabulary)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(given.turns + 1):
        for name, write in ways.items():
            began = time.process_time()
            written = write(given.tokens if turn else 3)
            if turn:  # the first one of a process is slower than all others
                taken[name].append(written / (time.process_time() - began))
    return taken


@torch.no_grad()
def programs(shape: str, vocabulary: int) -> dict[str, Callable[[int], int]]:
    """By name: functions that generate a number of tokens and return how many they generated."""
    config = GPT2Config(vocab_size=vocabulary, **SHAPES[shape].sizes)
    model, no_cache = GPT2(config).eval(), WithoutCache(config).eval()
    model.initialise(0)
    no_cache.load_state_dict(model.state_dict())
    sizes = {"n_positions": config.block_size, "n_layer": config.n_layer, "n_head": config.n_head, "n_embd": config.n_embd}
    ends = {"bos_token_id": 0, "eos_token_id": 0}  # of this vocabulary
    stock = GPT2LMHeadModel(StockConfig(vocab_size=vocabulary, activation_function=config.activation, **sizes, **ends)).eval()
    stock.generation_config.eos_token_id = None  # all write as many tokens
    stock.load_state_dict(model.state_dict() | {"lm_head.weight": model.transformer.wte.weight})
    some = torch.arange(config.block_size)[None]
    torch.testing.assert_close(stock(some).logits, model.logits(some), atol=1e-4, rtol=0)
    ids = torch.tensor([BEGUN])

    def ours(which: GPT2) -> Callable[[int], int]:
        return lambda tokens: len(sample_ids(which, BEGUN, None, tokens, TEMPERATURE, 0, seconds=float("inf")))

    def theirs(**how: object) -> Callable[[int], int]:
        def write(tokens: int) -> int:
            settings = GenerationConfig(max_new_tokens=tokens, use_cache=True, pad_token_id=0, **how)
            return stock.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings).shape[1] - len(BEGUN)

        return write

    return {
        "ours": ours(model),
        "ours, no cache": ours(no_cache),
        "transformers": theirs(do_sample=False),
        "transformers, sampling": theirs(do_sample=True, temperature=TEMPERATURE, top_k=0),
    }


if __name__ == "__main__":
    main()
