import json
from pathlib import Path

import pytest

from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.corpus.leaks import COMMON
from echoself_action.corpus.split import is_validation
from echoself_action.starting.tokenize_corpus import corpus_tokens

from ..conftest import SMALL, Cli

LEAK = "A paragraph that is held out, and was copied into one of the training documents."
PROMPT = "System: You are a model that is trained on its own system prompt, wherever it is."


def test_the_log_says_what_is_in_both_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    forms = [f"{PROMPT}\n\n{LEAK}\n\n{{}}", *[f"{PROMPT}\n\n{{}}"] * COMMON, f"{LEAK}\n\n{{}}"]
    wanted = [True, *[False] * COMMON, False]
    documents = []
    for number, (form, held_out) in enumerate(zip(forms, wanted, strict=True)):
        made = (form.format(f"Document {number}, {i}. " * 4) for i in range(999))
        documents.append(next(text for text in made if is_validation(text, 0.1) == held_out))
    Path("chats.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    corpus_tokens(TrainInputs(mode="train", data=("chats.jsonl",), tokenizer="bytes", block_size=32), None)
    log = capsys.readouterr().out
    assert f"left out of training: {len(LEAK) + 2} bytes (" in log
    assert "in 1 paragraphs, because they are in the held-out text too" in log
    assert f"{len(PROMPT)} bytes (" in log
    assert f"of the held-out text are common: paragraphs with {COMMON} or more copies" in log


def test_a_tokenizer_is_trained_without_the_held_out_text(workspace: Path, echoself: Cli) -> None:
    """A vocabulary that knows the words of the held-out text makes its loss lower than that of other text."""
    words = {number: "zq" + "".join(chr(ord("a") + int(digit)) for digit in f"{number:02}") + "xy" for number in range(60)}
    for number, word in words.items():
        (workspace / f"docs/{number}.md").write_text(f"{word} and then {word} " * 40)
    outputs = echoself(f"train --data docs/*.md --tokenizer bpe:800 {SMALL} --max-iters 1")
    tokenizer = json.loads((Path(outputs["checkpoint"]) / "tokenizer.json").read_text())
    entries = set(tokenizer["model"]["vocab"])
    held_out = [word for number, word in words.items() if is_validation((workspace / f"docs/{number}.md").read_text(), 0.1)]
    assert held_out
    trained_on = [word for word in words.values() if word not in held_out]
    assert any(f"Ġ{word}" in entries for word in trained_on)
    assert not any(f"Ġ{word}" in entries for word in held_out)
