"""Where a tokenizer comes from: the input `tokenizer`, or the files of a model folder.

The input is `gpt2`, `bpe:<size>` (trained on the corpus), `bytes`, `code_points`, `printable_ascii`, or the path of a
tokenizer.json, of a folder with one, or of nanoGPT's meta.pkl.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import tiktoken
import tokenizers

from ..errors import CheckpointError, InputError
from .bpe import END_OF_TEXT, byte_level_tokenizer, train_ranks
from .char_vocab import character_tokenizer, code_point_tokenizer, id_tokenizer, printable_ascii_tokenizer, read_meta
from .end_token import end_token
from .file_types import IS_POINTER, is_pointer_text
from .tokenizer import (
    CHARACTERS,
    CODE_POINTS,
    IDS,
    NAMES_OF_CONTENT,
    PRINTABLE_ASCII,
    TOKENIZER_FILE,
    Tokenizer,
)
from .vocab_merges import MERGES_FILE, VOCABULARY_FILE, WORDPIECE_FILE, read_vocab_merges, read_wordpiece


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
    if spec == CODE_POINTS:
        return code_points()
    if spec == PRINTABLE_ASCII:
        return Tokenizer(printable_ascii_tokenizer(), None, spec)
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
        if tokenizer.unused_ids > tokenizer.vocab_size // 2:
            raise ValueError(tokenizer.sparse)
    except ValueError as error:
        raise InputError(
            f"The tokenizer {spec} {error}. Nothing was tokenized.",
            "Use a tokenizer.json that was saved by `tokenizers` or `transformers`, with its tokenizer_config.json.",
        ) from None
    if tokenizer.name not in NAMES_OF_CONTENT:
        tokenizer.name = _shown(spec)
    return tokenizer


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
    from the content: `gpt2`, `bytes`, `bpe:<size>`, `characters`, `code_points`, `printable_ascii`,
    `ids`, else the name of the file. `note` gets an unusual
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


def code_points(size: int = 50257) -> Tokenizer:
    """The id of a character is its code point, for a model of `size` ids: by default as many as GPT-2 has."""
    return Tokenizer(code_point_tokenizer(size), None, CODE_POINTS)


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
    tokenizer = Tokenizer(backend, end_token(path.parent, backend.get_vocab(), note), name)
    tokenizer.name = tokenizer.content_name or name
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
