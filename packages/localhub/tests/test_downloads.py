"""Downloads of a revision: whole files, ranges, resumed downloads."""

import hashlib
import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get

BIG = bytes(range(256)) * 2000


def read(api, path, **options):
    return Path(api.hf_hub_download("me/model", path, **options)).read_bytes()


@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
def test_two_tags_have_their_own_content_and_etag(api, repo, put, path):
    etags = []
    for content in (b"first", b"second"):
        put(api, {path: content})
        api.create_tag(repo, tag=content.decode())
    for content in (b"first", b"second", b"first"):
        assert read(api, path, revision=content.decode()) == content
        etags.append(get_hf_file_metadata(hf_hub_url(repo, path, revision=content.decode(), endpoint=api.endpoint)).etag)
    assert etags[0] == etags[2] != etags[1]
    assert read(api, path) == b"second"


def test_head_has_commit_etag_and_size(api, repo, put):
    commit = put(api, {"a.txt": b"abc", "model.safetensors": b"weights"})
    plain = get_hf_file_metadata(hf_hub_url(repo, "a.txt", endpoint=api.endpoint))
    large = get_hf_file_metadata(hf_hub_url(repo, "model.safetensors", endpoint=api.endpoint))
    assert (plain.commit_hash, plain.size) == (large.commit_hash, 3) == (commit, 3)
    assert plain.etag == hashlib.sha1(b"blob 3\0abc").hexdigest()  # noqa: S324, git's own
    assert (large.etag, large.size) == (hashlib.sha256(b"weights").hexdigest(), 7)


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_snapshot_of_a_revision(api, put, kind, tmp_path):
    api.create_repo("me/kind", repo_type=kind, space_sdk="static" if kind == "space" else None)
    files = {"a.txt": b"1", "sub dir/ünï.txt": "2 ü".encode(), "sub/model.safetensors": b"weights"}
    commit = put(api, files, repo_id="me/kind", repo_type=kind)
    put(api, {"a.txt": b"newer"}, repo_id="me/kind", repo_type=kind)
    folder = api.snapshot_download("me/kind", repo_type=kind, revision=commit, local_dir=tmp_path / "out")
    for path, content in files.items():
        assert (tmp_path / "out" / path).read_bytes() == content, folder


def test_idle_connection_outlives_those_of_the_client(hub):
    connection = http.client.HTTPConnection(urlsplit(hub.url).netloc, timeout=20)
    connection.request("GET", "/api/whoami-v2")
    assert connection.getresponse().read()
    used = connection.sock
    time.sleep(httpx2.Limits().keepalive_expiry + 0.5)
    connection.request("GET", "/api/whoami-v2")
    assert connection.getresponse().status == 200
    assert connection.sock is used
    connection.close()


def test_file_of_a_pull_request(api, repo, put):
    put(api, {"a.txt": b"proposed"}, create_pr=True)
    assert read(api, "a.txt", revision="refs/pr/1") == b"proposed"


def test_raw_file_of_a_pull_request(api, repo, put, ask, hub):
    put(api, {"a.txt": b"proposed", "page.html": b"<script>", "model.bin": b"weights"}, create_pr=True)
    for revision in ("refs/pr/1", "refs%2Fpr%2F1"):
        answer = ask(hub.url, "GET", f"/{repo}/raw/{revision}/a.txt", headers={"Range": "bytes=3-"})
        assert (answer.status, answer.body) == (206, b"posed")
    page = ask(hub.url, "GET", f"/{repo}/raw/refs/pr/1/page.html").headers
    assert (page["content-type"], page["x-content-type-options"]) == ("text/plain; charset=utf-8", "nosniff")
    assert ask(hub.url, "GET", f"/{repo}/raw/refs/pr/1/model.bin").body.startswith(b"version https://git-lfs")
    assert ask(hub.url, "GET", f"/{repo}/raw/main/a.txt").status == 404


def test_missing_repo_revision_and_file_have_different_errors(api, repo):
    with pytest.raises(EntryNotFoundError) as refused:
        api.hf_hub_download(repo, "nothing.txt")
    assert refused.value.response.headers["X-Repo-Commit"] == api.model_info(repo).sha
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(repo, ".gitattributes", revision="nothing")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(repo, ".gitattributes", revision="0" * 40)
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("me/nothing", "a.txt")


