import errno
from pathlib import Path

import pytest
from localhub import Account, LocalHub

from echoself_action.errors import HubError, InputError, MissingTokenError
from echoself_action.hub.access import require_write_access
from echoself_action.hub.client import open_hub
from echoself_action.hub.repo import look_up
from echoself_action.hub.retry import hub_errors


def test_a_local_hub_runs_only_inside_the_with_block(tmp_path: Path) -> None:
    with open_hub(str(tmp_path / "hub"), "hf_for_another_hub") as hub:
        hub.api.create_repo("someone/model")
        assert look_up(hub, "someone/model", "main").model
        require_write_access(hub)
    with pytest.raises(HubError, match="can't be reached"):
        look_up(hub, "someone/model", "main")
    with open_hub(str(tmp_path / "hub"), None) as again:
        assert look_up(again, "someone/model", "main").model


def test_the_hub_is_that_of_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_hub(None, None) as hub:
        assert hub.endpoint == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/")
    with open_hub(None, None) as hub:
        assert hub.endpoint == "http://127.0.0.1:1"


def test_writing_to_another_hub_requires_a_token() -> None:
    with open_hub("https://hub.example", None) as hub, pytest.raises(InputError, match="hf_token: missing"):
        require_write_access(hub)


def test_an_invalid_or_read_only_token_is_reported_before_any_work(tmp_path: Path) -> None:
    with LocalHub(tmp_path / "hub", token="right", accounts={"reader": Account("someone", "read")}) as server:
        with open_hub(server.url, "right") as hub:
            require_write_access(hub)
        for token, message in (("wrong", "looking up the token failed"), ("reader", "is read-only on")):
            with open_hub(server.url, token) as hub, pytest.raises(HubError, match=message):
                require_write_access(hub)


def test_a_bug_is_not_reported_as_an_error_of_the_hub(tmp_path: Path) -> None:
    with open_hub(str(tmp_path / "hub"), None) as hub, pytest.raises(KeyError), hub_errors(hub, "someone/model", "asking"):
        raise KeyError
    with (
        open_hub(str(tmp_path / "hub"), None) as hub,
        pytest.raises(OSError, match="full"),
        hub_errors(hub, "someone/model", "asking"),
    ):
        raise OSError(errno.ENOSPC, "full")


def test_keyless_access_without_an_id_token_reports_the_missing_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", "someone/model")
    with pytest.raises(MissingTokenError, match="HF_OIDC_RESOURCE requests keyless access") as caught, open_hub(None, None):
        pass
    assert "id-token: write" in caught.value.hint


def test_a_token_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "right")
    with LocalHub(tmp_path / "hub", token="right") as server, open_hub(server.url, None) as hub:
        require_write_access(hub)
        hub.api.create_repo("someone/model", private=True)
        assert look_up(hub, "someone/model", "main").model
