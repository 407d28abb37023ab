"""Branches, tags, and squashed histories."""

import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError


def names(refs):
    return [ref.name for ref in refs]


def test_branch_starts_at_the_given_revision(api, repo, put):
    first = put(api, {"a.txt": b"1"})
    put(api, {"a.txt": b"2"})
    api.create_branch(repo, branch="old", revision=first)
    api.create_branch(repo, branch="feature/new")
    branches = {ref.name: ref for ref in api.list_repo_refs(repo).branches}
    assert list(branches) == ["feature/new", "main", "old"]
    assert branches["old"].target_commit == first
    assert branches["feature/new"].ref == "refs/heads/feature/new"
    assert api.model_info(repo, revision="feature/new").sha == api.model_info(repo).sha
    api.delete_branch(repo, branch="feature/new")
    assert names(api.list_repo_refs(repo).branches) == ["main", "old"]


def test_a_branch_with_slashes_and_a_full_ref_are_revisions_everywhere(api, repo, put, ask, hub):
    api.create_branch(repo, branch="feature/new")
    commit = put(api, {"dir/a.txt": b"a"}, revision="feature/new")
    api.create_tag(repo, tag="feature/new", revision="main")  # the branch is meant first
    for revision in ("feature/new", "refs/heads/feature/new"):
        assert api.model_info(repo, revision=revision).sha == commit
        assert [item.path for item in api.list_repo_tree(repo, "dir", revision=revision)] == ["dir/a.txt"]
        assert api.list_repo_commits(repo, revision=revision)[0].commit_id == commit
        assert Path(api.hf_hub_download(repo, "dir/a.txt", revision=revision)).read_bytes() == b"a"
        quoted = quote(revision, safe="")
        paths = (
            f"{verb}/{quoted}/{path}" for verb, path in (("resolve", "dir/a.txt"), ("raw", "dir/a.txt"), ("blob", "dir/a.txt"))
        )
        for path in (*paths, f"tree/{quoted}/dir", f"commits/{quoted}"):
            for method in ("GET", "HEAD"):
                assert ask(hub.url, method, f"/{repo}/{path}").status == 200
    api.delete_branch(repo, branch="feature/new")
    assert api.model_info(repo, revision="feature/new").sha == api.model_info(repo).sha


def test_branch_errors_are_those_of_the_hub(api, repo):
    with pytest.raises(HfHubHTTPError, match="Reference refs/heads/main already exists") as refused:
        api.create_branch(repo, branch="main")
    assert refused.value.response.status_code == 409
    api.create_branch(repo, branch="main", exist_ok=True)
    with pytest.raises(BadRequestError, match="Invalid reference for a branch"):
        api.create_branch(repo, branch="bad..name")
    with pytest.raises(RevisionNotFoundError):
        api.create_branch(repo, branch="x", revision="nothing")
    with pytest.raises(HfHubHTTPError, match="Cannot delete refs/heads/main"):
        api.delete_branch(repo, branch="main")
    with pytest.raises(HfHubHTTPError, match="Invalid rev id"):
        api.delete_branch(repo, branch="nothing")


@pytest.mark.parametrize("name", ["a" * 40, "refs/pr/1", "HEAD", "-x"])
def test_branch_that_would_hide_another_revision_is_rejected(api, repo, name):
    with pytest.raises(BadRequestError, match="Invalid reference for a branch"):
        api.create_branch(repo, branch=name)


@pytest.mark.parametrize("message", [None, "the first one\nwith two lines"])
def test_tag_names_a_commit(api, repo, put, message):
    commit = put(api, {"a.txt": b"1"})
    api.create_tag(repo, tag="v1", tag_message=message)
    put(api, {"a.txt": b"2"})
    (tag,) = api.list_repo_refs(repo).tags
    assert (tag.name, tag.ref, tag.target_commit) == ("v1", "refs/tags/v1", commit)
    assert api.model_info(repo, revision="v1").sha == commit


def test_tag_errors_are_those_of_the_hub(api, repo):
    api.create_tag(repo, tag="v1")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(repo, tag="v1")
    assert refused.value.response.status_code == 409
    api.create_tag(repo, tag="v1", exist_ok=True)
    for tag in ("v2", "bad name"):  # the missing revision comes first
        with pytest.raises(RevisionNotFoundError):
            api.create_tag(repo, tag=tag, revision="nothing")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v2")
    with pytest.raises(BadRequestError):
        api.create_tag(repo, tag="bad name")
    api.delete_tag(repo, tag="v1")
    assert api.list_repo_refs(repo).tags == []


def test_squash_leaves_one_commit_with_all_files(api, repo, put):
    put(api, {"a.txt": b"1", "model.safetensors": b"weights"})
    old = put(api, {"a.txt": b"2"})
    api.create_tag(repo, tag="before")
    files = api.list_repo_files(repo)
    api.super_squash_history(repo, commit_message="All in one")
    (commit,) = api.list_repo_commits(repo)
    assert commit.title == "All in one"
    assert api.list_repo_files(repo) == files
    assert api.model_info(repo, revision="before").sha == old


def test_squash_of_a_pull_request(api, repo, put):
    put(api, {"a.txt": b"1"}, create_pr=True)
    put(api, {"a.txt": b"2"}, revision="refs/pr/1")
    api.super_squash_history(repo, branch="refs/pr/1")
    assert len(api.list_repo_commits(repo, revision="refs/pr/1")) == 1
    for branch in ("refs/pr/2", "refs/pr/..", "refs/convert/parquet"):
        with pytest.raises(RevisionNotFoundError):
            api.super_squash_history(repo, branch=branch)
    api.change_discussion_status(repo, 1, "closed")
    with pytest.raises(HfHubHTTPError, match="accepts no commits"):
        api.super_squash_history(repo, branch="refs/pr/1")


def test_squash_of_an_unknown_branch_is_rejected(api, repo):
    with pytest.raises(RevisionNotFoundError):
        api.super_squash_history(repo, branch="nothing")


def test_branch_in_packed_refs_can_be_deleted(api, repo, hub):
    api.create_branch(repo, branch="packed")
    subprocess.run(["git", "pack-refs", "--all"], cwd=hub.storage.folder / "models/me/model.git", check=True)
    api.delete_branch(repo, branch="packed")
    assert names(api.list_repo_refs(repo).branches) == ["main"]


def test_stale_lock_file_does_not_prevent_a_commit(api, repo, hub, put):
    (hub.storage.folder / "models/me/model.git/refs/heads/main.lock").touch()
    assert put(api, {"a.txt": b"a"}) == api.model_info(repo).sha
