"""Commits: an upload becomes exactly one commit, or none."""

import base64
import json
import threading
from pathlib import Path

import pygit2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError


def read(api, path, revision="main", repo_id="me/model"):
    return Path(api.hf_hub_download(repo_id, path, revision=revision)).read_bytes()


def commit_lines(*lines):
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_one_commit_adds_and_deletes(api, repo, put):
    put(api, {"old.txt": b"old", "folder/a.txt": b"a", "folder/b.txt": b"b", "stay.txt": b"stay"})
    operations = [
        CommitOperationAdd("new.txt", b"new"),
        CommitOperationAdd("model.safetensors", b"weights"),
        CommitOperationDelete("old.txt"),
        CommitOperationDelete("folder/"),
    ]
    info = api.create_commit(repo, operations, commit_message="Title", commit_description="What and why")
    assert info.commit_url == f"{api.endpoint}/{repo}/commit/{info.oid}"
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "model.safetensors", "new.txt", "stay.txt"]
    commit = api.list_repo_commits(repo)[0]
    assert (commit.commit_id, commit.title, commit.message) == (info.oid, "Title", "What and why")
    assert len(api.list_repo_commits(repo)) == 3


def test_stale_parent_is_rejected_with_412(api, repo, put):
    base = api.model_info(repo).sha
    newest = put(api, {"a.txt": b"theirs"})
    with pytest.raises(HfHubHTTPError, match="The branch was updated since you opened this page") as refused:
        put(api, {"a.txt": b"mine"}, parent_commit=base)
    assert refused.value.response.status_code == 412
    assert api.model_info(repo).sha == newest
    assert read(api, "a.txt") == b"theirs"


def test_of_two_commits_with_the_same_parent_exactly_one_succeeds(api, repo, hub, put):
    base = api.model_info(repo).sha
    outcomes, start = [], threading.Barrier(4)

    def publish(number):
        start.wait()
        try:
            outcomes.append(put(HfApi(hub.url, token=False), {"a.txt": b"%d" % number}, parent_commit=base))
        except HfHubHTTPError as error:
            outcomes.append(error.response.status_code)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if outcome != 412]
    assert winners == [api.model_info(repo).sha]
    assert len(api.list_repo_commits(repo)) == 2


def test_concurrent_commits_without_a_parent_all_succeed(api, repo, hub, put):
    threads = [threading.Thread(target=put, args=(HfApi(hub.url, token=False), {f"{number}.txt": b"x"})) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", *(f"{number}.txt" for number in range(6))]
    assert len(api.list_repo_commits(repo)) == 7


def test_repeated_commit_request_returns_the_first_commit(ask, hub, api, repo):
    base = api.model_info(repo).sha
    lines = commit_lines(
        {"key": "header", "value": {"summary": "Once", "description": "", "parentCommit": base}},
        {"key": "file", "value": {"path": "a.txt", "content": "YQ==", "encoding": "base64"}},
        {"key": "deletedFile", "value": {"path": ".gitattributes"}},
    )
    first, second = (ask(hub.url, "POST", f"/api/models/{repo}/commit/main", lines) for _ in range(2))
    assert (first.status, first.body) == (200, second.body)
    assert len(api.list_repo_commits(repo)) == 2


def test_same_files_with_another_message_are_another_commit_and_need_a_current_parent(api, repo, put):
    base = api.model_info(repo).sha
    put(api, {"a.txt": b"a"}, parent_commit=base, commit_message="mine")
    lines = [CommitOperationAdd("a.txt", b"a"), CommitOperationAdd("b.txt", b"b")]
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(repo, lines, commit_message="theirs", parent_commit=base)


def test_commit_without_changes_creates_no_commit(api, repo, put, ask, hub):
    first = put(api, {"a.txt": b"a", "model.safetensors": b"weights"})
    assert put(api, {"a.txt": b"a", "model.safetensors": b"weights"}) == first
    lines = commit_lines(
        {"key": "header", "value": {"summary": "Again"}},
        {"key": "file", "value": {"path": "a.txt", "content": "YQ==", "encoding": "base64"}},
    )
    answer = ask(hub.url, "POST", f"/api/models/{repo}/commit/main", lines)
    assert json.loads(answer.body)["commitOid"] == first
    assert len(api.list_repo_commits(repo)) == 2


def test_delete_of_a_missing_file_is_rejected(api, repo):
    with pytest.raises(EntryNotFoundError):
        api.delete_file("nothing.txt", repo)
    with pytest.raises(EntryNotFoundError):
        api.delete_folder("nothing", repo)


def test_deleting_2000_files_reads_the_list_of_files_a_constant_number_of_times(api, repo, monkeypatch):
    count = 2000
    read_entries = []

    class CountingIndex(pygit2.Index):
        def __getitem__(self, key):
            read_entries.append(key)
            return super().__getitem__(key)

    paths = [f"{number % 20}/{number}.txt" for number in range(count)]
    api.create_commit(repo, [CommitOperationAdd(path, b"x") for path in paths], commit_message="Add")
    monkeypatch.setattr(pygit2, "Index", CountingIndex)
    api.create_commit(repo, [CommitOperationDelete(path) for path in paths], commit_message="Delete")
    assert api.list_repo_files(repo) == [".gitattributes"]
    assert count <= len(read_entries) <= 4 * count


def test_delete_of_files_and_folders_in_one_commit(api, repo, put):
    put(api, dict.fromkeys(["a/1", "a/b/2", "a/b/c/3", "ab/4", "b/5", "b/6", "c"], b"x"))
    steps = [CommitOperationDelete(path) for path in ("a/b/", "a/b/2", "b/5")]
    api.create_commit(repo, steps, commit_message="Delete")
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "a/1", "ab/4", "b/6", "c"]


