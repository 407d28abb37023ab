"""Static Spaces: made with their first files, listed, and served to a browser on a host of their own."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from localhub import LocalHub

SPACE = "me/model-demo"
CARD = """---
title: Demo
emoji: 🐢
colorFrom: blue
colorTo: gray
sdk: static
models: [me/model]
{more}
---
"""
PAGE = b"<!doctype html><script type=module src=app.mjs></script>"


@pytest.fixture
def space(api: HfApi) -> str:
    api.create_repo(SPACE, repo_type="space", space_sdk="static")
    return SPACE


def card(more: str = "") -> dict[str, bytes]:
    return {"README.md": CARD.format(more=more).encode()}


def put_space(put, api, files):
    return put(api, files, repo_id=SPACE, repo_type="space")


@pytest.fixture
def visit(hub: LocalHub, ask):
    """What a browser gets for a path of the sites."""
    port = urlsplit(hub.url).port
    return lambda path, **headers: ask(hub.url, "GET", path, headers={"Host": f"spaces.localhost:{port}", **headers})


def test_a_new_space_has_a_card_with_its_sdk_and_a_page(api, space):
    info = api.space_info(space)
    assert (info.sdk, info.models) == ("static", [])
    assert sorted(api.list_repo_files(space, repo_type="space")) == [".gitattributes", "README.md", "index.html", "style.css"]
    assert [commit.title for commit in api.list_repo_commits(space, repo_type="space")] == ["initial commit"]
    api.create_repo("me/app", repo_type="space", space_sdk="gradio")
    assert api.space_info("me/app").sdk == "gradio"


def test_a_space_without_a_known_sdk_is_not_created(ask, hub, api):
    for sdk in (b"", b', "sdk": "php"'):
        body = b'{"name": "model-demo", "organization": "me", "type": "space"%s}' % sdk
        answer = ask(hub.url, "POST", "/api/repos/create", body)
        assert (answer.status, b"sdk" in answer.body) == (400, True)
    assert not api.repo_exists(SPACE, repo_type="space")


def test_spaces_are_listed_by_author_name_and_model(api, space, put):
    api.create_repo("you/other", repo_type="space", space_sdk="static")
    put_space(put, api, card())
    assert [one.id for one in api.list_spaces()] == [SPACE, "you/other"]
    assert [one.id for one in api.list_spaces(author="you")] == ["you/other"]
    assert [one.id for one in api.list_spaces(search="Demo")] == [SPACE]
    (found,) = api.list_spaces(models="me/model", full=True)
    assert (found.id, found.sdk, found.models) == (SPACE, "static", ["me/model"])
    assert "index.html" in [one.rfilename for one in found.siblings]
    assert [one.id for one in api.list_models()] == []


def test_a_listing_has_pages_and_no_unknown_filters(api):
    for number in range(9):  # a page has 7
        api.create_repo(f"me/space-{number}", repo_type="space", space_sdk="static")
    assert len(list(api.list_spaces())) == 9
    assert len(list(api.list_spaces(limit=3))) == 3
    with pytest.raises(BadRequestError, match="Listings of models have no apps here"):
        list(api.list_models(apps="ollama"))


def test_the_page_of_a_space_is_on_a_host_of_its_own(space, api, put, ask, hub, visit):
    put_space(put, api, {**card(), "index.html": PAGE, "app.mjs": b"run()"})
    answer = ask(hub.url, "GET", f"/spaces/{space}")
    port = urlsplit(hub.url).port
    assert (answer.status, answer.headers["location"]) == (302, f"http://spaces.localhost:{port}/{space}/")
    assert (visit(f"/{space}").status, visit(f"/{space}").headers["location"]) == (302, f"/{space}/")
    page = visit(f"/{space}/")
    assert (page.status, page.body, page.headers["content-type"]) == (200, PAGE, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("js/app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("runtime.wasm", "application/wasm"),
        ("onnx/model.onnx", "application/octet-stream"),
        ("config.json", "application/json"),
    ],
)
def test_files_have_the_type_that_a_browser_needs_and_ranges(space, api, put, visit, path, kind):
    put_space(put, api, {path: b"0123456789"})
    answer = visit(f"/{space}/{path}")
    assert (answer.body, answer.headers["content-type"]) == (b"0123456789", kind)
    part = visit(f"/{space}/{path}", Range="bytes=2-4")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")


def test_a_folder_shows_its_page_and_the_card_names_the_first_one(space, api, put, visit):
    put_space(put, api, {**card("app_file: site/start.html"), "site/start.html": b"start", "docs/index.html": b"docs"})
    assert visit(f"/{space}/").body == b"start"
    assert visit(f"/{space}/docs").headers["location"] == f"/{space}/docs/"
    assert visit(f"/{space}/docs/").body == b"docs"
    assert visit(f"/{space}/nothing.html").status == 404
    assert visit(f"/{space}/../me/other").status == 422


def test_headers_of_the_card_that_the_hub_allows_are_sent(space, api, put, visit):
    more = "custom_headers: {cross-origin-opener-policy: same-origin, set-cookie: a}"
    put_space(put, api, card(more))
    answer = visit(f"/{space}/")
    assert (answer.headers["cross-origin-opener-policy"], answer.headers.get("set-cookie")) == ("same-origin", None)


def test_a_page_of_a_space_can_not_use_the_hub(space, hub, ask, visit, api):
    origin = f"http://spaces.localhost:{urlsplit(hub.url).port}"
    assert ask(hub.url, "GET", f"/api/spaces/{space}", headers={"Origin": origin}).status == 403
    body = b'{"name": "x", "organization": "me", "type": "model"}'
    assert ask(hub.url, "POST", "/api/repos/create", body, {"Origin": origin}).status == 403
    port = urlsplit(hub.url).port
    assert ask(hub.url, "POST", "/api/repos/create", body, {"Host": f"spaces.localhost:{port}"}).status == 405
    assert visit("/api/whoami-v2").status == 400  # no name of a Space
    assert not api.repo_exists("me/x")


def test_the_page_of_a_space_with_another_sdk_shows_its_files(api, ask, hub, visit):
    api.create_repo("me/app", repo_type="space", space_sdk="gradio")
    answer = ask(hub.url, "GET", "/spaces/me/app")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"This Hub does not run Spaces with the SDK gradio" in answer.body
    assert b"/spaces/me/app/blob/main/README.md" in answer.body
    assert visit("/me/app/").status == 404


def test_a_private_space_asks_for_a_token(tmp_path: Path, ask):
    with LocalHub(tmp_path, token="secret") as hub:
        api = HfApi(hub.url, token="secret")
        api.create_repo(SPACE, repo_type="space", space_sdk="static", private=True)
        host = {"Host": f"spaces.localhost:{urlsplit(hub.url).port}"}
        answer = ask(hub.url, "GET", f"/{SPACE}/", headers=host)
        assert (answer.status, "Basic" in answer.headers["www-authenticate"]) == (401, True)
        assert ask(hub.url, "GET", f"/{SPACE}/", headers={**host, "Authorization": "Bearer secret"}).status == 200
        assert [one.id for one in api.list_spaces()] == [SPACE]
        assert [one.id for one in HfApi(hub.url, token=False).list_spaces()] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("sdk: static", "sdk: php"), ("colorFrom: blue", "colorFrom: teal"), ("title: Demo", f"short_description: {'x' * 61}")],
)
def test_an_invalid_card_is_refused(space, api, put, old, new):
    text = card()["README.md"].decode().replace(old, new)
    with pytest.raises((HfHubHTTPError, ValueError), match=new.split(":")[0]):
        put_space(put, api, {"README.md": text.encode()})
