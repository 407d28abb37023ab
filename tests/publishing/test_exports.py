"""A publish with `formats`, in the real programs: what is published, what is not sent again, and what is removed."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from echoself_action.formats.runtimes.runtime_formats import PUBLISHED
from echoself_action.hub.client import open_hub
from echoself_action.hub.endpoint import Hub

from ..conftest import SMALL, Cli
from ..formats.random_models import write_random_model

TRAIN = f"train --tokenizer bytes {SMALL}"
DEPLOY = "deploy --hub hub --repo-id me/model --gate none"
GGUF = {"model-F32.gguf", "model-F16.gguf", "model-Q8_0.gguf"}
ONNX = {"onnx/model.onnx", "onnx/model_quantized.onnx"}
WEIGHTS, FILES = GGUF | ONNX, GGUF | ONNX | {"Modelfile", "template", "params"}


@pytest.fixture
def published(begun: Cli) -> dict[str, str]:
    return begun(TRAIN, f"{DEPLOY} --formats gguf,onnx")


@pytest.fixture
def hub(workspace: Path) -> Iterator[Hub]:
    with open_hub("hub", None) as found:
        yield found


def listed(hub: Hub, revision: str = "main") -> dict[str, str | None]:
    """The files of the repo, with the sha256 of those in LFS."""
    found = hub.api.model_info("me/model", revision=revision, files_metadata=True).siblings or []
    return {one.rfilename: one.lfs.sha256 if one.lfs else None for one in found}


def read(hub: Hub, name: str, revision: str = "main") -> str:
    return Path(hub.api.hf_hub_download("me/model", name, revision=revision)).read_text()


def commits(hub: Hub) -> list[str]:
    return [one.commit_id for one in hub.api.list_repo_commits("me/model")]


def local(name: str) -> Path:
    return Path("echoself-model") / (name if name in ONNX else f"gguf/{name}")


def test_the_exports_are_published_with_the_model_and_their_figures(published: dict[str, str], echoself: Cli, hub: Hub) -> None:
    assert {name for one in PUBLISHED.values() for name in one.published} == FILES
    there = listed(hub)
    digests = {name: sha256(local(name).read_bytes()).hexdigest() for name in FILES}
    assert {name: there[name] for name in WEIGHTS} == {name: digests[name] for name in WEIGHTS}  # all of them in LFS
    assert read(hub, "Modelfile") == local("Modelfile").read_text()
    facts = json.loads(read(hub, "training_metadata.json"))
    assert {one["file"]: one["sha256"] for one in facts["exports"]} == {name: digests[name] for name in WEIGHTS}
    assert facts["export_extras"] == {name: digests[name] for name in FILES - WEIGHTS}
    recorded = json.loads(read(hub, "provenance.json"))["files"]
    assert {name: recorded[name]["sha256"] for name in FILES} == digests
    card = read(hub, "README.md")
    for one in facts["exports"]:
        assert one["texts"] == 1000
        assert f"| `{one['file']}` | {one['size']:,} | {one['runtime']} | {one['max_abs_diff']:.1e} |" in card
    for line in ("ollama run hf.co/me/model:Q8_0", "llama-server -hf me/model:Q8_0", 'pipeline("text-generation", "me/model"'):
        assert line in card
    assert "from a table of half-precision values" in card
    page = Path("echoself-model/report.html").read_text()
    assert "Other formats" in page
    assert "onnx/model_quantized.onnx" in page
    assert not list(Path("echoself-model").glob(".writing-*"))


def test_an_unchanged_model_is_not_sent_or_run_again(
    published: dict[str, str], echoself: Cli, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, facts = commits(hub), read(hub, "training_metadata.json")
    outputs = echoself(DEPLOY, "--formats onnx,gguf")  # in any order
    logged = capsys.readouterr().out
    assert (outputs["deployed"], commits(hub)) == ("false", before)
    assert logged.count("already published as") == len(WEIGHTS)
    assert "nothing was sent" in logged
    assert (Path(published["model_dir"]) / "training_metadata.json").read_text() == facts
    shown = (tmp_path / "summary.md").read_text()
    assert "Other formats" in shown
    assert "| `model-Q8_0.gguf` |" in shown


def test_what_is_no_longer_exported_is_removed_and_files_of_others_stay(
    published: dict[str, str], echoself: Cli, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model-Q4_K_M.gguf", "onnx/model_fp16.onnx"):  # of another program
        hub.api.upload_file(path_or_fileobj=b"theirs", path_in_repo=name, repo_id="me/model")
    edited = read(hub, "Modelfile") + "SYSTEM Be brief.\n"
    hub.api.upload_file(path_or_fileobj=edited.encode(), path_in_repo="Modelfile", repo_id="me/model")
    echoself(DEPLOY, "--formats gguf")  # no onnx
    logged = capsys.readouterr().out
    assert "onnx/model.onnx, onnx/model_quantized.onnx: exported by an earlier publish and not by this one" in logged
    assert "Modelfile in me/model was not written by echoself-action, and is kept as it is" in logged
    there = listed(hub)
    assert not ONNX & there.keys()
    assert {*GGUF, "model-Q4_K_M.gguf", "onnx/model_fp16.onnx"} <= there.keys()
    assert read(hub, "Modelfile") == edited
    assert "model.onnx" not in read(hub, "README.md")
    once = commits(hub)
    assert echoself(DEPLOY, "--formats gguf")["deployed"] == "false"
    echoself(f"{TRAIN} --max-iters 30")  # another model, and no formats
    echoself(DEPLOY, "--dry-run")
    assert commits(hub) == once
    assert re.search(r"removed +[0-9,]+ bytes  model-F16\.gguf", capsys.readouterr().out)
    echoself(DEPLOY)
    assert not GGUF & listed(hub).keys()
    assert {"Modelfile", "model-Q4_K_M.gguf"} <= listed(hub).keys()
    assert len(commits(hub)) == len(once) + 1  # in the commit of the model
    assert json.loads(read(hub, "training_metadata.json"))["exports"] == []
    assert "Other formats" not in read(hub, "README.md")


def test_a_pull_fetches_no_exports_and_makes_the_same_ones_if_asked(
    published: dict[str, str], echoself: Cli, hub: Hub, tmp_path: Path
) -> None:
    echoself("pull --hub hub --repo-id me/model --output-dir pulled")
    assert not [path for path in Path("pulled").rglob("*") if path.suffix in (".gguf", ".onnx") or path.name == "Modelfile"]
    echoself("pull --hub hub --repo-id me/model --output-dir pulled --formats nanogpt,onnx,gguf")
    for name in FILES:
        assert Path("pulled", local(name).relative_to("echoself-model")).read_bytes() == local(name).read_bytes()
    assert Path("pulled/nanogpt/ckpt.pt").is_file()
    shown = (tmp_path / "summary.md").read_text()
    assert "**Exported for llama.cpp:** `pulled/gguf`. Run it with `llama-server -m pulled/gguf/model-Q8_0.gguf -c 32`" in shown
    assert '`pulled/onnx`. Run it with `onnxruntime.InferenceSession("pulled/onnx/model.onnx")`.' in shown
    assert "| `onnx/model.onnx` |" in shown


def test_a_pull_request_has_the_exports_and_removes_outdated_ones(published: dict[str, str], echoself: Cli, hub: Hub) -> None:
    before = commits(hub)
    outputs = echoself(DEPLOY, "--create-pr --formats onnx")
    assert outputs["pr_url"].endswith("/discussions/1")
    assert commits(hub) == before
    proposed = listed(hub, "refs/pr/1")
    assert proposed.keys() >= ONNX
    assert not (FILES - ONNX) & proposed.keys()
    events = hub.api.get_discussion_details("me/model", 1).events
    text = next(event.content for event in events if event.type == "comment")  # type: ignore[attr-defined]
    assert "| `model-F16.gguf` | removed |  |" in text
    assert echoself(DEPLOY, "--create-pr --formats onnx")["pr_url"].endswith("/discussions/1")  # the same one
    assert echoself(DEPLOY, "--create-pr --formats gguf,onnx")["pr_url"] == ""  # what main has


def test_a_dry_run_runs_the_exports_and_sends_nothing(
    begun: Cli, echoself: Cli, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = begun(TRAIN)
    echoself(DEPLOY, "--formats onnx --dry-run --tag v1")
    logged = capsys.readouterr().out
    assert logged.count("exported to onnx") == 2
    assert re.search(r"new +[0-9,]+ bytes  onnx/model\.onnx", logged)
    assert not hub.api.repo_exists("me/model")
    assert json.loads((Path(trained["model_dir"]) / "training_metadata.json").read_text())["exports"] == []


def test_a_cycle_publishes_exports_of_the_best_model(echoself: Cli, hub: Hub) -> None:
    outputs = echoself(f"cycle --hub hub --repo-id me/model --tokenizer bytes {SMALL} --formats gguf --tag v1")
    assert listed(hub, "v1").keys() >= GGUF
    assert outputs["tag"] == "v1"
    weights = Path(outputs["model_dir"]) / "model.safetensors"
    assert listed(hub)["model.safetensors"] == sha256(weights.read_bytes()).hexdigest()


def test_a_file_that_was_published_by_another_version_is_run_and_replaced(
    published: dict[str, str], echoself: Cli, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = read(hub, "training_metadata.json").replace(listed(hub)["model-F16.gguf"] or "", sha256(b"older").hexdigest())
    for name, content in (("model-F16.gguf", b"older"), ("training_metadata.json", changed.encode())):
        hub.api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="me/model")
    Path(published["model_dir"], "training_metadata.json").write_text(changed)
    echoself(DEPLOY, "--formats gguf,onnx")
    logged = capsys.readouterr().out
    assert "exported to gguf: model-F16.gguf" in logged
    assert "already published as gguf: model-F32.gguf" in logged
    digest = sha256(local("model-F16.gguf").read_bytes()).hexdigest()
    assert listed(hub)["model-F16.gguf"] == digest
    assert digest in read(hub, "training_metadata.json")


def test_metadata_of_somebody_else_can_not_have_files_removed(published: dict[str, str], echoself: Cli, hub: Hub) -> None:
    there = listed(hub)
    hub.api.upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id="me/model")
    facts = json.loads(read(hub, "training_metadata.json"))
    facts["export_extras"] |= {"notes.txt": sha256(b"mine").hexdigest(), "model.safetensors": there["model.safetensors"]}
    content = json.dumps(facts).encode()
    hub.api.upload_file(path_or_fileobj=content, path_in_repo="training_metadata.json", repo_id="me/model")
    echoself(DEPLOY)
    assert listed(hub).keys() >= {"notes.txt", "model.safetensors"}
    assert not FILES & listed(hub).keys()


def test_what_users_of_a_format_should_know_is_on_the_card(echoself: Cli, hub: Hub) -> None:
    write_random_model(Path("model"), "characters", n_layer=1)
    echoself(f"{DEPLOY} --checkpoint model --formats gguf")
    (first, *_), card = json.loads(read(hub, "training_metadata.json"))["exports"], read(hub, "README.md")
    assert any("has no end-of-text token" in line for line in first["notes"])
    for line in first["notes"]:
        assert f"- {line}\n" in card
