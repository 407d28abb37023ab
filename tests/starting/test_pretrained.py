"""`init_from`: what is read and computed exactly, what is refused, and when a checkpoint is resumed instead."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from echoself_action.checkpoint.metadata import Metadata, read_metadata
from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.checkpoint.weights import load_model
from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.corpus.make_tokenizer import load_tokenizer, make_tokenizer
from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import read_checkpoint_file
from echoself_action.formats.transformers_config import read_pretrained_config
from echoself_action.formats.transformers_folder import cropped, read_folder
from echoself_action.hub.client import open_hub
from echoself_action.model.config import GPT2Config as GPT2Shape

from ..conftest import SCENES, Cli
from ..formats.foreign_files import nanogpt_checkpoint, save
from ..formats.hostile_pickles import CANARY, PICKLES

IDS = torch.randint(257, (3, 20), generator=torch.Generator().manual_seed(1))
TRAIN = "train --max-iters 6 --eval-interval 3 --batch-size 4 --device cpu --dtype float32 --keep-checkpoints 9"
CYCLE = TRAIN.replace("train", "cycle --hub hub --repo-id me/mine", 1)


def stock_model(**options: Any) -> GPT2LMHeadModel:
    """A random GPT-2 of transformers, with weights far from those of an initialisation."""
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 257, "eos_token_id": 256}
    model: Any = GPT2LMHeadModel(GPT2Config(**sizes | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    whole: GPT2LMHeadModel = model.eval()
    return whole


def with_tokenizer(folder: Path) -> Path:
    make_tokenizer("bytes", lambda: iter(())).save(folder)
    return folder


def logits_of(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(ids).logits
    return result


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def upload(folder: Path, repo_id: str = "them/tiny") -> str:
    with open_hub("hub", None) as hub:
        hub.api.create_repo(repo_id, exist_ok=True)
        return str(hub.api.upload_folder(repo_id=repo_id, folder_path=folder).oid)


def facts_of(outputs: dict[str, str]) -> Metadata:
    facts = read_metadata(Path(outputs["checkpoint"]))
    assert facts
    return facts


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A GPT-2 as save_pretrained writes it, with a tokenizer."""
    stock_model().save_pretrained(tmp_path / "tiny")
    return with_tokenizer(tmp_path / "tiny")


def test_a_model_on_the_hub_is_step_0_of_a_new_run(
    echoself: Cli, workspace: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = upload(tiny)
    outputs = echoself(TRAIN, "--hub hub --init-from them/tiny")
    start = read_model_folder(workspace / "echoself-model/checkpoint-0")
    with torch.no_grad():
        torch.testing.assert_close(load_model(start).eval()(IDS), logits_of(stock_model()), atol=1e-5, rtol=0)
    assert start.metadata
    assert (start.metadata.step, start.metadata.evaluations, start.has_training_state) == (0, [], False)
    trained = facts_of(outputs)
    assert (trained.run_id, trained.step) == (start.metadata.run_id, 6)
    assert trained.init_from
    assert (trained.init_from.source, trained.init_from.commit, trained.init_from.block_size) == ("them/tiny", commit, 32)
    assert trained.tokenizer.name == "bytes"
    output = capsys.readouterr().out
    line = f"start: them/tiny@{commit[:12]} (init_from), step 0 of a new run, because there is no checkpoint to resume from"
    assert [found for found in output.splitlines() if "start:" in found or "no checkpoint" in found] == [line]


def test_each_start_has_a_run_of_its_own(echoself: Cli, workspace: Path, tiny: Path) -> None:
    runs = {facts_of(echoself(TRAIN, f"--init-from {tiny} --output-dir {name}")).run_id for name in ("one", "two")}
    assert len(runs) == 2


def test_a_revision_selects_the_commit(echoself: Cli, workspace: Path, tiny: Path) -> None:
    first = upload(tiny)
    stock_model(n_layer=3).save_pretrained(tiny)
    upload(tiny)
    assert (
        read_model_folder(Path(echoself(TRAIN, f"--hub hub --init-from them/tiny@{first}")["checkpoint"])).config.n_layer == 2
    )


def sharded(folder: Path) -> None:
    stock_model().save_pretrained(folder, max_shard_size="15KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def pickled(folder: Path) -> None:
    model = stock_model()
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def pickled_shards(folder: Path) -> None:
    model = stock_model()
    model.config.save_pretrained(folder)
    state = model.state_dict()
    names = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(state)}
    for shard in sorted(set(names.values())):
        torch.save({name: tensor for name, tensor in state.items() if names[name] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def of_openai(folder: Path) -> None:
    """As openai-community/gpt2 has them: names without `transformer.`, and the masks."""
    model = stock_model()
    model.config.save_pretrained(folder)
    weights = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    for i in range(2):
        weights[f"h.{i}.attn.bias"] = torch.ones(32, 32).tril().view(1, 1, 32, 32)
        weights[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_an_equal_head(folder: Path) -> None:
    model = stock_model()
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"lm_head.weight": weights["transformer.wte.weight"].clone()}, folder / "model.safetensors")
    change_json(folder / "config.json", tie_word_embeddings=False)


def with_boolean_masks(folder: Path) -> None:
    stock_model().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32, dtype=torch.bool)}, folder / "model.safetensors")


