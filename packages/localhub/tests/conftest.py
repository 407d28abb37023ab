"""Fixtures: a local Hub, and the real client connected to it."""

import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from localhub import Account, Limits, LocalHub

REPO = "me/model"
OWNER, READER, STRANGER, SCOPED = "token-owner", "token-reader", "token-stranger", "token-scoped"
ACCOUNTS = {
    OWNER: Account("me", owns=frozenset({"me", "my-org"})),
    READER: Account("me", role="read", owns=frozenset({"me"})),
    STRANGER: Account("stranger", owns=frozenset({"stranger"})),
    SCOPED: Account("ci", role="fineGrained", owns=frozenset(), resources=frozenset({"me/model"})),
}


@pytest.fixture
def by_lfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads by LFS, as of a client without hf_xet. Also the constant, because huggingface_hub read its variable earlier."""
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


@pytest.fixture(autouse=True, scope="session")
def _xet_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """hf_xet reads it once, when its session begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_XET_CACHE", str(tmp_path_factory.mktemp("xet")))
        yield


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads the cache or the token of the user who runs it."""
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("hf")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home / "token"))
    # a Hub may get the port of an earlier one, whose tokens it does not accept
    monkeypatch.setattr("huggingface_hub.utils._xet.XET_CONNECTION_INFO_CACHE", {}, raising=False)


@pytest.fixture(scope="session")
def open_server() -> Iterator[LocalHub]:
    """Without tokens, and with small parts and pages.

    In memory if possible: durability is tested elsewhere, and syncs would only take time here.
    """
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        limits = Limits(multipart_threshold=1_000_000, chunk_size=300_000, page_size=7)
        with LocalHub(Path(folder), limits=limits) as server:
            yield server


@pytest.fixture
def hub(open_server: LocalHub) -> Iterator[LocalHub]:
    """The shared server, with no repos: all its state is in its folder, which is cleared after each test."""
    yield open_server
    for name in ("models", "datasets", "spaces", "moved", "collections"):
        shutil.rmtree(open_server.storage.folder / name, ignore_errors=True)
    shutil.rmtree(open_server.storage.incoming)  # what tests of broken uploads left
    open_server.storage.incoming.mkdir()


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
def client_of(guarded: LocalHub) -> Callable[[str | bool], HfApi]:
    """The client with one of the tokens, or without (False)."""
    return lambda token: HfApi(guarded.url, token=token)


@pytest.fixture(scope="session")
def put() -> Callable[..., str]:
    """Commits these files; returns the commit id."""

    def commit(api: HfApi, files: dict[str, bytes], repo_id: str = REPO, **options: Any) -> str:
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        return str(api.create_commit(repo_id, operations, **{"commit_message": f"Put {', '.join(files)}", **options}).oid)

    return commit


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


@pytest.fixture(scope="session")
def ask() -> Callable[..., Answer]:
    """Sends a raw HTTP request, for requests that the client would change or never send."""

    def send(url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    return send


@pytest.fixture(scope="session")
def git() -> Callable[..., subprocess.CompletedProcess[str]]:
    """git without the settings of this machine: where git-lfs is installed, these replace pointers by the files."""
    environment = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        **{f"GIT_{role}_NAME": "Ada" for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": "ada@localhub.invalid" for role in ("AUTHOR", "COMMITTER")},
    }

    def run(
        *arguments: str | Path, cwd: Path | None = None, check: bool = True, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments],
            cwd=cwd,
            check=check,
            capture_output=True,
            text=True,
            timeout=30,
            input=stdin,
            env=environment | variables,
        )

    return run


@pytest.fixture
def git_lfs(
    git: Callable[..., subprocess.CompletedProcess[str]], unavailable: Callable[[str], NoReturn], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """git of a user who has installed git-lfs."""
    program = shutil.which("git-lfs")
    if program is None:
        unavailable("git-lfs is not installed on this machine (https://git-lfs.com)")
    home = tmp_path / "home"
    home.mkdir()
    folders = dict.fromkeys([str(Path(program).parent), str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    variables = {"GIT_CONFIG_GLOBAL": str(home / ".gitconfig"), "HOME": str(home), "PATH": os.pathsep.join(folders)}
    git("lfs", "install", "--skip-repo", **variables)
    return lambda *arguments, **options: git(*arguments, **variables, **options)


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Skips a test whose client this machine does not have. Under CI=true it fails: there, all clients are tested."""

    def stop(reason: str) -> NoReturn:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and under CI=true its tests must run")
        pytest.skip(reason)

    return stop


@pytest.fixture(scope="module")
def users_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """A Hub of two users, as their programs see it; hf_me is the token of users_environment."""
    accounts = {
        "hf_me": Account("me", owns=frozenset({"me", "my-org"})),
        "hf_stranger": Account("stranger", owns=frozenset({"stranger"})),
    }
    with LocalHub(tmp_path_factory.mktemp("hub"), accounts=accounts, limits=Limits(page_size=7)) as server:
        yield server


@pytest.fixture(scope="module")
def users_environment(users_hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user who has set an endpoint and a token, and nothing else."""
    home = tmp_path_factory.mktemp("home")
    cache = home / "huggingface"
    cache.mkdir()
    for name in ("update", "skill_update"):
        (cache / f".check_for_{name}_done").touch()  # `hf` looks for a newer version only once a day
    return {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "HOME": str(home),
        "TMPDIR": tempfile.gettempdir(),
        "HF_HOME": str(cache),
        "HF_ENDPOINT": users_hub.url,
        "HF_TOKEN": "hf_me",
    }


@pytest.fixture(scope="module")
def run_calls(users_environment: dict[str, str], unavailable: Callable[[str], NoReturn]) -> Callable[[str], Any]:
    """Makes the calls of a library, such as transformers_calls.py; returns what each got."""

    def run(library: str) -> Any:
        if importlib.util.find_spec(library) is None:
            unavailable(f"{library} is not installed in this environment (pip install {library})")
        script = Path(__file__).with_name(f"{library}_calls.py")
        done = subprocess.run([sys.executable, script], env=users_environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def start_server() -> Callable[..., AbstractContextManager[tuple[subprocess.Popen[str], str]]]:
    """The Hub in a process of its own, and its URL."""

    @contextmanager
    def start(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        command = [sys.executable, "-m", "localhub", "--dir", str(folder), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process, process.stdout.readline().split()[2].rstrip(",")
            finally:
                process.kill()

    return start
