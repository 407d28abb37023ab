"""git-lfs, both ways: large files of a clone and of a push, with and without tokens."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi
from localhub import Limits, LocalHub

OWNER, STRANGER = "token-owner", "token-stranger"
REPO = "me/model"
LARGE = b"weights" * 1000


def address(hub, token):
    return f"{hub.url.replace('://', f'://user:{token}@')}/{REPO}"


@pytest.fixture
def committed(git_lfs, tmp_path):
    """A clone with a new commit of a large file; its id."""

    def make(url):
        folder = tmp_path / "clone"
        git_lfs("clone", url, folder)
        (folder / "new.safetensors").write_bytes(LARGE)
        git_lfs("add", ".", cwd=folder)
        git_lfs("commit", "-m", "Weights", cwd=folder)
        return folder, git_lfs("rev-parse", "HEAD", cwd=folder).stdout.strip()

    return make


def test_clone_has_the_large_files(git_lfs, api, repo, put, hub, tmp_path):
    put(api, {"model.safetensors": LARGE, "a.txt": b"text"})
    git_lfs("clone", f"{hub.url}/{repo}", tmp_path / "clone")
    assert (tmp_path / "clone" / "model.safetensors").read_bytes() == LARGE
    assert "model.safetensors" in git_lfs("lfs", "ls-files", cwd=tmp_path / "clone").stdout
    git_lfs("lfs", "fsck", cwd=tmp_path / "clone")
    put(api, {"model.safetensors": LARGE * 2})
    git_lfs("pull", cwd=tmp_path / "clone")
    assert (tmp_path / "clone" / "model.safetensors").read_bytes() == LARGE * 2


def test_large_files_are_fetched_when_they_are_needed(git_lfs, guarded, client_of, put, tmp_path):
    put(client_of(OWNER), {"one.safetensors": b"1" * 1000, "two.safetensors": b"2" * 1000})
    client_of(OWNER).update_repo_settings(REPO, private=True)
    folder = tmp_path / "clone"
    git_lfs("clone", address(guarded, OWNER), folder, GIT_LFS_SKIP_SMUDGE="1")
    assert (folder / "one.safetensors").read_bytes().startswith(b"version https://git-lfs")
    git_lfs("lfs", "pull", "--include", "one.safetensors", cwd=folder)
    assert (folder / "one.safetensors").read_bytes() == b"1" * 1000
    git_lfs("remote", "set-url", "origin", address(guarded, STRANGER), cwd=folder)
    assert git_lfs("lfs", "pull", cwd=folder, check=False).returncode != 0
    assert (folder / "two.safetensors").read_bytes().startswith(b"version https://git-lfs")


def test_push_uploads_the_large_files(git_lfs, guarded, client_of, committed):
    folder, newest = committed(address(guarded, OWNER))
    git_lfs("push", cwd=folder)
    info = client_of(OWNER).model_info(REPO, files_metadata=True)
    assert info.sha == newest
    assert [file.lfs.size for file in info.siblings if file.lfs] == [len(LARGE)]


def test_outsiders_push_large_files_to_their_own_pull_requests_only(git_lfs, guarded, client_of, committed):
    client_of(STRANGER).create_pull_request(REPO, title="Better weights")
    folder, newest = committed(address(guarded, STRANGER))
    assert git_lfs("push", "origin", "HEAD:main", cwd=folder, check=False).returncode != 0
    git_lfs("push", "origin", "HEAD:refs/pr/1", cwd=folder)
    client_of(STRANGER).change_discussion_status(REPO, 1, "open")
    client_of(OWNER).merge_pull_request(REPO, 1)
    info = client_of(OWNER).model_info(REPO, files_metadata=True)
    assert [file.lfs.size for file in info.siblings if file.lfs] == [len(LARGE)], newest


def test_hf_uploads_a_large_file_in_parts(git_lfs, committed, users_environment, tmp_path):
    """As the Hub demands it above 5 GB. One transfer agent uploads all files of a push, the small one too."""
    with LocalHub(tmp_path / "hub", limits=Limits(multipart_threshold=5000, chunk_size=3000)) as hub:
        api = HfApi(hub.url, token=False)
        api.create_repo(REPO)
        folder, _ = committed(f"{hub.url}/{REPO}")
        (folder / "small.safetensors").write_bytes(b"small")
        git_lfs("add", ".", cwd=folder)
        git_lfs("commit", "--amend", "-m", "Weights", cwd=folder)
        # the settings that `hf lfs-enable-largefiles` makes
        git_lfs("config", "lfs.customtransfer.multipart.path", "hf", cwd=folder)
        git_lfs("config", "lfs.customtransfer.multipart.args", "lfs-multipart-upload", cwd=folder)
        git_lfs("config", "lfs.customtransfer.multipart.concurrent", "false", cwd=folder)  # one process instead of eight
        done = git_lfs("push", cwd=folder, GIT_TRACE="1", HF_HOME=users_environment["HF_HOME"])
        assert "lfs-multipart-upload" in done.stderr
        for name, content in (("new.safetensors", LARGE), ("small.safetensors", b"small")):
            assert Path(api.hf_hub_download(REPO, name)).read_bytes() == content
