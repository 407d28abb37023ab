"""Repos: create, move, delete, settings."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError
from localhub import Account, LocalHub, Organisation


def test_created_repo_has_main_with_the_hubs_gitattributes(api, repo):
    assert api.list_repo_files(repo) == [".gitattributes"]
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["initial commit"]
    content = Path(api.hf_hub_download(repo, ".gitattributes")).read_text()
    assert "*.safetensors filter=lfs diff=lfs merge=lfs -text\n" in content


def test_create_returns_an_absolute_url(api, hub):
    url = api.create_repo("me/data", repo_type="dataset")
    assert url == f"{hub.url}/datasets/me/data"
    assert (url.repo_id, url.repo_type) == ("me/data", "dataset")


def test_second_create_is_rejected_with_409_unless_exist_ok(api, repo, hub):
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo(repo)
    assert refused.value.response.status_code == 409
    assert refused.value.response.json()["url"] == f"{hub.url}/{repo}"
    assert api.create_repo(repo, exist_ok=True) == f"{hub.url}/{repo}"


def test_repo_without_an_owner_belongs_to_the_account(api):
    assert api.create_repo("plain").repo_id == "local/plain"


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_kinds_do_not_share_names(api, kind):
    api.create_repo("me/same", repo_type=kind, space_sdk="static" if kind == "space" else None)
    assert api.repo_exists("me/same", repo_type=kind)
    others = {"model", "dataset", "space"} - {kind}
    assert not any(api.repo_exists("me/same", repo_type=other) for other in others)


def test_moved_repo_keeps_its_history_and_its_large_files(api, repo, put):
    commit = put(api, {"model.safetensors": b"weights"})
    api.move_repo(repo, "you/renamed")
    assert api.model_info("you/renamed").sha == commit
    assert Path(api.hf_hub_download("you/renamed", "model.safetensors")).read_bytes() == b"weights"


def test_old_name_of_a_moved_repo_redirects_until_it_is_reused(api, repo, put):
    commit = put(api, {"model.safetensors": b"weights"})
    api.move_repo(repo, "you/renamed")
    assert api.model_info(repo).sha == commit
    assert Path(api.hf_hub_download(repo, "model.safetensors")).read_bytes() == b"weights"
    api.create_repo(repo)
    assert api.model_info(repo).sha != commit


def test_old_name_redirects_in_any_case_to_the_new_one_in_any_case(api, repo, put, hub):
    commit = put(api, {"a.txt": b"a"})
    api.move_repo(repo, "you/renamed")
    api.move_repo("you/renamed", "you/Renamed")
    info = api.model_info("ME/Model")
    assert (info.id, info.sha) == ("you/Renamed", commit)
    assert Path(api.hf_hub_download("Me/MODEL", "a.txt")).read_bytes() == b"a"
    api.create_repo("me/MODEL")  # the old name is used again
    assert api.model_info(repo).id == "me/MODEL"
    assert not list((hub.storage.folder / "moved").rglob("*.git"))


def test_a_namespace_has_one_spelling(api, repo):
    assert api.create_repo("ME/second").repo_id == "me/second"
    assert api.create_repo("Me/data", repo_type="dataset").repo_id == "me/data"
    api.create_repo("you/third")
    api.move_repo("you/third", "ME/third")
    assert [model.id for model in api.list_models(author="Me")] == ["me/model", "me/second", "me/third"]
    assert api.create_repo("You/fourth").repo_id == "You/fourth"  # the namespace has no repos any more


def test_move_onto_an_existing_repo_is_rejected(api, repo):
    api.create_repo("me/other")
    with pytest.raises(HfHubHTTPError, match="A model repository called me/other already exists"):
        api.move_repo(repo, "me/other")


def test_repo_is_found_in_any_case_and_keeps_its_own(api, put, ask, hub):
    api.create_repo("Me/CaSe")
    commit = put(api, {"a.txt": b"a", "model.safetensors": b"weights"}, repo_id="me/case")
    info = api.model_info("ME/CASE")
    assert (info.id, info.sha) == ("Me/CaSe", commit)
    assert Path(api.hf_hub_download("me/case", "model.safetensors")).read_bytes() == b"weights"
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo("me/CASE")
    api.move_repo("me/case", "Me/Case")  # only the case changes
    assert (api.model_info("me/case").id, api.model_info("me/case").sha) == ("Me/Case", commit)
    with pytest.raises(HfHubHTTPError, match="already exists"):
        api.move_repo("Me/Case", "Me/Case")
    api.delete_repo("me/case")
    assert not api.repo_exists("Me/Case")


def test_private_repo_in_another_case_stays_private(client_of):
    client_of("token-owner").create_repo("me/Secret", private=True)
    assert client_of("token-owner").model_info("me/secret").private
    for token in (False, "token-stranger"):
        assert not client_of(token).repo_exists("me/secret")


def test_name_of_a_deleted_repo_is_available(api, repo, put):
    put(api, {"old.txt": b"old"})
    api.delete_repo(repo)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo)
    api.create_repo(repo)
    assert api.list_repo_files(repo) == [".gitattributes"]


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_duplicate_has_the_files_of_main_in_one_commit(api, put, kind):
    api.create_repo("me/first", repo_type=kind, space_sdk="static" if kind == "space" else None, private=True)
    options = {"repo_id": "me/first", "repo_type": kind}
    put(api, {"folder/a.txt": b"a", "model.safetensors": b"weights"}, **options)
    put(api, {"b.txt": b"b"}, **options)
    url = api.duplicate_repo("me/first", "you/second", repo_type=kind)
    assert (url.repo_id, url.repo_type, url.files_copy_pending) == ("you/second", kind, False)
    files = api.list_repo_files("me/first", repo_type=kind)
    assert api.list_repo_files("you/second", repo_type=kind) == files
    (commit,) = api.list_repo_commits("you/second", repo_type=kind)
    assert (commit.title, commit.authors) == ("Duplicate from me/first", ["local"])
    assert api.repo_info("you/second", repo_type=kind).private
    api.delete_repo("me/first", repo_type=kind)
    for name, content in {"folder/a.txt": b"a", "model.safetensors": b"weights"}.items():
        assert Path(api.hf_hub_download("you/second", name, repo_type=kind)).read_bytes() == content


def test_duplicate_is_refused_where_a_new_repo_is(client_of, put):
    owner, stranger = client_of("token-owner"), client_of("token-stranger")
    assert stranger.duplicate_repo("me/model", "stranger/copy", private=True).repo_id == "stranger/copy"
    assert not owner.repo_exists("stranger/copy")
    assert stranger.duplicate_repo("me/model", "stranger/copy", exist_ok=True).repo_id == "stranger/copy"
    owner.create_repo("me/hidden", private=True)
    for source, target, status in (
        ("me/model", "stranger/copy", 409),
        ("me/model", "me/copy", 403),
        ("me/hidden", "stranger/other", 404),
        ("me/nothing", "stranger/other", 404),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            stranger.duplicate_repo(source, target)
        assert refused.value.response.status_code == status


def test_users_and_organisations_have_full_names_and_may_make_repos_private(tmp_path):
    organisations = [Organisation("team", fullname="The Team", private=True)]
    accounts = {"t": Account("ada", owns=frozenset({"ada", "team"}), fullname="Ada L.")}
    with LocalHub(tmp_path, accounts=accounts, organisations=organisations) as hub:
        api = HfApi(hub.url, token="t")
        me = api.whoami()
        assert (me["fullname"], [org["fullname"] for org in me["orgs"]]) == ("Ada L.", ["The Team"])
        assert [user.fullname for user in api.list_organization_members("team")] == ["Ada L."]
        assert api.get_organization_overview("team").fullname == "The Team"
        for repo, private in (("ada/one", False), ("team/one", True), ("TEAM/two", True)):
            api.create_repo(repo)
            assert api.model_info(repo).private is private
        api.create_repo("team/public", visibility="public")
        assert not api.model_info("team/public").private


def test_delete_of_a_missing_repo_is_an_error_unless_missing_ok(api):
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("me/nothing")
    api.delete_repo("me/nothing", missing_ok=True)


def test_changed_settings_are_in_the_info(api, repo):
    api.update_repo_settings(repo, private=True, gated="manual")
    info = api.model_info(repo)
    assert (info.private, info.gated) == (True, "manual")
    api.update_repo_settings(repo, private=False, gated=False)
    info = api.model_info(repo)
    assert (info.private, info.gated) == (False, False)


def test_repo_can_be_created_private(api):
    api.create_repo("me/secret", private=True)
    assert api.model_info("me/secret").private is True


def test_disabled_repo_is_rejected(api, repo, hub):
    settings = hub.storage.folder / "models/me/model.git/hub/repo.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "disabled": True}))
    with pytest.raises(HfHubHTTPError, match="Access to this resource is disabled") as refused:
        api.model_info(repo)
    assert type(refused.value).__name__ == "DisabledRepoError"


def test_everything_is_kept_after_a_restart(tmp_path, put):
    with LocalHub(tmp_path) as hub:
        api = HfApi(hub.url, token=False)
        api.create_repo("me/model", private=True)
        commit = put(api, {"model.safetensors": b"weights", "a.txt": b"a"})
        api.create_tag("me/model", tag="v1")
    with LocalHub(tmp_path) as hub:
        api = HfApi(hub.url, token=False)
        info = api.model_info("me/model", revision="v1")
        assert (info.sha, info.private) == (commit, True)
        assert Path(api.hf_hub_download("me/model", "model.safetensors")).read_bytes() == b"weights"


def test_invalid_setting_is_rejected(ask, hub, repo):
    answer = ask(hub.url, "PUT", f"/api/models/{repo}/settings", b'{"gated": "maybe"}')
    assert answer.status == 400
    assert b"gated" in answer.body


@pytest.mark.parametrize("name", ["..", "a..b", "a--b", ".hidden", "model.git", "a b", "x" * 97])
def test_invalid_name_of_a_repo_is_rejected(ask, hub, name):
    body = json.dumps({"name": name, "organization": "me", "type": "model"}).encode()
    assert ask(hub.url, "POST", "/api/repos/create", body).status == 400


def test_a_client_error_has_a_message(api):
    with pytest.raises(BadRequestError, match="not available as an owner"):
        api.create_repo("datasets/model")
