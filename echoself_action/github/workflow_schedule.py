"""Schedules that GitHub is about to stop: it disables those of a public repository after 60 days without activity.

GitHub does not define activity. A commit on the default branch counts; runs and comments do not. Scheduled jobs check out that
branch, so the age of their commit tells how many days are left at least.
"""

import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from .event import read_event

DAYS, NOTICE_DAYS = 60, 50
COMMIT_TIME = "ECHOSELF_COMMIT_TIME"  # set by launch.sh, because the image has no git: seconds since 1970
_EXAMPLE = "https://github.com/9cog/echoself-action/blob/main/examples/keep-schedule-alive.yml"
_DAY = 86_400  # seconds
# what a workflow contains that enables others by the API, or by one of the known actions
_KEEPS_ALIVE = re.compile(r"gh workflow enable|actions/workflows/\S+/enable|keep-?alive", re.IGNORECASE)


def schedule_notice(environment: Mapping[str, str]) -> str:
    """What to do before GitHub stops this scheduled workflow; "" for other jobs, and where it is not about to.

    A run after 60 days is kept alive in some way, so it gets no notice.
    """
    if environment.get("GITHUB_EVENT_NAME") != "schedule":
        return ""
    repository = read_event(environment).get("repository")
    known = repository if isinstance(repository, Mapping) else {}
    days = _days_since_activity(environment, known)
    workspace = Path(environment.get("GITHUB_WORKSPACE") or ".")
    if known.get("private") is True or not NOTICE_DAYS <= days < DAYS or _is_kept_alive(workspace):
        return ""
    left = f"{DAYS - days} days" if DAYS - days > 1 else "one day"
    return (
        f"This repository has had no commit for {days} days. GitHub stops the schedules of public repositories after {DAYS} "
        f"days without activity: this one in {left}. Push a commit, or add a workflow that keeps schedules enabled: {_EXAMPLE}"
    )


def _days_since_activity(environment: Mapping[str, str], repository: Mapping[str, Any]) -> int:
    """Whole days since the commit that is checked out; if it is unknown, since the last push; 0 if that is unknown, too."""
    committed = environment.get(COMMIT_TIME, "")
    try:
        since = int(committed) if committed else datetime.fromisoformat(str(repository["pushed_at"])).timestamp()
    except (KeyError, ValueError):
        return 0
    return int((time.time() - since) // _DAY)


def _is_kept_alive(workspace: Path) -> bool:
    """Whether a workflow of the repository enables others. One that can't be read does not count."""
    for path in (*workspace.glob(".github/workflows/*.yml"), *workspace.glob(".github/workflows/*.yaml")):
        try:
            if _KEEPS_ALIVE.search(path.read_text(encoding="utf-8", errors="replace")):
                return True
        except OSError:
            continue
    return False
