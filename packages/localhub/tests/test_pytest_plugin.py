"""The pytest plugin, in projects that know only its entry point."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run_project(tmp_path: Path):
    """Runs pytest in a folder with these files, where localhub is installed as its pyproject.toml says."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    installed = tmp_path / "site/localhub-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: localhub\nVersion: 0\n")
    lines = [
        line for group, names in entry_points.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    project = tmp_path / "project"
    project.mkdir()

    def run(files: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
        for name, text in files.items():
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text(text)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join((str(installed.parent), str(ROOT))),
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "of-the-user",
        }
        # other plugins would take most of the time
        without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "xdist", "hypothesispytest", "anyio", "timeout")]
        command = [sys.executable, "-m", "pytest", "-q", *without, *options]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120)

    return run


USES = """
from pathlib import Path
import pytest
{imports}

@pytest.mark.parametrize("turn", [1, 2])
def test_code_that_names_no_endpoint_and_no_token(localhub, turn):
    import huggingface_hub
    from huggingface_hub import HfApi, hf_hub_download, upload_file
    assert HfApi().endpoint == localhub.url
    assert HfApi().whoami()["name"] == "local"
    assert list(HfApi().list_models()) == []  # each test has a Hub of its own
    HfApi().create_repo("me/model", private=True)
    upload_file(repo_id="me/model", path_in_repo="a.txt", path_or_fileobj=b"text %d" % turn)
    path = Path(hf_hub_download("me/model", "a.txt"))
    assert path.read_bytes() == b"text %d" % turn
    upload_file(repo_id="me/model", path_in_repo="a.bin", path_or_fileobj=b"large %d" % turn)  # by Xet, as without a test
    assert Path(hf_hub_download("me/model", "a.bin")).read_bytes() == b"large %d" % turn
    assert list((localhub.folder.parent / "xet").rglob("*")), "hf_xet uses another cache"
    assert localhub.folder.parent in path.parents
    assert (localhub.folder / "models/me/model.git").is_dir()
    assert [found.id for found in localhub.api.list_models()] == ["me/model"]

def test_what_the_user_has_set_is_back_afterwards():
    import os
    from huggingface_hub import HfApi, constants, get_token, upload_file
    assert HfApi().endpoint == constants.ENDPOINT == upload_file.__self__.endpoint == "https://huggingface.co"
    assert constants.HUGGINGFACE_CO_URL_TEMPLATE.startswith("https://huggingface.co/")
    assert constants.HF_HUB_CACHE == os.path.join(os.environ["HF_HOME"], "hub")
    assert "HF_ENDPOINT" not in os.environ
    assert "HF_XET_CACHE" not in os.environ
    assert not os.path.exists(os.environ["HF_HOME"])  # nothing of the tests is in it
    assert get_token() == "of-the-user"
"""


@pytest.mark.parametrize("imports", ["", "import huggingface_hub.hf_api"], ids=["imported later", "imported earlier"])
def test_huggingface_hub_uses_the_hub_of_the_test_and_nothing_else_changes(run_project, imports):
    ended = run_project({"test_it.py": USES.replace("{imports}", imports)})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout


DATASETS = """
import os
from pathlib import Path
{imports}

def shown():
    from datasets import config
    return config.HF_ENDPOINT, config.HUB_DATASETS_URL, config.HF_DATASETS_CACHE, config.HF_HUB_OFFLINE

def test_it(localhub):
    from datasets import Dataset, load_dataset
    url = localhub.url
    expected = (url, url + "/datasets/{repo_id}/resolve/{revision}/{path}", localhub.folder.parent / "datasets", False)
    assert shown() == expected
    Dataset.from_dict({"x": [1, 2]}).push_to_hub("me/data", private=True)
    assert load_dataset("me/data", split="train")["x"][:] == [1, 2]
    assert [found.id for found in localhub.api.list_datasets()] == ["me/data"]

def test_again(localhub):
    test_it(localhub)

def test_after():
    url = "https://huggingface.co"
    cache = Path(os.environ["HF_HOME"]) / "datasets"
    assert shown() == (url, url + "/datasets/{repo_id}/resolve/{revision}/{path}", cache, True)
"""


@pytest.mark.parametrize("imports", ["", "import datasets"], ids=["imported later", "imported earlier"])
def test_datasets_uses_the_hub_of_the_test_and_nothing_else_changes(run_project, unavailable, imports):
    if find_spec("datasets") is None:
        unavailable("datasets is not installed in this environment (pip install datasets)")
    conftest = "import os\nos.environ['HF_HUB_OFFLINE'] = '1'\n"
    ended = run_project({"conftest.py": conftest, "test_it.py": DATASETS.replace("{imports}", imports)})
    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr


def test_users_with_roles_and_organisations(run_project):
    test = """
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

def test_it(localhub):
    alice, reader = HfApi(token=localhub.user("alice", orgs=["team"])), HfApi(token=localhub.user("bob", "read"))
    alice.create_repo("team/model", private=True)
    assert [org["name"] for org in alice.whoami()["orgs"]] == ["team"]
    with pytest.raises(RepositoryNotFoundError):
        reader.model_info("team/model")
    with pytest.raises(HfHubHTTPError):
        reader.create_repo("bob/model")
    robot = HfApi(token=localhub.user("ci", "fineGrained", repos=["team/model"]))
    assert robot.model_info("team/model").private
"""
    ended = run_project({"test_it.py": test})
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_the_hub_of_the_session_keeps_its_repos(run_project):
    test = """
def test_first(localhub_session):
    localhub_session.api.create_repo("me/model")

def test_second(localhub_session):
    from huggingface_hub import HfApi
    assert HfApi().repo_exists("me/model")

def test_own_hub_within_it(localhub):
    from huggingface_hub import HfApi
    assert not HfApi().repo_exists("me/model")

def test_third(localhub_session):
    from huggingface_hub import HfApi
    assert HfApi().endpoint == localhub_session.url
    assert HfApi().repo_exists("me/model")
"""
    ended = run_project({"test_it.py": test})
    assert "4 passed" in ended.stdout, ended.stdout + ended.stderr


def test_unused_it_imports_neither_the_server_nor_the_client(run_project):
    test = """
import sys

def test_it(request):
    assert request.config.pluginmanager.has_plugin("localhub")
    assert "localhub.pytest_plugin" in sys.modules
    assert not {"huggingface_hub", "pygit2", "starlette", "uvicorn", "localhub.server"} & sys.modules.keys()
"""
    ended = run_project({"test_it.py": test})
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_settings_of_a_conftest_reach_huggingface_hub(run_project):
    conftest = "import os\nos.environ['HF_HUB_DOWNLOAD_TIMEOUT'] = '77'\n"
    test = """
def test_it(localhub):
    from huggingface_hub import constants
    assert constants.HF_HUB_DOWNLOAD_TIMEOUT == 77
"""
    ended = run_project({"conftest.py": conftest, "test_it.py": test})
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_the_example_of_the_readme(run_project):
    (example,) = re.findall(r"```python\n(.*?def test_.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    ended = run_project({"test_it.py": example})
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
