"""torch.compile: when a run is compiled, what that computes, and what happens if compiling fails. On a GPU: test_gpu.py."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.__main__ import main
from echoself_action.checkpoint.select import resumable
from echoself_action.checkpoint.weights import new_model
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import InputError, TrainingError
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.nanecho import NanEchoConfig
from echoself_action.training.compile import Compiler, compiled_loss, why_not
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import Callbacks, StopRequest
from echoself_action.training.run import Data, Run
from echoself_action.training.trainer import train
from tests.conftest import training_settings

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def config() -> GPT2Config:
    return GPT2Config(vocab_size=257, block_size=32, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture
def inductor(tmp_path: Path) -> Iterator[None]:
    """An empty cache, without the compiler's probes of each CPU instruction set, which take longer than compiling a model."""
    from torch._inductor import config

    with pytest.MonkeyPatch.context() as patch, config.patch({"cpp.vec_isa_ok": True}):
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
        yield


ROUNDED = "results are rounded differently from here on."


def make_run(tokens: Tokens, config: GPT2Config, **changes: Any) -> Run:
    return new_run(config, Data(tokens, []), training_settings(**({"dtype": "bfloat16"} | changes)))


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ here")
def test_compiled_loss_and_gradients_equal_eager_ones(inductor: None, config: GPT2Config) -> None:
    model = GPT2(config)
    model.initialise(1)
    ids = torch.randint(257, (2, 33), generator=torch.Generator().manual_seed(1))

    def of(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        found = loss(ids[:, :-1], ids[:, 1:])
        return [found.detach(), *torch.autograd.grad(found, list(model.parameters()))]

    for ours, theirs in zip(of(compiled_loss(model)), of(model.loss), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_no_compilation_on_a_cpu(tokens: Tokens, config: GPT2Config) -> None:
    assert make_run(tokens, config, compile="auto").kernels != "compiled"
    with pytest.raises(InputError, match=r"compile: true can't be used here: it needs a GPU .*Nothing was trained"):
        make_run(tokens, config, compile="true")


def test_a_run_compiled_on_a_cpu_resumes_without_and_reports_it(tokens: Tokens, config: GPT2Config, tmp_path: Path) -> None:
    quiet, notes = Callbacks(lambda _: None, pytest.fail), list[str]()
    train(make_run(tokens, config, max_iters=2, decay=0), tmp_path, StopRequest(), quiet)
    state = resumable(tmp_path)[0].path / "training_state/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"compiled": True, "native": False}))  # as 1.0 wrote it
    settings = training_settings(dtype="bfloat16", max_iters=2, decay=0)
    resumed = resume_run(resumable(tmp_path)[0], Data(tokens, []), settings, notes.append)
    assert notes == [f"kernels was torch.compile and is now {resumed.state().kernels}: {ROUNDED}"]
    latest = train(resumed, tmp_path, StopRequest(), quiet).latest
    assert latest.step == 4
    assert json.loads((latest.path / "training_state/state.json").read_text())["compiled"] is False


def test_reasons_why_a_model_cannot_be_compiled(config: GPT2Config) -> None:
    nanecho = new_model(NanEchoConfig(vocab_size=257, n_embd=16, n_head=2, n_layer=2, block_size=16))
    assert "needs a GPU" in (why_not(GPT2(config), CPU, False) or "")
    assert "architecture: gpt2" in (why_not(nanecho, GPU, False) or "")
    assert "sharding: none" in (why_not(GPT2(config), GPU, True) or "")


@pytest.mark.parametrize("setting", ["auto", "true"])
def test_failed_compilation_is_an_error_only_if_compile_is_true(tokens: Tokens, config: GPT2Config, setting: str) -> None:
    run = make_run(tokens, config)
    run.kernels, run.settings = "compiled", training_settings(compile=setting)
    undone, warnings = list[bool](), list[str]()

    def fail() -> None:
        raise RuntimeError("no kernel for you")

    compiler = Compiler(run, fail, lambda: undone.append(True), Callbacks(pytest.fail, warnings.append))
    if setting == "true":
        expected = r"compile: true was set, and the model could not be compiled: .*no kernel for you.* at step 0"
        with pytest.raises(TrainingError, match=expected):
            compiler.compile()
    else:
        compiler.compile()
        assert len(warnings) == 1
        assert warnings[0].startswith("The model could not be compiled: ")
        assert warnings[0].endswith("Training continues without torch.compile.")
        compiler.compile()  # no second attempt
    assert undone == [True]
    assert run.kernels == "eager"


@pytest.mark.parametrize("value", ["true", "false", "auto"])
def test_compile_input_in_a_yaml_config(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.md").write_text(f"document {number} " * 20)
    (tmp_path / "model.yml").write_text(f"preset: ci\ncompile: {value}\nmax_iters: 1\n")
    monkeypatch.chdir(tmp_path)
    sizes = ["--n-layer=1", "--n-head=1", "--n-embd=8", "--block-size=8", "--batch-size=2", "--dropout=0.1"]
    code = main(["train", "--config=model.yml", "--tokenizer=bytes", "--device=cpu", *sizes])
    assert code == (2 if value == "true" else 0)
    if value == "true":
        assert "compile: true can't be used here: it needs a GPU" in capsys.readouterr().err
    else:
        metadata = json.loads((tmp_path / "echoself-model/checkpoint-1/training_metadata.json").read_text())
        assert metadata["settings"]["compile"] == value
