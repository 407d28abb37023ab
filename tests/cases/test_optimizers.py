"""Optimizer states that people bring: taken exactly, or the weights are imported without them and the reason is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.optimizer_state import NOT_IMPORTED
from echoself_action.markdown import escaped

from ..conftest import SMALL, Cli
from ..formats.foreign_files import nanogpt_checkpoint, save
from ..formats.nanecho_files import nanecho_checkpoint, state_dict
from .reference import assert_exact, assert_reference, gpt2_logits, some_ids

Content = dict[str, Any]
Named = dict[str, Tensor]
HEAD = "lm_head.weight"
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
LINEAR = tuple(f".{name}" for name in TRANSPOSED)


def gpt2_names(weights: Named) -> Named:
    """Of nanoGPT's tensors: matrices as (in, out)."""
    return {name: tensor.t() if name.endswith(TRANSPOSED) else tensor for name, tensor in weights.items()}


def parameters(content: Content) -> Named:
    """Leaves, in the order of nanoGPT's `named_parameters`."""
    return {name: tensor.clone().requires_grad_() for name, tensor in content["model"].items() if name != HEAD}


def two_groups(named: Named) -> list[dict[str, Any]]:
    """Those of nanoGPT since May 2023."""
    return [
        {"params": [p for p in named.values() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in named.values() if p.dim() < 2], "weight_decay": 0.0},
    ]


def early_groups(named: Named) -> list[dict[str, Any]]:
    """Those of nanoGPT before May 2023."""
    decay = sorted(name for name in named if name.endswith(LINEAR))
    rest = sorted(name for name in named if not name.endswith(LINEAR))
    return [
        {"params": [named[name] for name in decay], "weight_decay": 0.1},
        {"params": [named[name] for name in rest], "weight_decay": 0.0},
    ]


def stepped(optimizer: torch.optim.Optimizer, steps: int = 3, without: str = "") -> Content:
    """Its state dict after steps with random gradients, none for the parameters of `without` dimensions."""
    generator = torch.Generator().manual_seed(1)
    leaves = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        for p in leaves:
            p.grad = None if str(p.dim()) == without else torch.randn(p.shape, generator=generator)
        optimizer.step()
    return optimizer.state_dict()


def expected_moments(named: Named, optimizer: torch.optim.Optimizer) -> Named:
    """Our names of its state, in GPT-2's orientation."""
    state = {name: optimizer.state[p] for name, p in named.items() if p in optimizer.state}
    moments = {f"{kind}.{name}": one[kind] for name, one in state.items() for kind in ("exp_avg", "exp_avg_sq")}
    return gpt2_names(moments) | {f"steps.{name}": one["step"] for name, one in state.items()}


def big_checkpoint(n_layer: int, bias: bool) -> Content:
    """More than ten layers: sorted by name, h.10 is before h.2."""
    content = nanogpt_checkpoint(bias=bias, n_embd=8)
    two = content["model"]
    model = {name: two[name] for name in ("transformer.wte.weight", "transformer.wpe.weight")}
    generator = torch.Generator().manual_seed(2)
    for layer in range(n_layer):
        model |= {
            name.replace("h.0.", f"h.{layer}."): torch.randn(tensor.shape, generator=generator) * 0.1
            for name, tensor in two.items()
            if ".h.0." in name
        }
    model |= {name: tensor for name, tensor in two.items() if ".ln_f." in name}
    content["model"] = model | {HEAD: model["transformer.wte.weight"]}
    content["model_args"]["n_layer"] = n_layer
    return content


def adamw(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))


def named_groups(named: Named) -> list[dict[str, Any]]:
    """Three groups of names and parameters, which PyTorch records since 2.6."""
    embeddings = {"transformer.wte.weight", "transformer.wpe.weight"}
    matrices = {name for name in named if named[name].dim() > 1} - embeddings
    return [
        {"params": [(name, p) for name, p in named.items() if name in matrices]},
        {"params": [(name, p) for name, p in named.items() if name not in matrices | embeddings], "weight_decay": 0.0},
        {"params": [(name, p) for name, p in named.items() if name in embeddings]},
    ]


def by_name(state: Content, named: Named) -> Content:
    """As FSDP gathers it: a parameter's key is its name."""
    names = list(named)
    return {
        "state": {names[key]: entry for key, entry in state["state"].items()},
        "param_groups": [group | {"params": [names[key] for key in group["params"]]} for group in state["param_groups"]],
    }


