"""README.md: its table has every endpoint, with a test that exists, and its versions are those of the tests."""

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from localhub.app import ROUTES
from localhub.routes.ownerless import missing

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def rows_below(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = itertools.takewhile(lambda line: line.startswith("|"), section[section.index("\n|") + 1 :].splitlines())
    _, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in table)
    return rows


def endpoints() -> set[str]:
    """`GET /{repo}/discussions`, as the README writes it, for each route."""
    found = set()
    for route in ROUTES:
        if route.endpoint is missing:  # no endpoint, but the error for an id without an owner
            continue
        path = route.path.replace("/api/{kind}/{owner}/{name}", "/api/{kind}/{id}")
        path = path.replace("/spaces/{owner}/{name}", "/spaces/{id}")
        path = path.replace("/{kind:prefix}/{owner}/{name}", "/{repo}").replace("/{owner}/{name}", "/{repo}")
        if "/lfs/" not in path:
            path = path.replace("{repo}.git", "{repo}")  # git writes both
        path = re.sub(r":\w+}", "}", path)
        found |= {f"{method} {path}" for method in route.methods - {"HEAD"}}
    return found


def test_every_endpoint_is_in_the_table():
    listed = [row[0].strip("`") for row in rows_below("What it does")]
    assert sorted(listed) == sorted(endpoints())


def test_every_endpoint_has_a_test():
    for row in rows_below("What it does"):
        name, path = re.fullmatch(r"\[(.+)\]\((.+)\)", row[-1]).groups()
        assert f"def test_{name.replace(' ', '_')}(" in (ROOT / path).read_text(), row


def test_every_link_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [target for target in links if not (ROOT / target).exists()] == []


def test_calls_of_clients_are_those_of_the_tests():
    printed = subprocess.run([sys.executable, ROOT / "tests/client_calls.py"], capture_output=True, text=True, check=True)
    assert printed.stdout in README


def test_versions_are_those_of_the_tests():
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["test"]
    # transformers and datasets are installed with the other package of this repository
    other = tomllib.loads((ROOT / "../../pyproject.toml").read_text())["project"]
    pins = [*other["dependencies"], *other["optional-dependencies"]["dev"], *own]
    pinned = dict(pin.split("==") for pin in pins if "==" in pin)
    (pinned["huggingface.js"],) = re.findall("@huggingface/hub@([0-9.]+)", (ROOT / "tests/test_huggingface_js.py").read_text())
    clients = ("huggingface_hub", "hf_xet", "transformers", "datasets", "huggingface.js")
    listed = {re.split(r"[ ,]", name)[0]: version.split(" and ")[0] for name, version in rows_below("Clients")}
    assert {name: listed.get(name) for name in clients} == {name: pinned[name] for name in clients}
