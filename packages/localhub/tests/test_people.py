"""Users and organisations: overviews, members, and likes."""

import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

OWNER, READER, STRANGER = "token-owner", "token-reader", "token-stranger"


@pytest.fixture
def like(guarded, ask):
    """The client can take a like back, but not give one: the button on the page of a repo does."""

    def press(token, path="models/me/model"):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return ask(guarded.url, "POST", f"/api/{path}/like", b"", headers).status

    return press


def test_liked_repos_are_listed_until_they_are_unliked(client_of, like):
    api = client_of(STRANGER)
    client_of(OWNER).create_repo("me/data", repo_type="dataset")
    assert [like(STRANGER), like(STRANGER), like(OWNER), like(STRANGER, "datasets/me/data")] == [200] * 4
    liked = api.list_liked_repos()
    assert (liked.user, liked.total, liked.models, liked.datasets, liked.spaces) == (
        "stranger",
        2,
        ["me/model"],
        ["me/data"],
        [],
    )
    assert client_of(False).list_liked_repos("stranger").total == 2
    assert sorted(user.username for user in api.list_repo_likers("me/model")) == ["me", "stranger"]
    assert api.model_info("me/model").likes == 2
    api.unlike("me/model")
    api.unlike("me/model")
    assert api.list_liked_repos().models == []
    assert [user.username for user in api.list_repo_likers("me/model")] == ["me"]


def test_users_and_organisations_are_found_in_any_case(client_of):
    api = client_of(OWNER)
    assert (api.get_user_overview("ME").username, api.get_user_overview("ME").num_models) == ("me", 1)
    assert api.get_organization_overview("My-Org").name == "my-org"
    assert [user.username for user in api.list_organization_members("MY-ORG")] == ["me"]


def test_likes_sort_the_listings(client_of, like):
    for name in ("me/a", "me/z"):
        client_of(OWNER).create_repo(name)
    like(OWNER, "models/me/z"), like(STRANGER, "models/me/z"), like(OWNER, "models/me/a")
    assert [model.id for model in client_of(False).list_models(sort="likes")] == ["me/z", "me/a", "me/model"]


def test_likes_need_a_token_and_a_readable_repo(client_of, like):
    client_of(OWNER).create_repo("me/hidden", private=True)
    assert (like(None), like("wrong"), like(READER), like(STRANGER, "models/me/hidden")) == (401, 401, 403, 404)
    like(OWNER, "models/me/hidden")
    assert client_of(OWNER).list_liked_repos().models == ["me/hidden"]
    assert client_of(STRANGER).list_liked_repos("me").models == []
    with pytest.raises(RepositoryNotFoundError):
        client_of(STRANGER).unlike("me/hidden")
    with pytest.raises(HfHubHTTPError) as refused:
        client_of(STRANGER).list_liked_repos("nobody")
    assert refused.value.response.status_code == 404


def test_overview_of_a_user_counts_what_others_may_see(client_of, like):
    owner = client_of(OWNER)
    owner.create_repo("me/hidden", private=True)
    owner.create_repo("me/data", repo_type="dataset")
    client_of(STRANGER).create_discussion("me/model", title="Hello")
    like(STRANGER)
    seen = client_of(False).get_user_overview("me")
    assert (seen.username, seen.user_type, [org.name for org in seen.orgs]) == ("me", "user", ["my-org"])
    assert (seen.num_models, seen.num_datasets, seen.num_spaces, seen.num_likes) == (1, 1, 0, 0)
    assert owner.get_user_overview("me").num_models == 2
    stranger = client_of(False).get_user_overview("STRANGER")
    assert (stranger.num_discussions, stranger.num_likes) == (1, 1)
    with pytest.raises(HfHubHTTPError, match="does not exist"):
        owner.get_user_overview("my-org")


def test_overview_and_members_of_an_organisation(client_of):
    api = client_of(OWNER)
    api.create_repo("my-org/model")
    overview = api.get_organization_overview("My-Org")
    assert (overview.name, overview.num_users, overview.num_models) == ("my-org", 1, 1)
    assert [user.username for user in api.list_organization_members("my-org")] == ["me"]
    for question in (api.get_organization_overview, lambda name: list(api.list_organization_members(name))):
        with pytest.raises(HfHubHTTPError) as refused:
            question("me")
        assert refused.value.response.status_code == 404
