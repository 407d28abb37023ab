"""Collections of repos."""

import pytest
from huggingface_hub.errors import HfHubHTTPError

OWNER, STRANGER = "token-owner", "token-stranger"


def status_of(call):
    with pytest.raises(HfHubHTTPError) as refused:
        call()
    return refused.value.response.status_code


@pytest.fixture
def create(api):
    """The client asks for the name of the user if none is given, for which it needs a token."""
    return lambda title, **options: api.create_collection(title, **{"namespace": "me", **options})


def test_collection_keeps_its_id_when_its_title_changes(create, api, hub):
    made = create("My cool stuff!", description="Models")
    assert made.slug.startswith("me/my-cool-stuff-")
    assert (made.url, made.description, made.items) == (f"{hub.url}/collections/{made.slug}", "Models", [])
    changed = api.update_collection_metadata(made.slug, title="Other", theme="pink", private=True)
    assert (changed.title, changed.description, changed.theme, changed.private) == ("Other", "Models", "pink", True)
    assert changed.slug == f"me/other-{made.slug.rpartition('-')[2]}"
    for slug in (made.slug, changed.slug):
        assert api.get_collection(slug).slug == changed.slug
    assert status_of(lambda: api.update_collection_metadata(made.slug, theme="red")) == 400


def test_second_collection_with_a_title_is_rejected_unless_exists_ok(create, api):
    made = create("Same")
    assert status_of(lambda: create("Same")) == 409
    again = create("Same", description="Not taken", exists_ok=True)
    assert (again.slug, again.description) == (made.slug, made.description)


def test_deleted_collection_is_gone(create, api):
    slug = create("Short").slug
    api.delete_collection(slug)
    assert status_of(lambda: api.get_collection(slug)) == status_of(lambda: api.delete_collection(slug)) == 404
    api.delete_collection(slug, missing_ok=True)
    assert list(api.list_collections()) == []


def test_items_are_added_moved_and_removed(create, api):
    for kind in ("model", "dataset"):
        api.create_repo(f"me/{kind}", repo_type=kind)
    inner = create("Inner").slug
    slug = create("Outer").slug
    api.add_collection_item(slug, "me/model", "model", note="Mine")
    api.add_collection_item(slug, "me/dataset", "dataset")
    added = api.add_collection_item(slug, inner, "collection")
    assert [(item.item_id, item.item_type, item.note) for item in added.items] == [
        ("me/model", "model", "Mine"),
        ("me/dataset", "dataset", None),
        (inner, "collection", None),
    ]
    assert status_of(lambda: api.add_collection_item(slug, "me/model", "model")) == 409
    api.add_collection_item(slug, "me/model", "model", exists_ok=True)
    assert status_of(lambda: api.add_collection_item(slug, "me/nothing", "model")) == 404
    assert status_of(lambda: api.add_collection_item(slug, "2307.09288", "paper")) == 400
    api.update_collection_item(slug, added.items[2].item_object_id, position=0, note="First")
    api.delete_collection_item(slug, added.items[1].item_object_id)
    api.delete_collection_item(slug, added.items[1].item_object_id, missing_ok=True)
    items = api.get_collection(slug).items
    assert [(item.item_id, item.note, item.position) for item in items] == [(inner, "First", 0), ("me/model", "Mine", 1)]


def test_item_follows_a_moved_repo_and_leaves_with_a_deleted_one(create, api, repo):
    slug = create("Models").slug
    api.add_collection_item(slug, repo, "model")
    api.move_repo(repo, "you/renamed")
    assert [item.item_id for item in api.get_collection(slug).items] == ["you/renamed"]
    api.delete_repo("you/renamed")
    assert api.get_collection(slug).items == []


def test_listed_by_owner_and_item_in_pages(create, api, repo):
    slugs = [create(f"Number {number}").slug for number in range(9)]  # a page has 7
    other = create("Other", namespace="you").slug
    api.add_collection_item(slugs[3], repo, "model")
    assert [one.slug for one in api.list_collections(owner="me")] == slugs
    assert [one.slug for one in api.list_collections(owner="you")] == [other]
    (found,) = api.list_collections(item=f"models/{repo}")
    assert (found.slug, found.items[0].item_id) == (slugs[3], repo)
    assert next(iter(api.list_collections(sort="lastModified"))).slug == slugs[3]
    assert len(list(api.list_collections(limit=2))) == 2
    assert status_of(lambda: list(api.list_collections(sort="title"))) == 400


def test_private_collections_and_repos_are_hidden_from_others(client_of):
    owner, stranger = client_of(OWNER), client_of(STRANGER)
    owner.create_repo("me/hidden", private=True)
    slug = owner.create_collection("Mine", private=True).slug
    owner.add_collection_item(slug, "me/hidden", "model")
    assert status_of(lambda: stranger.get_collection(slug)) == 404
    assert list(stranger.list_collections()) == []
    owner.update_collection_metadata(slug, private=False)
    assert stranger.get_collection(slug).items == []
    assert [item.item_id for item in owner.get_collection(slug).items] == ["me/hidden"]
    own = stranger.create_collection("Theirs").slug
    assert status_of(lambda: stranger.add_collection_item(own, "me/hidden", "model")) == 404
    for call in (
        lambda: stranger.update_collection_metadata(slug, title="Stolen"),
        lambda: stranger.delete_collection(slug),
        lambda: stranger.add_collection_item(slug, "me/model", "model"),
        lambda: stranger.create_collection("x", namespace="me"),
    ):
        assert status_of(call) == 403
    assert status_of(lambda: client_of(False).delete_collection(slug)) == 401
