"""Discussions and pull requests."""

from pathlib import Path

import pytest
from huggingface_hub.errors import BadRequestError, HfHubHTTPError


def read(api, path, revision="main"):
    return Path(api.hf_hub_download("me/model", path, revision=revision)).read_text()


def test_create_pr_does_not_change_main_until_the_merge(api, repo, put):
    put(api, {"a.txt": b"old\n"})
    base = api.model_info(repo).sha
    info = api.upload_file(
        repo_id=repo,
        path_or_fileobj=b"new\n",
        path_in_repo="a.txt",
        create_pr=True,
        commit_message="New a",
        commit_description="Why",
    )
    assert (info.pr_num, info.pr_revision) == (1, "refs/pr/1")
    assert info.pr_url == f"{api.endpoint}/{repo}/discussions/1"
    assert read(api, "a.txt") == "old\n"
    details = api.get_discussion_details(repo, 1)
    assert (details.title, details.status, details.is_pull_request, details.author) == ("New a", "open", True, "local")
    assert (details.target_branch, details.conflicting_files, details.merge_commit_oid) == ("refs/heads/main", [], None)
    assert "-old\n+new\n" in details.diff
    assert {event.type for event in details.events} == {"comment", "commit"}
    assert api.list_repo_commits(repo)[0].commit_id == base

    api.merge_pull_request(repo, 1, comment="Good")
    assert read(api, "a.txt") == "new\n"
    details = api.get_discussion_details(repo, 1)
    assert details.status == "merged"
    assert details.merge_commit_oid == api.model_info(repo).sha
    assert api.list_repo_commits(repo)[0].title == "New a (#1)"
    assert "Good" in [event.content for event in details.events if event.type == "comment"]


def test_repeated_merge_request_merges_once(api, repo, put):
    put(api, {"a.txt": b"a"}, create_pr=True)
    api.merge_pull_request(repo, 1)
    commits = api.list_repo_commits(repo)
    api.merge_pull_request(repo, 1)
    assert api.list_repo_commits(repo) == commits


def test_pull_request_from_a_draft(api, repo, put):
    discussion = api.create_pull_request(repo, title="Later", description="soon")
    assert (discussion.num, discussion.status, discussion.git_reference) == (1, "draft", "refs/pr/1")
    put(api, {"a.txt": b"1"}, revision="refs/pr/1")
    put(api, {"b.txt": b"2"}, revision="refs/pr/1")
    with pytest.raises(BadRequestError, match="draft"):
        api.merge_pull_request(repo, 1)
    assert api.change_discussion_status(repo, 1, "open").new_status == "open"
    api.merge_pull_request(repo, 1)
    assert api.list_repo_commits(repo)[0].message == "- Put a.txt\n- Put b.txt"
    assert {"a.txt", "b.txt"} <= set(api.list_repo_files(repo))


def test_merge_keeps_later_commits_of_main(api, repo, put):
    put(api, {"a.txt": b"a"})
    put(api, {"b.txt": b"b"}, create_pr=True)
    put(api, {"a.txt": b"changed", "c.txt": b"c"})
    api.merge_pull_request(repo, 1)
    assert [read(api, f"{name}.txt") for name in "abc"] == ["changed", "b", "c"]


def test_conflict_is_named_and_not_merged(api, repo, put):
    put(api, {"a.txt": b"a"})
    put(api, {"a.txt": b"theirs"}, create_pr=True)
    mine = put(api, {"a.txt": b"mine"})
    assert api.get_discussion_details(repo, 1).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match="conflicts") as refused:
        api.merge_pull_request(repo, 1)
    assert refused.value.response.status_code == 409
    assert api.model_info(repo).sha == mine


def test_closed_pull_request_accepts_no_commits(api, repo, put):
    put(api, {"a.txt": b"a"}, create_pr=True)
    api.change_discussion_status(repo, 1, "closed", comment="no")
    with pytest.raises(HfHubHTTPError, match="accepts no commits"):
        put(api, {"b.txt": b"b"}, revision="refs/pr/1")
    with pytest.raises(BadRequestError):
        api.merge_pull_request(repo, 1)


def test_stale_parent_of_a_pull_request_is_rejected(api, repo, put):
    base = api.model_info(repo).sha
    put(api, {"a.txt": b"a"})
    with pytest.raises(HfHubHTTPError, match="412"):
        put(api, {"a.txt": b"b"}, create_pr=True, parent_commit=base)


def test_discussion_with_comment_and_new_title(api, repo):
    discussion = api.create_discussion(repo, title="A question", description="Why?")
    assert (discussion.num, discussion.is_pull_request, discussion.git_reference) == (1, False, None)
    assert api.comment_discussion(repo, 1, comment="Because").content == "Because"
    assert api.rename_discussion(repo, 1, new_title="An answer").new_title == "An answer"
    details = api.get_discussion_details(repo, 1)
    assert details.title == "An answer"
    assert [event.type for event in details.events] == ["comment", "comment", "title-change"]


def test_a_comment_can_be_edited_by_its_author_only(client_of):
    from .conftest import OWNER, STRANGER

    mine, theirs = client_of(OWNER), client_of(STRANGER)
    mine.create_discussion("me/model", title="A question", description="Why?")
    written = mine.comment_discussion("me/model", 1, comment="Because")
    edited = mine.edit_discussion_comment("me/model", 1, written.id, new_content="For a reason")
    assert (edited.id, edited.content, edited.edited, edited.author) == (written.id, "For a reason", True, "me")
    comments = mine.get_discussion_details("me/model", 1).events
    assert [event.content for event in comments] == ["Why?", "For a reason"]
    assert [one["raw"] for one in comments[1].edit_history] == ["Because", "For a reason"]
    for api, comment, status in ((theirs, written.id, 403), (mine, "00ff", 404)):
        with pytest.raises(HfHubHTTPError) as refused:
            api.edit_discussion_comment("me/model", 1, comment, new_content="mine")
        assert refused.value.response.status_code == status


def test_list_is_newest_first_paged_and_filtered(api, repo, put):
    for number in range(52):
        api.create_discussion(repo, title=f"Question {number + 1}")
    put(api, {"a.txt": b"a"}, create_pr=True)
    assert [item.num for item in api.get_repo_discussions(repo)] == list(range(53, 0, -1))
    assert [item.num for item in api.get_repo_discussions(repo, discussion_type="pull_request")] == [53]
    api.change_discussion_status(repo, 1, "closed")
    assert [item.num for item in api.get_repo_discussions(repo, discussion_status="closed")] == [1]
    assert list(api.get_repo_discussions(repo, author="somebody")) == []


def test_missing_discussion(api, repo):
    with pytest.raises(HfHubHTTPError, match="No such discussion: 7"):
        api.get_discussion_details(repo, 7)


def test_upload_folder_as_a_pull_request(api, repo, tmp_path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "model.safetensors").write_bytes(b"weights")
    info = api.upload_folder(repo_id=repo, folder_path=tmp_path / "up", create_pr=True)
    assert info.pr_num == 1
    assert "model.safetensors" in api.list_repo_files(repo, revision="refs/pr/1")
    assert "model.safetensors" not in api.list_repo_files(repo)
