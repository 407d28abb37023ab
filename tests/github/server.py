"""GitHub's API for artifacts, releases, comments and workflows, on loopback; on another port, the storage it redirects to."""

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localhub.server import serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

REPOSITORY, RUN_ID, TOKEN = "me/repo", 77, "ghs_secret"
BOT = "github-actions[bot]"  # the account of a job's token
FORBIDDEN = "Resource not accessible by integration"


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip as upload-artifact makes one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


@dataclass
class GitHub:
    """`artifacts` maps names to zips. `refuse` maps an endpoint (`list`, `zip`) to a status and headers of an error."""

    artifacts: dict[str, bytes] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # of an artifact's row
    refuse: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # a tag's name -> what its ref points at
    tag_objects: dict[str, dict[str, Any]] = field(default_factory=dict)  # an annotated tag's sha -> what was sent
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)  # a tag's name -> what was sent, and its page
    blind: bool = False  # to the next look-up of a release and of a tag, as if another job made them just after it
    comments: list[dict[str, Any]] = field(default_factory=list)  # on any pull request, oldest first
    pulls: list[dict[str, Any]] = field(default_factory=list)
    workflows: dict[str, str] = field(default_factory=dict)  # a file's name -> the state of the workflow
    meet: int = 0  # that many requests list the comments before one of them is answered
    trouble: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)  # like `refuse`, for one request each
    lost: set[str] = field(default_factory=set)  # endpoints that do what is asked, once, and answer 502
    token: str = TOKEN
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Authorization
    url: str = ""
    storage: str = ""

    def api(self) -> Starlette:
        repository = "/api/v3/repos/{owner}/{name}"
        base = f"{repository}/actions"
        return Starlette(
            routes=[
                Route(f"{repository}/releases/tags/{{tag:path}}", self._find_release),
                Route(f"{repository}/releases", self._make_release, methods=["POST"]),
                Route(f"{repository}/git/ref/tags/{{tag:path}}", self._find_ref),
                Route(f"{repository}/git/refs", self._make_ref, methods=["POST"]),
                Route(f"{repository}/git/tags/{{sha}}", self._find_tag),
                Route(f"{repository}/git/tags", self._make_tag, methods=["POST"]),
                Route("/api/graphql", self._viewer, methods=["POST"]),
                Route(f"{repository}/pulls", self._pulls),
                Route(f"{repository}/issues/{{number:int}}/comments", self._comments, methods=["GET", "POST"]),
                Route(f"{repository}/issues/comments/{{id:int}}", self._comment, methods=["PATCH", "DELETE"]),
                Route(f"{base}/workflows/{{file}}", self._workflow),
                Route(f"{base}/workflows/{{file}}/enable", self._enable, methods=["PUT"]),
                Route(f"{base}/runs/{{id:int}}/artifacts", self._list),
                Route(f"{base}/artifacts/{{id:int}}/zip", self._zip),
            ]
        )

    def blobs(self) -> Starlette:
        return Starlette(routes=[Route("/blob/{id:int}", self._blob)])

    def _seen(self, request: Request, endpoint: str) -> Response | None:
        self.requests.append((request.url.path, request.headers.get("authorization")))
        if endpoint in self.refuse:
            status, headers = self.refuse[endpoint]
            return JSONResponse({"message": FORBIDDEN if status == 403 else "no"}, status, headers)
        if self.trouble.get(endpoint):
            status, headers = self.trouble[endpoint].pop(0)
            return JSONResponse({"message": "no"}, status, headers)
        if endpoint != "blob" and request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"message": "Bad credentials"}, 401)
        return None

    async def _find_release(self, request: Request) -> Response:
        return self._seen(request, "find") or self._found(self.releases.get(request.path_params["tag"]))

    async def _find_ref(self, request: Request) -> Response:
        there = self.tags.get(request.path_params["tag"])
        refusal, found = self._seen(request, "find"), self._found(there and {"object": there})
        self.blind = False
        return refusal or found

    async def _find_tag(self, request: Request) -> Response:
        return self._seen(request, "find") or self._found(self.tag_objects.get(request.path_params["sha"]))

    def _found(self, there: dict[str, Any] | None) -> Response:
        return JSONResponse({"message": "Not Found"}, 404) if there is None or self.blind else JSONResponse(there)

    async def _make_tag(self, request: Request) -> Response:
        if refusal := self._seen(request, "make"):
            return refusal
        body = await request.json()
        sha = hashlib.sha256(json.dumps(body).encode()).hexdigest()[:40]
        self.tag_objects[sha] = body
        return JSONResponse(body | {"sha": sha}, 201)

    async def _make_ref(self, request: Request) -> Response:
        if refusal := self._seen(request, "make"):
            return refusal
        body = await request.json()
        name = body["ref"].removeprefix("refs/tags/")
        if name in self.tags:
            return JSONResponse({"message": "Reference already exists"}, 422)
        self.tags[name] = {"type": "tag" if body["sha"] in self.tag_objects else "commit", "sha": body["sha"]}
        return JSONResponse({"ref": body["ref"], "object": self.tags[name]}, 201)

    async def _make_release(self, request: Request) -> Response:
        if refusal := self._seen(request, "release"):
            return refusal
        body = await request.json()
        if body["tag_name"] in self.releases:
            return JSONResponse({"message": "Validation Failed", "errors": [{"code": "already_exists"}]}, 422)
        self.releases[body["tag_name"]] = body | {"html_url": f"https://github.test/{REPOSITORY}/releases/{body['tag_name']}"}
        return JSONResponse(self.releases[body["tag_name"]], 201)

    async def _viewer(self, request: Request) -> Response:
        return self._seen(request, "viewer") or JSONResponse({"data": {"viewer": {"login": BOT}}})

    async def _pulls(self, request: Request) -> Response:
        owner, _, branch = request.query_params["head"].partition(":")
        found = [one for one in self.pulls if one["head"]["ref"] == branch and one["head"]["user"]["login"] == owner]
        return self._seen(request, "pulls") or JSONResponse(found)

    async def _comments(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._add_comment(request)
        if refusal := self._seen(request, "comments"):
            return refusal
        rows = [one for one in self.comments if one["issue"] == request.path_params["number"]]
        if self.meet:
            self.meet -= 1
            while self.meet:
                await asyncio.sleep(0.005)
        size, page = int(request.query_params["per_page"]), int(request.query_params["page"])
        return JSONResponse(rows[(page - 1) * size : page * size])

    async def _add_comment(self, request: Request) -> Response:
        body = (await request.json())["body"]
        if refusal := self._seen(request, "comment"):
            return refusal
        if len(body) > 65_536:
            return JSONResponse({"message": "Validation Failed"}, 422)
        added = self.comment(request.path_params["number"], BOT, body)
        if "comment" in self.lost:
            self.lost.discard("comment")
            return JSONResponse({"message": "no"}, 502)
        return JSONResponse(added, 201)

    def comment(self, number: int, login: str, body: str) -> dict[str, Any]:
        """Add a comment, as any account."""
        identity = max((one["id"] for one in self.comments), default=100) + 1
        self.comments.append({"id": identity, "issue": number, "body": body, "user": {"login": login}})
        return self.comments[-1]

    async def _comment(self, request: Request) -> Response:
        if refusal := self._seen(request, "change"):
            return refusal
        found = [one for one in self.comments if one["id"] == request.path_params["id"]]
        if not found:
            return JSONResponse({"message": "Not Found"}, 404)
        if found[0]["user"]["login"] != BOT:
            return JSONResponse({"message": "Must have admin rights"}, 403)
        if request.method == "DELETE":
            self.comments.remove(found[0])
            return Response(status_code=204)
        found[0]["body"] = (await request.json())["body"]
        return JSONResponse(found[0])

    async def _workflow(self, request: Request) -> Response:
        state = self.workflows.get(request.path_params["file"])
        return self._seen(request, "workflow") or self._found(state and {"state": state})

    async def _enable(self, request: Request) -> Response:
        if refusal := self._seen(request, "enable"):
            return refusal
        if request.path_params["file"] not in self.workflows:
            return JSONResponse({"message": "Not Found"}, 404)
        self.workflows[request.path_params["file"]] = "active"
        return Response(status_code=204)

    async def _list(self, request: Request) -> Response:
        if refusal := self._seen(request, "list"):
            return refusal
        rows = [self._row(number, name) for number, name in enumerate(self.artifacts)]
        size, page = int(request.query_params["per_page"]), int(request.query_params["page"])
        return JSONResponse({"total_count": len(rows), "artifacts": rows[(page - 1) * size : page * size]})

    def _row(self, number: int, name: str) -> dict[str, Any]:
        content = self.artifacts[name]
        return {
            "id": number,
            "name": name,
            "size_in_bytes": len(content),
            "expired": name in self.expired,
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "archive_download_url": "http://127.0.0.1:1/not-to-be-asked",
            "workflow_run": {"id": RUN_ID, "repository_id": 1, "head_repository_id": 1},
        } | self.changes.get(name, {})

    async def _zip(self, request: Request) -> Response:
        return self._seen(request, "zip") or RedirectResponse(f"{self.storage}/blob/{request.path_params['id']}", 302)

    async def _blob(self, request: Request) -> Response:
        return self._seen(request, "blob") or Response(list(self.artifacts.values())[request.path_params["id"]])


@contextmanager
def running() -> Iterator[GitHub]:
    server = GitHub()
    with serving(server.api()) as api, serving(server.blobs()) as storage:
        server.url, server.storage = f"http://127.0.0.1:{api}/api/v3", f"http://127.0.0.1:{storage}"
        yield server


def workflow_run_event(**changes: Any) -> dict[str, Any]:
    """What GitHub writes down for a workflow_run job, as far as it is read."""
    repository = {"full_name": REPOSITORY}
    run = {"id": RUN_ID, "name": "training", "event": "push", "conclusion": "success"}
    return {"workflow_run": run | {"repository": repository, "head_repository": repository} | changes}


def job_environment(github: GitHub, folder: Path) -> dict[str, str]:
    """The variables of a job that a run of its own repository triggered."""
    event = folder / "event.json"
    event.write_text(json.dumps(workflow_run_event()))
    return {
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_API_URL": github.url,
        "GITHUB_TOKEN": TOKEN,
    }
