"""The result of a review: as the one comment of this program on the pull request, and in the job summary.

All text from the pull request is rendered as code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import huggingface_hub

from ..hub.endpoint import Hub
from ..hub.retry import with_retries
from ..markdown import code, indented
from .fetch_pull_request import PullRequest

if TYPE_CHECKING:
    from huggingface_hub import DiscussionWithDetails

_MAX_TEXT = 600  # characters of the result of a check
_MAX_FILES = 30  # in a table
FILES = "files"
CHECKS = ("config and tensors", "tokenizer", "stock transformers", "gate")  # of the files, after the download
_MARK = re.compile(r"<!-- echoself-action: ([0-9a-f]{40}) (passed|refused) -->\n")


@dataclass(frozen=True)
class Check:
    """The result of one check. `found` may contain text from the pull request."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Baseline:
    """What pull requests are compared with: the model on main at `commit`, on `windows` held-out windows of the corpus `data`.

    `digest` is the sha256 of these windows. `is_trained_on`: whether the last training of the model on main used this corpus.
    """

    gate: str
    commit: str
    windows: int
    data: Sequence[str]
    digest: str
    is_trained_on: bool


@dataclass(frozen=True)
class Review:
    """A pull request with its checks, up to the first that failed. No checks if an earlier run reviewed the same commit."""

    number: int
    url: str
    passed: bool
    checks: Sequence[Check]

    @property
    def is_new(self) -> bool:
        return bool(self.checks)

    @property
    def result(self) -> str:
        return "passed" if self.passed else "refused"


@dataclass(frozen=True)
class ReviewComment:
    """The comment of this program on a pull request: the commit that was reviewed, and the result."""

    comment_id: str
    commit: str
    result: str


def account_name(hub: Hub) -> str | None:
    """The account of the token, which our comments are written by; None on a Hub without accounts."""
    return str(with_retries(hub, "the account", "looking up the token", hub.api.whoami)["name"]) if hub.has_token else None


def find_review_comment(discussion: "DiscussionWithDetails", account: str | None) -> ReviewComment | None:
    """Our comment on a pull request. Anybody can write its first line, so only comments of our own account count."""
    for event in reversed(discussion.events):
        if not isinstance(event, huggingface_hub.DiscussionComment) or event.hidden or account not in (None, event.author):
            continue
        if mark := _MARK.match(event.content):
            return ReviewComment(event.id, mark[1], mark[2])
    return None


def post_review_comment(
    hub: Hub, repo_id: str, pull_request: PullRequest, review: Review, baseline: Baseline, existing: ReviewComment | None
) -> None:
    """Write the result on the pull request: into the `existing` comment, or a new one."""
    mark = f"<!-- echoself-action: {pull_request.head.commit} {review.result} -->\n"
    content = mark + rendered_comment(pull_request, review, baseline)
    number = pull_request.number

    def write() -> bool:
        if existing:
            hub.api.edit_discussion_comment(repo_id, number, existing.comment_id, content)
        else:
            hub.api.comment_discussion(repo_id, number, content)
        return True

    def is_written() -> bool | None:
        found = hub.api.get_discussion_details(repo_id, number)
        return any(getattr(event, "content", None) == content for event in found.events) or None

    with_retries(hub, repo_id, f"commenting on pull request {number}", write, is_written)


def rendered_comment(pull_request: PullRequest, review: Review, baseline: Baseline) -> str:
    """The Markdown of the comment."""
    changed = [(name, f"{file.size:,}") for name, file in sorted(pull_request.changed.items())]
    files = [*changed, *((name, "deleted") for name in pull_request.removed)]
    more = [f"| and {len(files) - _MAX_FILES} more | |"] if len(files) > _MAX_FILES else []
    other = "" if baseline.is_trained_on else ", which is not the corpus of the last training of main"
    head, main = code(pull_request.head.commit), code(baseline.commit)
    return "\n".join(
        [
            f"**{review.result.capitalize()}**: commit {head}, compared with main at {main}.",
            "",
            *_table(review.checks),
            "",
            f"Gate: {code(baseline.gate)}. Held-out text: {baseline.windows:,} windows of {code(', '.join(baseline.data))}"
            f"{other}; sha256 {code(baseline.digest)}.",
            "",
            "| file | bytes |",
            "|---|---|",
            *(f"| {code(_shortened(name))} | {size} |" for name, size in files[:_MAX_FILES]),
            *more,
            "",
            "Reviewed by [echoself-action](https://github.com/9cog/echoself-action), which runs no code of a pull request and "
            "does not merge. This comment is updated after every new commit.",
            "",
        ]
    )


def reviews_summary(repo_url: str, reviews: Sequence[Review], errors: Sequence[str]) -> str:
    """Markdown for the job summary."""
    new = [review for review in reviews if review.is_new]
    refused = sum(not review.passed for review in new)
    sections = [f"## Pull requests of [{repo_url}]({repo_url}): {len(new)} checked, {refused} refused"]
    for review in new:
        sections.append("\n".join([f"### [{review.number}]({review.url}): {review.result}", "", *_table(review.checks)]))
    if unchanged := [f"[{review.number}]({review.url}) ({review.result})" for review in reviews if not review.is_new]:
        sections.append(f"Unchanged since the last check: {', '.join(unchanged)}.")
    sections += [f"Not checked:\n\n{indented(error)}" for error in errors]
    return "\n\n".join(sections) + "\n"


def _table(checks: Sequence[Check]) -> list[str]:
    done = {check.name: check for check in checks}
    rows = [
        f"| {name} | {'yes' if done[name].passed else '**no**'} | {code(_shortened(done[name].found))} |"
        if name in done
        else f"| {name} | not checked | |"
        for name in (FILES, *CHECKS)
    ]
    return ["| check | passed | result |", "|---|---|---|", *rows]


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
