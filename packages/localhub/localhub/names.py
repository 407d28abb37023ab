"""Validation of names in requests: repos, paths in a repo, refs. A valid name is safe to use in a file path."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

import pygit2

from .refusal import Refusal, bad_request, invalid_path

KINDS = ("model", "dataset", "space")
MAX_PATH_LENGTH = 1024
MAX_NAME_LENGTH = 255  # bytes
COMMIT_ID = re.compile(r"[0-9a-f]{40}")
SHORT_COMMIT_ID = re.compile(r"[0-9a-f]{7,39}")
OBJECT_ID = re.compile(r"[0-9a-f]{64}")
_SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
# owners with these names would conflict with the Hub's own routes
_RESERVED_OWNERS = frozenset({"api", "models", "datasets", "spaces", "lfs", "oauth"})
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
# Some file systems ignore them, so that `.g<U+200C>it` is `.git`: git refuses such names (core.protectHFS)
_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_GIT_FOLDER = re.compile(r"\.git[. ]*(:.*)?|git~1[. ]*(:.*)?", re.IGNORECASE | re.ASCII)  # also as on NTFS
MAX_REF_LENGTH = 250  # bytes: a ref is a file


@dataclass(frozen=True, order=True)
class RepoName:
    """The validated kind (`model`, `dataset`, `space`), owner and name of a repo."""

    kind: str
    owner: str
    name: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise bad_request(f"Invalid repo type {self.kind!r}: expected model, dataset or space")
        for segment in (self.owner, self.name):
            if not _SEGMENT.fullmatch(segment) or ".." in segment or "--" in segment or segment.lower().endswith(".git"):
                raise bad_request(f"Invalid repo id {self.owner!r}/{self.name!r}: letters, digits, '-', '_' and '.' only")
        if self.owner.lower() in _RESERVED_OWNERS:
            raise bad_request(f"{self.owner!r} is not available as an owner")

    @property
    def id(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def resource(self) -> str:
        """The name in URLs and in the scope of a token: `owner/name`, `datasets/owner/name`."""
        return self.id if self.kind == "model" else f"{self.kind}s/{self.id}"

    @property
    def git_folder(self) -> PurePosixPath:
        return PurePosixPath(f"{self.kind}s", self.owner, f"{self.name}.git")


def parse_repo_id(kind: str, repo_id: str) -> RepoName:
    """`owner/name` of a kind. Raises Refusal (400)."""
    owner, slash, name = repo_id.partition("/")
    if not slash:
        raise bad_request(f"Invalid repo id {repo_id!r}: expected owner/name")
    return RepoName(kind, owner, name)


def parse_resource(resource: str) -> RepoName:
    """`owner/name`, `datasets/owner/name` or `spaces/owner/name`. Raises Refusal (400)."""
    prefix, _, rest = resource.partition("/")
    if prefix in ("datasets", "spaces"):
        return parse_repo_id(prefix.removesuffix("s"), rest)
    return parse_repo_id("model", resource)


def parse_kind(plural: str) -> str:
    """`models` -> `model`. Raises Refusal (404) for other words, which are APIs that this Hub does not implement."""
    kind = plural.removesuffix("s")
    if kind not in KINDS or plural != f"{kind}s":
        raise Refusal(404, f"Unknown API: {plural}")
    return kind


def parse_path(path: str) -> str:
    """The path of a file or folder in a repo. Raises Refusal (422) for a path that is ambiguous to git or a file system."""
    parts = path.split("/")
    if len(path) > MAX_PATH_LENGTH or _CONTROL_CHARACTER.search(path):
        raise invalid_path(f"Invalid path {path!r}")
    if any(part in ("", ".", "..") or part.endswith(" ") or _is_git_folder(part) for part in parts):
        raise invalid_path(f"Invalid path {path!r}: empty segments, '.', '..' and '.git' are not allowed")
    if any(len(part.encode("utf-8", "replace")) > MAX_NAME_LENGTH for part in parts):
        raise invalid_path(
            f"Invalid path {path!r}: a name is longer than {MAX_NAME_LENGTH} bytes, so no file system can store it"
        )
    # On Windows a backslash separates folders. The Hub allows it, but not a path that begins with one that leads out.
    if path.startswith(("\\", ".\\", "..\\")) or ".git" in path.lower().replace("\\", "/").split("/"):
        raise invalid_path(f"Invalid path {path!r}: it leads out of the repo on Windows")
    return path


def _is_git_folder(name: str) -> bool:
    return _GIT_FOLDER.fullmatch(name.translate(_IGNORED)) is not None


def is_ref(ref: str) -> bool:
    """Whether a full ref such as `refs/heads/x` is a name that git allows, and a file system can hold."""
    return "\0" not in ref and len(ref.encode()) <= MAX_REF_LENGTH and bool(pygit2.reference_is_valid_name(ref))


def parse_ref(namespace: str, name: str) -> str:
    """`refs/heads/x` of `refs/heads/` and `x`. Raises Refusal (400) for a name that git does not allow."""
    ref = f"{namespace}{name}"
    noun = "tag" if namespace == "refs/tags/" else "branch"
    # a branch named like a commit or a ref would hide it
    looks_like_another = COMMIT_ID.fullmatch(name) or name.startswith("refs/") or name == "HEAD"
    if looks_like_another or name.startswith("-") or "\\" in name or not is_ref(ref):
        raise bad_request(f"Invalid reference for a {noun}: {name!r}")
    return ref