def exact_gelu(folder: Path) -> None:
    stock_model(activation_function="gelu").save_pretrained(folder)


def in_16_bits(dtype: torch.dtype) -> Callable[[Path], None]:
    return lambda folder: stock_model().to(dtype).save_pretrained(folder)


@pytest.mark.parametrize(
    "save_as",
    [
        sharded,
        pickled,
        pickled_shards,
        of_openai,
        with_an_equal_head,
        with_boolean_masks,
        exact_gelu,
        in_16_bits(torch.float16),
        in_16_bits(torch.bfloat16),
    ],
)
def test_every_form_of_transformers_computes_the_same_logits(save_as: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_as(folder)
    source = read_folder(folder, read_pretrained_config(folder))
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(source.logits(IDS), logits_of(stock), atol=1e-5, rtol=0)
    assert list(source.weights) == [name for name in stock.state_dict() if name != "lm_head.weight"]


def test_weights_of_16_bits_are_converted_and_the_log_says_so(
    echoself: Cli, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock_model().half().save_pretrained(tmp_path / "half", max_shard_size="15KB")
    upload(with_tokenizer(tmp_path / "half"))
    outputs = echoself(TRAIN, "--hub hub --init-from them/tiny")
    remark = "its weights are stored in float16; they were converted to float32"
    assert remark in capsys.readouterr().out
    facts = facts_of(outputs)
    assert facts.init_from
    assert facts.init_from.remarks == [remark]


def test_a_shorter_block_size_keeps_the_first_positions(
    echoself: Cli, workspace: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_pretrained_config(tiny)
    short = cropped(read_folder(tiny, config), 20)
    torch.testing.assert_close(short.logits(IDS), logits_of(stock_model()), atol=1e-5, rtol=0)
    outputs = echoself(TRAIN, f"--init-from {tiny} --block-size 8")
    assert "its context was cropped from 32 to the first 8 positions" in capsys.readouterr().out
    assert read_model_folder(Path(outputs["checkpoint"])).config.block_size == 8
    again = echoself(TRAIN, f"--init-from {tiny} --block-size 8")  # is the model's own now
    assert int(again["step"]) > 6


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--block-size 64", "has embeddings of 32 positions, and block_size is 64: the others would be untrained"),
        (
            "--n-layer 3 --bias false",
            "has another shape: n_layer is 3, and the model has 2; bias is False, and the model has True",
        ),
        ("--tokenizer gpt2", "tokenizer: gpt2 is not the tokenizer of echoself-model/checkpoint-0, which is bytes"),
        ("--architecture nanecho --n-embd 16", "a pretrained GPT-2 can't start a NanEcho model"),
    ],
)
def test_inputs_that_contradict_the_model_are_refused(
    echoself: Cli, workspace: Path, tiny: Path, capsys: pytest.CaptureFixture[str], options: str, reason: str
) -> None:
    echoself(TRAIN, f"--init-from {tiny}", options, code=2)
    output = capsys.readouterr()
    assert reason in output.out + output.err
    assert not list(workspace.glob("echoself-model/checkpoint-[1-9]*"))


def test_its_own_sizes_and_tokenizer_may_be_given(echoself: Cli, workspace: Path, tiny: Path) -> None:
    outputs = echoself(TRAIN, f"--init-from {tiny} --tokenizer bytes --n-layer 2 --n-head 4 --block-size 32 --dropout 0.2")
    assert read_model_folder(Path(outputs["checkpoint"])).config.dropout == 0.2


def test_another_architecture_is_refused_before_its_weights_are_downloaded(
    echoself: Cli, workspace: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_json(tiny / "config.json", model_type="llama")
    upload(tiny)
    echoself(TRAIN, "--hub hub --init-from them/tiny", code=3)
    output = capsys.readouterr()
    assert "them/tiny at " in output.err
    assert "describes a model of another architecture: model_type='llama'" in output.err
    assert "use openai-community/gpt2, distilbert/distilgpt2" in output.err
    assert "downloading" not in output.out


def test_what_is_no_model_is_refused(echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "hub").mkdir()
    for given, code, reason in (
        ("me/nothing", 4, "there is no path me/nothing, and me/nothing on http"),
        ("nothing", 2, "'nothing' is neither an existing path nor a valid repo id"),
        ("docs", 3, "docs has no config.json"),
    ):
        echoself(TRAIN, f"--hub hub --init-from {given}", code=code)
        assert reason in capsys.readouterr().err


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_folder(folder, read_pretrained_config(folder))
    return caught.value.message


def test_a_head_of_its_own_is_refused_by_name(tiny: Path) -> None:
    weights = load_file(tiny / "model.safetensors")
    save_file(weights | {"lm_head.weight": weights["transformer.wte.weight"] + 1}, tiny / "model.safetensors")
    change_json(tiny / "config.json", tie_word_embeddings=False)
    assert "lm_head.weight that differs from its transformer.wte.weight" in refused(tiny)
    save_file(weights, tiny / "model.safetensors")
    assert "must have both lm_head.weight and transformer.wte.weight" in refused(tiny)


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    shard = tmp_path / names["transformer.ln_f.weight"]
    shard.rename(tmp_path / "elsewhere")
    assert f"are missing: {shard.name}" in refused(tmp_path)
    index.write_text(json.dumps({"weight_map": names | {"transformer.ln_f.weight": "../elsewhere"}}))
    assert "lists '../elsewhere', which is not the name of a shard" in refused(tmp_path)
    fewer = {name: file for name, file in names.items() if file != shard.name}
    index.write_text(json.dumps({"weight_map": fewer}))
    assert "contradicts config.json: transformer." in refused(tmp_path)
    index.write_text("[")
    assert "can't be read as an index of shards" in refused(tmp_path)


def test_code_in_pickled_weights_is_not_run(tiny: Path, workspace: Path) -> None:
    (tiny / "model.safetensors").unlink()
    with zipfile.ZipFile(tiny / "pytorch_model.bin", "w") as archive:
        archive.writestr("model/data.pkl", PICKLES["os.system"])
        archive.writestr("model/version", b"3\n")
        archive.writestr("model/data/0", bytes(8))
    assert "no code in it was run" in refused(tiny)
    assert not Path(CANARY).exists()


def test_vocab_and_merges_give_the_ids_of_transformers(tmp_path: Path) -> None:
    texts = [scene.read_text() for scene in SCENES]
    trained = make_tokenizer("bpe:600", lambda: iter(texts))
    trained.save(tmp_path / "whole")
    model = json.loads((tmp_path / "whole/tokenizer.json").read_text())["model"]
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in model["merges"]))
    (folder / "added_tokens.json").write_text(json.dumps({"<extra>": 600}))
    pieces = [text[start : start + 150] for text in texts for start in range(0, 4000, 150)] + [
        "",
        " ",
        "a\n\n  b\t",
        "ünï ℵ 🎉\x00",
    ]
    assert len(pieces) > 1000
    ours = load_tokenizer(folder)
    theirs = GPT2Tokenizer.from_pretrained(folder)
    expected = theirs(pieces)["input_ids"]
    assert [ids.tolist() for ids in ours.encode_batch(pieces)] == expected
    assert (ours.end_of_text_id, ours.vocab_size) == (theirs.eos_token_id, len(theirs))
    ours.save(tmp_path / "again")
    assert AutoTokenizer.from_pretrained(tmp_path / "again")(pieces)["input_ids"] == expected