def test_copy_within_a_repo(api, repo, put):
    put(api, {"a.txt": b"a", "model.safetensors": b"weights"})
    copies = [CommitOperationCopy("a.txt", "b.txt"), CommitOperationCopy("model.safetensors", "copy.safetensors")]
    api.create_commit(repo, copies, commit_message="Copy")
    assert (read(api, "b.txt"), read(api, "copy.safetensors")) == (b"a", b"weights")


def test_deleted_file_may_be_a_folder_but_not_the_other_way_round(api, repo, put):
    put(api, {"x/a.txt": b"a", "x/deep/b.txt": b"b", "xy.txt": b"stay"})
    api.create_commit(repo, [CommitOperationDelete("x", is_folder=False)], commit_message="Delete")
    assert api.list_repo_files(repo) == [".gitattributes", "xy.txt"]
    with pytest.raises(EntryNotFoundError):
        api.create_commit(repo, [CommitOperationDelete("xy.txt", is_folder=True)], commit_message="Delete")


def test_pull_request_for_a_commit_id_is_rejected(api, repo, put):
    with pytest.raises(RevisionNotFoundError, match="expected a branch"):
        put(api, {"a.txt": b"a"}, revision=api.model_info(repo).sha, create_pr=True)


def test_a_file_can_replace_a_deleted_folder(api, repo, put):
    put(api, {"x/a.txt": b"a"})
    api.create_commit(repo, [CommitOperationDelete("x/"), CommitOperationAdd("x", b"file")], commit_message="Swap")
    assert read(api, "x") == b"file"


@pytest.mark.parametrize(("there", "put_there"), [("x", "x/a.txt"), ("x/a.txt", "x"), ("x/y/a.txt", "x/y")])
def test_a_file_and_a_folder_of_the_same_path_are_rejected(api, repo, put, there, put_there):
    commit = put(api, {there: b"file"})
    with pytest.raises(BadRequestError, match="can't have the same path"):
        put(api, {put_there: b"a"})
    assert api.model_info(repo).sha == commit


@pytest.mark.filterwarnings("ignore:About to update multiple times")
def test_a_file_and_a_folder_of_the_same_path_in_one_commit_are_rejected(api, repo, put):
    for order in (["x", "x/a.txt"], ["x/a.txt", "x"]):
        with pytest.raises(BadRequestError, match="can't have the same path"):
            put(api, dict.fromkeys(order, b"a"))


def test_commit_goes_to_its_branch_only(api, repo, put):
    api.create_branch(repo, branch="state")
    put(api, {"a.txt": b"a"}, revision="state")
    assert not api.file_exists(repo, "a.txt")
    assert api.file_exists(repo, "a.txt", revision="state")


def test_commit_to_an_unknown_branch_is_rejected(api, repo, put):
    with pytest.raises(RevisionNotFoundError):
        put(api, {"a.txt": b"a"}, revision="nothing")