def of_older_pytorch(state: Content) -> Content:
    """Before 1.12, a step is a number, and a group has fewer options."""
    kept = ("lr", "betas", "eps", "weight_decay", "amsgrad", "params")
    return {
        "state": {key: entry | {"step": int(entry["step"])} for key, entry in state["state"].items()},
        "param_groups": [{name: group[name] for name in kept} for group in state["param_groups"]],
    }


def with_entries(change: Callable[[Content], Content]) -> Callable[[Content, Named], Content]:
    return lambda state, _: state | {"state": {key: change(entry) for key, entry in state["state"].items()}}


def with_options(**options: Any) -> Callable[[Content, Named], Content]:
    return lambda state, _: state | {"param_groups": [group | options for group in state["param_groups"]]}


def as_is(state: Content, _: Named) -> Content:
    return state


Groups = Callable[[Named], Any]
TAKEN: dict[str, tuple[Groups, Callable[[Content, Named], Content]]] = {
    "nanoGPT": (two_groups, as_is),
    "nanoGPT before May 2023": (early_groups, as_is),
    "one group of all parameters": (lambda named: list(named.values()), as_is),
    "groups with names": (named_groups, as_is),
    "keys that are names": (lambda named: list(named.values()), by_name),
    "an older PyTorch": (early_groups, lambda state, _: of_older_pytorch(state)),
    "fused: a step with one dimension": (two_groups, with_entries(lambda one: one | {"step": one["step"].reshape(1)})),
    "capturable: a whole number as a tensor": (two_groups, with_entries(lambda one: one | {"step": one["step"].long()})),
    "Transformers' AdamW": (two_groups, with_options(correct_bias=True)),
    "a scheduler's options": (two_groups, with_options(initial_lr=1e-3, max_lr=1e-2, name="all")),
}


def imported(content: Content, tmp_path: Path, bias: bool = True) -> ModelFolder:
    """The folder, with its logits checked against double precision."""
    folder = import_checkpoint(save(content, tmp_path / "ckpt.pt"), tmp_path / "out", None, print)
    weights = {name.removeprefix("transformer."): tensor for name, tensor in gpt2_names(content["model"]).items()}
    ids = some_ids(content["model_args"]["vocab_size"])
    assert_exact(folder.path, ids, gpt2_logits(weights, ids, content["model_args"]["n_head"]))
    return folder


def assert_moments(folder: ModelFolder, expected: Named) -> None:
    found = load_file(folder.path / "training_state/optimizer.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor.float().reshape(found[name].shape)), name


def notes_of(folder: ModelFolder) -> list[str]:
    assert folder.metadata
    assert folder.metadata.imported_from
    return folder.metadata.imported_from.optimizer_notes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", TAKEN)
def test_an_adamw_is_taken_exactly(tmp_path: Path, name: str, bias: bool) -> None:
    groups, change = TAKEN[name]
    content = nanogpt_checkpoint(bias=bias)
    named = parameters(content)
    optimizer = adamw(groups(named))
    content["optimizer"] = change(stepped(optimizer), named)
    folder = imported(content, tmp_path)
    assert_moments(folder, expected_moments(named, optimizer))
    assert NOT_IMPORTED not in "".join(notes_of(folder))


@pytest.mark.parametrize("bias", [True, False])
def test_sorted_names_of_many_layers_are_in_the_order_of_text(tmp_path: Path, bias: bool) -> None:
    content = big_checkpoint(12, bias)
    named = parameters(content)
    optimizer = adamw(early_groups(named))
    content["optimizer"] = stepped(optimizer)
    folder = imported(content, tmp_path)
    assert_moments(folder, expected_moments(named, optimizer))
    assert "did not decay embeddings" in "".join(notes_of(folder))


def test_the_state_of_a_part_of_the_parameters_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = nanogpt_checkpoint()
    named = parameters(content)
    optimizer = adamw(two_groups(named))
    content["optimizer"] = stepped(optimizer, without="1")
    assert_moments(imported(content, tmp_path), expected_moments(named, optimizer))
    assert "its optimizer state has 10 of the 28 parameters; the others start with a new one" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["optimizers", "optimizer_state_dict", "opt"])
def test_an_optimizer_under_another_key_is_taken(tmp_path: Path, key: str) -> None:
    content = nanogpt_checkpoint()
    named = parameters(content)
    optimizer = adamw(two_groups(named))
    state = stepped(optimizer)
    content = {name: value for name, value in content.items() if name != "optimizer"} | {"optimizer_name": "adamw"}
    content[key] = [state] if key == "optimizers" else state
    assert_moments(imported(content, tmp_path), expected_moments(named, optimizer))


