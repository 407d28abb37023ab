import stat
import zipfile
from pathlib import Path

import pytest

from echoself_action.errors import HubError
from echoself_action.github.artifacts import UnsafeZipError, download, extract, list_artifacts
from echoself_action.github.event import triggering_run

from .server import TOKEN, GitHub, zipped


def test_download_returns_the_uploaded_zip(github: GitHub, environment: dict[str, str], tmp_path: Path) -> None:
    github.artifacts = {"model": zipped({"a.txt": b"a"})}
    run = triggering_run(environment)
    (artifact,) = list_artifacts(run)
    assert download(run, artifact, tmp_path / "model.zip", 10_000)
    assert (tmp_path / "model.zip").read_bytes() == github.artifacts["model"]


def test_the_token_is_not_sent_to_the_storage_of_a_redirect(
    github: GitHub, environment: dict[str, str], tmp_path: Path
) -> None:
    github.artifacts = {"model": zipped({"a.txt": b"a"})}
    run = triggering_run(environment)
    download(run, list_artifacts(run)[0], tmp_path / "model.zip", 10_000)
    assert [token for path, token in github.requests if path.startswith("/blob/")] == [None]
    assert {token for path, token in github.requests if not path.startswith("/blob/")} == {f"Bearer {TOKEN}"}


def test_list_artifacts_reads_all_pages(github: GitHub, environment: dict[str, str]) -> None:
    github.artifacts = {f"artifact {number}": b"" for number in range(205)}
    assert len(list_artifacts(triggering_run(environment))) == 205
    assert len(github.requests) == 3


def test_artifacts_of_code_from_a_fork_are_skipped(github: GitHub, environment: dict[str, str]) -> None:
    github.artifacts = {"ours": b"", "theirs": b"", "of another run": b""}
    origin = {"id": 77, "repository_id": 1, "head_repository_id": 1}
    github.changes = {
        "theirs": {"workflow_run": origin | {"head_repository_id": 2}},
        "of another run": {"workflow_run": origin | {"id": 78}},
    }
    assert [artifact.name for artifact in list_artifacts(triggering_run(environment))] == ["ours"]


def test_a_deleted_artifact_is_not_an_error(github: GitHub, environment: dict[str, str], tmp_path: Path) -> None:
    github.artifacts, github.expired = {"model": b"x"}, {"model"}
    run = triggering_run(environment)
    (artifact,) = list_artifacts(run)
    assert artifact.expired
    github.refuse["zip"] = (410, {})
    assert not download(run, artifact, tmp_path / "model.zip", 10)


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [
        (401, {}, "Leave GITHUB_TOKEN as GitHub sets it"),
        (403, {}, "permissions: actions: read"),
        (403, {"x-ratelimit-remaining": "0"}, "rate limit"),
        (403, {"retry-after": "60"}, "rate limit"),
        (429, {}, "rate limit"),
        (404, {}, "permissions: actions: read"),
        (500, {}, "later"),
    ],
)
def test_a_refused_request_is_exit_4_with_a_hint(
    github: GitHub, environment: dict[str, str], status: int, headers: dict[str, str], hint: str
) -> None:
    github.refuse["list"] = (status, headers)
    with pytest.raises(HubError) as refused:
        list_artifacts(triggering_run(environment))
    assert f"GitHub refused ({status}): listing its artifacts failed for run 77 (training, success)" in refused.value.message
    assert hint in refused.value.hint
    assert refused.value.exit_code == 4
    assert TOKEN not in str(refused.value)


def test_unreachable_github_is_exit_4(environment: dict[str, str]) -> None:
    with pytest.raises(HubError, match=r"GitHub can't be reached at http://127\.0\.0\.1:1"):
        list_artifacts(triggering_run(environment | {"GITHUB_API_URL": "http://127.0.0.1:1"}))


def test_an_invalid_response_is_exit_4(github: GitHub, environment: dict[str, str]) -> None:
    github.artifacts, github.changes = {"model": b""}, {"model": {"id": None}}
    with pytest.raises(HubError, match="is not a valid GitHub response"):
        list_artifacts(triggering_run(environment))


@pytest.mark.parametrize(("room", "why"), [(10_000, "its sha256 differs"), (3, "it is larger than 3 bytes")])
def test_an_artifact_with_another_digest_or_too_large_is_not_used(
    github: GitHub, environment: dict[str, str], tmp_path: Path, room: int, why: str
) -> None:
    github.artifacts = {"model": zipped({"a.txt": b"a"})}
    run = triggering_run(environment)
    (artifact,) = list_artifacts(run)
    github.artifacts = {"model": zipped({"b.txt": b"b"})}
    with pytest.raises(HubError, match=why):
        download(run, artifact, tmp_path / "model.zip", room)


def test_extract_restores_the_files(tmp_path: Path) -> None:
    files = {"a.txt": b"a", "checkpoint-1/config.json": b"{}", "empty/": b""}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    assert extract(tmp_path / "a.zip", tmp_path / "out", 100) == 3
    assert (tmp_path / "out/checkpoint-1/config.json").read_bytes() == b"{}"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.txt", "checkpoint-1", "empty"}


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "a//b", "C:\\a", "a\nb", "x" * 300, "./a", "a/" * 600 + "b"])
def test_path_traversal_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"good": b"", name: b"bad"}))
    with pytest.raises(UnsafeZipError, match="may be outside its folder"):
        extract(tmp_path / "a.zip", tmp_path / "out", 100)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UnsafeZipError, match="a link or a device"):
        extract(tmp_path / "a.zip", tmp_path / "out", 100)


def test_a_zip_bomb_is_refused_before_extraction(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"zeros": bytes(10_000_000)}))
    with pytest.raises(UnsafeZipError, match="would extract to 10,000,000 bytes, but the limit is 1,000,000"):
        extract(tmp_path / "a.zip", tmp_path / "out", 1_000_000)
    assert not (tmp_path / "out").exists()


def test_a_zip_bomb_with_a_false_size_stops_at_that_size(tmp_path: Path) -> None:
    content = zipped({"zeros": bytes(10_000_000)})
    (tmp_path / "a.zip").write_bytes(content.replace((10_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UnsafeZipError, match="damaged"):
        extract(tmp_path / "a.zip", tmp_path / "out", 1000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("files", [{"a": b"", "a/b": b""}, {"a/b": b"", "a": b""}])
def test_duplicate_paths_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(files))
    with pytest.raises(UnsafeZipError, match="two entries with one path"):
        extract(tmp_path / "a.zip", tmp_path / "out", 100)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", zipped({"a": b"a" * 50})[:40]], ids=["empty", "a page", "cut short"])
def test_a_damaged_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UnsafeZipError, match="damaged zip"):
        extract(tmp_path / "a.zip", tmp_path / "out", 100)
