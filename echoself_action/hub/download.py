"""One file from the Hub, as the Hub says that it is."""

from pathlib import Path

from ..errors import HubError
from .asking import ask, is_passing
from .checksum import same_content
from .client import Hub
from .repo import RemoteFile


def download(hub: Hub, repo_id: str, commit: str, file: RemoteFile, folder: Path) -> Path:
    """Fetch `file` into `folder`; where it arrives damaged, once more. Raises HubError where it does not arrive whole."""
    path = folder / file.path
    for tries_left in (1, 0):
        ask(
            hub,
            repo_id,
            f"fetching {file.path}",
            lambda: hub.api.hf_hub_download(repo_id, file.path, revision=commit, repo_type=hub.kind, local_dir=folder),
            repeats=_is_left_to_us,
        )
        if same_content(path, file):
            return path
        path.unlink()
        if tries_left:
            hub.say(f"{file.path} of {repo_id} arrived damaged. It is fetched once more.")
    raise HubError(
        f"{file.path} of {repo_id} arrived damaged, twice: its checksum is not the Hub's. Nothing was kept.", "Run it again."
    )


def _is_left_to_us(error: BaseException) -> bool:
    """What the client has not repeated itself, of what it raises when it fetches a file."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    repeated = isinstance(error, (httpx2.TimeoutException, httpx2.ConnectError)) or (
        isinstance(error, HfHubHTTPError) and error.response.status_code in (408, 429)
    )
    return is_passing(error) and not repeated
