"""Error responses. The client maps status and X-Error-Code to the exception that its user gets."""

from collections.abc import Mapping

MAX_MESSAGE = 500  # characters


class Refusal(Exception):  # noqa: N818  (a response, not a failure)
    """An error response: HTTP status, message, and the code in X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = shorten(message)
        self.code = code
        self.headers = dict(headers or {})


def shorten(message: str) -> str:
    """A message that quotes a request must not be as long as the request."""
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}..."


def bad_request(message: str) -> Refusal:
    return Refusal(400, message)


def invalid_path(message: str) -> Refusal:
    """The Hub answers 422 to a path that it does not allow, not 400."""
    return Refusal(422, message)


def repo_not_found(signed_in: bool) -> Refusal:
    """Also the response for a private repo without access, so that it does not reveal whether the repo exists."""
    if signed_in:
        return Refusal(404, "Repository not found", "RepoNotFound")
    return Refusal(401, "Invalid username or password.", "RepoNotFound")


def revision_not_found(revision: str) -> Refusal:
    return Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str, commit: str) -> Refusal:
    """`commit` (40 hex digits) is in a header: the client caches at which commit a file was missing."""
    return Refusal(404, f"Entry not found: {path}", "EntryNotFound", {"X-Repo-Commit": commit})


def forbidden(message: str) -> Refusal:
    return Refusal(403, message)
