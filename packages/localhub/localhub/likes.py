"""Who likes a repo, and since when: hub/likes.json in the repo, by the name of the user."""

from .records import now, read_records, write_records
from .repository import Repository


def likers(repository: Repository) -> dict[str, str]:
    """When each user liked the repo, oldest first."""
    return {user: like["createdAt"] for user, like in read_records(repository.path / "hub" / "likes.json").items()}


def like(repository: Repository, user: str) -> None:
    """A repeated like changes nothing. Only inside `Storage.change`."""
    path = repository.path / "hub" / "likes.json"
    records = read_records(path)
    if user not in records:
        write_records(path, {**records, user: {"createdAt": now()}})


def unlike(repository: Repository, user: str) -> None:
    """Only inside `Storage.change`."""
    path = repository.path / "hub" / "likes.json"
    records = read_records(path)
    if records.pop(user, None) is not None:
        write_records(path, records)
