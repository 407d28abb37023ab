"""What a mode loads, in a separate process: PyTorch takes seconds, and transformers some more."""

import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import SMALL, Cli

PROGRAM = """
import sys
from echoself_action.__main__ import main
try:
    code = main(sys.argv[2:])
except SystemExit as end:  # --help
    code = end.code
open(sys.argv[1], "w").write("\\n".join(sys.modules))
sys.exit(code)
"""
EXPORT_LIBRARIES = ("gguf", "onnx", "onnxruntime", "xllamacpp")
REPO = "--hub hub --repo-id me/model"


@pytest.fixture
def published(begun: Cli) -> None:
    begun(f"train --tokenizer bytes {SMALL}", f"deploy {REPO}")


def loaded(command: str, tmp_path: Path) -> tuple[set[str], str]:
    """The modules that are loaded at the end of a command, and its output."""
    modules = tmp_path / "modules"
    process = subprocess.run([sys.executable, "-c", PROGRAM, str(modules), *command.split()], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return set(modules.read_text().split()), process.stdout


@pytest.mark.parametrize("command", ["--help", "train --help"])
def test_help_loads_no_library_of_a_mode(command: str, tmp_path: Path) -> None:
    modules, output = loaded(command, tmp_path)
    assert "usage: echoself" in output
    assert not modules & {"torch", "transformers", "numpy", "huggingface_hub", "tokenizers", "pyarrow"}


def test_pull_loads_no_pytorch(published: None, echoself: Cli, tmp_path: Path) -> None:
    modules, output = loaded(f"pull {REPO} --output-dir pulled", tmp_path)
    assert "step 20, pulled/checkpoint-20-decayed" in output
    assert Path("pulled/checkpoint-16/training_state").is_dir()  # where the rate began to fall
    assert not modules & {"torch", "transformers", "pyarrow"}


def test_an_export_loads_pytorch_and_not_transformers(published: None, echoself: Cli, tmp_path: Path) -> None:
    modules, _ = loaded(f"pull {REPO} --output-dir pulled --formats nanogpt", tmp_path)
    assert Path("pulled/nanogpt/ckpt.pt").is_file()
    assert "torch" in modules
    assert "transformers" not in modules


def test_deploy_of_an_unchanged_model_loads_no_pytorch(published: None, echoself: Cli, tmp_path: Path) -> None:
    modules, output = loaded(f"deploy {REPO}", tmp_path)
    assert "nothing was sent" in output
    assert not modules & {"torch", "transformers", "pyarrow", "matplotlib", "tensorboardX", *EXPORT_LIBRARIES}


def test_a_changed_model_is_loaded_with_transformers_before_it_is_published(begun: Cli, tmp_path: Path) -> None:
    deploy = f"deploy {REPO} --upload-training-state"
    begun(f"train --tokenizer bytes {SMALL}", f"{deploy} false")
    modules, _ = loaded(f"{deploy} false", tmp_path)
    assert "transformers" not in modules
    for change, what in (("false --license mit", "the card"), ("true --license mit", "the training state")):
        modules, output = loaded(f"{deploy} {change}", tmp_path)
        assert "transformers" in modules, what
        assert "stock transformers loads" in output


def test_training_in_one_process_loads_neither_dynamo_nor_fsdp(echoself: Cli, tmp_path: Path) -> None:
    modules, _ = loaded(f"train --tokenizer bytes {SMALL}", tmp_path)
    assert "torch" in modules
    assert not modules & {"torch._dynamo", "torch.distributed.tensor", "torch.distributed.fsdp", "sympy"}
    assert not modules & {"transformers", "pyarrow", "matplotlib", "tensorboardX", *EXPORT_LIBRARIES}
