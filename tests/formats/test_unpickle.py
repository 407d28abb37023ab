"""The content of a checkpoint is read as PyTorch and NumPy wrote it, without importing PyTorch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from echoself_action.formats.reference_logits import as_tensors
from echoself_action.formats.torch_file.reader import read_torch_file

from .foreign_files import nanogpt_checkpoint, save


def test_tensors_equal_those_that_pytorch_loads(tmp_path: Path) -> None:
    numbers = torch.arange(24.0).view(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    tensors = {
        **{str(kind): (3 * numbers + 0.4).to(kind) for kind in kinds},
        "bool": numbers > 7,
        "plain": numbers,
        "turned": numbers.t(),
        "a part": numbers[1:3, 2:5],
        "every second": numbers[::2, ::3],
        "three sides": numbers.view(2, 2, 6).transpose(0, 2),
        "no sides": torch.tensor(2.5),
        "one number, often": torch.tensor([7.0, 8.0])[:1].expand(2),
        "empty": torch.empty(0, 5),
        "a parameter": torch.nn.Parameter(numbers + 1),
    }
    found = as_tensors(read_torch_file(save(tensors, tmp_path / "ckpt.pt")).weights)
    theirs = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    assert list(found) == list(theirs)
    assert [name for name in theirs if not torch.equal(found[name], theirs[name])] == []
    assert [name for name in theirs if found[name].dtype != theirs[name].dtype] == []


def test_numpy_scalars_and_arrays_are_read(tmp_path: Path) -> None:
    scalars = {"a": np.float64(1.5), "b": np.float32(-2), "c": np.int64(7), "d": np.bool_(True), "e": np.str_("text")}
    state = {"generator": np.random.default_rng(1).integers(9, size=600)}  # such as NumPy's own random state
    content = nanogpt_checkpoint() | {"scalars": scalars, "state": state, "bytes": b"\x00\xff"}
    found = read_torch_file(save(content, tmp_path / "ckpt.pt")).content
    assert found["scalars"] == scalars
    assert [type(value) for value in found["scalars"].values()] == [float, float, int, bool, str]
    assert found["bytes"] == b"\x00\xff"
    assert np.array_equal(found["state"]["generator"], state["generator"])


def test_a_checkpoint_is_converted_without_pytorch(tmp_path: Path) -> None:
    save(nanogpt_checkpoint(), tmp_path / "ckpt.pt")
    code = (
        "import sys; from pathlib import Path\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"  # as if they were not installed
        "from echoself_action.checkpoint.weights import write_model\n"
        "from echoself_action.formats.import_checkpoint import read_checkpoint_file\n"
        "from echoself_action.training.training_state import write_moments\n"
        "source = read_checkpoint_file(Path(sys.argv[1]) / 'ckpt.pt', print)\n"
        "write_model(Path(sys.argv[1]), source.config, source.weights, None)\n"
        "write_moments(Path(sys.argv[1]), source.moments)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    content, weights = nanogpt_checkpoint(), load_file(tmp_path / "model.safetensors")
    turned = "transformer.h.1.attn.c_attn.weight"
    assert torch.equal(weights[turned], content["model"][turned].t())
    moments = load_file(tmp_path / "training_state/optimizer.safetensors")
    assert torch.equal(moments["exp_avg.transformer.wte.weight"], content["optimizer"]["state"][0]["exp_avg"])
