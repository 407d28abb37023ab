"""Patterns of .gitattributes and .gitignore: git's own results, and no pattern that takes long."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from localhub.gitattributes import Patterns
from localhub.refusal import Refusal

NAMES = st.text("ab", min_size=1, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PIECES = ["a", "b", "*", "?", "**", "/", "[a]", "[!a]", "[^b]", "[a-b]", "[[:alpha:]]", "[[:digit:]]", "[]a]", "\\a", "[a"]
PATTERNS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join)
REPEATABLE = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    """git's output for a command in a repository."""
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", folder], check=True)

    def run(patterns: Path, text: str, *command: str, paths: list[str]) -> list[str]:
        (folder / patterns).write_text(text)
        command = ("git", "-c", "core.ignoreCase=false", *command, "--stdin", "-z")
        result = subprocess.run(command, cwd=folder, input="\0".join(paths), capture_output=True, text=True, check=False)
        (folder / patterns).unlink()
        assert result.returncode in (0, 1), result.stderr  # 1: no path is ignored
        return result.stdout.split("\0")[:-1]

    return run


@REPEATABLE
@given(
    st.lists(st.tuples(PATTERNS, st.sampled_from(["filter=lfs", "-filter", "text"])), max_size=4), st.lists(PATHS, min_size=1)
)
def test_lfs_files_are_those_of_git(git, lines, paths):
    text = "".join(f"{pattern} {attribute}\n" for pattern, attribute in lines)
    values = git(".gitattributes", text, "check-attr", "filter", paths=paths)[2::3]
    patterns = Patterns(text, "")
    assert [patterns.goes_to_lfs(path, 1) for path in paths] == [value == "lfs" for value in values]


@REPEATABLE
@given(st.lists(st.tuples(st.sampled_from(["", "!"]), PATTERNS), max_size=4), st.lists(PATHS, min_size=1))
def test_ignored_files_are_those_of_git(git, lines, paths):
    text = "".join(f"{sign}{pattern}\n" for sign, pattern in lines)
    ignored = set(git(".gitignore", text, "check-ignore", "--no-index", paths=paths))
    patterns = Patterns("", text)
    assert {path for path in paths if patterns.is_ignored(path)} == ignored


def preupload(ask, hub, repo, gitignore, path="a" * 200, count=1):
    files = [{"path": f"{path}{number}", "sample": "", "size": 1} for number in range(count)]
    body = json.dumps({"files": files, "gitIgnore": gitignore}).encode()
    start = time.process_time()  # the server runs in this process; other load on the machine does not count
    return ask(hub.url, "POST", f"/api/models/{repo}/preupload/main", body), time.process_time() - start


@pytest.mark.parametrize(
    "pattern", ["*a" * 30 + "b", "**a" * 30 + "b", "*a*" * 300, "**/a/" * 400 + "b", "[" * 2000, "[[:alpha:]" * 200]
)
def test_no_pattern_freezes_the_server(ask, hub, api, repo, put, pattern):
    answer, seconds = preupload(ask, hub, repo, pattern, "a/" * 200 + "a" * 200)
    assert (answer.status, seconds < 2) == (200, True)
    put(api, {".gitattributes": f"{pattern} filter=lfs\n".encode()})
    answer, seconds = preupload(ask, hub, repo, "", "a/" * 200 + "a" * 200)
    assert (answer.status, seconds < 2) == (200, True)


def test_too_many_patterns_for_too_many_files_are_refused(ask, hub, repo):
    answer, seconds = preupload(ask, hub, repo, "".join(f"*a*{number}\n" for number in range(30_000)), count=256)
    assert (answer.status, b"take too long" in answer.body, seconds < 3) == (400, True, True)
    answer, _ = preupload(ask, hub, repo, "x\n" * 300_000)
    assert (answer.status, b"at most" in answer.body) == (400, True)


@pytest.mark.parametrize(
    "lines", [b"*.bin filter=lfs\n" * 40_000, b"".join(b"*a*%d filter=lfs\n" % number for number in range(30_000))]
)
def test_committed_patterns_above_the_limits_are_not_applied_and_the_client_warns(api, repo, put, caplog, monkeypatch, lines):
    monkeypatch.setattr("huggingface_hub.utils._http._WARNED_TOPICS", set())  # it shows a warning once
    put(api, {".gitattributes": lines, ".gitignore": b"*.tmp\n"})
    with caplog.at_level("WARNING"):
        put(api, {f"{number}.bin": b"x" for number in range(256)}, commit_message="x")  # the files of one preupload
    assert len(api.list_repo_files(repo)) == 258
    (warning,) = {record.getMessage() for record in caplog.records if "not applied" in record.getMessage()}
    assert ".gitattributes and .gitignore of me/model not applied" in warning
    put(api, {".gitattributes": b"*.bin filter=lfs\n"})
    put(api, {"new.bin": b"x", "old.tmp": b"x"})
    assert api.get_paths_info(repo, "new.bin")[0].lfs is not None


def test_own_patterns_above_the_limits_are_refused_also_beside_those_of_the_repo(ask, hub, api, repo, put):
    put(api, {".gitattributes": b"*.bin filter=lfs\n" * 40_000})
    answer, _ = preupload(ask, hub, repo, "x\n" * 300_000)
    assert (answer.status, b"at most" in answer.body) == (400, True)
    answer, _ = preupload(ask, hub, repo, "aaa*\n", "aaa")
    assert (answer.status, json.loads(answer.body)["files"][0]["shouldIgnore"]) == (200, True)
    assert answer.headers["x-hf-warning"].startswith("me/model; .gitattributes of me/model not applied.")


def test_a_line_for_each_of_thousands_of_files_takes_little_time():
    lines = [f"data/{number}.dat filter=lfs diff=lfs merge=lfs -text\n" for number in range(8_000)]
    start = time.thread_time()
    patterns = Patterns("".join(lines) + "*.txt filter=lfs\ndata/5.dat -filter\n", "data/7.dat\n" * 5_000)
    assert [patterns.goes_to_lfs(f"data/{number}.dat", 1) for number in range(256)] == [number != 5 for number in range(256)]
    assert [number for number in range(256) if patterns.is_ignored(f"data/{number}.dat")] == [7]
    assert time.thread_time() - start < 0.4


def test_time_limit_is_for_all_files_of_a_request():
    patterns = Patterns("*.bin filter=lfs\n", "", seconds=0.05)
    with pytest.raises(Refusal, match="take too long"):
        [patterns.goes_to_lfs("a.bin", 1) for _ in range(1_000_000)]


def test_patterns_of_git_lfs_track(ask, hub, api, repo, put):
    put(api, {".gitattributes": b"my[[:space:]]file.txt filter=lfs diff=lfs merge=lfs -text\n"})
    put(api, {"my file.txt": b"x", "my-file.txt": b"x"})
    found = {
        item.path: item.lfs is not None
        for item in HfApi(hub.url, token=False).get_paths_info(repo, ["my file.txt", "my-file.txt"])
    }
    assert found == {"my file.txt": True, "my-file.txt": False}
