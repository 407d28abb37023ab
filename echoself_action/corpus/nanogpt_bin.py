"""nanoGPT's token files as a corpus: `train.bin` and `val.bin`, as its prepare.py writes them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .tokenizer import Tokenizer
from .tokens import FORMAT, Ids, Tokens, hash_file, hash_text, held_out_digest, id_dtype, map_ids

_CHUNK = 1 << 22  # ids counted at a time


def nanogpt_tokens(files: Sequence[Path], tokenizer: Tokenizer) -> Tokens:
    """The tokens of `train.bin` and `val.bin`, mapped in place. Documents are separated by end-of-text ids.

    Raises InputError if `files` are not just these two, or contain invalid ids.
    """
    folders = {path.parent for path in files}
    if len(folders) > 1 or sorted(path.name for path in files) != ["train.bin", "val.bin"]:
        raise InputError(
            f"{', '.join(map(str, files[:5]))}: token files must be the train.bin and val.bin of one folder, without "
            "other files in `data`. Nothing was trained.",
            "Set `data` to these two files, or to text files only.",
        )
    folder = folders.pop()
    train, train_counts = _counted(folder / "train.bin", tokenizer)
    val, val_counts = _counted(folder / "val.bin", tokenizer)
    lengths, ending = tokenizer.token_bytes, tokenizer.end_of_text_id
    documents, val_documents = (1 if ending is None else int(counts[ending]) for counts in (train_counts, val_counts))
    contents = [hash_file(folder / "train.bin"), hash_file(folder / "val.bin")]
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
    )


def _counted(path: Path, tokenizer: Tokenizer) -> tuple[Ids, npt.NDArray[np.int64]]:
    """A token file and the count of each id, (vocab_size,). Raises InputError if an id is not in the vocabulary."""
    size, width = path.stat().st_size, id_dtype(tokenizer).itemsize
    if not size or size % width:
        raise InputError(
            f"{path} has {size:,} bytes, which is not a multiple of the {width} bytes of a token id. Nothing was trained.",
            "Write it as nanoGPT's prepare.py does (uint16, or uint32 for a vocabulary over 65,536).",
        )
    ids = map_ids(path, tokenizer)
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for start in range(0, len(ids), _CHUNK):
        chunk = np.bincount(ids[start : start + _CHUNK], minlength=tokenizer.vocab_size)
        if len(chunk) > tokenizer.vocab_size:
            raise InputError(
                f"{path} contains token id {len(chunk) - 1:,}, but the tokenizer {tokenizer.name} has only "
                f"{tokenizer.vocab_size:,} entries. Nothing was trained.",
                "Set `tokenizer` to the one that the file was written with.",
            )
        counts += chunk
    return ids, counts
