"""A Hub per test, and the real client that speaks to it."""

import os

os.environ["HF_HUB_DISABLE_XET"] = "1"  # before huggingface_hub is imported: it reads this once
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import http.client
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from echoself_action.localhub import Account, Limits, LocalHub

REPO = "me/model"
OWNER, READER, STRANGER, SCOPED = "token-owner", "token-reader", "token-stranger", "token-scoped"
ACCOUNTS = {
    OWNER: Account("me", owns=frozenset({"me", "my-org"})),
    READER: Account("me", role="read", owns=frozenset({"me"})),
    STRANGER: Account("stranger", owns=frozenset({"stranger"})),
    SCOPED: Account("ci", role="fineGrained", owns=frozenset(), resources=frozenset({"me/model"})),
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """Open to everybody, with parts and pages small enough to see them."""
    with LocalHub(tmp_path / "hub", limits=Limits(multipart_threshold=1_000_000, chunk_size=300_000, page_size=7)) as server:
        yield server


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    return HfApi(hub.url, token=False)


@pytest.fixture
def repo(api: HfApi) -> str:
    api.create_repo(REPO)
    return REPO


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LocalHub]:
    """A Hub with tokens."""
    with LocalHub(tmp_path / "guarded", accounts=ACCOUNTS) as server:
        HfApi(server.url, token=OWNER).create_repo(REPO)
        yield server


@pytest.fixture
def as_who(guarded: LocalHub) -> Callable[[str | bool], HfApi]:
    """The client of one of the tokens, or of nobody (False)."""
    return lambda token: HfApi(guarded.url, token=token)


def put(api: HfApi, files: dict[str, bytes], repo_id: str = REPO, **options: object) -> str:
    """One commit with these files; its id."""
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    options.setdefault("commit_message", f"Put {', '.join(files)}")
    return str(api.create_commit(repo_id, operations, **options).oid)  # type: ignore[arg-type]


def ask(
    url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """A request as it stands, for what the client would clean up or never send. Header names come back in lower case."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


@contextmanager
def server_process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The Hub as a program of its own, and its URL."""
    command = [sys.executable, "-m", "echoself_action.localhub", "--dir", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            yield process, first.split()[2].rstrip(",")
        finally:
            process.kill()
