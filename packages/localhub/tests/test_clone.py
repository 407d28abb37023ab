"""`git clone` reads what was uploaded, with git-lfs and without, and `git fsck` accepts it."""

import shutil

import pytest

OWNER, STRANGER = "token-owner", "token-stranger"


@pytest.mark.parametrize("version", ["0", "2"])
def test_clone_has_files_history_branches_and_tags(git, api, repo, put, hub, tmp_path, version):
    put(api, {"a.txt": b"1\n", "model.safetensors": b"weights"})
    api.create_tag(repo, tag="v1", tag_message="First")
    put(api, {"a.txt": b"2\n"}, commit_message="Second")
    api.create_branch(repo, branch="state")
    git("-c", f"protocol.version={version}", "clone", f"{hub.url}/{repo}", tmp_path / "clone")
    assert (tmp_path / "clone" / "a.txt").read_text() == "2\n"
    assert (tmp_path / "clone" / "model.safetensors").read_text().startswith("version https://git-lfs")
    log = git("log", "--format=%s", cwd=tmp_path / "clone").stdout.split("\n")
    assert log[:3] == ["Second", "Put a.txt, model.safetensors", "initial commit"]
    assert git("tag", "-n", cwd=tmp_path / "clone").stdout.split() == ["v1", "First"]
    assert "origin/state" in git("branch", "-r", cwd=tmp_path / "clone").stdout
    git("fsck", "--strict", cwd=tmp_path / "clone")
    put(api, {"a.txt": b"3\n"})
    git("pull", cwd=tmp_path / "clone")
    assert (tmp_path / "clone" / "a.txt").read_text() == "3\n"


@pytest.mark.skipif(not shutil.which("git-lfs", path="/usr/bin:/bin"), reason="git-lfs is not installed")
def test_clone_with_git_lfs_has_the_large_files(git, api, repo, put, hub, tmp_path):
    put(api, {"model.safetensors": b"weights"})
    lfs = ["-c", "filter.lfs.smudge=git-lfs smudge -- %f", "-c", "filter.lfs.required=true"]
    git(*lfs, "clone", f"{hub.url}/{repo}", tmp_path / "clone")
    assert (tmp_path / "clone" / "model.safetensors").read_bytes() == b"weights"


def test_clone_of_a_dataset(git, api, put, hub, tmp_path):
    api.create_repo("me/data", repo_type="dataset")
    put(api, {"a.txt": b"1\n"}, repo_id="me/data", repo_type="dataset")
    git("clone", "--depth", "1", f"{hub.url}/datasets/me/data.git", tmp_path / "clone")
    assert (tmp_path / "clone" / "a.txt").read_text() == "1\n"


def test_clone_of_a_private_repo_needs_the_token(git, client_of, guarded, tmp_path):
    client_of(OWNER).update_repo_settings("me/model", private=True)
    host = guarded.url.removeprefix("http://")
    assert git("clone", guarded.url + "/me/model", tmp_path / "no", check=False).returncode != 0
    assert git("clone", f"http://x:{STRANGER}@{host}/me/model", tmp_path / "no", check=False).returncode != 0
    git("clone", f"http://x:{OWNER}@{host}/me/model", tmp_path / "yes")
    assert (tmp_path / "yes" / ".gitattributes").exists()
