"""Validation of names: no request can access files outside its repo."""

import json
import socket
from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from localhub import Account, LocalHub

ESCAPES = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/.git/config",
    ".GIT/hooks/x",
    "a\0b",
    "..\\b",
    "a\\.git\\b",
    "a\nb",
    "",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("key", ["file", "deletedFile", "deletedFolder"])
def test_path_of_a_commit_stays_in_the_repo(ask, hub, api, repo, path, key):
    lines = [
        {"key": "header", "value": {"summary": "x"}},
        {"key": key, "value": {"path": path, "content": "", "encoding": "base64"}},
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert ask(hub.url, "POST", f"/api/models/{repo}/commit/main", body).status == 422
    assert len(api.list_repo_commits(repo)) == 1


@pytest.mark.parametrize(
    "path", ["..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "a%00b", "%2fetc%2fpasswd", ".git/config", "../secret"]
)
def test_path_of_a_download_stays_in_the_repo(ask, hub, repo, path):
    for url in (f"/{repo}/resolve/main/{path}", f"/api/models/{repo}/tree/main/{path}"):
        answer = ask(hub.url, "GET", url)
        assert answer.status in (404, 422)
        assert "x-repo-commit" not in answer.headers or b"Entry not found" in answer.body


@pytest.mark.parametrize("repo_id", ["..%2f../x", "../..", "me/..", "me/model.git", "me/%00", "me/a%2fb", "%ff/x"])
def test_id_of_a_repo_stays_in_the_folder(ask, hub, repo_id):
    for url in (
        f"/api/models/{repo_id}",
        f"/{repo_id}/resolve/main/a",
        f"/datasets/{repo_id}/info/refs?service=git-upload-pack",
    ):
        assert ask(hub.url, "GET", url).status in (400, 404)


def test_preupload_rejects_invalid_paths(ask, hub, repo):
    body = json.dumps({"files": [{"path": "../x", "sample": "", "size": 1}]}).encode()
    assert ask(hub.url, "POST", f"/api/models/{repo}/preupload/main", body).status == 422


@pytest.mark.parametrize("field", ["fromRepo", "toRepo"])
def test_move_rejects_invalid_names(ask, hub, repo, field):
    body = {"fromRepo": repo, "toRepo": "me/new", "type": "model", field: "../x"}
    assert ask(hub.url, "POST", "/api/repos/move", json.dumps(body).encode()).status == 400


def test_unusual_file_names_are_preserved(api, repo, put, ask, hub):
    names = ["a b.txt", "ü/ñ.txt", "100%.txt", "q?x=1#y.txt", "plus+.txt", "-dash", "deep/er/and/deeper.txt", "back\\slash"]
    names += [
        "e\u0301.txt",
        "\u00e9.txt",
        "%2F.txt",
        "a%20b",
        ".hidden",
        "&amp;<b>'\".txt",
        "tree/main",
        "x" * 255,
        "d/" * 400 + "e",
    ]
    put(api, {name: name.encode() for name in names}, commit_message="Odd names")
    assert sorted(api.list_repo_files(repo)) == sorted([".gitattributes", *names])
    assert {info.path for info in api.get_paths_info(repo, names)} == set(names)
    for name in names:
        assert Path(api.hf_hub_download(repo, name)).read_bytes() == name.encode()
        for page in ("raw", "blob"):
            answer = ask(hub.url, "GET", f"/{repo}/{page}/main/{quote(name)}")
            assert (answer.status, escape(name).encode() in answer.body or name.encode() == answer.body) == (200, True)
        if folder := name.rpartition("/")[0]:
            answer = ask(hub.url, "GET", f"/{repo}/tree/main/{quote(folder)}")
            assert (answer.status, f"/{repo}/blob/main/{quote(name)}".encode() in answer.body) == (200, True)
            assert [item.path for item in api.list_repo_tree(repo, folder)] == [name]
    with pytest.raises(HfHubHTTPError, match="longer"):
        put(api, {"x" * 256: b"x"})


def test_page_of_another_site_is_rejected(ask, hub):
    body = json.dumps({"name": "x", "type": "model"}).encode()
    host = urlsplit(hub.url).netloc
    assert ask(hub.url, "POST", "/api/repos/create", body, {"Origin": "https://evil.example"}).status == 403
    assert ask(hub.url, "GET", "/api/whoami-v2", headers={"Host": "evil.example"}).status == 403
    assert ask(hub.url, "POST", "/api/repos/create", body, {"Origin": f"http://{host}"}).status == 200


def test_pages_of_an_allowed_origin_may_use_the_hub(ask, tmp_path):
    origin, other = "http://localhost:5173", "https://evil.example"
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with LocalHub(tmp_path, accounts={"hf_me": Account("me")}, origins=[origin]) as hub:
        HfApi(hub.url, token="hf_me").create_repo("me/model")
        before = ask(hub.url, "OPTIONS", "/api/models/me/model/commit/main", headers=asks)
        allowed = [before.headers[f"access-control-allow-{what}"] for what in ("origin", "headers")]
        assert (before.status, allowed, "POST" in before.headers["access-control-allow-methods"]) == (
            200,
            [origin, "authorization"],
            True,
        )
        for path, status in (("/me/model/resolve/main/.gitattributes", 200), ("/me/model/resolve/main/none", 404)):
            answer = ask(hub.url, "GET", path, headers={"Origin": origin})
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, origin)
            assert {"X-Repo-Commit", "ETag", "Content-Range", "X-Error-Code", "Link"} <= set(
                answer.headers["access-control-expose-headers"].split(", ")
            )
            assert "access-control-allow-credentials" not in answer.headers
        for headers in ({"Origin": other}, {**asks, "Origin": other}, {"Origin": "null"}):
            answer = ask(hub.url, "GET", "/api/models/me/model", headers=headers)
            assert (answer.status, "access-control-allow-origin" in answer.headers) == (403, False)


def test_only_loopback_is_bound(hub):
    port = urlsplit(hub.url).port
    with socket.socket() as probe:
        probe.settimeout(1)
        try:
            probe.connect(("127.0.0.2", port))
            answered = True
        except OSError:
            answered = False
    assert not answered


def test_unknown_endpoint_and_method(ask, hub, repo):
    assert ask(hub.url, "GET", "/api/surprise").status == 404
    assert ask(hub.url, "GET", f"/api/surprises/{repo}").status == 404
    assert ask(hub.url, "PATCH", "/api/repos/create").status == 405


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"name": 5}', b'"x"', b"\xff"])
def test_malformed_json_is_rejected(ask, hub, body):
    assert ask(hub.url, "POST", "/api/repos/create", body).status == 400
