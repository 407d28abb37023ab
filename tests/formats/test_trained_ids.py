"""What a model was trained on is seen in its embeddings: GPT-2's tokens, or the character codes of older EchoSelf programs.

The embeddings are those of the smallest language model with a tied head, trained as these programs train. With their own
trainer: benchmarks/echoself_trainer.py.
"""

import functools
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
import torch
from torch.nn.functional import cross_entropy, layer_norm

from echoself_action.errors import InputError
from echoself_action.formats.find_checkpoints import find_checkpoints
from echoself_action.formats.import_checkpoint import import_checkpoint, read_checkpoint_file
from echoself_action.formats.trained_ids import GPT2_SIZE, TrainedIds, trained_ids
from echoself_action.hub.cards.origin import origin_rows

from .foreign_files import save
from .nanecho_files import nanecho_checkpoint, state_dict

WIDTH, STEPS, LENGTH = 16, 30, 64
TEXT = " ".join(
    [
        "Echo Self is a cognitive architecture with adaptive attention mechanisms.",
        "Hypergraph patterns enable neural-symbolic reasoning and pattern encoding.",
        "Recursive reasoning allows multi-level introspection and self-examination.",
    ]
    * 10
)
# robust_data_prep.py numbers words: "the" is 1, and so is any that it does not know.
WORDS = [1, 94, 93, 92, 95, 13, 96, 1, 97, 1, 2, 98, 99, 17, 100, 1, 13, 1, 2, 1, 1] * 50


@functools.cache
def embedding(kind: str) -> torch.Tensor:
    """(GPT2_SIZE, WIDTH) the embedding after `STEPS` steps on `TEXT`, encoded in the way of `kind`."""
    match kind:
        case "code points":
            ids = [ord(one) for one in TEXT]
        case "printable ASCII":
            ids = [ord(one) - 32 for one in TEXT]
        case "words":
            ids = WORDS
        case _:
            ids = tiktoken.get_encoding("gpt2").encode(TEXT)
    generator, text = torch.Generator().manual_seed(0), torch.tensor(ids)
    rows = (0.02 * torch.randn(GPT2_SIZE, WIDTH, generator=generator)).requires_grad_()
    optimizer = torch.optim.AdamW([rows], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(0 if kind == "nothing" else STEPS):
        start = random.Random(0).randrange(len(ids) - LENGTH)
        inputs, targets = text[start : start + LENGTH], text[start + 1 : start + LENGTH + 1]
        cross_entropy(layer_norm(rows[inputs], (WIDTH,)) @ rows.T, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return rows.detach()


@pytest.fixture(autouse=True)
def gpt2_is_cached(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))


def checkpoint(kind: str, path: Path, layout: str = "export", **changes: Any) -> Path:
    """A NanEcho checkpoint with this embedding, as older programs save it: without a tokenizer."""
    weights = state_dict(vocab_size=GPT2_SIZE, n_embd=WIDTH)
    weights |= dict.fromkeys(("token_embedding.weight", "lm_head.weight"), embedding(kind))
    content = nanecho_checkpoint(layout, weights, vocab_size=GPT2_SIZE) | changes
    return save({name: value for name, value in content.items() if value is not None}, path)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("code points", TrainedIds.CODE_POINTS),
        ("printable ASCII", TrainedIds.PRINTABLE_ASCII),
        ("words", TrainedIds.BELOW_256),
        ("GPT-2's tokens", TrainedIds.OTHERS),
        ("nothing", TrainedIds.UNKNOWN),
    ],
)
def test_the_rows_of_ids_in_the_text_are_told_from_the_others(kind: str, found: TrainedIds) -> None:
    assert trained_ids(embedding(kind).numpy()) is found


def test_equal_rows_say_nothing() -> None:
    assert trained_ids(np.zeros((GPT2_SIZE, 4), np.float32)) is TrainedIds.UNKNOWN
    assert trained_ids(np.ones((GPT2_SIZE, 4), np.float32)) is TrainedIds.UNKNOWN


def test_a_model_of_character_codes_is_imported_as_what_it_is(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path, notes = checkpoint("code points", tmp_path / "best_model_export.pt"), list[str]()
    with pytest.raises(InputError, match=r"gpt2 is not what .*: character codes, not GPT-2 tokens") as refused:
        import_checkpoint(path, tmp_path / "out", "gpt2", notes.append)
    assert refused.value.hint.startswith("Remove tokenizer, or set it to code_points.")
    folder = import_checkpoint(path, tmp_path / "out", None, notes.append)
    assert folder.metadata
    assert folder.metadata.tokenizer.name == "code_points"
    origin = folder.metadata.imported_from
    assert origin
    assert any(remark.startswith("character codes, not GPT-2 tokens") for remark in origin.remarks)
    assert any("val_loss of 2.5 was measured on its training text" in remark for remark in origin.remarks)
    assert [note for note in notes if note in origin.remarks] == origin.remarks, "the log says it too"
    assert {("Note", remark) for remark in origin.remarks} <= set(origin_rows(folder.metadata)), "and the card"
    stock = AutoTokenizer.from_pretrained(folder.path)
    assert stock(TEXT)["input_ids"] == [ord(one) for one in TEXT]
    assert stock.decode(list(range(32, 127))) == "".join(map(chr, range(32, 127)))
    assert len(stock) == GPT2_SIZE


@pytest.mark.parametrize(("kind", "given"), [("printable ASCII", "code_points"), ("words", "gpt2"), ("code points", "bytes")])
def test_another_tokenizer_than_its_own_is_refused(kind: str, given: str, tmp_path: Path) -> None:
    path = checkpoint(kind, tmp_path / "best_model_export.pt")
    with pytest.raises(InputError, match=f"tokenizer: {given} is not what .* was trained with"):
        import_checkpoint(path, tmp_path / "out", given, print)
    assert not list(tmp_path.glob("out/*"))


def test_a_vocabulary_beside_the_file_says_what_ids_below_256_mean(tmp_path: Path) -> None:
    path = checkpoint("words", tmp_path / "best_model_export.pt")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": dict(enumerate("abcdefgh")), "vocab_size": 8}))
    metadata = import_checkpoint(path, tmp_path / "out", None, print).metadata
    assert metadata
    assert metadata.tokenizer.name == "characters"


def test_a_file_that_names_its_tokenizer_is_taken_at_its_word(tmp_path: Path) -> None:
    source = read_checkpoint_file(checkpoint("code points", tmp_path / "a.pt", "cache"), print)
    assert source.vocabulary == "gpt2"
    assert not any("character codes" in remark for remark in source.remarks)


def test_what_the_embeddings_do_not_show_is_assumed_and_said(tmp_path: Path) -> None:
    path, notes = checkpoint("nothing", tmp_path / "best_model_export.pt"), list[str]()
    metadata = import_checkpoint(path, tmp_path / "out", None, notes.append).metadata
    assert metadata
    assert metadata.tokenizer.name == "gpt2"
    assert any("GPT-2's is assumed" in note and "tokenizer: code_points" in note for note in notes)


def test_a_loss_of_training_text_does_not_make_a_checkpoint_the_best(tmp_path: Path) -> None:
    memorised = checkpoint("code points", tmp_path / "a/cache/checkpoints/a.pt", "cache", tokenizer=None, val_loss=3.5e-4)
    honest = checkpoint("GPT-2's tokens", tmp_path / "b/cache/checkpoints/b.pt", "cache", val_loss=4.0)
    found = find_checkpoints(tmp_path).candidates
    assert [one.path for one in found] == [honest, memorised]
    assert "its loss was measured on its training text" in str(found[1])
