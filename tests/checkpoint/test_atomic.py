import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from echoself_action.checkpoint.atomic import new_file, new_folder, remove_leftovers, set_aside


def test_a_folder_is_renamed_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "final") as folder:
        (folder / "file").write_text("content")
        assert not (tmp_path / "final").exists()
    assert (tmp_path / "final/file").read_text() == "content"
    assert (tmp_path / "final/file").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    with contextlib.suppress(RuntimeError), new_folder(tmp_path / "final") as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final/file").write_text("old")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "final"):
        pass
    assert (tmp_path / "final/file").read_text() == "old"


def test_a_file_replaces_the_old_one_when_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "final").write_text("old")
    with contextlib.suppress(RuntimeError), new_file(tmp_path / "final") as file:
        file.write(b"half")
        raise RuntimeError
    assert (tmp_path / "final").read_text() == "old"
    with new_file(tmp_path / "final") as file:
        file.write(b"new")
        assert (tmp_path / "final").read_text() == "old"
    assert (tmp_path / "final").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_killed_writer_leaves_only_temporary_files_which_are_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from echoself_action.checkpoint.atomic import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'file').write_text('half'); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "final")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "final").exists()
    assert list(tmp_path.iterdir())
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_set_aside_keeps_all_folders(tmp_path: Path) -> None:
    kept = []
    for content in ("first", "second"):
        (tmp_path / "checkpoint-1").mkdir()
        (tmp_path / "checkpoint-1/file").write_text(content)
        kept.append(set_aside(tmp_path / "checkpoint-1"))
    assert [(place / "file").read_text() for place in kept] == ["first", "second"]
    assert not (tmp_path / "checkpoint-1").exists()


def test_a_killed_removal_leaves_no_incomplete_folder(tmp_path: Path) -> None:
    code = (
        "import os, shutil, sys; from pathlib import Path; from echoself_action.checkpoint import atomic\n"
        "rest = atomic.shutil.rmtree\n"
        "def killed(path, **options): rest(path / 'one', **options); os.kill(os.getpid(), 9)\n"
        "atomic.shutil.rmtree = lambda path, **options: killed(path, **options) if path.exists() else None\n"
        "atomic.remove_folder(Path(sys.argv[1]))"
    )
    for name in ("one", "two"):
        (tmp_path / "checkpoint-1" / name).mkdir(parents=True)
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "checkpoint-1")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "checkpoint-1").exists()
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())
