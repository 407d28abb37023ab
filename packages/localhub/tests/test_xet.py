"""Uploads and downloads by Xet: the client as it is installed, with hf_xet and no variable set; and damaged uploads."""

import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from localhub import LocalHub, xet, xet_download

OWNER, READER, STRANGER = "token-owner", "token-reader", "token-stranger"

CHILD = """
import json, sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils._runtime import is_xet_available

assert is_xet_available()
url, folder, repo = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
api = HfApi(url, token=False)
api.create_repo(repo, exist_ok=True)
random = (folder / "random.bin").read_bytes()
api.upload_file(repo_id=repo, path_or_fileobj=str(folder / "random.bin"), path_in_repo="file.bin")
api.upload_file(repo_id=repo, path_or_fileobj=random, path_in_repo="bytes.bin")
api.upload_file(repo_id=repo, path_or_fileobj=random[:1_000_000] + b"x" + random[1_000_000:], path_in_repo="changed.bin")
api.upload_folder(repo_id=repo, folder_path=folder, path_in_repo="all", ignore_patterns=".cache/**")
pull_request = api.upload_file(repo_id=repo, path_or_fileobj=b"new", path_in_repo="new.bin", create_pr=True)
print(json.dumps({"pr": pull_request.pr_revision}))
"""


