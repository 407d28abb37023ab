"""A NanEcho checkpoint becomes a model folder that computes the same, and goes back without a changed bit.

Its own trainer is asked where NANECHO is set.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.imported_model import Given
from echoself_action.formats.nanecho_export import export_nanecho
from echoself_action.model.gpt2 import GPT2Config

from .foreign_files import nanogpt_checkpoint, save
from .nanecho_files import EXTRAS, SIZES, nanecho_checkpoint, state_dict
from .original_arithmetic import NanEcho, NanoGPT

ROOT = Path(__file__).parents[2]
OFF = {f"enable_{name}": False for name in EXTRAS}


def test_a_bare_state_dict_requires_n_head(tmp_path: Path) -> None:
    path = save(state_dict(), tmp_path / "raw.pt")
    with pytest.raises(CheckpointError, match="n_head") as caught:
        import_checkpoint(path, tmp_path / "out", None, print)
    assert "n_head" in caught.value.hint
    assert import_checkpoint(path, tmp_path / "out", None, print, Given(2)).config.n_head == 2


def test_without_extras_and_with_all_connections_it_is_imported_as_gpt2(tmp_path: Path) -> None:
    content = nanecho_checkpoint("native", state_dict(initial_connections=1.0, **OFF), **OFF, initial_connections=1.0)
    notes: list[str] = []
    folder = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", None, notes.append)
    assert isinstance(folder.config, GPT2Config)
    assert folder.config.activation == "gelu"
    assert any("predicts the token after the next" in note for note in notes)
    after = torch.load(export_nanecho(folder, tmp_path / "cache"), weights_only=True)
    assert after["model_config"]["enable_adaptive_attention"] is False


@pytest.mark.parametrize("bias", [True, False])
def test_a_nanogpt_model_is_exported_to_nanecho_with_equal_logits(tmp_path: Path, bias: bool) -> None:
    content = nanogpt_checkpoint(bias=bias)
    folder = import_checkpoint(save(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    exported = torch.load(export_nanecho(folder, tmp_path / "cache"), weights_only=True)
    assert exported["model_config"]["bias"] is bias
    before, after = NanoGPT(content["model_args"]), NanEcho(exported["model_config"], exported["current_iteration"])
    before.load_state_dict(content["model"])
    after.load_state_dict(exported["model_state_dict"])
    ids = torch.arange(48).view(3, 16)
    with torch.no_grad():
        torch.testing.assert_close(after(ids), before(ids), atol=1e-5, rtol=0)


def test_older_files_weight_four_of_eight_dimensions_by_an_eighth(tmp_path: Path) -> None:
    four = ["cognitive", "introspective", "adaptive", "recursive"]
    content = nanecho_checkpoint("cache", state_dict(dimensions=four))
    config: Any = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", None, print).config
    assert config.persona_dimensions == four
    assert [config.dimension_weights[name] for name in four] == [0.125] * 4


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["model_state_dict"].pop(name)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a tensor less": (_without("blocks.3.hypergraph.node_encoder.weight"), "node_encoder.weight is missing"),
    "no positions": (_without("position_embedding.weight"), "no position_embedding"),
    "a tensor more": (lambda c: c["model_state_dict"].update(odd=torch.zeros(1)), "odd is not a tensor"),
    "another size": (lambda c: c["model_config"].update(n_embd=32), "n_embd"),
    "a block less": (lambda c: [c["model_state_dict"].pop(n) for n in list(c["model_state_dict"]) if ".2." in n], "block"),
    "NaN": (lambda c: c["model_state_dict"]["ln_f.bias"].fill_(float("nan")), "invalid values: ln_f.bias"),
    "another head": (lambda c: c["model_state_dict"].update({"lm_head.weight": torch.ones(64, 16)}), "ties the two"),
    "an odd number of heads": (lambda c: c["model_config"].update(n_head=3), "not divisible by n_head=3"),
    "no number of heads": (lambda c: c["model_config"].pop("n_head"), "n_head"),
    "a flag that lies": (lambda c: c["model_config"].update(enable_hypergraph_patterns=False), "enable_hypergraph_patterns"),
    "a negative iteration": (lambda c: c.update(iteration=-1), "not a valid step count"),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_file_that_contradicts_itself_is_refused(change: str, tmp_path: Path) -> None:
    edit, words = WRONG[change]
    weights = {name: tensor.clone() for name, tensor in state_dict().items()}
    content = nanecho_checkpoint("cache", weights)
    edit(content)
    with pytest.raises(CheckpointError, match=words):
        import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", None, print)
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_the_index_of_an_exported_cache_has_the_trainers_format(shared: Path, tmp_path: Path) -> None:
    cache = shared / "fixtures/nanecho/cache"
    original = json.loads((cache / "metadata.json").read_text())
    folder = import_checkpoint(next(cache.glob("checkpoints/*.pt")), tmp_path / "out", None, print)
    path = export_nanecho(folder, tmp_path / "cache")
    listed = json.loads((tmp_path / "cache/metadata.json").read_text())
    assert [path.stem] == list(listed)
    theirs = original["ckpt_20261124_035214_40_dca8f64e_44a379d7"]
    assert listed[path.stem].keys() == theirs.keys()
    for name in ("iteration", "val_loss", "data_config"):
        assert listed[path.stem][name] == theirs[name], name
    assert theirs["model_config"].items() <= listed[path.stem]["model_config"].items()


def test_a_causal_model_can_not_be_exported_to_nanecho(tmp_path: Path) -> None:
    content = nanecho_checkpoint("cache", state_dict())
    folder = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", None, print)
    config = json.loads((folder.path / "config.json").read_text()) | {"legacy": False}
    (folder.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="it is causal"):
        export_nanecho(dataclasses.replace(read_model_folder(folder.path)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert SIZES["n_layer"] == folder.config.n_layer


def test_an_export_has_what_nanechos_runtime_requires(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NanEcho/runtime.py of August 2026; the runtime itself is asked below, where NANECHO is set."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
    content = nanecho_checkpoint("cache", state_dict(vocab_size=50257), vocab_size=50257)
    folder = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", None, print)
    exported = torch.load(export_nanecho(folder, tmp_path / "cache"), weights_only=True)
    assert exported["tokenizer"] == content["tokenizer"]
    assert "config" not in exported, "it would be read instead of model_config"
    assert {"vocab_size", "n_embd", "n_head", "n_layer", "block_size", "bias"} <= exported["model_config"].keys()
    assert exported["model_state_dict"].keys() == content["model_state_dict"].keys()
    assert [type(exported[name]) for name in ("iteration", "current_iteration", "connection_ratio")] == [int, int, float]


def test_nanechos_trainer_and_runtime_continue_from_the_export_as_from_the_original(tmp_path: Path, shared: Path) -> None:
    if "NANECHO" not in os.environ:
        pytest.skip("NANECHO does not name a checkout of 9cog/echoself")
    script, figures = ROOT / "benchmarks/echoself_trainer.py", tmp_path / "figures.json"
    texts = sorted((ROOT / "tests/data/scenes").glob("*.md"))[:20]
    command = [sys.executable, script, "--echoself", os.environ["NANECHO"], "--json", figures, "--text", *texts]
    environment = os.environ | {"TIKTOKEN_CACHE_DIR": str(shared / "tiktoken")}
    subprocess.run(command, env=environment, check=True)
    differences = json.loads(figures.read_text())["figures"]["largest difference"]
    assert len(differences) == 4
    assert {name: of["most"] for name, of in differences.items() if of["most"] and "ours" not in name} == {}
    assert any(name.startswith("trainer: ") and " losses from iteration 20" in name for name in differences)
