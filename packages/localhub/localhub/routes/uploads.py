"""Uploads: preupload, which selects git or LFS for each file, and the commit, parsed line by line as it arrives."""

import base64
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pygit2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..card import check_size
from ..commits import Delete, Operation, Proposal, PutFile, build_commit, commit_onto
from ..discussions import check_may_commit, open_pull_request
from ..gitattributes import MAX_REGULAR_SIZE, Patterns
from ..json_lines import JsonLines, LongText
from ..lfs import check_object, object_size
from ..names import COMMIT_ID, OBJECT_ID, parse_path
from ..refusal import Refusal, bad_request
from ..repository import Repository
from ..tree import Pointer, find_entry
from ..web import (
    MAX_TITLE,
    Json,
    endpoint_of,
    flag,
    number_field,
    open_repo,
    parameter,
    repo_name,
    signed_in,
    state_of,
    text_field,
    with_json,
)
from .large_files import blocks_of

MAX_PREUPLOAD_FILES = 256
_PATTERNS = {".gitattributes": "gitAttributes", ".gitignore": "gitIgnore"}  # and their fields in a request
MAX_OPERATIONS = 50_000  # of one commit
# a line contains one file as base64, 4 bytes for 3
MAX_LINE = MAX_REGULAR_SIZE * 4 // 3 + 64 * 1024


def preupload(request: Request, body: Json) -> Response:
    repository = open_for_commit(request)
    commit = repository.resolve(parameter(request, "revision"))
    files = body.get("files")
    if not isinstance(files, list) or len(files) > MAX_PREUPLOAD_FILES or not all(isinstance(file, dict) for file in files):
        raise bad_request(f"files: expected a list of at most {MAX_PREUPLOAD_FILES}")
    sizes = {parse_path(text_field(file, "path")): number_field(file, "size") for file in files}
    modes, headers = _modes(body, repository, commit, sizes)
    answers = []
    for path, (to_lfs, ignored) in modes.items():
        answer: Json = {"path": path, "uploadMode": "lfs" if to_lfs else "regular", "shouldIgnore": ignored}
        entry = find_entry(repository, commit, path)
        # without the content of a large file, the client has to send it again
        if entry and not entry.is_folder and (not entry.pointer or object_size(repository, entry.pointer.oid) is not None):
            answer["oid"] = entry.content_oid
        answers.append(answer)
    return JSONResponse({"files": answers}, headers=headers)


def _modes(
    body: Json, repository: Repository, commit: pygit2.Commit, sizes: Mapping[str, int]
) -> tuple[dict[str, tuple[bool, bool]], dict[str, str]]:
    """For each path, whether it goes to LFS and whether it is ignored; and the headers of the response.

    The patterns are those of the upload where it has some, else the repo's. Patterns above the limits are refused (400) if
    they are the upload's. The repo's are not applied, with a warning: they must not stop all further uploads.
    """

    def decide(gitattributes: str, gitignore: str) -> dict[str, tuple[bool, bool]]:
        patterns = Patterns(gitattributes, gitignore)
        return {path: (patterns.goes_to_lfs(path, size), patterns.is_ignored(path)) for path, size in sizes.items()}

    own = {name: text_field(body, key, "") for name, key in _PATTERNS.items() if body.get(key) is not None}
    try:
        return decide(*(own.get(name, repository.text(commit, name)) for name in _PATTERNS)), {}
    except Refusal as refusal:
        names = [name for name in _PATTERNS if name not in own and repository.text(commit, name)]
        if not names:
            raise
        warning = f"{' and '.join(names)} of {repository.name.id} not applied. {refusal.message}"
        return decide(*(own.get(name, "") for name in _PATTERNS)), {"X-HF-Warning": f"{repository.name.resource}; {warning}"}


async def commit(request: Request) -> Response:
    """Reads the whole request first; then checks the parent and writes tree, commit and ref under the repo's lock."""
    repository = await run_in_threadpool(open_for_commit, request)
    body = _Body(repository, state_of(request).storage.incoming)
    try:
        async for block in blocks_of(request):
            await run_in_threadpool(body.feed, block)
        await run_in_threadpool(body.finish)
    finally:
        body.close()
    if body.header is None:
        raise bad_request("The commit has no header line")
    return await run_in_threadpool(_commit, request, body.header, body.operations)


class _Body:
    """The lines of a commit: a header, and an operation in each of the others. Stores the files as they come."""

    def __init__(self, repository: Repository, scratch: Path) -> None:
        too_long = Refusal(413, f"A file is larger than {MAX_REGULAR_SIZE} bytes: files of that size go through LFS")
        self._lines = JsonLines(scratch, MAX_LINE, too_long)
        self._repository, self._scratch = repository, scratch
        self.header: Json | None = None
        self.operations: list[Operation] = []

    def feed(self, block: bytes) -> None:
        """Raises Refusal."""
        for entry in self._lines.feed(block):
            self._add(entry)

    def finish(self) -> None:
        """Raises Refusal."""
        for entry in self._lines.finish():
            self._add(entry)

    def close(self) -> None:
        self._lines.close()

    def _add(self, entry: Json) -> None:
        key, value = entry.get("key"), entry.get("value")
        if not isinstance(value, dict):
            raise bad_request(f"{key}: missing value")
        if key == "header":
            self.header = value
        else:
            if len(self.operations) >= MAX_OPERATIONS:
                raise Refusal(413, f"A commit may have at most {MAX_OPERATIONS} operations")
            self.operations.append(_operation(self._repository, self._scratch, str(key), value))


