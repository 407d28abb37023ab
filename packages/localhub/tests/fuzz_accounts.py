"""As fuzz.py, to a Hub with accounts: no answer may also show anything of a private repo to those who may not read it.

    python packages/localhub/tests/fuzz_accounts.py --minutes 10 --seed 1

Everything in the private repos has a secret text in it: their files, names of files, cards, commits, branches, tags,
discussions, and the names of some of the repos themselves. The owner changes them, while others send random requests. No answer
to a stranger may have the secret in it, and no request of a stranger for a private repo may succeed. Files and changes of a
gated repo have a secret of their own.
"""

import argparse
import base64
import hashlib
import json
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz import KINDS, Fuzzer
from localhub import Account

PRIVATE, GATED = "hidden", "gated"
ACCOUNTS = {
    "hf_owner": Account("me", owns=frozenset({"me"})),
    "hf_reader": Account("me", role="read", owns=frozenset({"me"})),
    "hf_outsider": Account("you", owns=frozenset({"you"})),
    "hf_robot": Account("ci", role="fineGrained", owns=frozenset(), resources=frozenset({"me/public", "datasets/me/public"})),
}
LISTINGS = ["/", "/?p=1", "/api/settings/repositories", "/api/organizations/me/settings/repositories"]
LISTINGS += [f"/api/{kind}s{query}" for kind in KINDS for query in ("", "?full=1", "?author=me", "?search=hidden")]
LISTINGS += ["/api/models?expand=spaces", "/api/models/me/public?expand=spaces"]
LISTINGS += [f"/api/{kind}s/me/{GATED}/discussions/1?diff=1" for kind in KINDS]
LISTINGS += [f"/{prefix}me/{GATED}/discussions/1" for prefix in ("", "datasets/", "spaces/")]
_TO_PRIVATE = re.compile(rf"\w+ /(api/\w+/|datasets/|spaces/)?me/{PRIVATE}(\.git)?[/? ]", re.IGNORECASE)


@dataclass
class Visitor(Fuzzer):
    """Who sends requests. `secrets`: the texts that no answer may have, unless `may_read`; `shown`: the answers that had."""

    secrets: tuple[str, ...] = ()
    may_read: bool = False
    shown: int = 0

    def _check(self, request: str, status: int, headers: str, content: bytes) -> None:
        if any(secret.encode() in content or secret in headers for secret in self.secrets):
            self.shown += 1
            if not self.may_read:
                self.faults.append(f"shown to {self.token or 'nobody'}: {request} -> {status} {headers} {content[:600]!r}")
        if not self.may_read and status < 300 and _TO_PRIVATE.match(request):
            self.faults.append(f"answered to {self.token or 'nobody'}: {request} -> {status} {content[:200]!r}")

    def look(self) -> None:
        """All listings."""
        for path in LISTINGS:
            self._send("GET", path)


@dataclass
class Owner(Visitor):
    """Makes and changes the private repos."""

    numbers: Counter[str] = field(default_factory=Counter)
    commits: list[str] = field(default_factory=list)

    def make(self) -> None:
        for kind in KINDS:
            for name in ("public", GATED, PRIVATE, f"{self.secrets[0]}-a"):
                private = name not in ("public", GATED)
                body = {"name": name, "organization": "me", "type": kind, "sdk": "static"}
                self._ask("POST", "/api/repos/create", body | {"visibility": "private" if private else "public"})
                secret = self.secrets[0] if private else self.secrets[1] if name == GATED else "hello"
                self._fill(kind, name, secret, with_names=private)
            self._ask("PUT", f"/api/{kind}s/me/{GATED}/settings", {"gated": "manual"})
            self._ask(
                "POST", "/api/repos/move", {"fromRepo": f"me/{self.secrets[0]}-a", "toRepo": self._next(kind), "type": kind}
            )

    def change(self) -> None:
        """One change of a private repo."""
        kind, pick = self.random.choice(KINDS), self.random
        api = f"/api/{kind}s/me/{PRIVATE}"
        if pick.random() < 0.2:
            old = f"me/{self.secrets[0]}-{self.numbers[kind]}"
            self._ask("POST", "/api/repos/move", {"fromRepo": old, "toRepo": self._next(kind), "type": kind})
        elif pick.random() < 0.2:
            self._ask("PUT", f"{api}/settings", {"gated": pick.choice(["auto", False])})
        elif pick.random() < 0.2:
            self._ask("POST", f"{api}/super-squash/main", {"message": self.secrets[0]})
        else:
            self._commit_secret(kind, PRIVATE, self.secrets[0], pick.choice(["", "?create_pr=1"]), with_names=True)

    def _next(self, kind: str) -> str:
        self.numbers[kind] += 1
        return f"me/{self.secrets[0]}-{self.numbers[kind]}"

    def _fill(self, kind: str, name: str, secret: str, with_names: bool) -> None:
        api, shown = f"/api/{kind}s/me/{name}", secret if with_names else "hello"
        for query in ("", "?create_pr=1"):
            self._commit_secret(kind, name, secret, query, with_names)
        discussion = {"title": f"About {shown}", "description": shown}
        self._ask("POST", f"{api}/discussions", discussion)
        self._ask("POST", f"{api}/branch/{shown}", {})
        self._ask("POST", f"{api}/tag/main", {"tag": f"v-{shown}", "message": shown})

    def _commit_secret(self, kind: str, name: str, secret: str, query: str, with_names: bool) -> None:
        shown = secret if with_names else "hello"
        content = f"{secret} {self.random.randrange(100)}\n".encode()
        large = f"large {secret}".encode()
        oid = hashlib.sha256(large).hexdigest()
        prefix = "" if kind == "model" else f"{kind}s/"
        batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(large)}]}
        answer = self._ask("POST", f"/{prefix}me/{name}.git/info/lfs/objects/batch", batch)
        for item in answer["objects"]:
            if "actions" in item:
                self._send("PUT", item["actions"]["upload"]["href"].removeprefix(self.url), large)
        card = f"---\nlicense: mit\ntags: [{shown}]\nsdk: static\ntitle: {shown}\n---\n# {shown}\n"
        files = {"README.md": card.encode(), "a.txt": content, f"{shown}/b.txt": content}
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": f"Add {shown}", "description": shown}}]
        for path, data in files.items():
            value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
            lines.append({"key": "file", "value": value})
        lines.append({"key": "lfsFile", "value": {"path": "large.bin", "algo": "sha256", "oid": oid, "size": len(large)}})
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        status, made = self._send("POST", f"/api/{kind}s/me/{name}/commit/main{query}", body)
        assert status == 200, made
        self.commits.append(json.loads(made)["commitOid"])

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        status, content = self._send(method, path, json.dumps(body).encode())
        assert status == 200, (method, path, body, content)
        found: dict[str, Any] = json.loads(content)
        return found


