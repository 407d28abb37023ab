"""NanEcho by the command line: its card, which code is run, and a new model that is trained, published and resumed."""

import json
from pathlib import Path

from transformers import AutoModelForCausalLM

from echoself_action.__main__ import main
from echoself_action.hub.cards.sections import has_sections

from ..formats.foreign_files import save
from ..formats.nanecho_files import nanecho_checkpoint, state_dict

REPO = "me/echo"


def echoself(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_card_documents_how_nanecho_is_loaded_and_what_it_predicts(tmp_path: Path) -> None:
    path, hub = (
        save(nanecho_checkpoint("cache", state_dict()), tmp_path / "a.pt"),
        ("--repo-id", REPO, "--hub", tmp_path / "hub"),
    )
    assert echoself("deploy", "--checkpoint", path, "--output-dir", tmp_path / "a", *hub) == 0
    assert echoself("pull", *hub, "--output-dir", tmp_path / "b") == 0
    card = (tmp_path / "b/checkpoint-40/README.md").read_text()
    assert has_sections(card)
    assert "trust_remote_code=True" in card
    assert "token after the next" in card


def test_code_on_the_hub_is_replaced_and_never_run(tmp_path: Path) -> None:
    path, hub = (
        save(nanecho_checkpoint("cache", state_dict()), tmp_path / "a.pt"),
        ("--repo-id", REPO, "--hub", tmp_path / "hub"),
    )
    assert echoself("pull", "--checkpoint", path, "--output-dir", tmp_path / "a") == 0
    folder = tmp_path / "a/checkpoint-40"
    own = (folder / "modeling_nanecho.py").read_bytes()
    (folder / "modeling_nanecho.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert echoself("deploy", "--checkpoint", folder, *hub) == 0
    assert echoself("pull", *hub, "--output-dir", tmp_path / "b") == 0
    assert (tmp_path / "b/checkpoint-40/modeling_nanecho.py").read_bytes() == own
    assert not (tmp_path / "ran").exists()
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "somebody/else--code.Config"
    (folder / "config.json").write_text(json.dumps(config))
    assert echoself("deploy", "--checkpoint", folder, *hub) == 3


def test_a_new_causal_nanecho_is_trained_published_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(20):
        (tmp_path / f"data/{number}.md").write_text(f"The echo number {number} answers itself. " * 40)
    where = ("--repo-id", REPO, "--hub", tmp_path / "hub", "--output-dir", tmp_path / "out")
    sizes = ("--n-layer", 4, "--n-head", 2, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--tokenizer", "bytes")
    steps: tuple[object, ...] = ("--preset", "ci", "--max-iters", 10, "--eval-interval", 5, "--checkpoint-interval", 5)
    steps += ("--data", tmp_path / "data/*.md")
    new = ("--architecture", "nanecho", "--persona-dimensions", "calm,curious")
    assert echoself("cycle", *where, *sizes, *steps, *new) == 0
    assert echoself("cycle", *where, "--batch-size", 4, *steps) == 0
    assert echoself("cycle", *where, *steps, "--architecture", "gpt2") == 2
    assert echoself("pull", *where[:4], "--output-dir", tmp_path / "b") == 0
    pulled = max((tmp_path / "b").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    stock = AutoModelForCausalLM.from_pretrained(pulled, trust_remote_code=True)
    assert stock.config.legacy is False
    assert list(stock.blocks[1].persona_dims) == ["calm", "curious"]
    assert stock.config.current_iteration > 10
    assert echoself("pull", *where[:4], "--output-dir", tmp_path / "c", "--formats", "nanecho") == 3
