"""GPT-2's byte-level BPE, in the two forms that tiktoken and `tokenizers` need.

tiktoken takes ranks (token bytes -> id, where a lower id is merged first); `tokenizers`, and with it `tokenizer.json`,
takes a vocabulary and an explicit list of merges. If ids are in the order of the merges, both give the same ids; tiktoken is
three times as fast. See Radford et al., "Language Models are Unsupervised Multitask
Learners" (2019), and github.com/openai/gpt-2 `encoder.py` for the alphabet.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tiktoken
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"

# GPT-2's pattern, as tiktoken 0.14 writes it. It is built into `tokenizers`; both agree on every Unicode character.
_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def _alphabet() -> list[str]:
    """The character for each byte, 0 to 255: itself if it is printable, else one from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


CHARACTER_OF_BYTE = _alphabet()
BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(CHARACTER_OF_BYTE)}


def byte_level_tokenizer(ranks: dict[bytes, int], *, words: bool = True) -> tokenizers.Tokenizer:
    """A `tokenizers.Tokenizer` for `ranks`, with `<|endoftext|>` as an additional last id.

    `words`: text is first split into words by GPT-2's pattern, and no token crosses a word boundary.
    """
    vocabulary = {_spell(token): rank for token, rank in ranks.items()} | {END_OF_TEXT: len(ranks)}
    merges = [(_spell(left), _spell(right)) for left, right in recover_merges(ranks)]
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return backend


def train_ranks(texts: Iterator[str], size: int) -> dict[bytes, int]:
    """Ranks of a byte-level BPE trained on `texts`: the 256 bytes, then up to `size - 256` merges in their order.

    It is deterministic. The result has fewer than `size` entries if no more pairs occur at least twice.
    """
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=CHARACTER_OF_BYTE,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return {_unspell(token): rank for token, rank in backend.get_vocab(with_added_tokens=False).items()}


def recover_merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The pair that each token of at least two bytes was merged from, in the order of the ranks.

    That is the result of BPE on the bytes of the token with only the lower ranks. Raises ValueError if the result is not a
    pair: then `ranks` is not a BPE vocabulary.
    """
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            candidates = ((ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1))
            best, i = min(candidates)
            if best >= rank:
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) != 2:
            raise ValueError(f"token {rank} ({token!r}) can't be merged from two tokens of lower rank")
        yield parts[0], parts[1]


def fast_encoder(backend: tokenizers.Tokenizer) -> Callable[[str], npt.NDArray[np.unsignedinteger[Any]]] | None:
    """A faster function that gives the same ids as `backend` for text without special tokens.

    It releases the GIL most of the time. None if `backend` is not a byte-level BPE like GPT-2's, or if its merges are not in
    the order of its ids.
    """
    parts = json.loads(backend.to_str())
    model, pre_tokenizer = parts["model"], parts["pre_tokenizer"] or {}
    special = {token["content"] for token in parts["added_tokens"] if token["special"]}
    if (
        model["type"] != "BPE"
        or any(model[option] for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        or any(model[option] for option in ("byte_fallback", "ignore_merges"))
        or parts["normalizer"]
        or pre_tokenizer.get("type") != "ByteLevel"
        or pre_tokenizer["add_prefix_space"]
        or len(special) < len(parts["added_tokens"])
    ):
        return None
    try:
        ranks = {_unspell(token): rank for token, rank in model["vocab"].items() if token not in special}
    except KeyError:
        return None
    if not pre_tokenizer["use_regex"]:
        return _encode_bytes if ranks == {bytes([byte]): byte for byte in range(256)} else None
    if not _same_merges(ranks, model["merges"]):
        return None
    # Without any special token, tiktoken searches for an empty one at every character, which takes 1.5 times as long.
    ending = {END_OF_TEXT: len(ranks)}
    encoding = tiktoken.Encoding("byte-level", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=ending)
    return lambda text: encoding.encode_to_numpy(text, disallowed_special=())


def _same_merges(ranks: dict[bytes, int], merges: Iterable[list[str]]) -> bool:
    if not all(bytes([byte]) in ranks for byte in range(256)):
        return False
    try:
        return [[_spell(left), _spell(right)] for left, right in recover_merges(ranks)] == merges
    except ValueError:
        return False


def _encode_bytes(text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
    return np.frombuffer(text.encode(), np.uint8)


def _spell(token: bytes) -> str:
    return "".join(CHARACTER_OF_BYTE[byte] for byte in token)


def _unspell(token: str) -> bytes:
    return bytes(BYTE_OF_CHARACTER[character] for character in token)
