"""The demo in Chromium: it writes what transformers writes, says what goes wrong, and loads only what it is made of.

All host names lead to a server on loopback, which has the npm packages that the CDN has, and records what is asked for.
"""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.demo.folder import runtime_files, write_demo
from echoself_action.formats.runtimes.runtime_formats import ONNX

from ..formats.random_models import write_random_model
from ..node_packages import TRANSFORMERS_JS
from ..report.github_page import contrast
from .internet import CDN, internet, serve
from .pin_cdn import pinned
from .visits import greedy, visit

PROMPT = "The lighthouse keeper"
# Chromium itself asks Google who is signed in, how to fill in forms and more, with any page.
OWN_REQUESTS = (".google.com", ".googleapis.com", ".gvt1.com")


def test_the_checksums_are_those_of_the_npm_packages() -> None:
    assert runtime_files() == pinned(TRANSFORMERS_JS.modules()), "run python -m tests.demo.pin_cdn"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_random_model(tmp_path_factory.mktemp("demo") / "model", "bpe:512")


@pytest.fixture(scope="module")
def demo(model: ModelFolder) -> Path:
    exported = ONNX.export(model, model.path.parent)
    return write_demo(model, exported, model.path.parent / "demo", "owner/name", "https://huggingface.co/owner/name")


