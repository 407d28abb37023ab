"""Runs an ONNX model in ONNX Runtime, in a process of its own: an error of native code ends only this process.

`python -m echoself_action.formats.onnx_worker MODEL TOKENIZER FOLDER` reads FOLDER/token_ids.npy, (batch, length), and
FOLDER/texts.json, and writes logits.npy, logits_cached.npy and ids_of_texts.json there.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from .. import libraries

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
        self.past: dict[str, Any] = {}

    def reset(self, batch: int) -> None:
        """Forget the text: the next ids are the first ones."""
        self.past = {
            one.name: np.zeros((batch, one.shape[1], 0, one.shape[3]), np.float32)
            for one in self.session.get_inputs()
            if one.name.startswith("past_key_values.")
        }

    def logits(self, ids: Ids) -> Logits:
        """(batch, length, vocab_size) logits of the next `ids` (batch, length) of a text."""
        batch, length = ids.shape
        before = next(iter(self.past.values())).shape[2]
        positions = np.broadcast_to(np.arange(before, before + length), (batch, length))
        mask = np.ones((batch, before + length), np.int64)
        found = self.session.run(None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **self.past})
        outputs = dict(zip(self.outputs, found, strict=True))
        logits: Logits = outputs.pop("logits")
        self.past = {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
        return logits


def pieces(length: int) -> Iterator[slice]:
    """A text in several pieces: its first half, the next quarter, then token by token."""
    ends = [length // 2, 3 * length // 4, *range(3 * length // 4 + 1, length + 1)]
    for start, end in zip([0, *ends], ends, strict=False):
        if start < end:
            yield slice(start, end)


def main(model: Path, tokenizer: Path, folder: Path) -> None:
    ids = np.load(folder / "token_ids.npy")
    texts = json.loads((folder / "texts.json").read_bytes())
    onnx = OnnxModel(model)
    onnx.reset(len(ids))
    np.save(folder / "logits.npy", onnx.logits(ids))
    onnx.reset(len(ids))
    cached = [onnx.logits(np.ascontiguousarray(ids[:, piece])) for piece in pieces(ids.shape[1])]
    np.save(folder / "logits_cached.npy", np.concatenate(cached, axis=1))
    encodings = Tokenizer.from_file(str(tokenizer)).encode_batch(texts)
    (folder / "ids_of_texts.json").write_text(json.dumps([encoding.ids for encoding in encodings]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
