"""Every checkpoint layout is imported, published, loaded from the Hub by transformers with the original's logits, pulled, and
exported to its own layout, bit for bit the same."""

import pickle
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import certifi
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants, hf_api
from localhub import LocalHub
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, dynamic_module_utils

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.hub.huggingface_compat import xet_disabled

from ..conftest import Cli
from . import foreign_files, nanecho_files
from .foreign_files import declares_heads, gpt2_weights, nanogpt_checkpoint, of_layout, save
from .nanecho_files import EXTRAS, nanecho_checkpoint, state_dict
from .original_arithmetic import NanEcho, NanoGPT

CLOSE = 1e-5
PREFIXES = ("", "_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.")


@dataclass(frozen=True)
class Source:
    """A checkpoint as its program has it, at `file`, and that program's model with `weights`, without name prefixes.

    `words` are what the user has to say besides. `characters` are its vocabulary, which lies at `meta`. `recorded` are
    (current_iteration, ids, logits) from the program itself.
    """

    content: dict[str, Any]
    weights: dict[str, Tensor]
    original: NanoGPT | NanEcho
    file: Path = Path("out/ckpt.pt")
    words: str = ""
    characters: str = ""
    meta: str = "out/meta.pkl"
    remote_code: bool = False
    recorded: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.original.load_state_dict(self.weights)
        self.original.eval()


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def nanogpt(prefix: str = "", *, vocab_size: int = 64, bias: bool = True, dataset: str = "none", **facts: str) -> Source:
    content = nanogpt_checkpoint(vocab_size=vocab_size, bias=bias, dataset=dataset, n_embd=8)
    weights = content["model"]
    content["model"] = prefixed(weights, prefix)
    return Source(content, weights, NanoGPT(content["model_args"]), **facts)  # type: ignore[arg-type]


