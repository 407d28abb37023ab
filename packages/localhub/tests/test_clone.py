"""`git clone` and `git fetch` read what was uploaded, and `git fsck` accepts it."""

import subprocess

import pytest
from huggingface_hub import HfApi

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


def test_pull_requests_are_fetched(git, api, repo, put, hub, tmp_path):
    proposed = put(api, {"a.txt": b"proposed"}, create_pr=True)
    folder = tmp_path / "clone"
    git("clone", f"{hub.url}/{repo}", folder)
    git("fetch", "origin", "refs/pr/1:pr/1", cwd=folder)
    git("checkout", "pr/1", cwd=folder)
    assert (folder / "a.txt").read_text() == "proposed"
    assert git("rev-parse", "HEAD", cwd=folder).stdout.strip() == api.model_info(repo, revision="refs/pr/1").sha
    assert "refs/pr/1" in git("ls-remote", f"{hub.url}/{repo}").stdout, proposed


def test_a_clone_without_files_gets_those_that_are_needed(git, api, repo, put, hub, tmp_path):
    put(api, {"a.txt": b"a" * 1000, "sub/b.txt": b"b" * 1000})
    folder = tmp_path / "clone"
    done = git("clone", "--filter=blob:none", "--sparse", f"{hub.url}/{repo}", folder)
    assert "filtering not recognized" not in done.stderr
    assert not (folder / "sub").exists()
    git("sparse-checkout", "set", "sub", cwd=folder)
    assert (folder / "sub/b.txt").read_bytes() == b"b" * 1000


def test_a_credential_helper_has_the_token_of_hf_auth_login(git, users_hub, users_environment, tmp_path):
    HfApi(users_hub.url, token="hf_me").create_repo("me/secret", private=True)
    config = tmp_path / "gitconfig"
    config.write_text(f"[credential]\n\thelper = store --file={tmp_path}/passwords\n")
    environment = {**users_environment, "GIT_CONFIG_GLOBAL": str(config)}
    del environment["HF_TOKEN"]
    options = ("--token", "hf_me", "--add-to-git-credential")
    subprocess.run(["hf", "auth", "login", *options], env=environment, check=True, capture_output=True, timeout=60)
    git("clone", f"{users_hub.url}/me/secret", tmp_path / "clone", GIT_CONFIG_GLOBAL=str(config))
    assert (tmp_path / "clone" / ".gitattributes").exists()
