"""Forks of nanoGPT and programs like it: GPT-2's forward pass is imported exactly, and any other is refused by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import import_checkpoint

from .reference import assert_exact, gpt2_logits, some_ids

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


def assert_imported(content: object, tmp_path: Path, activation: str, epsilon: float = 1e-5, **given: Any) -> list[str]:
    """The file is imported with logits of double precision. Returns the lines of the log."""
    notes: list[str] = []
    folder = import_checkpoint(saved(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, notes.append, **given)
    assert_exact(folder.path, some_ids(64), expected_logits(activation, epsilon=epsilon))
    return notes


CHANGED_IN_MODEL_ARGS: dict[str, Mapping[str, Any]] = {
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
    "tied head stated apart": {"foo_bar": 3},
    "an unknown name that is off": {"use_wavelets": False},
}


@pytest.mark.parametrize("case", CHANGED_IN_MODEL_ARGS)
def test_a_setting_of_the_model_that_nanogpt_does_not_have_is_refused_by_name(tmp_path: Path, case: str) -> None:
    settings = CHANGED_IN_MODEL_ARGS[case]
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(saved(nanogpt(settings), tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    named = [name for name in settings if f"{name}=" in caught.value.message]
    assert named, caught.value.message
    assert "its model_args" in caught.value.message
    assert f"del c['model_args']['{named[0]}']" in caught.value.hint
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
    ],
    ids=str,
)
def test_a_setting_of_the_trainer_that_speaks_of_another_forward_pass_is_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match="its config") as caught:
        import_checkpoint(saved(nanogpt(config=settings), tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    inner = settings.get("model", settings)
    assert any(f"{name}=" in caught.value.message for name in inner)
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
        **{"patience": 3, "hf_repo": "a/b", "data_dir": "/x", "seed": 1337, "block_loss": True, "init_scale": 0.1, "ema": 0.99},
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