@pytest.fixture(scope="module")
def seen(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What a reader saw of it, in one start of the browser, with the requests of the page and of the internet."""
    folder = tmp_path_factory.mktemp("seen")
    other = write_random_model(folder / "model", "characters")
    characters = write_demo(other, ONNX.export(other, folder), folder / "characters")
    missing = shutil.copytree(demo, folder / "missing")
    (missing / "model/onnx/model.onnx").unlink()
    with (
        serve(demo) as site,
        serve(characters) as second,
        serve(missing) as third,
        internet(TRANSFORMERS_JS.modules(), folder) as net,
    ):
        given = {
            "demo": site.url,
            "characters": second.url,
            "missing": third.url,
            "prompt": PROMPT,
            "long": PROMPT * 40,
            "folder": str(folder),
        }
        facts = visit("read", net, given | {"weights": "onnx/model_quantized.onnx"})
    return SimpleNamespace(facts=facts, site=site.requests, net=net.requests, characters=other, folder=folder)


@pytest.fixture(scope="module")
def broken(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a reader sees where it can't run, and where the CDN serves another ONNX Runtime."""
    with serve(demo) as site, internet(TRANSFORMERS_JS.modules(), tmp_path_factory.mktemp("broken")) as net:
        net.tampered.add(".wasm")
        return visit("broken", net, {"demo": site.url, "file": (demo / "index.html").as_uri()})


def test_it_writes_what_transformers_writes(seen: SimpleNamespace, model: ModelFolder) -> None:
    ids, text = greedy(model, PROMPT, 50)
    written = seen.facts["greedy"]
    assert len(ids) == 50
    assert written["ids"] == ids
    assert written["prompt"] == PROMPT
    assert written["written"] == text.rstrip("\ufffd")
    assert written["status"] == "50 tokens. Greedy: the same text each time."
    assert len(set(written["streamed"])) > 20
    assert re.fullmatch(r"[\d.]+ m?s", written["first"])
    assert re.fullmatch(r"[\d.]+ tokens/s", written["speed"])
    assert seen.facts["again"]["ids"] == ids
    characters = seen.facts["characters"]
    assert (characters["ids"], characters["written"]) == greedy(seen.characters, "\n", 50)


def test_the_seed_decides_what_is_sampled(seen: SimpleNamespace) -> None:
    one, other, again = seen.facts["sampled"]
    assert one == again != other
    first, second = seen.facts["random"]
    assert first["written"] != second["written"]
    [seed] = re.findall(r"Seed (\d+) gives this text again", second["status"])
    assert seed not in first["status"]


def test_stop_stops_and_the_keyboard_stays_where_it_was(seen: SimpleNamespace) -> None:
    assert seen.facts["focusWhileWriting"] == "stop"
    stopped = seen.facts["stopped"]
    assert 0 < len(stopped["ids"]) < 2000
    assert stopped["status"].startswith(f"Stopped after {len(stopped['ids'])} token")
    assert stopped["focused"] == "write"


def test_a_text_longer_than_the_context(seen: SimpleNamespace, model: ModelFolder) -> None:
    """The last tokens that leave room for the answer are read, and what is not read is grey."""
    long = seen.facts["long"]
    ids = AutoTokenizer.from_pretrained(model.path)(PROMPT * 40)["input_ids"]
    cut = len(ids) - (64 - 5)
    assert f"Your text has {len(ids)} tokens. The model's context is 64: it does not read the first {cut}" in long["status"]
    assert long["cut"] + long["prompt"] == PROMPT * 40
    with torch.no_grad():
        given = torch.tensor([ids[cut:]])
        [expected] = (
            AutoModelForCausalLM.from_pretrained(model.path).generate(given, max_new_tokens=5, do_sample=False).tolist()
        )
    assert long["ids"] == expected[len(ids) - cut :]
    slid = seen.facts["slid"]
    assert len(slid["ids"]) == 100
    assert slid["ids"][:50] == seen.facts["greedy"]["ids"]
    assert "longer than the model's context of 64 tokens" in slid["status"]


def test_an_empty_text_starts_a_document(seen: SimpleNamespace, model: ModelFolder) -> None:
    assert model.config.block_size == 64
    assert seen.facts["empty"]["ids"] == greedy(model, "<|endoftext|>", 5)[0]


def test_characters_that_the_vocabulary_lacks_are_named(seen: SimpleNamespace) -> None:
    assert seen.facts["lacking"]["bad"] == (
        "The model's vocabulary does not have “☃”, “é”. Nothing was written: leave these characters out."
    )
    assert "does not have “\\t”. Nothing was written" in seen.facts["tab"]["bad"]


def test_it_loads_its_own_files_and_three_of_the_cdn(seen: SimpleNamespace) -> None:
    """A visit that writes nothing loads the page alone, and a second visit loads neither the runtime nor the weights again."""
    assert {request.host for request in seen.net if not request.host.endswith(OWN_REQUESTS)} == {CDN}
    pinned_paths = sorted(file["url"].partition(CDN)[2] for file in runtime_files())
    loaded = [request for request in seen.net if request.host == CDN]
    visitors = 4  # one that came again, one with a phone, and those of two other demos
    assert sorted(request.path for request in loaded) == sorted(pinned_paths * visitors)
    assert {(request.method, request.status) for request in loaded} == {("GET", 200)}
    weights = [request for request in seen.site if request.path == "/model/onnx/model.onnx"]
    assert [request.status for request in weights] == [200, 200]  # the visitor who came again, and the phone
    assert {request.path for request in seen.site} == {
        "/",
        *(f"/model/{name}" for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")),
        *(f"/model/onnx/{name}.onnx" for name in ("model", "model_quantized")),
    }
    assert {request.method for request in seen.site} == {"GET"}
    assert seen.facts["opened"]["status"].startswith("The first time, Write loads 15.1 MB")
    assert seen.facts["logged"] == []


def test_neither_the_page_nor_its_worker_can_send_anything(seen: SimpleNamespace) -> None:
    assert seen.facts["outside"] == ["refused", "refused"]
    assert not [request for request in seen.net if request.host == "elsewhere.example"]


def test_a_missing_file_is_named(seen: SimpleNamespace) -> None:
    missing = seen.facts["missing"]
    assert re.match(r"http://\S+/model/onnx/model\.onnx can't be loaded: the server answered 404\.", missing["bad"])
    assert missing["canWrite"]


def test_loading_shows_its_progress(seen: SimpleNamespace) -> None:
    steps = seen.facts["greedy"]["loading"]
    assert len(steps) > 5
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert seen.facts["again"]["loading"][-1] == steps[-1]


@pytest.mark.parametrize("size", ["phone", "wide"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_is_legible(seen: SimpleNamespace, size: str, colours: str) -> None:
    facts = seen.facts[f"{size}-{colours}"]
    assert facts["width"] == {"phone": 390, "wide": 1280}[size]
    assert facts["cut"] == []
    assert facts["small"] == []
    assert facts["unlabelled"] == []
    assert facts["background"] == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[colours]
    faint = [(text, one, behind) for one, behind, text in facts["colours"] if contrast(one, behind) < 4.5]
    assert faint == []


def test_the_layout_does_not_shift(seen: SimpleNamespace) -> None:
    assert seen.facts["greedy"]["shift"] == 0
    assert seen.facts["phone"]["shift"] == 0


def test_a_file_with_another_checksum_is_refused(broken: dict[str, Any]) -> None:
    tampered = broken["tampered"]
    assert re.search(r"ort-wasm-simd-threaded\.wasm does not have the expected checksum. It was not used\.", tampered["bad"])
    assert tampered["written"] == ""


def test_loading_can_be_stopped(broken: dict[str, Any]) -> None:
    assert broken["hasty"]["status"].startswith("Loading was stopped. The first time, Write loads 15.1 MB")
    assert broken["hasty"]["canWrite"]


def test_a_page_opened_as_a_file_says_how_to_open_it(broken: dict[str, Any], demo: Path) -> None:
    assert "opened as a file" in broken["file"]["bad"]
    assert broken["file"]["code"] == f"python3 -m http.server --directory {demo}"
    assert not broken["file"]["canWrite"]


def test_a_browser_without_webassembly_is_told(broken: dict[str, Any]) -> None:
    assert "does not have WebAssembly" in broken["bare"]["bad"]
    assert not broken["bare"]["canWrite"]
