import hashlib
import subprocess
from pathlib import Path

from echoself_action.hub.repo import RemoteFile, git_blob_id, same_content


def test_a_blob_id_is_gits(tmp_path: Path) -> None:
    for content in (b"", b"text\n", bytes(range(256))):
        (tmp_path / "file").write_bytes(content)
        hashed = subprocess.run(["git", "hash-object", tmp_path / "file"], capture_output=True, text=True, check=True)
        assert git_blob_id(content) == hashed.stdout.strip()


def test_content_that_differs_in_one_byte_is_not_the_same(tmp_path: Path) -> None:
    content = b"some content"
    path = tmp_path / "file"
    path.write_bytes(content)
    plain = RemoteFile("file", len(content), None, git_blob_id(content))
    large = RemoteFile("file", len(content), hashlib.sha256(content).hexdigest(), None)
    for remote in (plain, large):
        assert same_content(content, remote)
        assert same_content(path, remote)
        assert not same_content(b"some Content", remote)
        assert not same_content(content + b"!", remote)
