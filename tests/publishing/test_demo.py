"""demo: a static Space with a page that runs the model, on a real local Hub: created once, then one commit for each change."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, RepoCard
from huggingface_hub.hf_api import HfApi
from localhub import Account, LocalHub

from echoself_action.hub.client import open_hub
from echoself_action.hub.endpoint import Hub
from echoself_action.modes import deploy
from echoself_action.publishing.publication import Publication

from ..conftest import SMALL, Cli
from ..formats.foreign_files import save
from ..formats.nanecho_files import nanecho_checkpoint, state_dict

TRAIN = f"train --tokenizer bytes {SMALL} --data docs/*.md"
DEPLOY = "deploy --hub hub --repo-id me/model --demo --license mit"
SPACE = "me/model-demo"
PROVENANCE = json.dumps({"format": "echoself-provenance/1", "run": {}, "inputs_sha256": "0", "files": {}}).encode()
Before = Callable[[Callable[[Publication], None]], None]


@pytest.fixture
def trained(begun: Cli) -> dict[str, str]:
    return begun(TRAIN)


@pytest.fixture
def published(begun: Cli) -> dict[str, str]:
    return begun(TRAIN, DEPLOY)


@pytest.fixture
def hub(workspace: Path) -> Iterator[Hub]:
    with open_hub("hub", None) as opened:
        yield opened


@pytest.fixture
def before_the_space(monkeypatch: pytest.MonkeyPatch) -> Before:
    """Does something after the model is published, and before its page is."""

    def register(act: Callable[[Publication], None]) -> None:
        publish = deploy.publish_demo

        def acting(publication: Publication) -> Publication:
            act(publication)
            return publish(publication)

        monkeypatch.setattr(deploy, "publish_demo", acting)

    return register


def commits(api: HfApi, kind: str = "space") -> list[str]:
    """The titles, newest first."""
    found = api.list_repo_commits(SPACE if kind == "space" else "me/model", repo_type=kind)
    return [commit.title for commit in found]


def put(api: HfApi, files: dict[str, bytes], kind: str = "space") -> str:
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    repo_id = SPACE if kind == "space" else "me/model"
    return str(api.create_commit(repo_id, operations, commit_message="an edit", repo_type=kind).oid)


def read(api: HfApi, name: str, kind: str = "space") -> bytes:
    return Path(api.hf_hub_download(SPACE if kind == "space" else "me/model", name, repo_type=kind)).read_bytes()


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_space_has_the_page_and_its_model_in_one_commit(published: dict[str, str], hub: Hub) -> None:
    page = files_in(Path("echoself-model/demo"))
    assert {"index.html", "model/onnx/model.onnx", "model/tokenizer.json"} <= page.keys()
    there = set(hub.api.list_repo_files(SPACE, repo_type="space"))
    assert there == {*page, "README.md", "provenance.json", ".gitattributes"}  # nothing is left of the Hub's template
    assert all(read(hub.api, name) == content for name, content in page.items())
    assert commits(hub.api) == ["Demo of me/model at step 20", "initial commit"]
    assert json.loads(read(hub.api, "provenance.json"))["files"].keys() == page.keys()
    assert published["demo_url"].endswith(f"/spaces/{SPACE}")


def test_the_card_makes_it_a_static_space_of_the_model(published: dict[str, str], hub: Hub) -> None:
    info = hub.api.space_info(SPACE)
    assert (info.sdk, info.models, info.private) == ("static", ["me/model"], False)
    (listed,) = hub.api.list_spaces(models="me/model")
    assert listed.id == SPACE
    front = RepoCard(read(hub.api, "README.md").decode(), ignore_metadata_errors=False).data.to_dict()
    assert (front["app_file"], front["license"], front["title"]) == ("index.html", "mit", "model")
    assert len(front["short_description"]) <= 60


def test_the_model_card_the_summary_and_the_report_lead_to_it(echoself: Cli, trained: dict[str, str], tmp_path: Path) -> None:
    with LocalHub(tmp_path / "server", port=0) as server:
        outputs = echoself(DEPLOY.replace("--hub hub", f"--hub {server.url}"))
        url = f"{server.url}/spaces/{SPACE}"
        assert outputs["demo_url"] == url
        assert f"[{SPACE}]({url})" in read(HfApi(server.url, token=False), "README.md", "model").decode()
    assert f"[try it in the browser]({url})" in (tmp_path / "summary.md").read_text()
    assert SPACE in Path(outputs["report"]).read_text()


def test_an_unchanged_model_sends_nothing(
    echoself: Cli, published: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    before = commits(hub.api), commits(hub.api, "model")
    stored = {path: path.stat().st_mtime_ns for path in Path("hub").rglob("lfs/objects/*/*/*")}
    again = echoself(DEPLOY)
    assert capsys.readouterr().out.count("nothing was sent") == 2
    assert (commits(hub.api), commits(hub.api, "model")) == before
    assert {path: path.stat().st_mtime_ns for path in Path("hub").rglob("lfs/objects/*/*/*")} == stored
    assert (again["deployed"], again["demo_url"].endswith(SPACE)) == ("false", True)


def test_only_what_changed_is_sent_and_what_others_added_is_kept(
    echoself: Cli, published: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (
        read(hub.api, "README.md").decode().replace("colorFrom: blue", "colorFrom: red").replace("sdk: static", "sdk: docker")
    )
    provenance = json.loads(read(hub.api, "provenance.json"))
    provenance["files"]["old.js"] = {"sha256": "0" * 64, "size": 1}  # as of an earlier version of the page
    put(
        hub.api,
        {
            "README.md": f"{card}\nAsk Ada.\n".encode(),
            "old.js": b"1",
            "mine.txt": b"mine",
            "index.html": b"<p>an earlier page",
            "provenance.json": json.dumps(provenance).encode(),
        },
    )
    capsys.readouterr()
    echoself(DEPLOY)
    assert re.search(r"published 3 files, .*/spaces/me/model-demo", capsys.readouterr().out)  # the page, card, provenance
    there = hub.api.list_repo_files(SPACE, repo_type="space")
    assert ("mine.txt" in there, "old.js" in there) == (True, False)
    kept = read(hub.api, "README.md").decode()
    assert ("colorFrom: red" in kept, "Ask Ada." in kept, "sdk: static" in kept) == (True, True, True)
    assert read(hub.api, "index.html") == Path("echoself-model/demo/index.html").read_bytes()
    assert commits(hub.api)[:2] == ["Demo of me/model at step 20", "an edit"]


def test_a_dry_run_shows_the_space_and_makes_none(
    echoself: Cli, trained: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(DEPLOY, "--dry-run")
    out = capsys.readouterr().out
    assert re.search(r"main of \S+/spaces/me/model-demo: [\d,]+ bytes", out)
    assert re.search(r"new +[\d,]+ bytes  model/onnx/model_quantized\.onnx", out)
    assert Path("echoself-model/demo/index.html").is_file()
    assert not hub.api.repo_exists(SPACE, repo_type="space")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--create-pr", "create_pr publishes nothing before the pull request is merged"),
        ("--revision next", "it has the model on main, and revision is next"),
    ],
)
def test_what_is_not_on_main_has_a_page_but_no_space(
    echoself: Cli, published: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str], option: str, why: str
) -> None:
    hub.api.delete_repo(SPACE, repo_type="space")
    shutil.rmtree("echoself-model/demo")
    outputs = echoself(DEPLOY, option)
    assert f"no Space, because {why}" in capsys.readouterr().out
    assert outputs["demo_url"] == ""
    assert Path("echoself-model/demo/index.html").is_file()
    assert not hub.api.repo_exists(SPACE, repo_type="space")


def test_a_space_of_somebody_else_is_not_replaced(
    echoself: Cli, trained: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.api.create_repo(SPACE, repo_type="space", space_sdk="gradio")
    put(hub.api, {"app.py": b"print()"})
    echoself(DEPLOY, code=2)
    error = capsys.readouterr().err
    assert f"/spaces/{SPACE} exists, and echoself-action did not make it" in error
    assert "demo_repo_id" in error
    assert not hub.api.repo_exists("me/model")
    assert commits(hub.api) == ["an edit", "initial commit"]


def test_a_copy_of_another_space_is_not_replaced(
    echoself: Cli, trained: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has one commit, as a new Space has."""
    hub.api.create_repo(SPACE, repo_type="space", space_sdk="static")
    put(hub.api, {"index.html": b"mine"})
    hub.api.super_squash_history(SPACE, repo_type="space", commit_message="Duplicate from you/page")
    echoself(DEPLOY, code=2)
    assert "echoself-action did not make it" in capsys.readouterr().err
    assert read(hub.api, "index.html") == b"mine"


