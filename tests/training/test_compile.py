"""Steps that are compiled: what they compute, when they are, and what a run that goes on makes of it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.__main__ import main
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.select import resumable
from echoself_action.checkpoint.weights import new_model
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import InputError, TrainingError
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.nanecho import NanEchoConfig
from echoself_action.training.compiled import pays, why_not
from echoself_action.training.init_or_resume import continued, fresh
from echoself_action.training.result import Listeners, Result
from echoself_action.training.run import Data, Run
from echoself_action.training.settings import TrainingSettings
from echoself_action.training.stop import StopRequest
from echoself_action.training.train_step import Stepper
from echoself_action.training.trainer import train
from echoself_action.training.training_state import read_state
from tests.conftest import training_settings

CPU, GPU = torch.device("cpu"), torch.device("cuda")
compiles = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ here")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own, and no programs that try out each instruction set of this CPU: they take longer than a model."""
    from torch._inductor import config

    with pytest.MonkeyPatch.context() as patch, config.patch({"cpp.vec_isa_ok": True}):
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture
def config() -> GPT2Config:
    return GPT2Config(vocab_size=257, block_size=32, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture
def broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A compiler that compiles nothing, and no cache of what another one compiled."""
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch.compiler.reset()
    with config.patch({"cpp.cxx": (None, "/bin/false"), "force_disable_caches": True}):
        yield
    torch.compiler.reset()


def settings(**changes: Any) -> TrainingSettings:
    return training_settings(**({"dtype": "bfloat16"} | changes))


def a_run(tokens: Tokens, config: GPT2Config, **changes: Any) -> Run:
    return fresh(config, Data(tokens, []), settings(**changes))


def trained(run: Run, place: Path, notes: list[str] | None = None, warnings: list[str] | None = None) -> Result:
    say = (lambda _: None) if notes is None else notes.append
    return train(
        run, place, StopRequest(), Listeners(lambda _: None, pytest.fail if warnings is None else warnings.append, say)
    )


def tensors(folder: ModelFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.path / "model.safetensors") | load_file(folder.path / "training_state/optimizer.safetensors")


def is_compiled(folder: ModelFolder) -> bool:
    assert folder.metadata
    return read_state(folder.path, folder.metadata.weights_sha256)[0].compiled


@compiles
def test_it_computes_what_is_computed_without(tokens: Tokens, config: GPT2Config, tmp_path: Path) -> None:
    notes: list[str] = []
    compiled = trained(a_run(tokens, config, compile="true"), tmp_path / "compiled", notes)
    plain = trained(a_run(tokens, config, compile="false"), tmp_path / "plain")
    assert notes == ["compiling the model"]
    assert compiled.compiling_s > 0
    assert plain.compiling_s == 0
    assert (is_compiled(compiled.latest), is_compiled(plain.latest)) == (True, False)
    one, other = tensors(compiled.latest), tensors(plain.latest)
    assert one.keys() == other.keys()
    assert compiled.latest.metadata
    assert plain.latest.metadata
    assert compiled.latest.metadata.val_loss == pytest.approx(plain.latest.metadata.val_loss, rel=1e-3)
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())  # else nothing was compiled


@compiles
@pytest.mark.parametrize("cores", [1, 2])
def test_a_model_whose_first_steps_tell_that_it_pays_stays_compiled_and_goes_on_to_the_same_bits(
    two_cores: None, monkeypatch: pytest.MonkeyPatch, tokens: Tokens, config: GPT2Config, tmp_path: Path, cores: int
) -> None:
    torch.set_num_threads(cores)
    monkeypatch.setattr("echoself_action.training.compiled._SECONDS", 0.0)
    every = {"decay": 0, "warmup": 2}
    notes: list[str] = []
    long = trained(a_run(tokens, config, max_iters=30, **every), tmp_path / "long", notes).latest
    assert notes == ["compiling the model"]
    assert is_compiled(long)
    place = tmp_path / "parts"
    trained(a_run(tokens, config, max_iters=13, **every), place)
    assert not is_compiled(resumable(place)[0])
    for steps in (11, 6):  # compiled after seven of them, and from their start
        changes = {"max_iters": steps, **every}
        trained(continued(resumable(place)[0], Data(tokens, []), settings(**changes), pytest.fail), place)
    parts = resumable(place)[0]
    assert parts.step == long.step == 30
    one, other = tensors(long), tensors(parts)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@compiles
def test_a_model_that_was_compiled_from_its_start_stays_so_where_it_would_not_pay(
    tokens: Tokens, config: GPT2Config, tmp_path: Path
) -> None:
    trained(a_run(tokens, config, compile="true", max_iters=10, decay=0), tmp_path)
    run = continued(resumable(tmp_path)[0], Data(tokens, []), settings(decay=0, max_iters=15), pytest.fail)
    assert is_compiled(trained(run, tmp_path).latest)


@compiles
def test_smaller_batches_are_compiled_too(
    monkeypatch: pytest.MonkeyPatch, tokens: Tokens, config: GPT2Config, tmp_path: Path
) -> None:
    run = a_run(tokens, config, compile="true", max_iters=6)
    warnings: list[str] = []
    gradients, failing = Stepper.gradients, [True]

    def too_much_once(stepper: Stepper) -> torch.Tensor:
        if run.step == 3 and failing:
            failing.clear()
            raise MemoryError("of a test")
        return gradients(stepper)

    monkeypatch.setattr(Stepper, "gradients", too_much_once)
    result = trained(run, tmp_path, warnings=warnings)
    assert run.settings.batch_size == 2
    assert len(warnings) == 1
    assert "batches of 2" in warnings[0]
    assert is_compiled(result.latest)


@compiles
def test_a_compiler_that_fails_is_said_and_training_goes_on_as_without(
    broken_compiler: None, monkeypatch: pytest.MonkeyPatch, tokens: Tokens, config: GPT2Config, tmp_path: Path
) -> None:
    monkeypatch.setattr("echoself_action.training.compiled._SECONDS", 0.0)
    warnings: list[str] = []
    result = trained(a_run(tokens, config, max_iters=25), tmp_path / "auto", warnings=warnings)
    assert len(warnings) == 1
    assert warnings[0].startswith("The model could not be compiled: ")
    assert warnings[0].endswith("Training goes on as it was.")
    assert not is_compiled(result.latest)
    plain = trained(a_run(tokens, config, max_iters=25, compile="false"), tmp_path / "plain")
    one, other = tensors(result.latest), tensors(plain.latest)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@compiles
def test_a_compiler_that_fails_ends_a_run_that_was_to_be_compiled(
    broken_compiler: None, tokens: Tokens, config: GPT2Config, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"compile: true was asked for, and the model could not be compiled: .+ at step 0"):
        trained(a_run(tokens, config, compile="true"), tmp_path)


def test_what_cant_be_compiled_is_said(monkeypatch: pytest.MonkeyPatch, config: GPT2Config, tmp_path: Path) -> None:
    model, dropping = GPT2(config), GPT2(replace(config, dropout=0.1))
    nanecho = new_model(NanEchoConfig(vocab_size=257, n_embd=16, n_head=2, n_layer=2, block_size=16))
    assert "architecture: gpt2" in (why_not(nanecho, CPU, False) or "")
    assert "sharding: full" in (why_not(model, CPU, True) or "")
    assert "dropout: 0" in (why_not(dropping, CPU, False) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert why_not(model, CPU, False) == "it takes a compiler, and there is no g++ on the PATH"
    monkeypatch.setenv("CXX", "c++-of-mine")
    assert "there is no c++-of-mine" in (why_not(model, CPU, False) or "")
    (tmp_path / "c++-of-mine").write_text("")
    (tmp_path / "c++-of-mine").chmod(0o755)
    assert why_not(model, CPU, False) is None


def test_compile_true_is_refused_where_it_cant_be_and_auto_goes_on_without(
    tokens: Tokens, config: GPT2Config, tmp_path: Path
) -> None:
    dropping = replace(config, dropout=0.1)
    with pytest.raises(InputError, match=r"can't be compiled here: on a CPU it takes dropout: 0.*Nothing was trained"):
        a_run(tokens, dropping, compile="true")
    assert not a_run(tokens, dropping, compile="auto").compiled


@compiles
def test_a_run_that_cant_go_on_compiled_says_so(tokens: Tokens, config: GPT2Config, tmp_path: Path) -> None:
    trained(a_run(tokens, config, compile="true", max_iters=2, decay=0), tmp_path)
    start = resumable(tmp_path)[0]
    notes: list[str] = []
    assert continued(start, Data(tokens, []), settings(decay=0), notes.append).compiled
    assert notes == []
    assert not continued(start, Data(tokens, []), settings(decay=0, compile="false"), notes.append).compiled
    dropping = replace(start, config=replace(config, dropout=0.1))
    assert not continued(dropping, Data(tokens, []), settings(decay=0), notes.append).compiled
    assert notes == ["compiled was True and is now False: other rounding from here on."] * 2


def test_it_pays_where_the_steps_to_go_repay_it_twice() -> None:
    narrow, wide = (GPT2(GPT2Config(vocab_size=64, block_size=8, n_layer=1, n_head=1, n_embd=width)) for width in (256, 384))
    assert not pays(narrow, CPU, 1100)
    assert pays(narrow, CPU, 1200)
    assert not pays(wide, CPU, 1e9)
    assert not pays(wide, GPU, 300)
    assert pays(wide, GPU, 400)


@pytest.mark.parametrize("value", ["true", "false", "auto"])
def test_the_input_takes_words_as_yaml_reads_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.md").write_text(f"document {number} " * 20)
    (tmp_path / "model.yml").write_text(f"compile: {value}\nmax_iters: 1\n")
    monkeypatch.chdir(tmp_path)
    sizes = ["--n-layer=1", "--n-head=1", "--n-embd=8", "--block-size=8", "--batch-size=2", "--dropout=0.1"]
    code = main(["train", "--config=model.yml", "--tokenizer=bytes", "--device=cpu", *sizes])
    assert code == (2 if value == "true" else 0)
    if value == "true":
        assert "on a CPU it takes dropout: 0" in capsys.readouterr().err
    else:
        metadata = json.loads((tmp_path / "echoself-model/checkpoint-1/training_metadata.json").read_text())
        assert metadata["settings"]["compile"] == value
