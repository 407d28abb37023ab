"""Requests for access to gated repos."""

import json
import tempfile
from pathlib import Path

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

OWNER, STRANGER, SCOPED = "token-owner", "token-stranger", "token-scoped"
REPO = "me/model"


@pytest.fixture
def owner(client_of):
    api = client_of(OWNER)
    api.update_repo_settings(REPO, gated="manual")
    return api


@pytest.fixture
def ask_access(guarded, ask):
    """What the button on the page of a gated repo does."""

    def press(token=STRANGER, **fields):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return ask(guarded.url, "POST", f"/{REPO}/ask-access", json.dumps(fields).encode(), headers)

    return press


def readable(api):
    with tempfile.TemporaryDirectory() as cache:  # in a used one, the client finds the file
        try:
            return Path(api.hf_hub_download(REPO, ".gitattributes", cache_dir=cache)).is_file()
        except GatedRepoError:
            return False


def test_accepted_request_opens_the_repo_until_it_is_cancelled(owner, client_of, ask_access):
    assert json.loads(ask_access(country="NZ").body) == {"status": "pending"}
    (request,) = owner.list_pending_access_requests(REPO)
    assert (request.username, request.status, request.fields) == ("stranger", "pending", {"country": "NZ"})
    assert not readable(client_of(STRANGER))
    owner.accept_access_request(REPO, "stranger")
    assert [one.username for one in owner.list_accepted_access_requests(REPO)] == ["stranger"]
    assert readable(client_of(STRANGER))
    client_of(STRANGER).auth_check(REPO)
    owner.cancel_access_request(REPO, request_id=request.request_id)
    assert not readable(client_of(STRANGER))
    owner.reject_access_request(REPO, "stranger", rejection_reason="No")
    (rejected,) = owner.list_rejected_access_requests(REPO)
    assert (rejected.username, rejected.request_id) == ("stranger", request.request_id)
    assert json.loads(ask_access().body) == {"status": "rejected"}
    assert list(owner.list_pending_access_requests(REPO)) == []


def test_automatic_gate_opens_at_once(owner, client_of, ask_access):
    owner.update_repo_settings(REPO, gated="auto")
    assert not readable(client_of(STRANGER))
    assert json.loads(ask_access().body) == {"status": "accepted"}
    assert readable(client_of(STRANGER))


def test_granted_access_needs_no_request(owner, client_of):
    owner.grant_access(REPO, "stranger")
    assert readable(client_of(STRANGER))
    assert not readable(client_of(False))
    for refused_call, status in (
        (lambda: owner.grant_access(REPO, "stranger"), 400),
        (lambda: owner.accept_access_request(REPO, "stranger"), 400),
        (lambda: owner.grant_access(REPO, "nobody"), 404),
        (lambda: owner.accept_access_request(REPO, "nobody"), 404),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            refused_call()
        assert refused.value.response.status_code == status


def test_requests_are_for_those_who_may_write(owner, client_of, ask_access):
    ask_access()
    stranger = client_of(STRANGER)
    for call in (
        lambda: list(stranger.list_pending_access_requests(REPO)),
        lambda: stranger.accept_access_request(REPO, "stranger"),
        lambda: stranger.grant_access(REPO, "stranger"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            call()
        assert refused.value.response.status_code == 403
    assert (ask_access(None).status, ask_access(SCOPED).status) == (401, 403)
    owner.update_repo_settings(REPO, gated=False)
    assert ask_access().status == 400
    with pytest.raises(HfHubHTTPError, match="not gated"):
        owner.grant_access(REPO, "stranger")
