"""Sends random and mutated requests to every route of a Hub: none may answer 500, drop the connection, take over two seconds,
or leave a repo that can't be read.

    python packages/localhub/tests/fuzz.py --minutes 10 --seed 1

It starts a Hub of its own, prints each fault with the request that showed it, and returns 1 if there was one. The seed decides
the requests, but for the ids in them that a Hub draws itself.
"""

import argparse
import base64
import http.client
import importlib
import json
import pkgutil
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import localhub.routes
from starlette.routing import Route

SECONDS = 2.0
ROUND = 400  # requests, after which the repos are read, deleted and made again
KINDS = ("model", "dataset", "space")
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256 of hello
NASTY_TEXTS = [
    "",
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "a/../b",
    "/",
    "//",
    "\\",
    "\0",
    "\n",
    "\x7f",
    "%",
    "%00",
    "é",
    "😀",
    "\u2028",
    "\ud800",
    "\udfff",
    ".git",
    ".g\u200cit",
    "git~1",
    "a.lock",
    "@{",
    "HEAD",
    "refs/heads/main",
    "refs/pr/1",
    "refs/pr/999",
    "refs/tags/v1",
    "-x",
    "~",
    "^",
    ":",
    "*",
    "?",
    "[",
    "[[:alpha:]",
    "*a" * 30,
    "**/" * 100,
    "x" * 300,
    "x/" * 400 + "x",
    "x" * 5000,
    "9" * 5000,
    "-1",
    "0",
    "1e999",
    "NaN",
    "²",
    "٣",
    "true",
    "null",
    "{}",
    "[]",
    "'",
    '"',
    "<script>",
    "bytes=0-",
    "0" * 40,
    "0" * 64,
    "a" * 40,
    "\r\nX: y",
]
NASTY_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53,
    2**63,
    10**100,
    10**4000,
    1.5,
    float("nan"),
    float("inf"),
    -0.0,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": {}}},
    ["a"] * 2000,
    "x" * 100_000,
    *NASTY_TEXTS,
]
FRONT_MATTER = [
    "license: mit",
    "tags: [a, b]",
    "x: .nan",
    "x: !!binary aGk=",
    "x: !!set {a, b}",
    "x: 2020-01-01",
    "x: &a [1]\ny: *a",
    'x: "\\ud800"',
    "- a",
    "a",
    "? [a]\n: b",
    "x: !!python/name:os.system",
    "x: !!int z",
    "x: 1:2:3",
    "x: 0x" + "f" * 9000,
    "license: [",
    "tags: 5",
    "model-index: [{}]",
    "configs: [{config_name: a, data_files: [{}]}]",
    "sdk: static\napp_file: ../x",
    "sdk: [static]",
    "models: [[a], {b: 1}]",
    "base_model: {a: b}",
    'custom_headers: {cross-origin-opener-policy: "a\\nb"}',
    "x: " + "[" * 60 + "]" * 60,
    "pipeline_tag: [1]",
    "language: no",
    "<<: {a: 1}",
    "\x01",
]
PATHS = ["README.md", ".gitattributes", ".gitignore", "a.txt", "dir/b.txt", "model.safetensors", "index.html", "dir", "ü.txt"]
QUERIES = [
    "recursive",
    "expand",
    "expand[]",
    "cursor",
    "limit",
    "p",
    "type",
    "status",
    "author",
    "search",
    "models",
    "full",
    "diff",
    "blobs",
]
QUERIES += ["create_pr", "include_prs", "service", "filter", "sort", "direction", "config", "securityStatus"]
HEADERS = [
    "Range",
    "If-Range",
    "If-None-Match",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Git-Protocol",
    "X-Request-Id",
    "Accept",
]

HEADER_VALUES = [
    "bytes=0-1",
    "bytes=-1",
    "bytes=9-1",
    "bytes=" + "9" * 5000 + "-",
    '"x"',
    "*",
    "gzip",
    "Bearer x",
    "Basic eDp5",
]
HEADER_VALUES += ["Basic é", "version=2", "text/plain", "application/json"]


