"""The notice before GitHub stops a schedule: from day 50 to 59 without a commit, in a public repository."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from echoself_action.github.workflow_schedule import COMMIT_TIME, schedule_notice

ROOT = Path(__file__).parents[2]


def scheduled(folder: Path, days: float, private: bool | None = None, pushed: float | None = None) -> dict[str, str]:
    """The environment of a scheduled job whose commit is that many days old; 0 if it is unknown."""
    repository: dict[str, object] = {} if private is None else {"private": private}
    if pushed is not None:
        repository["pushed_at"] = datetime.fromtimestamp(time.time() - pushed * 86_400, UTC).isoformat().replace("+00:00", "Z")
    (folder / "event.json").write_text(json.dumps({"schedule": "17 3 * * *", "repository": repository}))
    return {
        "GITHUB_EVENT_NAME": "schedule",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_WORKSPACE": str(folder),
        COMMIT_TIME: f"{time.time() - days * 86_400:.0f}" if days else "",
    }


@pytest.mark.parametrize(("days", "left"), [(50.5, "10 days"), (55.1, "5 days"), (59.9, "one day")])
def test_the_notice_says_how_long_the_schedule_lives_and_what_to_do(tmp_path: Path, days: float, left: str) -> None:
    notice = schedule_notice(scheduled(tmp_path, days))
    assert f"no commit for {int(days)} days" in notice
    assert f"this one in {left}. Push a commit, or add a workflow that keeps schedules enabled: https://" in notice


@pytest.mark.parametrize("days", [1, 49.9, 60.1, 400])
def test_a_young_repository_and_one_that_is_kept_alive_get_none(tmp_path: Path, days: float) -> None:
    assert schedule_notice(scheduled(tmp_path, days)) == ""


def test_only_scheduled_jobs_of_public_repositories_get_one(tmp_path: Path) -> None:
    environment = scheduled(tmp_path, 55.5)
    assert schedule_notice(environment | {"GITHUB_EVENT_NAME": "workflow_dispatch"}) == ""
    assert schedule_notice(scheduled(tmp_path, 55.5, private=True)) == ""
    assert schedule_notice(scheduled(tmp_path, 55.5, private=False))


def test_without_a_checkout_the_last_push_counts(tmp_path: Path) -> None:
    assert "55 days" in schedule_notice(scheduled(tmp_path, 0, private=False, pushed=55.5))
    assert schedule_notice(scheduled(tmp_path, 0, private=False, pushed=3)) == ""
    assert schedule_notice(scheduled(tmp_path, 0)) == ""


def test_the_example_that_keeps_schedules_alive_is_recognised(tmp_path: Path) -> None:
    environment = scheduled(tmp_path, 55.5)
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ".github/workflows/cycle.yml").write_text((ROOT / "examples/cycle-keyless.yml").read_text())
    assert schedule_notice(environment)
    (tmp_path / ".github/workflows/alive.yml").write_text((ROOT / "examples/keep-schedule-alive.yml").read_text())
    assert schedule_notice(environment) == ""