def upload(hub, folder, repo, home):
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    environment |= {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", CHILD, hub.url, str(folder), repo]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def contents(tmp_path):
    """Files that Xet stores as they are, with LZ4, with LZ4 after grouping the bytes of numbers, and as the same chunks."""
    numbers = random.Random(0)
    files = {
        "random.bin": numbers.randbytes(2_500_000),
        "text.bin": b"".join(b"line %d of a text\n" % number for number in range(100_000)),
        "floats.bin": array("f", (numbers.gauss(0, 0.02) for _ in range(250_000))).tobytes(),
        "zeros.bin": bytes(1_500_000),
        "tiny.bin": b"x",
        "small.txt": b"in git",
    }
    folder = tmp_path / "contents"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder, files


def test_a_stock_client_uploads_files_bytes_folders_and_pull_requests(hub, api, contents, tmp_path):
    folder, files = contents
    before = set(hub.storage.incoming.glob("xet-*"))
    answer = upload(hub, folder, "me/model", tmp_path / "home")
    changed = files["random.bin"][:1_000_000] + b"x" + files["random.bin"][1_000_000:]
    expected = {f"all/{name}": content for name, content in files.items()}
    expected |= {"file.bin": files["random.bin"], "bytes.bin": files["random.bin"], "changed.bin": changed}
    for path, content in expected.items():
        assert Path(api.hf_hub_download("me/model", path)).read_bytes() == content, path
    large = {item.path for item in api.list_repo_tree("me/model", recursive=True) if getattr(item, "lfs", None)}
    assert large == expected.keys() - {"all/small.txt"}
    assert api.file_exists("me/model", "new.bin", revision=answer["pr"])
    assert set(hub.storage.incoming.glob("xet-*")) == before


def test_content_that_the_client_sent_to_another_repo_is_sent_again(hub, api, contents, tmp_path):
    folder, files = contents
    for repo in ("me/first", "me/second"):  # with one cache, which remembers the chunks that were sent
        upload(hub, folder, repo, tmp_path / "home")
    api.delete_repo("me/first")
    assert Path(api.hf_hub_download("me/second", "file.bin")).read_bytes() == files["random.bin"]


DOWNLOAD = """
import hashlib, json, sys
from pathlib import Path
from unittest.mock import patch
from huggingface_hub import HfApi, HfFileSystem, snapshot_download
from huggingface_hub.utils._runtime import is_xet_available
import huggingface_hub.file_download as downloads

assert is_xet_available()
url, folder = sys.argv[1], Path(sys.argv[2])
api = HfApi(url, token=False)
with patch.object(downloads, "http_get", side_effect=AssertionError("a plain download")):
    paths = [item.path for item in api.list_repo_tree("me/model") if getattr(item, "xet_hash", None)]
    for path in paths:
        api.hf_hub_download("me/model", path, local_dir=folder / "single")
snapshot_download("me/model", endpoint=url, token=False, local_dir=folder / "all")
HfFileSystem(endpoint=url, token=False).get_file("me/model/random.bin", str(folder / "fs.bin"))
files = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.bin")}
print(json.dumps(files))
"""


def test_a_stock_client_downloads_by_xet(hub, api, contents, put, tmp_path):
    _, files = contents
    api.create_repo("me/model")
    put(api, {**files, "empty.bin": b""})
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", DOWNLOAD, hub.url, str(tmp_path / "got")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    large = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name.endswith(".bin")}
    expected = {f"{place}/{name}": digest for name, digest in large.items() for place in ("single", "all")}
    expected |= {"fs.bin": large["random.bin"], "all/empty.bin": hashlib.sha256(b"").hexdigest()}
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_any_range_of_a_file_is_put_together_from_its_xorbs(monkeypatch, tmp_path):
    monkeypatch.setattr(xet_download, "XORB_CHUNKS", 3)
    chunk = xet_download.CHUNK
    content = random.Random(1).randbytes(7 * chunk + 100)  # in three xorbs
    path = tmp_path / "file"
    path.write_bytes(content)
    for start, stop in ((0, len(content)), (0, 1), (chunk, 3 * chunk), (5, 3 * chunk + 1), (6 * chunk, len(content)), (9, 10)):
        plan = xet_download.plan("ab" * 32, len(content), start, stop, "http://hub/xorb")
        got = b""
        for term in plan["terms"]:
            (fetch,) = plan["fetch_info"][term["hash"]]
            sent, number = fetch["url_range"], int(fetch["url"].rpartition("/")[2])
            xorb = b"".join(xet_download.xorb_content(path, number, sent["start"], sent["end"] + 1))
            assert len(xorb) == sent["end"] + 1 - sent["start"]
            assert sent["end"] < xet_download.xorb_size(len(content), number)
            (tmp_path / term["hash"]).write_bytes(xorb)
            count = term["range"]["end"] - term["range"]["start"]
            segment = xet.Segment(term["hash"], term["unpacked_length"], 0, count)
            unpacked = b"".join(xet.Xorbs(tmp_path).content(xet.XetFile(None, (segment,))))
            assert len(unpacked) == term["unpacked_length"]
            got += unpacked
        offset = plan["offset_into_first_range"]
        assert got[offset : offset + stop - start] == content[start:stop]


def test_tokens_for_downloads_are_for_one_repo_and_for_those_who_may_read_it(client_of, guarded, put, ask):
    put(client_of(OWNER), {"a.bin": b"content"})
    client_of(OWNER).create_repo("me/other")
    oid = hashlib.sha256(b"content").hexdigest()

    def token(who, repo="me/model"):
        headers = {"Authorization": f"Bearer {who}"}
        return ask(guarded.url, "GET", f"/api/models/{repo}/xet-read-token/main", headers=headers)

    def plan(answer, file=oid, **headers):
        headers["Authorization"] = f"Bearer {json.loads(answer.body)['accessToken']}"
        return ask(guarded.url, "GET", f"/xet/read/v1/reconstructions/{file}", headers=headers)

    found = json.loads(plan(token(STRANGER)).body)
    (term,) = found["terms"]
    url = found["fetch_info"][term["hash"]][0]["url"].removeprefix(guarded.url)
    assert ask(guarded.url, "GET", url).body[8:] == b"content"
    assert ask(guarded.url, "GET", url, headers={"Range": "bytes=8-9"}).body == b"co"
    assert ask(guarded.url, "GET", f"{url[:-1]}1").status == 404
    assert ask(guarded.url, "GET", url.replace("/xorb/", "/xorb/x")).status == 403
    assert plan(token(STRANGER), Range="bytes=99-").status == 416
    assert plan(token(STRANGER, "me/other")).status == plan(token(STRANGER), "x").status == 404
    assert ask(guarded.url, "GET", f"/xet/read/v1/reconstructions/{oid}").status == 401
    client_of(OWNER).update_repo_settings("me/model", gated="manual")
    assert (token(STRANGER).status, token(OWNER).status) == (403, 200)


def name_of(digest):
    """The bytes of a hash as Xet stores them."""
    return struct.pack("<4Q", *struct.unpack(">4Q", bytes.fromhex(digest)))


XORB = "ab" * 32
CHUNKS = (b"first chunk, ", b"second chunk, " * 20, b"0123456789")
CONTENT = b"".join(CHUNKS)


def chunk(data, compression=0, stored=None):
    stored = data if stored is None else stored
    return b"\0" + len(stored).to_bytes(3, "little") + bytes([compression]) + len(data).to_bytes(3, "little") + stored


def compressed(data):
    from lz4.frame import compress

    return compress(data)


def grouped(data):
    return b"".join(data[offset::4] for offset in range(4))


def a_xorb():
    first, second, third = CHUNKS
    footer = b"XETBLOB\1 and what follows it"
    lz4_chunk = chunk(second, 1, compressed(second))
    return chunk(first) + lz4_chunk + chunk(third, 2, compressed(grouped(third))) + footer


def shard(content=CONTENT, xorb=XORB, segments=((0, 3),), flags=0xC0000000, digest=None):
    file = struct.pack("<32sII8x", b"f" * 32, flags, len(segments))
    for first, stop in segments:
        size = sum(len(data) for data in CHUNKS[first:stop])
        file += struct.pack("<32s4xIII", name_of(xorb), size, first, stop)
    file += bytes(48) * len(segments) if flags & 0x80000000 else b""
    file += name_of(digest or hashlib.sha256(content).hexdigest()) + bytes(16) if flags & 0x40000000 else b""
    end = b"\xff" * 32 + bytes(16)
    return b"HFRepoMetaData\0".ljust(32, b"U") + struct.pack("<QQ", 2, 0) + file + end + end


@pytest.fixture
def cas(ask, hub, repo):
    """Sends a request to the storage of one upload, with its token."""
    token = json.loads(ask(hub.url, "GET", f"/api/models/{repo}/xet-write-token/main").body)

    def send(method, path, body=None, url=token["casUrl"], access=token["accessToken"]):
        headers = {"Authorization": f"Bearer {access}"}
        return ask(hub.url, method, url.removeprefix(hub.url) + path, body, headers)

    return send


def put(cas, content=None):
    answer = cas("POST", f"/v1/xorbs/default/{XORB}", a_xorb() if content is None else content)
    assert answer.status == 200, answer.body


def stored(hub):
    oid = hashlib.sha256(CONTENT).hexdigest()
    path = hub.storage.folder / "models/me/model.git/lfs/objects" / oid[:2] / oid[2:4] / oid
    return path.read_bytes() if path.exists() else None


def test_a_file_is_put_together_from_its_chunks(cas, hub):
    before = set(hub.storage.incoming.glob("xet-*"))
    put(cas)
    assert json.loads(cas("POST", "/v1/shards", shard()).body) == {"result": 1}
    assert stored(hub) == CONTENT
    assert cas("POST", "/v1/shards", shard()).status == 200  # sent again, because the answer was lost
    assert set(hub.storage.incoming.glob("xet-*")) == before


def test_a_file_may_name_its_chunks_in_any_order(cas, hub):
    put(cas)
    content = CHUNKS[2] + CHUNKS[0] + CHUNKS[1] + CHUNKS[2]
    assert cas("POST", "/v1/shards", shard(content, segments=((2, 3), (0, 2), (2, 3)))).status == 200
    oid = hashlib.sha256(content).hexdigest()
    assert (hub.storage.folder / "models/me/model.git/lfs/objects" / oid[:2] / oid[2:4] / oid).read_bytes() == content


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"something else", "not a shard"),
        (shard()[:100], "ends too early"),
        (shard(flags=0x80000000), "no sha256"),
        (shard(xorb="cd" * 32), "was not uploaded"),
        (shard(segments=((0, 3), (3, 4))), "3 chunks"),
        (shard(segments=((1, 1),)), "chunks"),
        (shard(digest="00" * 32), "does not match"),
        (shard()[:84] + b"\xff" * 4 + shard()[88:], "segments"),
    ],
)
def test_a_damaged_shard_is_refused_and_leaves_nothing(cas, hub, wrong, message):
    before = set(hub.storage.incoming.glob("upload-*"))
    put(cas)
    answer = cas("POST", "/v1/shards", wrong)
    assert (answer.status, message in json.loads(answer.body)["error"]) == (400, True), answer.body
    assert stored(hub) is None
    assert set(hub.storage.incoming.glob("upload-*")) == before


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: a_xorb()[:30],
        lambda: a_xorb()[:20],
        lambda: chunk(CHUNKS[0]) + chunk(CHUNKS[1], 1, b"not LZ4") + chunk(CHUNKS[2]),
        lambda: chunk(CHUNKS[0]) + chunk(CHUNKS[1], 1, compressed(bytes(10_000_000))) + chunk(CHUNKS[2]),
        lambda: chunk(CHUNKS[0]) + chunk(CHUNKS[1], 0, CHUNKS[1][1:]) + chunk(CHUNKS[2]),
        lambda: chunk(CHUNKS[0]) + chunk(CHUNKS[1], 9) + chunk(CHUNKS[2]),
        lambda: b"",
    ],
)
def test_a_damaged_xorb_is_refused_with_its_shard(cas, hub, wrong):
    put(cas, wrong())
    assert cas("POST", "/v1/shards", shard()).status == 400
    assert stored(hub) is None
    put(cas)
    assert cas("POST", "/v1/shards", shard()).status == 200