def test_a_repo_with_vocab_and_merges_is_a_whole_start(echoself: Cli, workspace: Path, tiny: Path) -> None:
    model = json.loads((tiny / "tokenizer.json").read_text())["model"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tiny / name).unlink()
    (tiny / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tiny / "merges.txt").write_text("#version: 0.2\n")
    upload(tiny)
    assert echoself(TRAIN, "--hub hub --init-from them/tiny")["step"] == "6"


def test_an_invalid_vocabulary_is_refused(tiny: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    (tiny / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tiny / "merges.txt").write_text("#version: 0.2\na c\n")
    with pytest.raises(CheckpointError, match=r"vocab\.json is not a valid vocabulary of GPT-2"):
        load_tokenizer(tiny)


def test_a_pt_file_starts_at_step_0_without_its_optimizer_state(echoself: Cli, workspace: Path) -> None:
    save(nanogpt_checkpoint(vocab_size=257), Path("ckpt.pt"))
    with_tokenizer(workspace)
    outputs = echoself(TRAIN, "--init-from ckpt.pt --tokenizer bytes")
    start = read_model_folder(workspace / "echoself-model/checkpoint-0")
    assert start.metadata
    assert (start.metadata.best_val_loss, start.has_training_state) == (None, False)
    facts = facts_of(outputs)
    assert facts.init_from
    assert (facts.init_from.source, facts.init_from.commit) == ("ckpt.pt", None)


def test_a_folder_of_checkpoints_gives_its_best(echoself: Cli, workspace: Path, tiny: Path) -> None:
    first = echoself(TRAIN, f"--init-from {tiny} --output-dir one")
    facts = facts_of(echoself(TRAIN, "--init-from one --output-dir two"))
    assert facts.init_from
    assert facts.init_from.source == Path(first["model_dir"]).name
    assert facts.run_id != facts_of(first).run_id


def test_checkpoint_output_dir_and_the_hub_come_before_init_from(
    echoself: Cli, workspace: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without all of them, it comes before random weights."""
    origin = f"--init-from {tiny}"
    published = facts_of(echoself(CYCLE, origin, "--gate none"))
    other = echoself(TRAIN, "--tokenizer bytes --n-layer 1 --n-head 2 --n-embd 8 --block-size 16 --output-dir other")
    run_id = facts_of(other).run_id
    capsys.readouterr()
    for words, run in (
        ((TRAIN, f"--checkpoint {other['checkpoint']} --output-dir a"), run_id),
        ((TRAIN, "--output-dir other"), run_id),
        ((TRAIN, "--hub hub --repo-id me/mine --output-dir b"), published.run_id),
    ):
        assert facts_of(echoself(*words, origin)).run_id == run
        output = capsys.readouterr().out
        assert f"init_from: {tiny} is not used, because " in output
        assert "(init_from)" not in output
    fresh = facts_of(echoself(TRAIN, "--hub hub --repo-id me/new --output-dir c", origin))
    assert fresh.run_id not in (run_id, published.run_id)
    assert fresh.init_from


def test_the_next_night_resumes_the_training_state_with_the_rate_of_the_first(
    echoself: Cli, workspace: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(tiny)
    first = echoself(CYCLE, "--init-from them/tiny --gate none --output-dir one")
    second = echoself(CYCLE, "--init-from them/tiny --gate none --output-dir two")
    one, two = facts_of(first), facts_of(second)
    assert two.run_id == one.run_id
    assert two.step > one.step
    assert two.init_from == one.init_from
    assert two.settings["learning_rate"] == one.settings["learning_rate"] < 1e-3
    assert two.settings["optimizer"] == one.settings["optimizer"]
    output = capsys.readouterr().out
    assert "init_from: them/tiny is not used, because two/checkpoint-" in output
    assert f"is resumed, whose run started from {one.init_from}" in output
    with open_hub("hub", None) as hub:
        card = Path(hub.api.hf_hub_download("me/mine", "README.md")).read_text()
    assert "Started from" in card
    assert "them/tiny" in card


def test_a_models_own_optimizer_is_kept_and_adamw_is_for_those_of_other_programs(
    echoself: Cli, workspace: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GPT-2 was trained with AdamW; the rates are lower than those of random weights."""
    foreign = facts_of(echoself(TRAIN, f"--init-from {tiny} --output-dir one")).settings
    assert "dropout: 0 instead of its 0.1, for speed; set dropout to change that" in capsys.readouterr().out
    sizes = "--tokenizer bytes --n-layer 1 --n-head 2 --n-embd 64 --block-size 16"
    fresh = facts_of(own := echoself(TRAIN, sizes, "--output-dir two")).settings
    continued = facts_of(echoself(TRAIN, f"--init-from {own['model_dir']} --output-dir three")).settings
    assert (foreign["optimizer"], fresh["optimizer"], continued["optimizer"]) == ("adamw", "muon", "muon")
    assert foreign["learning_rate"] < continued["learning_rate"] < fresh["learning_rate"]


@pytest.mark.parametrize(("block_size", "sequences"), [(1024, 2), (256, 8), (4096, 1)])
def test_a_step_of_fine_tuning_is_short_on_a_cpu(block_size: int, sequences: int) -> None:
    gpt2 = GPT2Shape(50257, block_size, 12, 12, 768)
    auto, ci = TrainInputs(mode="train"), TrainInputs(mode="train", preset="ci")
    settings = auto.training_settings("adamw", gpt2, fine_tunes=True)
    assert (settings.batch_size, settings.warmup, settings.learning_rate) == (sequences, 10, 9.8e-5)
    assert ci.training_settings("adamw", gpt2, fine_tunes=True).batch_size == 8


def test_resume_never_starts_over_from_init_from(echoself: Cli, workspace: Path, tiny: Path) -> None:
    first = facts_of(echoself(TRAIN, f"--init-from {tiny}"))
    again = facts_of(echoself(TRAIN, f"--init-from {tiny} --resume never --confirm-fresh-start true"))
    assert again.run_id != first.run_id
    assert again.step == first.step


@pytest.mark.parametrize("name", ["b02_sharded", "b03_vocabmerges"])
def test_recorded_folders_compute_the_recorded_logits(shared: Path, name: str) -> None:
    folder = shared / "cases/checkpoints" / name
    recorded = np.load(folder / "reference.npz")
    source = read_folder(folder, read_pretrained_config(folder))
    found = source.logits(torch.from_numpy(recorded["ids"]))
    torch.testing.assert_close(found, torch.from_numpy(recorded["logits"]), atol=2e-5, rtol=0)


def test_a_recorded_state_dict_computes_the_logits_with_the_activation_of_its_config(shared: Path) -> None:
    folder = shared / "cases/checkpoints/a04_build_nanogpt_sd"
    recorded = np.load(folder / "reference.npz")
    found = read_checkpoint_file(folder / "model.pt", print).logits(torch.from_numpy(recorded["ids"]))
    torch.testing.assert_close(found, torch.from_numpy(recorded["logits"]), atol=2e-5, rtol=0)
