"""metadata.json beside token files, as each program of EchoSelf writes it, decides about the tokenizer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.token_files_metadata import stated_tokenizer

from ..conftest import Cli

GPT2 = {"name": "gpt2", "vocab_size": 50257, "eos_token": "<|endoftext|>", "eos_token_id": 50256}
FALLBACK = {"train_tokens": 3000, "vocab_size": 256, "created_by": "workflow_fallback"}
GENERATED = {"train_size": 3000, "val_size": 300, "vocab_size": 50257, "config": {"identity_weight": 0.2}}
DTE = {"tokenizer_type": "dte_bpe", "tokenizer_dir": "NanEcho/dte_tokenizer", "vocab_size": 300}


def write(content: object) -> list[Path]:
    """Token files of small ids with this metadata.json beside them."""
    folder = Path("data/nanecho")
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps(content))
    for name, seed in (("train.bin", 0), ("val.bin", 1)):
        np.random.default_rng(seed).integers(32, 96, 300).astype(np.uint16).tofile(folder / name)
    return [folder / "train.bin", folder / "val.bin"]


@pytest.mark.parametrize(
    ("content", "spec", "size"),
    [
        ({"tokenizer": GPT2}, "gpt2", 50257),
        ({"tokenizer": "gpt2", "vocab_size": 50257}, "gpt2", 50257),
        (FALLBACK, "code_points", None),
        (GENERATED, "printable_ascii", None),
        (DTE, None, 300),
    ],
)
def test_what_each_program_writes_is_read(workspace: Path, content: Any, spec: str | None, size: int | None) -> None:
    found = stated_tokenizer(write(content))
    assert found
    assert (found.spec, found.size) == (spec, size)


@pytest.mark.parametrize("content", [[], {}, {"vocab_size": "many"}, {"tokenizer_dir": "../elsewhere"}, {"tokenizer": {}}])
def test_any_other_file_states_nothing(workspace: Path, content: object) -> None:
    assert stated_tokenizer(write(content)) is None


SMALL = "train --n-layer 1 --n-head 1 --n-embd 8 --block-size 16 --max-iters 1 --batch-size 2 --device cpu --preset ci"


def test_the_stated_tokenizer_is_used_and_no_other(echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(DTE)
    echoself(f"{SMALL} --data data/nanecho/*", code=2)
    refused = capsys.readouterr().err
    assert "metadata.json beside the token files states a vocabulary of 300 ids, but tokenizer is not set" in refused
    assert "Set `tokenizer` to the file of that vocabulary." in refused
    texts = [path.read_text() for path in Path("docs").glob("*.md")]
    make_tokenizer("bpe:300", lambda: iter(texts)).save(Path("NanEcho/dte_tokenizer"))
    echoself(f"{SMALL} --data data/nanecho/* --tokenizer bytes", code=2)
    assert "states the tokenizer NanEcho/dte_tokenizer/tokenizer.json, but tokenizer is bytes" in capsys.readouterr().err
    echoself(f"{SMALL} --data data/nanecho/*")
    assert "tokenizer: NanEcho/dte_tokenizer/tokenizer.json, as data/nanecho/metadata.json" in capsys.readouterr().out
    (Path("data/nanecho/metadata.json")).write_text(json.dumps(GENERATED))
    echoself(f"{SMALL} --data data/nanecho/*", code=2)
    assert "states the tokenizer printable_ascii, but echoself-model/checkpoint-" in capsys.readouterr().err