def test_unknown_compression_names_the_variable_that_turns_xet_off(cas):
    put(cas, chunk(CHUNKS[0], 9))
    assert b"HF_HUB_DISABLE_XET=1" in cas("POST", "/v1/shards", shard(segments=((0, 1),))).body


def test_chunks_of_others_are_never_found(cas):
    assert cas("GET", f"/v1/chunks/default/{XORB}").status == 404


def test_uploads_need_their_own_token(cas, ask, hub, repo):
    other = json.loads(ask(hub.url, "GET", f"/api/models/{repo}/xet-write-token/main").body)
    for access in ("", "nonsense", other["accessToken"]):
        assert cas("POST", f"/v1/xorbs/default/{XORB}", a_xorb(), access=access).status == 401
        assert cas("POST", "/v1/shards", shard(), access=access).status == 401
    assert cas("POST", "/v1/xorbs/default/..%2F..%2Fsecret", b"x").status == 400


def test_only_who_may_write_gets_a_token_and_a_stranger_one_for_a_pull_request(ask, guarded: LocalHub):
    def status(token, query=""):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return ask(guarded.url, "GET", f"/api/models/me/model/xet-write-token/main{query}", headers=headers).status

    assert [status(token) for token in (OWNER, READER, STRANGER, None)] == [200, 403, 403, 401]
    assert status(STRANGER, "?create_pr=1") == 200
    HfApi(guarded.url, token=OWNER).update_repo_settings("me/model", private=True)
    assert status(STRANGER, "?create_pr=1") == 404
