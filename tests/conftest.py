"""Shared fixtures. The corpora and checkpoints in ../shared belong to the developers' machines: elsewhere their tests skip."""

import os
import tempfile

# Isolation only: no variable that changes what the program does, unless its users set it too.
# pytest-xdist runs a process on every core, and PyTorch would start as many threads in each of them
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The account and cache of the user who runs the tests. huggingface_hub and transformers read these once, when they are imported
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="echoself-hf-")
os.environ.pop("HF_TOKEN", None)
os.environ.pop("HF_ENDPOINT", None)

import fcntl
import gc
import hashlib
import json
import platform
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.utils import _http

import hatch_build
from echoself_action import native
from echoself_action.__main__ import main
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokens import Tokens
from echoself_action.hub import retry
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.modes import deploy
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.run import Data
from echoself_action.training.settings import TrainingSettings

# a shell has what it starts in the background ignore this, and what that starts, too
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
SCENES = sorted((ROOT / "tests/data/scenes").glob("*.md"))  # 40 files of 5 kB, which no change of the code changes
SHARED = ROOT.parent / "shared"

Cli = Callable[..., dict[str, str]]
Left = Callable[..., tuple[Path, dict[str, str]]]
Once = Callable[[str, Callable[[Path], Any]], tuple[Path, Any]]

SMALL = "--n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --batch-size 4 --max-iters 20 --eval-interval 10 --device cpu"
SMALL += " --preset ci --learning-rate 1e-3"  # slow enough for the last step to be the best
DOCUMENTS = {scene.name: scene for scene in SCENES}


def training_settings(**changes: Any) -> TrainingSettings:
    """Settings of a run that takes a second, on the CPU in fp32."""
    values: dict[str, Any] = {
        "max_iters": 20,
        "max_minutes": 0,
        "total_iters": None,
        "decay": 0.2,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "optimizer": "muon",
        "learning_rate": 1e-2,
        "warmup": None,
        "weight_decay": 0.1,
        "input_noise": 0.0,
        "grad_clip": 1.0,
        "seed": 1,
        "dtype": "float32",
        "compile": "auto",
        "device": "cpu",
        "eval_interval": 10,
        "eval_tokens": 1024,
        "checkpoint_interval": 10,
        "checkpoint_minutes": 0,
        "log_interval": 5,
        "keep_checkpoints": 3,
    }
    return TrainingSettings(**(values | changes))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real corpora and checkpoints. Skips where it is missing, unless ECHOSELF_REQUIRE_SHARED is true."""
    if SHARED.is_dir():
        return SHARED
    if os.environ.get("ECHOSELF_REQUIRE_SHARED") == "true":
        pytest.fail(f"{SHARED} is missing, and with ECHOSELF_REQUIRE_SHARED=true its tests must run")
    pytest.skip(f"{SHARED} is not on this machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a longer limit than others begin first: at the end, all other processes would wait for them."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_collection_finish() -> None:
    """A tenth of the CPU time of all tests would be searches of the imported libraries for garbage."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_sessionfinish() -> None:
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the account, the cache or the job of whoever runs it."""
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS", "ECHOSELF_INPUTS"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("hf")
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    if SHARED.is_dir():
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(SHARED / "tiktoken"))


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a Hub, ours and those of huggingface_hub, and for the winner of a race, are short."""
    monkeypatch.setattr(retry, "WAITS", (0.1, 0.1, 0.1, 0.1))
    monkeypatch.setattr(deploy, "_WAITS", (0.1, 0.1, 0.1, 0))
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10)))


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """Tokens of 200 kB of fixed text, as bytes."""
    cache = tmp_path_factory.mktemp("tokens")
    return prepare_tokens(SCENES, make_tokenizer("bytes", lambda: iter(())), cache, 0.1, "skip", print)


@pytest.fixture
def small_config() -> GPT2Config:
    return GPT2Config(vocab_size=257, block_size=32, n_layer=2, n_head=2, n_embd=16)


@pytest.fixture
def native_code() -> None:
    """The native kernels can be used. Skips where this CPU or its compiler has none; in CI they must have been compiled."""
    require_native_code()


