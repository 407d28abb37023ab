"""Runs an ONNX model in ONNX Runtime, in a process of its own.

`python -m echoself_action.formats.runtimes.onnx_worker FILE TOKENIZER FOLDER` reads FOLDER/token_ids.npy, (sequences, length),
and FOLDER/texts.json. It writes logits.npy there, the logits of whole sequences; cached_logits.npy, those of sequences that are
given in pieces, with the key-value cache; and ids_of_texts.json, by the tokenizer.json at TOKENIZER.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ... import libraries

LOGITS, CACHED_LOGITS, IDS_OF_TEXTS = "logits.npy", "cached_logits.npy", "ids_of_texts.json"
TOKEN_IDS, TEXTS = "token_ids.npy", "texts.json"

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]


class OnnxModel:
    """An exported model with its key-value cache, as transformers.js and optimum use it, on `threads` threads."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = libraries.onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        self.session = libraries.onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.reset()

    def reset(self) -> None:
        """Forget the text: the next ids are its first ones."""
        self.past: dict[str, Any] = {}

    def logits(self, ids: Ids) -> Logits:
        """(batch, length, vocab_size) logits of the next `ids` (batch, length) of a text."""
        batch, length = ids.shape
        past = self.past or self.empty_past(batch)
        before = next(iter(past.values())).shape[2]
        positions = np.broadcast_to(np.arange(before, before + length), (batch, length))
        mask = np.ones((batch, before + length), np.int64)
        found = self.session.run(None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past})
        outputs = dict(zip(self.outputs, found, strict=True))
        logits: Logits = outputs.pop("logits")
        self.past = {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
        return logits

    def empty_past(self, batch: int) -> dict[str, Any]:
        """The inputs for the key-value cache of no text."""
        return {
            one.name: np.zeros((batch, one.shape[1], 0, one.shape[3]), np.float32)
            for one in self.session.get_inputs()
            if one.name.startswith("past_key_values.")
        }


def pieces(length: int) -> Iterator[slice]:
    """A text in several pieces: its first half, the next quarter, then token by token."""
    ends = [length // 2, 3 * length // 4, *range(3 * length // 4 + 1, length + 1)]
    for start, end in zip([0, *ends], ends, strict=False):
        if start < end:
            yield slice(start, end)


def main(file: Path, tokenizer: Path, folder: Path) -> None:
    model, ids = OnnxModel(file), np.load(folder / TOKEN_IDS)
    np.save(folder / LOGITS, model.logits(ids))
    model.reset()
    np.save(folder / CACHED_LOGITS, np.concatenate([model.logits(ids[:, piece]) for piece in pieces(ids.shape[1])], axis=1))
    texts = json.loads((folder / TEXTS).read_bytes())
    encodings = Tokenizer.from_file(str(tokenizer)).encode_batch(texts)
    (folder / IDS_OF_TEXTS).write_text(json.dumps([encoding.ids for encoding in encodings]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