def test_moments_in_bfloat16_are_converted_exactly(tmp_path: Path) -> None:
    content = nanogpt_checkpoint()
    for entry in content["optimizer"]["state"].values():
        entry |= {kind: entry[kind].bfloat16() for kind in ("exp_avg", "exp_avg_sq")}
    order = [p for group in two_groups(content["model"]) for p in group["params"]]
    name = "transformer.h.1.mlp.c_proj.weight"
    index = next(i for i, tensor in enumerate(order) if tensor is content["model"][name])
    found = load_file(imported(content, tmp_path).path / "training_state/optimizer.safetensors")
    assert torch.equal(found[f"exp_avg.{name}"], content["optimizer"]["state"][index]["exp_avg"].float().t())


class Lion(torch.optim.Optimizer):
    """The state and the options of lucidrains/lion-pytorch."""

    def __init__(self, groups: Any) -> None:
        super().__init__(groups, {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0})

    def step(self, _: Any = None) -> None:  # type: ignore[override]
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            self.state[p].setdefault("exp_avg", torch.zeros_like(p)).lerp_(p.grad, 0.01)


class Sophia(torch.optim.Optimizer):
    """The state and the options of Liuhong99/Sophia's SophiaG."""

    def __init__(self, groups: Any) -> None:
        options = {"lr": 1e-4, "betas": (0.965, 0.99), "rho": 0.04, "weight_decay": 0.1}
        super().__init__(groups, options | {"maximize": False, "capturable": False})

    def step(self, _: Any = None) -> None:  # type: ignore[override]
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            state = self.state[p]
            state["step"] = state.get("step", torch.tensor(0.0)) + 1
            state.setdefault("exp_avg", torch.zeros_like(p)).lerp_(p.grad, 0.035)
            state.setdefault("hessian", torch.zeros_like(p)).lerp_(p.grad.square(), 0.01)


def of(make: Callable[[Any], torch.optim.Optimizer], groups: Groups = two_groups) -> Callable[[Content], Any]:
    return lambda content: stepped(make(groups(parameters(content))))


def changed(change: Callable[[Content], object]) -> Callable[[Content], Any]:
    def make(content: Content) -> Any:
        state = stepped(adamw(two_groups(parameters(content))))
        change(state)
        return state

    return make


def as_object(content: Content) -> torch.optim.Optimizer:
    """The optimizer itself, whose state has the parameters as its keys."""
    optimizer = adamw(two_groups({name: torch.nn.Parameter(p.detach()) for name, p in parameters(content).items()}))
    stepped(optimizer)
    return optimizer


def three_groups(named: Named) -> list[dict[str, Any]]:
    return [{"params": [p for _, p in group["params"]]} for group in named_groups(named)]


