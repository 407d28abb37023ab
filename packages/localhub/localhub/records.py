"""One JSON object a file, such as who likes a repo: read and written whole."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .durable import make_folders, write_file

Records = dict[str, dict[str, Any]]


def read_records(path: Path) -> Records:
    """Empty if there is no file."""
    try:
        records: Records = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return records


def write_records(path: Path, records: Records) -> None:
    """Durably. Only with the lock held that protects the file."""
    make_folders(path.parent)
    write_file(path, json.dumps(records).encode())


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
