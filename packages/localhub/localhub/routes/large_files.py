"""The git-lfs protocol: batch (URLs for uploads and downloads), the transfers, and verify.

A transfer comes without a token, as to a storage service: its URL is signed and short-lived, and says all about it.
"""

import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..content import content_response, in_file
from ..lfs import BLOCK, PartWriter, assembled, check_object, object_path, object_size, publish
from ..names import OBJECT_ID, RepoName, parse_resource
from ..refusal import Refusal, bad_request
from ..signing import SignatureError, sign, verify
from ..storage import Storage
from ..tree import Pointer
from ..web import (
    Json,
    endpoint_of,
    number_field,
    open_repo,
    parameter,
    repo_name,
    state_of,
    text_field,
    with_json,
)

UPLOAD, DOWNLOAD = "upload", "download"
LIFETIME = 24 * 3600  # seconds: enough for a large file over a slow connection
MAX_PARTS = 10_000
MAX_OBJECTS = 1000  # in one request
MAX_URLS = 50_000  # in one response
_MEDIA_TYPE = "application/vnd.git-lfs+json"


@dataclass(frozen=True)
class Transfer:
    """The claims of a signed URL. `upload`: file name under `incoming/`; `chunk_size`: bytes per part."""

    resource: str
    oid: str
    size: int
    upload: str = ""
    chunk_size: int = 0

    @property
    def repo(self) -> RepoName:
        return parse_resource(self.resource)

    @property
    def pointer(self) -> Pointer:
        return Pointer(self.oid, self.size)

    def part(self, number: int) -> tuple[int, int]:
        """Offset and length of part 1, 2, ... in bytes. Raises Refusal (400) for other numbers."""
        offset = (number - 1) * self.chunk_size
        if number < 1 or offset >= max(self.size, 1):
            raise bad_request(f"No such part: {number}")
        return offset, min(self.chunk_size, self.size - offset)


def batch(request: Request, body: Json) -> Response:
    operation = text_field(body, "operation")
    if operation not in (UPLOAD, DOWNLOAD):
        raise bad_request(f"Unknown operation {operation!r}")
    # users who may open a pull request may upload objects; without a commit, an object has no effect
    repository = open_repo(request, "discuss" if operation == UPLOAD else "files")
    objects = body.get("objects")
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise bad_request("objects: expected a list")
    if body.get("hash_algo", "sha256") not in ("sha256", "sha_256"):  # huggingface.js writes it with an underscore
        raise Refusal(409, "The only supported hash algorithm is sha256")
    if len(objects) > MAX_OBJECTS:
        raise Refusal(413, f"objects: at most {MAX_OBJECTS} in one request")
    transfers = body.get("transfers")
    takes_multipart = isinstance(transfers, list) and "multipart" in transfers
    threshold = state_of(request).limits.multipart_threshold
    # one transfer for all objects of an answer: the agent of `hf lfs-enable-largefiles` sends the small ones in parts too
    in_parts = takes_multipart and any(number_field(item, "size") > threshold for item in objects)
    answers, parts = [], 0
    for item in objects:
        pointer = Pointer(text_field(item, "oid"), number_field(item, "size"))
        if not OBJECT_ID.fullmatch(pointer.oid):
            raise bad_request(f"oid: expected a sha256, not {pointer.oid!r}")
        answer: Json = asdict(pointer)
        present = object_size(repository, pointer.oid)
        if operation == DOWNLOAD and present is None:
            answer["error"] = {"code": 404, "message": "The object does not exist"}
        elif operation == DOWNLOAD:
            transfer = Transfer(repository.name.resource, pointer.oid, present or 0)
            answer["authenticated"] = True  # without this, git-lfs asks for credentials
            answer["actions"] = {"download": {"href": _href(request, DOWNLOAD, transfer), "header": {}}}
        elif present is not None and present != pointer.size:
            answer["error"] = {"code": 422, "message": f"This object has {present} bytes, expected {pointer.size}"}
        elif present is None:
            answer["actions"] = _upload_actions(request, pointer, in_parts)
            parts += len(answer["actions"]["upload"]["header"])
            if parts > MAX_URLS:
                raise Refusal(413, f"The objects have more than {MAX_URLS} parts: ask for fewer at once")
        # no `actions`: the object exists already
        answers.append(answer)
    answer = {"transfer": "multipart" if parts else "basic", "objects": answers, "hash_algo": "sha256"}
    return JSONResponse(answer, media_type=_MEDIA_TYPE)


def verify_upload(request: Request, body: Json) -> Response:
    repository = open_repo(request, "discuss")
    oid = text_field(body, "oid")
    if not OBJECT_ID.fullmatch(oid):
        raise bad_request(f"oid: expected a sha256, not {oid!r}")
    check_object(repository, Pointer(oid, number_field(body, "size")))
    return JSONResponse({})