def nanogpt_before_flash_attention() -> Source:
    """With its mask as a buffer, and without the head that is the embedding, as some tools save it."""
    source = nanogpt()
    model = source.content["model"] = dict(source.weights)
    del model["lm_head.weight"]
    model |= {f"transformer.h.{layer}.attn.bias": torch.ones(16, 16).tril()[None, None] for layer in range(2)}
    model["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    return source


def gpt2(layout: str, prefix: str) -> Source:
    """nanoGPT's model in the file of another trainer, some of which omit `transformer.`."""
    root = "" if prefix.endswith("module.") else "transformer."
    content = of_layout(layout, gpt2_weights(linear=True, prefix=prefix, root=root))
    words = "" if declares_heads(layout) else "--n-head 2"
    return Source(content, gpt2_weights(linear=True), NanoGPT(foreign_files.SIZES), Path("out/model.pt"), words)


def nanecho(layout: str, prefix: str = "", *, built: int = 8, remote_code: bool = True, **declared: Any) -> Source:
    """NanEcho's model, of one block, which has every extra that is not declared to be off.

    Older versions built only the first four of the dimensions that are declared. What does not say at which iteration it was
    saved counts from 0.
    """
    declared = {"n_layer": 1, "n_embd": 8} | declared
    names = declared.get("persona_dimensions", nanecho_files.PERSONA_DIMENSIONS)[:built]
    shape = {name: value for name, value in declared.items() if name not in ("persona_dimensions", "dimension_weights")}
    weights = state_dict(dimensions=names, **shape)
    content = nanecho_checkpoint(layout, prefixed(weights, prefix), iteration=6000, **declared)
    iteration = {"fallback": 0, "by epochs": 0, "raw": 0, "cache": 5999}.get(layout, 6000)
    original = NanEcho(nanecho_files.SIZES | declared, iteration, built)
    file = {"cache": "cache/checkpoints/ckpt_1.pt", "export": "best_model_export.pt", "fallback": "best_model_export.pt"}
    words = "--n-head 2" if layout in ("by epochs", "by losses", "raw") else ""
    return Source(content, weights, original, Path("out", file.get(layout, "best_model.pt")), words, remote_code=remote_code)


def off(*extras: str) -> dict[str, bool]:
    return {f"enable_{name}": False for name in extras}


ALL_CONNECTIONS = {"initial_connections": 1.0}
GPT2 = {"remote_code": False, **off(*EXTRAS), **ALL_CONNECTIONS}  # what NanEcho is with nothing of its own
PHASE = {"dimension_weights": {"cognitive": 0.7, "adaptive": 0.0, "dynamic": 0.3}}  # 0.125 where it names none
FOUR = {"persona_dimensions": ["cognitive", "introspective", "adaptive", "recursive"]}
LETTERS = "\n !abcdefghijklmnopqrstuvwxyzéß€"
SOURCES: dict[str, Callable[[], Source]] = {
    "nanoGPT": nanogpt,
    "nanoGPT, no biases": partial(nanogpt, bias=False),
    "nanoGPT, compiled": partial(nanogpt, "_orig_mod."),
    "nanoGPT, of several processes, no biases": partial(nanogpt, "module.", bias=False),
    "nanoGPT, mask buffers and no head": nanogpt_before_flash_attention,
    "nanoGPT, characters of its dataset": partial(
        nanogpt,
        "_orig_mod.module.",
        vocab_size=len(LETTERS),
        dataset="letters",
        characters=LETTERS,
        meta="data/letters/meta.pkl",
    ),
    "nanoGPT, padded vocabulary": partial(nanogpt, "module._orig_mod.", characters=LETTERS),
    **{f"GPT-2 in {name}": partial(gpt2, name, prefix) for name, prefix in zip(foreign_files.LAYOUTS, cycle(PREFIXES))},
    "NanEcho train_nanecho": partial(nanecho, "train_nanecho"),
    "NanEcho train_nanecho, weights of a phase": partial(nanecho, "train_nanecho", "_orig_mod.", **PHASE),
    "NanEcho train_nanecho, older": partial(nanecho, "train_nanecho", built=4, **PHASE),
    "NanEcho cache": partial(nanecho, "cache"),
    "NanEcho cache, older": partial(nanecho, "cache", "module.", built=4),
    "NanEcho best_model_export": partial(nanecho, "export", "_orig_mod."),
    "NanEcho fallback export, older": partial(nanecho, "fallback", "module.", built=4),
    "NanEcho native export": partial(nanecho, "native"),
    "NanEcho in echoself pull": partial(nanecho, "pull", "_orig_mod.module."),
    "NanEcho in netrain": partial(nanecho, "netrain", "module._orig_mod.", built=4),
    "NanEcho in another EchoSelf trainer, by steps, four dimensions, no biases": partial(
        nanecho, "by steps", bias=False, **FOUR
    ),
    "NanEcho in another EchoSelf trainer, by epochs": partial(nanecho, "by epochs", "module.", built=4),
    "NanEcho in another EchoSelf trainer, with its losses": partial(nanecho, "by losses", built=4),
    "NanEcho in older export": partial(nanecho, "older", built=4),
    "NanEcho, a state dict and nothing else": partial(nanecho, "raw", "_orig_mod.", built=4),
    **{
        f"NanEcho, {name} alone": partial(nanecho, "native", **off(*EXTRAS[:i], *EXTRAS[i + 1 :]), **ALL_CONNECTIONS)
        for i, name in enumerate(EXTRAS)
    },
    "NanEcho, no extras": partial(nanecho, "train_nanecho", **GPT2),
    "NanEcho, no extras, no biases": partial(nanecho, "train_nanecho", bias=False, **GPT2),
    "NanEcho, no extras, connections missing": partial(nanecho, "native", **off(*EXTRAS)),
}


def recorded_nanogpt(shared: Path, name: str) -> Source:
    folder = shared / "fixtures/nanogpt" / name
    content = torch.load(folder / "ckpt.pt", weights_only=True)
    weights = {key.removeprefix("_orig_mod."): tensor for key, tensor in content["model"].items()}
    logits = [(0, *arrays(folder, "input_ids.npy", "logits_original.npy"))]
    return Source(content, weights, NanoGPT(content["model_args"]), folder / "ckpt.pt", recorded=logits)


def recorded_nanecho(shared: Path, name: str) -> Source:
    path = shared / f"fixtures/nanecho/{name}.pt"
    content = nanecho_files.load(path)
    original = NanEcho(content["model_config"], content.get("current_iteration", 40))
    logits = [
        (iteration, *arrays(path.parent, f"{path.stem}.input_ids.npy", f"{path.stem}.logits_noinject_iter{iteration}.npy"))
        for iteration in (0, 10000)
    ]
    return Source(content, content["model_state_dict"], original, path, remote_code=True, recorded=logits)


def untransposed(shared: Path) -> Source:
    """What EchoSelf's converter makes of a nanoGPT checkpoint: complete, but not transposed."""
    nanogpts = recorded_nanogpt(shared, "bias_true")
    path = shared / "fixtures/echoself_hub/untransposed/pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    return Source(weights, weights, nanogpts.original, path, recorded=nanogpts.recorded)


def arrays(folder: Path, *names: str) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.load(folder / name)) for name in names)


