"""huggingface_hub's own tests against a local Hub: how many of those that use a Hub pass, and why the others do not.

    python benchmarks/client_suite.py --client 2.4.0 [--source PATH_OR_URL] [--commit COMMIT] [--json FILE] [TEST ...]

Clones the repository of the client, takes the tests of a commit, puts the URL of a local Hub in place of the public ones, and
runs them with an installed version of the client. No assertion changes. A test counts as judged if it sends a request to the
Hub and is not skipped. Returns 1 if a judged test fails for another reason than those that are listed here.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from localhub import Account, LocalHub, Organisation

SOURCE = "https://github.com/huggingface/huggingface_hub"
COMMIT = "ee0a4510f4bc15e26cb722be2efc2bdb01383ca0"  # main of 2026-08-20, version 1.29.0.dev0
CONSTANTS = "testing_constants.py"
STAGING, PRODUCTION = "https://hub-ci.huggingface.co", "https://huggingface.co"
PACKAGES = ("fsspec", "jinja2", "pytest", "pytest-asyncio", "pytest-env", "pytest-mock", "pytest-timeout", "pytest-vcr")
# the files with tests of repos; others test inference, jobs, or the client alone
FILES = (
    *("auth", "cache_layout", "cli", "cli_discussions", "commit_api", "commit_scheduler", "copy_files", "eval_results"),
    *("file_download", "hf_api", "hf_file_system", "hub_mixin", "hub_mixin_pytorch", "kernels", "repocard"),
    *("snapshot_download", "tree_cache", "upload_large_folder", "upload_pipeline", "utils_cache", "utils_http"),
    *("verification", "xet_download", "xet_upload"),
)
# what localhub does not have: these tests can't judge it
ABSENT = {
    "*TestWebhookApi*": "webhooks",
    "*bucket*": "buckets",
    "*test_copy_files.py::test_cp_*": "buckets",
    "*test_kernels.py*": "kernels",
}
REASONS = {
    "*LargeUpload::test_upload_large_folder*": "this version has no `upload_large_folder`",
}
# the users of the staging Hub, by the constants that have their tokens
ACCOUNTS = {
    "TOKEN": Account("__DUMMY_HUB_USER__", owns=frozenset({"__DUMMY_HUB_USER__", "valid_org_hub"}), fullname="Dummy User"),
    "OTHER_TOKEN": Account("DVUser", owns=frozenset({"DVUser"})),
    "ENTERPRISE_TOKEN": Account("EnterpriseAdmin", owns=frozenset({"EnterpriseAdmin", "EnterpriseOrgPrivate"})),
}
ORGANISATIONS = (
    Organisation("valid_org_hub", fullname="Dummy Hub Org"),
    Organisation("EnterpriseOrgPrivate", private=True),
)
# counts the requests of each test to the Hub, and writes its outcome as a line of JSON
PLUGIN = """
import collections, importlib, json, os, pathlib, re, sys
import pytest

try:
    import httpx
except ImportError:  # clients from 2.0 on; the tests import the older name
    import httpx2 as httpx
    sys.modules.update({"httpx" + name[6:]: found for name, found in list(sys.modules.items()) if name.startswith("httpx2")})

URL = os.environ["HF_ENDPOINT"]
requests, current = collections.Counter(), [None]
send = httpx.Client.send

def counted(self, request, *rest, **options):
    if str(request.url) == "https://huggingface.co/api/validate-yaml":  # versions 1.x have no constant for it
        request.url = httpx.URL(URL + "/api/validate-yaml")
        request.headers["host"] = request.url.netloc.decode()
    requests[current[0]] += str(request.url).startswith(URL)
    return send(self, request, *rest, **options)

httpx.Client.send = counted
results = open(os.environ["RESULTS"], "a")

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    current[0] = item.nodeid
    return (yield)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or report.outcome != "passed":
        text = str(report.longrepr)[-2000:] if report.longrepr else ""
        line = {"id": item.nodeid, "outcome": report.outcome, "requests": requests[item.nodeid], "text": text}
        print(json.dumps(line), file=results, flush=True)
    return report

# names that this version of the client does not have: only the tests that use them fail, not all of their file
for path in pathlib.Path("tests").glob("test_*.py"):
    imports = r"^from (huggingface_hub[\\w.]*) import \\(?([^)]*?)(?:\\)|\\n(?=\\S))"
    for module, names in re.findall(imports, path.read_text(), re.M):
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        for name in re.findall(r"^\\s*(\\w+)", names.replace(",", "\\n"), re.M):
            if not hasattr(found, name):
                try:
                    importlib.import_module(f"{module}.{name}")
                except ImportError:
                    setattr(found, name, None)
