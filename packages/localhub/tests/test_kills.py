"""kills.py in small: a killed Hub has what it acknowledged, and the script finds what it has not."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from localhub import LocalHub


@pytest.fixture(scope="module")
def kills():
    spec = importlib.util.spec_from_file_location("kills", Path(__file__).with_name("kills.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # for its dataclasses
    spec.loader.exec_module(module)
    yield module
    del sys.modules["kills"]


def test_a_hub_that_is_killed_under_load_has_all_it_acknowledged(kills, tmp_path):
    names = ("regular-a", "merges", "pushes")
    attempted, acknowledged, losses = kills.torture(tmp_path, kills=1, seconds=1, seed=3, names=names)
    assert losses == []
    assert {"commit of regular files", "pull request", "git push"} <= acknowledged.keys()
    assert attempted >= acknowledged


@pytest.fixture(scope="module")
def original(kills, tmp_path_factory):
    """The folder of a Hub with a write of each client, and that of their notes."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "clients").mkdir()
    with LocalHub(folder / "hub") as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        patch.setattr(kills, "REPOS", kills.REPOS[:1])
        HfApi(hub.url, token=False).create_repo("me/model")
        HfApi(hub.url, token=False).create_repo("me/data", repo_type="dataset")
        for name in ("regular-a", "lfs", "references", "merges", "repos", "pushes"):
            client = kills.Client(hub.url, name, folder / "clients")
            getattr(client, name.partition("-")[0])()
    return folder


@pytest.fixture
def written(kills, original, tmp_path):
    """A copy of the folder, and the writes."""
    shutil.copytree(original / "hub", tmp_path / "hub")
    writes = list(kills.read_logs(original / "clients"))
    assert sum("answer" in write for write in writes) == len(writes) > 8
    return tmp_path / "hub", writes


def damage_large_file(repo):
    next(path for path in (repo / "lfs/objects").rglob("*") if path.is_file()).write_bytes(b"damaged")


def drop_last_commits(repo):
    (repo / "refs/heads/main").write_text((repo / "refs/heads/before").read_text())


def drop_tag(repo):
    shutil.rmtree(repo / "refs/tags")


def drop_discussion(repo):
    (repo / "hub/discussions/1.json").unlink()


def drop_commit(repo):
    commit = (repo / "refs/tags" / "v-references-1").read_text().strip()
    (repo / "objects" / commit[:2] / commit[2:]).unlink()


@pytest.mark.parametrize("damage", [None, damage_large_file, drop_last_commits, drop_tag, drop_discussion, drop_commit])
def test_the_script_finds_what_is_lost(kills, written, damage):
    folder, writes = written
    repo = folder / "models/me/model.git"
    with LocalHub(folder) as hub:
        api = HfApi(hub.url, token=False)
        if damage is not None:
            first = api.list_repo_commits("me/model")[-1].commit_id
            api.create_branch("me/model", branch="before", revision=first)
            damage(repo)
        losses = kills.Check(api, folder, writes).losses()
    assert bool(losses) == (damage is not None)


def test_the_script_finds_what_half_of_a_write_left(kills, written):
    folder, writes = written
    write = next(write for write in writes if "files" in write)
    del write["answer"]
    write["files"]["other.txt"] = 100
    with LocalHub(folder) as hub:
        losses = kills.Check(HfApi(hub.url, token=False), folder, writes).losses()
    assert [loss.partition(":")[0] for loss in losses] == ["half of it is on main"]
