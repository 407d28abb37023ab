"""Discussions and pull requests: list, open, details, comment, edit a comment, change title and status, merge."""

from collections.abc import Callable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import discussions
from ..discussions import CLOSED, DRAFT, MERGED, OPEN, Discussion
from ..names import RepoName
from ..refusal import Refusal, bad_request, forbidden
from ..web import (
    MAX_TITLE,
    Json,
    flag,
    may_read_files,
    number_parameter,
    open_repo,
    repo_name,
    signed_in,
    state_of,
    text_field,
    with_json,
)

PAGE_SIZE = 50


def listing(request: Request) -> Response:
    repository = open_repo(request, "read")
    query = request.query_params
    start = PAGE_SIZE * number_parameter(request, "p", 0)
    chosen = [item for item in discussions.list_discussions(repository) if _wanted(item, dict(query))]
    shown = [_summary(repository.name, item) for item in chosen[start : start + PAGE_SIZE]]
    return JSONResponse({"count": len(chosen), "start": start, "discussions": shown})


def create(request: Request, body: Json) -> Response:
    wants_pull_request = body.get("pullRequest") is True
    open_repo(request, "discuss")
    title, description = text_field(body, "title", longest=MAX_TITLE).strip(), text_field(body, "description", "")
    if len(title) < 3:
        raise bad_request("title: expected at least three characters")
    author = signed_in(request).name
    with state_of(request).storage.change(repo_name(request)) as repository:
        if wants_pull_request:
            head = repository.resolve("main")
            number = discussions.open_pull_request(repository, author, title, description, head, "main", draft=True)
        else:
            number = discussions.open_discussion(repository, author, title, description)
    return JSONResponse({"num": number, "pullRequest": wants_pull_request})


def details(request: Request) -> Response:
    repository = open_repo(request, "read")
    discussion = discussions.find_discussion(repository, request.path_params["number"])
    answer = _summary(repository.name, discussion)
    answer["events"] = discussion.events
    if discussion.is_pull_request:
        answer["events"] = sorted(
            [*discussion.events, *discussions.commit_events(repository, discussion)], key=lambda event: str(event["createdAt"])
        )
        answer["changes"] = {"base": discussion.base, "mergeCommitId": discussion.merge_commit}
        open_ones = discussion.status in (OPEN, DRAFT)
        answer["filesWithConflicts"] = discussions.conflicts(repository, discussion) if open_ones else []
        if flag(request, "diff") and may_read_files(request):
            answer["diff"] = discussions.diff(repository, discussion)
    return JSONResponse(answer)


def comment(request: Request, body: Json) -> Response:
    text = text_field(body, "comment")
    return _change(request, "newMessage", lambda found, author: found.with_comment(author, text), by_everyone=True)


def edit_comment(request: Request, body: Json) -> Response:
    text, comment_id = text_field(body, "content"), request.path_params["comment"]
    open_repo(request, "discuss")
    author = signed_in(request).name
    with state_of(request).storage.change(repo_name(request)) as repository:
        found = discussions.find_discussion(repository, request.path_params["number"])
        changed = found.with_edited_comment(comment_id, author, text)
        discussions.save(repository, changed)
    return JSONResponse({"updatedComment": next(event for event in changed.events if event["id"] == comment_id)})


def retitle(request: Request, body: Json) -> Response:
    title = text_field(body, "title", longest=MAX_TITLE).strip()

    def changed(found: Discussion, author: str) -> Discussion:
        return replace(found.with_event(author, "title-change", {"from": found.title, "to": title}), title=title)

    return _change(request, "newTitle", changed)


def change_status(request: Request, body: Json) -> Response:
    status, text = text_field(body, "status"), text_field(body, "comment", "")
    if status not in (OPEN, CLOSED):
        raise bad_request(f"status: expected open or closed, not {status!r}")

    def changed(found: Discussion, author: str) -> Discussion:
        if found.status == MERGED:
            raise Refusal(409, f"Pull request {found.num} is merged")
        return (found.with_comment(author, text) if text else found).with_status(author, status)

    return _change(request, "newStatus", changed)


def merge(request: Request, body: Json) -> Response:
    open_repo(request, "write")
    author, text = signed_in(request).name, text_field(body, "comment", "")
    with state_of(request).storage.change(repo_name(request)) as repository:
        found = discussions.find_discussion(repository, request.path_params["number"])
        merged = discussions.merge(repository, found, author, text)
    return JSONResponse({"mergeCommitId": merged.merge_commit})


def _change(request: Request, key: str, change: Callable[[Discussion, str], Discussion], by_everyone: bool = False) -> Response:
    """Save a change of a discussion. Unless it is open to everyone, only the author and those with write access may make it."""
    open_repo(request, "discuss")
    account = signed_in(request)
    with state_of(request).storage.change(repo_name(request)) as repository:
        found = discussions.find_discussion(repository, request.path_params["number"])
        if not by_everyone and not discussions.is_changeable_by(found, account, repository):
            raise forbidden(f"Forbidden: {account.name} neither opened discussion {found.num} nor may write to the repo")
        changed = change(found, account.name)
        discussions.save(repository, changed)
    return JSONResponse({key: changed.events[-1]})


def _wanted(item: Discussion, query: dict[str, str]) -> bool:
    kind, status = query.get("type", "all"), query.get("status", "all")
    return (
        (kind == "all" or (kind == "pull_request") == item.is_pull_request)
        and (status == "all" or (status == OPEN) == (item.status in (OPEN, DRAFT)))
        and query.get("author", item.author) == item.author
    )


def _summary(name: RepoName, item: Discussion) -> Json:
    return {
        "num": item.num,
        "title": item.title,
        "status": item.status,
        "isPullRequest": item.is_pull_request,
        "createdAt": item.created_at,
        "author": {"name": item.author},
        "repo": {"name": name.id, "type": name.kind},
    }


_API = "/api/{kind}/{owner}/{name}/discussions"
routes = [
    Route(_API, listing, methods=["GET"]),
    Route(_API, with_json(create), methods=["POST"]),
    Route(_API + "/{number:number}", details, methods=["GET"]),
    Route(_API + "/{number:number}/comment", with_json(comment), methods=["POST"]),
    Route(_API + "/{number:number}/comment/{comment}/edit", with_json(edit_comment), methods=["POST"]),
    Route(_API + "/{number:number}/title", with_json(retitle), methods=["POST"]),
    Route(_API + "/{number:number}/status", with_json(change_status), methods=["POST"]),
    Route(_API + "/{number:number}/merge", with_json(merge), methods=["POST"]),
]
