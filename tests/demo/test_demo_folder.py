"""The folder of the demo: complete, replaced as a whole, and a page that no text of a model can break out of."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from echoself_action.checkpoint.metadata import ExportFacts, Metadata, Sample, TokenizerFacts
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.demo import folder as demo_folder
from echoself_action.demo.folder import write_demo
from echoself_action.errors import CheckpointError
from echoself_action.formats.registry import Exported
from echoself_action.formats.runtimes.runtime_formats import ONNX_FP32, ONNX_INT8

from ..formats.random_models import write_random_model


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    return write_random_model(tmp_path / "model", n_layer=1)


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    files = {ONNX_FP32: tmp_path / "model.onnx", ONNX_INT8: tmp_path / "model_quantized.onnx"}
    for path, size in zip(files.values(), (3000, 1000), strict=True):
        path.write_bytes(bytes(size))
    return Exported(tmp_path, "", files=files)


def metadata(**facts: object) -> Metadata:
    values = {
        "run_id": "0",
        "step": 1200,
        "tokens_seen": 1,
        "elapsed_s": 1.0,
        "train_loss": 2.0,
        "val_loss": 2.0,
        "best_val_loss": 2.0,
        "best_step": 1200,
        "bytes_per_token": 2.0,
        "parameters": 1,
        "tokenizer": TokenizerFacts(name="bytes", digest="0", vocab_size=257),
        "data": None,
        "settings": {},
        "versions": {},
        "evaluations": [],
        "weights_sha256": "0",
    }
    return Metadata.model_validate(values | facts)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_complete_and_replaced_as_a_whole(model: ModelFolder, exported: Exported, tmp_path: Path) -> None:
    written = files_of(write_demo(model, exported, tmp_path / "demo", "owner/name"))
    names = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", ONNX_FP32, ONNX_INT8)
    assert written.keys() == {"index.html", *(f"model/{name}" for name in names)}
    (tmp_path / "demo/model/old.onnx").write_bytes(b"old")
    assert files_of(write_demo(model, exported, tmp_path / "demo", "owner/name")) == written
    assert not list(tmp_path.glob(".writing-*"))


def test_a_failure_keeps_the_old_page(model: ModelFolder, exported: Exported, tmp_path: Path) -> None:
    written = files_of(write_demo(model, exported, tmp_path / "demo"))
    exported.files[ONNX_INT8].unlink()
    with pytest.raises(CheckpointError, match="The demo could not be written"):
        write_demo(model, exported, tmp_path / "demo", "other/name")
    assert files_of(tmp_path / "demo") == written
    assert not list(tmp_path.glob(".writing-*"))


def test_int8_is_the_default_of_a_large_model(
    model: ModelFolder, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options() -> list[str]:
        page = (write_demo(model, exported, tmp_path / "demo") / "index.html").read_text()
        return re.findall(r'<option value="(.*?)">', page)

    assert options() == [ONNX_FP32, ONNX_INT8]
    monkeypatch.setattr(demo_folder, "LARGEST_FP32_BY_DEFAULT", 2999)
    assert options() == [ONNX_INT8, ONNX_FP32]
    del exported.files[ONNX_INT8]  # type: ignore[attr-defined]
    assert options() == []


def test_it_shows_the_numbers_of_the_model(model: ModelFolder, exported: Exported, tmp_path: Path) -> None:
    facts = ExportFacts(
        format="onnx",
        file=ONNX_INT8,
        sha256="0",
        size=1000,
        runtime="onnxruntime 1.32.0",
        max_abs_diff=0.1868,
        argmax_agreement=0.984375,
        positions=1024,
        texts=1000,
    )
    known = replace(model, metadata=metadata(exports=(facts,), sample=Sample(prompt="Once upon")))
    page = (write_demo(known, exported, tmp_path / "demo", "owner/name", "https://hub/owner/name") / "index.html").read_text()
    text = " ".join(re.sub(r"<[^>]*>", " ", page.partition("<main>")[2].partition("<script")[0]).split())
    for expected in ("Bits per byte 1.4427", "Step 1,200", "Context 64 tokens", "int8, 0.0 MB, 98.44% agreement"):
        assert expected in text
    assert "model_quantized.onnx in onnxruntime 1.32.0: max absolute logit difference 0.19" in text
    assert ">Once upon</textarea>" in page
    assert 'href="https://hub/owner/name"' in page


def test_no_text_breaks_out_of_the_page(model: ModelFolder, exported: Exported, tmp_path: Path) -> None:
    """The browser runs the scripts that have the hashes of the policy: there is one, and it is ours."""
    evil = '</textarea></script><script>alert("1")</script>'
    known = replace(model, metadata=metadata(sample=Sample(prompt=evil)))
    page = (write_demo(known, exported, tmp_path / "demo", evil) / "index.html").read_text()
    scripts = re.findall(r"<script(.*?)>(.*?)</script>", page, re.DOTALL)
    assert [tag for tag, _ in scripts] == [' id="facts" type="application/json"', ' id="worker" type="text/plain"', ""]
    assert json.loads(scripts[0][1])["context"] == 64
    [policy] = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    own = base64.b64encode(hashlib.sha256(scripts[2][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{own}' blob: 'wasm-unsafe-eval';" in unescape(policy)
    assert page.count("alert(&#34;1&#34;)") == 3  # title, heading and prompt