def test_a_model_that_onnx_can_not_hold_is_refused_with_what_asked_for_it(
    echoself: Cli, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nanecho = save(nanecho_checkpoint("cache", state_dict()), tmp_path / "nanecho.pt")
    echoself(DEPLOY, f"--checkpoint {nanecho}", code=3)
    error = capsys.readouterr().err
    assert "demo adds onnx to formats: remove it too." in error
    assert not hub.api.repo_exists("me/model")
    assert not hub.api.repo_exists(SPACE, repo_type="space")
    assert not Path("echoself-model/demo").exists()


def test_the_space_of_a_private_model_is_private_and_stays_so(
    echoself: Cli, trained: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "owner")
    with LocalHub(tmp_path / "server", token="owner") as server:
        api, target = HfApi(server.url, token="owner"), DEPLOY.replace("--hub hub", f"--hub {server.url}")
        api.create_repo("me/model", private=True)  # the input `private` is not set
        echoself(target)
        assert api.space_info(SPACE).private
        api.update_repo_settings(SPACE, repo_type="space", private=False)
        put(api, {"index.html": b"changed"})
        echoself(target, code=2)
        assert f"/spaces/{SPACE} is public, and me/model is private or gated" in capsys.readouterr().err
        assert read(api, "index.html") == b"changed"


def test_a_token_for_the_model_alone_is_refused_before_any_work(
    echoself: Cli, trained: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scoped = {
        name: Account("me", role="fineGrained", owns=frozenset(), resources=frozenset({"me/model", *more}))
        for name, more in {"model": (), "both": (f"spaces/{SPACE}",)}.items()
    }
    with LocalHub(tmp_path / "server", token="owner", accounts=scoped) as server:
        api, target = HfApi(server.url, token="owner"), DEPLOY.replace("--hub hub", f"--hub {server.url}")
        api.create_repo("me/model")
        monkeypatch.setenv("HF_TOKEN", "model")
        echoself(target, code=4)
        assert f"spaces/{SPACE} does not exist on {server.url}, or the fine-grained token" in capsys.readouterr().err
        api.create_repo(SPACE, repo_type="space", space_sdk="static")
        echoself(target, code=4)
        assert f"fine-grained token of me has no write access to spaces/{SPACE}" in capsys.readouterr().err
        assert commits(api, "model") == commits(api) == ["initial commit"]
        monkeypatch.setenv("HF_TOKEN", "both")
        echoself("doctor", target)
        assert re.search(rf"OK +demo +the static Space {SPACE} will be updated", capsys.readouterr().out)
        echoself(target)
        assert commits(api) == ["Demo of me/model at step 20", "initial commit"]
        assert "style.css" not in api.list_repo_files(SPACE, repo_type="space")


def test_if_the_space_fails_the_model_stays_published_and_the_next_run_repairs_it(
    echoself: Cli,
    trained: dict[str, str],
    hub: Hub,
    tmp_path: Path,
    before_the_space: Before,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.api.create_repo(SPACE, repo_type="space", space_sdk="static")
    settings = Path("hub/spaces/me/model-demo.git/hub/repo.json")
    enabled = settings.read_text()
    disabled = json.dumps({**json.loads(enabled), "disabled": True})  # as the Hub does with a Space against its rules
    before_the_space(lambda publication: settings.write_text(enabled if publication.is_same_model else disabled) and None)
    outputs = echoself(DEPLOY, code=4)
    error = capsys.readouterr().err
    assert f"The demo was not published to {outputs['repo_url'].rpartition('/me')[0]}/spaces/{SPACE}" in error
    assert "The model is published." in error
    assert (outputs["deployed"], outputs["demo_url"]) == ("true", "")
    assert outputs["commit_sha"] == hub.api.model_info("me/model").sha
    summary = (tmp_path / "summary.md").read_text()
    assert "The demo was not published" in summary
    assert "Published: " in summary
    settings.write_text(enabled)
    again = echoself(DEPLOY)
    assert (again["deployed"], again["demo_url"].endswith(SPACE)) == ("false", True)
    assert commits(hub.api) == ["Demo of me/model at step 20", "initial commit"]


def test_a_run_that_publishes_no_model_repairs_the_page(
    echoself: Cli, published: dict[str, str], hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a model was published and its page was not, a worse model comes: the page of the published one is made."""
    page = files_in(Path("echoself-model/demo"))
    refused = DEPLOY.replace("--demo", "--demo --gate max_val_loss=0.1")
    outputs = echoself(refused)  # it is there
    assert (outputs["gate_result"], outputs["demo_url"].endswith(SPACE)) == ("refused", True)
    assert len(commits(hub.api)) == 2
    hub.api.delete_repo(SPACE, repo_type="space")
    capsys.readouterr()
    outputs = echoself(refused)
    assert "does not have the published model: publishing its page" in capsys.readouterr().out
    assert (outputs["gate_result"], outputs["demo_url"].endswith(SPACE)) == ("refused", True)
    assert commits(hub.api) == ["Demo of me/model at step 20", "initial commit"]
    assert {name: read(hub.api, name) for name in page} == page


def test_the_page_of_a_model_without_onnx_waits_for_the_next_model(
    echoself: Cli, begun: Cli, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(TRAIN, DEPLOY.replace(" --demo", ""))
    assert echoself(DEPLOY.replace("--demo", "--demo --gate max_val_loss=0.1"))["demo_url"] == ""
    assert "Its page comes with the next model that is published" in capsys.readouterr().out
    assert not hub.api.repo_exists(SPACE, repo_type="space")


def test_an_edit_meanwhile_is_kept_and_the_page_is_published_on_top(
    echoself: Cli, published: dict[str, str], hub: Hub, before_the_space: Before
) -> None:
    put(hub.api, {"index.html": b"<p>an earlier page"})
    edited = read(hub.api, "README.md") + b"\nAsk Ada.\n"
    before_the_space(lambda _: put(hub.api, {"README.md": edited}) and None)
    echoself(DEPLOY)
    assert commits(hub.api)[:2] == ["Demo of me/model at step 20", "an edit"]
    assert b"Ask Ada." in read(hub.api, "README.md")
    assert read(hub.api, "index.html") == Path("echoself-model/demo/index.html").read_bytes()


def test_the_page_of_a_newer_model_is_not_replaced(
    echoself: Cli, published: dict[str, str], hub: Hub, before_the_space: Before, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another job publishes its model and its page between our model and our page."""
    put(hub.api, {"index.html": b"<p>an earlier page"})

    def other_job(_: Publication) -> None:
        put(hub.api, {"notes.md": b"newer"}, "model")
        put(hub.api, {"index.html": b"<p>the page of the newer model"})

    before_the_space(other_job)
    outputs = echoself(DEPLOY)
    assert "have new commits, of another job: its page is kept" in capsys.readouterr().out
    assert read(hub.api, "index.html") == b"<p>the page of the newer model"
    assert outputs["demo_url"].endswith(SPACE)


def test_of_two_jobs_that_create_the_space_the_second_plans_again(
    echoself: Cli, trained: dict[str, str], hub: Hub, before_the_space: Before
) -> None:
    def other_job(publication: Publication) -> None:
        hub.api.create_repo(SPACE, repo_type="space", space_sdk="static")
        page = {name: path.read_bytes() for name, path in publication.demo.page.items()}  # type: ignore[union-attr]
        put(hub.api, {**page, "index.html": b"<p>of a model that was refused", "provenance.json": PROVENANCE})

    before_the_space(other_job)
    echoself(DEPLOY)
    assert commits(hub.api) == ["Demo of me/model at step 20", "an edit", "initial commit"]
    assert read(hub.api, "index.html") == Path("echoself-model/demo/index.html").read_bytes()
