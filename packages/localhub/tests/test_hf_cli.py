"""The `hf` command, against a Hub with tokens: every group of commands that works on repos."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

LARGE = os.urandom(150_000)


@dataclass
class Hf:
    """Runs `hf` commands, in the folder of the test."""

    process: subprocess.Popen[str]
    url: str
    folder: Path

    def run(self, command: str, stdin: str = "") -> tuple[int, str, str]:
        request = {"arguments": shlex.split(command), "stdin": stdin, "folder": str(self.folder)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        status, output, errors = json.loads(self.process.stdout.readline())
        assert "Traceback" not in errors, errors
        return status, output, errors

    def __call__(self, command: str, stdin: str = "") -> str:
        """What a command printed, which has to succeed."""
        status, output, errors = self.run(command, stdin)
        assert status == 0, errors
        return output

    def read(self, command: str):
        """The JSON that a command printed."""
        return json.loads(self(f"{command} --format json"))

    def fails(self, command: str) -> str:
        """The message of a command that has to fail."""
        status, _, errors = self.run(command)
        assert status == 1, errors
        return errors


@pytest.fixture(scope="module")
def shared_hf(users_hub, users_environment, tmp_path_factory) -> Iterator[Hf]:
    command = [sys.executable, Path(__file__).with_name("hf_commands.py")]
    with subprocess.Popen(command, env=users_environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Hf(process, users_hub.url, tmp_path_factory.mktemp("unused"))
        process.stdin.close()


@pytest.fixture
def hf(shared_hf, tmp_path) -> Hf:
    return Hf(shared_hf.process, shared_hf.url, tmp_path)


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with small and large files."""
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    (folder / "a.txt").write_text("a")
    (folder / "sub/b.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(LARGE)
    return folder


def names(entries):
    return [entry["id"] for entry in entries]


def test_who_is_signed_in(hf):
    assert hf.read("auth whoami") == {"user": "me", "orgs": "my-org", "endpoint": hf.url}


def test_repos_are_created_moved_and_deleted(hf):
    assert hf.read("repos create me/first --private") == {"repo_id": "me/first", "url": f"{hf.url}/me/first"}
    assert "409" in hf.fails("repos create me/first")
    hf("repos create me/first --exist-ok")
    hf("repos create my-org/data --type dataset")
    hf("repos create demo1 --type space --sdk static")
    assert {("me/first", "private"), ("me/demo1", "public")} <= {
        (repo["id"], repo["visibility"]) for repo in hf.read("repos ls")
    }
    assert names(hf.read("repos ls --namespace my-org --type dataset")) == ["my-org/data"]
    hf("repos settings me/first --public --gated auto")
    info = hf.read("models info me/first")
    assert (info["private"], info["gated"]) == (False, "auto")
    hf("repos move me/first my-org/moved")
    assert hf.read("models info me/first")["id"] == "my-org/moved"
    hf("repos delete my-org/moved --yes")
    assert "not found" in hf.fails("models info my-org/moved").lower()
    assert "not found" in hf.fails("repos delete my-org/moved --yes").lower()
    hf("repos delete my-org/moved --yes --missing-ok")
    assert "403" in hf.fails("repos create me/other --token hf_stranger")


def test_tags_and_branches(hf):
    hf("repos create me/refs")
    hf("repos tag create me/refs v1 --message First")
    assert "already exists" in hf.fails("repos tag create me/refs v1")
    assert "not found" in hf.fails("repos tag create me/refs v2 --revision none")
    assert [tag["ref"] for tag in hf.read("repos tag list me/refs")] == ["refs/tags/v1"]
    hf("repos branch create me/refs dev --revision v1")
    hf("repos branch create me/refs dev --exist-ok")
    assert hf.read("models info me/refs --revision dev")["sha"] == hf.read("models info me/refs --revision v1")["sha"]
    hf("repos branch delete me/refs dev")
    assert "not found" in hf.fails("models info me/refs --revision dev")
    hf("repos tag delete me/refs v1 --yes")
    assert hf.read("repos tag list me/refs") == []
    assert "not found" in hf.fails("repos tag delete me/refs v1 --yes")


def test_files_and_folders_are_uploaded(hf, files):
    url = hf.read(f"upload me/uploads {files} --private --commit-message All")["url"]
    info = hf.read("models info me/uploads")
    assert (info["private"], url) == (True, f"{hf.url}/me/uploads/commit/{info['sha']}")
    listed = [entry for entry in hf.read("models ls me/uploads -R") if "size" in entry and entry["path"] != ".gitattributes"]
    assert [(entry["path"], entry["size"], bool(entry.get("lfs"))) for entry in listed] == [
        ("README.md", 30, False),
        ("a.txt", 1, False),
        ("model.safetensors", 150_000, True),
        ("sub/b.json", 2, False),
    ]
    hf(f"upload me/uploads {files}/a.txt sub/c.txt")
    hf(f"upload me/uploads {files} . --include *.txt --exclude a.txt --delete sub/*.json")
    assert "sub/" in hf("models ls me/uploads --quiet")
    assert hf("models ls me/uploads -R --quiet").split() == [
        ".gitattributes",
        "README.md",
        "a.txt",
        "model.safetensors",
        "sub/",
        "sub/c.txt",
    ]
    hf(f"upload me/uploads {files}/a.txt new.txt --revision dev")
    assert "new.txt" in hf("models ls me/uploads --revision dev --quiet")
    assert "new.txt" not in hf("models ls me/uploads --quiet")
    hf(f"upload hf://datasets/me/data@main/train {files}/sub")
    assert hf("datasets ls me/data -R --quiet").split() == [".gitattributes", "train/", "train/b.json"]
    assert "403" in hf.fails(f"upload me/data {files}/a.txt --type dataset --token hf_stranger")
    hf("repos delete-files me/uploads sub/* a.txt")
    assert hf("models ls me/uploads -R --quiet").split() == [".gitattributes", "README.md", "model.safetensors"]


def test_files_and_folders_are_downloaded(hf, files, tmp_path):
    hf(f"upload me/downloads {files}")
    hf("repos tag create me/downloads v1")
    (files / "a.txt").write_text("newer")
    hf(f"upload me/downloads {files}/a.txt")
    snapshot = Path(hf.read("download me/downloads")["path"])
    assert (snapshot / "model.safetensors").read_bytes() == LARGE
    assert (snapshot / "a.txt").read_text() == "newer"
    one = Path(hf.read("download me/downloads a.txt --revision v1")["path"])
    assert one.read_text() == "a"
    assert hf.read("download me/downloads a.txt")["path"] == str(snapshot / "a.txt")
    hf("download me/downloads sub/ --local-dir folder")
    hf("download me/downloads --include *.safetensors --exclude a.* --local-dir weights")
    hf("download hf://me/downloads@v1/a.txt --local-dir by-uri")
    found = [
        path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file() and ".cache" not in path.parts
    ]
    assert [str(path) for path in found if path.parts[0] != "files"] == [
        "by-uri/a.txt",
        "folder/sub/b.json",
        "weights/model.safetensors",
    ]
    assert len(hf.read("download me/downloads --dry-run --force-download")) == 5
    assert "not found" in hf.fails("download me/downloads none.txt").lower()
    assert "not found" in hf.fails("download me/downloads --revision none").lower()
    hf("repos settings me/downloads --private")
    assert "not found" in hf.fails("download me/downloads a.txt --token hf_stranger --cache-dir empty").lower()


def test_single_files_are_copied(hf, files, tmp_path):
    hf("repos create me/copies")
    hf(f"cp {files}/a.txt hf://me/copies/logs/")
    hf("cp - hf://me/copies/b.txt", stdin="from a pipe")
    assert hf("cp hf://me/copies/b.txt -") == "from a pipe"
    hf("cp hf://me/copies/logs/a.txt here.txt")
    assert (tmp_path / "here.txt").read_text() == "a"
    hf("repos cp hf://me/copies/b.txt hf://me/copies/c.txt")
    assert hf("cp hf://me/copies/c.txt -") == "from a pipe"


def test_files_are_copied_from_repo_to_repo(hf, files, tmp_path):
    hf(f"upload me/source {files}")
    hf("repos create my-org/target --private")
    hf("cp hf://me/source/model.safetensors hf://my-org/target/weights/")
    hf("cp hf://my-org/target/weights/model.safetensors here")
    assert (tmp_path / "here").read_bytes() == LARGE
    assert hf.read("repos duplicate me/source my-org/source")["to_id"] == "my-org/source"
    assert hf("models ls my-org/source -R --quiet") == hf("models ls me/source -R --quiet")
    assert "not found" in hf.fails("repos duplicate my-org/target stranger/target --token hf_stranger").lower()


def test_collections(hf):
    hf("repos create me/collected")
    slug = hf.read('collections create "Good models" --description Some')["slug"]
    assert slug.startswith("me/good-models-")
    hf(f"collections add-item {slug} me/collected model --note Small")
    assert [found["slug"] for found in hf.read("collections ls --owner me --item models/me/collected")] == [slug]
    (item,) = hf.read(f"collections info {slug}")["items"]
    assert (item["item_id"], item["note"]) == ("me/collected", "Small")
    hf(f"collections update {slug} --title Better")
    hf(f"collections delete-item {slug} {item['item_object_id']}")
    info = hf.read(f"collections info {slug}")
    assert (info["title"], info["items"]) == ("Better", [])
    hf(f"collections delete {slug}")
    assert "not found" in hf.fails(f"collections info {slug}").lower()


def test_models_datasets_and_spaces_are_listed_and_described(hf, files):
    for name in ("my-org/one", "my-org/two"):
        hf(f"upload {name} {files} --include *.md")
    hf("repos create my-org/numbers --type dataset")
    hf("repos create my-org/demo --type space --sdk static")
    assert names(hf.read("models ls --author my-org --search one")) == ["my-org/one"]
    assert set(names(hf.read("models ls --author my-org --filter license:mit --sort created_at"))) >= {
        "my-org/one",
        "my-org/two",
    }
    assert len(hf.read("models ls --author my-org --limit 1")) == 1
    assert hf.read("models ls --search my-org/one --expand tags,sha")[0]["tags"] == ["license:mit"]
    assert names(hf.read("datasets ls --author my-org --search numbers")) == ["my-org/numbers"]
    assert names(hf.read("spaces ls --author my-org")) == ["my-org/demo"]
    assert "README.md" in hf("models ls my-org/one --tree")
    assert hf.read("models info my-org/one --expand tags")["tags"] == ["license:mit"]
    assert hf("models card my-org/one --text").strip() == "# A card"
    assert hf.read("models card my-org/one --metadata") == {"license": "mit"}
    assert hf.read("datasets info my-org/numbers")["author"] == "my-org"
    assert hf.read("spaces info my-org/demo")["sdk"] == "static"


def test_pull_requests_and_discussions(hf, files):
    hf("repos create me/talk")
    url = hf.read(f"upload me/talk {files}/a.txt --create-pr --commit-message Proposal --token hf_stranger")["url"]
    assert hf.read("discussions list me/talk --kind pull_request")[0]["title"] == "Proposal", url
    assert "+a" in hf("discussions diff me/talk 1")
    hf('discussions comment me/talk 1 --body "Looks good"')
    hf('discussions rename me/talk 1 "A file"')
    assert "403" in hf.fails("discussions merge me/talk 1 --yes --token hf_stranger")
    hf("discussions close me/talk 1 --yes")
    assert hf.read("discussions list me/talk") == []
    assert [one["num"] for one in hf.read("discussions list me/talk --status closed --author stranger")] == [1]
    hf("discussions reopen me/talk 1 --yes")
    hf("discussions merge me/talk 1 --yes --comment Thanks")
    info = hf.read("discussions info me/talk 1")
    assert (info["title"], info["status"], info["author"]) == ("A file", "merged", "stranger")
    comment = next(event for event in info["events"] if event.get("content") == "Looks good")
    hf(f'discussions edit me/talk 1 {comment["id"]} --body "Looks better"')
    assert "Looks better" in hf("discussions info me/talk 1")
    assert hf("cp hf://me/talk/a.txt -") == "a"
    assert hf.read('discussions create me/talk --title "A question" --body Why')["num"] == 2
    assert hf.read("discussions create me/talk --title Draft --pull-request")["ref"] == "refs/pr/3"


def test_the_cache_is_listed_verified_and_cleared(hf, files):
    hf(f"upload me/cached {files} --include *.txt --include *.safetensors")
    snapshot = Path(hf.read("download me/cached")["path"])
    assert "model/me/cached" in hf("cache ls --quiet").split()
    assert hf.read("cache verify me/cached --fail-on-missing-files")["checked"] == 3
    (snapshot / "a.txt").resolve().write_text("damaged")
    status, output, _ = hf.run("cache verify me/cached")
    assert status == 1
    assert "a.txt" in output
    (files / "a.txt").write_text("newer")
    hf(f"upload me/cached {files}/a.txt")
    hf("download me/cached")
    assert hf.read("cache prune --yes")["revisions_deleted"] >= 1
    assert not snapshot.exists()
    hf("cache rm model/me/cached --yes")
    assert "model/me/cached" not in hf("cache ls --quiet").split()
