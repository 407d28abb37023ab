"""metadata.json beside `train.bin` and `val.bin`, as the programs of EchoSelf write it (github.com/9cog/echoself).

It states the tokenizer of the ids: by name since August 2026, and in NanEcho/prepare.py; as `tokenizer_dir` and `vocab_size` in
prepare_dte_data.py; not at all where character codes were written, which other keys show.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .findings import shown_path
from .tokenizer import CODE_POINTS, PRINTABLE_ASCII, TOKENIZER_FILE

METADATA = "metadata.json"
_LARGEST = 1 << 20  # bytes


@dataclass(frozen=True)
class StatedTokenizer:
    """What a metadata.json states: the spec of the tokenizer, or None, and its number of ids, or None."""

    path: str
    spec: str | None
    size: int | None

    @property
    def text(self) -> str:
        """For messages, after "states"."""
        return f"the tokenizer {self.spec}" if self.spec else f"a vocabulary of {self.size:,} ids"


def stated_tokenizer(files: Sequence[Path]) -> StatedTokenizer | None:
    """What the metadata.json beside the token files in `files` states; None if there is none, or it states neither."""
    folder = next((path.parent for path in files if path.suffix == ".bin"), None)
    if folder is None:
        return None
    path = folder / METADATA
    values = _read(path)
    declared = values.get("tokenizer")
    provenance: Mapping[str, Any] = declared if isinstance(declared, Mapping) else {"name": declared}
    named, size = provenance.get("name"), provenance.get("vocab_size", values.get("vocab_size"))
    spec = "gpt2" if named == "gpt2" else _in_folder(values.get("tokenizer_dir")) or _of_codes(values)
    if spec in (CODE_POINTS, PRINTABLE_ASCII) or type(size) is not int or size < 1:
        size = None
    return StatedTokenizer(shown_path(path), spec, size) if spec or size else None


def _in_folder(folder: object) -> str | None:
    """The tokenizer.json in `tokenizer_dir`, a folder in the working directory, if it is there."""
    if not isinstance(folder, str) or Path(folder).is_absolute() or ".." in Path(folder).parts:
        return None
    path = Path(folder) / TOKENIZER_FILE
    return str(path) if path.is_file() else None


def _of_codes(values: Mapping[str, Any]) -> str | None:
    """The tokenizer of programs that write character codes without saying so."""
    if values.get("created_by") == "workflow_fallback":  # netrain-cached.yml
        return CODE_POINTS
    config = values.get("config")
    is_generated = isinstance(config, Mapping) and "identity_weight" in config and "train_size" in values
    return PRINTABLE_ASCII if is_generated else None  # prepare_nanecho_data.py


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
