"""`git clone` and `git push` over smart HTTP. Clones are served by git's upload-pack; for pushes, see push.py."""

import asyncio
import secrets
import shutil
import zlib
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..git_program import FRUGAL, environment
from ..lfs import BLOCK
from ..push import advertisement, receive
from ..refusal import Refusal, bad_request, forbidden
from ..repository import Repository
from ..web import body_of, open_repo, repo_name, signed_in, state_of
from .large_files import blocks_of

_SERVICE, _PUSH = "git-upload-pack", "git-receive-pack"
_NO_CACHE = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
MAX_REQUEST = 32 * 1024 * 1024
MAX_PUSH = 5 * 1024**3  # bytes


async def advertise(request: Request) -> Response:
    service = request.query_params.get("service")
    if service == _PUSH:
        # every user may push to their own pull requests: which refs are allowed, receive_pack checks
        repository = await run_in_threadpool(open_repo, request, "discuss")
        refs = await run_in_threadpool(advertisement, repository)
        return Response(refs, media_type=f"application/x-{_PUSH}-advertisement", headers=_NO_CACHE)
    if service != _SERVICE:
        raise forbidden("git's dumb HTTP protocol is not supported")
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
    process = await asyncio.create_subprocess_exec(
        "git",
        *FRUGAL,
        "-c",
        f"safe.directory={repository.path}",
        "-c",
        "uploadpack.allowFilter=true",  # for clones without files, git clone --filter=blob:none
        "upload-pack",
        "--stateless-rpc",
        *(["--http-backend-info-refs"] if body is None else []),
        str(repository.path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(GIT_PROTOCOL=request.headers.get("git-protocol", "")),
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


async def receive_pack(request: Request) -> Response:
    await run_in_threadpool(open_repo, request, "discuss")
    account, storage = signed_in(request), state_of(request).storage
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "Content-Encoding: not supported for a push")
    folder = storage.incoming / f"push-{secrets.token_hex(16)}"
    folder.mkdir()
    try:
        # unbuffered: git reads on from where the commands end
        with (folder / "request").open("w+b", buffering=0) as file:
            size = 0
            async for block in blocks_of(request):
                size += len(block)
                if size > MAX_PUSH:
                    raise Refusal(413, f"The push is larger than {MAX_PUSH} bytes")
                await run_in_threadpool(file.write, block)
            file.seek(0)
            report = await run_in_threadpool(receive, storage, repo_name(request), account, file, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Response(report, media_type=f"application/x-{_PUSH}-result", headers=_NO_CACHE)


routes = [
    Route(prefix + "/{owner}/{name}" + suffix + path, handler, methods=methods)
    for prefix in ("/{kind:prefix}", "")
    for suffix in (".git", "")
    for path, handler, methods in (
        ("/info/refs", advertise, ["GET"]),
        (f"/{_SERVICE}", upload_pack, ["POST"]),
        (f"/{_PUSH}", receive_pack, ["POST"]),
    )
]
