"""nanoGPT's own token files, used where they lie: a `train.bin` and a `val.bin` that its prepare.py wrote."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .tokenizer import Tokenizer
from .tokens import FORMAT, Ids, Tokens, hash_file, hash_text, id_dtype, map_ids

_CHUNK = 1 << 22  # ids counted at a time


def nanogpt_tokens(files: Sequence[Path], tokenizer: Tokenizer) -> Tokens:
    """nanoGPT's `train.bin` and `val.bin`, used where they lie. A document is what an end-of-text id ends, or all."""
    folders = {path.parent for path in files}
    if len(folders) > 1 or sorted(path.name for path in files) != ["train.bin", "val.bin"]:
        raise InputError(
            f"{', '.join(map(str, files[:5]))}: token files are used as they are, as the train.bin and val.bin of one "
            "folder and with no other file, so nothing was trained.",
            "Name exactly these two in `data`, or text only.",
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
        tokenizer=tokenizer,
        documents=documents + val_documents,
        val_documents=val_documents,
        bytes_train=None if lengths is None else int(lengths @ train_counts),
        bytes_val=None if lengths is None else int(lengths @ val_counts),
        reused=True,
    )


def _counted(path: Path, tokenizer: Tokenizer) -> tuple[Ids, npt.NDArray[np.int64]]:
    """A token file, and how often it has each id, (vocab_size,). Raises InputError where an id is no id."""
    size, width = path.stat().st_size, id_dtype(tokenizer).itemsize
    if not size or size % width:
        raise InputError(
            f"{path} has {size:,} bytes, which is no number of {width}-byte token ids, so nothing was trained.",
            "Write it again, as nanoGPT's prepare.py does (uint16, or uint32 for a vocabulary over 65,536).",
        )
    ids = map_ids(path, tokenizer)
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for start in range(0, len(ids), _CHUNK):
        chunk = np.bincount(ids[start : start + _CHUNK], minlength=tokenizer.vocab_size)
        if len(chunk) > tokenizer.vocab_size:
            raise InputError(
                f"{path} has the token id {len(chunk) - 1:,}, and the tokenizer {tokenizer.name} has only "
                f"{tokenizer.vocab_size:,}, so nothing was trained.",
                "Name the tokenizer that the file was made with.",
            )
        counts += chunk
    return ids, counts
