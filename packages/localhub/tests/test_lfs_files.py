"""The large files of a repo: listed, deleted for good, copied to another repo."""

import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationCopy, CommitOperationDelete, close_session
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from localhub.repository import Repository

OWNER, STRANGER = "token-owner", "token-stranger"


def read(api, path, **options):
    return Path(api.hf_hub_download("me/model", path, **options)).read_bytes()


def test_large_files_of_all_commits_are_listed(api, repo, put):
    put(api, {"a.bin": b"first", "notes.txt": b"in git"})
    put(api, {"a.bin": b"second", "folder/b.bin": b"first"})
    api.create_branch(repo, branch="dev")
    put(api, {"dev.bin": b"third"}, revision="dev")
    api.create_commit(repo, [CommitOperationDelete("folder/b.bin")], commit_message="Delete")
    listed = {file.filename: file for file in api.list_lfs_files(repo)}
    assert {name: (file.size, file.ref) for name, file in listed.items()} == {
        "a.bin": (6, "refs/heads/main"),
        "folder/b.bin": (5, "refs/heads/main"),  # the newest of the two paths that `first` had
        "dev.bin": (5, "refs/heads/dev"),
    }
    assert listed["a.bin"].pushed_at >= listed["folder/b.bin"].pushed_at


def test_list_of_large_files_comes_in_pages(api, repo, put):
    put(api, {f"{number}.bin": b"%d" % number for number in range(9)})  # a page has 7
    assert {file.filename for file in api.list_lfs_files(repo)} == {f"{number}.bin" for number in range(9)}


def test_deleted_large_file_is_gone_from_all_commits(api, repo, put, git, hub):
    put(api, {"secret.bin": b"secret", "folder/secret.bin": b"secret", "kept.bin": b"kept"})
    api.create_tag(repo, tag="v1", tag_message="First")
    api.create_branch(repo, branch="old")
    api.create_commit(repo, [CommitOperationDelete("secret.bin")], commit_message="Delete")
    pull_request = api.create_commit(
        repo, [CommitOperationDelete("kept.bin")], commit_message="Less", create_pr=True
    ).pr_revision
    titles = [commit.title for commit in api.list_repo_commits(repo)]
    secret = next(file for file in api.list_lfs_files(repo) if "secret" in file.filename)
    api.permanently_delete_lfs_files(repo, [secret])
    assert [file.filename for file in api.list_lfs_files(repo)] == ["kept.bin"]
    assert [commit.title for commit in api.list_repo_commits(repo)] == titles
    for revision in ("main", "v1", "old"):
        assert api.list_repo_files(repo, revision=revision) == [".gitattributes", "kept.bin"]
        assert read(api, "kept.bin", revision=revision) == b"kept"
    assert api.list_repo_files(repo, revision=pull_request) == [".gitattributes"]
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(repo, "secret.bin")
    # the pull request still has its own change only, and can be merged
    details = api.get_discussion_details(repo, 1)
    assert "kept.bin" in details.diff
    assert "secret" not in details.diff
    api.merge_pull_request(repo, 1)
    assert api.list_repo_files(repo) == [".gitattributes"]
    folder = hub.storage.folder / "models/me/model.git"
    assert git("-C", folder, "for-each-ref", "--format=%(objecttype)", "refs/tags/v1").stdout == "tag\n"
    assert git("-C", folder, "fsck", "--strict").returncode == 0


def test_deletion_that_was_interrupted_is_completed_by_the_next(api, repo, put, monkeypatch):
    put(api, {"secret.bin": b"secret", "kept.txt": b"kept"})
    api.create_branch(repo, branch="old")
    put(api, {"b.txt": b"b"}, create_pr=True)
    files = list(api.list_lfs_files(repo))
    changed, set_ref = [], Repository.set_ref

    def interrupted(self, ref, target):
        if changed:
            raise KeyError("a kill after the first ref")
        changed.append(ref)
        set_ref(self, ref, target)

    with monkeypatch.context() as patched:
        patched.setattr(Repository, "set_ref", interrupted)
        with pytest.raises(HfHubHTTPError):
            api.permanently_delete_lfs_files(repo, files)
    assert len(changed) == 1
    close_session()  # the server closes the connection after an error of its own
    api.permanently_delete_lfs_files(repo, files)
    for revision in ("main", "old", "refs/pr/1"):
        assert "secret.bin" not in api.list_repo_files(repo, revision=revision)
    assert list(api.list_lfs_files(repo)) == []
    assert "secret" not in api.get_discussion_details(repo, 1).diff
    api.merge_pull_request(repo, 1)
    assert api.list_repo_files(repo) == [".gitattributes", "b.txt", "kept.txt"]


