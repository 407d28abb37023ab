import stat
import zipfile
from pathlib import Path

import pytest

from echoself_action.github.unzip import UnsafeZipError, extract

from .server import zipped


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
