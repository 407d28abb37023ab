"""Text <-> token ids, and the tokenizer files of a model folder.

Every tokenizer is a `tokenizer.json`: training, the published model and stock `transformers` use the same ids. It is created
from a spec: `gpt2`, `bpe:<size>` (trained on the corpus), `bytes`, or the path of a tokenizer.json, of a folder with one, or of
nanoGPT's meta.pkl.
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

from ..errors import CheckpointError, InputError, TokenizerError, in_short
from .bpe import BYTE_OF_CHARACTER, END_OF_TEXT, byte_level_tokenizer, fast_encoder, train_ranks
from .char_vocab import character_encoder, character_tokenizer, id_tokenizer, read_meta, unknown_pieces
from .end_token import end_token
from .file_types import IS_POINTER, is_pointer_text
from .vocab_merges import MERGES_FILE, VOCABULARY_FILE, WORDPIECE_FILE, read_vocab_merges, read_wordpiece

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"

# The digests of the tokenizers that do not depend on a corpus.
CHARACTERS, IDS = "characters", "ids"
_NAMES = {
    "72d2e5ef6a4bec2ceddd5805cb3d366b3da1ea04cd47111e2f8bf057c42c41db": "gpt2",
    "5867e54de2f804bf0e8a76c12f28e6000dfbaffeac6a75a4d33585cdfd91e4d1": "bytes",
}


class Tokenizer:
    """A `tokenizers.Tokenizer` that encodes documents as ordinary text, and its end-of-text token.

    Text such as "<|endoftext|>" in a document gives the ids of its characters, never the special id, so that a document can't
    contain its own end. No tokens are added before or after a text.
    """

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str | None, name: str) -> None:
        """`name` is the spec, for messages. `end_of_text` None: the vocabulary has none, and documents are not separated.
        `remarks` are the settings of `backend` that are not kept.

        Raises ValueError if `end_of_text` is not in the vocabulary.
        """
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
        ids = set(self._backend.get_vocab().values())
        self.vocab_size: int = max(ids, default=-1) + 1
        self.unused_ids = self.vocab_size - len(ids)
        if self.unused_ids > len(ids):
            raise ValueError(
                f"has ids up to {self.vocab_size - 1:,} for only {len(ids):,} tokens: a model would have a row for each"
            )

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
        if self.name not in (CHARACTERS, IDS):
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

        `model_max_length` is the block size of the model in tokens; `transformers` warns and truncates there.
        """
        config: dict[str, object] = {
            # Uses tokenizer.json unchanged. transformers 5 writes "TokenizersBackend" and accepts this name for the same
            # class; transformers 4 knows only this name.
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


def make_tokenizer(spec: str, texts: Callable[[], Iterator[str]], note: Callable[[str], None] = lambda _: None) -> Tokenizer:
    """The tokenizer of `spec`. `texts` returns the corpus, for those that are trained on it. `note` gets what is chosen or not
    kept of a file.

    Raises InputError for an invalid spec, a vocabulary that can't be loaded, or a corpus that is too small for its size.
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
    if not spec.endswith(".json") and not Path(spec).is_dir():
        raise InputError(
            f"tokenizer: '{spec}' is not a valid tokenizer. Nothing was tokenized.",
            "Use gpt2, bytes, bpe:<size> such as bpe:4096, or the path of a tokenizer.json, a folder with one, or a meta.pkl.",
        )
    if not _file_of(Path(spec)).is_file():
        files = f": it has neither {TOKENIZER_FILE} nor {VOCABULARY_FILE} and {MERGES_FILE}" if Path(spec).is_dir() else ""
        raise InputError(
            f"The tokenizer {spec} {'is missing' if not files else 'was not read'}{files}. Nothing was tokenized.",
            "Check the path. For other files, such as tokenizer.model, AutoTokenizer.from_pretrained(folder)"
            ".save_pretrained(folder) of transformers writes a tokenizer.json.",
        )
    try:
        tokenizer = _from_path(Path(spec), lambda remark: note(f"{spec}: {remark}"))
    except ValueError as error:
        raise InputError(
            f"The tokenizer {spec} {error}. Nothing was tokenized.",
            "Use a tokenizer.json that was saved by `tokenizers` or `transformers`, with its tokenizer_config.json.",
        ) from None
    if tokenizer.name not in (*_NAMES.values(), CHARACTERS, IDS):
        tokenizer.name = _shown(spec)
    return tokenizer


def is_given_name(name: str) -> bool:
    """Whether the name of a tokenizer was given, and not derived from its content."""
    return name not in (
        *_NAMES.values(),
        CHARACTERS,
        IDS,
        TOKENIZER_FILE,
        VOCABULARY_FILE,
        WORDPIECE_FILE,
    ) and not name.startswith("bpe:")


def is_path(spec: str) -> bool:
    """Whether `spec` is that of a file or folder, whose content may change."""
    return spec.endswith((".json", ".pkl")) or Path(spec).is_dir()


def train_tokenizer(size: int, texts: Callable[[], Iterator[str]]) -> Tokenizer:
    """A BPE tokenizer trained on `texts`, with `size` entries, or fewer if no more pairs of them repeat."""
    ranks = train_ranks(texts(), size - 1)
    return Tokenizer(byte_level_tokenizer(ranks), END_OF_TEXT, f"bpe:{len(ranks) + 1}")


def load_tokenizer(folder: Path, note: Callable[[str], None] = lambda _: None) -> Tokenizer:
    """The tokenizer of a model folder, with the same ids as stock `transformers` for ordinary text.

    It is read from tokenizer.json; in a folder without one, from vocab.json and merges.txt, or vocab.txt. Its `name` is derived
    from the content: `gpt2`, `bytes`, `bpe:<size>`, `characters`, `ids`, else the name of the file. `note` gets an unusual
    end-of-text token. Raises CheckpointError if the file can't be read, or has no end-of-text token.
    """
    try:
        return _from_path(folder, note)
    except ValueError as error:
        raise CheckpointError(
            f"The tokenizer {_file_of(folder)} {error}, so token ids can't be decoded.",
            "Use a complete model folder. To name a token that ends a text: eos_token in tokenizer_config.json.",
        ) from None


def older_tokenizer(folder: Path) -> str | None:
    """The file in `folder` with the vocabulary, if its tokenizer is in older files only: vocab.json with merges.txt, or
    vocab.txt."""
    if (folder / TOKENIZER_FILE).is_file():
        return None
    if is_in_vocab_merges(folder):
        return VOCABULARY_FILE
    return WORDPIECE_FILE if (folder / WORDPIECE_FILE).is_file() else None


def is_in_vocab_merges(folder: Path) -> bool:
    """Whether `folder` has its tokenizer in GPT-2's older files only."""
    return not (folder / TOKENIZER_FILE).is_file() and all((folder / name).is_file() for name in (VOCABULARY_FILE, MERGES_FILE))


def ids_tokenizer(size: int) -> Tokenizer:
    """For a model of `size` ids with an unknown vocabulary: ids are read and written as numbers."""
    return Tokenizer(id_tokenizer(size), None, IDS)


def _from_meta(path: Path) -> Tokenizer:
    try:
        return Tokenizer(character_tokenizer(read_meta(path)), None, CHARACTERS)
    except ValueError as error:
        raise InputError(
            f"The vocabulary {path} {error}. Nothing was tokenized.",
            "Use the meta.pkl that nanoGPT's prepare.py wrote beside the train.bin of this model.",
        ) from None


def _gpt2_ranks() -> dict[bytes, int]:
    try:
        return tiktoken.get_encoding("gpt2")._mergeable_ranks
    except Exception as error:  # tiktoken raises errors of requests and of the OS
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"GPT-2's vocabulary is not cached on this machine and can't be downloaded ({type(error).__name__}: {reason}). "
            "Nothing was tokenized.",
            "Allow the job to reach openaipublic.blob.core.windows.net, set TIKTOKEN_CACHE_DIR to a folder that contains it, "
            "or use a tokenizer without a download: bpe:<size> (for example bpe:4096) or bytes.",
        ) from None


