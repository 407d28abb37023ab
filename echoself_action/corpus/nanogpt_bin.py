"""Token files as a corpus: `train.bin` and `val.bin`, as nanoGPT's prepare.py writes them.

The files record neither their vocabulary nor the width of an id. A `meta.pkl` beside them is their vocabulary. The ids are
uint16, or uint32 for a vocabulary over 65,536, unless the content shows another width: scripts that leave out a conversion
write uint32 or int64, whose upper halves are then all zero, and characters may be uint8. llm.c's token files state their width
in a header.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .file_types import POINTER_HINT, is_pointer
from .findings import Finding
from .repeated_windows import find_repeated_windows
from .source_weights import source_name
from .token_files_metadata import METADATA
from .tokenizer import Tokenizer
from .tokens import FORMAT, Ids, Source, Tokens, hash_file, hash_text, held_out_digest, id_dtype

VOCABULARY = "meta.pkl"

_CHUNK = 1 << 22  # ids counted at a time
_HEADER = 1024  # bytes, of llm.c: 256 int32, of which the first are its magic number, the version, and the number of ids
_HEADERS = {(20240520, 1): "<u2", (20240801, 7): "<u4"}  # GPT-2's and Llama 3's ids
_LEAST_IDS = 16  # that show their width by upper halves of zero
_WIDER = 1 << 21  # no vocabulary has more entries: as uint32, other content has larger ids

_CHARACTERS = 1000  # a text of so many tokens has larger ids than this, unless they are of its characters

_Type = np.dtype[np.unsignedinteger[Any]]


def is_token_files(files: Sequence[Path]) -> bool:
    return any(path.suffix == ".bin" for path in files)


def vocabulary_beside(files: Sequence[Path]) -> Path | None:
    """The meta.pkl beside the token files in `files`, if there is one."""
    folders = {path.parent for path in files if path.suffix == ".bin"}
    return next((folder / VOCABULARY for folder in sorted(folders) if (folder / VOCABULARY).is_file()), None)


def nanogpt_tokens(files: Sequence[Path], tokenizer: Tokenizer) -> Tokens:
    """The tokens of `train.bin` and `val.bin`, mapped in place. Documents are separated by end-of-text ids.

    Raises InputError if `files` are not just these two, their meta.pkl and their metadata.json, or contain invalid ids.
    """
    files = [path for path in files if path.name not in (VOCABULARY, METADATA)]
    folders = {path.parent for path in files}
    if len(folders) > 1 or sorted(path.name for path in files) != ["train.bin", "val.bin"]:
        shown = sorted(files, key=lambda path: (path.suffix != ".bin", path))[:5]
        raise InputError(
            f"{', '.join(map(str, shown))}: token files must be the train.bin and val.bin of one folder, without "
            "other files in `data`. Nothing was trained.",
            "Set `data` to two such files, renamed if they have other names, or exclude them with `!**/*.bin`.",
        )
    folder = folders.pop()
    paths = folder / "train.bin", folder / "val.bin"
    contents = [hash_file(path) for path in paths]
    for path in paths:
        if is_pointer(path):
            raise InputError(f"{path} is a Git LFS pointer, not the file itself. Nothing was trained.", POINTER_HINT)
    usual = id_dtype(tokenizer)
    dtype, start = _storage(paths, tokenizer)
    (train, train_counts), (val, val_counts) = (_counted(path, dtype, start, tokenizer) for path in paths)
    lengths, ending = tokenizer.token_bytes, tokenizer.end_of_text_id
    documents, val_documents = (1 if ending is None else int(counts[ending]) for counts in (train_counts, val_counts))
    if dtype != usual or start:  # other ids than those that the same bytes give as usual
        contents = [f"{content} {dtype.name} from {start}" for content in contents]
    return Tokens(
        train=train,
        val=val,
        digest=hash_text([FORMAT, "nanoGPT", tokenizer.digest, *contents]),
        val_digest=held_out_digest(tokenizer, contents[1]),
        tokenizer=tokenizer,
        documents=documents + val_documents,
        val_documents=val_documents,
        bytes_train=None if lengths is None else int(lengths @ train_counts),
        bytes_val=None if lengths is None else int(lengths @ val_counts),
        leaked_bytes=None,
        leaked_paragraphs=None,
        common_bytes=None,
        val_fraction=None,
        reused=True,
        sources=(Source(source_name(paths[0]), len(train)),),
        findings=(*_of_width(folder, dtype, start, usual), *_of_range(folder, train_counts + val_counts, tokenizer)),
        repeated=find_repeated_windows(train, val),
    )


def _of_range(folder: Path, counts: npt.NDArray[np.int64], tokenizer: Tokenizer) -> Iterator[Finding]:
    """What is said of ids that are probably of a smaller vocabulary: of bytes or characters."""
    largest = int(counts.nonzero()[0].max())
    if largest < _CHARACTERS <= tokenizer.vocab_size // 4 and counts.sum() >= _CHARACTERS:
        example = (
            f"no id is above {largest}, of the {tokenizer.vocab_size:,} of the tokenizer {tokenizer.name}; is it the right one?"
        )
        yield Finding("token ids of a small part of the vocabulary", str(folder), 1, example)


def _of_width(folder: Path, dtype: _Type, start: int, usual: _Type) -> Iterator[Finding]:
    """What is said of ids that have not the usual width."""
    if start or dtype != usual:
        why = "their header states" if start else "their content shows"
        example = f"train.bin and val.bin have ids of type {dtype.name}, as {why}, not nanoGPT's {usual.name}"
        yield Finding("token ids of another width", str(folder), 2, example, is_loss=False)


def _storage(paths: Sequence[Path], tokenizer: Tokenizer) -> tuple[_Type, int]:
    """The type of the ids of both files, and the byte at which they begin. Raises InputError for a header that is not true."""
    headers = {_header(path) for path in paths}
    if headers != {None}:
        dtype = headers.pop()
        if dtype is None or headers:
            raise InputError(
                f"{' and '.join(map(str, paths))}: only one has the header of llm.c's token files, or their ids have "
                "different widths. Nothing was trained.",
                "Use two files that were written by the same program.",
            )
        return dtype, _HEADER
    usual = id_dtype(tokenizer)
    for wide, half in ((np.dtype("<u8"), np.dtype("<u4")), (np.dtype("<u4"), np.dtype("<u2"))):
        if wide.itemsize > usual.itemsize and _upper_halves_are_zero(paths, wide, half):
            return wide, 0
    narrow = np.dtype("u1")
    if tokenizer.vocab_size <= 256 and all(_largest(path, narrow) < tokenizer.vocab_size for path in paths):
        even = all(path.stat().st_size % usual.itemsize == 0 for path in paths)
        if not even or any(_largest(path, usual) >= tokenizer.vocab_size for path in paths):
            return narrow, 0
    return usual, 0


def _header(path: Path) -> _Type | None:
    """The type of the ids of one of llm.c's token files; None if it is not one. Raises InputError if its size is another."""
    with path.open("rb") as file:
        magic, version, count = np.frombuffer(file.read(12).ljust(12, b"\0"), "<i4").tolist()
    if (magic, version) not in _HEADERS:
        return None
    dtype = np.dtype(_HEADERS[magic, version])
    if path.stat().st_size != _HEADER + count * dtype.itemsize:
        raise InputError(
            f"{path} has {path.stat().st_size:,} bytes, but its header of llm.c states {count:,} token ids of {dtype.itemsize} "
            "bytes. Nothing was trained.",
            "Download or write it again.",
        )
    return dtype


