"""Trusted publishing: the client exchanges a job's id token for an access token for one repo."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from huggingface_hub import HfApi
from huggingface_hub._oidc import exchange_oidc_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from localhub import LocalHub, TrustedPublishing

ISSUER, KEY = "https://issuer.test", b"the issuer's key"
PUBLISHERS = {
    "me/model": {"repository": "octo/train"},
    "datasets/me/data": {"repository": "octo/train", "environment": "production"},
    "me/missing": {"repository": "octo/train"},
}


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def id_token(audience, key=KEY, algorithm="HS256", **claims):
    claims = {"iss": ISSUER, "aud": audience, "exp": int(time.time()) + 300, "repository": "octo/train", **claims}
    body = f"{encode(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())}.{encode(json.dumps(claims).encode())}"
    return f"{body}.{encode(hmac.digest(key, body.encode(), hashlib.sha256))}"


@pytest.fixture
def keyless(tmp_path):
    publishing = TrustedPublishing(ISSUER, KEY, PUBLISHERS)
    with LocalHub(tmp_path / "hub", token="owner", publishing=publishing) as hub:
        owner = HfApi(hub.url, token="owner")
        owner.create_repo("me/model", private=True)
        owner.create_repo("me/other")
        owner.create_repo("me/data", repo_type="dataset")
        yield hub


def test_token_is_valid_for_one_repo_and_one_hour(keyless, put):
    answer = exchange_oidc_token(subject_token=id_token(keyless.url), resource="me/model", endpoint=keyless.url)
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 3600)
    api = HfApi(keyless.url, token=answer["access_token"])
    put(api, {"model.safetensors": b"weights"})
    assert api.file_exists("me/model", "model.safetensors")
    for repo_id, kind in (("me/other", "model"), ("me/data", "dataset")):
        with pytest.raises(HfHubHTTPError) as refused:
            put(api, {"a.txt": b"a"}, repo_id=repo_id, repo_type=kind)
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("token", "resource", "message"),
    [
        ({"key": b"another"}, "me/model", "not signed by the issuer"),
        ({"algorithm": "none"}, "me/model", "not signed by the issuer"),
        ({"iss": "https://evil.test"}, "me/model", "issued by"),
        ({"audience": "https://huggingface.co"}, "me/model", "the id token is for"),
        ({"exp": 1}, "me/model", "run out"),
        ({"repository": "octo/fork"}, "me/model", "octo/fork"),
        ({}, "datasets/me/data", "no trusted publisher"),
        ({}, "me/other", "no trusted publisher"),
    ],
)
def test_id_token_that_does_not_match_is_rejected(keyless, token, resource, message):
    subject = id_token(**{"audience": keyless.url, **token})
    with pytest.raises(HfHubHTTPError, match=message):
        exchange_oidc_token(subject_token=subject, resource=resource, endpoint=keyless.url)


def test_repo_must_exist_already(keyless):
    with pytest.raises(RepositoryNotFoundError):
        exchange_oidc_token(subject_token=id_token(keyless.url), resource="me/missing", endpoint=keyless.url)


def test_hub_without_publishers_rejects_the_exchange(hub):
    with pytest.raises(HfHubHTTPError, match="no trusted publishers"):
        exchange_oidc_token(subject_token=id_token(hub.url), resource="me/model", endpoint=hub.url)


def test_forged_token_is_rejected(keyless):
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(keyless.url, token="hf_jwt_e30.e30").model_info("me/model")


class Runner(http.server.BaseHTTPRequestHandler):
    """The endpoint of a GitHub runner that issues id tokens for a requested audience."""

    def do_GET(self):
        assert self.headers["Authorization"] == "Bearer request-token"
        audience = parse_qs(urlsplit(self.path).query)["audience"][0]
        body = json.dumps({"value": id_token(audience)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_job_with_id_token_permission_uploads_without_a_secret(keyless, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runner) as runner:
        threading.Thread(target=runner.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "HF_ENDPOINT": keyless.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_OIDC_RESOURCE": "me/model",
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{runner.server_port}/token?api-version=2",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
        }
        program = (
            "from huggingface_hub import HfApi\n"
            "HfApi().upload_file(repo_id='me/model', path_or_fileobj=b'weights', path_in_repo='model.safetensors')"
        )
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
        runner.shutdown()
    assert HfApi(keyless.url, token="owner").file_exists("me/model", "model.safetensors")