@dataclass
class Fuzzer:
    """`faults`: what was found, as text; `answers`: how often each status came; `routes`: how often each route was asked.

    The requests are those of `token`, for repos of `owners` called one of `names`, and large files of `objects`.
    """

    url: str
    random: random.Random
    token: str = ""
    owners: Sequence[str] = ("me",) * 9 + ("Me",)
    names: Sequence[str] = ("repo",) * 9 + ("Repo", "moved")
    objects: Sequence[tuple[str, int]] = ((HELLO, 5),)
    faults: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    seen: list[str] = field(default_factory=list)  # commit ids and signed URLs, to be used in further requests

    def round(self, count: int) -> None:
        """`count` requests to repos that are made where they are missing, and a look at every repo that is then there."""
        for number in range(count):
            if number % 20 == 0:
                for kind in KINDS:
                    self._make(kind)
            self.any_request()
        self.read_all()
        for path in ("/api/collections", "/api/users/local/overview", "/api/users/local/likes"):
            if self._send("GET", path)[0] != 200:
                self.faults.append(f"unreadable: GET {path}")
        for kind, repo_id in self._repos():
            owner, _, name = repo_id.partition("/")
            self._send("DELETE", "/api/repos/delete", json.dumps({"organization": owner, "name": name, "type": kind}).encode())

    def read_all(self) -> None:
        """Everything that a client reads of a repo: each answer must be 200."""
        for kind, repo_id in self._repos():
            api = f"/api/{kind}s/{repo_id}"
            prefix = "" if kind == "model" else f"/{kind}s"
            paths = [
                api,
                f"{api}/tree/main?recursive=1&expand=1",
                f"{api}/commits/main",
                f"{api}/refs?include_prs=1",
                f"{api}/discussions",
                f"{api}/lfs-files",
                f"{api}/likers",
                f"{api}?expand=evalResults&expand=childrenModelCount" if kind == "model" else api,
            ]
            paths += [f"{prefix}/{repo_id}.git/info/refs?service=git-upload-pack"]
            for path in paths:
                status, body = self._send("GET", path)
                if status != 200:
                    self.faults.append(f"unreadable: GET {path} -> {status} {body[:200]!r}")
                elif path.endswith("/discussions"):
                    for item in json.loads(body)["discussions"]:
                        if self._send("GET", f"{path}/{item['num']}?diff=1")[0] >= 500:
                            self.faults.append(f"unreadable: discussion {item['num']} of {repo_id}")

    def _repos(self) -> Iterator[tuple[str, str]]:
        for kind in KINDS:
            status, body = self._send("GET", f"/api/{kind}s")
            if status != 200:
                self.faults.append(f"unreadable: GET /api/{kind}s -> {status}")
                continue
            yield from ((kind, item["id"]) for item in json.loads(body))

    def _make(self, kind: str) -> None:
        """A repo with files, a discussion and a pull request, unless it is there."""
        body: dict[str, Any] = {"name": "repo", "organization": "me", "type": kind}
        body = {**body, "sdk": "static"} if kind == "space" else body
        if self._send("POST", "/api/repos/create", json.dumps(body).encode())[0] != 200:
            return  # it is there
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "files"}}]
        lines += [{"key": "file", "value": {"path": path, "content": "aGVsbG8="}} for path in ("a.txt", "dir/b.txt")]
        self._send("POST", f"/api/{kind}s/me/repo/commit/main", b"\n".join(json.dumps(line).encode() for line in lines))
        for title in ("Discussion", "Pull request"):
            content = json.dumps({"title": title, "pullRequest": title == "Pull request"}).encode()
            self._send("POST", f"/api/{kind}s/me/repo/discussions", content)

    def any_request(self) -> None:
        pick = self.random
        route, host = pick.choice(ROUTES)
        self.routes[route.path] += 1
        method = (
            pick.choice(sorted(route.methods or {"GET"}))
            if pick.random() < 0.95
            else pick.choice(["GET", "POST", "PUT", "DELETE", "PATCH"])
        )
        path = re.sub(r"\{(\w+)(:\w+)?\}", lambda match: self._segment(match[1]), route.path)
        if pick.random() < 0.4:
            names = pick.choices(QUERIES, k=pick.randint(1, 3))
            path += "?" + "&".join(f"{name}={quote(self._query_value(name), safe='')}" for name in names)
        headers = {"Host": host.format(port=urlsplit(self.url).port)}
        if pick.random() < 0.2:
            headers[pick.choice(HEADERS)] = self._header_value()
        body = self._body(route.path) if method not in ("GET", "HEAD") or pick.random() < 0.02 else None
        self._send(method, path, body, headers)

    def _segment(self, name: str) -> str:
        pick = self.random
        if pick.random() < 0.1:
            return quote(_encodable(pick.choice(NASTY_TEXTS)), safe=pick.choice(["", "/"]))
        if name == "signed":
            signed = [text for text in self.seen if "." in text]
            return pick.choice(signed) if signed else "a.b"
        choices = {
            "kind": [f"{kind}s" for kind in KINDS],
            "owner": self.owners,
            "name": self.names,
            "revision": ["main"] * 5 + ["refs%2Fpr%2F2", "v1", "dev", *[text for text in self.seen if len(text) == 40][-3:]],
            "branch": ["main", "dev", "new"],
            "tag": ["v1", "v2"],
            "path": PATHS,
            "number": ["1", "2", "3"],
            "part": ["1", "2"],
            "comment": [f"{1:024x}", f"{2:024x}"],
            "user": ["local"] * 5 + ["me"],
            "status": ["pending", "accepted", "rejected"],
            "slug": ["a"] + [text for text in self.seen if _ID.search(text)],
            "item": ["a"] + [text for text in self.seen if _ID.fullmatch(text)],
            "file": [HELLO] * 3 + ["0" * 64],
        }.get(name, ["main", "a"])
        return quote(pick.choice(choices), safe="%/")

    def _query_value(self, name: str) -> str:
        if name == "service" and self.random.random() < 0.7:
            return "git-upload-pack"
        if self.random.random() < 0.5:
            return self.random.choice(
                ["1", "0", "true", "false", "2", "all", "open", "closed", "pull_request", "me", "repo", "tags", "sha"]
            )
        return _encodable(self.random.choice(NASTY_TEXTS))

    def _header_value(self) -> str:
        text = self.random.choice(HEADER_VALUES if self.random.random() < 0.7 else NASTY_TEXTS)
        return re.sub(r"[^\x20-\x7e\xa0-\xff]", "", text)

    def _body(self, path: str) -> bytes:
        pick = self.random
        if "{signed}" in path and pick.random() < 0.7:
            return pick.choice([b"hello", b"", b"x" * 1000])
        lines = self._commit() if path.endswith("/commit/{revision}") else [self._json(path)]
        for _ in range(pick.choice([0, 0, 0, 1, 1, 2])):
            line = pick.randrange(len(lines))
            lines[line] = self._mutated(lines[line])
        data = b"\n".join(json.dumps(line).encode() for line in lines)
        if path.endswith("/paths-info/{revision}") and pick.random() < 0.7:
            return "&".join(f"paths={quote(_encodable(pick.choice(PATHS + NASTY_TEXTS)), safe='')}" for _ in range(3)).encode()
        if path.endswith("/git-upload-pack") and pick.random() < 0.7:
            return pick.choice(
                [b"0000", b"0032want " + b"a" * 40 + b"\n00000009done\n", b"0014command=ls-refs\n0000", b"ffff", b"zzzz"]
            )
        if pick.random() < 0.1 and data:
            damaged = bytearray(data)
            for _ in range(pick.randint(1, 5)):
                damaged[pick.randrange(len(damaged))] = pick.randrange(256)
            return bytes(damaged)
        if pick.random() < 0.03:
            return pick.choice(
                [b"", b"null", b"[]", b"[" * 50_000, b'{"a":' * 50_000, b"\xff\xfe", b"1" * 6000, b"\x1f\x8b\x08\x00"]
            )
        return data

    def _mutated(self, value: Any) -> Any:
        pick = self.random
        if isinstance(value, dict) and value and pick.random() < 0.9:
            key = pick.choice(sorted(value))
            if pick.random() < 0.1:
                return {name: item for name, item in value.items() if name != key}
            return {**value, key: self._mutated(value[key])}
        if isinstance(value, list) and value and pick.random() < 0.8:
            place = pick.randrange(len(value))
            return [*value[:place], self._mutated(value[place]), *value[place + 1 :]]
        return pick.choice(NASTY_VALUES)

    def _readme(self) -> str:
        return "---\n" + "\n".join(self.random.choices(FRONT_MATTER, k=self.random.randint(1, 3))) + "\n---\n# Title\n"

    def _content(self, path: str) -> bytes:
        pick = self.random
        if path == "README.md":
            return self._readme().encode()
        if path in (".gitattributes", ".gitignore"):
            pattern = pick.choice(
                ["*a*a*a*a*a*a*a*ab", "*.txt", "dir/**", "[", "!x", "**/" * 50 + "x", _encodable(pick.choice(NASTY_TEXTS))]
            )
            return f"{pattern} filter=lfs\n".encode()
        return pick.choice(
            [
                b"",
                b"hello",
                b"\xff\x00\xfe",
                bytes(1000),
                b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n",
            ]
        )

    def _commit(self) -> list[Any]:
        pick = self.random
        header: dict[str, Any] = {"summary": "change", "description": pick.choice(["", "why"])}
        if pick.random() < 0.1:
            header["parentCommit"] = pick.choice(["0" * 40, *self.seen[-3:]])
        lines: list[Any] = [{"key": "header", "value": header}]
        for _ in range(pick.randint(0, 4)):
            path = pick.choice(PATHS) if pick.random() < 0.9 else pick.choice(NASTY_TEXTS)
            key = pick.choice(["file"] * 6 + ["lfsFile", "deletedFile", "deletedFolder"])
            content = base64.b64encode(self._content(path)).decode()
            value: dict[str, Any] = (
                {"path": path, "content": content, "encoding": "base64"} if key == "file" else {"path": path}
            )
            if key == "lfsFile":
                value |= self._object() | {"algo": "sha256"}
            lines.append({"key": key, "value": value})
        return lines

    def _json(self, path: str) -> Any:
        """A body that the route accepts, before it is mutated."""
        pick = self.random
        owner = pick.choice(self.owners)
        kind, last = pick.choice(KINDS), path.rstrip("/").rpartition("/")[2]
        bodies: dict[str, Any] = {
            "create": {
                "name": pick.choice(["repo", "other"]),
                "organization": owner,
                "type": kind,
                "sdk": "static",
                "visibility": "public",
            },
            "delete": {"name": pick.choice([*self.names, "other"]), "organization": owner, "type": kind},
            "move": {
                "fromRepo": f"{owner}/{pick.choice(self.names)}",
                "toRepo": f"{owner}/{pick.choice(['moved', 'repo'])}",
                "type": kind,
            },
            "settings": {"gated": pick.choice([False, "auto"]), "visibility": pick.choice(["public", "private"])},
            "validate-yaml": {"content": self._readme(), "repoType": kind},
            "discussions": {"title": "Title", "description": "text", "pullRequest": pick.random() < 0.5},
            "comment": {"comment": "text"},
            "edit": {"content": "text"},
            "title": {"title": "New title"},
            "status": {"status": pick.choice(["open", "closed"]), "comment": "text"},
            "merge": {"comment": "text"},
            "duplicate": {
                "repository": pick.choice(["me/other", "me/repo"]),
                "target": {"type": kind, "name": "me/repo"},
                "files": [{"sha256": HELLO, "filename": "a"}],
            },
            "handle": {"user": "local", "status": pick.choice(["pending", "accepted", "rejected"]), "rejectionReason": ""},
            "grant": {"user": "local"},
            "collections": {"title": pick.choice(["One", "Two"]), "description": "text", "private": False},
            "{slug}": {"title": pick.choice(["One", "Three"]), "theme": "pink", "position": 1},
            "items": {"item": {"type": kind, "id": "me/repo"}, "note": "text"},
            "{item}": {"position": pick.choice([0, 1]), "note": "text"},
            "batch": {
                "deletions": {"sha": [HELLO], "rewriteHistory": pick.random() < 0.5},
                "operation": pick.choice(["upload", "download"]),
                "transfers": ["basic", "multipart"],
                "objects": [self._object()],
            },
            "verify": self._object(),
            "token": {"grant_type": "a", "resource": "me/repo", "subject_token": "a.b.c"},
            "{signed}": {"oid": self._object()["oid"], "parts": []},
            "{branch}": {"startingPoint": pick.choice(["main", "v1"]), "message": "squash"},
        }
        if path.endswith("/preupload/{revision}"):
            files = [{"path": name, "size": 5, "sample": ""} for name in pick.sample(PATHS, 3)]
            return {"files": files, "gitIgnore": self._content(".gitignore").decode()}
        if path.endswith("/tag/{revision}"):
            return {"tag": pick.choice(["v1", "v2", "main"]), "message": pick.choice(["", "text"])}
        return bodies.get(last, {"a": "b"})

    def _object(self) -> dict[str, Any]:
        oid, size = self.random.choice(self.objects)
        return {"oid": oid, "size": size}

    def _check(self, request: str, status: int, headers: str, content: bytes) -> None:
        """Called with each answer."""

    def _send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        start = time.monotonic()
        headers = ({"Authorization": f"Bearer {self.token}"} if self.token else {}) | (headers or {})
        received = ""
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            status, received, content = response.status, str(response.headers), response.read()
        except (http.client.HTTPException, OSError) as error:
            status, content = 599, repr(error).encode()
        finally:
            connection.close()
        seconds = time.monotonic() - start
        self.answers[status] += 1
        self.slowest = max(self.slowest, seconds)
        # 503 asks for another try
        if status >= 500 and status != 503:
            self.faults.append(f"{status}: {method} {path[:300]} {headers} {(body or b'')[:600]!r} -> {content[:200]!r}")
        elif seconds > SECONDS:
            self.faults.append(f"{seconds:.1f} s: {method} {path[:300]} {headers} {(body or b'')[:600]!r}")
        self._check(f"{method} {path[:300]} {headers} {(body or b'')[:600]!r}", status, received, content)
        found = re.findall(r'"commitOid":"([0-9a-f]{40})"|/(?:lfs|xet)/\w+/([\w.-]+\.[\w-]+)', content.decode("latin-1"))
        self.seen += [commit or signed for commit, signed in found[:2]]
        in_collections = re.findall(r'"slug":"[^"/]*/([^"]*)"|"_id":"([0-9a-f]{24})"', content.decode("latin-1"))
        self.seen += [slug or item for slug, item in in_collections[:2]]
        del self.seen[:-40]
        return status, content