@pytest.mark.parametrize("path", ["a.txt", "model.safetensors"])
@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("0-9", 0, 10), ("100-", 100, None), ("-7", -7, None), ("5-99999999", 5, None)]
)
def test_range_has_status_206(api, repo, put, ask, hub, path, asked, start, stop):
    put(api, {path: BIG})
    answer = ask(hub.url, "GET", f"/{repo}/resolve/main/{path}", headers={"Range": f"bytes={asked}"})
    assert (answer.status, answer.body) == (206, BIG[start:stop])
    assert answer.headers["content-range"].endswith(f"/{len(BIG)}")
    assert int(answer.headers["content-length"]) == len(BIG[start:stop])


@pytest.mark.parametrize("path", ["a.txt", "model.safetensors"])
def test_range_beyond_the_end_has_status_416(api, repo, put, ask, hub, path):
    put(api, {path: b"short"})
    answer = ask(hub.url, "GET", f"/{repo}/resolve/main/{path}", headers={"Range": "bytes=5-"})
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */5")


@pytest.mark.parametrize("path", ["empty.txt", "empty.safetensors"])
def test_range_of_an_empty_file_is_ignored(api, repo, put, ask, hub, path):
    put(api, {path: b""})
    for method in ("GET", "HEAD"):
        answer = ask(hub.url, method, f"/{repo}/resolve/main/{path}", headers={"Range": "bytes=0-0"})
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
        assert answer.headers["content-range"] == "bytes */0"  # the only place where huggingface.js looks for the size
    assert Path(api.hf_hub_download(repo, path)).read_bytes() == b""


def test_range_with_the_etag_of_another_revision_returns_the_whole_file(api, repo, put, ask, hub):
    put(api, {"a.txt": b"new content"})
    headers = {"Range": "bytes=4-", "If-Range": '"an older etag"'}
    answer = ask(hub.url, "GET", f"/{repo}/resolve/main/a.txt", headers=headers)
    assert (answer.status, answer.body) == (200, b"new content")


@pytest.mark.parametrize("path", ["a.txt", "model.safetensors"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_with_the_current_etag_has_status_304_and_no_body(api, repo, put, ask, hub, path, method):
    commit = put(api, {path: b"content"})
    url = f"/{repo}/resolve/main/{path}"
    etag = ask(hub.url, "HEAD", url).headers["etag"]
    for known in (etag, f"W/{etag}", f'"older", {etag}', "*"):
        answer = ask(hub.url, method, url, headers={"If-None-Match": known, "Range": "bytes=2-"})
        assert (answer.status, answer.body) == (304, b"")
        assert (answer.headers["etag"], answer.headers["x-repo-commit"]) == (etag, commit)
        assert "content-length" not in answer.headers
    put(api, {path: b"newer content"})
    answer = ask(hub.url, method, url, headers={"If-None-Match": etag})
    assert (answer.status, answer.headers["content-length"]) == (200, "13")


def test_interrupted_download_resumes(api, repo, put, tmp_path):
    put(api, {"model.safetensors": BIG})
    with (tmp_path / "partial").open("w+b") as file:
        file.write(BIG[:1000])
        url = hf_hub_url(repo, "model.safetensors", endpoint=api.endpoint)
        http_get(url, file, resume_size=1000, expected_size=len(BIG))
        file.seek(0)
        assert file.read() == BIG


def test_file_with_a_damaged_or_missing_lfs_object_is_an_error(api, repo, put, ask, hub):
    put(api, {"model.safetensors": b"weights"})
    (lost,) = (hub.storage.folder / "models/me/model.git/lfs/objects").glob("*/*/*")
    lost.write_bytes(b"weigh")
    answer = ask(hub.url, "GET", f"/{repo}/resolve/main/model.safetensors")
    assert (answer.status, b"has another size" in answer.body) == (500, True)
    lost.unlink()  # as a deletion of large files that leaves the commits does
    answer = ask(hub.url, "GET", f"/{repo}/resolve/main/model.safetensors")
    assert (answer.status, b"does not exist any more" in answer.body) == (404, True)
