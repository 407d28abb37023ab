"""Requests for a repo id without an owner, such as `gpt2`: this Hub has no such repos, and says so as the client expects it."""

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..refusal import repo_not_found
from ..web import state_of


class _Text(Convertor[str]):
    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Kinds(_Text):
    regex = "models|datasets|spaces"


class _Endpoint(_Text):
    """The segment that follows the id of a repo."""

    regex = (
        "revision|tree|paths-info|commits|refs|preupload|commit|branch|tag|super-squash|"
        "discussions|settings|auth-check|likers|like|lfs-files|duplicate|user-access-request|xet-read-token|resolve"
    )


register_url_convertor("kinds", _Kinds())
register_url_convertor("endpoint", _Endpoint())
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]


def missing(request: Request) -> Response:
    raise repo_not_found(state_of(request).accounts.identify(request) is not None)


routes = [
    Route("/api/{kind:kinds}/{name}", missing, methods=_METHODS),
    Route("/api/{kind:kinds}/{name}/{endpoint:endpoint}", missing, methods=_METHODS),
    Route("/api/{kind:kinds}/{name}/{endpoint:endpoint}/{rest:path}", missing, methods=_METHODS),
]
prefixed_files = Route("/{kind:prefix}/{name}/resolve/{rest:path}", missing, methods=["GET", "HEAD"])
files = Route("/{name}/resolve/{rest:path}", missing, methods=["GET", "HEAD"])