LOST: dict[str, tuple[Callable[[Content], Any], str]] = {
    "Lion": (of(Lion), "wte.weight has 'exp_avg', but AdamW has 'step', 'exp_avg' and 'exp_avg_sq'"),
    "Sophia": (of(Sophia), "its parameter groups have 'rho', which AdamW does not have"),
    "SGD": (of(lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9)), "'momentum', 'dampening', 'nesterov'"),
    "Adafactor": (of(torch.optim.Adafactor), "its parameter groups have 'beta2_decay', 'd', which AdamW does not have"),
    "NAdam": (of(torch.optim.NAdam), "which AdamW does not have"),
    "Muon alone": (
        of(torch.optim.Muon, lambda named: [p for p in named.values() if p.dim() == 2]),
        "which AdamW does not have",
    ),
    "amsgrad": (of(lambda groups: torch.optim.AdamW(groups, amsgrad=True)), "it was trained with amsgrad"),
    "maximize": (of(lambda groups: torch.optim.AdamW(groups, maximize=True)), "it was trained with maximize"),
    "Adam with L2": (of(torch.optim.Adam), "it is Adam with L2 regularisation"),
    "8-bit AdamW": (
        changed(lambda state: state["state"].update({0: {"step": 3, "state1": torch.ones(4), "state2": torch.ones(4)}})),
        "has 'step', 'state1', 'state2', but AdamW has",
    ),
    "a list of two": (
        lambda content: [of(adamw)(content), of(Lion)(content)],
        "it is a list of 2 optimizers, expected one AdamW",
    ),
    "an object": (lambda content: as_object(content), "it is an object of torch.optim.adamw.AdamW, expected its state_dict"),
    "a dict of two": (
        lambda content: {"adamw": of(adamw)(content), "muon": of(Lion)(content)},
        "has the keys 'adamw', 'muon'",
    ),
    "three groups": (
        of(adamw, three_groups),
        "groups have 8 + 18 + 2 parameters, expected 10 + 18 or 8 + 20 or 28",
    ),
    "groups in the other order": (of(adamw, lambda named: two_groups(named)[::-1]), "have 18 + 10 parameters"),
    "frozen embeddings": (of(adamw, lambda named: two_groups(dict(list(named.items())[2:]))), "have 8 + 18 parameters"),
    "another model": (
        lambda _: nanogpt_checkpoint(n_embd=8)["optimizer"],
        "shape (64, 8), but the parameter has (64, 16)",
    ),
    "a parameter of another model": (
        lambda content: by_name(of(adamw, lambda named: list(named.values()))(content), {str(i): i for i in range(28)}),  # type: ignore[misc]
        "it has a state of '0', which is not a parameter of this model",
    ),
    "NaN": (changed(lambda state: state["state"][3]["exp_avg"].view(-1)[5].fill_(float("nan"))), "contains NaN or infinity"),
    "infinity": (changed(lambda state: state["state"][9]["exp_avg_sq"].fill_(float("inf"))), "contains NaN or infinity"),
    "negative squares": (changed(lambda state: state["state"][0]["exp_avg_sq"].neg_()), "contains negative values"),
    "whole numbers": (
        changed(lambda state: state["state"][0].update(exp_avg=state["state"][0]["exp_avg"].int())),
        "is not a floating-point tensor",
    ),
    "a step that is NaN": (changed(lambda state: state["state"][0].update(step=float("nan"))), "not a valid step count"),
    "a step below 0": (changed(lambda state: state["state"][0].update(step=-1)), "not a valid step count"),
    "an entry without a moment": (
        changed(lambda state: state["state"][2].pop("exp_avg_sq")),
        "has 'step', 'exp_avg', but",
    ),
    "an entry of no group": (
        changed(lambda state: state["state"].update({99: state["state"][0]})),
        "not in its parameter",
    ),
    "no groups": (changed(lambda state: state.pop("param_groups")), "it has the keys 'state', expected 'state' and"),
    "a group without parameters": (
        changed(lambda state: state["param_groups"][1].pop("params")),
        "not lists of parameters",
    ),
    "a parameter twice": (
        changed(lambda state: state["param_groups"][1]["params"].__setitem__(0, 0)),
        "are not lists of different parameters",
    ),
    "no betas": (changed(lambda state: state["param_groups"][0].pop("betas")), "has no betas"),
    "a tensor": (lambda _: torch.ones(3), "it is a ndarray, expected the state dict of an AdamW"),
}


@pytest.mark.parametrize("name", LOST)
def test_another_optimizer_costs_the_optimizer_not_the_weights(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = LOST[name]
    content = nanogpt_checkpoint()
    content["optimizer"] = make(content)
    folder = imported(content, tmp_path)
    assert not folder.has_training_state
    said = f"{NOT_IMPORTED}: "
    [note] = notes_of(folder)
    assert note.startswith(said)
    assert reason in note
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith(said)] == [note]


@pytest.mark.parametrize("layout", ["netrain", "cache"])
def test_a_state_of_another_program_costs_the_optimizer_not_the_weights(tmp_path: Path, layout: str) -> None:
    """Of one whose order of parameters is unknown, and of NanEcho's with other groups."""
    if layout == "netrain":
        content = nanogpt_checkpoint()
        state = of(adamw)(content)
        content = {"model_state_dict": content["model"], "optimizer_state_dict": state, "global_step": 7}
        content["config"] = {"n_head": 2, "n_layer": 2, "n_embd": 16, "block_size": 16, "vocab_size": 64}
        reason = "the order in which this program numbers them is unknown"
    else:
        content = nanecho_checkpoint("cache", {name: tensor.clone() for name, tensor in state_dict().items()})
        content["optimizer_state_dict"]["param_groups"][0].update(params=[0])
        reason = "its parameter groups have 1 parameters, expected"
    folder = import_checkpoint(save(content, tmp_path / "a.pt"), tmp_path / "out", None, print)
    assert not folder.has_training_state
    assert reason in "".join(notes_of(folder))


