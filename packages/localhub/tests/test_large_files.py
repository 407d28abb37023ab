"""Large files: LFS uploads are verified, and stored completely or not at all."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from localhub.tree import Pointer

BIG = os.urandom(2_500_000)
pytestmark = pytest.mark.usefixtures("by_lfs")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def batch(ask, hub, repo, content, operation="upload", transfers=("basic", "multipart")):
    request = {
        "operation": operation,
        "transfers": transfers,
        "objects": [{"oid": sha256(content), "size": len(content)}],
        "hash_algo": "sha256",
    }
    answer = ask(hub.url, "POST", f"/{repo}.git/info/lfs/objects/batch", json.dumps(request).encode())
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["objects"][0]


def send(ask, hub, url, content, method="PUT"):
    return ask(hub.url, method, url.removeprefix(hub.url), content)


def read(api, path):
    return Path(api.hf_hub_download("me/model", path)).read_bytes()


@pytest.mark.parametrize("size", [1, 1_000_000, 1_000_001, 2_500_000])
def test_download_equals_upload(api, repo, put, size):
    put(api, {"model.safetensors": BIG[:size]})
    assert read(api, "model.safetensors") == BIG[:size]


def test_multipart_is_used_above_the_threshold_only(ask, hub, repo):
    small, large = (batch(ask, hub, repo, BIG[:size])["actions"]["upload"]["header"] for size in (1_000_000, 2_500_000))
    assert small == {}
    assert large["chunk_size"] == "300000"
    assert sorted(int(key) for key in large if key.isdigit()) == list(range(1, 10))


def test_large_text_goes_to_lfs_regardless_of_its_name(api, repo, put):
    content = b"a line of text\n" * 800_000
    put(api, {"corpus.txt": content})
    assert api.get_paths_info(repo, "corpus.txt")[0].lfs.size == len(content)


def test_gitattributes_of_the_repo_select_lfs(api, repo, put):
    put(api, {".gitattributes": b"data/** filter=lfs -text\n*.safetensors -filter\n"})
    put(api, {"data/a/b.txt": b"x", "other.txt": b"x", "a.safetensors": b"x"})
    is_large = {item.path: item.lfs is not None for item in api.list_repo_tree(repo, recursive=True) if hasattr(item, "lfs")}
    assert (is_large["data/a/b.txt"], is_large["other.txt"], is_large["a.safetensors"]) == (True, False, False)


def test_git_contains_an_lfs_pointer(api, repo, put, hub):
    put(api, {"model.safetensors": b"weights"})
    git = ["git", "-C", str(hub.storage.folder / "models/me/model.git"), "cat-file", "blob", "main:model.safetensors"]
    pointer = subprocess.run(git, check=True, capture_output=True).stdout
    assert pointer == Pointer(sha256(b"weights"), 7).encode()
    assert pointer.startswith(b"version https://git-lfs.github.com/spec/v1\noid sha256:")


def test_existing_object_needs_no_upload(api, repo, put, ask, hub):
    put(api, {"model.safetensors": b"weights"})
    assert "actions" not in batch(ask, hub, repo, b"weights")


def test_object_of_another_repo_must_be_uploaded(api, repo, put, ask, hub):
    api.create_repo("me/secret", private=True)
    put(api, {"model.safetensors": b"weights"}, repo_id="me/secret")
    assert "actions" in batch(ask, hub, repo, b"weights")
    assert "error" in batch(ask, hub, repo, b"weights", "download")


def test_download_by_git_lfs(api, repo, put, ask, hub):
    put(api, {"model.safetensors": b"weights"})
    href = batch(ask, hub, repo, b"weights", "download", ["basic"])["actions"]["download"]["href"]
    answer = send(ask, hub, href, None, "GET")
    assert (answer.status, answer.body) == (200, b"weights")


def test_download_after_the_repo_was_deleted_and_created_again(api, repo, put, ask, hub):
    put(api, {"model.safetensors": b"weights"})
    href = batch(ask, hub, repo, b"weights", "download", ["basic"])["actions"]["download"]["href"]
    api.delete_repo(repo)
    assert send(ask, hub, href, None, "GET").status == 404
    api.create_repo(repo)
    assert [send(ask, hub, href, None, method).status for method in ("GET", "HEAD")] == [404, 404]


@pytest.mark.parametrize("wrong", [b"weightX", b"weight", b"weights and more"])
def test_content_that_does_not_match_its_declaration_is_deleted(ask, hub, repo, wrong):
    actions = batch(ask, hub, repo, b"weights")["actions"]
    assert send(ask, hub, actions["upload"]["href"], wrong).status == 400
    verify = json.dumps({"oid": sha256(b"weights"), "size": 7}).encode()
    assert send(ask, hub, actions["verify"]["href"], verify, "POST").status == 400
    assert "actions" in batch(ask, hub, repo, b"weights")
    assert send(ask, hub, actions["upload"]["href"], b"weights").status == 200
    assert send(ask, hub, actions["verify"]["href"], verify, "POST").status == 200


def test_verify_checks_the_size(api, repo, put, ask, hub):
    put(api, {"model.safetensors": b"weights"})
    verify = json.dumps({"oid": sha256(b"weights"), "size": 8}).encode()
    assert ask(hub.url, "POST", f"/{repo}.git/info/lfs/objects/verify", verify).status == 400


def upload_parts(ask, hub, header, numbers, content=BIG):
    size = int(header["chunk_size"])
    for number in numbers:
        answer = send(ask, hub, header[str(number)], content[(number - 1) * size : number * size])
        assert (answer.status, bool(answer.headers["etag"])) == (200, True)


def complete(ask, hub, action, content=BIG):
    body = json.dumps({"oid": sha256(content), "parts": []}).encode()
    return send(ask, hub, action["href"], body, "POST")


def test_parts_may_come_in_any_order_and_twice(ask, hub, repo):
    action = batch(ask, hub, repo, BIG)["actions"]["upload"]
    upload_parts(ask, hub, action["header"], [9, 3, 1, 2, 3, 4, 8, 7, 6, 5])
    assert complete(ask, hub, action).status == 200
    assert complete(ask, hub, action).status == 200  # sent again, because the answer was lost
    assert "actions" not in batch(ask, hub, repo, BIG)


def test_missing_or_wrong_part_is_detected_at_completion(ask, hub, repo):
    action = batch(ask, hub, repo, BIG)["actions"]["upload"]
    assert complete(ask, hub, action).status == 400
    upload_parts(ask, hub, action["header"], [1, 2, 3, 5, 6, 7, 8, 9])
    assert complete(ask, hub, action).status == 400
    assert "actions" in batch(ask, hub, repo, BIG)


def test_part_of_the_wrong_length_is_rejected(ask, hub, repo):
    header = batch(ask, hub, repo, BIG)["actions"]["upload"]["header"]
    assert send(ask, hub, header["1"], BIG[:299_999]).status == 400
    assert send(ask, hub, header["1"], BIG[:300_001]).status == 400
    assert send(ask, hub, header["9"].removesuffix("9") + "10", b"").status == 400


def test_forged_upload_url_is_rejected(ask, hub, repo):
    href = batch(ask, hub, repo, b"weights")["actions"]["upload"]["href"]
    body, _, signature = href.rpartition(".")
    assert send(ask, hub, f"{body}x.{signature}", b"weights").status == 403
    assert send(ask, hub, href.replace("/upload/", "/download/"), None, "GET").status == 403
    assert "actions" in batch(ask, hub, repo, b"weights")


@pytest.mark.parametrize("oid", ["../../secret", "A" * 64, ""])
def test_object_ids_are_checked(ask, hub, repo, oid):
    body = json.dumps({"operation": "upload", "objects": [{"oid": oid, "size": 1}]}).encode()
    assert ask(hub.url, "POST", f"/{repo}.git/info/lfs/objects/batch", body).status == 400


def test_failed_upload_leaves_no_files(ask, hub, repo):
    href = batch(ask, hub, repo, b"weights")["actions"]["upload"]["href"]
    before = set(hub.storage.incoming.iterdir())
    assert send(ask, hub, href, b"wrong!!").status == 400
    assert set(hub.storage.incoming.iterdir()) == before
