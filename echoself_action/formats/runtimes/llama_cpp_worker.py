"""Runs a GGUF file in llama.cpp, in a process of its own.

`python -m echoself_action.formats.runtimes.llama_cpp_worker FILE FOLDER` reads FOLDER/token_ids.npy, (sequences, length), and
FOLDER/texts.json. It writes logits.npy there, the logits with llama.cpp's default settings, and ids_of_texts.json. If there
is FOLDER/exact_ids.npy, it also writes exact_logits.npy, the logits of these ids in fp32, and gelus.npy, (layers, sequences,
length, n_inner) values of the activation function.
"""

import json
import sys
from pathlib import Path

import numpy as np

from .llama_cpp_library import LlamaCpp, LlamaCppError

LOGITS, IDS_OF_TEXTS = "logits.npy", "ids_of_texts.json"
EXACT_LOGITS, GELUS = "exact_logits.npy", "gelus.npy"
TOKEN_IDS, TEXTS, EXACT_IDS = "token_ids.npy", "texts.json", "exact_ids.npy"


def main(file: Path, folder: Path) -> None:
    model = LlamaCpp(file)
    np.save(folder / LOGITS, np.stack([model.logits(ids) for ids in np.load(folder / TOKEN_IDS)]))
    texts = json.loads((folder / TEXTS).read_bytes())
    (folder / IDS_OF_TEXTS).write_text(json.dumps([model.tokenize(text) for text in texts]))
    if (folder / EXACT_IDS).exists():
        logits, gelus = zip(*(model.exact_logits(ids) for ids in np.load(folder / EXACT_IDS)), strict=True)
        np.save(folder / EXACT_LOGITS, np.stack(logits))
        np.save(folder / GELUS, np.stack(gelus, axis=1))


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except LlamaCppError as error:
        sys.exit(str(error))
