"""What can't be exported: the exit code, one message that says why, nothing sent, and nothing half-written."""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.errors import CheckpointError
from echoself_action.formats.registry import Exported
from echoself_action.formats.runtimes import gguf_export, onnx_export
from echoself_action.formats.runtimes.export_files import require_exportable
from echoself_action.formats.runtimes.runtime_formats import GGUF, ONNX
from echoself_action.hub.client import open_hub
from echoself_action.model.config import GPT2Config

from ..conftest import SMALL, Cli
from ..formats.foreign_files import save
from ..formats.nanecho_files import nanecho_checkpoint, state_dict
from ..formats.random_models import write_random_model

TARGET = "--hub hub --repo-id me/model"
DEPLOY = f"deploy {TARGET} --gate none --checkpoint model"
DEPLOY_NANECHO = f"deploy {TARGET} --gate none --checkpoint a.pt"
CYCLE = f"cycle {TARGET} --tokenizer bytes {SMALL}"
LARGE = "--n-layer 36 --n-embd 1280 --n-head 16"


@dataclass(frozen=True)
class Refused:
    """A command that must end with `code` and a message with these words. `prepare` is called first."""

    command: str
    code: int
    words: str
    prepare: Callable[[pytest.MonkeyPatch], Any] = lambda _: None


def without_xllamacpp(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "xllamacpp", None)  # as if it were not installed