def test_a_reported_optimizer_of_three_groups_costs_the_optimizer(
    echoself: Cli, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = cases / "checkpoints/a07b_opt_3groups"
    outputs = echoself(f"pull --checkpoint {case / 'ckpt.pt'}")
    assert_reference(Path(outputs["model_dir"]), case)
    said = f"{NOT_IMPORTED}: its parameter groups have 2 + 8 + 18 parameters, expected 10 + 18 or 8 + 20 or 28"
    assert said in capsys.readouterr().out
    assert f"| Optimizer | {escaped(said)}" in (tmp_path / "summary.md").read_text()


def test_a_reported_optimizer_of_early_nanogpt_is_taken_exactly(
    echoself: Cli, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = cases / "checkpoints/a25_old_optimizer"
    path = case / "ckpt.pt"
    folder = read_model_folder(Path(echoself(f"pull --checkpoint {path}")["model_dir"]))
    assert_reference(folder.path, case)
    assert "did not decay embeddings" in capsys.readouterr().out
    content = torch.load(path, weights_only=True)
    named = {name: tensor for name, tensor in parameters(content).items() if not name.endswith(".attn.bias")}
    order = [p for group in early_groups(named) for p in group["params"]]
    names = [next(name for name in named if named[name] is p) for p in order]
    state = {name: content["optimizer"]["state"][i] for i, name in enumerate(names)}
    expected = {f"{kind}.{name}": one[kind] for name, one in state.items() for kind in ("exp_avg", "exp_avg_sq")}
    assert_moments(folder, gpt2_names(expected) | {f"steps.{name}": one["step"] for name, one in state.items()})
    assert folder.metadata
    assert folder.metadata.settings["beta2"] == 0.95


@pytest.mark.parametrize("name", ["Lion", "NaN"])
def test_training_resumes_from_the_weights_without_the_optimizer(
    echoself: Cli, workspace: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = nanogpt_checkpoint()
    content["optimizer"] = LOST[name][0](content)
    save(content, workspace / "ckpt.pt")
    (workspace / "bins").mkdir()
    for part in ("train.bin", "val.bin"):
        np.random.default_rng(0).integers(0, 64, 5000).astype(np.uint16).tofile(workspace / "bins" / part)
    trained = echoself("train --checkpoint ckpt.pt --data bins/*.bin --max-iters 5 --batch-size 4 --device cpu")
    assert int(trained["step"]) >= 7
    said = capsys.readouterr().out
    assert f"{NOT_IMPORTED}: " in said
    assert "resuming from its weights at step 7, with a new optimizer state" in said


def test_the_export_of_a_model_that_muon_trained_loads_and_is_taken_back(
    echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tests/formats/test_nanogpt_train.py runs nanoGPT's train.py on such files."""
    trained = echoself(f"train --data docs/*.md {SMALL} --optimizer muon --tokenizer bytes")["checkpoint"]
    echoself(f"pull --checkpoint {trained} --output-dir pulled --formats nanogpt")
    said = "Muon's momentum of 8 matrices was not exported, because AdamW can't use it"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "summary.md").read_text()

    path = Path("pulled/nanogpt/ckpt.pt")
    content = torch.load(path, weights_only=True)
    named = parameters(content)
    optimizer = adamw(two_groups(named))
    optimizer.load_state_dict(content["optimizer"])  # as train.py does
    assert {name for name, p in named.items() if optimizer.state[p]} == {name for name in named if not name.endswith(LINEAR)}
    assert_moments_of_adamw(Path(trained), named, optimizer)
    stepped(optimizer, 1)

    back = echoself(
        f"train --checkpoint {path} --data docs/*.md {SMALL} --output-dir again --tokenizer {trained}/tokenizer.json"
    )
    assert int(back["step"]) > content["iter_num"]
    assert "its optimizer state has 20 of the 28 parameters; the others start with a new one" in capsys.readouterr().out
    imported_back = load_file(f"again/checkpoint-{content['iter_num']}/model.safetensors")
    assert_same(imported_back, load_file(f"{trained}/model.safetensors"))


def test_a_nanecho_cache_of_a_model_that_muon_trained_is_taken_back(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    trained = echoself(f"train --data docs/*.md {SMALL} --optimizer muon --tokenizer bytes")["checkpoint"]
    echoself(f"pull --checkpoint {trained} --output-dir pulled --formats nanecho")
    assert "Muon's momentum of 8 matrices was not exported" in capsys.readouterr().out
    [path] = Path("pulled/nanecho/cache/checkpoints").iterdir()
    back = echoself(f"pull --checkpoint {path} --output-dir again --tokenizer {trained}/tokenizer.json")["model_dir"]
    assert "the others start with a new one" in capsys.readouterr().out
    found = {name: tensor for name, tensor in load_file(f"{back}/model.safetensors").items() if tensor.any()}
    assert_same(found, {name: t for name, t in load_file(f"{trained}/model.safetensors").items() if t.any()})


def assert_moments_of_adamw(folder: Path, named: Named, optimizer: torch.optim.Optimizer) -> None:
    kept = load_file(folder / "training_state/optimizer.safetensors")
    expected = {name: tensor for name, tensor in kept.items() if not name.startswith("momentum.")}
    assert_same(expected_moments({name: p for name, p in named.items() if optimizer.state[p]}, optimizer), expected)


def assert_same(found: Named, expected: Named) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