def _commit(request: Request, header: Json, operations: list[Operation]) -> Response:
    account, revision = signed_in(request), parameter(request, "revision")
    summary, description = (
        text_field(header, "summary", longest=MAX_TITLE).strip(),
        text_field(header, "description", "").strip(),
    )
    parent = header.get("parentCommit")
    if not summary:
        raise bad_request("summary: required for a commit")
    if parent is not None and not (isinstance(parent, str) and COMMIT_ID.fullmatch(parent)):
        raise bad_request("parentCommit: expected a full commit id of 40 digits")
    message = f"{summary}\n\n{description}" if description else summary
    proposal = Proposal(message, parent, operations, account.name)
    pull_request_url = None
    with state_of(request).storage.change(repo_name(request)) as repository:
        repo_url = f"{endpoint_of(request)}/{repository.name.resource}"
        if flag(request, "create_pr"):
            made = build_commit(repository, repository.resolve(revision), proposal)
            number = open_pull_request(repository, account.name, summary, description, made, revision, draft=False)
            pull_request_url = f"{repo_url}/discussions/{number}"
        else:
            ref = repository.writable_ref(revision)
            check_may_commit(repository, ref, account)
            made = commit_onto(repository, ref, proposal)
    return JSONResponse(
        {
            "success": True,
            "commitOid": str(made.id),
            "commitUrl": f"{repo_url}/commit/{made.id}",
            "hookOutput": "",
            "pullRequestUrl": pull_request_url,
        }
    )


def open_for_commit(request: Request) -> Repository:
    """The repo that a commit goes to. Raises Refusal if the account may not commit to the revision in the path.

    Every user may open a pull request, and commit to it later.
    """
    revision = parameter(request, "revision")
    is_outsiders = flag(request, "create_pr") or revision.startswith("refs/pr/")
    repository = open_repo(request, "discuss" if is_outsiders else "write")
    if not flag(request, "create_pr") and revision.startswith("refs/"):
        check_may_commit(repository, revision, signed_in(request))
    return repository


def _operation(repository: Repository, scratch: Path, key: str, value: dict[str, Any]) -> Operation:
    """One line of a commit. Its content is stored in the repo at once; no ref points to it yet."""
    path = parse_path(text_field(value, "path").removesuffix("/"))
    if key == "file":
        return PutFile(path, _store(repository, scratch, path, value))
    if key == "lfsFile":
        return PutFile(path, repository.git.create_blob(_pointer(repository, value).encode()))
    if key in ("deletedFile", "deletedFolder"):
        return Delete(path, is_folder=key == "deletedFolder")
    raise bad_request(f"Unknown operation {key!r}")


def _store(repository: Repository, scratch: Path, path: str, value: Json) -> pygit2.Oid:
    if not isinstance(value.get("content"), LongText):
        return repository.git.create_blob(content_of(path, value))
    with tempfile.TemporaryFile(dir=scratch) as file:
        for piece in _decoded(path, value):
            file.write(piece)
        file.seek(0)
        if path == "README.md":
            check_size(file.read().decode("utf-8", "replace"))
            file.seek(0)
        return repository.git.create_blob_fromiobase(file)


def content_of(path: str, value: Json) -> bytes:
    """The content of a file that a request carries. Raises Refusal (400)."""
    data = b"".join(_decoded(path, value))
    if path == "README.md":
        check_size(data.decode("utf-8", "replace"))
    return data


def _decoded(path: str, value: Json) -> Iterator[bytes]:
    """The content of a file in pieces. Raises Refusal (400)."""
    content = value.get("content")
    pieces = content.pieces() if isinstance(content, LongText) else iter([text_field(value, "content", is_content=True)])
    encoding = text_field(value, "encoding", "utf-8")
    if encoding not in ("utf-8", "base64"):
        raise bad_request(f"{path}: unknown encoding {encoding!r}")
    size = 0
    for piece in _from_base64(path, pieces) if encoding == "base64" else (piece.encode() for piece in pieces):
        size += len(piece)
        if size > MAX_REGULAR_SIZE:
            raise bad_request(f"{path} is larger than {MAX_REGULAR_SIZE} bytes: files of that size go through LFS")
        yield piece


def _from_base64(path: str, pieces: Iterator[str]) -> Iterator[bytes]:
    rest = ""
    try:
        for piece in pieces:
            rest += piece
            # four characters are three bytes; the last ones are kept, because only they may be padded
            count = (len(rest) - 1) // 4 * 4
            if "=" in rest[:count]:
                raise ValueError("padding within the content")
            yield base64.b64decode(rest[:count], validate=True)
            rest = rest[count:]
        yield base64.b64decode(rest, validate=True)
    except ValueError:  # also binascii.Error, and characters that are not ASCII
        raise bad_request(f"{path}: the content is not base64") from None


def _pointer(repository: Repository, value: Json) -> Pointer:
    oid = text_field(value, "oid")
    if text_field(value, "algo", "sha256") != "sha256" or not OBJECT_ID.fullmatch(oid):
        raise bad_request(f"The oid of an LFS object must be its sha256, not {oid!r}")
    # the client sends no size when it copies a file within a repo
    size = number_field(value, "size") if "size" in value else object_size(repository, oid)
    pointer = Pointer(oid, size or 0)
    check_object(repository, pointer)
    return pointer


_API = "/api/{kind}/{owner}/{name}"
routes = [
    Route(_API + "/preupload/{revision}", with_json(preupload), methods=["POST"]),
    Route(_API + "/commit/{revision}", commit, methods=["POST"]),
]
