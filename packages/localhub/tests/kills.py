"""Kills a Hub while clients write to it, and checks that it has every acknowledged write, with its content.

    python packages/localhub/tests/kills.py [--kills 12] [--seconds 3] [--seed 1] [--json FILE]

A server in a process of its own; eight clients, each in one too, with two repos that they share: huggingface_hub commits
regular files, LFS files and Xet files, makes branches and tags, opens and merges pull requests, comments, creates, moves and
deletes repos; git pushes. The server and its children get SIGKILL at random moments, `--seconds` apart on average, and it is
started again on the same folder. A client notes each write before it begins and when it is acknowledged.

At the end: every acknowledged write is there, every file has its content, of each other write all is there or nothing, every
repo passes `git fsck --full --strict`, every repo can be written, and a day later nothing is left of the killed requests.
Prints a table, and returns 1 if there was a loss.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOS = (("model", "me/model"), ("dataset", "me/data"))
DAY = 25 * 3600  # seconds
PATIENCE = 60  # seconds, for a server to start


def content(path: str, size: int) -> bytes:
    return random.Random(path).randbytes(size)


class Log:
    """The writes of one client, in a file: one line when a write begins, one when it is acknowledged."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._count = 0

    def write(self, what: str, do: Callable[[], Any], **facts: Any) -> Any:
        """`do` returns further facts, for the acknowledgement."""
        self._count += 1
        self._put({"number": self._count, "what": what, **facts})
        answer = do()
        self._put({"number": self._count, "answer": answer})
        return answer

    def _put(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


@dataclass
class Client:
    """One process that writes until it is stopped. `name` is in all that it makes, so no two make the same."""

    url: str
    name: str
    folder: Path
    log: Log = field(init=False)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        from huggingface_hub import HfApi

        self.api = HfApi(self.url, token=False)
        self.log = Log(self.folder / f"{self.name}.log")
        self.rng = random.Random(self.name)
        self.made = 0

    def run(self) -> None:
        act: Callable[[], None] = getattr(self, self.name.partition("-")[0])
        while not (self.folder / "stop").exists():
            try:
                act()
            except Exception as error:  # of httpx, or of hf_xet in Rust: the server is down
                self._expect(error)

    def _expect(self, error: Exception) -> None:
        """A server that is down refuses connections or drops them. It answers no 500."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        with (self.folder / f"{self.name}.errors").open("a") as file:
            file.write(json.dumps({"status": status, "error": f"{type(error).__name__}: {error}"[:500]}) + "\n")
        time.sleep(0.1)

    def _new(self) -> str:
        self.made += 1
        return f"{self.name}-{self.made}"

    def _files(self, suffix: str, *sizes: int) -> dict[str, int]:
        """New paths, with the sizes of their content."""
        stem = self._new()
        return {f"{self.name}/{stem}-{number}.{suffix}": size for number, size in enumerate(sizes)}

    def _commit(self, what: str, files: dict[str, int], **options: Any) -> Any:
        from huggingface_hub import CommitOperationAdd

        kind, repo = self.rng.choice(REPOS)
        operations = [CommitOperationAdd(path, content(path, size)) for path, size in files.items()]

        def do() -> dict[str, Any]:
            info = self.api.create_commit(repo, operations, repo_type=kind, commit_message=what, **options)
            return {"commit": info.oid, "pull_request": info.pr_num}

        answer = self.log.write(what, do, kind=kind, repo=repo, files=files)
        return kind, repo, answer

    def regular(self) -> None:
        self._commit("commit of regular files", self._files("txt", 100, 5_000, self.rng.choice((50_000, 3_000_000))))

    def lfs(self) -> None:
        self._commit("commit of LFS files", self._files("safetensors", 300_000, self.rng.choice((10_000, 8_000_000))))

    def xet(self) -> None:
        self._commit("commit of Xet files", self._files("safetensors", 300_000, self.rng.choice((10_000, 8_000_000))))

    def references(self) -> None:
        kind, repo = self.rng.choice(REPOS)
        name = self._new()
        head = self.api.repo_info(repo, repo_type=kind).sha
        where = {"kind": kind, "repo": repo, "name": name, "commit": head}
        self.log.write("branch", lambda: self.api.create_branch(repo, branch=name, revision=head, repo_type=kind), **where)
        tag = f"v-{name}"
        where["name"] = tag
        self.log.write("tag", lambda: self.api.create_tag(repo, tag=tag, revision=head, repo_type=kind), **where)
        if self.rng.random() < 0.3:
            where["name"] = name
            self.log.write("branch deletion", lambda: self.api.delete_branch(repo, branch=name, repo_type=kind), **where)

    def merges(self) -> None:
        files = self._files("txt", 200, 20_000)
        kind, repo, made = self._commit("pull request", files, create_pr=True)
        number = made["pull_request"]
        where = {"kind": kind, "repo": repo, "pull_request": number}
        text = self._new()

        def comment() -> None:
            self.api.comment_discussion(repo, number, comment=text, repo_type=kind)

        self.log.write("comment", comment, **where, text=text)
        self.log.write(
            "merge", lambda: self.api.merge_pull_request(repo, number, repo_type=kind) and None, **where, files=files
        )

    def repos(self) -> None:
        name, moved = f"{self.name}/{self._new()}", f"{self.name}/{self._new()}"
        self.log.write("repo", lambda: self.api.create_repo(name) and None, kind="model", repo=name)
        self.log.write("move", lambda: self.api.move_repo(name, moved), kind="model", repo=name, target=moved)
        if self.rng.random() < 0.5:
            self.log.write("repo deletion", lambda: self.api.delete_repo(moved), kind="model", repo=moved)

    def pushes(self) -> None:
        """To a new branch, and sometimes to main, where others may be faster."""
        clone = self.folder / f"clone-{self.name}"
        if not (clone / ".git").exists():
            shutil.rmtree(clone, ignore_errors=True)
            git("clone", "-q", f"{self.url}/me/model", str(clone))
        files = self._files("txt", 100, self.rng.choice((50_000, 2_000_000)))
        branch = "main" if self.rng.random() < 0.2 else self._new()
        git("-C", str(clone), "fetch", "-q", "origin", "main")
        git("-C", str(clone), "checkout", "-q", "--detach", "FETCH_HEAD")
        for path, size in files.items():
            (clone / path).parent.mkdir(exist_ok=True)
            (clone / path).write_bytes(content(path, size))
        git("-C", str(clone), "add", "-A")
        git("-C", str(clone), "commit", "-q", "-m", "Pushed")
        head = git("-C", str(clone), "rev-parse", "HEAD").strip()

        def push() -> dict[str, str]:
            git("-C", str(clone), "push", "-q", "origin", f"HEAD:refs/heads/{branch}")
            return {"commit": head}

        self.log.write("git push", push, kind="model", repo="me/model", files=files, branch=branch)


def git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    environment |= {f"GIT_{role}_{part}": "me" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *arguments], check=True, env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout


CLIENTS = ("regular-a", "regular-b", "lfs", "xet", "references", "merges", "repos", "pushes")


class Server:
    """On a port that stays the same. Its children are in its process group."""

    def __init__(self, folder: Path, errors: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.errors = folder, errors
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "localhub", "--dir", str(self.folder), "--port", str(self.port)]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, text=True)
        assert self.process.stdout is not None
        if "Hub at" not in self.process.stdout.readline():
            raise RuntimeError(f"The server did not start: {self.errors.read_text()}")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="between two kills, on average (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (%(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the counts to")
    parser.add_argument("--client", nargs=3, metavar=("NAME", "URL", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        name, url, folder = arguments.client
        Client(url, name, Path(folder)).run()
        return 0
    with tempfile.TemporaryDirectory() as place:
        attempted, acknowledged, losses = torture(Path(place), arguments.kills, arguments.seconds, arguments.seed)
    print("| Write | Attempted | Acknowledged |\n|---|---|---|")
    for what in attempted:
        print(f"| {what} | {attempted[what]} | {acknowledged[what]} |")
    print(f"| all | {attempted.total()} | {acknowledged.total()} |")
    for loss in losses:
        print(f"LOST: {loss}")
    print(f"{arguments.kills} kills, {acknowledged.total()} acknowledged writes, {len(losses)} losses")
    if arguments.json:
        arguments.json.write_text(json.dumps({"acknowledged": acknowledged, "attempted": attempted, "losses": losses}))
    return 1 if losses else 0


def torture(
    place: Path, kills: int, seconds: float, seed: int, names: Sequence[str] = CLIENTS
) -> tuple[Counter[str], Counter[str], list[str]]:
    """Attempted and acknowledged writes by kind, and what is lost or wrong."""
    from huggingface_hub import HfApi

    clients, hub = place / "clients", place / "hub"
    clients.mkdir()
    server = Server(hub, place / "server.log")
    for kind, repo in REPOS:
        HfApi(server.url, token=False).create_repo(repo, repo_type=kind)
    processes, rng = [], random.Random(seed)
    try:
        for name in names:
            environment = os.environ | {
                "HF_HUB_DISABLE_XET": "0" if name == "xet" else "1",
                "HF_HOME": str(place / f"home-{name}"),
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            }
            command = [sys.executable, __file__, "--client", name, server.url, str(clients)]
            log = (clients / f"{name}.stderr").open("wb")
            processes.append(subprocess.Popen(command, env=environment, stderr=log, stdout=log))
        wait_for_all(clients, names)
        for _ in range(kills):
            time.sleep(rng.uniform(0.1, 2 * seconds))
            server.kill()
            server.start()
        time.sleep(min(seconds, 1))
        server.kill()
        (clients / "stop").touch()
        server.start()  # a client may be waiting for an answer
        for process in processes:
            process.wait(PATIENCE * 4)
    finally:
        for process in processes:
            process.kill()
        server.kill()
    writes = list(read_logs(clients))
    losses = [
        f"{path.stem}: {line}"
        for path in clients.glob("*.errors")
        for line in map(json.loads, path.read_text().splitlines())
        if line["status"] and line["status"] >= 500 and line["status"] != 503
    ]
    losses += [
        f"{path.stem}: {path.read_text()[-500:]}" for path in clients.glob("*.stderr") if "Traceback" in path.read_text()
    ]
    server.start()
    try:
        losses += Check(HfApi(server.url, token=False), hub, writes).losses()
    finally:
        server.kill()
    losses += left_after_a_day(hub, server)
    attempted = Counter(str(write["what"]) for write in writes)
    return attempted, Counter(str(write["what"]) for write in writes if "answer" in write), losses


def wait_for_all(folder: Path, names: Sequence[str]) -> None:
    """Until each client has an acknowledged write. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not {path.stem for path in folder.glob("*.log") if '"answer"' in path.read_text()} >= set(names):
        if time.monotonic() > deadline:
            raise TimeoutError("a client has no acknowledged write")
        time.sleep(0.05)


def read_logs(folder: Path) -> Iterator[dict[str, Any]]:
    """All writes, of one client in their order. Acknowledged are those with an `answer`."""
    for path in sorted(folder.glob("*.log")):
        writes: dict[int, dict[str, Any]] = {}
        for line in map(json.loads, path.read_text().splitlines()):
            writes.setdefault(line["number"], {}).update(line)
        yield from writes.values()


class Check:
    """What a Hub has, compared with what was written."""

    def __init__(self, api: Any, folder: Path, writes: list[dict[str, Any]]) -> None:
        self._api, self._folder, self._writes = api, folder, writes

    def losses(self) -> list[str]:
        found: list[str] = []
        for check in (self._lost, self._half_written, self._broken):
            try:
                found.extend(check())
            except Exception as error:  # whatever the client raises
                found.append(f"the Hub can't be read: {error}")
        return found

    def _lost(self) -> Iterator[str]:
        deleted = {(one["repo"], one["name"]) for one in self._writes if one["what"] == "branch deletion"}
        gone = {one["repo"] for one in self._writes if one["what"] in ("move", "repo deletion")}
        for write in self._writes:
            if "answer" not in write:
                continue
            what, repo, kind = write["what"], write["repo"], write["kind"]
            try:
                if what.startswith(("commit", "pull request", "git push")):
                    lost = not self._has_commit(write)
                elif what == "branch":
                    lost = (repo, write["name"]) not in deleted and not self._has_ref(write, "refs/heads/")
                elif what == "tag":
                    lost = not self._has_ref(write, "refs/tags/")
                elif what == "branch deletion":
                    lost = self._has_ref(write, "refs/heads/")
                elif what == "comment":
                    events = self._api.get_discussion_details(repo, write["pull_request"], repo_type=kind).events
                    lost = write["text"] not in [getattr(event, "content", None) for event in events]
                elif what == "merge":
                    details = self._api.get_discussion_details(repo, write["pull_request"], repo_type=kind)
                    lost = details.status != "merged" or not self._has_files(write, "main")
                elif what == "repo":
                    lost = repo not in gone and not self._path(kind, repo).is_dir()
                elif what == "move":
                    found = self._path(kind, write["target"]).is_dir() or write["target"] in gone
                    lost = not found or self._path(kind, repo).exists()
                else:
                    lost = self._path(kind, repo).exists()
            except Exception as error:  # whatever the client raises, the write is not there as it should be
                yield f"{write}: {error}"
            else:
                if lost:
                    yield str(write)

    def _has_commit(self, write: dict[str, Any]) -> bool:
        """It is reachable from its branch, and has its files; they are on the branch too, since no path is used twice."""
        commit = write["answer"]["commit"]
        number = write["answer"].get("pull_request")
        branch = f"refs/pr/{number}" if number else f"refs/heads/{write.get('branch', 'main')}"
        path = self._path(write["kind"], write["repo"])
        git("-C", str(path), "merge-base", "--is-ancestor", commit, branch)  # raises if it is not
        return self._has_files(write, commit) and self._has_files(write, branch.removeprefix("refs/heads/"))

    def _has_files(self, write: dict[str, Any], revision: str) -> bool:
        """By HTTP, as every client reads them."""
        return all(
            self._read(write["kind"], write["repo"], revision, path) == content(path, size)
            for path, size in write["files"].items()
        )

    def _read(self, kind: str, repo: str, revision: str, path: str) -> bytes | None:
        """None if the Hub has no such file, or can't read it."""
        from urllib.error import HTTPError
        from urllib.parse import quote
        from urllib.request import urlopen

        prefix = "" if kind == "model" else f"{kind}s/"
        try:
            url = f"{self._api.endpoint}/{prefix}{repo}/resolve/{quote(revision, safe='')}/{path}"
            with urlopen(url) as answer:  # noqa: S310 - of this Hub
                return bytes(answer.read())
        except HTTPError:
            return None

    def _has_ref(self, write: dict[str, Any], namespace: str) -> bool:
        path = self._path(write["kind"], write["repo"])
        refs = dict(line.split()[::-1] for line in git("-C", str(path), "show-ref").splitlines())
        return refs.get(namespace + write["name"]) == write["commit"]

    def _path(self, kind: str, repo: str) -> Path:
        return self._folder / f"{kind}s" / f"{repo}.git"

    def _half_written(self) -> Iterator[str]:
        """Of each write, whether acknowledged or not, all files are on main or none, and each has its content."""
        for kind, repo in REPOS:
            on_main = set(self._api.list_repo_files(repo, repo_type=kind)) - {".gitattributes"}
            for write in self._writes:
                files = write.get("files", {})
                if (write["repo"], write["kind"]) != (repo, kind) or not on_main & files.keys():
                    continue
                if not files.keys() <= on_main or not self._has_files(write, "main"):
                    yield f"half of it is on main: {write}"
            on_main -= {path for write in self._writes for path in write.get("files", ())}
            if on_main:
                yield f"{repo} has files that nobody wrote: {sorted(on_main)[:5]}"

    def _broken(self) -> Iterator[str]:
        for repo in sorted(self._folder.glob("*s/*/*.git")):
            try:
                git("-C", str(repo), "fsck", "--full", "--strict", "--no-dangling")
            except subprocess.CalledProcessError as error:
                yield f"git fsck {repo.relative_to(self._folder)}: {error.stderr[-500:]}"
        for kind, repo in REPOS:
            for ref in self._api.list_repo_refs(repo, repo_type=kind).branches:
                try:
                    self._api.upload_file(
                        repo_id=repo, repo_type=kind, path_or_fileobj=b"x", path_in_repo="after.txt", revision=ref.name
                    )
                except Exception as error:
                    yield f"{repo} {ref.name} can't be written: {error}"


def left_after_a_day(hub: Path, server: Server) -> Iterator[str]:
    """What a server leaves that starts when everything is a day old, but for the files of git, of the repos and of locks."""
    for path in hub.rglob("*"):
        if path.exists() and not path.is_symlink():
            os.utime(path, (time.time() - DAY,) * 2)
    server.start()
    server.kill()
    for path in (hub / "incoming").iterdir():
        yield f"left: {path}"
    for repo in hub.glob("*s/*/*.git"):
        for path in repo.rglob("*"):
            is_pack_without_index = path.parent.name == "pack" and not path.with_suffix(".idx").exists()
            if path.name.startswith((".", "tmp_")) or "_git2_" in path.name or is_pack_without_index:
                yield f"left: {path}"


if __name__ == "__main__":
    sys.exit(main())
