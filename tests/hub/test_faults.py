"""What goes wrong between here and the Hub ends in success after another try, or in exit 4 with the Hub and the disk whole.

Every case goes through the command line and a proxy that breaks some of its requests (faults.py), then looks at what is on the
Hub and on the disk. After an exit 4 a second run without faults has to complete the job.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pytest
from localhub import Account, LocalHub

from echoself_action.__main__ import main
from echoself_action.checkpoint.model_folder import check_weights, read_model_folder
from echoself_action.checkpoint.select import latest
from echoself_action.hub.client import open_hub
from echoself_action.hub.fetch import fetch
from echoself_action.hub.publish import changes, model_files
from echoself_action.hub.repo import look_up

from ..conftest import SCENES
from . import faults
from .faults import Effect, Fault, FaultyHub, status

REPO, TOKEN, READER = "me/model", "hf_writes", "hf_reads"
SMALL = "--n-layer 1 --n-head 2 --n-embd 16 --block-size 32 --batch-size 2 --max-iters 2 --eval-interval 2 --device cpu"
TRAINING = f"--preset ci --data docs/*.md --tokenizer bytes {SMALL}"
WORDS = {"deploy": "", "pull": "--output-dir pulled", "cycle": TRAINING}

LOOK, HEAD = ("GET", "/api/models/me/model/revision/main$"), ("HEAD", r"/model\.safetensors$")
FILE = ("GET", r"/resolve/.*/model\.safetensors$")
UPLOAD, COMMIT = ("PUT", "/lfs/upload/"), ("POST", "/commit/main$")
ALWAYS = 99


@dataclass
class Site:
    """A workspace with a model that is two steps further on than the Hub's."""

    workspace: Path
    server: LocalHub
    before: list[str]  # the commits of main, newest first
    capsys: pytest.CaptureFixture[str]

    def run(self, mode: str, *plan: Fault, seed: int = 0) -> tuple[int, str]:
        """The exit code and the output. Every fault of the plan has occurred; without one there is no proxy."""
        proxy = FaultyHub(self.server.url, plan, seed)
        with proxy if plan else nullcontext():
            hub = proxy.url if plan else self.server.url
            code = main([mode, "--hub", hub, "--repo-id", REPO, *WORDS[mode].split()])
        captured = self.capsys.readouterr()
        logged = captured.out + captured.err
        assert proxy.broken == []
        assert [fault for fault in plan if not fault.struck] == [], proxy.requests
        assert "Traceback" not in logged
        assert TOKEN not in logged
        self.is_whole()
        return code, logged

    def is_refused(self, mode: str, message: str, *plan: Fault) -> None:
        """It ends in exit 4 with one message, the Hub is as it was, and the next run completes the job."""
        code, logged = self.run(mode, *plan)
        assert code == 4, logged
        [errors] = re.findall(r"^echoself: (.*)", logged, re.MULTILINE)
        assert message in errors
        assert self.history() == self.before
        assert self.run(mode)[0] == 0
        self.is_done(mode)

    def is_whole(self) -> None:
        """The Hub and each folder here hold a complete model, and there are no partial files."""
        with open_hub(self.server.url, TOKEN) as hub:
            remote = look_up(hub, REPO, "main")
            assert remote.model
            if remote.model.commit != self.before[0]:
                assert fetch(hub, remote, self.workspace / "check").model.metadata
                shutil.rmtree(self.workspace / "check")
        for folder in [*self.workspace.glob("echoself-model/*/"), *self.workspace.glob("pulled/*/")]:
            assert re.fullmatch(r"checkpoint-\d+", folder.name)
            check_weights(read_model_folder(folder))

    def history(self) -> list[str]:
        """The commits of main, newest first."""
        with open_hub(self.server.url, TOKEN) as hub:
            return [commit.commit_id for commit in hub.api.list_repo_commits(REPO)]

    def is_done(self, mode: str) -> None:
        """The Hub has what is newest here, in one commit more; or what it had is here."""
        if mode == "pull":
            assert read_model_folder(self.workspace / "pulled/checkpoint-2").has_training_state
            return
        newest = latest(self.workspace / "echoself-model")
        assert newest
        with open_hub(self.server.url, TOKEN) as hub:
            assert not changes(model_files(newest, None), look_up(hub, REPO, "main").model)
        assert self.history()[1:] == self.before


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hub/` holds step 2 of a model, `workspace/` steps 2 and 4."""
    root = tmp_path_factory.mktemp("prepared")
    docs = root / "workspace/docs"
    docs.mkdir(parents=True)
    for scene in SCENES[16:26]:  # eight to train on and two held out
        shutil.copy(scene, docs)
    before = Path.cwd()
    os.chdir(root / "workspace")
    try:
        with LocalHub(root / "hub") as server:
            assert main(["cycle", "--hub", server.url, "--repo-id", REPO, *TRAINING.split()]) == 0
        assert main(["train", *TRAINING.split()]) == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def site(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    shutil.copytree(prepared, tmp_path / "site")
    monkeypatch.chdir(tmp_path / "site/workspace")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    accounts = {READER: Account("someone", "read")}
    with LocalHub(tmp_path / "site/hub", token=TOKEN, accounts=accounts) as server:
        here = Site(tmp_path / "site/workspace", server, [], capsys)
        here.before = here.history()
        yield here


PASSING: dict[str, tuple[Effect, int]] = {
    "429-and-when-to-come-back": (status(429, Retry_After="0"), 2),
    "429": (status(429), 1),
    "500": (status(500), 1),
    "502": (status(502), 1),
    "503-twice": (status(503, Retry_After="0"), 2),
    "504": (status(504), 1),
    "silence": (faults.silent, 1),
    "reset": (faults.reset, 1),
    "reset-mid-body": (faults.reset_mid_body, 1),
    "cut-short": (faults.truncated, 1),
    "lost-answer": (faults.lost_answer, 1),
    "gateway-timeout": (faults.timed_out_behind, 1),
    "trickle": (faults.trickle(0.05), 1),
    "trickle-that-stops": (faults.trickle(1, pieces=2), 1),
}
# in a cycle something strikes while it pulls, and again while it publishes
PLACES = {"deploy": (UPLOAD, COMMIT), "pull": (LOOK, FILE), "cycle": (FILE, COMMIT)}


@pytest.mark.parametrize("mode", PLACES)
@pytest.mark.parametrize("name", PASSING)
def test_temporary_faults_are_retried(site: Site, mode: str, name: str) -> None:
    effect, times = PASSING[name]
    code, logged = site.run(mode, *(Fault(*place, effect, times=times) for place in PLACES[mode]))
    assert code == 0, logged
    site.is_done(mode)


LASTING: dict[str, tuple[Effect, str]] = {
    "429-for-an-hour": (status(429, Retry_After="3600"), "asks for a pause of 3600 s"),
    "503": (status(503, Retry_After="0"), "refused (503)"),
    "silence": (faults.silent, "can't be reached"),
    "reset": (faults.reset, "can't be reached"),
    "no-answer-of-a-hub": (faults.login_page, "sent an invalid response"),
    "401": (status(401), "rejected the token"),
    "token-that-expired": (faults.as_token("hf_expired"), "rejected the token"),
    "403": (status(403), "refused (403)"),
    "409": (status(409), "refused (409)"),
    "412": (status(412), "refused (412)"),
}


@pytest.mark.parametrize(("mode", "place"), [("deploy", COMMIT), ("pull", LOOK), ("cycle", COMMIT)], ids=PLACES)
@pytest.mark.parametrize("name", LASTING)
def test_permanent_faults_are_reported_and_change_nothing(site: Site, mode: str, place: tuple[str, str], name: str) -> None:
    effect, message = LASTING[name]
    site.is_refused(mode, message, Fault(*place, effect, times=ALWAYS))


# of a token that has expired the public Hub says the same as of a repo that is private
SECRETIVE = status(401, X_Error_Code="RepoNotFound")
ELSEWHERE: dict[str, tuple[str, tuple[str, str], Effect, str]] = {
    "upload-503": ("deploy", UPLOAD, status(503, Retry_After="0"), "refused (503): uploading to training-state failed"),
    "upload-403": ("deploy", UPLOAD, status(403), "refused (403): uploading to training-state failed"),
    "upload-damaged": ("deploy", UPLOAD, faults.corrupted_upload, "failed: The upload does not match its declaration"),
    "upload-to-no-hub": ("deploy", UPLOAD, faults.login_page, "failed: LFS pointer pointed to a file that does not exist"),
    "token-that-may-only-read": ("deploy", COMMIT, faults.as_token(READER), "refused (403): publishing to main failed"),
    "429-by-the-window": ("pull", LOOK, status(429, RateLimit='"api";r=0;t=900'), "asks for a pause of 901 s"),
    "look-cut-short": ("pull", LOOK, faults.truncated, "can't be reached: looking up revision main failed"),
    "head-503": ("pull", HEAD, status(503, Retry_After="0"), "refused (503): fetching model.safetensors failed"),
    "head-403": ("pull", HEAD, status(403), "refused (403): fetching model.safetensors failed"),
    "token-that-expired": ("pull", HEAD, faults.as_token("hf_expired"), "rejected the token"),
    "file-503": ("pull", FILE, status(503, Retry_After="0"), "refused (503): fetching model.safetensors failed"),
    "file-damaged": ("pull", FILE, faults.corrupted, "model.safetensors of me/model is corrupted after two downloads"),
    "file-damaged-cycle": ("cycle", FILE, faults.corrupted, "model.safetensors of me/model is corrupted after two downloads"),
    "look-by-a-token-that-expired": ("pull", LOOK, SECRETIVE, "rejected the token"),
    "look-by-a-token-that-expired-cycle": ("cycle", LOOK, SECRETIVE, "rejected the token"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_permanent_faults_are_reported_at_every_request(site: Site, name: str) -> None:
    mode, place, effect, message = ELSEWHERE[name]
    site.is_refused(mode, message, Fault(*place, effect, times=ALWAYS))


@pytest.mark.parametrize("mode", ["pull", "cycle"])
def test_a_damaged_download_is_repeated(site: Site, mode: str) -> None:
    code, logged = site.run(mode, Fault(*FILE, faults.corrupted))
    assert code == 0
    assert "model.safetensors of me/model is corrupted. Downloading it again." in logged
    site.is_done(mode)


def test_a_damaged_upload_is_detected_and_replaced_by_the_next_run(site: Site) -> None:
    code, logged = site.run("deploy", Fault(*COMMIT, faults.damaged_card))
    assert code == 4
    assert "differs from what was uploaded" in logged
    assert site.run("deploy")[0] == 0
    assert len(site.history()) == len(site.before) + 2


def test_every_request_of_a_first_publish_is_retried_if_its_response_is_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("/repos/create", "/branch/training-state", "/commit/training-state", "/commit/main", "/tag/")
    plan = [Fault("POST", step, faults.lost_answer) for step in steps]
    monkeypatch.setitem(WORDS, "deploy", "--repo-id me/other --tag v1")
    code, logged = site.run("deploy", *plan)
    assert code == 0, logged
    with open_hub(site.server.url, TOKEN) as hub:
        head, _ = hub.api.list_repo_commits("me/other")
        assert hub.api.list_repo_refs("me/other").tags[0].target_commit == head.commit_id
        assert len(hub.api.list_repo_commits("me/other", revision="training-state")) == 2


def meanwhile_deployed(site: Site) -> Fault:
    """Another deploy, in a process of its own, that does all its work between our last look and our commit."""
    words = [sys.executable, "-m", "echoself_action", "deploy", "--repo-id", REPO, "--license", "mit", "--hub", site.server.url]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    other = partial(subprocess.run, words, check=True, capture_output=True, env=environment)
    return Fault(*COMMIT, faults.meanwhile(other))


def license_there(site: Site) -> bool:
    with open_hub(site.server.url, TOKEN) as hub:
        return "license: mit" in Path(hub.api.hf_hub_download(REPO, "README.md")).read_text()


def test_of_two_concurrent_deploys_one_fails_with_a_message(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "60")
    monkeypatch.setitem(WORDS, "deploy", "--gate none")  # nothing that it could be compared by
    code, logged = site.run("deploy", meanwhile_deployed(site))
    assert code == 4
    assert "refused (412): publishing to main failed" in logged
    assert "which was not overwritten" in logged
    assert site.history()[1:] == site.before
    assert license_there(site)
    assert site.run("deploy")[0] == 0


def test_the_loser_of_two_deploys_is_compared_with_the_winner(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "60")
    code, logged = site.run("deploy", meanwhile_deployed(site))
    assert code == 0
    assert "another job published to me/model meanwhile: comparing with its model" in logged
    assert "nothing was sent" in logged  # it is the same model
    assert site.history()[1:] == site.before
    assert license_there(site)


@pytest.mark.parametrize("seed", range(3))
def test_no_fault_at_any_request_of_a_cycle_leaves_a_partial_model(site: Site, seed: int) -> None:
    random = Random(seed)
    effects = [effect for effect, _ in PASSING.values()] + [faults.corrupted, faults.corrupted_upload]
    plan = [Fault(".*", ".", random.choice(effects), nth=nth) for nth in random.sample(range(1, 25), 3)]
    assert site.run("cycle", *plan, seed=seed)[0] in (0, 4)
    assert site.run("cycle")[0] == 0