def exports_damaged(damage: Callable[[Exported], None], module: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """The exporter writes files that are damaged before they are checked."""

    def prepare(patch: pytest.MonkeyPatch) -> None:
        whole = module.export

        def export(folder: ModelFolder, output_dir: Path) -> Exported:
            made: Exported = whole(folder, output_dir)
            damage(made)
            return made

        patch.setattr(module, "export", export)

    return prepare


def cut(name: str) -> Callable[[Exported], None]:
    return lambda made: os.truncate(made.files[name], made.files[name].stat().st_size // 2)


def flip(name: str) -> Callable[[Exported], None]:
    """One bit of a weight in the middle of the file is another one: the sign of a number."""

    def damage(made: Exported) -> None:
        content = bytearray(made.files[name].read_bytes())
        for place in range(len(content) // 2 + 3, len(content) // 2 + 4003, 4):
            content[place] ^= 0x80
        made.files[name].write_bytes(content)

    return damage


def many_heads(name: str) -> Callable[[Exported], None]:
    """llama.cpp aborts the process for a model whose heads have a width of 1."""

    def damage(made: Exported) -> None:
        key = b"gpt2.attention.head_count" + (4).to_bytes(4, "little")
        content = made.files[name].read_bytes()
        made.files[name].write_bytes(content.replace(key + b"\x02", key + b"\x20"))

    return damage


def nanecho(_: pytest.MonkeyPatch) -> None:
    save(nanecho_checkpoint("cache", state_dict()), Path("a.pt"))


def other_tokenizer(_: object) -> None:
    path = Path("model/tokenizer.json")
    parts = json.loads(path.read_text())
    path.write_text(json.dumps(parts | {"normalizer": {"type": "NFKC"}}))


CASES = {
    "an unknown format": Refused(f"{DEPLOY} --formats ggml", 2, "'ggml' is not an allowed value"),
    "a format twice": Refused(f"{DEPLOY} --formats gguf,onnx,gguf", 2, "contains duplicates: gguf"),
    "a checkpoint for a trainer": Refused(f"{DEPLOY} --formats onnx,nanogpt", 2, "nanogpt can't be published"),
    "formats in train": Refused(f"train {SMALL} --formats gguf", 2, "--formats is not a flag of this mode"),
    "formats in compare": Refused("compare --candidates a,b --formats gguf", 2, "--formats is not a flag of this mode"),
    "a new NanEcho for ONNX": Refused(f"{CYCLE} --architecture nanecho --formats onnx", 2, "can't compute NanEcho"),
    "a new NanEcho for llama.cpp": Refused(f"{CYCLE} --architecture nanecho --formats gguf", 2, "can't compute NanEcho"),
    "a NanEcho for ONNX": Refused(f"{DEPLOY_NANECHO} --formats onnx", 3, "can't compute the architecture", nanecho),
    "a NanEcho for llama.cpp": Refused(f"{DEPLOY_NANECHO} --formats gguf", 3, "can't compute the architecture", nanecho),
    "a tokenizer that llama.cpp lacks": Refused(f"{DEPLOY} --formats gguf", 3, "a normalizer (NFKC)", other_tokenizer),
    "such a tokenizer, before training": Refused(
        f"cycle {TARGET} {SMALL} --tokenizer model/tokenizer.json --formats gguf", 3, "a normalizer (NFKC)", other_tokenizer
    ),
    "a model too large for ONNX": Refused(f"{CYCLE} {LARGE} --formats onnx", 3, "ONNX takes files of at most 2.1 GB"),
    "a model too large for the Hub": Refused(
        f"{CYCLE} {LARGE} --n-embd 16384 --formats gguf", 3, "the Hub takes files of at most 50.0 GB"
    ),
    "no runtime for the check": Refused(f"{DEPLOY} --formats gguf", 2, "needs xllamacpp", without_xllamacpp),
    "no runtime, in a cycle": Refused(f"{CYCLE} --formats gguf", 2, "needs xllamacpp", without_xllamacpp),
    "no runtime, in a pull": Refused("pull --checkpoint model --formats gguf", 2, "needs xllamacpp", without_xllamacpp),
    "an incomplete GGUF file": Refused(
        f"{DEPLOY} --formats gguf", 3, "llama.cpp can't run", exports_damaged(cut("model-F16.gguf"), gguf_export)
    ),
    "wrong weights for llama.cpp": Refused(
        f"{DEPLOY} --formats gguf", 3, "Q8_0.gguf has other", exports_damaged(flip("model-Q8_0.gguf"), gguf_export)
    ),
    "a file that ends llama.cpp": Refused(
        f"{DEPLOY} --formats gguf", 3, "SIGABRT", exports_damaged(many_heads("model-F32.gguf"), gguf_export)
    ),
    "an incomplete ONNX file": Refused(
        f"{DEPLOY} --formats onnx", 3, "can't run", exports_damaged(cut("onnx/model.onnx"), onnx_export)
    ),
    "wrong weights for ONNX": Refused(
        f"{DEPLOY} --formats onnx", 3, "has other values", exports_damaged(flip("onnx/model.onnx"), onnx_export)
    ),
    "wrong weights, in a dry run": Refused(
        f"{DEPLOY} --formats onnx --dry-run", 3, "has other values", exports_damaged(flip("onnx/model.onnx"), onnx_export)
    ),
    "wrong weights, in a pull": Refused(
        "pull --checkpoint model --formats onnx", 3, "has other values", exports_damaged(flip("onnx/model.onnx"), onnx_export)
    ),
    "an output_dir that is not a folder": Refused(
        f"{DEPLOY} --formats onnx --output-dir docs/none.md/out", 3, "could not be written",
        lambda _: Path("docs/none.md").write_text("a file"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_refused(
    case: Refused, echoself: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_random_model(Path("model"), n_layer=1)
    case.prepare(monkeypatch)
    echoself(case.command, code=case.code)
    logged = capsys.readouterr().err
    assert case.words in logged
    assert logged.count("echoself: ") == 1, logged
    with open_hub("hub", None) as hub:
        assert not hub.api.repo_exists("me/model")
    left = [path.name for path in Path().rglob("*") if path.suffix in (".gguf", ".onnx") or path.name.startswith(".writing-")]
    assert left == []


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files of more bytes can't be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", ["gguf", "onnx"])
def test_a_full_disk_keeps_the_files_of_an_earlier_export(form: str, echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_model(Path("model"), n_layer=1)
    command = f"pull --checkpoint model --formats {form}"
    echoself(command)
    before = {path: path.read_bytes() for path in Path("echoself-model", form).rglob("*")}
    assert len(before) > 1
    capsys.readouterr()
    with largest_file(40_000):
        echoself(command, code=3)
    logged = capsys.readouterr().err
    assert "could not be written: " in logged
    assert "File too large" in logged or "not all of a file was written" in logged
    assert logged.count("echoself: ") == 1
    assert {path: path.read_bytes() for path in Path("echoself-model", form).rglob("*")} == before
    assert not list(Path("echoself-model").glob(".writing-*"))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((10.0**9,), "of memory for this model"), ((1000.0,) * 10**6, "of disk in out, and")],
    ids=["memory", "disk"],
)
def test_a_model_that_this_machine_has_no_room_for_is_refused_before_any_work(sizes: tuple[float, ...], words: str) -> None:
    config = GPT2Config(vocab_size=257, block_size=32, n_layer=2, n_head=2, n_embd=16)
    with pytest.raises(CheckpointError, match=words):
        require_exportable([replace(GGUF, bytes_per_parameter=sizes, largest_file=10**15)], config, Path("out"))
    require_exportable([GGUF, ONNX], config, Path("out"))
    assert not Path("out").exists()


def test_doctor_says_what_can_not_be_exported(begun: Cli, echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    model = begun(f"train --tokenizer bytes {SMALL}")["model_dir"]
    echoself(f"doctor deploy {TARGET} --formats gguf,onnx")
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "gguf for llama.cpp, onnx for ONNX Runtime and transformers.js, about 0.1 MB: written, run in these programs" in shown
    )
    Path(model).rename("model")
    other_tokenizer(None)
    echoself(f"doctor {DEPLOY} --formats gguf", code=3)
    shown = capsys.readouterr().out
    assert "problem  formats" in shown
    assert "(NFKC)" in shown
    echoself(f"doctor {CYCLE} {LARGE} --output-dir new --formats onnx", code=3)
    assert "ONNX takes files of at most 2.1 GB" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("form", ["gguf", "onnx"])
def test_a_full_disk_during_the_check_is_not_reported_as_a_bug(
    form: str, echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    write_random_model(Path("model"), n_layer=1)
    with largest_file(100_000):  # more than each file of the export, and less than its logits
        echoself(f"deploy {TARGET} --gate none --checkpoint model --formats {form}", code=3)
    logged = capsys.readouterr().err
    assert "can't run" in logged
    assert "Free disk space in" in logged
    assert "report this" not in logged
    assert not Path("echoself-model", form).exists()
    with open_hub("hub", None) as hub:
        assert not hub.api.repo_exists("me/model")
