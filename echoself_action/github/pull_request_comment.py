"""One comment of this program on the pull request of a workflow run: created once, and updated by later runs.

A hidden mark identifies it. Anybody can write a mark, so only comments of the token's account count. Runs that race may each
create one: each lists the comments again, and only the oldest stays.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from .api import PUBLIC_API, Access, github_client, with_retries
from .event import full_name, read_event

MAX_LENGTH = 65_536  # of a comment, in characters
_MAX_PAGES, _PAGE_SIZE = 100, 100
_ATTEMPTS = 3  # while others delete the comment
_PERMISSION = "Give the job `permissions: pull-requests: write`, which comments require."
_FORK = (
    "The pull request is from a fork: GitHub gives its jobs a token that can only read. In a private repository, Settings > "
    "Actions > General can give them write tokens."
)
_RUN = re.compile(r"<!-- run (\d+) -->")

Done = Literal["created", "updated", "unchanged"]


class NoPullRequestError(Exception):
    """There is no pull request that could be commented on; the message says why."""


@dataclass(frozen=True)
class GitHubPullRequest:
    """A pull request of `repository` (owner/name) at its head `commit`, "" if unknown, and the access to its comments."""

    repository: str
    number: int
    commit: str
    access: Access

    @property
    def title(self) -> str:
        return f"pull request {self.number} of {self.repository}"


@dataclass(frozen=True)
class Mark:
    """Identifies a comment: there is one for each `workflow` and `model`. `run` is the id of the run that writes it."""

    workflow: str
    model: str
    run: int

    @property
    def line(self) -> str:
        """The first line of the comment. It has a digest of the names, because a name could end the HTML comment."""
        digest = hashlib.sha256(f"{self.workflow}\n{self.model}".encode(errors="replace")).hexdigest()[:32]
        return f"<!-- echoself-action comment {digest} -->"

    @property
    def lines(self) -> str:
        return f"{self.line}\n<!-- run {self.run} -->\n"


@dataclass(frozen=True)
class _OwnComment:
    """A comment of ours; `run` is the id of the run that wrote it, 0 if somebody has removed it."""

    id: int
    run: int


def pull_request_of(environment: Mapping[str, str]) -> GitHubPullRequest:
    """The pull request that this job runs for. Raises NoPullRequestError, or HubError if GitHub does not answer."""
    event, kind = read_event(environment), environment.get("GITHUB_EVENT_NAME") or "unknown"
    repository, token = environment.get("GITHUB_REPOSITORY"), environment.get("GITHUB_TOKEN")
    if not repository or not event:
        raise NoPullRequestError("this is not a job of GitHub Actions")
    request, issue, run = (_mapping(event, name) for name in ("pull_request", "issue", "workflow_run"))
    run = run if run.get("event") in ("pull_request", "pull_request_target") else {}
    if not request and not run and not issue.get("pull_request"):
        raise NoPullRequestError(f"the job runs for no pull request (event: {kind})")
    if not token:
        raise NoPullRequestError("GITHUB_TOKEN is not set: set `comment: true` under `with:`")
    from_fork = kind == "pull_request" and full_name(_mapping(request, "head"), "repo") != repository
    access = Access(environment.get("GITHUB_API_URL") or PUBLIC_API, token, _FORK if from_fork else _PERMISSION)
    if run:
        return GitHubPullRequest(repository, _number_of_run(run, repository, access), str(run.get("head_sha") or ""), access)
    number = (request or issue).get("number")
    if type(number) is not int:
        raise NoPullRequestError(f"the event {kind} has no number of a pull request")
    return GitHubPullRequest(repository, number, str(_mapping(request, "head").get("sha") or ""), access)


def write_comment(pull_request: GitHubPullRequest, mark: Mark, text: str) -> Done:
    """Create or update the comment with this mark. It stays unchanged if a later run has written it.

    The mark and `text` must not be longer than MAX_LENGTH. Raises HubError.
    """
    with github_client(pull_request.access, "commenting", pull_request.title) as client:
        author = with_retries(lambda: _login(client, pull_request.access.api))
        comments = _Comments(client, pull_request, author, mark)
        for _ in range(_ATTEMPTS):
            # repeated as a whole: a comment that was created although the answer was lost is then found
            done = with_retries(lambda: comments.write(text))
            if done:
                return done
    return "unchanged"


@dataclass(frozen=True)
class _Comments:
    """The comments with our mark, written by `author`, the account of the token."""

    client: httpx2.Client
    pull_request: GitHubPullRequest
    author: str
    mark: Mark

    def write(self, text: str) -> Done | None:
        """None if the comment was deleted before it could be updated."""
        before = self._list()
        if before:
            return self._update(before, text)
        created = self._create(text)
        ours = self._list()
        if not ours or ours[0].id == created:
            return "created"
        self._delete(created)
        return self._update([one for one in ours if one.id != created], text)

    def _update(self, ours: list[_OwnComment], text: str) -> Done | None:
        """Write into the oldest. The others are of runs that were killed before they deleted them, or are about to."""
        if max(one.run for one in ours) > self.mark.run:
            return "unchanged"
        oldest, *others = ours
        for other in others:
            self._delete(other.id)
        response = self.client.patch(self._path(oldest.id), json={"body": self.mark.lines + text})
        if response.status_code in (httpx2.codes.NOT_FOUND, httpx2.codes.GONE):
            return None
        response.raise_for_status()
        return "updated"

    def _create(self, text: str) -> int:
        response = self.client.post(self._base, json={"body": self.mark.lines + text})
        return int(response.raise_for_status().json()["id"])

    def _delete(self, comment: int) -> None:
        response = self.client.delete(self._path(comment))
        if response.status_code not in (httpx2.codes.NOT_FOUND, httpx2.codes.GONE):  # another run has deleted it
            response.raise_for_status()

    def _list(self) -> list[_OwnComment]:
        """Ours, oldest first."""
        found = []
        for page in range(1, _MAX_PAGES + 1):
            response = self.client.get(self._base, params={"per_page": _PAGE_SIZE, "page": page})
            rows = response.raise_for_status().json()
            for row in rows:
                body, author = str(row.get("body") or ""), str((row.get("user") or {}).get("login"))
                if body.startswith(self.mark.line) and author.casefold() == self.author.casefold():
                    run = _RUN.search(body.partition("\n")[2].partition("\n")[0])
                    found.append(_OwnComment(int(row["id"]), int(run[1]) if run else 0))
            if len(rows) < _PAGE_SIZE:
                break
        return sorted(found, key=lambda one: one.id)

    @property
    def _base(self) -> str:
        return f"/repos/{self.pull_request.repository}/issues/{self.pull_request.number}/comments"

    def _path(self, comment: int) -> str:
        return f"/repos/{self.pull_request.repository}/issues/comments/{comment}"


def _login(client: httpx2.Client, api: str) -> str:
    """The account of the token. Only the GraphQL API tells the token of a job its own."""
    url = f"{api.removesuffix('/v3')}/graphql"
    response = client.post(url, json={"query": "query { viewer { login } }"}).raise_for_status()
    return str(response.json()["data"]["viewer"]["login"])


def _number_of_run(run: Mapping[str, Any], repository: str, access: Access) -> int:
    """The pull request of another workflow run. GitHub lists none in the event if it is from a fork.

    Raises NoPullRequestError, or HubError.
    """
    for listed in run.get("pull_requests") or ():
        base = str(_mapping(_mapping(listed, "base"), "repo").get("url"))
        if base.endswith(f"/repos/{repository}") and type(listed.get("number")) is int:
            return int(listed["number"])
    head, branch = full_name(run, "head_repository"), str(run.get("head_branch"))
    if not head:
        raise NoPullRequestError("the repository of the pull request was deleted")
    query = {"state": "open", "head": f"{head.partition('/')[0]}:{branch}"}
    with github_client(access, "looking for its pull request", f"branch {branch} of {head}") as client:
        rows = with_retries(lambda: client.get(f"/repos/{repository}/pulls", params=query).raise_for_status()).json()
        numbers = [int(row["number"]) for row in rows if row["head"]["sha"] == run.get("head_sha")]
    if len(numbers) != 1:
        raise NoPullRequestError(f"{len(numbers)} open pull requests have the commit {run.get('head_sha')} of the other run")
    return numbers[0]


def _mapping(parent: object, name: str) -> Mapping[str, Any]:
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return found if isinstance(found, Mapping) else {}