def test_commit_to_a_tag_or_a_commit_is_rejected(ask, hub, api, repo):
    lines = commit_lines({"key": "header", "value": {"summary": "x"}})
    api.create_tag(repo, tag="v1")
    assert ask(hub.url, "POST", f"/api/models/{repo}/commit/v1", lines).status == 404
    assert ask(hub.url, "POST", f"/api/models/{repo}/commit/{api.model_info(repo).sha}", lines).status == 404


def test_pointer_to_a_file_that_was_not_uploaded_is_rejected(ask, hub, api, repo):
    lines = commit_lines(
        {"key": "header", "value": {"summary": "x"}},
        {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": "0" * 64, "size": 5}},
    )
    answer = ask(hub.url, "POST", f"/api/models/{repo}/commit/main", lines)
    assert (answer.status, b"does not exist" in answer.body) == (400, True)
    assert len(api.list_repo_commits(repo)) == 1


@pytest.mark.parametrize(
    "lines",
    [
        b"not json\n",
        b'{"key":"file","value":{"path":"a","content":"!","encoding":"base64"}}\n',
        b'{"key":"header","value":{"summary":""}}\n',
        b'{"key":"header","value":{"summary":"x","parentCommit":"abc"}}\n',
        b'{"key":"header","value":{"summary":"x"}}\n{"key":"surprise","value":{"path":"a"}}\n',
        b"",
    ],
)
def test_malformed_commit_is_rejected_and_creates_nothing(ask, hub, api, repo, lines):
    assert ask(hub.url, "POST", f"/api/models/{repo}/commit/main", lines).status == 400
    assert len(api.list_repo_commits(repo)) == 1


@pytest.mark.parametrize(("size", "status"), [(10_485_760, 200), (10_485_761, 400), (12_000_000, 413)])
def test_file_that_is_too_large_for_git_is_rejected(ask, hub, api, repo, size, status):
    lines = commit_lines(
        {"key": "header", "value": {"summary": "x"}},
        {"key": "file", "value": {"path": "a.txt", "content": base64.b64encode(bytes(size)).decode(), "encoding": "base64"}},
    )
    assert ask(hub.url, "POST", f"/api/models/{repo}/commit/main", lines).status == status
    assert api.file_exists(repo, "a.txt") == (status == 200)


def test_upload_file_and_folder(api, repo, tmp_path):
    folder = tmp_path / "up"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "model.safetensors").write_bytes(b"weights")
    api.upload_folder(repo_id=repo, folder_path=folder)
    api.upload_file(repo_id=repo, path_or_fileobj=b"hello", path_in_repo="hello.txt")
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "config.json", "hello.txt", "sub/model.safetensors"]
    api.upload_folder(repo_id=repo, folder_path=folder / "sub", delete_patterns="*.txt")
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "config.json", "model.safetensors", "sub/model.safetensors"]


def test_upload_skips_files_that_gitignore_excludes(api, repo, tmp_path):
    (tmp_path / "up").mkdir()
    for name in (".gitignore", "keep.txt", "drop.log"):
        (tmp_path / "up" / name).write_text("*.log\n")
    api.upload_folder(repo_id=repo, folder_path=tmp_path / "up")
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", ".gitignore", "keep.txt"]


def test_empty_file(api, repo, put):
    put(api, {"empty.txt": b"", "empty.safetensors": b""})
    assert read(api, "empty.txt") == b""
    assert read(api, "empty.safetensors") == b""


def test_preupload_returns_the_oid_of_existing_content(ask, hub, api, repo, put):
    put(api, {"a.txt": b"a", "model.safetensors": b"weights"})
    files = [{"path": path, "sample": "", "size": 5} for path in ("a.txt", "model.safetensors", "new.txt")]
    answer = ask(hub.url, "POST", f"/api/models/{repo}/preupload/main", json.dumps({"files": files}).encode())
    by_path = {file["path"]: file for file in json.loads(answer.body)["files"]}
    info = {item.path: item for item in api.get_paths_info(repo, ["a.txt", "model.safetensors"])}
    assert by_path["a.txt"] == {
        "path": "a.txt",
        "uploadMode": "regular",
        "shouldIgnore": False,
        "oid": info["a.txt"].blob_id,
    }
    assert by_path["model.safetensors"]["oid"] == info["model.safetensors"].lfs.sha256
    assert by_path["model.safetensors"]["uploadMode"] == "lfs"
    assert "oid" not in by_path["new.txt"]