async def put_whole(request: Request) -> Response:
    """The basic transfer: one PUT, which also completes the upload."""
    hub, transfer = state_of(request), _transfer(request, UPLOAD)
    staged = hub.storage.incoming / transfer.upload
    writer = await run_in_threadpool(PartWriter, staged, 0, transfer.size, whole=True)
    try:
        digest = await _receive(request, writer)
        await run_in_threadpool(_publish, hub.storage, transfer, digest)
    finally:
        writer.close()
    return Response(headers={"ETag": f'"{digest}"'})


async def put_part(request: Request) -> Response:
    hub, transfer = state_of(request), _transfer(request, UPLOAD)
    offset, length = transfer.part(request.path_params["part"])
    writer = await run_in_threadpool(PartWriter, hub.storage.incoming / transfer.upload, offset, length, whole=False)
    try:
        digest = await _receive(request, writer)
    finally:
        writer.close()
    return Response(headers={"ETag": f'"{digest}"'})


def complete(request: Request, body: Json) -> Response:
    """Completes a multipart upload. The sha256 of the whole file is verified, so the parts' ETags are not.

    A completion that is sent again, because its answer was lost, finds the object in its place.
    """
    storage, transfer = state_of(request).storage, _transfer(request, UPLOAD)
    if body.get("oid") != transfer.oid:
        raise bad_request("oid: does not match this upload")
    try:
        with assembled(storage.incoming / transfer.upload) as digest:
            _publish(storage, transfer, digest)
    except FileNotFoundError:
        check_object(storage.open(transfer.repo), transfer.pointer)
    return JSONResponse({})


def download(request: Request) -> Response:
    transfer = _transfer(request, DOWNLOAD)
    repository = state_of(request).storage.open(transfer.repo)
    if object_size(repository, transfer.oid) != transfer.size:
        raise Refusal(404, "The object does not exist any more")  # the repo was deleted and created again
    content = in_file(object_path(repository, transfer.oid))
    return content_response(request, content, transfer.size, {"ETag": f'"{transfer.oid}"'})


def _upload_actions(request: Request, pointer: Pointer, in_parts: bool) -> Json:
    limits, name = state_of(request).limits, repo_name(request)
    upload = f"upload-{secrets.token_hex(16)}"
    header: dict[str, str] = {}
    if in_parts:
        # a larger file has larger parts, because the number of parts in a response is limited
        chunk_size = max(limits.chunk_size, -(-pointer.size // MAX_PARTS))
        href = _href(request, UPLOAD, Transfer(name.resource, pointer.oid, pointer.size, upload, chunk_size))
        count = max(1, -(-pointer.size // chunk_size))
        header = {"chunk_size": str(chunk_size)} | {str(part): f"{href}/{part}" for part in range(1, count + 1)}
    else:
        href = _href(request, UPLOAD, Transfer(name.resource, pointer.oid, pointer.size, upload))
    verify_href = f"{endpoint_of(request)}/{name.resource}.git/info/lfs/objects/verify"
    return {"upload": {"href": href, "header": header}, "verify": {"href": verify_href, "header": {}}}


async def _receive(request: Request, writer: PartWriter) -> str:
    async for block in blocks_of(request):
        await run_in_threadpool(writer.write, block)
    return await run_in_threadpool(writer.finish)


async def blocks_of(request: Request) -> AsyncIterator[bytes]:
    """The body in blocks that are large enough to be passed to a thread."""
    buffer = bytearray()
    async for piece in request.stream():
        buffer += piece
        if len(buffer) >= BLOCK:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _publish(storage: Storage, transfer: Transfer, digest: str) -> None:
    with storage.change(transfer.repo) as repository:
        publish(repository, storage.incoming / transfer.upload, digest, transfer.pointer)


def _href(request: Request, use: str, transfer: Transfer) -> str:
    return f"{endpoint_of(request)}/lfs/{use}/{sign(state_of(request).storage.secret, use, asdict(transfer), LIFETIME)}"


def _transfer(request: Request, use: str) -> Transfer:
    try:
        claims: dict[str, Any] = verify(state_of(request).storage.secret, use, parameter(request, "signed"))
    except SignatureError as error:
        raise Refusal(403, f"This URL is not valid: {error}") from None
    return Transfer(**{key: value for key, value in claims.items() if key in Transfer.__dataclass_fields__})


routes = [
    Route("/lfs/upload/{signed}", put_whole, methods=["PUT"]),
    Route("/lfs/upload/{signed}", with_json(complete), methods=["POST"]),
    Route("/lfs/upload/{signed}/{part:number}", put_part, methods=["PUT"]),
    Route("/lfs/download/{signed}", download, methods=["GET", "HEAD"]),
    *(
        Route(prefix + "/{owner}/{name}.git/info/lfs/objects/" + verb, with_json(handler), methods=["POST"])
        for prefix in ("/{kind:prefix}", "")
        for verb, handler in (("batch", batch), ("verify", verify_upload))
    ),
]
