"""`git clone` over smart HTTP, read-only, by git's upload-pack."""

import asyncio
import os
import zlib
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..lfs import BLOCK
from ..refusal import Refusal, bad_request, forbidden
from ..repository import Repository
from ..web import body_of, open_repo

_SERVICE = "git-upload-pack"
_NO_CACHE = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
MAX_REQUEST = 32 * 1024 * 1024


async def advertise(request: Request) -> Response:
    service = request.query_params.get("service")
    if service != _SERVICE:
        # a push would bypass the checks of the commit API
        raise forbidden("git push is not supported: upload with huggingface_hub")
    repository = await run_in_threadpool(open_repo, request, "files")
    announcement = f"# service={_SERVICE}\n"
    prefix = f"{len(announcement) + 4:04x}{announcement}0000".encode()
    media_type = f"application/x-{_SERVICE}-advertisement"
    return StreamingResponse(_upload_pack(request, repository, prefix, None), media_type=media_type, headers=_NO_CACHE)


async def upload_pack(request: Request) -> Response:
    repository = await run_in_threadpool(open_repo, request, "files")
    body = await body_of(request, MAX_REQUEST)
    if request.headers.get("content-encoding") == "gzip":
        body = await run_in_threadpool(_unzipped, body)
    return StreamingResponse(
        _upload_pack(request, repository, b"", body), media_type=f"application/x-{_SERVICE}-result", headers=_NO_CACHE
    )


async def _upload_pack(request: Request, repository: Repository, prefix: bytes, body: bytes | None) -> AsyncIterator[bytes]:
    """The output of upload-pack; if `body` is None, its list of refs. It ends when the client disconnects."""
    # GIT_PROTOCOL passes the client's request for protocol version 2 to git
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
    }
    process = await asyncio.create_subprocess_exec(
        "git",
        "-c",
        f"safe.directory={repository.path}",
        "upload-pack",
        "--stateless-rpc",
        *(["--http-backend-info-refs"] if body is None else []),
        str(repository.path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    feeding = asyncio.create_task(_feed(process.stdin, body or b""))
    try:
        if prefix:
            yield prefix
        while block := await process.stdout.read(BLOCK):
            yield block
        await feeding
    finally:
        feeding.cancel()
        if process.returncode is None and not process.stdout.at_eof():
            process.kill()
        await process.wait()


async def _feed(pipe: asyncio.StreamWriter, body: bytes) -> None:
    """Runs concurrently with reading git's output: git may write before it has read everything, which would deadlock."""
    try:
        pipe.write(body)
        await pipe.drain()
    except ConnectionError:
        pass
    finally:
        pipe.close()


def _unzipped(body: bytes) -> bytes:
    try:
        unzipper = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        text = unzipper.decompress(body, MAX_REQUEST)
    except zlib.error:
        raise bad_request("The request is not valid gzip") from None
    if unzipper.unconsumed_tail:
        raise Refusal(413, f"The request is larger than {MAX_REQUEST} bytes")
    return text


async def receive_pack(_: Request) -> Response:
    raise forbidden("git push is not supported: upload with huggingface_hub")


routes = [
    Route(prefix + "/{owner}/{name}" + suffix + path, handler, methods=methods)
    for prefix in ("/{kind:prefix}", "")
    for suffix in (".git", "")
    for path, handler, methods in (
        ("/info/refs", advertise, ["GET"]),
        (f"/{_SERVICE}", upload_pack, ["POST"]),
        ("/git-receive-pack", receive_pack, ["POST"]),
    )
]
