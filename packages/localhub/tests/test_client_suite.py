"""The run of the client's own tests, here of a repository with a few tests of the same form."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks/client_suite.py"
FILES = {
    "pyproject.toml": "",
    "tests/__init__.py": "",
    "tests/testing_constants.py": """
ENDPOINT_PRODUCTION = "https://huggingface.co"
TOKEN = "hf_of_the_dummy_user"
""",
    "tests/test_hf_api.py": """
import pytest
from huggingface_hub import HfApi, gone_in_this_version
from .testing_constants import ENDPOINT_PRODUCTION, TOKEN

api = HfApi("https://hub-ci.huggingface.co", token=TOKEN)

def test_passes():
    assert api.whoami()["fullname"] == "Dummy User"
    assert api.endpoint == ENDPOINT_PRODUCTION

def test_fails():
    assert api.whoami()["name"] == "somebody"

class TestWebhookApi:
    def test_get(self):
        api.get_webhook("a" * 24)

class TestLargeUpload:
    def test_upload_large_folder(self):
        api.whoami()
        gone_in_this_version()

def test_without_a_hub():
    assert False

@pytest.mark.skip
def test_skipped():
    pass

@pytest.mark.production
def test_of_public_repos():
    pass
""",
}


def test_only_tests_that_use_a_hub_are_judged(tmp_path, git):
    source = tmp_path / "source"
    for name, content in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    git("init", "-q", source)
    git("-C", source, "add", ".")
    git("-C", source, "commit", "-q", "-m", "Tests")
    command = [sys.executable, SCRIPT, "--python", sys.executable, "--source", source, "--commit", "HEAD", "--client", "x"]
    command += ["--json", tmp_path / "outcomes.json", "tests/test_hf_api.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    failed = "`test_fails`: unknown; `test_upload_large_folder`: this version has no `upload_large_folder`"
    assert f"| x | 3 | 1 | {failed} |" in done.stdout, done.stdout + done.stderr
    assert "Not judged: 1 asked for webhooks, 1 sent no request to the Hub, 1 skipped" in done.stdout
    assert "somebody" in done.stdout
    assert done.returncode == 1
    outcomes = {one["id"].rpartition("::")[2]: one["outcome"] for one in json.loads((tmp_path / "outcomes.json").read_text())}
    assert outcomes["test_passes"] == "passed"
    assert "test_of_public_repos" not in outcomes