def test_deletion_without_rewriting_leaves_the_commits(api, repo, put):
    commit = put(api, {"a.bin": b"content"})
    api.permanently_delete_lfs_files(repo, api.list_lfs_files(repo), rewrite_history=False)
    assert api.model_info(repo).sha == commit
    with pytest.raises(EntryNotFoundError, match="does not exist any more"):
        api.hf_hub_download(repo, "a.bin")
    put(api, {"a.bin": b"content"})  # the same content can be uploaded again
    assert read(api, "a.bin") == b"content"


def test_large_files_are_deleted_by_those_who_may_write(client_of, put):
    put(client_of(OWNER), {"a.bin": b"content"})
    files = list(client_of(STRANGER).list_lfs_files("me/model"))
    with pytest.raises(HfHubHTTPError) as refused:
        client_of(STRANGER).permanently_delete_lfs_files("me/model", files)
    assert refused.value.response.status_code == 403
    assert read(client_of(OWNER), "a.bin") == b"content"


def test_files_are_copied_from_repo_to_repo(api, repo, put):
    put(api, {"data/a.txt": b"text", "data/b.bin": b"large"})
    api.create_repo("me/copies", repo_type="dataset")
    api.copy_files(f"hf://{repo}/data/", "hf://datasets/me/copies/copied/")
    for name, content in {"a.txt": b"text", "b.bin": b"large"}.items():
        assert Path(api.hf_hub_download("me/copies", f"copied/{name}", repo_type="dataset")).read_bytes() == content
    api.delete_repo(repo)
    copied = api.hf_hub_download("me/copies", "copied/b.bin", repo_type="dataset", force_download=True)
    assert Path(copied).read_bytes() == b"large"


def test_copies_need_access_to_both_repos(client_of, put, guarded, ask):
    owner, stranger = client_of(OWNER), client_of(STRANGER)
    put(owner, {"a.bin": b"content"})
    stranger.create_repo("stranger/copy")
    (file,) = owner.list_lfs_files("me/model")
    body = {"target": {"type": "model", "name": "stranger/copy"}, "files": [{"sha256": file.file_oid, "filename": "a.bin"}]}

    def copy(token, **changes):
        headers = {"Authorization": f"Bearer {token}"}
        content = json.dumps({**body, **changes}).encode()
        return ask(guarded.url, "POST", "/api/models/me/model/lfs-files/duplicate", content, headers)

    missing = copy(STRANGER, files=[{"sha256": "0" * 64, "filename": "b.bin"}])
    assert [one["sha256"] for one in json.loads(missing.body)["failed"]] == ["0" * 64]
    owner.update_repo_settings("me/model", gated="manual")
    assert copy(STRANGER).status == 403
    owner.update_repo_settings("me/model", gated=False, private=True)
    assert copy(STRANGER).status == 404
    owner.update_repo_settings("me/model", private=False)
    assert json.loads(copy(STRANGER).body)["failed"] == []
    operation = CommitOperationCopy("a.bin", "b.bin", src_repo_id="me/model", src_repo_type="model")
    stranger.create_commit("stranger/copy", [operation], commit_message="Copy")
    assert Path(stranger.hf_hub_download("stranger/copy", "b.bin")).read_bytes() == b"content"


@pytest.mark.parametrize(
    "body", [{}, {"deletions": 1}, {"deletions": {"sha": ["x"]}}, {"deletions": {"sha": [], "rewriteHistory": 1}}]
)
def test_invalid_deletion_is_rejected(ask, hub, repo, body):
    assert ask(hub.url, "POST", f"/api/models/{repo}/lfs-files/batch", json.dumps(body).encode()).status == 400
