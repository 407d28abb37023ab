"""Uploads and downloads by Xet, which huggingface_hub uses whenever hf_xet is installed.

The client asks for a write token, sends xorbs (files of chunks) and then shards, which say what files they make up. A shard
turns into large files at once. Each token starts an upload of its own, with a URL of its own: the client remembers for each
URL which chunks it has sent, and does not send them again.

A download starts with a read token, too: the client asks for a plan of a file, and gets the xorbs that the plan names.
"""

import secrets
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..content import content_response, requested_range
from ..lfs import PartWriter, object_path, object_size, publish
from ..names import OBJECT_ID, RepoName, parse_resource
from ..refusal import Refusal, bad_request
from ..signing import SignatureError, sign, verify
from ..storage import Storage
from ..web import body_of, endpoint_of, open_repo, parameter, state_of
from ..xet import MAX_SHARD_SIZE, MAX_XORB_SIZE, XetFile, Xorbs, read_shard
from ..xet_download import plan, xorb_content, xorb_size
from .large_files import blocks_of
from .uploads import open_for_commit

XET, XET_READ, XET_FILE = "xet", "xet-read", "xet-file"
LIFETIME = 3600  # seconds


def write_token(request: Request) -> Response:
    """For those who may commit to the revision in the path, or open a pull request."""
    repository = open_for_commit(request)
    upload = secrets.token_hex(16)
    claims = {"resource": repository.name.resource, "upload": upload}
    return _token(sign(state_of(request).storage.secret, XET, claims, LIFETIME), f"{endpoint_of(request)}/xet/{upload}")


def read_token(request: Request) -> Response:
    repository = open_repo(request, "files")
    repository.resolve(parameter(request, "revision"))
    token = sign(state_of(request).storage.secret, XET_READ, {"resource": repository.name.resource}, LIFETIME)
    return _token(token, f"{endpoint_of(request)}/xet/read")


def _token(token: str, url: str) -> Response:
    expires = int(time.time()) + LIFETIME
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
    return JSONResponse({"casUrl": url, "accessToken": token, "exp": expires}, headers=headers)


def reconstruction(request: Request) -> Response:
    """How to put a file together, or the range of it that the request names."""
    storage, claims = state_of(request).storage, _claims(request, XET_READ)
    repo, oid = parse_resource(str(claims["resource"])), parameter(request, "file")
    size = object_size(storage.open(repo), oid) if OBJECT_ID.fullmatch(oid) else None
    if not size:
        raise Refusal(404, "No such file")
    start, stop = requested_range(request, size)
    signed = sign(storage.secret, XET_FILE, {"resource": repo.resource, "oid": oid}, LIFETIME)
    return JSONResponse(plan(oid, size, start, stop, f"{endpoint_of(request)}/xet/xorb/{signed}"))


def get_xorb(request: Request) -> Response:
    """It comes without a token, as from a storage service."""
    storage, number = state_of(request).storage, request.path_params["number"]
    try:
        claims = verify(storage.secret, XET_FILE, parameter(request, "signed"))
    except SignatureError as error:
        raise Refusal(403, f"This URL is not valid: {error}") from None
    repository, oid = storage.open(parse_resource(str(claims["resource"]))), str(claims["oid"])
    size = xorb_size(object_size(repository, oid) or 0, number)
    if not size:
        raise Refusal(404, "No such xorb")
    content = partial(xorb_content, object_path(repository, oid), number)
    return content_response(request, content, size, {"ETag": f'"{oid}-{number}"'})


def find_chunk(request: Request) -> Response:
    """Whether others have uploaded a chunk: never, because chunks are not kept."""
    _upload(request)
    raise Refusal(404, "No such chunk")


async def put_xorb(request: Request) -> Response:
    _, folder = _upload(request)
    name = parameter(request, "xorb")
    if not OBJECT_ID.fullmatch(name):
        raise bad_request(f"xorb: expected 64 digits, not {name!r}")
    await run_in_threadpool(folder.mkdir, exist_ok=True)
    aside, size = folder / f"{name}.{secrets.token_hex(8)}", 0
    file = await run_in_threadpool(aside.open, "wb")
    try:
        with file:
            async for block in blocks_of(request):
                size += len(block)
                if size > MAX_XORB_SIZE:
                    raise Refusal(413, f"A xorb may have at most {MAX_XORB_SIZE} bytes")
                await run_in_threadpool(file.write, block)
        await run_in_threadpool(aside.rename, folder / name)
    finally:
        await run_in_threadpool(aside.unlink, missing_ok=True)
    return JSONResponse({"was_inserted": True})


async def put_shard(request: Request) -> Response:
    repo, folder = _upload(request)
    shard = await body_of(request, MAX_SHARD_SIZE)
    await run_in_threadpool(_publish, state_of(request).storage, repo, folder, shard)
    return JSONResponse({"result": 1})


def _publish(storage: Storage, repo: RepoName, folder: Path, shard: bytes) -> None:
    files, xorbs = read_shard(shard), Xorbs(folder)
    for file in files:
        _store(storage, repo, xorbs, file)
    xorbs.delete(files)
    with suppress(OSError):  # it has others, or the shard was sent again
        folder.rmdir()


def _store(storage: Storage, repo: RepoName, xorbs: Xorbs, file: XetFile) -> None:
    if object_size(storage.open(repo), file.pointer.oid) == file.pointer.size:
        return
    staged = storage.incoming / f"upload-{secrets.token_hex(16)}"
    writer = PartWriter(staged, 0, file.pointer.size, whole=True)
    try:
        for chunk in xorbs.content(file):
            writer.write(chunk)
        digest = writer.finish()
        with storage.change(repo) as repository:
            publish(repository, staged, digest, file.pointer)
    finally:
        writer.close()
        staged.unlink(missing_ok=True)


def _upload(request: Request) -> tuple[RepoName, Path]:
    """The repo of an upload and the folder of its xorbs. Raises Refusal (401) unless the token is for the URL."""
    storage, claims = state_of(request).storage, _claims(request, XET)
    upload = str(claims["upload"])
    if parameter(request, "upload") != upload:
        raise Refusal(401, "This token is not valid for uploads: it is for another one")
    return parse_resource(str(claims["resource"])), storage.incoming / f"xet-{upload}"


def _claims(request: Request, use: str) -> dict[str, str | int]:
    """Those of the token of a request. Raises Refusal (401)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        return verify(state_of(request).storage.secret, use, token.strip() if scheme.lower() == "bearer" else "")
    except SignatureError as error:
        raise Refusal(401, f"This token is not valid for {_PURPOSES[use]}: {error}") from None


_PURPOSES = {XET: "uploads", XET_READ: "downloads"}
routes = [
    Route("/api/{kind}/{owner}/{name}/xet-read-token/{revision}", read_token, methods=["GET"]),
    Route("/xet/read/v1/reconstructions/{file}", reconstruction, methods=["GET"]),
    Route("/xet/xorb/{signed}/{number:number}", get_xorb, methods=["GET", "HEAD"]),
    Route("/api/{kind}/{owner}/{name}/xet-write-token/{revision}", write_token, methods=["GET"]),
    Route("/xet/{upload}/v1/chunks/{prefix}/{chunk}", find_chunk, methods=["GET"]),
    Route("/xet/{upload}/v1/xorbs/{prefix}/{xorb}", put_xorb, methods=["POST"]),
    Route("/xet/{upload}/v1/shards", put_shard, methods=["POST"]),
]