@dataclass
class Crowd:
    """The owner, those who may read what is private, and strangers, who know the names, commits and hashes of it."""

    owner: Owner
    reader: Visitor
    strangers: list[Visitor]

    @classmethod
    def at(cls, url: str, seed: int) -> "Crowd":
        pick = random.Random(seed)
        private, gated = f"p{secrets.token_hex(8)}", f"g{secrets.token_hex(8)}"
        large = f"large {private}".encode()
        known: dict[str, Any] = {
            "owners": ("me",) * 8 + ("ME", "you"),
            "names": (PRIVATE,) * 4 + (GATED, "public", "repo", PRIVATE.title()),
            "objects": ((hashlib.sha256(large).hexdigest(), len(large)),),
            "secrets": (private, gated),
        }
        owner = Owner(url, pick, "hf_owner", secrets=(private, gated), may_read=True)
        reader = Visitor(url, pick, "hf_reader", **known, may_read=True)
        strangers = [Visitor(url, pick, token, **known) for token in ("", "hf_outsider", "hf_robot")]
        owner.make()
        return cls(owner, reader, strangers)

    def round(self, count: int) -> None:
        """`count` requests, and then a look at all that is there."""
        pick = self.owner.random
        for _ in range(count):
            if pick.random() < 0.05:
                self.owner.change()
            visitor = pick.choice([self.reader, *self.strangers])
            if pick.random() < 0.1:
                visitor.seen.append(pick.choice(self.owner.commits))
            visitor.any_request()
        for visitor in (self.reader, *self.strangers):
            visitor.look()
        self.owner.read_all()

    @property
    def everybody(self) -> list[Visitor]:
        return [self.owner, self.reader, *self.strangers]

    @property
    def faults(self) -> list[str]:
        return [fault for one in self.everybody for fault in one.faults]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.minutes * 60
    rounds: list[Crowd] = []
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            options = ["--user", "me:hf_owner", "--user", "me:hf_reader:read", "--user", "you:hf_outsider"]
            options += ["--user", "ci:hf_robot:fine-grained=me/public,datasets/me/public"]
            # a new Hub after some rounds: the histories become long
            command = [sys.executable, "-m", "localhub", "--dir", f"{folder}/{len(rounds)}", *options]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                try:
                    assert process.stdout is not None
                    url = process.stdout.readline().split()[2].rstrip(",")
                    crowd = Crowd.at(url, arguments.seed + len(rounds))
                    rounds.append(crowd)
                    for _ in range(5):
                        if time.monotonic() < end:
                            crowd.round(400)
                finally:
                    process.terminate()
            for repo in Path(folder, str(len(rounds) - 1)).glob("*s/*/*.git"):
                if subprocess.run(["git", "-C", repo, "fsck", "--no-dangling"], check=False, capture_output=True).returncode:
                    crowd.owner.faults.append(f"git fsck fails for {repo}")
    faults = [fault for crowd in rounds for fault in crowd.faults]
    everybody = [one for crowd in rounds for one in crowd.everybody]
    for fault in faults:
        print(fault)
    statuses = sum((one.answers for one in everybody), Counter())
    routes = {path for one in everybody for path in one.routes}
    print(f"seed {arguments.seed}: {statuses.total()} requests, to {len(routes)} routes;")
    print(f"secrets shown to those who may read them {sum(one.shown for one in everybody)} times; statuses", end=" ")
    print(f"{dict(sorted(statuses.items()))}; slowest {max(one.slowest for one in everybody):.2f} s; {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
