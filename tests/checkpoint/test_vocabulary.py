"""A tokenizer with ids that the model has no embeddings for is refused when a model folder is read."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.checkpoint.vocabulary import check_token_ids
from echoself_action.corpus.make_tokenizer import load_tokenizer
from echoself_action.errors import CheckpointError
from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli

FOLDER = Path("echoself-model/checkpoint-20-decayed")
CHARACTERS = {chr(97 + i): i for i in range(8)}


def add_token(folder: Path) -> None:
    """As `tokenizer.add_tokens` and `save_pretrained` do, without `model.resize_token_embeddings`."""
    path = folder / "tokenizer.json"
    backend = tokenizers.Tokenizer.from_file(str(path))
    assert backend.add_tokens(["the"]) == 1
    backend.save(str(path))


def declare_token(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text()) | {"added_tokens_decoder": {"257": {"content": "<pad>", "special": True}}}
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("change", [add_token, declare_token])
@pytest.mark.parametrize(
    "command",
    [
        f"train {SMALL} --checkpoint given --output-dir other",
        "deploy --hub hub --repo-id me/model --checkpoint given",
        "pull --checkpoint given --output-dir other",
        "compare --candidates given,echoself-model/checkpoint-20-decayed",
    ],
)
def test_a_folder_whose_tokenizer_exceeds_vocab_size_is_refused(
    begun: Cli, echoself: Cli, capsys: pytest.CaptureFixture[str], command: str, change: Any
) -> None:
    begun(f"train --tokenizer bytes {SMALL}")
    FOLDER.rename("given")
    change(Path("given"))
    echoself(command, code=3)
    message = capsys.readouterr().err
    assert "has token ids up to 257, and config.json says vocab_size=257" in message
    assert "resize_token_embeddings" in message


def test_a_published_model_whose_tokenizer_exceeds_vocab_size_is_refused(
    begun: Cli, echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(f"train --tokenizer bytes {SMALL}", "deploy --hub hub --repo-id me/model")
    add_token(FOLDER)
    with open_hub("hub", None, print) as hub:
        hub.api.upload_file(
            path_or_fileobj=FOLDER / "tokenizer.json", path_in_repo="tokenizer.json", repo_id="me/model", commit_message="Add"
        )
    for command in ("pull --verify off", f"train {SMALL}"):
        echoself(f"{command} --hub hub --repo-id me/model --output-dir pulled", code=3)
        assert "has token ids up to 257, and config.json says vocab_size=257" in capsys.readouterr().err
    assert not list(Path("pulled").glob("checkpoint-*"))


def write(folder: Path, vocabulary: Any, added: list[dict[str, Any]], kind: str = "WordLevel") -> None:
    model = {"type": kind, "vocab": vocabulary, **({"unk_token": "a"} if kind == "WordLevel" else {"unk_id": 0})}
    tokens = [
        {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False} | token
        for token in added
    ]
    values = {"version": "1.0", "added_tokens": tokens, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": None}))


@pytest.mark.parametrize(
    ("vocabulary", "added", "kind", "size"),
    [
        (CHARACTERS, [], "WordLevel", 8),
        (CHARACTERS | {"z": 20}, [], "WordLevel", 21),
        ([[token, -1.0] for token in CHARACTERS], [], "Unigram", 8),
        (CHARACTERS, [{"id": 8, "content": "new"}, {"id": 9, "content": "newer"}], "WordLevel", 10),
        (CHARACTERS, [{"id": 0, "content": "a"}, {"id": 8, "content": "new"}], "WordLevel", 9),
        (CHARACTERS, [{"id": 3, "content": "new"}], "WordLevel", 9),  # `tokenizers` gives it another id than it declares
        (CHARACTERS | {"z": 20}, [{"id": 20, "content": "z"}, {"id": 3, "content": "new"}], "WordLevel", 21),
    ],
)
def test_the_highest_id_is_that_of_the_tokenizers_library(
    tmp_path: Path, vocabulary: Any, added: list[dict[str, Any]], kind: str, size: int
) -> None:
    write(tmp_path, vocabulary, added, kind)
    assert load_tokenizer(tmp_path).vocab_size == size
    check_token_ids(tmp_path, size)
    check_token_ids(tmp_path, size + 47)  # padding
    with pytest.raises(CheckpointError, match=f"has token ids up to {size - 1}, and config.json says vocab_size={size - 1}"):
        check_token_ids(tmp_path, size - 1)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"model": {"vocab": 3}}', '{"model": {"vocab": {"a": "1"}}}', "[" * 100_000]
)
def test_a_tokenizer_that_is_not_valid_is_refused_when_a_folder_is_read(begun: Cli, content: str) -> None:
    begun(f"train --tokenizer bytes {SMALL}")
    (FOLDER / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match="can't be read as a tokenizer"):
        read_model_folder(FOLDER)
