"""The job summary of a run as one comment on its pull request.

A comment notifies people and links to issues, which a job summary does not, so nothing in its text may do so: see `inert`.
"""

import os
import re
from collections.abc import Mapping

from ..errors import EchoselfError
from ..github.pull_request_comment import (
    MAX_LENGTH,
    GitHubPullRequest,
    Mark,
    NoPullRequestError,
    pull_request_of,
    write_comment,
)
from ..markdown import code
from .github_actions import encodable, write_summary
from .job_summary.loss_curve import with_tables
from .log import note, warn

_INVISIBLE = "\u200b"  # between two characters it ends what GitHub would recognise
_DONE = {
    "created": "created on",
    "updated": "updated on",
    "unchanged": "left as it is: a later run has written it on",
}
_ACTIVE = (
    re.compile(r"@(?=[A-Za-z0-9])"),  # a mention of a user or a team
    re.compile(r"#(?=[0-9])|GH-(?=[0-9])", re.IGNORECASE),  # a reference to an issue
    re.compile(r"github\.com(?=/[^/\s]+/[^/\s]+/(?:issues|pull|discussions)/)", re.IGNORECASE),  # the same as a URL
    re.compile(r"!(?=\[)"),  # an image
    re.compile(r"<(?!/?(?:details|summary|br|b)>|details open>)(?=[A-Za-z/!?])"),  # HTML, but for the tags that summaries have
    re.compile(r"&(?!(?:amp|lt|gt|nbsp);)(?=[#A-Za-z])"),  # a character of any of these: GitHub looks for them in the HTML
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # of generated text


def comment_summary(model: str, summary: str) -> None:
    """Write `summary`, that of one model's run, into the comment on the pull request of this job.

    If there is none, or GitHub refuses, the log and the job summary say so, and the job continues.
    """
    try:
        pull_request = pull_request_of(os.environ)
        workflow = _workflow(os.environ)
        run = os.environ.get("GITHUB_RUN_ID", "")
        mark = Mark(workflow, model, int(run) if run.isdigit() else 0)
        text = comment_text(summary, _origin(pull_request, workflow), MAX_LENGTH - len(mark.lines))
        done = write_comment(pull_request, mark, text)
    except NoPullRequestError as error:
        note(f"comment: none was written: {error}")
    except EchoselfError as error:
        warn(f"comment: it was not written, and the job summary has the result. {error.message} {error.hint}")
        write_summary(f"No comment was written on the pull request. {inert(error.message)} {error.hint}\n")
    else:
        note(f"comment: {_DONE[done]} {pull_request.title}")


def comment_text(summary: str, origin: str, limit: int) -> str:
    """The Markdown of the comment, at most `limit` characters: the `summary` with its charts as tables, and the `origin`."""
    text = _CONTROL.sub("\ufffd", encodable(summary)).strip()
    text = inert(with_tables(text))
    return _cut(text or "The run wrote no summary.", limit - _length(origin) - 2) + f"\n\n{origin}"


def inert(text: str) -> str:
    """`text` without mentions, references, images and HTML: an invisible character in each makes it plain text."""
    for pattern in _ACTIVE:
        text = pattern.sub(lambda found: found[0] + _INVISIBLE, text)
    return text


def _workflow(environment: Mapping[str, str]) -> str:
    """The file of the workflow, which unlike its name is unique in the repository."""
    path, _, _ = environment.get("GITHUB_WORKFLOW_REF", "").partition("@")
    return "/".join(path.split("/")[2:]) or environment.get("GITHUB_WORKFLOW") or "unknown"


def _origin(pull_request: GitHubPullRequest, workflow: str) -> str:
    """The last line: which run wrote the comment."""
    server, run = os.environ.get("GITHUB_SERVER_URL") or "https://github.com", os.environ.get("GITHUB_RUN_ID", "")
    link = f"[run {run}]({server}/{pull_request.repository}/actions/runs/{run})" if run.isdigit() else "a run"
    commit = f" at commit {code(pull_request.commit[:12])}" if pull_request.commit else ""
    return f"Written by {link} of {inert(code(workflow[:200]))}{commit}. The next run updates this comment."


def _cut(text: str, limit: int) -> str:
    """`text`, or its first lines with a note, and what is open in them closed."""
    if _length(text) <= limit:
        return text
    note = "\n\n(The comment is cut at the length that GitHub accepts. The job summary has the rest.)"
    room = limit - len(note) - 200  # for what is closed
    kept = text.encode("utf-16-le")[: 2 * room].decode("utf-16-le", errors="ignore").rpartition("\n")[0]
    fences = re.findall(r"^```", kept, re.MULTILINE)
    closed = kept + ("\n```" if len(fences) % 2 else "")
    return closed + "\n\n</details>" * max(0, min(10, kept.count("<details") - kept.count("</details>"))) + note


def _length(text: str) -> int:
    """In UTF-16 units, of which no way of counting characters finds more."""
    return len(text.encode("utf-16-le")) // 2
