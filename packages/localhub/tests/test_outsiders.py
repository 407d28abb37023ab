"""Pull requests of users without write access to the repo: what they may do with their own, and not with others'."""

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

OWNER, READER, STRANGER, SCOPED = "token-owner", "token-reader", "token-stranger", "token-scoped"
REPO = "me/model"


@pytest.fixture
def outsider(client_of):
    return client_of(STRANGER)


def is_forbidden(action):
    with pytest.raises(HfHubHTTPError) as refused:
        action()
    return refused.value.response.status_code == 403


@pytest.mark.parametrize("by_xet", [True, False], ids=["by Xet", "by LFS"])
def test_outsider_opens_a_draft_commits_to_it_and_the_owner_merges_it(client_of, outsider, put, by_xet, request):
    by_xet or request.getfixturevalue("by_lfs")
    owner = client_of(OWNER)
    opened = outsider.create_pull_request(REPO, title="A fix", description="of a typo")
    assert (opened.num, opened.status, opened.author) == (1, "draft", "stranger")
    commit = put(outsider, {"a.txt": b"1", "model.safetensors": b"weights"}, revision="refs/pr/1")
    put(outsider, {"a.txt": b"2"}, revision="refs/pr/1", parent_commit=commit)
    assert outsider.change_discussion_status(REPO, 1, "open").new_status == "open"
    assert is_forbidden(lambda: outsider.merge_pull_request(REPO, 1))
    assert owner.list_repo_files(REPO) == [".gitattributes"]
    owner.merge_pull_request(REPO, 1)
    assert sorted(owner.list_repo_files(REPO)) == [".gitattributes", "a.txt", "model.safetensors"]
    assert owner.list_repo_commits(REPO, revision="refs/pr/1")[0].authors == ["stranger"]


def test_outsider_uploads_a_folder_as_a_pull_request_and_adds_to_it(outsider, put, tmp_path):
    (tmp_path / "up").mkdir()
    for name, content in (("README.md", b"---\nlicense: mit\n---\n"), ("model.safetensors", b"weights")):
        (tmp_path / "up" / name).write_bytes(content)
    outsider.upload_folder(repo_id=REPO, folder_path=tmp_path / "up", create_pr=True)
    (tmp_path / "up" / "more.txt").write_bytes(b"more")
    outsider.upload_folder(repo_id=REPO, folder_path=tmp_path / "up", revision="refs/pr/1")
    expected = [".gitattributes", "README.md", "model.safetensors", "more.txt"]
    assert sorted(outsider.list_repo_files(REPO, revision="refs/pr/1")) == expected
    assert outsider.list_repo_files(REPO) == [".gitattributes"]


def test_outsider_renames_closes_reopens_and_comments_their_own(outsider, put):
    put(outsider, {"a.txt": b"a"}, create_pr=True)
    assert outsider.rename_discussion(REPO, 1, new_title="A better title").new_title == "A better title"
    assert outsider.comment_discussion(REPO, 1, comment="Look").author == "stranger"
    assert outsider.change_discussion_status(REPO, 1, "closed", comment="no longer").new_status == "closed"
    assert is_forbidden(lambda: put(outsider, {"b.txt": b"b"}, revision="refs/pr/1"))
    assert outsider.change_discussion_status(REPO, 1, "open").new_status == "open"
    put(outsider, {"b.txt": b"b"}, revision="refs/pr/1")
    outsider.create_discussion(REPO, title="A question")
    assert outsider.change_discussion_status(REPO, 2, "closed").new_status == "closed"


def test_outsider_may_only_comment_on_those_of_others(client_of, outsider, put):
    owner = client_of(OWNER)
    put(owner, {"a.txt": b"a"}, create_pr=True)
    owner.create_discussion(REPO, title="A question")
    assert is_forbidden(lambda: put(outsider, {"b.txt": b"b"}, revision="refs/pr/1"))
    for number in (1, 2):
        for action in (
            lambda number=number: outsider.rename_discussion(REPO, number, new_title="Mine now"),
            lambda number=number: outsider.change_discussion_status(REPO, number, "closed"),
        ):
            assert is_forbidden(action)
        assert outsider.comment_discussion(REPO, number, comment="Nice").author == "stranger"
    details = owner.get_discussion_details(REPO, 1)
    assert (details.title, details.status) == ("Put a.txt", "open")
    assert outsider.list_repo_files(REPO, revision="refs/pr/1") == [".gitattributes", "a.txt"]


def test_owner_commits_to_and_closes_the_pull_requests_of_outsiders(client_of, outsider, put):
    owner = client_of(OWNER)
    put(outsider, {"a.txt": b"a"}, create_pr=True)
    put(owner, {"b.txt": b"b"}, revision="refs/pr/1")
    assert owner.rename_discussion(REPO, 1, new_title="A better title").new_title == "A better title"
    assert owner.change_discussion_status(REPO, 1, "closed").new_status == "closed"


def test_own_pull_request_gives_no_access_to_branches(outsider, put):
    put(outsider, {"a.txt": b"a"}, create_pr=True)
    for revision in ("main", "refs/heads/main"):
        assert is_forbidden(lambda revision=revision: put(outsider, {"b.txt": b"b"}, revision=revision))
    with pytest.raises(RevisionNotFoundError):
        put(outsider, {"b.txt": b"b"}, revision="refs/pr/2")


def test_tokens_that_only_read_and_tokens_of_other_repos_open_nothing(client_of):
    client_of(OWNER).create_repo("me/other")
    for token, repo_id in ((READER, REPO), (SCOPED, "me/other")):
        api = client_of(token)
        for action in (
            lambda api=api, repo_id=repo_id: api.create_pull_request(repo_id, title="A fix"),
            lambda api=api, repo_id=repo_id: api.create_commit(
                repo_id, [CommitOperationAdd("a.txt", b"a")], commit_message="A fix", create_pr=True
            ),
        ):
            assert is_forbidden(action)


def test_outsider_sees_no_private_repo_to_open_a_pull_request_for(client_of, outsider):
    client_of(OWNER).update_repo_settings(REPO, private=True)
    with pytest.raises(HfHubHTTPError) as refused:
        outsider.create_pull_request(REPO, title="A fix")
    assert refused.value.response.status_code == 404
