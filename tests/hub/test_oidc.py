"""Trusted publishing, and the message of each way in which it fails: the local Hub plays the Hub, a server here the runner."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _auth
from localhub import LocalHub, TrustedPublishing

from echoself_action.errors import HubError, InputError, MissingTokenError
from echoself_action.hub.access import TokenAccess, require_repo_access, require_write_access
from echoself_action.hub.client import datasets_of, open_hub
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.repo import look_up
from echoself_action.hub.space import look_up_space
from echoself_action.report.github_actions import report_problem

from .faults import Answer, Exchange, Fault, FaultyHub

ISSUER, KEY = "https://issuer.test", b"the issuer's key"
TRUSTED = {"repository": "octo/train"}
JOB = TRUSTED | {
    "sub": "repo:octo/train:ref:refs/heads/main",
    "ref": "refs/heads/main",
    "workflow_ref": "octo/train/.github/workflows/cycle.yml@refs/heads/main",
}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def id_token(audience: str, **claims: str) -> str:
    payload = {"iss": ISSUER, "aud": audience, "exp": int(time.time()) + 300, **JOB, **claims}
    body = f"{encode(json.dumps({'alg': 'HS256'}).encode())}.{encode(json.dumps(payload).encode())}"
    return f"{body}.{encode(hmac.digest(KEY, body.encode(), hashlib.sha256))}"


class Runner(BaseHTTPRequestHandler):
    """What a GitHub runner offers a job that may ask for an id token."""

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"].lower() == "bearer request-token"  # either way of writing it
        audience = parse_qs(urlsplit(self.path).query)["audience"][0]
        body = json.dumps({"value": id_token(audience) if allowed else None}).encode()
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Hub that trusts octo/train with me/model and me/missing, which is not there; the usual one of this job."""
    trusted = ("me/model", "me/missing", "datasets/me/words", "datasets/me/missing", "spaces/me/page", "spaces/me/missing")
    publishing = TrustedPublishing(ISSUER, KEY, dict.fromkeys(trusted, TRUSTED))
    with LocalHub(tmp_path / "hub", token="owner", publishing=publishing) as hub:
        HfApi(hub.url, token="owner").create_repo("me/model")
        HfApi(hub.url, token="owner").create_repo("me/other")
        HfApi(hub.url, token="owner").create_repo("me/words", repo_type="dataset")
        HfApi(hub.url, token="owner").create_repo("me/page", repo_type="space", space_sdk="static", private=True)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # the client reads its environment once
        monkeypatch.setattr(_auth, "_OIDC_TOKEN_CACHE", None)
        yield hub.url


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A job with `id-token: write`, and HF_OIDC_RESOURCE: me/model."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Runner) as runner:
        threading.Thread(target=runner.serve_forever, daemon=True).start()
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{runner.server_port}/token?api-version=2")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
        monkeypatch.setenv("HF_OIDC_RESOURCE", "me/model")
        yield
        runner.shutdown()


def opened(token: str | None = None) -> tuple[Hub, list[str]]:
    output: list[str] = []
    with open_hub(None, token, output.append) as hub:
        require_write_access(hub)
        return hub, output


def refused(kind: type[InputError]) -> InputError:
    with pytest.raises(kind) as caught:
        opened()
    assert "eyJ" not in f"{caught.value}"  # no token is shown
    return caught.value


def test_a_job_of_a_trusted_publisher_needs_no_token(server: str, job: None) -> None:
    hub, output = opened()
    hub.api.upload_file(repo_id="me/model", path_or_fileobj=b"x", path_in_repo="x.txt")
    assert output == ["using keyless access to me/model"]
    assert look_up(hub, "me/model", "main").model


def test_a_dataset_repo_needs_its_own_trusted_publisher(server: str, job: None) -> None:
    hub, _ = opened()
    datasets = datasets_of(hub, "me/words")
    datasets.api.upload_file(repo_id="me/words", repo_type="dataset", path_or_fileobj=b"x", path_in_repo="x.txt")
    with pytest.raises(HfHubHTTPError):
        hub.api.upload_file(repo_id="me/words", repo_type="dataset", path_or_fileobj=b"y", path_in_repo="x.txt")
    with pytest.raises(MissingTokenError, match="refused keyless access to datasets/me/other") as caught:
        datasets_of(hub, "me/other")
    assert "repository=octo/train" in caught.value.hint
    with pytest.raises(InputError, match="repo datasets/me/missing does not exist"):
        datasets_of(hub, "me/missing")
    assert datasets_of(opened("owner")[0], "me/words").api.token == "owner"