def _trained(spec: str, texts: Callable[[], Iterator[str]]) -> Tokenizer:
    size = int(spec[4:]) if spec[4:].isascii() and spec[4:].isdigit() else 0
    least = 256 + 1
    if size < least:
        raise InputError(
            f"tokenizer: '{spec}' must have a size of at least {least} (256 bytes and end of text). Nothing was tokenized.",
            "Use bpe:4096, for example, or bytes for 257 entries.",
        )
    tokenizer = train_tokenizer(size, texts)
    if tokenizer.vocab_size < size:
        raise InputError(
            f"The corpus is too small for the tokenizer {spec}: its repeated pairs give only {tokenizer.vocab_size:,} entries. "
            "Nothing was tokenized.",
            f"Use bpe:{tokenizer.vocab_size} or less, bytes, gpt2, or more text.",
        )
    return tokenizer


def _shown(spec: str) -> str:
    """The name of a tokenizer that was given as a path: as it is given, but without where on this machine it is."""
    path = Path(spec)
    return str(Path(*path.parts[-2:])) if path.is_absolute() else spec


def _file_of(path: Path) -> Path:
    """The file to read, if `path` is a folder."""
    return path / (older_tokenizer(path) or TOKENIZER_FILE) if path.is_dir() else path


def _from_path(path: Path, note: Callable[[str], None] = lambda _: None) -> Tokenizer:
    """The tokenizer of a file or a folder. Raises ValueError, with a message that follows the path of the file."""
    path = _file_of(path)
    if path.name == VOCABULARY_FILE and is_in_vocab_merges(path.parent):
        backend, name = read_vocab_merges(path.parent), VOCABULARY_FILE
    elif path.name == WORDPIECE_FILE:
        backend, name = read_wordpiece(path.parent), WORDPIECE_FILE
    else:
        backend, name = _read_backend(path), TOKENIZER_FILE
    tokenizer = _named(Tokenizer(backend, end_token(path.parent, backend.get_vocab(), note), name))
    for remark in tokenizer.remarks:
        note(f"its tokenizer {remark}. Here, and in what is published, it does not")
    return tokenizer


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"can't be read ({error.strerror})") from None
    if is_pointer_text(content):
        raise ValueError(IS_POINTER)
    try:
        return tokenizers.Tokenizer.from_str(content.decode())
    except BaseException as error:  # plain Exception for an invalid file, or a panic of Rust, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"is not a valid tokenizer.json ({error})") from None


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


def _named(tokenizer: Tokenizer) -> Tokenizer:
    if tokenizer.token_bytes is not None:
        tokenizer.name = _NAMES.get(tokenizer.digest, f"bpe:{tokenizer.vocab_size}")
    elif isinstance(tokenizer._backend.model, tokenizers.models.WordLevel) and tokenizer.end_of_text is None:
        if character_encoder(tokenizer._backend):
            tokenizer.name = CHARACTERS
        elif all(token == str(i) for token, i in tokenizer._backend.get_vocab().items()):
            tokenizer.name = IDS
    return tokenizer


def _settings(value: Any) -> Any:
    """Parts of a tokenizer.json without what does not affect ids: offsets, and disabled options, which versions add."""
    if isinstance(value, dict):
        off = (None, False, "")
        return {key: _settings(part) for key, part in value.items() if part not in off and key != "trim_offsets"}
    if isinstance(value, list):
        return [_settings(part) for part in value]
    return value
