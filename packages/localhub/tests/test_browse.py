"""Browsing: info, tree, paths, history, refs."""

import json

import pytest
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

CARD = b"""---
license: mit
language: [en]
tags: [gpt2, echoself]
library_name: transformers
pipeline_tag: text-generation
datasets: [me/corpus]
---
# A model
"""


def test_info_has_files_tags_and_card_data(api, repo, put):
    commit = put(api, {"README.md": CARD, "model.safetensors": b"weights"})
    info = api.repo_info(repo, files_metadata=True)
    assert (info.id, info.author, info.sha, info.private, info.gated, info.disabled) == (
        repo,
        "me",
        commit,
        False,
        False,
        False,
    )
    assert (info.downloads, info.likes) == (0, 0)
    assert info.created_at <= info.last_modified
    assert (info.pipeline_tag, info.library_name) == ("text-generation", "transformers")
    assert {"gpt2", "echoself", "transformers", "en", "license:mit", "dataset:me/corpus"} <= set(info.tags)
    assert info.card_data.license == "mit"
    siblings = {sibling.rfilename: sibling for sibling in info.siblings}
    assert siblings["README.md"].size == len(CARD)
    assert siblings["README.md"].lfs is None
    assert (siblings["model.safetensors"].size, siblings["model.safetensors"].lfs.size) == (7, 7)
    assert siblings["model.safetensors"].lfs.pointer_size > 100


def test_info_without_metadata_lists_names_only(api, repo):
    (sibling,) = api.model_info(repo).siblings
    assert (sibling.rfilename, sibling.size) == (".gitattributes", None)


def test_expand_returns_only_the_requested_properties(api, repo):
    info = api.model_info(repo, expand=["sha", "gated"])
    assert (len(info.sha), info.gated, info.siblings, info.downloads) == (40, False, None, None)
    with pytest.raises(HfHubHTTPError, match="must be one of"):
        api.model_info(repo, expand=["surprise"])


def test_dataset_info(api):
    api.create_repo("me/data", repo_type="dataset")
    assert api.dataset_info("me/data").id == "me/data"


def test_tree_of_a_folder_and_of_everything(api, repo, put):
    put(api, {"a.txt": b"a", "sub/b.txt": b"bb", "sub/deep/model.safetensors": b"weights"})
    assert [item.path for item in api.list_repo_tree(repo)] == [".gitattributes", "a.txt", "sub"]
    assert [item.path for item in api.list_repo_tree(repo, "sub")] == ["sub/b.txt", "sub/deep"]
    items = {item.path: item for item in api.list_repo_tree(repo, "sub", recursive=True)}
    assert list(items) == ["sub/b.txt", "sub/deep", "sub/deep/model.safetensors"]
    assert items["sub/b.txt"].size == 2
    assert items["sub/deep/model.safetensors"].size == items["sub/deep/model.safetensors"].lfs.size == 7
    assert len(items["sub/deep"].tree_id) == 40


def test_tree_comes_in_pages_of_one_commit(api, repo, put, ask, hub):
    names = [f"{number:02}.txt" for number in range(30)]
    put(api, dict.fromkeys(names, b"x"))
    assert [item.path for item in api.list_repo_tree(repo)] == [".gitattributes", *names]
    first = ask(hub.url, "GET", f"/api/models/{repo}/tree/main")
    assert len(json.loads(first.body)) == 7
    put(api, {"00.aaa": b"new"})
    second = ask(hub.url, "GET", first.headers["link"].partition(">")[0].removeprefix(f"<{hub.url}"))
    assert json.loads(second.body)[0]["path"] == names[6]


def test_expanded_tree_has_the_last_commit_of_each_entry(api, repo, put):
    first = put(api, {"a.txt": b"1", "sub/b.txt": b"1"})
    second = put(api, {"sub/b.txt": b"2"}, commit_message="Second")
    last = {item.path: item.last_commit for item in api.list_repo_tree(repo, recursive=True, expand=True)}
    assert last["a.txt"].oid == first
    assert last["sub"].oid == last["sub/b.txt"].oid == second
    assert last["sub"].title == "Second"