def test_a_space_needs_its_own_trusted_publisher_and_must_exist(server: str, job: None) -> None:
    hub, _ = opened()
    space = look_up_space(hub, "me/page")
    require_repo_access(space.hub, space.remote, TokenAccess("keyless"), "demo_repo_id")
    assert space.remote.model
    assert space.ours == {"README.md", "index.html", "style.css"}  # as the Hub made it, so it may be replaced
    with pytest.raises(InputError, match=r"^demo: repo spaces/me/missing does not exist") as caught:
        look_up_space(hub, "me/missing")
    assert "create it on the Hub, and add this workflow to its trusted publishers" in caught.value.hint
    with pytest.raises(MissingTokenError, match="refused keyless access to spaces/me/other"):
        look_up_space(hub, "me/other")


def test_hf_token_takes_precedence_over_keyless_access(server: str, job: None, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, output = opened("owner")
    assert hub.api.token == "owner"
    assert output == ["using hf_token; HF_OIDC_RESOURCE is set to me/model, but keyless access is not used"]
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert opened()[1] == ["using keyless access to me/model; HF_TOKEN is ignored"]


def test_a_refused_exchange_reports_the_claims_of_the_job(server: str, job: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", "me/other")
    error = refused(MissingTokenError)
    assert "refused keyless access to me/other" in error.message
    assert "no trusted publisher of me/other" in error.message
    assert all(f"{name}={JOB[name]}" in error.hint for name in ("sub", "repository", "ref", "workflow_ref"))


def aborted(exchange: Exchange) -> None:
    """What the Hub answers when it has waited 10 seconds for the issuer's keys."""
    body = json.dumps({"error": "invalid_grant", "error_description": "This operation was aborted"}).encode()
    exchange.answer(Answer(400, [("Content-Type", "application/json")], body, len(body)))


@contextmanager
def behind(monkeypatch: pytest.MonkeyPatch, server: str, fault: Fault) -> Iterator[None]:
    with FaultyHub(server, [fault]) as proxy:
        monkeypatch.setenv("HF_ENDPOINT", proxy.url)
        monkeypatch.setattr(constants, "ENDPOINT", proxy.url)
        yield


@pytest.mark.parametrize("times", [1, 4])
def test_an_exchange_that_the_hub_aborted_is_retried(
    server: str, job: None, short_waits: None, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    fault = Fault("POST", "/oauth/token$", aborted, times=times)
    with behind(monkeypatch, server, fault):
        hub, output = opened()
        assert look_up(hub, "me/model", "main").model
    again = [line for line in output if "invalid_grant: This operation was aborted. Retrying in" in line]
    assert (len(again), fault.seen) == (times, times + 1)


def test_an_exchange_that_is_always_aborted_ends_after_five_attempts(
    server: str, job: None, short_waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("POST", "/oauth/token$", aborted, times=100)
    with (
        behind(monkeypatch, server, fault),
        pytest.raises(HubError, match="aborted the exchange of the id token") as caught,
    ):
        opened()
    assert fault.seen == 5
    assert "temporary problem" in caught.value.hint


def test_another_invalid_grant_is_not_retried(server: str, job: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", "me/other")
    seen = Fault("POST", "/oauth/token$", lambda exchange: exchange.answer(exchange.forward()), times=100)
    with behind(monkeypatch, server, seen):
        assert "no trusted publisher" in refused(MissingTokenError).message
    assert seen.seen == 1


def test_an_id_token_of_another_repository_is_refused_with_its_claims(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", "me/model")
    monkeypatch.setenv("HF_OIDC_ID_TOKEN", id_token(server, repository="octo/fork"))
    assert "repository=octo/fork" in refused(MissingTokenError).hint
    monkeypatch.setenv("HF_OIDC_ID_TOKEN", "no token at all")
    assert "the id token is invalid" in refused(MissingTokenError).hint


def test_keyless_access_to_a_missing_repo_is_an_input_error(server: str, job: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", "me/missing")
    error = refused(InputError)
    assert "repo me/missing does not exist" in error.message
    assert "repository=octo/train" in error.hint


def test_without_the_id_token_permission_the_hint_names_it(server: str, job: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL")
    error = refused(MissingTokenError)
    assert "requests keyless access, but this job has no id token" in error.message
    assert "id-token: write" in error.hint


def test_a_refusal_by_the_runner_is_not_blamed_on_the_hub(server: str, job: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "stale")
    assert "GitHub refused to issue an id token" in refused(MissingTokenError).message


def test_a_pull_request_from_a_fork_gets_the_reason_why_it_has_no_id_token(
    server: str, job: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL")
    event = tmp_path / "event.json"
    sides = {side: {"repo": {"full_name": name}} for side, name in (("head", "them/train"), ("base", "octo/train"))}
    event.write_text(json.dumps({"pull_request": sides}))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
    report_problem(refused(MissingTokenError))
    assert "pull request from a fork" in capsys.readouterr().err


def test_a_keyless_token_is_not_sent_to_another_hub(server: str, job: None) -> None:
    with pytest.raises(InputError, match="works for") as caught, open_hub("https://hub.example", None):
        pass
    assert "HF_ENDPOINT" in caught.value.hint