_ID = re.compile(r"[0-9a-f]{24}$")  # of a collection or an item of one


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _routes() -> list[tuple[Route, str]]:
    """Every route, with the Host header that it needs."""
    found = []
    for module in pkgutil.iter_modules(localhub.routes.__path__, "localhub.routes."):
        subject = importlib.import_module(module.name)
        found += [(route, "127.0.0.1:{port}") for route in getattr(subject, "routes", ())]
        found += [(route, "spaces.localhost:{port}") for route in getattr(subject, "site_routes", ())]
    return found


ROUTES = _routes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "localhub", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().split()[2].rstrip(",")
                fuzzer = Fuzzer(url, random.Random(arguments.seed))
                while time.monotonic() < end and process.poll() is None:
                    fuzzer.round(ROUND)
            finally:
                process.terminate()
        for repo in Path(folder).glob("*s/*/*.git"):
            if subprocess.run(["git", "-C", repo, "fsck", "--no-dangling"], check=False).returncode:
                fuzzer.faults.append(f"git fsck fails for {repo}")
    for fault in fuzzer.faults:
        print(fault)
    asked = sum(fuzzer.routes.values())
    print(f"seed {arguments.seed}: {fuzzer.answers.total()} requests, {asked} of them random, to {len(fuzzer.routes)} routes;")
    print(f"statuses {dict(sorted(fuzzer.answers.items()))}; slowest {fuzzer.slowest:.2f} s; {len(fuzzer.faults)} faults")
    return 1 if fuzzer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
