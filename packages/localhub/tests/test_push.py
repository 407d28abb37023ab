"""`git push` with real git: the refs that a token may move, the files that are accepted, and that nothing pushed is lost."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi

OWNER, READER, STRANGER, SCOPED = "token-owner", "token-reader", "token-stranger", "token-scoped"
REPO = "me/model"


def address(hub, token=None, repo=REPO):
    return f"{hub.url}/{repo}" if token is None else f"{hub.url.replace('://', f'://user:{token}@')}/{repo}"


@pytest.fixture
def clone(git, tmp_path):
    """Clones a URL, into a folder that has commits made of it."""

    def make(url, name="clone"):
        git("clone", "-q", url, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def commit(git):
    """Commits these files in a clone; returns the commit id."""

    def make(folder, files, message="A commit"):
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        git("add", "-A", "-f", cwd=folder)
        git("commit", "-q", "-m", message, cwd=folder)
        return git("rev-parse", "HEAD", cwd=folder).stdout.strip()

    return make


@pytest.fixture
def push(git):
    """Pushes from a clone. Returns None, or why git reports that it was not accepted."""

    def run(folder, *arguments):
        done = git("push", *arguments, cwd=folder, check=False)
        assert "Internal error" not in done.stderr
        return done.stderr if done.returncode else None

    return run


def names_of(refs):
    return [ref.name for ref in refs]


@pytest.mark.parametrize("version", ["0", "1", "2"])
@pytest.mark.parametrize("suffix", ["", ".git"])
def test_pushed_files_history_branches_and_tags_are_on_the_hub(git, api, repo, put, hub, clone, commit, push, version, suffix):
    put(api, {"a.txt": b"1"})
    folder = clone(hub.url + "/" + repo + suffix)
    git("config", "protocol.version", version, cwd=folder)
    first = commit(folder, {"a.txt": b"2", "sub dir/\u00fcn\u00ef.txt": b"x"}, "First\n\nWhy")
    newest = commit(folder, {"b.txt": b"b"}, "Second")
    git("tag", "plain", cwd=folder)
    git("tag", "-a", "v1", "-m", "First version", first, cwd=folder)
    assert push(folder, "origin", "HEAD:main", "HEAD:refs/heads/feature/x", "plain", "v1") is None
    commits = api.list_repo_commits(repo)
    assert [(one.commit_id, one.title, one.authors) for one in commits[:2]] == [
        (newest, "Second", ["Ada"]),
        (first, "First", ["Ada"]),
    ]
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "a.txt", "b.txt", "sub dir/\u00fcn\u00ef.txt"]
    refs = api.list_repo_refs(repo)
    assert names_of(refs.branches) == ["feature/x", "main"]
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("plain", newest), ("v1", first)]
    again = clone(hub.url + "/" + repo, "again")
    git("fsck", "--strict", cwd=again)
    put(api, {"c.txt": b"c"})
    git("pull", "-q", cwd=folder)
    assert (folder / "c.txt").exists()


def test_push_to_a_dataset(api, hub, clone, commit, push):
    api.create_repo("me/data", repo_type="dataset")
    folder = clone(f"{hub.url}/datasets/me/data")
    newest = commit(folder, {"a.txt": b"1"})
    assert push(folder) is None
    assert api.dataset_info("me/data").sha == newest


def test_a_push_that_is_too_large_for_one_block_arrives(api, repo, hub, clone, commit, push):
    """git sends it in chunks, after a request that only asks whether it may."""
    folder = clone(address(hub))
    content = {f"{name}.dat": hashlib.shake_256(name.encode()).digest(3_000_000) for name in "ab"}
    newest = commit(folder, content)
    assert push(folder) is None
    assert api.model_info(repo).sha == newest
    assert Path(api.hf_hub_download(repo, "b.dat")).read_bytes() == content["b.dat"]


def test_a_stale_push_is_rejected_and_a_forced_one_accepted_as_on_the_hub(git, api, repo, put, hub, clone, commit, push):
    folder = clone(address(hub))
    theirs = put(api, {"a.txt": b"theirs"})
    mine = commit(folder, {"a.txt": b"mine"})
    assert "rejected" in push(folder)
    assert api.model_info(repo).sha == theirs
    assert "stale info" in push(folder, "--force-with-lease")
    assert push(folder, "--force") is None
    assert api.model_info(repo).sha == mine


def test_branches_and_tags_can_be_deleted_but_not_main(api, repo, hub, clone, push):
    api.create_branch(repo, branch="old")
    api.create_tag(repo, tag="v0")
    folder = clone(address(hub))
    assert push(folder, "origin", ":old", ":refs/tags/v0") is None
    assert "Cannot delete refs/heads/main" in push(folder, "origin", ":main")
    refs = api.list_repo_refs(repo)
    assert (names_of(refs.branches), refs.tags) == (["main"], [])


@pytest.mark.parametrize(
    "ref", ["refs/notes/x", "refs/heads/refs/pr/1", "refs/heads/" + "a" * 40, "refs/pr/1", "refs/heads/old/x"]
)
def test_refs_that_the_api_does_not_create_are_rejected(api, repo, hub, clone, commit, push, ref):
    api.create_branch(repo, branch="old")
    folder = clone(address(hub))
    commit(folder, {"a.txt": b"a"})
    assert "remote rejected" in push(folder, "origin", f"HEAD:{ref}")
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert (names_of(refs.branches), refs.pull_requests) == (["main", "old"], [])


def test_atomic_push_moves_all_refs_or_none(api, repo, hub, clone, commit, push):
    before = api.model_info(repo).sha
    folder = clone(address(hub))
    newest = commit(folder, {"a.txt": b"a"})
    for other in ("refs/notes/x", "refs/heads/main/x", "refs/tags/x", "refs/heads/a", "refs/pr/1"):
        updates = [f"HEAD:{other}", *(["HEAD:refs/heads/a/b"] if other.endswith("/a") else [])]
        updates += ["HEAD:refs/tags/x/y"] if other.endswith("tags/x") else []
        assert "atomic" in push(folder, "--atomic", "origin", "HEAD:main", *updates)
    assert api.model_info(repo).sha == before
    refs = api.list_repo_refs(repo)
    assert (names_of(refs.branches), refs.tags) == (["main"], [])
    assert "remote rejected" in push(folder, "origin", "HEAD:main", "HEAD:refs/notes/x")
    assert api.model_info(repo).sha == newest


def test_push_needs_write_access(guarded, client_of, clone, commit, push):
    folder = clone(address(guarded))
    before = client_of(OWNER).model_info(REPO).sha
    newest = commit(folder, {"a.txt": b"a"})
    for token, reason in ((None, "could not read Username"), ("wrong", "Authentication failed"), (READER, "403")):
        assert reason in push(folder, address(guarded, token), "HEAD:main")
    for update in ("HEAD:main", "HEAD:refs/heads/x", "HEAD:refs/tags/x"):
        assert "stranger may not commit" in push(folder, address(guarded, STRANGER), update)
    assert client_of(OWNER).model_info(REPO).sha == before
    assert names_of(client_of(OWNER).list_repo_refs(REPO).branches) == ["main"]
    assert push(folder, address(guarded, SCOPED), "HEAD:main") is None
    assert client_of(OWNER).model_info(REPO).sha == newest


def test_outsiders_push_to_their_own_pull_requests_only(guarded, client_of, put, clone, commit, push):
    owner, outsider = client_of(OWNER), client_of(STRANGER)
    outsider.create_pull_request(REPO, title="A fix")
    put(owner, {"b.txt": b"b"}, create_pr=True)
    folder = clone(address(guarded))
    newest = commit(folder, {"a.txt": b"a"}, "Fix")
    assert push(folder, address(guarded, STRANGER), "HEAD:refs/pr/1") is None
    assert "may not commit" in push(folder, address(guarded, STRANGER), "--force", "HEAD:refs/pr/2")
    assert "not created or deleted" in push(folder, address(guarded, STRANGER), ":refs/pr/1")
    assert owner.model_info(REPO, revision="refs/pr/1").sha == newest
    owner.change_discussion_status(REPO, 1, "closed")
    commit(folder, {"a.txt": b"more"})
    assert "accepts no commits" in push(folder, address(guarded, STRANGER), "HEAD:refs/pr/1")
    owner.change_discussion_status(REPO, 1, "open")
    owner.merge_pull_request(REPO, 1)
    assert "a.txt" in owner.list_repo_files(REPO)


def test_a_private_repo_does_not_exist_for_pushes_of_others(guarded, client_of, clone, commit, push):
    folder = clone(address(guarded))
    commit(folder, {"a.txt": b"a"})
    client_of(OWNER).update_repo_settings(REPO, private=True)
    assert "not found" in push(folder, address(guarded, STRANGER), "HEAD:main")


def test_a_file_above_10_mib_is_rejected_by_name_also_when_it_was_deleted_again(git, api, repo, hub, clone, commit, push):
    before = api.model_info(repo).sha
    folder = clone(address(hub))
    commit(folder, {"big.txt": bytes(10 * 1024 * 1024 + 1)})
    reason = "big.txt is larger than 10485760 bytes: files of that size go through LFS"
    assert reason in push(folder)
    git("rm", "-q", "big.txt", cwd=folder)
    commit(folder, {"a.txt": b"a"})
    assert reason in push(folder)
    assert api.model_info(repo).sha == before


def pointer(content):
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()


def test_an_lfs_pointer_needs_its_object(api, repo, hub, ask, clone, commit, push):
    content = b"weights"
    folder = clone(address(hub))
    newest = commit(folder, {"model.safetensors": pointer(content)})
    oid = hashlib.sha256(content).hexdigest()
    assert f"LFS pointer pointed to a file that does not exist: {oid}" in push(folder)
    # as git-lfs does before a push
    question = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(content)}]}
    answer = ask(hub.url, "POST", f"/{repo}.git/info/lfs/objects/batch", json.dumps(question).encode())
    href = json.loads(answer.body)["objects"][0]["actions"]["upload"]["href"]
    assert ask(hub.url, "PUT", href.removeprefix(hub.url), content).status == 200
    assert push(folder) is None
    assert api.model_info(repo).sha == newest
    assert Path(api.hf_hub_download(repo, "model.safetensors")).read_bytes() == content


def tree_of(git, folder, *entries):
    """A tree of (mode, kind, object id, name)."""
    lines = "".join(f"{mode} {kind} {oid}\t{name}\0" for mode, kind, oid, name in entries)
    return git("mktree", "-z", cwd=folder, stdin=lines).stdout.strip()


def commit_of(git, folder, tree, **variables):
    return git("commit-tree", tree, "-p", "HEAD", "-m", "A commit", cwd=folder, **variables).stdout.strip()


@pytest.mark.parametrize("name", [".git", ".GIT", "..", "..\\out", "a\nb", "end ", "x" * 1025])
def test_paths_that_the_api_rejects_are_rejected(git, api, repo, hub, clone, push, name):
    before = api.model_info(repo).sha
    folder = clone(address(hub))
    blob = git("hash-object", "-w", "--stdin", cwd=folder, stdin="x").stdout.strip()
    made = commit_of(git, folder, tree_of(git, folder, ("100644", "blob", blob, name)))
    assert re.search("Invalid path|longer than 1024|git does not accept", push(folder, "origin", f"{made}:refs/heads/main"))
    assert api.model_info(repo).sha == before


def test_trees_that_are_too_deep_or_have_too_many_files_are_rejected(git, api, repo, hub, clone, push):
    folder = clone(address(hub))
    blob = git("hash-object", "-w", "--stdin", cwd=folder, stdin="x").stdout.strip()
    names = "abcdefghij"
    tree = tree_of(git, folder, *(("100644", "blob", blob, name) for name in names))
    for _ in range(9):  # ten thousand million files in ten trees
        tree = tree_of(git, folder, *(("040000", "tree", tree, name) for name in names))
    many = push(folder, "origin", f"{commit_of(git, folder, tree)}:refs/heads/main")
    assert "more than 1000000 files" in many
    tree = tree_of(git, folder, ("100644", "blob", blob, "x"))
    for _ in range(9):
        tree = tree_of(git, folder, ("040000", "tree", tree, "y" * 120))
    assert "longer than 1024" in push(folder, "origin", f"{commit_of(git, folder, tree)}:refs/heads/main")
    assert len(api.list_repo_commits(repo)) == 1


def test_commits_that_could_not_be_shown_are_rejected(git, api, repo, hub, clone, push):
    folder = clone(address(hub))
    tree = git("rev-parse", "HEAD^{tree}", cwd=folder).stdout.strip()
    dated = commit_of(git, folder, tree, GIT_COMMITTER_DATE="@253402300800 +0000")
    assert "out of range" in push(folder, "origin", f"{dated}:refs/heads/main")
    for encoding, message in ((b"utf-8", b"\xff"), (b"nonsense", b"x"), (b"unicode_escape", b"\\ud800")):
        people = b"author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n"
        (folder / "raw").write_bytes(b"tree %s\n%sencoding %s\n\n%s" % (tree.encode(), people, encoding, message))
        garbled = git("hash-object", "-t", "commit", "-w", "raw", cwd=folder).stdout.strip()
        assert "not valid text" in push(folder, "--force", "origin", f"{garbled}:refs/heads/main")
    assert len(api.list_repo_commits(repo)) == 1


def test_a_message_that_fills_the_memory_is_rejected(git, api, repo, hub, clone, push):
    folder = clone(address(hub))
    (folder / "message").write_text("x" * 1024 * 1024)
    git("tag", "-a", "-F", "message", "long", cwd=folder)
    assert "is larger than 1048576 bytes" in push(folder, "origin", "long")
    git("commit", "-q", "--allow-empty", "-F", "message", cwd=folder)
    assert "is larger than 1048576 bytes" in push(folder)
    assert len(api.list_repo_commits(repo)) == 1


def test_a_push_to_the_old_name_of_a_moved_repo(api, repo, hub, clone, commit, push):
    folder = clone(address(hub))
    api.move_repo(repo, "me/moved")
    newest = commit(folder, {"a.txt": b"a"})
    assert push(folder) is None
    assert api.model_info("me/moved").sha == newest


def test_a_tag_of_a_file_is_rejected(git, api, repo, hub, clone, push):
    folder = clone(address(hub))
    blob = git("rev-parse", "HEAD:.gitattributes", cwd=folder).stdout.strip()
    git("tag", "plain", blob, cwd=folder)
    git("tag", "-a", "-m", "x", "annotated", blob, cwd=folder)
    assert "must point to a commit" in push(folder, "origin", "plain")
    assert "something else than a commit" in push(folder, "origin", "annotated")
    assert api.list_repo_refs(repo).tags == []


def packet(text):
    return f"{len(text) + 4:04x}{text}".encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"zzzz",
        b"00ff0",
        packet("no command") + b"0000",
        packet(f"{'0' * 40} {'1' * 40} refs/heads/x\0report-status") * 2 + b"0000",
    ],
)
def test_a_request_that_is_no_push_is_a_bad_request(repo, hub, ask, body):
    assert ask(hub.url, "POST", f"/{repo}/git-receive-pack", body).status == 400
    assert list(hub.storage.incoming.iterdir()) == []


@pytest.mark.parametrize("pack", [b"", b"PACK", b"PACK\0\0\0\2\0\0\0\1garbage"])
def test_a_broken_pack_changes_nothing(api, repo, hub, ask, pack):
    command = packet(f"{'0' * 40} {'1' * 40} refs/heads/x\0report-status") + b"0000"
    answer = ask(hub.url, "POST", f"/{repo}/git-receive-pack", command + pack)
    assert (answer.status, b"unpack git does not accept the pack" in answer.body) == (200, True)
    assert b"ng refs/heads/x" in answer.body
    assert names_of(api.list_repo_refs(repo).branches) == ["main"]
    assert list(hub.storage.incoming.iterdir()) == []
    assert not list((hub.storage.folder / "models/me/model.git/objects/pack").glob("*"))


def test_a_push_from_a_shallow_clone(git, api, repo, put, hub, tmp_path, commit, push):
    put(api, {"a.txt": b"1"})
    put(api, {"a.txt": b"2"})
    git("clone", "-q", "--depth", "1", address(hub), tmp_path / "shallow")
    newest = commit(tmp_path / "shallow", {"b.txt": b"b"})
    assert push(tmp_path / "shallow") is None
    assert len(api.list_repo_commits(repo)) == 4
    assert api.model_info(repo).sha == newest


def test_of_a_push_and_commits_at_the_same_time_none_is_lost(git, api, repo, put, hub, clone, commit, push):
    folder = clone(address(hub))
    commit(folder, {"pushed.txt": b"x"})
    pushed = []

    def push_until_accepted():
        for _ in range(20):
            if push(folder) is None:
                pushed.append(True)
                break
            git("pull", "-q", "--rebase", cwd=folder)

    pusher = threading.Thread(target=push_until_accepted)
    pusher.start()
    for number in range(6):
        put(HfApi(hub.url, token=False), {f"{number}.txt": b"x"})
    pusher.join()
    assert pushed
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", *(f"{number}.txt" for number in range(6)), "pushed.txt"]


def test_kill_9_during_pushes_loses_no_acknowledged_one(git, start_server, tmp_path, commit, push):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    acknowledged, made = [], 0
    for round_number in range(4):
        with start_server(tmp_path / "hub", "--port", port) as (process, _):
            if not round_number:
                HfApi(url, token=False).create_repo(REPO)
                git("clone", "-q", f"{url}/{REPO}", tmp_path / "clone")

            def kill(process=process, delay=0.2 + 0.03 * round_number):
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            while killer.is_alive():
                made += 1
                newest = commit(tmp_path / "clone", {"a.txt": b"%d" % made})
                if push(tmp_path / "clone") is None:
                    acknowledged.append(newest)
            killer.join()
    assert acknowledged
    stored = tmp_path / "hub/models/me/model.git"
    subprocess.run(["git", "-C", str(stored), "fsck", "--strict", "--no-dangling"], check=True, capture_output=True)
    history = git("--git-dir", stored, "rev-list", "main").stdout.split()
    assert set(acknowledged) <= set(history)
