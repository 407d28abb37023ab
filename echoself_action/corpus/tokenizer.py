"""Text <-> token ids, and the tokenizer files of a model folder.

Every tokenizer here IS a `tokenizer.json`: what trains the model, what is published and what stock `transformers` loads
give the same ids. Made from a spec: `gpt2`, `bpe:<size>` (trained on the corpus), `bytes`, or the path of a tokenizer.json or
of nanoGPT's meta.pkl.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tiktoken
import tokenizers

from ..errors import CheckpointError, InputError
from .bpe import BYTE_OF_CHARACTER, END_OF_TEXT, byte_level_tokenizer, fast_encoder, train_ranks
from .char_vocab import character_encoder, character_tokenizer, id_tokenizer, read_meta, unknown_pieces

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"

# The digests of the tokenizers that are the same for everyone.
CHARACTERS, IDS = "characters", "ids"
_NAMES = {
    "72d2e5ef6a4bec2ceddd5805cb3d366b3da1ea04cd47111e2f8bf057c42c41db": "gpt2",
    "5867e54de2f804bf0e8a76c12f28e6000dfbaffeac6a75a4d33585cdfd91e4d1": "bytes",
}


class Tokenizer:
    """A `tokenizers.Tokenizer` that reads documents as ordinary text and knows its end-of-text token.

    Text such as "<|endoftext|>" in a document gives the ids of its characters, never the special id: nobody can end a
    document from within. Nothing is added before or after a text.
    """

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str | None, name: str) -> None:
        """`name` is the spec, for people. `end_of_text` None: the vocabulary has none, and documents follow each other.

        Raises ValueError where `end_of_text` is no token of the vocabulary.
        """
        end_of_text_id = None if end_of_text is None else backend.token_to_id(end_of_text)
        if end_of_text is not None and end_of_text_id is None:
            raise ValueError(f"has no end-of-text token ({end_of_text!r} is not in its vocabulary)")
        # A template that adds tokens, truncation and padding would make ids depend on who loads the file.
        parts = json.loads(backend.to_str()) | {"post_processor": None, "truncation": None, "padding": None}
        self._backend = tokenizers.Tokenizer.from_str(json.dumps(parts))
        self._backend.encode_special_tokens = True
        self._byte_level = (parts["decoder"] or {}).get("type") == "ByteLevel"
        self.name = name
        self.end_of_text = end_of_text
        self.end_of_text_id: int | None = end_of_text_id
        self.vocab_size: int = max(self._backend.get_vocab().values()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what determines ids: equal for tokenizers that encode every text alike."""
        parts = json.loads(self._backend.to_str())
        model, added = parts["model"], {token["content"]: token["id"] for token in parts["added_tokens"]}
        vocabulary = model.pop("vocab")
        if isinstance(vocabulary, dict):  # some files list the added tokens in it too: that makes no difference
            vocabulary = sorted((vocabulary | added).items())
        special = sorted(token["content"] for token in parts["added_tokens"] if token["special"])
        settings = _settings([parts["normalizer"], parts["pre_tokenizer"], model])
        text = json.dumps([settings, vocabulary, added, special, self.end_of_text_id], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64] | None:
        """(vocab_size,) how many UTF-8 bytes of text each id stands for, 0 for special ones; None if not byte-level."""
        if not self._byte_level:
            return None
        lengths = np.zeros(self.vocab_size, np.int64)
        for token, i in self._backend.get_vocab(with_added_tokens=False).items():
            if not BYTE_OF_CHARACTER.keys() >= set(token):
                return None
            lengths[i] = len(token)
        for i, added in self._backend.get_added_tokens_decoder().items():
            lengths[i] = 0 if added.special else len(added.content.encode())
        return lengths

    @cached_property
    def _fast_encoder(self) -> Callable[[str], npt.NDArray[np.unsignedinteger[Any]]] | None:
        return fast_encoder(self._backend) or character_encoder(self._backend)

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.unsignedinteger[Any]]]:
        """The ids of each text, on all cores. Raises InputError for text that a vocabulary of characters can't spell."""
        try:
            if self._fast_encoder is None:
                encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
                return [np.array(encoding.ids, np.uint32) for encoding in encodings]
            if len(texts) == 1:
                return [self._fast_encoder(texts[0])]
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                return list(threads.map(self._fast_encoder, texts))
        except Exception as error:  # `tokenizers` has no class of its own
            raise self._unknown(texts, error) from None

    def _unknown(self, texts: Sequence[str], error: Exception) -> Exception:
        if self.name not in (CHARACTERS, IDS):
            return error
        pieces = next(filter(None, (unknown_pieces(self._backend, text) for text in texts)), [])
        shown = ", ".join(repr(piece[:40]) for piece in pieces)
        if self.name == IDS:
            return InputError(
                f"Nobody knows this model's vocabulary: its text is token ids, and {shown} are none. Nothing was tokenised.",
                "Give `tokenizer` (gpt2, a tokenizer.json or nanoGPT's meta.pkl) where the model is imported, or nanoGPT's "
                "train.bin and val.bin as `data`.",
            )
        return InputError(
            f"The text has what is not among the {self.vocab_size} characters of this model: {shown}. Nothing was tokenised.",
            "Leave these characters out of the corpus, or start fresh with another tokenizer.",
        )

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; an end-of-text token shows as its name. Ids that split a character give U+FFFD."""
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=False))

    def save(self, folder: Path, model_max_length: int | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, whole: `AutoTokenizer` loads them from the folder alone.

        `model_max_length` is the model's block size, in tokens, at which `transformers` warns and truncates.
        """
        config: dict[str, object] = {
            # Its tokenizer.json taken as it is. transformers 5 writes "TokenizersBackend" and reads this name for the
            # same class; transformers 4 knows this name only.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.end_of_text,
            "eos_token": self.end_of_text,
            "clean_up_tokenization_spaces": False,
        }
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER_FILE).write_text(self._backend.to_str(pretty=True) + "\n", encoding="utf-8")
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def make_tokenizer(spec: str, texts: Callable[[], Iterator[str]]) -> Tokenizer:
    """The tokenizer that `spec` names; `texts` gives the corpus to those that are trained on it.

    Raises InputError for a spec that is none, a vocabulary that can't be had, or a corpus too small for its size.
    """
    if spec == "gpt2":
        return Tokenizer(byte_level_tokenizer(_gpt2_ranks()), END_OF_TEXT, spec)
    if spec == "bytes":
        ranks = {bytes([byte]): byte for byte in range(256)}
        return Tokenizer(byte_level_tokenizer(ranks, words=False), END_OF_TEXT, spec)
    if spec.startswith("bpe:"):
        return _trained(spec, texts)
    if spec.endswith(".pkl"):
        return _from_meta(Path(spec))
    if not spec.endswith(".json"):
        raise InputError(
            f"'{spec}' names no tokenizer, so nothing was tokenised.",
            "Write gpt2, bytes, bpe:<size> (bpe:4096, say), or the path of a tokenizer.json or a meta.pkl.",
        )
    try:
        return _from_file(Path(spec), spec)
    except ValueError as error:
        raise InputError(
            f"The tokenizer {spec} {error}, so nothing was tokenised.",
            "Name a tokenizer.json as `tokenizers` and `transformers` save it.",
        ) from None


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder: gives the ids that stock `transformers` gives to ordinary text.

    Its `name` is told from what it holds: `gpt2`, `bytes`, `bpe:<size>`, `characters`, `ids`, else `tokenizer.json`.
    Raises CheckpointError where the folder has no tokenizer.json that can be read, or no end-of-text token.
    """
    try:
        return _from_file(folder / TOKENIZER_FILE, None)
    except ValueError as error:
        raise CheckpointError(
            f"The tokenizer {folder / TOKENIZER_FILE} {error}, so the model's token ids have no meaning.",
            "Use a model folder that was saved whole, with tokenizer.json and tokenizer_config.json.",
        ) from None


def ids_tokenizer(size: int) -> Tokenizer:
    """For a model of `size` ids that nobody knows the text of: it reads and writes them as numbers."""
    return Tokenizer(id_tokenizer(size), None, IDS)


def _from_meta(path: Path) -> Tokenizer:
    try:
        return Tokenizer(character_tokenizer(read_meta(path)), None, CHARACTERS)
    except ValueError as error:
        raise InputError(
            f"The vocabulary {path} {error}, so nothing was tokenised.",
            "Name the meta.pkl that nanoGPT's prepare.py wrote beside the train.bin of this model.",
        ) from None


def _gpt2_ranks() -> dict[bytes, int]:
    try:
        return tiktoken.get_encoding("gpt2")._mergeable_ranks
    except Exception as error:  # requests' and OS errors: tiktoken downloads with whatever it has
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"GPT-2's vocabulary is not on this machine and can't be downloaded ({type(error).__name__}: {reason}), "
            "so nothing was tokenised.",
            "Let the job reach openaipublic.blob.core.windows.net, set TIKTOKEN_CACHE_DIR to a folder that has it, or "
            "use a tokenizer that needs no download: bpe:<size> (bpe:4096, say) or bytes.",
        ) from None


def _trained(spec: str, texts: Callable[[], Iterator[str]]) -> Tokenizer:
    size = int(spec[4:]) if spec[4:].isascii() and spec[4:].isdigit() else 0
    least = 256 + 1
    if size < least:
        raise InputError(
            f"The tokenizer '{spec}' has no size of at least {least} (every byte, and end of text).",
            "Write bpe:4096, say, or bytes for a tokenizer of 257.",
        )
    ranks = train_ranks(texts(), size - 1)
    if len(ranks) + 1 < size:
        raise InputError(
            f"The corpus is too small for the tokenizer {spec}: it has pairs for {len(ranks) + 1:,} entries only, so "
            "nothing was tokenised.",
            f"Use bpe:{len(ranks) + 1} or less, bytes, gpt2, or more text.",
        )
    return Tokenizer(byte_level_tokenizer(ranks), END_OF_TEXT, spec)


def _from_file(path: Path, name: str | None) -> Tokenizer:
    """Raises ValueError, with a message that follows the path."""
    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"can't be read ({error.strerror})") from None
    except Exception as error:  # what `tokenizers` raises for a file that it can't parse
        raise ValueError(f"can't be understood ({error})") from None
    tokenizer = Tokenizer(backend, _end_of_text(path.parent / CONFIG_FILE), name or TOKENIZER_FILE)
    return tokenizer if name else _named(tokenizer)


def _end_of_text(config: Path) -> str | None:
    """The `eos_token` that a tokenizer_config.json names; GPT-2's where it names none, as GPT-2's own file does.

    None where it says that there is none.
    """
    try:
        token = json.loads(config.read_text(encoding="utf-8")).get("eos_token", END_OF_TEXT)
    except FileNotFoundError:
        token = END_OF_TEXT
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"has a {CONFIG_FILE} beside it that can't be read ({error})") from None
    if isinstance(token, dict):  # an AddedToken, as transformers 4 writes one
        token = token.get("content")
    return None if token is None else str(token)


def _named(tokenizer: Tokenizer) -> Tokenizer:
    if tokenizer.token_bytes is not None:
        tokenizer.name = _NAMES.get(tokenizer.digest, f"bpe:{tokenizer.vocab_size}")
    elif isinstance(tokenizer._backend.model, tokenizers.models.WordLevel) and tokenizer.end_of_text is None:
        by_character = isinstance(tokenizer._backend.pre_tokenizer, tokenizers.pre_tokenizers.Split)
        tokenizer.name = CHARACTERS if by_character else IDS
    return tokenizer


def _settings(value: Any) -> Any:
    """Parts of a tokenizer.json without what leaves ids alone: offsets, and options that are off, which come and go."""
    if isinstance(value, dict):
        off = (None, False, "")
        return {key: _settings(part) for key, part in value.items() if part not in off and key != "trim_offsets"}
    if isinstance(value, list):
        return [_settings(part) for part in value]
    return value