"""


@dataclass(frozen=True)
class Outcome:
    id: str
    outcome: str
    requests: int
    text: str

    @property
    def absent(self) -> str | None:
        """What the test asks for, if localhub does not have it."""
        return _matching(ABSENT, self.id) or ("buckets" if "/api/buckets" in self.text else None)

    @property
    def is_judged(self) -> bool:
        return self.requests > 0 and self.outcome != "skipped" and not (self.outcome == "failed" and self.absent)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", default="2.4.0", metavar="VERSION", help="version of huggingface_hub (%(default)s)")
    parser.add_argument("--python", type=Path, help="interpreter that has the client and pytest; without it, one is made")
    parser.add_argument("--source", default=SOURCE, help="repository with the tests, as a path or URL (%(default)s)")
    parser.add_argument("--commit", default=COMMIT, help="commit of the tests (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the outcome of each test to")
    parser.add_argument("--minutes", type=float, default=20, help="stop the tests after this time (%(default)s)")
    parser.add_argument("tests", nargs="*", help="files or tests, instead of all those of repos")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        python = arguments.python.absolute() if arguments.python else install(folder / "venv", arguments.client)
        tests = arguments.tests or [f"tests/test_{name}.py" for name in FILES]
        checkout(arguments.source, arguments.commit, folder / "suite")
        accounts = accounts_of(folder / "suite")
        with LocalHub(folder / "hub", accounts=accounts, organisations=ORGANISATIONS) as hub:
            adapt(folder / "suite", hub.url)
            outcomes = run(python, folder, hub.url, tests, arguments.minutes)
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(one) for one in outcomes], indent=2) + "\n")
    return report(arguments.client, outcomes)


def install(folder: Path, version: str) -> Path:
    """A virtual environment with this version of the client; returns its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"huggingface_hub[hf_xet]=={version}", *PACKAGES], check=True)
    return python


def checkout(source: str, commit: str, folder: Path) -> None:
    """The tests of a commit, without its package: that of the version under test is used."""
    subprocess.run(["git", "clone", "-q", "--no-checkout", source, folder], check=True)
    subprocess.run(["git", "-C", folder, "checkout", "-q", commit, "--", "tests", "pyproject.toml"], check=True)


def accounts_of(folder: Path) -> dict[str, Account]:
    """The users by the tokens that the tests in `folder` have for them."""
    constants = (folder / "tests" / CONSTANTS).read_text()
    tokens = dict(re.findall(r'^(\w*TOKEN) = "([^"]+)"', constants, re.MULTILINE))
    return {tokens[name]: account for name, account in ACCOUNTS.items() if name in tokens}


def adapt(folder: Path, url: str) -> None:
    for path in (folder / "tests").glob("*.py"):
        text = path.read_text()
        if path.name == CONSTANTS:
            text = text.replace(f'"{PRODUCTION}"', f'"{url}"')
        path.write_text(text.replace(STAGING, url))


def run(python: Path, folder: Path, url: str, tests: list[str], minutes: float) -> list[Outcome]:
    """The outcome of each test, the worst of its parts. Tests of public repos (`production`) are left out."""
    (folder / "localhub_counts.py").write_text(PLUGIN)
    results = folder / "results.jsonl"
    results.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": url, "RESULTS": str(results), "PYTHONPATH": str(folder), "HF_HOME": str(folder / "home")}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
    options = ["-p", "localhub_counts", "-p", "no:cacheprovider", "-o", "addopts=", "-q", "--timeout", "60", "-W", "ignore"]
    # it starts processes, which would run the tests again
    options += [
        "-m",
        "not production",
        "--deselect",
        "tests/test_hf_file_system.py::test_cache",
        "--continue-on-collection-errors",
    ]
    command = [str(python), "-m", "pytest", *options, *tests]
    try:
        subprocess.run(command, cwd=folder / "suite", env=environment, timeout=minutes * 60)
    except subprocess.TimeoutExpired:
        print(f"The tests did not finish in {minutes} minutes", file=sys.stderr)
    found: dict[str, Outcome] = {}
    for line in results.read_text().splitlines():
        outcome = Outcome(**json.loads(line))
        if outcome.id not in found or found[outcome.id].outcome != "failed":
            found[outcome.id] = outcome
    return list(found.values())


def report(client: str, outcomes: list[Outcome]) -> int:
    """Prints the table; returns 1 for a failure without a known reason."""
    judged = [one for one in outcomes if one.is_judged]
    failed = [one for one in judged if one.outcome == "failed"]
    print("\n| huggingface_hub | Judged | Passed | Failed |\n|---|---|---|---|")
    reasons = [f"`{one.id.rpartition('::')[2]}`: {_matching(REASONS, one.id) or 'unknown'}" for one in failed]
    print(f"| {client} | {len(judged)} | {len(judged) - len(failed)} | {'; '.join(reasons)} |")
    others = Counter(_not_judged(one) for one in outcomes if not one.is_judged)
    print("\nNot judged: " + (", ".join(f"{count} {reason}" for reason, count in others.most_common()) or "none"))
    unknown = [one for one in failed if _matching(REASONS, one.id) is None]
    for one in unknown:
        print(f"\n{one.id}\n{one.text}")
    return 1 if unknown or not judged else 0


def _not_judged(one: Outcome) -> str:
    if one.outcome == "skipped":
        return "skipped"
    return f"asked for {one.absent}" if one.requests and one.absent else "sent no request to the Hub"


def _matching(patterns: dict[str, str], test: str) -> str | None:
    return next((text for pattern, text in patterns.items() if fnmatch(test, pattern)), None)


if __name__ == "__main__":
    sys.exit(main())
