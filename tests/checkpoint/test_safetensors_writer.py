from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from echoself_action.checkpoint.safetensors_writer import save_tensors

TENSORS = {
    "b": torch.arange(12.0).view(3, 4).t(),
    "a": torch.tensor(5.0),
    "c.half": torch.ones(3, dtype=torch.bfloat16),
    "empty": torch.empty(0, 2),
}


def test_the_file_has_the_content_that_safetensors_would_write(tmp_path: Path) -> None:
    plain = {name: tensor.float().contiguous() for name, tensor in TENSORS.items()}
    save_file(plain, tmp_path / "theirs", metadata={"format": "pt"})
    save_tensors(tmp_path / "ours", TENSORS, {"format": "pt"})
    theirs, ours = load_file(tmp_path / "theirs"), load_file(tmp_path / "ours")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with safe_open(tmp_path / "ours", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_file_is_hashed_and_release_is_called_for_each_tensor(tmp_path: Path) -> None:
    digest, calls = sha256(), []
    save_tensors(tmp_path / "ours", TENSORS, release=lambda: calls.append(1), hashed=digest.update)
    assert digest.hexdigest() == sha256((tmp_path / "ours").read_bytes()).hexdigest()
    assert len(calls) == len(TENSORS)


def test_an_unwritable_path_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        save_tensors(tmp_path / "nowhere/ours", TENSORS)


def test_tensors_larger_than_a_piece_are_written_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echoself_action.checkpoint.safetensors_writer._PIECE", 5)
    transposed = {f"{i}": torch.randn(3 + i, 4).t() for i in range(6)}  # each uses the buffer of the one before the last
    digest = sha256()
    save_tensors(tmp_path / "ours", TENSORS | transposed, hashed=digest.update)
    assert all(torch.equal(tensor, (TENSORS | transposed)[name]) for name, tensor in load_file(tmp_path / "ours").items())
    assert digest.hexdigest() == sha256((tmp_path / "ours").read_bytes()).hexdigest()
