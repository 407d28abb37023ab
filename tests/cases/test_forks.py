"""Forks of nanoGPT and programs like it: GPT-2's forward pass is imported exactly, and any other is refused by name."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.imported_model import NOTHING_GIVEN, Given

from ..conftest import SMALL, Cli
from ..formats.nanecho_files import nanecho_checkpoint
from ..formats.nanecho_files import state_dict as nanecho_state_dict
from .reference import assert_exact, assert_reference, gpt2_logits, some_ids

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "bias": True, "vocab_size": 64, "dropout": 0.0}
TRAINING = {
    **{"out_dir": "out", "eval_interval": 2000, "log_interval": 1, "eval_iters": 200, "eval_only": False},
    **{
        "always_save_checkpoint": True,
        "init_from": "scratch",
        "wandb_log": False,
        "wandb_project": "owt",
        "wandb_run_name": "x",
    },
    **{"dataset": "none", "gradient_accumulation_steps": 40, "batch_size": 12, "block_size": 16, "n_layer": 2, "n_head": 2},
    **{"n_embd": 16, "dropout": 0.0, "bias": True, "learning_rate": 6e-4, "max_iters": 600000, "weight_decay": 0.1},
    **{"beta1": 0.9, "beta2": 0.95, "grad_clip": 1.0, "decay_lr": True, "warmup_iters": 2000, "lr_decay_iters": 600000},
    **{"min_lr": 6e-5, "backend": "nccl", "device": "cuda", "dtype": "bfloat16", "compile": True},
}


def state_dict(seed: int = 0) -> dict[str, torch.Tensor]:
    """nanoGPT's: matrices as (out, in), the head tied. Large enough numbers for the two GELUs to differ."""
    width, generator = 16, torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (64, width), "wpe.weight": (16, width)}
    matrices = {"attn.c_attn": (48, width), "attn.c_proj": (width, width), "mlp.c_fc": (64, width), "mlp.c_proj": (width, 64)}
    for i in range(2):
        for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            shapes[f"h.{i}.{name}.weight"] = matrices.get(name, (width,))
            shapes[f"h.{i}.{name}.bias"] = shapes[f"h.{i}.{name}.weight"][:1]
    shapes |= {"ln_f.weight": (width,), "ln_f.bias": (width,)}
    tensors = {f"transformer.{name}": 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}


