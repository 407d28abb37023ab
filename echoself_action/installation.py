"""How this package was installed, and the command that installs another part of it in the same way."""

import json
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "echoself-action"
_REPOSITORY = "git+https://github.com/9cog/echoself-action"
_LOCALHUB = "packages/localhub"


def localhub_command() -> str:
    """The command that installs localhub beside this package: from the folder or the commit that this package is from."""
    places = (folder / _LOCALHUB for folder in _source_folders())
    found = next((place for place in places if (place / "pyproject.toml").is_file()), None)
    return _install(str(found) if found else f"{_repository()}#subdirectory={_LOCALHUB}")


def export_command() -> str:
    """The command that adds the extra `export` to this package: from the folder or the commit that it is from."""
    found = next((folder for folder in _source_folders() if (folder / "pyproject.toml").is_file()), None)
    return _install(f"{found}[export]" if found else f"{DISTRIBUTION}[export] @ {_repository()}")


def _install(requirement: str) -> str:
    python = shlex.quote(sys.executable)
    pip = f"{python} -m pip install" if has_pip() else f"uv pip install --python {python}"
    return f"{pip} {shlex.quote(requirement)}"


def has_pip() -> bool:
    """By its metadata: find_spec("pip") would make setuptools switch off its distutils, which torch.compile needs."""
    try:
        return bool(distribution("pip").version)
    except PackageNotFoundError:
        return False


def _source_folders() -> Iterator[Path]:
    """The folder that this package is in, which is a checkout if it was not copied, and the one that it was installed from."""
    yield Path(__file__).parent.parent
    url = urlsplit(str(_origin().get("url", "")))
    if url.scheme == "file":
        yield Path(url2pathname(url.path))


def _repository() -> str:
    """The git repository at the commit that this package was installed from; if that is unknown, the public one."""
    origin = _origin()
    vcs = origin.get("vcs_info")
    return f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if isinstance(vcs, dict) else _REPOSITORY


def _origin() -> dict[str, object]:
    """direct_url.json of the installation (PEP 610); empty if it was installed from an index, or not at all."""
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
