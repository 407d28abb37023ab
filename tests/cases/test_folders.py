"""Folders of transformers as checkpoints: imported exactly through every mode, or refused with the cause."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertTokenizer

from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.corpus.make_tokenizer import load_tokenizer
from echoself_action.hub.client import open_hub

from ..conftest import Cli
from .reference import assert_exact, assert_reference, some_ids
from .transformers_folders import BLOCK, BYTES, HEADS, VOCABULARY, WIDTH, Change, Folder, Weights

OUT = "echoself-model"
TRAIN = "--max-iters 2 --eval-interval 2 --batch-size 4 --device cpu --dtype float32 --decay 0"
TAKEN = {  # case -> its step
    "b02_sharded": 0,
    "b03_vocabmerges": 0,
    "b15_bert": 0,
    "b20_results/checkpoint-500": 500,
    "b20_results/checkpoint-2000": 2000,
}
REFUSED = {  # case -> what the message says
    "b01b_trainer_notok/checkpoint-500": (
        "has no tokenizer: no tokenizer.json, no vocab.json and merges.txt, no vocab.txt",
        "or set tokenizer to",
    ),
    "b05b_tok_larger": ("has a tokenizer with 260 ids, and its model has embeddings of 257, not of '<pad><user><bot>'",),
    "b20_results": ("has no config.json", "It contains checkpoints. Give one of them, for example", "checkpoint-2000"),
    "b21_head_apart": ("has an lm_head.weight that differs from its transformer.wte.weight", "output head of its own"),
}
MODES = {
    "pull": "pull",
    "deploy": "deploy --hub hub --repo-id me/m --dry-run",
    "train": f"train {TRAIN}",
    "cycle": f"cycle {TRAIN} --hub hub --repo-id me/m",
}


def sets(name: str, value: Callable[[Weights], Any]) -> Change:
    def change(weights: Weights) -> None:
        weights[name] = value(weights)

    return change


def drops(name: str) -> Change:
    def change(weights: Weights) -> None:
        del weights[name]

    return change


def with_masks(weights: Weights) -> None:
    """The causal mask, as versions before 4.30 store it."""
    for i in range(2):
        weights[f"h.{i}.attn.bias"] = torch.ones(1, 1, BLOCK, BLOCK).tril().bool()
        weights[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)


def with_head_alone(weights: Weights) -> None:
    weights["lm_head.weight"] = weights["wte.weight"]


OLDER_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
VOCAB: dict[str, int] = json.loads(BYTES)["model"]["vocab"]
STATE = {"global_step": 1234, "epoch": 2.0, "best_metric": 1.5, "log_history": [{"loss": 3.0, "step": 500}]}

# Each with the step, and what the log says of it.
BUILT: dict[str, tuple[Folder, int, tuple[str, ...]]] = {
    "float16": (Folder(dtype="float16"), 0, ("its weights are stored in float16; they were converted to float32",)),
    "bfloat16_shards": (Folder(dtype="bfloat16", form="shards"), 0, ("its weights are stored in bfloat16",)),
    "float64": (Folder(dtype="float64"), 0, ("its weights are stored in float64",)),
    "pickle": (Folder(form="pickle"), 0, ()),
    "float16_pickle": (Folder(form="pickle", dtype="float16"), 0, ("its weights are stored in float16",)),
    "pickled_shards": (Folder(form="pickled shards"), 0, ()),
    "bfloat16_pickled_shards": (Folder(form="pickled shards", dtype="bfloat16"), 0, ("its weights are stored in bfloat16",)),
    "gpt2_model_with_masks": (Folder({"architectures": ["GPT2Model"]}, with_masks, prefix=""), 0, ()),
    "compiled": (Folder(prefix="_orig_mod.transformer."), 0, ()),
    "compiled_pickle": (Folder(form="pickle", prefix="module._orig_mod.transformer."), 0, ()),
    "head_equal": (Folder(change=with_head_alone), 0, ()),
    "head_equal_and_untied": (Folder({"tie_word_embeddings": False}, with_head_alone), 0, ()),
    "epsilon": (Folder({"layer_norm_epsilon": 1e-3}, reference={"epsilon": 1e-3}), 0, ()),
    "exact_gelu": (Folder({"activation_function": "gelu"}, reference={"activation": "gelu"}), 0, ()),
    "no_activation": (Folder({"activation_function": None}), 0, ()),
    "gelu_pytorch_tanh": (
        Folder({"activation_function": "gelu_pytorch_tanh"}),
        0,
        ("its activation_function gelu_pytorch_tanh is computed as gelu_new, which is the same formula",),
    ),
    "gelu_fast": (Folder({"activation_function": "gelu_fast"}), 0, ("gelu_fast is computed as gelu_new",)),
    "gelu_python": (
        Folder({"activation_function": "gelu_python"}, reference={"activation": "gelu"}),
        0,
        ("gelu_python is computed as gelu",),
    ),
    "n_inner": (Folder({"n_inner": 4 * WIDTH}), 0, ()),
    "reorder_and_upcast": (Folder({"reorder_and_upcast_attn": True}), 0, ("reorder_and_upcast_attn is not kept",)),
    "other_names_of_sizes": (
        Folder({"n_embd": None, "hidden_size": WIDTH, "n_head": None, "num_attention_heads": HEADS}),
        0,
        (),
    ),
    "default_heads": (
        Folder({"n_head": None}, reference={"n_head": 12}),
        0,
        ("its config.json lacks sizes, for which transformers assumes n_head=12",),
    ),
    "without_model_type": (Folder({"model_type": None}), 0, ()),
    "bias_false_with_biases": (Folder({"bias": False}), 0, ()),
    "dropout_rates": (Folder({"attn_pdrop": 0.3}), 0, ("its dropout rates differ (resid_pdrop=0.1", "that of resid_pdrop")),
    "padded_embedding": (
        Folder({"vocab_size": 320}, sizes={"vocab_size": 320}),
        0,
        ("the token embedding is padded: it has 320 rows for 257 tokens",),
    ),
    "one_layer_one_head": (
        Folder({"n_layer": 1, "n_head": 1}, sizes={"layers": 1}, reference={"n_head": 1}),
        0,
        (),
    ),
    "trainer": (
        Folder(files={"trainer_state.json": STATE, "optimizer.pt": "x", "scheduler.pt": "x", "training_args.bin": "x"}),
        1234,
        ("optimizer state not imported: optimizer.pt of transformers' Trainer does not name the parameters",),
    ),
    "trainer_in_shards": (Folder(form="shards", files={"trainer_state.json": STATE}), 1234, ()),
    "trainer_with_a_damaged_state": (
        Folder(files={"trainer_state.json": '{"global_step": 12'}),
        0,
        ("its trainer_state.json has no valid global_step, so its steps count from 0",),
    ),
    "trainer_at_an_impossible_step": (
        Folder(files={"trainer_state.json": {"global_step": -5}}),
        0,
        ("its trainer_state.json has no valid global_step",),
    ),
    "results_of_the_trainer": (Folder(files={"checkpoint-500/config.json": {}, "all_results.json": {}}), 0, ()),
    "vocab_merges": (
        Folder(files={"vocab.json": VOCAB, "merges.txt": "#version: 0.2\n"}, without=OLDER_TOKENIZER),
        0,
        ("its vocabulary is in", "vocab.json and merges.txt"),
    ),
    "vocab_merges_with_special_tokens_map": (
        Folder(
            {"bos_token_id": None, "eos_token_id": None},
            files={
                "vocab.json": {token if i < 256 else "</s>": i for token, i in VOCAB.items()},
                "merges.txt": "#version: 0.2\n",
                "special_tokens_map.json": {"eos_token": {"content": "</s>", "normalized": True}},
            },
            without=OLDER_TOKENIZER,
        ),
        0,
        (),
    ),
    "vocab_merges_with_added_tokens": (
        Folder(
            files={
                "vocab.json": {token: i for token, i in VOCAB.items() if i < 256},
                "merges.txt": "#version: 0.2\n",
                "added_tokens.json": {"<|endoftext|>": 256},
            },
            without=OLDER_TOKENIZER,
        ),
        0,
        (),
    ),
    "end_in_special_tokens_map": (
        Folder(
            files={
                "tokenizer.json": BYTES.replace("<|endoftext|>", "</s>"),
                "tokenizer_config.json": {},
                "special_tokens_map.json": {"eos_token": "</s>"},
            }
        ),
        0,
        (),
    ),
    "end_in_generation_config": (
        Folder(
            {"eos_token_id": 50256},
            files={
                "tokenizer.json": BYTES.replace("<|endoftext|>", "[END]"),
                "tokenizer_config.json": {"eos_token": "</s>"},
                "generation_config.json": {"eos_token_id": [50256, 256]},
            },
        ),
        0,
        ("end of text: '[END]', the eos_token_id of its generation_config.json; '</s>' is not in its vocabulary",),
    ),
    "end_is_the_separator": (
        Folder(
            {"eos_token_id": None},
            files={
                "tokenizer.json": BYTES.replace("<|endoftext|>", "[SEP]"),
                "tokenizer_config.json": {"sep_token": "[SEP]"},
            },
        ),
        0,
        ("end of text: '[SEP]', the sep_token of its tokenizer",),
    ),
    "settings_of_generation": (
        Folder(files={"generation_config.json": {"eos_token_id": 256, "temperature": 0.7, "top_p": 0.9}}),
        0,
        ("not kept of its generation_config.json: temperature, top_p",),
    ),
    "tokens_added_beside_the_tokenizer": (
        Folder(
            {"vocab_size": 260},
            sizes={"vocab_size": 260},
            files={
                "tokenizer_config.json": {
                    "eos_token": "<|endoftext|>",
                    "added_tokens_decoder": {"256": {"content": "<|endoftext|>"}, "257": {"content": "<|user|>"}},
                }
            },
        ),
        0,
        ("not kept: '<|user|>', which tokenizer_config.json adds and tokenizer.json does not have",),
    ),
    "chat_template": (
        Folder(files={"tokenizer_config.json": {"eos_token": "<|endoftext|>", "chat_template": "{{ x }}"}}),
        0,
        ("not kept of its tokenizer_config.json: chat_template",),
    ),
}
WITH_PAD = json.loads(BYTES)
WITH_PAD["added_tokens"].append(WITH_PAD["added_tokens"][0] | {"id": 257, "content": "<pad>"})

# Each with what the message says, its hint included.
NOT_BUILT: dict[str, tuple[Folder, tuple[str, ...]]] = {
    "scaled_by_layer": (
        Folder({"scale_attn_by_inverse_layer_idx": True}),
        ("can't compute exactly: scale_attn_by_inverse_layer_idx=True",),
    ),
    "unscaled": (Folder({"scale_attn_weights": False}), ("can't compute exactly: scale_attn_weights=False",)),
    "cross_attention": (Folder({"add_cross_attention": True}), ("can't compute exactly: add_cross_attention=True",)),
    **{
        f"activation_{name}": (
            Folder({"activation_function": name}),
            (f"can't compute exactly: activation_function='{name}'",),
        )
        for name in ("relu", "silu", "swish", "quick_gelu", "tanh")
    },
    "n_inner": (Folder({"n_inner": 48}, sizes={"inner": 48}), ("can't compute exactly: n_inner=48",)),
    "quantized": (
        Folder({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, dtype="int8"),
        ("describes quantized weights", "bitsandbytes", "the model that it was quantized from"),
    ),
    "int8": (Folder(dtype="int8"), ("of type I8, which is not a floating-point type: it may be quantized",)),
    "code_of_its_own": (
        Folder({"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}),
        ("computed by code of its own", "modeling_mine.Mine", "was not run"),
    ),
    "classifier": (
        Folder({"architectures": ["GPT2ForSequenceClassification"]}, sets("score.weight", lambda _: torch.ones(2, WIDTH))),
        ("not a plain language model: architectures='GPT2ForSequenceClassification'",),
    ),
    **{
        f"model_type_{name}": (Folder({"model_type": name}), (f"another architecture: model_type='{name}'",))
        for name in ("llama", "gpt_neo", "opt")
    },
    "missing_tensor": (
        Folder(change=drops("h.1.mlp.c_fc.weight")),
        ("contradicts config.json: transformer.h.1.mlp.c_fc.weight is missing",),
    ),
    "extra_tensor": (
        Folder(change=sets("h.0.attn.q_norm.weight", lambda _: torch.ones(12))),
        ("transformer.h.0.attn.q_norm.weight is not a tensor of this model",),
    ),
    "cross_attention_tensors": (
        Folder(change=sets("h.0.crossattention.c_attn.weight", lambda _: torch.ones(WIDTH, 2 * WIDTH))),
        ("transformer.h.0.crossattention.c_attn.weight is not a tensor of this model",),
    ),
    "transposed": (
        Folder(change=sets("h.0.attn.c_attn.weight", lambda weights: weights["h.0.attn.c_attn.weight"].T)),
        ("transformer.h.0.attn.c_attn.weight has the shape (72, 24), expected (24, 72)",),
    ),
    "more_layers": (Folder({"n_layer": 3}), ("transformer.h.2.ln_1.weight is missing",)),
    "larger_vocabulary_in_config": (Folder({"vocab_size": 300}), ("has the shape (257, 24), expected (300, 24)",)),
    "nan": (
        Folder(change=sets("ln_f.bias", lambda _: torch.full((WIDTH,), float("nan")))),
        ("transformer.ln_f.bias contains NaN",),
    ),
    "head_apart": (
        Folder(change=sets("lm_head.weight", lambda weights: weights["wte.weight"] + 0.1)),
        ("lm_head.weight that differs from its transformer.wte.weight", "output head of its own"),
    ),
    "head_apart_bfloat16": (
        Folder(change=sets("lm_head.weight", lambda weights: weights["wte.weight"].flip(0)), dtype="bfloat16"),
        ("lm_head.weight that differs from its transformer.wte.weight",),
    ),
    "head_apart_in_shards": (
        Folder({"tie_word_embeddings": False}, sets("lm_head.weight", lambda weights: -weights["wte.weight"]), form="shards"),
        ("lm_head.weight that differs from its transformer.wte.weight",),
    ),
    "untied_without_head": (
        Folder({"tie_word_embeddings": False}),
        ("must have both lm_head.weight and transformer.wte.weight",),
    ),
    "adapter": (
        Folder(
            files={
                "adapter_config.json": {"peft_type": "LORA", "base_model_name_or_path": "openai-community/gpt2"},
                **dict.fromkeys(("adapter_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"), "x"),
            },
            without=("config.json", "model.safetensors"),
        ),
        ("has an adapter of PEFT", "'LORA'", "'openai-community/gpt2'", "merge_and_unload()"),
    ),
    "adapter_beside_a_model": (
        Folder(files={"adapter_config.json": {"peft_type": "LORA"}}),
        ("has an adapter of PEFT", "merge_and_unload()"),
    ),
    "shard_missing": (
        Folder(form="shards", without=("model-00002-of-00003.safetensors",)),
        ("lists 3 shards, of which some are missing: model-00002-of-00003.safetensors", "Copy them too."),
    ),
    "index_missing": (
        Folder(form="shards", without=("model.safetensors.index.json",)),
        ("but model-*-of-*.safetensors", "Copy model.safetensors.index.json too"),
    ),
    "index_leads_out": (
        Folder(
            files={"model.safetensors.index.json": {"weight_map": {"a": "../x.safetensors"}}}, without=("model.safetensors",)
        ),
        ("lists '../x.safetensors', which is not the name of a shard",),
    ),
    "tensorflow": (
        Folder(files={"tf_model.h5": "x"}, without=("model.safetensors",)),
        ("but tf_model.h5", "from_tf=True"),
    ),
    "gguf": (Folder(files={"gpt2.Q4_K_M.gguf": "x"}, without=("model.safetensors",)), ("but *.gguf",)),
    "deepspeed": (
        Folder(
            files={"global_step500/mp_rank_00_model_states.pt": "x", "rng_state_0.pth": "x", "trainer_state.json": STATE},
            without=("model.safetensors",),
        ),
        ("but global_step*", "zero_to_fp32.py"),
    ),
    "fsdp": (
        Folder(
            files={"pytorch_model_fsdp_0/__0_0.distcp": "x", "scheduler.pt": "x", "trainer_state.json": STATE},
            without=("model.safetensors",),
        ),
        ("but pytorch_model_fsdp_*", "accelerate merge-weights"),
    ),
    "no_tokenizer": (Folder(without=OLDER_TOKENIZER), ("has no tokenizer", "or set tokenizer to gpt2")),
    "sentencepiece_only": (
        Folder(files={"tokenizer.model": "x"}, without=OLDER_TOKENIZER),
        ("has no tokenizer", "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"),
    ),
    "vocab_without_merges": (
        Folder(files={"vocab.json": VOCAB}, without=OLDER_TOKENIZER),
        ("has no tokenizer", "Copy its merges.txt too"),
    ),
    "larger_tokenizer": (
        Folder(files={"tokenizer.json": WITH_PAD}),
        ("tokenizer with 258 ids, and its model has embeddings of 257, not of '<pad>'", "resize_token_embeddings"),
    ),
    "added_tokens_beyond_the_model": (
        Folder(
            files={"vocab.json": VOCAB, "merges.txt": "#version: 0.2\n", "added_tokens.json": {"<|user|>": 257}},
            without=OLDER_TOKENIZER,
        ),
        ("tokenizer with 258 ids", "not of '<|user|>'"),
    ),
    "tokens_added_beyond_the_model": (
        Folder(files={"tokenizer_config.json": {"added_tokens_decoder": {"257": {"content": "<|user|>"}}}}),
        ("tokenizer_config.json has token ids up to 257, and config.json says vocab_size=257",),
    ),
    "no_end_token": (
        Folder(
            {"eos_token_id": None},
            files={"tokenizer.json": BYTES.replace("<|endoftext|>", "[X]"), "tokenizer_config.json": {}},
        ),
        ("has no end-of-text token ('<|endoftext|>' is not in its vocabulary)", "eos_token in tokenizer_config.json"),
    ),
    "damaged_tokenizer": (Folder(files={"tokenizer.json": BYTES[:500]}), ("is not a valid tokenizer.json",)),
    "contradicting_sizes": (
        Folder({"hidden_size": 768}),
        ("contradicts itself: n_embd=24 and hidden_size=768",),
    ),
    "no_config": (Folder(without=("config.json",)), ("has no config.json", "as save_pretrained writes them")),
    "damaged_config": (Folder(files={"config.json": '{"model_type": "gpt2"'}), ("config.json is not valid JSON",)),
    "hostile_sizes": (Folder({"n_layer": 10**9}), ("a size below 1 or above",)),
    "many_layers": (Folder({"n_layer": 10**7}), ("describes a model of 10,000,000 or more",)),
}


def reference_of(cases: Path, case: str) -> Path:
    folder = cases / "checkpoints" / case
    return folder if (folder / "reference.npz").is_file() else folder.parent


@pytest.mark.parametrize("case", TAKEN)
def test_the_folder_is_taken_exactly(echoself: Cli, cases: Path, case: str) -> None:
    folder = cases / "checkpoints" / case
    outputs = echoself("pull", f"--checkpoint {folder}")
    imported = Path(outputs["model_dir"])
    assert int(outputs["step"]) == TAKEN[case]
    if (reference_of(cases, case) / "reference.npz").is_file():
        assert_reference(imported, reference_of(cases, case))
    facts = read_metadata(imported)
    assert facts
    assert facts.parity
    assert facts.parity.argmax_agreement == 1.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", REFUSED)
def test_the_folder_is_refused_in_every_mode(
    echoself: Cli, workspace: Path, cases: Path, case: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(MODES[mode], f"--checkpoint {cases / 'checkpoints' / case}", code=3)
    said = capsys.readouterr().err
    assert all(part in said for part in REFUSED[case]), said
    assert not list(Path().glob(f"{OUT}/checkpoint-*"))


def test_a_given_tokenizer_completes_a_folder_without_one(echoself: Cli, cases: Path) -> None:
    case = cases / "checkpoints/b01b_trainer_notok"
    outputs = echoself("pull --tokenizer bytes", f"--checkpoint {case / 'checkpoint-500'}")
    assert outputs["step"] == "500"
    assert_reference(Path(outputs["model_dir"]), case)


def test_an_end_token_is_what_the_config_names(echoself: Cli, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = echoself("pull", f"--checkpoint {cases / 'checkpoints/b15_bert'}")
    assert "end of text: '[PAD]', the eos_token_id of its config.json; '<|endoftext|>' is not in" in capsys.readouterr().out
    tokenizer = load_tokenizer(Path(outputs["model_dir"]))
    assert (tokenizer.end_of_text, tokenizer.end_of_text_id) == ("[PAD]", 0)


@pytest.fixture
def results(cases: Path, workspace: Path) -> Path:
    """The output_dir of transformers' Trainer, which is that of this program, too."""
    shutil.copytree(cases / "checkpoints/b20_results", workspace / "results")
    for path in (workspace / "results", *(workspace / "results").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Path("results")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_checkpoints_of_the_trainer_in_output_dir_are_left_alone(
    echoself: Cli, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = files_of(results)
    train = f"train {TRAIN} --output-dir results --n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --tokenizer bytes"
    steps = [int(echoself(train, "--keep-checkpoints 1")["step"]) for _ in range(3)]
    assert steps == [2, 4, 6]
    assert files_of(results).items() >= theirs.items()
    output = capsys.readouterr().out
    assert "results/checkpoint-2000 and 3 more in results were not written by this program and are not used." in output
    assert "To resume from it, set checkpoint: results/checkpoint-2000" in output


def test_a_checkpoint_of_the_trainer_is_resumed_at_its_step_and_stays(echoself: Cli, results: Path) -> None:
    theirs = files_of(results)
    outputs = echoself(f"train {TRAIN} --output-dir results --checkpoint results/checkpoint-500")
    assert outputs["step"] == "502"
    assert Path("results/checkpoint-500-2/training_metadata.json").is_file()
    assert echoself(f"train {TRAIN} --output-dir results")["step"] == "504"  # the next run resumes ours
    assert files_of(results).items() >= theirs.items()


def test_a_step_that_the_trainer_has_taken_gets_another_name(echoself: Cli, results: Path) -> None:
    theirs = files_of(results)
    (results / "checkpoint-500").rename(results / "checkpoint-2")
    theirs = files_of(results)
    train = f"train {TRAIN} --output-dir results --n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --tokenizer bytes"
    assert [int(echoself(train)["step"]) for _ in range(2)] == [2, 4]
    assert Path("results/checkpoint-2-2/training_metadata.json").is_file()
    assert files_of(results).items() >= theirs.items()


def test_deploy_does_not_publish_them_unasked(echoself: Cli, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy = "deploy --hub hub --repo-id me/m --dry-run --output-dir results"
    echoself(deploy, code=3)
    assert "set checkpoint to the path of a model folder, such as results/checkpoint-2000" in capsys.readouterr().err
    assert echoself(deploy, "--checkpoint results/checkpoint-1000")["step"] == "1000"


def publish(folder: Path, repo_id: str = "them/theirs") -> str:
    """Put the files of a folder on the local Hub, as another program would; returns the commit."""
    with open_hub("hub", None) as hub:
        hub.api.create_repo(repo_id, exist_ok=True)
        return str(hub.api.upload_folder(repo_id=repo_id, folder_path=folder, ignore_patterns=["reference.npz"]).oid)


@pytest.mark.parametrize("case", [case for case in TAKEN if "/" not in case])
def test_a_model_on_the_hub_is_taken_exactly(echoself: Cli, cases: Path, case: str) -> None:
    commit = publish(cases / "checkpoints" / case)
    outputs = echoself("pull --hub hub --repo-id them/theirs")
    assert_reference(Path(outputs["model_dir"]), cases / "checkpoints" / case)
    facts = read_metadata(Path(outputs["model_dir"]))
    assert facts
    assert facts.imported_from
    assert facts.imported_from.file == f"them/theirs at {commit}"


@pytest.mark.parametrize("mode", ["pull", f"train {TRAIN}", f"cycle {TRAIN}"])
@pytest.mark.parametrize("case", [case for case in REFUSED if case.startswith("b05") or case.startswith("b21")])
def test_a_model_on_the_hub_is_refused_in_every_mode(
    echoself: Cli, workspace: Path, cases: Path, case: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(cases / "checkpoints" / case)
    echoself(mode, "--hub hub --repo-id them/theirs", code=3)
    said = capsys.readouterr().err
    assert all(part in said for part in REFUSED[case]), said
    assert "them/theirs at " in said
    assert not list(Path().glob(f"{OUT}/checkpoint-*"))


def test_a_cycle_goes_on_from_a_model_that_another_program_published(
    echoself: Cli, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(cases / "checkpoints/b02_sharded")
    cycle = f"cycle {TRAIN} --hub hub --repo-id them/theirs --learning-rate 1e-3"
    echoself(cycle)
    assert f"start: {OUT}/checkpoint-0, step 0: the newest of them/theirs" in capsys.readouterr().out
    echoself(cycle)  # the weights are random, so the first was rolled back: the next is of the same run
    assert (
        "learning_rate is 0.0005 instead of 0.001: the run before, at 0.001, went back to this step" in capsys.readouterr().out
    )


@pytest.mark.parametrize("name", BUILT)
def test_a_folder_of_every_form_is_taken_exactly(echoself: Cli, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, step, remarks = BUILT[name]
    folder.write(Path("theirs"))
    ids = some_ids(VOCABULARY)
    outputs = echoself("pull --checkpoint theirs")
    assert int(outputs["step"]) == step
    assert_exact(Path(outputs["model_dir"]), ids, folder.logits(ids))
    output = capsys.readouterr().out
    assert all(remark in output for remark in remarks), output
    assert echoself("pull --checkpoint theirs")["model_dir"] == outputs["model_dir"]
    assert "already imported" in capsys.readouterr().out
    tokenizer = load_tokenizer(Path(outputs["model_dir"]))
    assert (tokenizer.end_of_text_id, [*tokenizer.encode_batch(["a b"])[0]]) == (256, [97, 32, 98])


@pytest.mark.parametrize("name", NOT_BUILT)
def test_a_folder_that_is_not_exact_is_refused_by_the_cause(
    echoself: Cli, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, parts = NOT_BUILT[name]
    folder.write(Path("theirs"))
    for command in ("pull --checkpoint theirs", f"train {TRAIN} --init-from theirs"):
        echoself(command, code=3)
        said = capsys.readouterr().err
        assert all(part in said for part in parts), said
    assert not list(Path().glob(f"{OUT}/checkpoint-*"))


@pytest.mark.parametrize("name", ["bfloat16_shards", "pickled_shards", "vocab_merges", "end_in_generation_config", "trainer"])
def test_a_folder_is_trained_from_its_step(echoself: Cli, name: str) -> None:
    folder, step, _ = BUILT[name]
    replace(folder, spread=0.02).write(
        Path("theirs")
    )  # weights that are not worse than guessing, for which a run is rolled back
    train = f"train {TRAIN} --learning-rate 1e-3"
    assert [int(echoself(train, "--checkpoint theirs")["step"]), int(echoself(train)["step"])] == [step + 2, step + 4]
    assert echoself(train, "--init-from theirs --output-dir other")["step"] == "2"


@pytest.mark.parametrize("name", ["bfloat16_shards", "end_is_the_separator", "chat_template", "vocab_merges"])
def test_what_is_published_from_a_folder_is_the_model_and_its_tokenizer(echoself: Cli, name: str, tmp_path: Path) -> None:
    folder = BUILT[name][0]
    folder.write(Path("theirs"))
    echoself("deploy --hub hub --repo-id me/m --checkpoint theirs")
    with open_hub("hub", None) as hub:
        published = Path(hub.api.snapshot_download("me/m", local_dir=tmp_path / "published"))
    ids = some_ids(VOCABULARY)
    assert_exact(published, ids, folder.logits(ids))
    tokenizer = AutoTokenizer.from_pretrained(published, local_files_only=True)
    assert tokenizer.encode("a b") == [97, 32, 98]
    assert tokenizer.eos_token_id == 256


@pytest.mark.parametrize(
    "settings", [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}]
)
def test_the_vocab_txt_of_bert_gives_its_ids(
    echoself: Cli, settings: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    """Chinese GPT-2 models have no other tokenizer file."""
    letters = "abcdefghijklmnopqrstuvwxyzH\u4f60\u597d\u4e16\u754c\u00e9.,!?0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), "hello", "Hello"]
    tokens += [f"[unused{i}]" for i in range(VOCABULARY - len(tokens))]
    files = {"vocab.txt": "\n".join(tokens) + "\n", "tokenizer_config.json": settings | {"tokenizer_class": "BertTokenizer"}}
    folder = Folder({"eos_token_id": None}, files=files, without=("tokenizer.json",))
    folder.write(Path("theirs"))
    outputs = echoself("pull --checkpoint theirs")
    assert "end of text: '[SEP]', the sep_token of its tokenizer" in capsys.readouterr().out
    ids = some_ids(VOCABULARY)
    assert_exact(Path(outputs["model_dir"]), ids, folder.logits(ids))
    theirs = BertTokenizer.from_pretrained("theirs")
    ours = [load_tokenizer(Path(outputs["model_dir"])), AutoTokenizer.from_pretrained(outputs["model_dir"])]
    for text in ("Hello \u4f60\u597d, world! caf\u00e9 Caf\u00c9\tx 12", "\u4f60\u597d\u4e16\u754c", "zz. \u0394"):
        expected = theirs.encode(text, add_special_tokens=False)
        assert [*ours[0].encode_batch([text])[0]] == expected
        assert ours[1].encode(text) == expected


def test_a_vocab_txt_of_another_tokenizer_is_refused(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"vocab.txt": "a\nb\n", "tokenizer_config.json": {"tokenizer_class": "BertJapaneseTokenizer"}}
    Folder(files=files, without=("tokenizer.json",)).write(Path("theirs"))
    echoself("pull --checkpoint theirs", code=3)
    assert "vocab.txt is of a 'BertJapaneseTokenizer', which is not read from this file" in capsys.readouterr().err


def test_a_given_tokenizer_must_be_that_of_the_folder(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Folder().write(Path("theirs"))
    echoself("pull --checkpoint theirs --tokenizer gpt2", code=2)
    said = capsys.readouterr().err
    assert "tokenizer: gpt2 is not the tokenizer of theirs, which is bytes. Nothing was imported." in said
    assert "Remove tokenizer" in said
    assert echoself("pull --checkpoint theirs --tokenizer bytes")["step"] == "0"


def test_the_tokenizer_that_the_trainer_saved_above_is_named(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Folder().write(Path("results"))
    Folder(files={"trainer_state.json": STATE}, without=OLDER_TOKENIZER).write(Path("results/checkpoint-1234"))
    echoself("pull --checkpoint results/checkpoint-1234", code=3)
    assert "Set tokenizer: results/tokenizer.json, if that is the tokenizer of the model." in capsys.readouterr().err
    outputs = echoself("pull --checkpoint results/checkpoint-1234 --tokenizer results/tokenizer.json")
    assert outputs["step"] == "1234"


def test_a_stock_model_called_checkpoint_0_is_not_renamed(echoself: Cli) -> None:
    """As older versions of this program pulled them."""
    Folder().write(Path(OUT, "checkpoint-0"))
    theirs = files_of(Path(OUT))
    assert echoself(f"pull --checkpoint {OUT}/checkpoint-0")["model_dir"] == f"{OUT}/checkpoint-0-2"
    assert files_of(Path(OUT)).items() >= theirs.items()


def test_a_checkpoint_of_this_program_without_its_metadata_is_damaged_and_not_foreign(
    echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    train = f"train {TRAIN} --n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --tokenizer bytes"
    Path(echoself(train)["checkpoint"], "training_metadata.json").unlink()
    echoself(train, code=3)
    assert "All checkpoints in echoself-model are damaged" in capsys.readouterr().err


def test_metadata_of_another_program_does_not_make_a_checkpoint_ours(echoself: Cli) -> None:
    Folder(files={"training_metadata.json": {"checkpoint_id": "x"}}).write(Path(OUT, "checkpoint-700"))
    theirs = files_of(Path(OUT))
    train = f"train {TRAIN} --n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --tokenizer bytes"
    assert [int(echoself(train)["step"]) for _ in range(2)] == [2, 4]
    assert files_of(Path(OUT)).items() >= theirs.items()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_file_of_a_folder_stands_for_the_folder(echoself: Cli, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = BUILT["bfloat16_shards"][0]
    folder.write(Path("theirs"))
    outputs = echoself(f"pull --checkpoint theirs/{name}")
    ids = some_ids(VOCABULARY)
    assert_exact(Path(outputs["model_dir"]), ids, folder.logits(ids))
    assert f"theirs/{name} is part of a model folder, which is used: theirs" in capsys.readouterr().out
