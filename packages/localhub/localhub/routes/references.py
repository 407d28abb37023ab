"""Branches, tags, and squashing the history of a branch."""

import time

from pygit2.enums import ObjectType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..discussions import check_may_commit
from ..names import is_ref, parse_ref
from ..refusal import Refusal, revision_not_found
from ..repository import MAIN
from ..web import Json, open_repo, parameter, repo_name, signed_in, state_of, text_field, with_json

_SPECIAL_REFS = ("refs/pr/", "refs/convert/")


def create_branch(request: Request, body: Json) -> Response:
    """A branch of a commit, or an empty one. With `overwrite` it may exist, and moves if the request says where."""
    open_repo(request, "write")
    ref = parse_ref("refs/heads/", parameter(request, "branch"))
    with state_of(request).storage.change(repo_name(request)) as repository:
        exists, empty = repository.head(ref) is not None, body.get("emptyBranch") is True
        if exists and body.get("overwrite") is not True:
            raise Refusal(409, f"Reference {ref} already exists")
        if empty:
            tree = repository.git.TreeBuilder().write()
            repository.set_ref(ref, repository.write_commit(tree, [], "initial commit", signed_in(request).name).id)
        elif not exists or body.get("startingPoint") is not None:
            repository.set_ref(ref, repository.resolve(text_field(body, "startingPoint", "main")).id)
    return JSONResponse({"ref": ref})


def delete_branch(request: Request) -> Response:
    open_repo(request, "write")
    ref = parse_ref("refs/heads/", parameter(request, "branch"))
    if ref == MAIN:
        raise Refusal(400, f"Cannot delete {MAIN}")
    return _delete(request, ref)


def create_tag(request: Request, body: Json) -> Response:
    open_repo(request, "write").resolve(parameter(request, "revision"))  # the Hub looks for it before it reads the name
    ref = parse_ref("refs/tags/", text_field(body, "tag"))
    message = text_field(body, "message", "")
    account = signed_in(request)
    with state_of(request).storage.change(repo_name(request)) as repository:
        if repository.head(ref) is not None:
            raise Refusal(409, f"Tag reference exists already: {ref}")
        target = repository.resolve(parameter(request, "revision")).id
        if message:
            # the tag object first and the ref last, as for commits
            tagger = f"{account.name} <{account.name}@localhub.invalid> {int(time.time())} +0000"
            text = f"object {target}\ntype commit\ntag {ref.removeprefix('refs/tags/')}\ntagger {tagger}\n\n{message}\n"
            target = repository.git.odb.write(ObjectType.TAG, text.encode())
        repository.set_ref(ref, target)
    return JSONResponse({"ref": ref})


def delete_tag(request: Request) -> Response:
    open_repo(request, "write")
    return _delete(request, parse_ref("refs/tags/", parameter(request, "tag")))


def super_squash(request: Request, body: Json) -> Response:
    """Squash a branch, or a ref that a client names in full: a pull request, or a conversion (refs/convert/parquet)."""
    open_repo(request, "write")
    revision = parameter(request, "branch")
    if not revision.startswith(_SPECIAL_REFS):
        ref = parse_ref("refs/heads/", revision)
    elif is_ref(revision):
        ref = revision
    else:
        raise revision_not_found(revision)
    account = signed_in(request)
    message = text_field(body, "message", "") or "Super-squash history"
    with state_of(request).storage.change(repo_name(request)) as repository:
        head = repository.head(ref)
        if head is None:
            raise revision_not_found(revision)
        check_may_commit(repository, ref, account)
        commit = repository.write_commit(head.tree.id, [], message, account.name)
        repository.set_ref(ref, commit.id)
    return JSONResponse({"commitOid": str(commit.id)})


def _delete(request: Request, ref: str) -> Response:
    with state_of(request).storage.change(repo_name(request)) as repository:
        if repository.head(ref) is None:
            raise revision_not_found(ref)
        repository.delete_ref(ref)
    return JSONResponse({})


_API = "/api/{kind}/{owner}/{name}"
routes = [
    Route(_API + "/branch/{branch}", with_json(create_branch), methods=["POST"]),
    Route(_API + "/branch/{branch}", delete_branch, methods=["DELETE"]),
    Route(_API + "/tag/{revision}", with_json(create_tag), methods=["POST"]),
    Route(_API + "/tag/{tag}", delete_tag, methods=["DELETE"]),
    Route(_API + "/super-squash/{branch}", with_json(super_squash), methods=["POST"]),
]
