"""nanoGPT checkpoints imported and exported. The fixtures have the original's logits."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.checkpoint.weights import load_model, write_model
from echoself_action.corpus.make_tokenizer import load_tokenizer, make_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.errors import CheckpointError
from echoself_action.formats.gpt2_tensors import transposed
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.nanogpt_export import EARLY, export, export_nanogpt
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.training.init_or_resume import resume_run
from echoself_action.training.run import Data

from ..conftest import training_settings
from .foreign_files import nanogpt_checkpoint, save

FIXTURES = ("bias_true", "compiled_orig_mod")


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


@pytest.mark.parametrize("name", FIXTURES)
def test_transformers_computes_the_logits_of_the_original(shared: Path, tmp_path: Path, name: str) -> None:
    fixture = shared / "fixtures/nanogpt" / name
    folder = import_checkpoint(fixture / "ckpt.pt", tmp_path, None, print)
    ids = torch.from_numpy(np.load(fixture / "input_ids.npy"))
    expected = torch.from_numpy(np.load(fixture / "logits_original.npy"))
    stock: Any = AutoModelForCausalLM.from_pretrained(folder.path)
    with torch.no_grad():
        torch.testing.assert_close(stock.eval()(ids).logits, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(load_model(folder).eval()(ids), expected, atol=1e-5, rtol=0)


def test_metadata_records_the_progress_of_the_run_and_parity(shared: Path, tmp_path: Path) -> None:
    source = shared / "fixtures/nanogpt/bias_true/ckpt.pt"
    facts = import_checkpoint(source, tmp_path, None, print).metadata
    assert facts
    assert facts.imported_from
    assert facts.step == 40
    assert facts.imported_from.val_loss == load(source)["best_val_loss"].item()
    assert (facts.val_loss, facts.best_val_loss) == (None, None)  # on the text of this job, nobody has measured it yet
    assert facts.parity
    assert facts.parity.max_abs_diff <= 1e-5
    assert (facts.parity.argmax_agreement, facts.parity.positions, facts.parity.tensors) == (1, 4 * 64, 28)


def test_the_same_file_is_imported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(nanogpt_checkpoint(), tmp_path / "ckpt.pt")
    first = import_checkpoint(path, tmp_path / "out", None, print)
    written = (first.path / "model.safetensors").stat().st_mtime_ns
    assert import_checkpoint(path, tmp_path / "out", None, print).path == first.path
    assert "already imported" in capsys.readouterr().out
    assert (first.path / "model.safetensors").stat().st_mtime_ns == written


def test_another_file_of_the_same_step_sets_the_first_aside(tmp_path: Path) -> None:
    import_checkpoint(save(nanogpt_checkpoint(seed=1), tmp_path / "1.pt"), tmp_path / "out", None, print)
    import_checkpoint(save(nanogpt_checkpoint(seed=2), tmp_path / "2.pt"), tmp_path / "out", None, print)
    assert len(list((tmp_path / "out").rglob("model.safetensors"))) == 2


def meta(path: Path, characters: str) -> Path:
    ids = {one: i for i, one in enumerate(characters)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"vocab_size": len(ids), "itos": dict(enumerate(characters)), "stoi": ids}))
    return path


@pytest.mark.parametrize("place", ["run/meta.pkl", "data/letters/meta.pkl"])
def test_a_character_vocabulary_is_found_where_nanogpt_stores_it(tmp_path: Path, place: str) -> None:
    characters = "\n !abcdefghijklmnopqrstuvwxyzéß€"
    meta(tmp_path / place, characters)
    content = nanogpt_checkpoint(vocab_size=len(characters), dataset="letters")
    folder = import_checkpoint(save(content, tmp_path / "run/ckpt.pt"), tmp_path / "out", None, print)
    assert folder.config.vocab_size == len(characters)  # no row was added
    ids = [characters.index(one) for one in "où"[:1] + "né !\nß€"]
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    assert tokenizer("oné !\nß€")["input_ids"] == ids == list(load_tokenizer(folder.path).encode_batch(["oné !\nß€"])[0])
    assert tokenizer.decode(ids) == load_tokenizer(folder.path).decode(ids) == "oné !\nß€"
    assert tokenizer.eos_token is None
    stock: Any = AutoModelForCausalLM.from_pretrained(folder.path)
    assert stock.generate(torch.tensor([ids]), max_new_tokens=4, do_sample=False).shape == (1, len(ids) + 4)


def test_training_resumes_with_the_moments_and_schedule_of_the_file(tmp_path: Path) -> None:
    characters = "\n" + "".join(map(chr, range(32, 127)))
    content = nanogpt_checkpoint(vocab_size=len(characters))
    path = save(content, tmp_path / "ckpt.pt")
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Sentence {i} says that {i * i} is a square.\n\n" for i in range(2000)))
    spec = str(meta(tmp_path / "given.pkl", characters))
    folder = import_checkpoint(path, tmp_path / "out", spec, print)
    tokens = prepare_tokens([text], load_tokenizer(folder.path), tmp_path / "tokens", 0.1, "fail", print)
    run = resume_run(folder, Data(tokens, ["text.txt"]), training_settings(optimizer="adamw"), print)
    assert (run.step, run.schedule.end, run.schedule.peak) == (7, 100, 1e-3)
    parameters = dict(run.model.named_parameters())
    matrix = parameters["transformer.h.0.mlp.c_fc.weight"]
    position = 4  # wte, wpe, c_attn, c_proj, c_fc
    assert torch.equal(run.optimizer.state_of(matrix)["exp_avg"].t(), content["optimizer"]["state"][position]["exp_avg"])
    assert run.optimizer.state_of(matrix)["step"] == 7


def test_padding_rows_of_the_vocabulary_are_kept_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = nanogpt_checkpoint(vocab_size=320)
    folder = import_checkpoint(save(content, tmp_path / "ckpt.pt"), tmp_path / "out", "bytes", print)
    assert folder.config.vocab_size == 320
    assert "The 63 padding rows are kept" in capsys.readouterr().out
    assert load_tokenizer(folder.path).digest == make_tokenizer("bytes", lambda: iter(())).digest


def test_gpt2s_vocabulary_is_detected_by_its_size(shared: Path, tmp_path: Path) -> None:
    content = nanogpt_checkpoint(vocab_size=50304, n_embd=8)
    folder = import_checkpoint(save(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    assert AutoTokenizer.from_pretrained(folder.path)("Hello world")["input_ids"] == [15496, 995]
    assert '"eos_token_id": 50256' in (folder.path / "config.json").read_text()


def test_an_unknown_vocabulary_becomes_plain_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = import_checkpoint(save(nanogpt_checkpoint(), tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    assert "the meaning of its 64 token ids is unknown" in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    assert tokenizer("0 63 5")["input_ids"] == [0, 63, 5]
    assert tokenizer.decode([0, 63, 5]) == "0 63 5"


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 64 token ids, but the tokenizer bytes has 257"):
        import_checkpoint(save(nanogpt_checkpoint(), tmp_path / "ckpt.pt"), tmp_path / "out", "bytes", print)
    assert not (tmp_path / "out").exists()


def test_half_precision_is_converted_to_fp32_exactly(tmp_path: Path) -> None:
    content = nanogpt_checkpoint()
    content["model"] = {name: tensor.to(torch.bfloat16) for name, tensor in content["model"].items()}
    folder = import_checkpoint(save(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    state = load_model(folder).state_dict()
    back = transposed(state)
    assert all(torch.equal(back[name], content["model"][name].float()) for name in state)


def test_a_model_that_nanogpt_can_not_compute_exactly_is_not_exported(tmp_path: Path) -> None:
    folder = import_checkpoint(save(nanogpt_checkpoint(), tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    config: GPT2Config = replace(folder.config, layer_norm_epsilon=1e-6)
    write_model(folder.path, config, load_model(folder).state_dict(), None)
    with pytest.raises(CheckpointError, match="its layer norm epsilon is 1e-06"):
        export_nanogpt(read_model_folder(folder.path), tmp_path / "back.pt")
    assert not (tmp_path / "back.pt").exists()


@pytest.mark.parametrize("bias", [True, False])
def test_a_model_without_training_state_is_exported_with_a_new_optimizer(tmp_path: Path, bias: bool) -> None:
    content = nanogpt_checkpoint(bias=bias)
    content["optimizer"]["state"] = {}
    folder = import_checkpoint(save(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    assert not folder.has_training_state
    export_nanogpt(folder, tmp_path / "back.pt")
    optimizer = load(tmp_path / "back.pt")["optimizer"]
    model = GPT2(folder.config)
    groups = [[p for p in model.parameters() if p.dim() > 1], [p for p in model.parameters() if p.dim() == 1]]
    torch.optim.AdamW([{"params": group} for group in groups]).load_state_dict(optimizer)


def test_a_model_with_the_tanh_form_of_gelu_is_exported_for_early_nanogpt(tmp_path: Path) -> None:
    content = nanogpt_checkpoint()
    folder = import_checkpoint(save(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    write_model(folder.path, replace(folder.config, activation="gelu_new"), load_model(folder).state_dict(), None)
    (folder.path / "training_state").rename(tmp_path / "training_state")  # of other weights
    exported = export(read_model_folder(folder.path), tmp_path / "pulled")
    assert EARLY in exported.command
    assert "nanoGPT computed before June 2023" in "".join(exported.notes)
    groups = load(exported.path)["optimizer"]["param_groups"]
    assert [len(group["params"]) for group in groups] == [8, 20]
    back = import_checkpoint(exported.path, tmp_path / "back", None, print)
    assert isinstance(back.config, GPT2Config)
    assert back.config.activation == "gelu_new"
    assert back.metadata
    assert back.metadata.assumptions == ()  # the export states it