def _upper_halves_are_zero(paths: Sequence[Path], wide: _Type, half: _Type) -> bool:
    """Whether the files are ids of type `wide` below the limit of `half`: read as `half`, every second one would be 0."""
    sizes = [path.stat().st_size for path in paths]
    if any(size % wide.itemsize for size in sizes) or sum(sizes) < _LEAST_IDS * wide.itemsize:
        return False
    some = False
    for path in paths:
        for ids in _chunks(path, half):
            if ids[1::2].any():
                return False
            some = some or bool(ids.any())
    return some


def _largest(path: Path, dtype: _Type) -> int:
    return max((int(ids.max()) for ids in _chunks(path, dtype)), default=0)


def _chunks(path: Path, dtype: _Type) -> Iterator[Ids]:
    if not path.stat().st_size:
        return
    ids: Ids = np.memmap(path, dtype, "r")
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _counted(path: Path, dtype: _Type, start: int, tokenizer: Tokenizer) -> tuple[Ids, npt.NDArray[np.int64]]:
    """A token file and the count of each id, (vocab_size,). Raises InputError if an id is not in the vocabulary."""
    size, width = path.stat().st_size - start, dtype.itemsize
    if not size or size % width:
        raise InputError(
            f"{path} has {size:,} bytes, which is not a multiple of the {width} bytes of a token id. Nothing was trained.",
            "Write it as nanoGPT's prepare.py does (uint16, or uint32 for a vocabulary over 65,536).",
        )
    ids: Ids = np.memmap(path, dtype, "r", offset=start)
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for first in range(0, len(ids), _CHUNK):
        chunk = ids[first : first + _CHUNK]
        largest = int(chunk.max())
        if largest >= tokenizer.vocab_size:
            _refuse_id(path, largest, dtype, tokenizer)
        counts += np.bincount(chunk.astype(np.int64), minlength=tokenizer.vocab_size)
    return ids, counts


def _refuse_id(path: Path, largest: int, dtype: _Type, tokenizer: Tokenizer) -> NoReturn:
    """Raises InputError for an id that is not in the vocabulary."""
    hint = f"Set `tokenizer` to the one that the file was written with (it was read as {dtype.name})."
    wide = np.dtype("<u4")
    if dtype.itemsize < wide.itemsize and not path.stat().st_size % wide.itemsize and (found := _largest(path, wide)) < _WIDER:
        hint = f"As uint32, its ids are up to {found:,}: set `tokenizer` to the one that the file was written with."
    raise InputError(
        f"{path} contains token id {largest:,}, but the tokenizer {tokenizer.name} has only "
        f"{tokenizer.vocab_size:,} entries. Nothing was trained.",
        hint,
    )
