"""Untrusted files: each is read or refused with a clear message, without running code or using memory beyond its size."""

import bz2
import importlib
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from echoself_action.errors import CheckpointError
from echoself_action.formats.nanogpt import read as read_nanogpt
from echoself_action.formats.registry import LAYOUTS as LAYOUTS_KNOWN
from echoself_action.formats.torch_file.reader import read_torch_file

from .foreign_files import nanogpt_checkpoint, save
from .hostile_pickles import CANARY, CODE, PICKLES, RUN, Asks


def read(path: Path) -> None:
    """Everything that an import does before it writes."""
    read_nanogpt(read_torch_file(path))


def with_pickle(path: Path, content: bytes, more: dict[str, bytes] | None = None) -> Path:
    """A zip as torch.save makes it, around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"ckpt/data.pkl": content, "ckpt/version": b"3\n", **(more or {})}.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", PICKLES)
def test_a_malicious_pickle_is_refused_without_running_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        read(with_pickle(tmp_path / "ckpt.pt", PICKLES[name], {"ckpt/data/0": bytes(8)}))
    assert not (tmp_path / CANARY).exists()
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 1500
    assert caught.value.message.endswith("It was not used, and no code in it was run.")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("os.system", "os.system"),
        ("STACK_GLOBAL", "os.system"),
        ("INST", "os.system"),
        ("OBJ", "os.system"),
        ("reduce, protocol 4", "posix.system"),
        ("getattr chain", "importlib.import_module"),
        ("builtins.bytearray of much", "builtins.bytearray"),
        ("a dotted name", "torch.serialization.os.system"),
    ],
)
def test_the_message_names_the_global(name: str, asked: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"uses .*{asked}"):
        read(with_pickle(tmp_path / "ckpt.pt", PICKLES[name]))


def test_the_malicious_pickles_run_code_with_an_ordinary_unpickler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "STACK_GLOBAL", "INST", "OBJ", "reduce, protocol 4", "STACK_GLOBAL from the memo"):
        pickle.loads(PICKLES[name])  # noqa: S301  # a control: the pickle does run its code
        (tmp_path / CANARY).unlink()


def test_malicious_values_under_any_key_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"system": (os.system, RUN), "eval": (eval, CODE), "import": (importlib.import_module, "antigravity")}
    for layout in LAYOUTS_KNOWN:
        for key in layout.keys:
            for name, reduced in values.items():
                content = {one: {} for one in layout.keys} | {key: {"a": Asks(*reduced)}}
                with pytest.raises(CheckpointError, match="uses") as caught:
                    read(with_pickle(tmp_path / "ckpt.pt", pickle.dumps(content, 2)))
                assert name in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


def test_reading_touches_no_file_process_connection_or_variable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        touches = {
            "a file": (open, str(tmp_path / "canary"), "w"),
            "a process": (subprocess.check_call, ["touch", str(tmp_path / "canary")]),
            "a connection": (socket.create_connection, server.getsockname()),
            "a variable": (os.putenv, "CANARY_OF_THE_READER", "1"),
        }
        pickles = {name: pickle.dumps({"model": Asks(*touch)}, 2) for name, touch in touches.items()}
        for content in pickles.values():
            with pytest.raises(CheckpointError, match="uses"):
                read(with_pickle(tmp_path / "ckpt.pt", content))
        echo = ["sh", "-c", "echo $CANARY_OF_THE_READER"]
        with pytest.raises(BlockingIOError):
            server.accept()
        assert not (tmp_path / "canary").exists()
        assert subprocess.check_output(echo) == b"\n"

        for content in pickles.values():
            pickle.loads(content)  # noqa: S301  # a control: each does run its code
        server.accept()[0].close()
        assert (tmp_path / "canary").exists()
        assert subprocess.check_output(echo) == b"1\n"
        os.unsetenv("CANARY_OF_THE_READER")


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ckpt/data.pkl", b"\x80\x02" + b"0" * (200 << 20))


def overlapping(path: Path) -> None:
    """Many records that share the same bytes of the file."""
    save(nanogpt_checkpoint(), path)
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
        for i in range(200):
            copy = zipfile.ZipInfo(f"ckpt/data/x{i}")
            copy.header_offset, copy.file_size, copy.compress_size, copy.CRC = largest.header_offset, 10_000, 10_000, 0
            archive.filelist.append(copy)
        archive._didModify = True  # type: ignore[attr-defined]


def two_directories(path: Path) -> None:
    """Python locates the second directory from the end of the file, PyTorch the first by its recorded offset."""
    parts = []
    for content in (b"\x80\x02cos\nsystem\n" + b"0" * 20 + b".", b"\x80\x02}." + b"0" * 30):
        with_pickle(path, content)
        parts.append(path.read_bytes())
    path.write_bytes(parts[0] + parts[1][:-22] + parts[0][-22:])


def nested(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"0" * (50 << 20))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ckpt.zip", inner.getvalue())


def moved(path: Path) -> None:
    """A record with a wrong offset in the directory, where there is no header."""
    save(nanogpt_checkpoint(), path)
    with zipfile.ZipFile(path, "a") as archive:
        record = next(record for record in archive.infolist() if record.filename.endswith("data/0"))
        record.header_offset += 8
        archive._didModify = True  # type: ignore[attr-defined]


def of_other_size(path: Path) -> None:
    """A record with more elements than the pickle declares."""
    save(nanogpt_checkpoint(), path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in records if name.endswith("data/0"))
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in records.items():
            archive.writestr(each, data + bytes(4 * (each == name)))


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = nanogpt_checkpoint()
        change(content)
        save(content, path)

    return write


def size(name: str, value: object) -> Callable[[Path], None]:
    return changed(lambda content: content["model_args"].update({name: value}))


def tensor(name: str, value: torch.Tensor) -> Callable[[Path], None]:
    return changed(lambda content: content["model"].update({name: value}))


def nan(path: Path) -> None:
    content = nanogpt_checkpoint()
    content["model"]["transformer.h.1.mlp.c_fc.weight"][3, 4] = float("nan")
    save(content, path)


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "storages")


def old_and_cut(path: Path) -> None:
    torch.save(nanogpt_checkpoint(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-100])


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "0 bytes": (lambda path: path.touch(), "it is empty"),
    "text": (lambda path: path.write_text("loss: 3.1\n" * 100), "it is a text file"),
    "HTML": (lambda path: path.write_text("<!DOCTYPE html>\n<html><body>404</body></html>"), "HTML or XML"),
    "XML": (lambda path: path.write_text("<?xml version='1.0'?><Error>AccessDenied</Error>"), "HTML or XML"),
    "LFS pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"),
    "bare pickle": (lambda path: path.write_bytes(pickle.dumps(Asks(os.system, RUN))), "a bare pickle"),
    "a tar": (tar, "a tar archive"),
    "bzip2": (lambda path: path.write_bytes(bz2.compress(bytes(100))), "compressed with bzip2"),
    "NumPy": (lambda path: np.save(path.open("wb"), np.ones(2)), "a NumPy array"),
    "older PyTorch, cut": (old_and_cut, "damaged: storage"),
    "tokens": (lambda path: path.write_bytes(np.arange(60_000, dtype=np.uint16)[50_000:].tobytes()), "of an unknown type"),
    "wrong magic": (lambda path: path.write_bytes(b"PK\x05\x06" + os.urandom(1000)), "of an unknown type"),
    "noise": (lambda path: path.write_bytes(b"\xfe" + os.urandom(1000)), "of an unknown type"),
    "noise after the magic": (lambda path: path.write_bytes(b"PK\x03\x04" + os.urandom(1000)), "is damaged"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(100)), "compressed with gzip"),
    "GGUF": (lambda path: path.write_bytes(b"GGUF" + bytes(100)), "a GGUF model"),
    "safetensors": (lambda path: save_file({"a": torch.ones(2)}, path), "a safetensors file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "nothing": (lambda _: None, "can't be read: No such file"),
    "another zip": (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"), "it is a zip file without a `data.pkl`"),
    "TorchScript": (lambda path: torch.jit.script(torch.nn.Linear(2, 2)).save(path), "a TorchScript program"),
    "packed": (bomb, "a compressed record"),
    "overlapping": (overlapping, "declares "),
    "nested zips": (nested, "it is a zip file without a `data.pkl`"),
    "two records of one name": (
        lambda path: with_pickle(path, b"\x80\x02}.") and zipfile.ZipFile(path, "a").writestr("ckpt/data.pkl", b""),
        "two records with one name",
    ),
    "two records of nearly one name": (
        lambda path: with_pickle(path, b"\x80\x02}.", {"ckpt/DATA.PKL": b"\x80\x02}."}),
        "two records with one name",
    ),
    "two directories": (two_directories, "different programs would read different content"),
    "a zip behind another": (
        lambda path: path.write_bytes(2 * save(nanogpt_checkpoint(), path).read_bytes()),
        "different programs would read different content",
    ),
    "a record that is elsewhere": (moved, "is damaged: record"),
    "a record of another size": (of_other_size, "data/0 has 4100 bytes, expected 1024 elements of float32"),
    "big-endian": (lambda path: with_pickle(path, b"\x80\x02}.", {"ckpt/byteorder": b"big"}), "big-endian"),
    "a list": (lambda path: save([torch.ones(1)], path), "contains a list, expected a dict"),
    "other keys": (lambda path: save({"weights": 1, 7: 2, "optimiser": 3}, path), "'weights', a int, 'optimiser'"),
    "empty": (lambda path: save({}, path), "Its top-level keys are: none"),
    "no state dict": (changed(lambda content: content.update(model=3)), "has no state dict"),
    "a state dict of no tensors": (changed(lambda content: content["model"].update(a=3)), "which is not a named tensor"),
    "a name with line breaks": (tensor("a\n::error::b", torch.ones(1)), "a\N{REPLACEMENT CHARACTER}::error::b is not a tensor"),
    "two of one name": (
        changed(lambda content: content["model"].update({"module.transformer.wte.weight": torch.ones(1)})),
        "has two tensors named transformer.wte.weight",
    ),
    "NaN": (nan, "h.1.mlp.c_fc.weight contains NaN or infinity"),
    "n_embd": (size("n_embd", 32), "contradicts its model_args"),
    "n_head": (size("n_head", 3), "not divisible by n_head=3"),
    "n_layer": (size("n_layer", 3), "h.2.ln_1.weight is missing"),
    "a billion layers": (size("n_layer", 10**9), "but has only 29 tensors"),
    "block_size": (size("block_size", 17), "contradicts its model_args"),
    "vocab_size": (size("vocab_size", 65), "contradicts its model_args"),
    "bias": (size("bias", False), "ln_1.bias is not a tensor of this model"),
    "negative": (size("n_head", -2), "no positive integer for n_head"),
    "a size that is none": (size("n_layer", "2"), "no positive integer for n_layer"),
    "dropout": (size("dropout", float("nan")), "an invalid bias or dropout"),
    "an untied head": (tensor("lm_head.weight", torch.ones(64, 16)), "has an lm_head.weight that differs from its "),
    "whole numbers": (tensor("transformer.ln_f.bias", torch.ones(16, dtype=torch.int64)), "has the dtype torch.int64"),
    "a terabyte in a number": (
        tensor("transformer.wte.weight", torch.zeros(1).expand(10**6, 10**6)),
        "a tensor of shape (1000000, 1000000) is larger than its storage",
    ),
    "iter_num": (changed(lambda content: content.update(iter_num=-1)), "not a valid step count"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_an_invalid_file_is_refused_with_a_clear_message(name: str, tmp_path: Path) -> None:
    write, why = FILES[name]
    write(tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "ckpt.pt")
    assert why in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_file_is_reported_as_truncated(tenths: int, tmp_path: Path) -> None:
    content = save(nanogpt_checkpoint(), tmp_path / "whole.pt").read_bytes()
    (tmp_path / "ckpt.pt").write_bytes(content[: len(content) * tenths // 10])
    with pytest.raises(CheckpointError, match=r"is damaged: .*probably truncated" if tenths else "it is empty"):
        read(tmp_path / "ckpt.pt")


def test_a_file_with_a_changed_byte_is_read_or_refused(tmp_path: Path) -> None:
    whole = bytearray(save(nanogpt_checkpoint(), tmp_path / "whole.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "whole.pt") as archive:
        record = next(record for record in archive.infolist() if record.filename.endswith("data.pkl"))
    places = [*range(record.header_offset, record.header_offset + 4000, 37), *range(len(whole) - 2000, len(whole), 23)]
    refused = 0
    for place in places:
        damaged = whole.copy()
        damaged[place] ^= 0x55
        (tmp_path / "ckpt.pt").write_bytes(damaged)
        try:
            read(tmp_path / "ckpt.pt")
        except CheckpointError:
            refused += 1
    assert refused > len(places) // 2


MEMORY = 64 << 20  # above what reading a good file takes


BOMBS = [
    *(name for name in PICKLES if "much" in name or "more" in name or "steps" in name),
    "packed",
    "overlapping",
    "a terabyte in a number",
]


@pytest.mark.parametrize("what", ["a good file", *BOMBS])
def test_memory_is_bounded(what: str, tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    if what in PICKLES:
        with_pickle(path, PICKLES[what])
    elif what in FILES:
        FILES[what][0](path)
    else:
        save(nanogpt_checkpoint(), path)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from echoself_action.formats.torch_file.reader import read_torch_file\n"
        "from echoself_action.errors import CheckpointError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_torch_file(Path(sys.argv[1]))\n"
        "except CheckpointError: pass\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < MEMORY


LAYOUTS: dict[str, dict[str, Any]] = {
    "NanEcho train_nanecho": {"format": "nanecho-pytorch-v1", "iteration": 4, "training_run_config": {}, "model_config": {}},
    "NanEcho cache": {"checkpoint_id": "c", "iteration": 4, "val_loss": np.float64(1.5), "model_config": {}},
    "NanEcho best_model_export": {"model_config": {}, "exported_at": "now", "metadata": {"val_loss": np.float64(1.5)}},
    "NanEcho fallback export": {"model_config": {}, "exported_at": "now", "fallback": True},
    "NanEcho native export": {"format": "nanecho-pytorch-v1", "config": {}, "connection_ratio": 0.5, "iteration": 4},
    "another EchoSelf trainer": {"step": 4, "loss": 1.5, "config": {}},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_detected_by_its_keys(name: str, tmp_path: Path) -> None:
    weights = OrderedDict({"_orig_mod.token_embedding.weight": torch.ones(4, 2)})
    path = save(LAYOUTS[name] | {"model_state_dict": weights}, tmp_path / "ckpt.pt")
    foreign = read_torch_file(path)
    assert foreign.layout.name == name
    assert list(foreign.weights) == ["token_embedding.weight"]
    assert f"{name}; NanEcho, 1 tensors with 8 numbers" in foreign.description
    assert ("loss 1.5000" in foreign.description) == ("1.5" in str(LAYOUTS[name]))


def test_layouts_with_another_key_for_the_weights_are_detected(tmp_path: Path) -> None:
    weights = {"token_embedding.weight": torch.ones(4, 2)}
    pulled = read_torch_file(save({"model": weights, "config": {}, "metadata": {}}, tmp_path / "pulled.pt"))
    older = read_torch_file(save({"model_state": weights, "metadata": {}}, tmp_path / "older.pt"))
    raw = read_torch_file(save(weights, tmp_path / "raw.pt"))
    assert [one.layout.name for one in (pulled, older, raw)] == [
        "echoself pull", "older export", "a state dict and nothing else",
    ]  # fmt: skip
    netrain = {"model_state_dict": weights, "global_step": 3, "config": {}}
    assert read_torch_file(save(netrain, tmp_path / "netrain.pt")).layout.name == "netrain"


def test_files_of_the_original_trainers_are_detected(shared: Path) -> None:
    found = {path.name: read_torch_file(path).layout.name for path in sorted((shared / "fixtures").rglob("*.pt"))}
    assert found["ckpt.pt"] == "nanoGPT"
    assert found["train_nanecho_best_model.pt"] == "NanEcho train_nanecho"
    assert found["best_model_export.pt"] == "NanEcho best_model_export"
    assert [layout for name, layout in found.items() if name.startswith("ckpt_")] == ["NanEcho cache"]


def test_generated_files_are_read_or_refused(tmp_path: Path) -> None:
    fuzzer = Path(__file__).parents[1] / "stress/fuzz_reader.py"
    command = [sys.executable, str(fuzzer), "--minutes", "0.05", "--keep", str(tmp_path / "found")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