RECORDED: dict[str, Callable[[Path], Source]] = {
    "nanoGPT": partial(recorded_nanogpt, name="bias_true"),
    "nanoGPT, compiled": partial(recorded_nanogpt, name="compiled_orig_mod"),
    "nanoGPT, converted": untransposed,
    "NanEcho train_nanecho": partial(recorded_nanecho, name="train_nanecho_best_model"),
    "NanEcho best_model_export": partial(recorded_nanecho, name="best_model_export"),
    "NanEcho cache": partial(recorded_nanecho, name="cache/checkpoints/ckpt_20261124_035214_40_dca8f64e_44a379d7"),
}


def one_certificate(folder: Path) -> Path:
    """A file with one certificate of an authority: hf_xet does not start without any."""
    first = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----")
    file = folder / "certificate.pem"
    file.write_text("".join(first[:2]) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Hub for all of them; it is also where transformers looks, as HF_ENDPOINT would have it from the start."""
    memory = Path("/dev/shm")  # noqa: S108
    cache = tmp_path_factory.mktemp("cache")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        LocalHub(Path(folder)) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        file_urls = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        patch.setattr(constants, "ENDPOINT", server.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + file_urls)
        patch.setattr(hf_api.api, "endpoint", server.url)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(cache / "modules"))
        patch.delenv("SSL_CERT_DIR", raising=False)
        patch.setenv("SSL_CERT_FILE", str(one_certificate(cache)))  # a client that reads all of the machine's takes 50 ms
        yield server.url


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one: nothing is trained here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def from_hub(repo_id: str, *, remote_code: bool) -> Any:
    stock, loading_info = AutoModelForCausalLM.from_pretrained(repo_id, trust_remote_code=remote_code, output_loading_info=True)
    assert not any(loading_info.values())
    assert remote_code or type(stock) is GPT2LMHeadModel
    return stock.eval()


@torch.no_grad()
def check_logits(source: Source, stock: Any) -> None:
    """Checked at several iterations, because NanEcho's logits depend on it."""
    original = source.original
    length, vocab_size = original.block_size, len(source.weights["lm_head.weight"])
    ids = torch.randint(vocab_size, (3, length), generator=torch.Generator().manual_seed(0))
    asked = [(getattr(stock.config, "current_iteration", 0), ids, original(ids)), *source.recorded]
    if isinstance(original, NanEcho) and source.remote_code:
        assert stock.config.current_iteration == original.current_iteration
        for original.current_iteration in (0, 10000):
            asked.append((original.current_iteration, ids, original(ids)))
    for iteration, text, expected in asked:
        stock.config.current_iteration = iteration
        torch.testing.assert_close(stock(text).logits, expected, atol=CLOSE, rtol=0)


def same(after: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    """Names, shapes and bytes."""
    assert after.keys() == before.keys()
    assert [name for name in before if after[name].shape != before[name].shape] == []
    assert [name for name in before if after[name].numpy().tobytes() != before[name].numpy().tobytes()] == []


def check_handed_back(source: Source) -> None:
    """Weights, optimizer state, and for nanoGPT the values that its run resumes with."""
    if isinstance(source.original, NanoGPT):
        back = torch.load("pulled/nanogpt/ckpt.pt", weights_only=True)
        same(back["model"], source.weights)
        assert back["model"]["lm_head.weight"].data_ptr() == back["model"]["transformer.wte.weight"].data_ptr()
        ours, theirs = back["optimizer"], source.content.get("optimizer", {})
        for name in source.content.keys() & {"model_args", "iter_num", "best_val_loss"}:
            assert back[name] == source.content[name]
    else:
        [path] = Path("pulled/nanecho/cache/checkpoints").iterdir()
        back = torch.load(path, weights_only=True)
        same(back["model_state_dict"], source.weights)
        ours, theirs = back["optimizer_state_dict"], source.content.get("optimizer_state_dict", {})
    assert ours["state"].keys() == theirs.get("state", {}).keys()
    if ours["state"]:
        assert [group["params"] for group in ours["param_groups"]] == [group["params"] for group in theirs["param_groups"]]
    for index, moments in ours["state"].items():
        same(moments, {name: torch.as_tensor(value) for name, value in theirs["state"][index].items()})


def round_trip(echoself: Cli, hub: str, repo_id: str, source: Source) -> None:
    where = f"--hub {hub} --repo-id {repo_id}"
    assert echoself(f"deploy {where} --checkpoint {source.file} {source.words}")["deployed"] == "true"
    check_logits(source, from_hub(repo_id, remote_code=source.remote_code))
    if source.characters:
        tokenizer: Any = AutoTokenizer.from_pretrained(repo_id)
        assert tokenizer("oné !\nß€")["input_ids"] == [source.characters.index(one) for one in "oné !\nß€"]
    layout = "nanogpt" if isinstance(source.original, NanoGPT) else "nanecho"
    echoself(f"pull {where} --output-dir pulled --formats {layout}")
    check_handed_back(source)


def named(kind: str, name: str) -> str:
    return f"{kind}/{re.sub('[^A-Za-z0-9]+', '-', name)}"


@pytest.mark.parametrize("name", SOURCES)
def test_a_layout_round_trips(echoself: Cli, hub: str, workspace: Path, name: str) -> None:
    source = SOURCES[name]()
    save(source.content, workspace / source.file)
    if letters := source.characters:
        vocabulary = {"itos": dict(enumerate(letters)), "stoi": {letter: i for i, letter in enumerate(letters)}}
        (workspace / source.meta).parent.mkdir(parents=True, exist_ok=True)
        (workspace / source.meta).write_bytes(pickle.dumps({"vocab_size": len(letters)} | vocabulary))
    round_trip(echoself, hub, named("made", name), source)


@pytest.mark.parametrize("name", RECORDED)
def test_a_checkpoint_of_an_original_trainer_round_trips(echoself: Cli, hub: str, shared: Path, name: str) -> None:
    round_trip(echoself, hub, named("real", name), RECORDED[name](shared))


def test_every_recorded_checkpoint_is_tested(shared: Path) -> None:
    """Except the one that is not a checkpoint, which is in tests/formats/test_diagnose_pickled_folder.py."""
    there = [
        path for path in (shared / "fixtures").rglob("*") if path.suffix in (".pt", ".bin") and "one_tensor" not in path.parts
    ]
    assert {read(shared).file for read in RECORDED.values()} == set(there)


@pytest.mark.parametrize("door", ["pull", "deploy"])
@pytest.mark.usefixtures("workspace")
def test_a_pickled_model_of_transformers_round_trips(echoself: Cli, hub: str, door: str) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=257, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    original: Any = GPT2LMHeadModel(config).eval()
    config.save_pretrained("old")
    torch.save(original.state_dict(), "old/pytorch_model.bin")
    make_tokenizer("bytes", lambda: iter(())).save(Path("old"))
    taken = "old"
    if door == "pull":
        api = HfApi(hub, token=False)
        api.create_repo("stock/pulled")
        with xet_disabled():  # another client than ours, which uploads by LFS
            api.upload_folder(repo_id="stock/pulled", folder_path="old")
        taken = echoself(f"pull --hub {hub} --repo-id stock/pulled")["model_dir"]
    where = f"--hub {hub} --repo-id stock/from-{door}"
    assert echoself(f"deploy {where} --checkpoint {taken}")["deployed"] == "true"
    ids = torch.arange(48).view(3, 16)
    with torch.no_grad():
        assert torch.equal(from_hub(f"stock/from-{door}", remote_code=False)(ids).logits, original(ids).logits)
    pulled = echoself(f"pull {where} --output-dir pulled")["model_dir"]
    same(load_file(f"{pulled}/model.safetensors"), {n: t for n, t in original.state_dict().items() if n != "lm_head.weight"})