def nanogpt(args: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What nanoGPT's train.py saves, with other settings in `model_args` and `config`."""
    content = {"model": state_dict(), "model_args": SIZES | dict(args or {}), "iter_num": 100}
    return content | {"best_val_loss": torch.tensor(1.5), "config": TRAINING | dict(config or {})}


def saved(content: object, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def expected_logits(activation: str, n_head: int = 2, epsilon: float = 1e-5) -> Any:
    stored = {
        name.removeprefix("transformer."): tensor.t() if tensor.ndim == 2 and ".h." in name else tensor
        for name, tensor in state_dict().items()
    }
    return gpt2_logits({name: tensor.numpy() for name, tensor in stored.items()}, some_ids(64), n_head, activation, epsilon)


def assert_imported(
    content: object, tmp_path: Path, activation: str, epsilon: float = 1e-5, given: Given = NOTHING_GIVEN
) -> list[str]:
    """The file is imported with logits of double precision. Returns the lines of the log."""
    notes: list[str] = []
    folder = import_checkpoint(saved(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, notes.append, given)
    assert_exact(folder.path, some_ids(64), expected_logits(activation, epsilon=epsilon))
    return notes


CHANGED_IN_MODEL_ARGS: dict[str, Mapping[str, Any]] = {
    # as published forks write them
    "Sophia": {"scale_attn_by_inverse_layer_idx": True, "flash_attn": True},
    "Progen": {"rotary_dim": 32, "n_inner": None, "activation_function": "gelu", "layer_norm_epsilon": 1e-5, "use_cache": True},
    "a diffusion model": {"attention_type": "bidirectional", "position_encoding": "absolute"},
    "working memory": {"head_size_qkv": 16, "ffw_dim": 64, "wm_mask": True, "wm_decay_rate": 0.5},
    "an activation by another name": {"transformer_active_func": "relu", "quantize": False},
    "nanoMoE": {"n_exp": 8, "top_k": 2, "use_aux_loss": True, "train_capacity": 1.25, "stride": 2},
    "nGPT": {"use_nGPT": 1, "base_scale": 0.03},
    "nanoGPT-mup": {"mup_enabled": True, "mup_width_multiplier": 2.0, "mup_input_alpha": 1.0},
    **{f"activation={value}": {"activation": value} for value in ("relu2", "relu", "silu", "ReLU")},
    "act_fn": {"act_fn": "swish"},
    "rotary": {"use_rope": True, "rope_theta": 10000.0},
    "rotary, its base alone": {"rope_base": 10000},
    "rotary as a position type": {"pos_emb": "rope"},
    "ALiBi": {"alibi": True},
    "no positions": {"nope": True},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "not scaled": {"scale_attn_weights": False},
    "capped": {"logit_softcap": 30.0},
    "capped attention": {"attn_softcap": None, "final_logit_softcapping": 15},
    "both ways": {"causal": False},
    "both ways, the other name": {"bidirectional": True},
    "window": {"window_size": 8},
    "window pattern": {"window_pattern": "SSSL"},
    "normalised queries": {"qk_norm": True},
    "fewer keys": {"n_kv_head": 1},
    "RMSNorm": {"norm_type": "rmsnorm"},
    "after the block": {"pre_norm": False},
    "post": {"norm_position": "post"},
    "parallel": {"parallel_residual": True},
    "experts": {"n_experts": 8, "top_k": 2},
    "gated": {"use_swiglu": True},
    "scaled embeddings": {"embd_scale": 4.0},
    "muP": {"mup_enabled": True, "mup_width_multiplier": 2.0},
    "repeated": {"n_loops": 4},
    "sinks": {"softmax1": True},
    "head size": {"head_dim": 4},
    "an unknown name": {"foo_bar": 3},
    "in a dict": {"attention": {"softcap": 30.0}},
    "in a dict, by its name": {"rope": {"theta": 10000}},
    "in a dict, a kind": {"norm": {"type": "rmsnorm", "eps": 1e-5}},
    "an unknown name that is off": {"use_wavelets": False},
}


@pytest.mark.parametrize("case", CHANGED_IN_MODEL_ARGS)
def test_a_setting_of_the_model_that_nanogpt_does_not_have_is_refused_by_name(tmp_path: Path, case: str) -> None:
    settings = CHANGED_IN_MODEL_ARGS[case]
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(saved(nanogpt(settings), tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    named = [name for name in settings if re.search(rf" {name.lower()}(_\w+)?=", caught.value.message)]
    assert named, caught.value.message
    assert "its model_args" in caught.value.message
    removable = any(f"del c['model_args']['{name}']" in caught.value.hint for name in named)
    assert removable == (
        "whose effect on the model is unknown" in caught.value.message and "change what" not in caught.value.message
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "relu2"},
        {"rope": True},
        {"rotary_pct": 0.25},
        {"use_rotary_embeddings": 1, "rope_theta": 1e4},
        {"softcap": 15.0},
        {"sliding_window": 4},
        {"qk_norm": True},
        {"n_kv_head": 1},
        {"is_causal": False},
        {"norm": "rmsnorm"},
        {"use_rmsnorm": True},
        {"parallel_attn_mlp": True},
        {"use_alibi": True},
        {"moe": True, "num_experts": 4},
        {"mlp_type": "swiglu"},
        {"attention_type": "linear"},
        {"model": {"n_layer": 2, "n_head": 2, "n_embd": 16, "act": "relu"}},
        {"use_relu2": True},
        {"moe": {"num_experts": 4}},
        {"attn_mask": "full"},
        {"scale_attn_by_layer": True},
        {"logits_soft_cap": 30},
    ],
    ids=str,
)
def test_a_setting_of_the_trainer_that_speaks_of_another_forward_pass_is_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match="its config") as caught:
        import_checkpoint(saved(nanogpt(config=settings), tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    inner = settings.get("model", settings)
    assert ("del c['config']" in caught.value.hint) == (inner is settings)
    assert any(re.search(rf" {name}(_\w+)?=", caught.value.message) for name in inner)
    assert not (tmp_path / "out").exists()


NEUTRAL: dict[str, Any] = {
    **{"flash": True, "use_flash_attn": False, "attn_implementation": "sdpa", "attn_dropout": 0.1, "resid_pdrop": 0.1},
    **{"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "logit_softcap": None, "attn_softcap": 0},
    **{"tie_weights": True, "tie_word_embeddings": True, "use_rope": False, "rope_theta": 10000.0, "causal": True},
    **{"qk_norm": False, "n_kv_head": 2, "head_dim": 8, "sliding_window": None, "window_size": 16, "norm_type": "LayerNorm"},
    **{"n_experts": 0, "moe_top_k": 2, "router_z_loss": 0.01, "pos_emb": "learned", "pre_norm": True},
    **{"parallel_residual": False, "gradient_checkpointing": True},
    **{"mlp_ratio": 4, "n_inner": 64, "qkv_bias": True, "initializer_range": 0.02, "init_std": 0.02},
    **{"activation_checkpointing": True, "logit_scale": 1.0, "embd_scale": False, "attention": "causal", "alibi": False},
    **{"pad_token_id": None, "eos_token_id": 50256, "use_cache": True, "label_smoothing": 0.0, "swiglu": False, "n_loops": 1},
    **{"moe": {"enabled": False, "num_experts": 4}, "norm": {"type": "layernorm", "bias": True}},
    **{"mup_enabled": False, "mup_width_multiplier": 2.0, "use_rmsnorm": False, "dtype": "bfloat16", "model_type": "gpt2"},
}  # fmt: skip


def test_settings_that_change_nothing_are_accepted(tmp_path: Path) -> None:
    assert_imported(nanogpt(NEUTRAL), tmp_path, "gelu")


def test_settings_of_a_trainer_are_accepted_whatever_they_are(tmp_path: Path) -> None:
    more = {
        **{"max_grad_norm": 1.0, "grad_norm_clip": 1.0, "log_grad_norm": True, "activation_checkpointing": True, "act_ckpt": 1},
        **{"wandb_tags": "rope,moe", "tensor_parallel_size": 2, "data_parallel": True, "fsdp": False, "lr_scale": 2.0},
        **{"warmup_ratio": 0.1, "optimizer": "adamw", "scheduler": "cosine", "eval_window": 512, "loss_window": 10},
        **{
            "top_k": 200,
            "temperature": 0.8,
            "num_samples": 10,
            "use_compile": True,
            "flash_attention": True,
            "loss_scale": 1.0,
        },
        **{"embed_lr_scale": 0.1, "muon_momentum": 0.95, "head_lr": 0.1, "sophia_rho": 0.1, "z_loss": 1e-4, "eps": 1e-8},
        **{
            "patience": 3,
            "hf_repo": "a/b",
            "data_dir": "/x",
            "seed": 1337,
            "block_loss": True,
            "norm": 2.0,
            "repeats": 3,
            "loop": True,
            "log_weight_norm": True,
            "sliding_window_eval": True,
            "init_scale": 0.1,
            "ema": 0.99,
        },
    }
    assert_imported(nanogpt(config=NEUTRAL | more), tmp_path, "gelu")


def test_a_stated_activation_and_epsilon_are_those_of_the_import(tmp_path: Path) -> None:
    for number, value in enumerate(("gelu_new", "gelu_pytorch_tanh", "new_gelu", "gelu-tanh")):
        assert_imported(nanogpt({"activation": value}), tmp_path / str(number), "gelu_new")
    assert_imported(nanogpt({"activation": "gelu"}), tmp_path / "exact", "gelu")
    assert_imported(nanogpt({"activation": "gelu", "approximate": "tanh"}), tmp_path / "approximate", "gelu_new")
    assert_imported(nanogpt({"layer_norm_eps": 1e-3}), tmp_path / "epsilon", "gelu", epsilon=1e-3)


def test_two_places_that_state_another_activation_are_refused(tmp_path: Path) -> None:
    content = nanogpt({"activation": "gelu"}, {"activation": "gelu_new"})
    with pytest.raises(CheckpointError, match=r"contradicts itself: activation is 'gelu_new' in its config, and 'gelu'"):
        import_checkpoint(saved(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)


def test_the_reported_fork_is_refused(cases: Path, tmp_path: Path) -> None:
    path = cases / "checkpoints/a06_fork_relu2/ckpt.pt"
    with pytest.raises(CheckpointError, match=r"its model_args that change what a GPT-2 computes: activation='relu2'"):
        import_checkpoint(path, tmp_path, None, print)


# The GELU that nobody states: by the program and the time that the keys of a file show.

ADAMW = {"lr": 6e-4, "betas": (0.9, 0.95), "eps": 1e-8, "amsgrad": False}


def optimizer(*groups: int) -> dict[str, Any]:
    """An optimizer that has taken no step, with groups of so many parameters."""
    start = [sum(groups[:i]) for i in range(len(groups))]
    return {
        "state": {},
        "param_groups": [
            ADAMW | {"weight_decay": 0.1, "params": list(range(first, first + count))}
            for first, count in zip(start, groups, strict=True)
        ],
    }


def masks() -> dict[str, torch.Tensor]:
    return {f"transformer.h.{i}.attn.bias": torch.ones(16, 16).tril().view(1, 1, 16, 16) for i in range(2)}


def old_args() -> dict[str, Any]:
    return {name: value for name, value in SIZES.items() if name != "bias"}


class GPTConfig:
    """A dataclass in the program that writes the file: its fields are the attributes of an instance."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


FIVE = {name: SIZES[name] for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd")}
BUILD = {"step": 5000, "val_loss": 3.05}
DATED: dict[str, tuple[dict[str, Any], str, str]] = {
    "of today": (nanogpt(), "gelu", "since June 2023"),
    "of today, on PyTorch 1": (
        nanogpt() | {"model": state_dict() | masks(), "optimizer": optimizer(10, 18)},
        "gelu",
        "since June 2023",
    ),
    "of April 2023": (nanogpt() | {"optimizer": optimizer(8, 20)}, "gelu_new", "before May 2023"),
    "of February 2023": (nanogpt() | {"model": state_dict() | masks()}, "gelu_new", "attention masks"),
    "of January 2023": (nanogpt() | {"model_args": old_args()}, "gelu_new", "before February 2023"),
    "of December 2022": (
        {
            **{"model": state_dict() | masks(), "optimizer": optimizer(8, 20), "iter_num": 5},
            "model_args": {name: value for name, value in old_args().items() if name != "vocab_size"},
        },
        "gelu_new",
        "before February 2023",
    ),
    "without a step": ({"model": state_dict(), "model_args": SIZES}, "gelu", "since June 2023"),
    "build-nanogpt": ({"model": state_dict(), "config": GPTConfig(**FIVE), **BUILD}, "gelu_new", "build-nanogpt"),
    "build-nanogpt, a dict": ({"model": state_dict(), "config": FIVE, **BUILD}, "gelu_new", "build-nanogpt"),
    "build-nanogpt, without a step": ({"model": state_dict(), "config": GPTConfig(**FIVE)}, "gelu_new", "build-nanogpt"),
    "nanoGPT's GPTConfig": ({"model": state_dict(), "config": GPTConfig(**SIZES), **BUILD}, "gelu", "since June 2023"),
    "nanoGPT's GPTConfig, as a dict": (
        {"model_state_dict": state_dict(), "config": SIZES, "epoch": 3},
        "gelu",
        "since June 2023",
    ),
    "nanoGPT's GPTConfig of January 2023": ({"model": state_dict(), "config": GPTConfig(**old_args())}, "gelu_new", "before"),
    "model_args that are an object": (nanogpt() | {"model_args": GPTConfig(**SIZES)}, "gelu", "since June 2023"),
    "nested in a trainer's settings": (
        {"state_dict": state_dict(), "config": {"train": {"lr": 1e-3}, "model": SIZES}},
        "gelu",
        "since June 2023",
    ),
}


@pytest.mark.parametrize("case", DATED)
def test_the_gelu_that_a_file_does_not_state_is_dated_and_said(tmp_path: Path, case: str) -> None:
    content, activation, reason = DATED[case]
    notes = assert_imported(content, tmp_path, activation)
    metadata = read_metadata(next((tmp_path / "out").glob("checkpoint-*")))
    assert metadata
    assert len(metadata.assumptions) == 1
    assert reason in metadata.assumptions[0]
    assert metadata.assumptions[0] in notes


STATED: dict[str, dict[str, Any]] = {
    "a function": {"activation": torch.nn.functional.gelu},
    "a module": {"activation": torch.nn.GELU(approximate="tanh")},
    "a class": {"act": torch.nn.GELU},
    "a switch": {"activation": "gelu", "use_tanh_gelu": True},
    "a word": {"gelu_type": "tanh"},
    "by half": {"hidden_act": "GELU_PyTorch_tanh"},
}


@pytest.mark.parametrize(
    ("case", "activation"), list(zip(STATED, ("gelu", "gelu_new", "gelu", *["gelu_new"] * 3), strict=True))
)
def test_a_gelu_that_the_file_states_in_any_form_is_taken(tmp_path: Path, case: str, activation: str) -> None:
    content = {"model": state_dict(), "config": GPTConfig(**FIVE, **STATED[case]), **BUILD}
    assert_imported(content, tmp_path, activation)
    metadata = read_metadata(tmp_path / "out/checkpoint-5000")
    assert metadata
    assert metadata.assumptions == ()


@pytest.mark.parametrize("value", [torch.nn.functional.relu, torch.nn.SiLU(), torch.nn.ReLU, GPTConfig(kind="x")])
def test_another_activation_in_a_config_of_a_class_is_refused(tmp_path: Path, value: Any) -> None:
    content = {"model": state_dict(), "config": GPTConfig(**FIVE, activation=value), **BUILD}
    with pytest.raises(CheckpointError, match=r"that change what a GPT-2 computes: activation="):
        import_checkpoint(saved(content, tmp_path / "model.pt"), tmp_path / "out", None, print)


def test_where_nothing_states_the_gelu_the_input_decides(tmp_path: Path) -> None:
    assert_imported(nanogpt(), tmp_path / "1", "gelu_new", given=Given(activation="gelu_new"))
    assert_imported(nanogpt() | {"model_args": old_args()}, tmp_path / "2", "gelu", given=Given(activation="gelu"))
    assert_imported(state_dict(), tmp_path / "3", "gelu_new", given=Given(2, "gelu_new"))
    metadata = read_metadata(next((tmp_path / "3/out").glob("checkpoint-*")))
    assert metadata
    assert "as the input activation says" in metadata.assumptions[0]


def test_an_input_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = saved(nanogpt({"activation": "gelu"}), tmp_path / "ckpt.pt")
    with pytest.raises(
        CheckpointError, match=r"records the exact GELU \(gelu\) in its model_args, but activation: gelu_new"
    ) as caught:
        import_checkpoint(path, tmp_path / "out", None, print, Given(activation="gelu_new"))
    assert caught.value.hint == "Leave activation out."


@pytest.mark.parametrize("content", [nanogpt(), state_dict()], ids=["ckpt.pt", "a state dict"])
def test_a_config_beside_the_file_states_what_the_file_does_not(tmp_path: Path, content: dict[str, Any]) -> None:
    beside = {"model_type": "gpt2", **FIVE, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-3}
    (tmp_path / "config.json").write_text(json.dumps(beside))
    assert_imported(content, tmp_path, "gelu_new", epsilon=1e-3)
    (tmp_path / "config.json").write_text(json.dumps(beside | {"activation_function": "relu"}))
    with pytest.raises(CheckpointError, match=r"in config.json beside it .*activation_function='relu'") as caught:
        import_checkpoint(tmp_path / "ckpt.pt", tmp_path / "out", None, print)
    assert "remove it: activation_function from config.json beside it." in caught.value.hint  # it may be of another model


def test_a_config_beside_the_file_of_another_size_is_not_of_this_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FIVE | {"n_layer": 3, "activation_function": "gelu_new"}))
    assert_imported(nanogpt(), tmp_path, "gelu")


@pytest.mark.parametrize(
    "name", ["a02_build_nanogpt/model_05000.pt", "a04_build_nanogpt_sd/model.pt", "a05_old_nanogpt/ckpt.pt"]
)
def test_reported_files_compute_their_gelu(cases: Path, tmp_path: Path, name: str) -> None:
    path = cases / "checkpoints" / name
    assert_reference(import_checkpoint(path, tmp_path, None, print).path, path.parent)


def test_assumptions_stay_with_the_model_through_its_runs(echoself: Cli, workspace: Path) -> None:
    saved(nanogpt() | {"model_args": old_args()}, workspace / "ckpt.pt")
    for name in ("train.bin", "val.bin"):
        np.random.default_rng(0).integers(0, 64, 500).astype(np.uint16).tofile(workspace / name)
    echoself("train --checkpoint ckpt.pt --data *.bin --max-iters 2 --batch-size 4 --device cpu")
    later = read_metadata(Path("echoself-model/checkpoint-102-decayed"))
    assert later
    assert "before February 2023" in later.assumptions[0]
    assert (
        json.loads(Path("echoself-model/checkpoint-102-decayed/config.json").read_text())["activation_function"] == "gelu_new"
    )


def test_a_new_model_has_the_activation_of_the_input(echoself: Cli, workspace: Path) -> None:
    trained = echoself(f"train --data docs/*.md {SMALL} --activation gelu_new --max-iters 2")
    assert json.loads(Path(trained["model_dir"], "config.json").read_text())["activation_function"] == "gelu_new"
    echoself(f"train --data docs/*.md {SMALL} --activation gelu --max-iters 2", code=2)
    echoself(f"train --data docs/*.md {SMALL} --activation gelu_new --architecture nanecho --max-iters 2", code=2)


# A folder that a trainer wrote its checkpoints into.


def test_nanogpts_out_dir_is_the_checkpoint_in_it(echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(nanogpt(), workspace / "out-shakespeare/ckpt.pt")
    (workspace / "out-shakespeare/config.json").write_text("{}")  # of a logger
    pulled = echoself("pull --checkpoint out-shakespeare")
    assert_exact(Path(pulled["model_dir"]), some_ids(64), expected_logits("gelu"))
    assert "out-shakespeare holds the checkpoint ckpt.pt" in capsys.readouterr().out
    for name in ("train.bin", "val.bin"):
        np.random.default_rng(0).integers(0, 64, 500).astype(np.uint16).tofile(workspace / name)
    echoself("train --init-from out-shakespeare --output-dir new --data *.bin --max-iters 2 --batch-size 4 --device cpu")
    assert "ckpt.pt (init_from), step 0 of a new run" in capsys.readouterr().out


def test_a_folder_with_one_checkpoint_of_any_name_is_that_checkpoint(echoself: Cli, workspace: Path) -> None:
    saved({"model": state_dict(), "config": GPTConfig(**FIVE), **BUILD}, workspace / "log/model_05000.pt")
    (workspace / "log/log.txt").write_text("0 val 10.9\n")
    pulled = echoself("pull --checkpoint log")
    assert_exact(Path(pulled["model_dir"]), some_ids(64), expected_logits("gelu_new"))


def test_of_several_checkpoints_in_a_folder_one_must_be_named(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (5000, 10000):
        saved({"model": state_dict(), "config": FIVE, "step": step, "val_loss": 3.0}, workspace / f"log/model_{step:05}.pt")
    echoself("pull --checkpoint log", code=3)
    error = capsys.readouterr().err
    assert "log contains 2 checkpoint files: model_05000.pt, model_10000.pt. None was used." in error
    assert "for example log/model_10000.pt" in error


# A refusal says what to do, and what it says leads on.

WEIGHT = "transformer.h.0.attn.q_norm.weight"
HINTS: dict[str, tuple[Any, str]] = {
    "another part": (nanogpt() | {"model": state_dict() | {WEIGHT: torch.ones(8)}}, "another architecture can't be used"),
    "an adapter": (nanogpt() | {"model": state_dict() | {"lora_A.weight": torch.ones(8)}}, "an adapter must be merged"),
    "half a state dict": (
        nanogpt() | {"model": {name: value for name, value in state_dict().items() if "ln_f" not in name}},
        "save the whole of model.state_dict()",
    ),
    "other sizes": (nanogpt({"block_size": 32}), "either the tensors or the recorded sizes are those of another model"),
    "no heads": (
        nanogpt() | {"model_args": {name: value for name, value in SIZES.items() if name != "n_head"}},
        "Give n_head.",
    ),
    "a size that is none": (nanogpt({"n_embd": "16"}), "Correct it"),
    "no positions": (
        nanogpt() | {"model": {name: value for name, value in state_dict().items() if "wpe" not in name}},
        "A model that never had them can't be imported",
    ),
    "a head apart": (
        nanogpt() | {"model": state_dict() | {"lm_head.weight": torch.ones(64, 16)}},
        "whose output head is its token embedding",
    ),
    "diverged": (
        nanogpt() | {"model": state_dict() | {"transformer.ln_f.bias": torch.full((16,), torch.nan)}},
        "use an earlier checkpoint",
    ),
    "quantised": (
        nanogpt() | {"model": state_dict() | {"transformer.h.0.mlp.c_fc.weight": torch.ones(64, 16, dtype=torch.int8)}},
        "before they were quantised",
    ),
    "a whole module": (torch.nn.Linear(2, 2), "Save its state dict"),
    "a module under a key": ({"model": torch.nn.Linear(2, 2)}, "Save its state dict"),
    "a list": ([state_dict()], "Save its state dict"),
    "queries of fewer keys": (
        nanogpt() | {"model": state_dict() | {"transformer.h.0.attn.c_attn.weight": torch.ones(32, 16)}},
        "either the tensors",
    ),
}


@pytest.mark.parametrize("case", HINTS)
def test_the_hint_of_a_refusal_fits_its_reason(tmp_path: Path, case: str) -> None:
    content, hint = HINTS[case]
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(saved(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    assert hint in caught.value.hint
    assert "ownload" not in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_the_setting_that_was_refused_can_be_removed_as_the_hint_says(tmp_path: Path) -> None:
    path = saved(nanogpt({"Wavelets": 0}), tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, tmp_path / "out", None, print)
    assert "`c = torch.load(path)`, `del c['model_args']['Wavelets']`, `torch.save(c, other_path)`" in caught.value.hint
    c = torch.load(path)
    del c["model_args"]["Wavelets"]
    torch.save(c, tmp_path / "other.pt")
    folder = import_checkpoint(tmp_path / "other.pt", tmp_path / "out", None, print)
    assert_exact(folder.path, some_ids(64), expected_logits("gelu"))


def test_sizes_beside_the_state_dict_are_found_and_so_is_what_changes_the_forward_pass(tmp_path: Path) -> None:
    content = {"model_state_dict": state_dict(), "n_head": 2, "epoch": 3, "model_args": None}
    assert_imported(content, tmp_path, "gelu")
    with pytest.raises(CheckpointError, match="in its top level that change what a GPT-2 computes: activation='relu2'"):
        import_checkpoint(saved(content | {"activation": "relu2"}, tmp_path / "a.pt"), tmp_path / "out", None, print)


@pytest.mark.parametrize("missing", ["n_head", "n_layer", "block_size", "n_embd"])
def test_sizes_that_model_args_lack_are_those_of_the_tensors_and_heads_are_given(tmp_path: Path, missing: str) -> None:
    args = {name: value for name, value in SIZES.items() if name != missing}
    assert_imported(nanogpt() | {"model_args": args}, tmp_path, "gelu", given=Given(2))


@pytest.mark.parametrize("names", [("n_layers", "n_heads", "d_model"), ("num_layers", "num_heads", "hidden_size")])
def test_other_names_of_sizes_are_known(tmp_path: Path, names: tuple[str, str, str]) -> None:
    args = {"block_size": 16, "vocab_size": 64, "bias": True} | dict(zip(names, (np.int64(2), 2, 16), strict=True))
    assert_imported(nanogpt() | {"model_args": args}, tmp_path / "1", "gelu")
    assert_imported({"model": state_dict(), "config": args}, tmp_path / "2", "gelu")


def test_long_names_and_many_settings_are_bounded(tmp_path: Path) -> None:
    long = {"_" * 1_000_000: 1, "soft_cap" + "_" * 500_000: None}
    path = saved(nanogpt(config=long), tmp_path / "long.pt")
    import_checkpoint(path, tmp_path / "long", None, print)
    many = {f"setting_{i}": i for i in range(50_000)}
    with pytest.raises(CheckpointError, match=r"has 50,0\d\d settings in its config"):
        import_checkpoint(saved(nanogpt(config=many), tmp_path / "many.pt"), tmp_path / "many", None, print)
    deep: Any = "gelu"
    for _ in range(50):
        deep = GPTConfig(kind=deep)
    with pytest.raises(CheckpointError, match="activation="):
        import_checkpoint(saved(nanogpt({"activation": deep}), tmp_path / "deep.pt"), tmp_path / "deep", None, print)


@pytest.mark.parametrize("given", [Given(n_head=4), Given(activation="gelu_new")], ids=str)
def test_inputs_that_contradict_a_format_that_records_both_are_refused(tmp_path: Path, given: Given) -> None:
    path = saved(nanecho_checkpoint("native", nanecho_state_dict()), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"records (n_head=2|activation=gelu), but \w+: \w+ was given"):
        import_checkpoint(path, tmp_path / "out", None, print, given)


def test_a_config_of_an_old_version_of_transformers_is_that_of_a_gpt2(tmp_path: Path) -> None:
    config = {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "finetuning_task": None, "initializer_range": 0.02}
    config |= {"n_ctx": 16, "n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 16, "n_special": 0, "num_labels": 1}
    config |= {"predict_special_tokens": True, "summary_type": "cls_index", "torchscript": False, "vocab_size": 64}
    stored = {
        name: tensor.t().contiguous() if tensor.ndim == 2 and ".h." in name else tensor for name, tensor in state_dict().items()
    }
    assert_imported({"state_dict": stored, "config": config | {"layer_norm_epsilon": 1e-3}}, tmp_path, "gelu_new", epsilon=1e-3)
    path = saved({"state_dict": stored, "config": config | {"scale_attn_weights": False}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="scale_attn_weights=False"):
        import_checkpoint(path, tmp_path / "out", None, print)


def test_an_unknown_setting_among_those_of_a_trainer_is_not_of_the_model(tmp_path: Path) -> None:
    config = FIVE | {"bias": True, "dropout": 0.0, "epochs": 3, "train_file": "a.txt", "curriculum": "hard", "parts": {"a": 1}}
    assert_imported({"model": state_dict(), "config": config}, tmp_path / "1", "gelu")
    path = saved({"model": state_dict(), "config": FIVE | {"curriculum": "hard"}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="in its config whose effect on the model is unknown: curriculum='hard'"):
        import_checkpoint(path, tmp_path / "out", None, print)
