"""Access: tokens, roles, private and gated repos."""

import json

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from localhub import LocalHub

OWNER, READER, STRANGER, SCOPED = "token-owner", "token-reader", "token-stranger", "token-scoped"
REPO = "me/model"


def status_of(refused):
    return refused.value.response.status_code


def test_single_token_owns_every_namespace_and_others_may_only_read(tmp_path, put):
    with LocalHub(tmp_path, token="secret") as hub:
        api, nobody = HfApi(hub.url, token="secret"), HfApi(hub.url, token=False)
        api.create_repo("any/public")
        api.create_repo("any/private", private=True)
        put(api, {"a.txt": b"a"}, repo_id="any/public")
        assert nobody.file_exists("any/public", "a.txt")
        with pytest.raises(RepositoryNotFoundError) as refused:
            nobody.model_info("any/private")
        assert status_of(refused) == 401
        with pytest.raises(HfHubHTTPError) as refused:
            put(nobody, {"b.txt": b"b"}, repo_id="any/public")
        assert status_of(refused) == 401
        with pytest.raises(HfHubHTTPError) as refused:
            nobody.create_repo("any/other")
        assert status_of(refused) == 401


def test_invalid_token_has_another_error_than_a_missing_repo(client_of):
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as refused:
        client_of("wrong").model_info(REPO)
    assert status_of(refused) == 401
    assert not isinstance(refused.value, RepositoryNotFoundError)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        client_of("wrong").whoami()


@pytest.mark.parametrize("value", ["Basic é", "Basic /w==", "Basic x", "Bearer é", "Bearer", "Digest x"])
def test_malformed_credentials_are_invalid_credentials(guarded, ask, value):
    answer = ask(guarded.url, "GET", f"/api/models/{REPO}", headers={"Authorization": value})
    assert (answer.status, b"Invalid credentials in Authorization header" in answer.body) == (401, True)


def test_whoami_has_name_orgs_and_role(client_of):
    me = client_of(OWNER).whoami()
    assert (me["name"], [org["name"] for org in me["orgs"]], me["auth"]["accessToken"]["role"]) == ("me", ["my-org"], "write")
    assert client_of(READER).whoami()["auth"]["accessToken"]["role"] == "read"
    token = client_of(SCOPED).whoami()["auth"]["accessToken"]
    (scope,) = token["fineGrained"]["scoped"]
    assert (token["role"], scope["entity"]["type"], scope["entity"]["name"]) == ("fineGrained", "model", REPO)
    assert "repo.write" in scope["permissions"]


def test_accounts_own_their_namespaces_and_repos_in_any_case(client_of, put):
    owner = client_of(OWNER)
    assert owner.create_repo("ME/new", private=True).repo_id == "me/new"
    assert owner.create_repo("My-ORG/new").repo_id == "my-org/new"
    put(owner, {"a.txt": b"a"}, repo_id="mE/NEW")
    assert client_of(READER).model_info("Me/New").id == "me/new"
    put(client_of(SCOPED), {"b.txt": b"b"}, repo_id="ME/MODEL")
    with pytest.raises(HfHubHTTPError) as refused:
        client_of(STRANGER).create_repo("ME/other")
    assert status_of(refused) == 403


def test_a_stranger_sees_no_changes_of_a_gated_repo(client_of, put):
    put(client_of(OWNER), {"a.txt": b"the content"}, create_pr=True)
    client_of(OWNER).update_repo_settings(REPO, gated="auto")
    assert "the content" in client_of(OWNER).get_discussion_details(REPO, 1).diff
    for who in (STRANGER, False):
        details = client_of(who).get_discussion_details(REPO, 1)
        assert (details.title, details.diff) == ("Put a.txt", None)


def test_private_repo_does_not_exist_for_others(client_of):
    client_of(OWNER).update_repo_settings(REPO, private=True)
    assert client_of(READER).model_info(REPO).private
    for who, status in ((STRANGER, 404), (False, 401)):
        for question in (
            lambda api: api.model_info(REPO),
            lambda api: api.hf_hub_download(REPO, ".gitattributes"),
            lambda api: api.auth_check(REPO),
            lambda api: api.upload_file(repo_id=REPO, path_or_fileobj=b"x", path_in_repo="x"),
        ):
            with pytest.raises(RepositoryNotFoundError) as refused:
                question(client_of(who))
            assert status_of(refused) == status
    with pytest.raises(RepositoryNotFoundError):
        client_of(STRANGER).delete_repo(REPO)


@pytest.mark.parametrize("who", [READER, STRANGER])
def test_write_without_permission_is_rejected_with_403(client_of, who, put):
    api = client_of(who)
    for change in (
        lambda: api.create_commit(REPO, [CommitOperationAdd("a.txt", b"a")], commit_message="x"),
        lambda: api.create_branch(REPO, branch="x"),
        lambda: api.create_tag(REPO, tag="x"),
        lambda: api.super_squash_history(REPO),
        lambda: api.delete_repo(REPO),
        lambda: api.update_repo_settings(REPO, private=True),
        lambda: api.move_repo(REPO, "stranger/model"),
        lambda: api.create_repo("me/other"),
        lambda: api.auth_check(REPO, write=True),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            change()
        assert status_of(refused) == 403
    assert len(client_of(OWNER).list_repo_commits(REPO)) == 1


def test_refusal_of_a_large_request_reaches_the_client(client_of, guarded, ask):
    line = json.dumps({"key": "file", "value": {"path": "a", "content": "A" * 8_000_000}}).encode()
    answer = ask(guarded.url, "POST", f"/api/models/{REPO}/commit/main", line, {"Authorization": f"Bearer {STRANGER}"})
    assert answer.status == 403


def test_fine_grained_token_writes_its_repo_and_no_other(client_of, put):
    owner, scoped = client_of(OWNER), client_of(SCOPED)
    owner.update_repo_settings(REPO, private=True)
    owner.create_repo("me/other")
    owner.create_repo("me/hidden", private=True)
    put(scoped, {"a.txt": b"a"})
    scoped.auth_check(REPO, write=True)
    with pytest.raises(HfHubHTTPError) as refused:
        put(scoped, {"a.txt": b"a"}, repo_id="me/other")
    assert status_of(refused) == 403
    with pytest.raises(RepositoryNotFoundError):
        scoped.model_info("me/hidden")
    with pytest.raises(HfHubHTTPError) as refused:
        scoped.delete_repo(REPO)
    assert status_of(refused) == 403
    # what a publisher with such a token does first
    assert scoped.create_repo(REPO, exist_ok=True).repo_id == REPO


def test_gated_repo_lists_its_files_but_does_not_serve_them(client_of):
    client_of(OWNER).update_repo_settings(REPO, gated="auto")
    assert client_of(STRANGER).model_info(REPO).gated == "auto"
    for who, status in ((STRANGER, 403), (False, 401)):
        for question in (lambda api: api.hf_hub_download(REPO, ".gitattributes"), lambda api: api.auth_check(REPO)):
            with pytest.raises(GatedRepoError) as refused:
                question(client_of(who))
            assert refused.value.response.status_code == status
    assert client_of(READER).hf_hub_download(REPO, ".gitattributes")


def test_every_account_may_discuss(client_of):
    assert client_of(STRANGER).create_discussion(REPO, title="Hello").author == "stranger"
    with pytest.raises(HfHubHTTPError):
        client_of(False).create_discussion(REPO, title="Hello")


def test_commits_have_the_account_as_author(client_of, put):
    put(client_of(OWNER), {"a.txt": b"a"})
    assert client_of(OWNER).list_repo_commits(REPO)[0].authors == ["me"]
