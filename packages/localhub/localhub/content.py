"""Responses with the content of a file or a byte range of it, streamed in blocks."""

import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from .git_program import FRUGAL, environment
from .lfs import BLOCK
from .refusal import Refusal
from .repository import Repository

Content = Callable[[int, int], Iterator[bytes]]  # the bytes from a start to a stop, in blocks

MAX_WHOLE = 1024 * 1024  # bytes of a file that is held in memory
_RANGE = re.compile(r"bytes\s*=\s*([0-9]*)\s*-\s*([0-9]*)")


def in_git(repository: Repository, oid: str, size: int) -> Content:
    """The content of a blob of `size` bytes."""
    if size <= MAX_WHOLE:
        return lambda start, stop: iter([repository.git.odb.read(oid)[1][start:stop]])
    return partial(_git_blocks, repository, oid)


def in_file(path: Path) -> Content:
    return partial(_file_blocks, path)


def content_response(request: Request, content: Content, size: int, headers: dict[str, str]) -> Response:
    """200, 206 for one range, or 304 if the client has the content. `size` in bytes.

    Raises Refusal (416) for a range outside the content, unless it is empty.
    """
    if _has_content(request, headers["ETag"]):
        return Response(status_code=304, headers={key: value for key, value in headers.items() if key != "Content-Type"})
    headers = {"Content-Type": "application/octet-stream", **headers, "Accept-Ranges": "bytes"}
    start, stop = 0, size
    status = 200
    requested = request.headers.get("range")
    # a client that resumes a download of another revision must get the whole file
    if (
        requested
        and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
        and _RANGE.fullmatch(requested.strip())
    ):
        if size == 0:
            # No range is inside an empty file, so the Hub may ignore it (RFC 9110, 14.2). huggingface.js asks for the first
            # byte to learn the size of a file, which it reads off this header; other clients skip it in a response 200.
            headers["Content-Range"] = "bytes */0"
        else:
            start, stop = _parse_range(requested.strip(), size)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            status = 206
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if size <= MAX_WHOLE:
        return Response(b"".join(content(start, stop)), status_code=status, headers=headers)
    return StreamingResponse(iterate_in_threadpool(content(start, stop)), status_code=status, headers=headers)


def _has_content(request: Request, etag: str) -> bool:
    """Whether If-None-Match has the ETag. Weak ones count, since the content is the same byte by byte."""
    known = [tag.strip().removeprefix("W/") for line in request.headers.getlist("if-none-match") for tag in line.split(",")]
    return etag in known or "*" in known


def requested_range(request: Request, size: int) -> tuple[int, int]:
    """The first byte that is asked for, and the one after the last; all without a Range header. Raises Refusal (416)."""
    requested = request.headers.get("range", "").strip()
    return _parse_range(requested, size) if _RANGE.fullmatch(requested) else (0, size)


def _parse_range(text: str, size: int) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    assert match is not None
    first, last = match.groups()
    if first:
        start, stop = _offset(first), min(_offset(last) + 1, size) if last else size
    else:
        start, stop = max(size - _offset(last or "0"), 0), size
    if start >= stop:
        raise Refusal(
            416, f"The range {text} is outside of the file of {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop


def _offset(digits: str) -> int:
    """Python converts no numbers of thousands of digits, and no file is that large."""
    return int(digits) if len(digits) <= 18 else 10**18


def _file_blocks(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (block := file.read(min(BLOCK, stop - start))):
            start += len(block)
            yield block


def _git_blocks(repository: Repository, oid: str, start: int, stop: int) -> Iterator[bytes]:
    """Read by git, because libgit2 holds a whole blob in memory, twice."""
    command = ["git", *FRUGAL, "cat-file", "blob", oid]
    variables = environment(GIT_DIR=str(repository.path))
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        position = 0
        while position < stop:
            block = process.stdout.read(min(BLOCK, stop - position))
            if not block:
                raise OSError(f"git can't read {oid} of {repository.name.id}")
            if position + len(block) > start:
                yield block[max(start - position, 0) :]
            position += len(block)
