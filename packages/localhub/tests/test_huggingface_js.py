"""huggingface.js, the client for JavaScript, against a Hub: one Node process makes all calls, the tests read what it got."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from localhub import Account, Limits, LocalHub

PACKAGE = "@huggingface/hub@2.17.5"
TOKEN = "hf_me"  # the client takes no other token than one that begins so
BIG = 2_500_000


@pytest.fixture(scope="module")
def found(tmp_path_factory, unavailable):
    """What each call returned."""
    if missing := [name for name in ("npm", "node") if not shutil.which(name)]:
        unavailable(f"{missing[0]} is not installed on this machine (https://nodejs.org)")
    folder = tmp_path_factory.mktemp("node")
    script = folder / "huggingface_js.mjs"  # beside the package, because an import by name searches the folders above
    shutil.copy(Path(__file__).with_name(script.name), script)
    install = ["npm", "install", "--silent", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    done = subprocess.run([*install, "--prefix", folder, PACKAGE], capture_output=True, text=True, timeout=200)
    if done.returncode:
        unavailable(f"npm can't install {PACKAGE}: {done.stderr[-500:]}")
    limits = Limits(multipart_threshold=1_000_000, chunk_size=300_000, page_size=7)
    with LocalHub(folder / "hub", accounts={TOKEN: Account("me", owns=frozenset({"me"}))}, limits=limits) as hub:
        done = subprocess.run(["node", script, hub.url, TOKEN, folder], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return {**json.loads(done.stdout), "url": hub.url}


def test_who_am_i(found):
    assert found["whoAmI"] == ["me", "user", "write"]


def test_a_repo_is_created_with_its_first_files(found):
    assert found["createRepo"] == {"repoUrl": f"{found['url']}/me/model", "id": "me/model"}
    assert found["created"] == [".gitattributes", "README.md", "config.json", "sub", "sub/deep", "sub/deep/a.txt"]
    assert found["createdAgain"]["status"] == 409


def test_files_are_uploaded_to_git_and_to_lfs(found):
    assert found["uploadFiles"]["url"] == f"{found['url']}/me/model/commit/{found['uploadFiles']['oid']}"
    assert found["again"] != found["uploadFiles"]["oid"]
    assert found["listFiles"] == [
        [".gitattributes", 19, False, "With attributes"],
        ["README.md", 21, False, "initial commit"],
        ["a.large", 5, True, "With attributes"],
        ["config.json", 22, False, "initial commit"],
        ["copy.safetensors", BIG, True, "Add copy.safetensors"],
        ["empty folder/b.bin", 6, True, "Upload"],
        ["empty.txt", 0, False, "Upload"],
        ["model.safetensors", BIG, True, "Upload"],
        ["not.bin", 5, False, "With attributes"],
        ["small.txt", 5, False, "Upload"],
        ["sub/deep/a.txt", 2, False, "initial commit"],
    ]
    assert found["listFolder"] == [["sub/deep", "directory"]]


def test_paths_info(found):
    assert found["pathsInfo"] == [
        ["small.txt", "file", 5, None, "Upload"],
        ["model.safetensors", "file", BIG, BIG, "Upload"],
        ["sub", "directory", 0, None, "initial commit"],
    ]
    assert found["pathsInfoAtHead"] == 1


def test_a_file_is_downloaded_whole_in_part_and_as_git_stores_it(found):
    assert found["downloadFile"] == [BIG, True]
    assert found["downloadRange"] is True
    assert found["downloadText"] == "ä"
    assert found["downloadRaw"].startswith("version https://git-lfs.github.com/spec/v1\noid sha256:")
    assert found["downloadRaw"].endswith(f"\nsize {BIG}\n")
    assert found["downloadEmpty"] == [0, ""]
    assert found["downloadOld"] is None
    assert found["downloadInfo"] == 5


def test_what_exists(found):
    assert found["fileExists"] == [True, True, False]
    assert found["repoExists"] == [True, False]


def test_info_of_a_model_a_dataset_and_a_space(found):
    name, private, author, tags, commit, files = found["modelInfo"]
    assert (name, private, author, len(commit), files) == ("me/model", False, "me", 40, 11)
    assert "license:mit" in tags
    assert found["datasetInfo"] is True
    assert found["spaceInfo"] == "static"
    assert found["anonymous"]["status"] == 401


def test_commits_are_counted_and_listed_in_pages(found):
    assert found["countCommits"] == 4
    assert found["listCommits"] == ["With attributes", "Add copy.safetensors", "Upload", "initial commit"]


def test_a_snapshot_has_all_files(found):
    assert found["snapshot"] == [name for name, *_ in found["listFiles"]]
    assert found["snapshotContent"] is True


def test_a_pull_request_is_opened_by_an_upload(found):
    assert found["pullRequestUrl"] == f"{found['url']}/me/model/discussions/1"
    assert found["ofPullRequest"] == "proposed"


def test_a_branch_takes_commits_and_refuses_stale_ones(found):
    assert "new.txt" in found["branch"]
    assert "small.txt" not in found["branch"]
    assert found["stale"]["status"] == 412
    assert found["afterBranch"]["status"] == 404


def test_a_branch_is_overwritten_only_on_request_and_may_be_empty(found):
    assert found["branchExists"]["status"] == 409
    assert (found["branchKept"], found["branchMoved"]) == (5, 4)
    assert found["emptyBranch"] == [1, 0]


def test_files_and_repos_are_deleted(found):
    assert {"small.txt", "sub/deep/a.txt"}.isdisjoint(found["afterDelete"])
    assert len(found["afterDelete"]) == 9
    assert found["deleted"]["status"] == 404


def test_repos_are_listed(found):
    assert found["listModels"] == ["me/model", "me/second"]
    assert found["listModelsLimit"] == [["me/second", 0, True]]
    assert found["listDatasets"] == ["me/data"]
    assert found["listSpaces"] == [["me/demo", "static"]]
