"""What the Hub answers when it says no. The client decides by status and X-Error-Code which exception its user sees."""

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818, it is an answer and no failure
    """A request that is answered with an error: HTTP status, message, and the code that the client looks for."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


def bad_request(message: str) -> Refusal:
    return Refusal(400, message)


def repo_not_found(signed_in: bool) -> Refusal:
    """Also for a private repo without access: whether it exists is nobody's business."""
    if signed_in:
        return Refusal(404, "Repository not found", "RepoNotFound")
    return Refusal(401, "Invalid username or password.", "RepoNotFound")


def revision_not_found(revision: str) -> Refusal:
    return Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str, commit: str) -> Refusal:
    """`commit` (40 hex) travels along: the client remembers in its cache at which commit a file was absent."""
    return Refusal(404, f"Entry not found: {path}", "EntryNotFound", {"X-Repo-Commit": commit})


def forbidden(message: str) -> Refusal:
    return Refusal(403, message)