def test_tree_of_a_missing_folder_or_revision(api, repo):
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "nothing"))
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree(repo, revision="nothing"))
    with pytest.raises(RepositoryNotFoundError):
        list(api.list_repo_tree("me/nothing"))


def test_paths_info_leaves_out_what_is_missing(api, repo, put):
    commit = put(api, {"a b+c.txt": b"a", "sub/model.safetensors": b"weights"})
    found = api.get_paths_info(repo, ["a b+c.txt", "sub", "sub/model.safetensors", "nothing"], expand=True)
    assert [item.path for item in found] == ["a b+c.txt", "sub", "sub/model.safetensors"]
    assert found[2].lfs.size == 7
    assert found[0].last_commit.oid == commit


def test_file_exists(api, repo, put):
    put(api, {"a.txt": b"a"})
    assert api.file_exists(repo, "a.txt")
    assert not api.file_exists(repo, "b.txt")
    assert not api.file_exists("me/nothing", "a.txt")
    assert api.revision_exists(repo, "main")
    assert not api.revision_exists(repo, "nothing")


def test_missing_repo_without_an_owner_is_a_missing_repo(api):
    for ask_for in (
        lambda: api.model_info("nothing"),
        lambda: api.model_info("nothing", revision="main"),
        lambda: api.list_repo_commits("nothing"),
        lambda: api.list_repo_refs("nothing"),
        lambda: list(api.list_repo_tree("nothing")),
        lambda: api.get_paths_info("nothing", ["a"]),
        lambda: api.create_branch("nothing", branch="b"),
        lambda: api.create_tag("nothing", tag="t"),
        lambda: api.upload_file(repo_id="nothing", path_or_fileobj=b"a", path_in_repo="a.txt"),
        lambda: api.hf_hub_download("nothing", "a.txt"),
        lambda: api.hf_hub_download("nothing", "a.txt", repo_type="dataset"),
        lambda: api.unlike("nothing"),
    ):
        with pytest.raises(RepositoryNotFoundError):
            ask_for()
    assert not api.repo_exists("nothing")
    assert not api.file_exists("nothing", "a.txt")


def test_first_digits_of_a_commit_id_are_a_revision(api, repo, put):
    first = put(api, {"a.txt": b"1"})
    second = put(api, {"a.txt": b"2"})
    assert api.model_info(repo, revision=first[:7]).sha == first
    assert [item.path for item in api.list_repo_tree(repo, revision=first[:20])] == [".gitattributes", "a.txt"]
    api.create_branch(repo, branch=first[:7], revision=second)
    assert api.model_info(repo, revision=first[:7]).sha == second  # a branch comes first
    blob = api.get_paths_info(repo, ["a.txt"])[0].blob_id
    for revision in (first[:6], "0" * 8, blob[:8]):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(repo, revision=revision)


def test_history_is_newest_first_and_comes_in_pages(api, repo, put, hub):
    for number in range(16):
        put(api, {"a.txt": b"%d" % number}, commit_message=f"Step {number}\n\nMore")
    commits = api.list_repo_commits(repo, formatted=True)
    assert [commit.title for commit in commits] == [*(f"Step {number}" for number in reversed(range(16))), "initial commit"]
    assert (commits[0].message, commits[0].authors, commits[0].formatted_title) == ("More", ["local"], "Step 15")
    assert [commit.title for commit in api.list_repo_commits(repo, revision=commits[-2].commit_id)] == [
        "Step 0",
        "initial commit",
    ]


def test_refs_include_pull_requests_only_on_request(api, repo, put):
    put(api, {"a.txt": b"a"}, create_pr=True)
    assert api.list_repo_refs(repo).pull_requests is None
    (ref,) = api.list_repo_refs(repo, include_pull_requests=True).pull_requests
    assert (ref.name, ref.ref) == ("1", "refs/pr/1")
    assert api.list_repo_refs(repo).converts == []


def test_whoami(api):
    me = api.whoami(token="anything")
    assert (me["name"], me["type"], me["orgs"]) == ("local", "user", [])


def test_every_response_has_a_request_id(ask, hub):
    assert ask(hub.url, "GET", "/api/whoami-v2").headers["x-request-id"]
    assert ask(hub.url, "GET", "/nothing", headers={"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