def require_native_code() -> None:
    compiler = shutil.which(shlex.split(os.environ.get("CC", "cc"))[0])
    sets = hatch_build.INSTRUCTION_SETS.get(platform.machine())
    if os.environ.get("CI") == "true" and platform.system() == "Linux" and sets and compiler:
        error = native.load_error()
        assert error is None, f"native kernels must be compiled under CI=true, and {compiler} is installed: {error}"
        assert native._compiled() == list(sets), "native kernels must be compiled for all instruction sets under CI=true"
    if not native.fastest_dtype():
        pytest.skip(f"native kernels can't be used: {native.why_not(torch.float32)}")


@pytest.fixture
def two_cores() -> Iterator[None]:
    """PyTorch computes with two threads, as it does where there are two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model_folder(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> ModelFolder:
    """An untrained model with all that a checkpoint has."""
    run = new_run(small_config, Data(tokens, ["**/*.md"]), training_settings())
    return run.snapshot(tmp_path / "model", {}).write()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with some text of its own, as the current folder."""
    folder = tmp_path / "workspace"
    write_documents(folder, DOCUMENTS)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def echoself(workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, short_waits: None) -> Cli:
    """The command line; gives the outputs that a workflow would see."""
    return command_line(monkeypatch, tmp_path)


@pytest.fixture
def begun(workspace: Path, left_by: Left) -> Cli:
    """What commands leave in the workspace, and the outputs of the last: for those that a test begins with and is not about.

    They are run once for all tests, over the documents that are here, and what they leave is copied.
    """

    def begin(*commands: str) -> dict[str, str]:
        folder, outputs = left_by(tuple(sorted(path.name for path in Path("docs").iterdir())), *commands)
        shutil.copytree(folder, workspace, dirs_exist_ok=True)
        return dict(outputs)

    return begin


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: a folder that `make` has filled, which nobody may change, and what `make` returned, as JSON has it.

    The first process of pytest-xdist that needs it makes it, for all of them.
    """
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "once"
    place.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
        folder, returned = place / name, place / f"{name}.json"
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not returned.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
                folder.mkdir()
                returned.write_text(json.dumps(make(folder)))
        return folder, json.loads(returned.read_text())

    return made


@pytest.fixture(scope="session")
def left_by(once: Once) -> Left:
    """A workspace with these documents after these commands, which nobody may change, and the outputs of the last."""

    def run(documents: tuple[str, ...], *commands: str) -> tuple[Path, dict[str, str]]:
        def make(folder: Path) -> dict[str, str]:
            workspace = folder / "workspace"
            if before := commands[:-1]:
                shutil.copytree(run(documents, *before)[0], workspace)
            else:
                write_documents(workspace, documents)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(workspace)
                for name in [name for name in os.environ if name.startswith(("GITHUB_", "ACTIONS_", "HF_TOKEN"))]:
                    patch.delenv(name)  # whichever test asks first: what it says of its job is not for others
                return command_line(patch, folder)(commands[-1])

        key = hashlib.sha256(repr((documents, commands)).encode()).hexdigest()[:16]
        folder, outputs = once(f"left-{key}", make)
        return folder / "workspace", outputs

    return run


def write_documents(folder: Path, names: Iterable[str]) -> None:
    (folder / "docs").mkdir(parents=True)
    for name in sorted(names):
        (folder / "docs" / name).write_text(DOCUMENTS[name].read_text())


def contents(output_dir: Path) -> list[str]:
    """The names of what a run left in its output_dir, but for the .gitignore that it makes there."""
    return sorted(path.name for path in output_dir.iterdir() if path.name != ".gitignore")


def command_line(patch: pytest.MonkeyPatch, place: Path) -> Cli:
    """The command line, with the files of its job in `place`."""

    def run(*words: str, code: int = 0) -> dict[str, str]:
        outputs = place / "outputs"
        outputs.write_text("")
        patch.setenv("GITHUB_OUTPUT", str(outputs))
        patch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
        assert main([part for word in words for part in word.split()]) == code
        return dict(re.findall(r"(\w+)<<(?:\S+)\n(.*)\n\S+\n", outputs.read_text()))

    return run
