"""Text <-> token ids, and the tokenizer files of a model folder.

Every tokenizer is a `tokenizer.json`: training, the published model and stock `transformers` use the same ids. See
make_tokenizer.py for where it comes from.
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
import tokenizers

from ..errors import InputError, TokenizerError, in_short
from .bpe import BYTE_OF_CHARACTER, fast_encoder
from .char_vocab import character_encoder, is_code_points, unknown_pieces
from .vocab_merges import VOCABULARY_FILE, WORDPIECE_FILE

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"

# The digests of the tokenizers that do not depend on a corpus.
CHARACTERS, IDS = "characters", "ids"
CODE_POINTS, PRINTABLE_ASCII = "code_points", "printable_ascii"
OF_CHARACTERS = (CHARACTERS, CODE_POINTS)  # an id for each, and none for any other
_NAMES = {
    "72d2e5ef6a4bec2ceddd5805cb3d366b3da1ea04cd47111e2f8bf057c42c41db": "gpt2",
    "5867e54de2f804bf0e8a76c12f28e6000dfbaffeac6a75a4d33585cdfd91e4d1": "bytes",
    "d6948cb38570e86b6ac624d90107376c345fd212542fa10949eafee64ae08458": PRINTABLE_ASCII,
}
_MOST_IDS = 1 << 24  # `tokenizers` counts through all ids to write a vocabulary
NAMES_OF_CONTENT = frozenset({*_NAMES.values(), *OF_CHARACTERS, IDS})  # of tokenizers that are the same wherever they come from


class Tokenizer:
    """A `tokenizers.Tokenizer` that encodes documents as ordinary text, and its end-of-text token.

    Text such as "<|endoftext|>" in a document gives the ids of its characters, never the special id, so that a document can't
    contain its own end. No tokens are added before or after a text.
    """

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str | None, name: str) -> None:
        """`name` is the spec, for messages. `end_of_text` None: the vocabulary has none, and documents are not separated.
        `remarks` are the settings of `backend` that are not kept.

        Raises ValueError if `end_of_text` is not in the vocabulary, or if an id is far above the number of tokens.
        """
        ids = set(backend.get_vocab().values())
        self.vocab_size: int = max(ids, default=-1) + 1
        self.unused_ids = self.vocab_size - len(ids)
        if self.vocab_size > _MOST_IDS:
            raise ValueError(self.sparse)
        end_of_text_id = None if end_of_text is None else backend.token_to_id(end_of_text)
        if end_of_text is not None and end_of_text_id is None:
            raise ValueError(
                f"has no end-of-text token ({end_of_text!r} is not in its vocabulary; `eos_token` of a {CONFIG_FILE} beside it "
                "names another one, or is null if there is none)"
            )
        parts = json.loads(backend.to_str())
        self.remarks = _remarks(parts)
        # With a template that adds tokens, truncation or padding, ids would depend on the program that loads the file; with
        # dropout, on chance.
        parts |= {"post_processor": None, "truncation": None, "padding": None}
        if parts["model"].get("dropout"):
            parts["model"]["dropout"] = None
        for added in parts["added_tokens"]:  # as transformers does, whatever the file says
            added["special"] |= added["content"] == end_of_text
        self._backend = tokenizers.Tokenizer.from_str(json.dumps(parts))
        self._byte_level = (parts["decoder"] or {}).get("type") == "ByteLevel"
        self.name = name
        self.end_of_text = end_of_text
        self.end_of_text_id: int | None = end_of_text_id

    @property
    def sparse(self) -> str:
        """How many of the ids have no token, for a message that follows the name of a file."""
        used = self.vocab_size - self.unused_ids
        return f"has ids up to {self.vocab_size - 1:,} for only {used:,} tokens: a model would have a row for each"

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines ids: equal for tokenizers that encode every text to the same ids."""
        parts = json.loads(self._backend.to_str())
        model, added = parts["model"], {token["content"]: token["id"] for token in parts["added_tokens"]}
        vocabulary = model.pop("vocab")
        if isinstance(vocabulary, dict):  # some files list the added tokens here too, with the same meaning
            vocabulary = sorted((vocabulary | added).items())
        special = sorted(token["content"] for token in parts["added_tokens"] if token["special"])
        settings = _settings([parts["normalizer"], parts["pre_tokenizer"], model])
        text = json.dumps([settings, vocabulary, added, special, self.end_of_text_id], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def content_name(self) -> str | None:
        """The name of a tokenizer that needs no other, because it is that of its content."""
        if self.token_bytes is not None:
            return _NAMES.get(self.digest, f"bpe:{self.vocab_size}")
        if isinstance(self._backend.model, tokenizers.models.WordLevel) and self.end_of_text is None:
            if character_encoder(self._backend):
                return CODE_POINTS if is_code_points(self._backend) else CHARACTERS
            if self.digest in _NAMES:
                return _NAMES[self.digest]
            if all(token == str(i) for token, i in self._backend.get_vocab().items()):
                return IDS
        return None

    @property
    def parts(self) -> dict[str, Any]:
        """The content of its tokenizer.json."""
        return dict(json.loads(self._backend.to_str()))

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64] | None:
        """(vocab_size,) the number of UTF-8 bytes of each id, 0 for special tokens; None if not byte-level."""
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

    def __getstate__(self) -> dict[str, Any]:
        """What other processes receive: without the encoder, a function that each creates when it needs it."""
        return {name: value for name, value in vars(self).items() if name not in ("_fast_encoder", "_text_backend")}

    @cached_property
    def _fast_encoder(self) -> Callable[[str], npt.NDArray[np.unsignedinteger[Any]]] | None:
        return fast_encoder(self._backend) or character_encoder(self._backend)

    @cached_property
    def _text_backend(self) -> tokenizers.Tokenizer:
        """`_backend` for ordinary text: its model does not know the names of special tokens.

        `encode_special_tokens` hides them from the search for added tokens only, and the vocabulary of a model has them too: as
        a word, or as a piece of a word.
        """
        parts = json.loads(self._backend.to_str())
        model = parts["model"]
        names = {added["content"] for added in parts["added_tokens"] if added["special"]} | {self.end_of_text}
        # A single character is text first of all.
        hidden = {name: f"\0{name}\0" for name in names - {model.get("unk_token")} if name and len(name) > 1}
        if isinstance(model["vocab"], dict):
            model["vocab"] = {hidden.get(token, token): i for token, i in model["vocab"].items()}
        else:
            unknown = model.get("unk_id")
            model["vocab"] = [
                [token if i == unknown else hidden.get(token, token), score] for i, (token, score) in enumerate(model["vocab"])
            ]
        parts["added_tokens"] = [
            added | {"content": hidden.get(added["content"], added["content"])} for added in parts["added_tokens"]
        ]
        try:
            backend = tokenizers.Tokenizer.from_str(json.dumps(parts))
        except Exception:  # merges that lead to the name of a special token
            backend = tokenizers.Tokenizer.from_str(self._backend.to_str())
        backend.encode_special_tokens = True
        return backend

    @cached_property
    def unknown_id(self) -> int | None:
        """The id for text that the vocabulary lacks."""
        model = json.loads(self._backend.to_str())["model"]
        if model["type"] == "Unigram":
            return None if model["unk_id"] is None else int(model["unk_id"])
        return self._backend.token_to_id(model["unk_token"]) if model.get("unk_token") else None

    @cached_property
    def special_ids(self) -> dict[int, str]:
        """The ids that text must not give, with their names."""
        added = self._backend.get_added_tokens_decoder()
        found = {i: token.content for i, token in added.items() if token.special and i != self.unknown_id}
        return found if self.end_of_text_id is None else found | {self.end_of_text_id: str(self.end_of_text)}

    @cached_property
    def is_lossless(self) -> bool:
        """Whether, by construction, each text is an error or comes back unchanged, and gives no special id."""
        vocabulary = self._backend.get_vocab()
        if self.name == IDS:
            return True
        if len(set(vocabulary.values())) < len(vocabulary) or self._fast_encoder is None:
            return False
        # one id for each byte or character, and the decoder that joins them
        characters = isinstance(self._backend.decoder, tokenizers.decoders.Fuse) and self.end_of_text is None
        return characters or self.token_bytes is not None

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.unsignedinteger[Any]]]:
        """The ids of each text, on all cores.

        Raises InputError for characters that a character vocabulary does not have, TokenizerError for text that another one
        can't encode.
        """
        try:
            if self._fast_encoder is None:
                encodings = self._text_backend.encode_batch_fast(texts, add_special_tokens=False)
                return [np.array(encoding.ids, np.uint32) for encoding in encodings]
            if len(texts) == 1:
                return [self._fast_encoder(texts[0])]
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                return list(threads.map(self._fast_encoder, texts))
        except Exception as error:  # `tokenizers` raises plain Exception
            raise self._unknown_text(texts, error) from None

    def encode_after(self, context: str, text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The ids of `text` where it follows `context`; those of `text` alone if a token is in both."""
        encoding = self._text_backend.encode(context + text, add_special_tokens=False)
        size, ends = len(context), (end for _, end in encoding.offsets)
        first = next((i for i, end in enumerate(ends) if end > size), len(encoding.ids))
        if first < len(encoding.ids) and encoding.offsets[first][0] < size:
            return self.encode_batch([text])[0]
        return np.array(encoding.ids[first:], np.uint32)

    def _unknown_text(self, texts: Sequence[str], error: Exception) -> Exception:
        if self.name not in (*OF_CHARACTERS, IDS):
            return TokenizerError(
                f"The tokenizer {self.name} can't encode {self._failing(texts)!r} ({in_short(error)}). Nothing was trained.",
                "Remove such text from `data`. For a new model, use a tokenizer that encodes every text: gpt2, bpe:<size> "
                "(for example bpe:4096) or bytes.",
            )
        pieces = next(filter(None, (unknown_pieces(self._backend, text) for text in texts)), [])
        shown = ", ".join(repr(piece[:40]) for piece in pieces)
        if self.name == IDS:
            return InputError(
                f"The vocabulary of this model is unknown, so text must consist of token ids, but it contains {shown}. "
                "Nothing was tokenized.",
                "Set `tokenizer` (gpt2, a tokenizer.json or nanoGPT's meta.pkl) when importing the model, or use nanoGPT's "
                "train.bin and val.bin as `data`.",
            )
        return InputError(
            f"The text contains characters that are not in this model's vocabulary of {self.vocab_size} characters: {shown}. "
            "Nothing was tokenized.",
            "Remove these characters from the corpus, or train a new model with another tokenizer.",
        )

    def _failing(self, texts: Sequence[str]) -> str:
        """The first word that can't be encoded; the start of the first text if each word alone can."""
        for text in texts:
            for part in (text, *text.split()):
                try:
                    self._text_backend.encode(part, add_special_tokens=False)
                except Exception:  # `tokenizers` raises plain Exception
                    if part is not text or len(part) < 40:
                        return part[:40]
        return texts[0][:40]

    def decode_batch(self, all_ids: Sequence[npt.NDArray[np.unsignedinteger[Any]]]) -> list[str]:
        """The text of each, as `decode` gives it, on all cores."""
        return self._backend.decode_batch([ids.tolist() for ids in all_ids], skip_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, with the names of special tokens. Incomplete UTF-8 sequences give U+FFFD."""
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=False))

    def save(self, folder: Path, model_max_length: int | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads without network access.

        `model_max_length` is the block size of the model in tokens; `transformers` warns and truncates there. Texts are padded
        and cut at their start, as generation needs it. They are padded with the end-of-text token: without one they can't be,
        because the vocabulary has no token that is not text.
        """
        config: dict[str, object] = {
            # Uses tokenizer.json unchanged. transformers 5 writes "TokenizersBackend" and accepts this name for the same
            # class; transformers 4 knows only this name.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.end_of_text,
            "eos_token": self.end_of_text,
            "pad_token": self.end_of_text,
            "padding_side": "left",
            "truncation_side": "left",
            "clean_up_tokenization_spaces": False,
        }
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER_FILE).write_text(self._backend.to_str(pretty=True) + "\n", encoding="utf-8")
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def is_given_name(name: str) -> bool:
    """Whether the name of a tokenizer was given, and not derived from its content or its file."""
    derived = NAMES_OF_CONTENT | {TOKENIZER_FILE, VOCABULARY_FILE, WORDPIECE_FILE}
    return name not in derived and not name.startswith("bpe:")


def _remarks(parts: dict[str, Any]) -> tuple[str, ...]:
    """The settings of a tokenizer.json that change the ids of a text and are not kept, each as what the tokenizer does."""
    found = []
    if truncation := parts["truncation"]:
        found.append(f"cuts each text at {truncation['max_length']:,} tokens")
    if parts["padding"]:
        found.append("pads each text")
    if dropout := parts["model"].get("dropout"):
        found.append(f"leaves out {dropout:.0%} of the merges by chance")
    if tokens := list(dict.fromkeys(_tokens_added(parts["post_processor"]))):
        found.append(f"puts {', '.join(tokens)[:100]} around each text for transformers")
    return tuple(found)


def _tokens_added(processor: dict[str, Any] | None) -> Iterator[str]:
    match (processor or {}).get("type"), processor or {}:
        case "TemplateProcessing", found:
            yield from found["special_tokens"]
        case (("BertProcessing" | "RobertaProcessing"), found):
            yield from (found["cls"][0], found["sep"][0])
        case "Sequence", found:
            for one in found["processors"]:
                yield from _tokens_added(one)


def _settings(value: Any) -> Any:
    """Parts of a tokenizer.json without what does not affect ids: offsets, and disabled options, which versions add."""
    if isinstance(value, dict):
        off = (None, False, "")
        return {key: _settings(part) for key, part in value.items() if part not in off and key != "trim_offsets"}
    if isinstance(value, list):
        return [_settings(part) for part in value]
    return value
