"""The folders that a run creates in the working directory, which on Actions is the checkout. git ignores what is in them.

`.echoself` has the caches of a run; output_dir has its checkpoints. A folder that exists is the user's, and stays as it is.
"""

import os
from contextlib import suppress
from pathlib import Path

CACHE = Path(".echoself")
TOKEN_CACHE = CACHE / "tokens"
DATASET_CACHE = CACHE / "datasets"
LOCAL_HUB = CACHE / "hub"  # the data of `hub: local`
GITIGNORE = ".gitignore"
_IGNORED = "# made by echoself: git ignores this folder. Delete this file to commit what is in it.\n*\n"


def create_cache(folder: Path) -> None:
    """Create `folder`. If it is in a folder `.echoself`, git ignores that one."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, *folder.parents):
        if place.name == CACHE.name and not (place / GITIGNORE).exists():
            _ignore(place)


def create_output_dir(folder: Path) -> None:
    """Create `folder` for checkpoints if it does not exist. git ignores it then: they are too large to commit by accident."""
    if not folder.is_dir():
        create_cache(folder)
        _ignore(folder)


def _ignore(folder: Path) -> None:
    """Write the .gitignore of `folder`, atomically. A run does not fail for it: the folder may be read-only."""
    unfinished = folder / f"{GITIGNORE}-{os.getpid()}"
    try:
        unfinished.write_text(_IGNORED, encoding="utf-8")
        unfinished.replace(folder / GITIGNORE)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
