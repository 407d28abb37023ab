"""The memory and the disk that a run can use."""

import os
import re
import shutil
from pathlib import Path

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def available_memory() -> int:
    """Bytes of memory that a run can use: what is free on the machine, or the limit of its container."""
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    free = int(found[1]) * 1024 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = (path.read_text().strip() for path in _CGROUP_LIMITS if path.is_file())
    return min([free, *(int(limit) for limit in limits if limit.isdecimal())])


def free_disk(folder: Path) -> int:
    """Bytes of free disk for `folder`, which need not exist yet."""
    return shutil.disk_usage(next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())).free


def size_text(count: float) -> str:
    """A number of bytes, for messages."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
