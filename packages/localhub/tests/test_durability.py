"""Durability: after a kill at any time, the Hub has every acknowledged commit and nothing incomplete. Start and stop."""

import ctypes
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from localhub import LocalHub

COMMITS = 26


class KilledServer:
    """A server on a fixed port that can be killed with SIGKILL and restarted."""

    def __init__(self, start_server, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        self._start = lambda: start_server(folder, "--port", self.port)
        self._context = self._start()
        self.process, self.url = self._context.__enter__()

    def kill_and_restart(self, delay):
        time.sleep(delay)
        self.stop()
        self._context = self._start()
        self.process, _ = self._context.__enter__()

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._context.__exit__(None, None, None)


@pytest.mark.usefixtures("by_lfs")  # by Xet, the client waits longer for a server that is gone
def test_kill_9_during_commits_loses_no_acknowledged_commit(start_server, put, ask, tmp_path):
    """The server is killed during three of them. The client retries some requests; it does not retry commits."""
    acknowledged, failed, dice = {}, [], random.Random(5)
    server = KilledServer(start_server, tmp_path)
    api = HfApi(server.url, token=False)
    api.create_repo("me/model")
    for number in range(COMMITS):
        killer = threading.Thread(target=server.kill_and_restart, args=(dice.random() * 0.03,))
        if number % 9 == 4:
            killer.start()
        try:
            files = {"number.txt": b"%d" % number, "model.safetensors": b"%d" % number * 20_000}
            acknowledged[put(api, files)] = number
        except Exception as error:  # the client does not retry commits; huggingface_hub 1.x uses httpx, 2.x httpx2
            if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
                raise
            failed.append(number)
        if number % 9 == 4:
            killer.join()
    server.stop()

    assert len(acknowledged) + len(failed) == COMMITS
    repo = tmp_path / "models/me/model.git"
    subprocess.run(["git", "-C", str(repo), "fsck", "--strict", "--no-dangling"], check=True, capture_output=True)
    with LocalHub(tmp_path) as hub:
        api = HfApi(hub.url, token=False)
        history = [commit.commit_id for commit in reversed(api.list_repo_commits("me/model"))]
        assert [commit for commit in history if commit in acknowledged] == list(acknowledged)
        # and at most the commits whose response was lost
        assert len(history) - 1 - len(acknowledged) <= len(failed)
        for commit, number in acknowledged.items():
            for path, content in (("number.txt", b"%d" % number), ("model.safetensors", b"%d" % number * 20_000)):
                answer = ask(hub.url, "GET", f"/me/model/resolve/{commit}/{path}")
                assert (answer.status, answer.body) == (200, content)
        put(api, {"after.txt": b"after"})


def test_of_two_commits_to_two_servers_on_one_folder_exactly_one_succeeds(tmp_path, put):
    with LocalHub(tmp_path) as first, LocalHub(tmp_path) as second:
        apis = [HfApi(first.url, token=False), HfApi(second.url, token=False)]
        apis[0].create_repo("me/model")
        for round_number in range(5):
            base, outcomes, start = apis[0].model_info("me/model").sha, [], threading.Barrier(2)

            def try_to_commit(api, content, base=base, outcomes=outcomes, start=start):
                start.wait()
                try:
                    outcomes.append(put(api, {"a.txt": content}, parent_commit=base))
                except HfHubHTTPError as error:
                    outcomes.append(error.response.status_code)

            threads = [
                threading.Thread(target=try_to_commit, args=(api, b"%d %d" % (index, round_number)))
                for index, api in enumerate(apis)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert 412 in outcomes
            assert apis[1].model_info("me/model").sha in outcomes


def test_upload_can_continue_on_another_server(tmp_path, ask):
    content = b"weights"
    with LocalHub(tmp_path) as first, LocalHub(tmp_path) as second:
        HfApi(first.url, token=False).create_repo("me/model")
        request = {"operation": "upload", "objects": [{"oid": hashlib.sha256(content).hexdigest(), "size": 7}]}
        answer = ask(first.url, "POST", "/me/model.git/info/lfs/objects/batch", json.dumps(request).encode())
        href = json.loads(answer.body)["objects"][0]["actions"]["upload"]["href"]
        assert ask(second.url, "PUT", href.removeprefix(first.url), content).status == 200


def test_program_prints_its_usage_and_stops_on_sigterm(start_server, tmp_path):
    with start_server(tmp_path / "new" / "hub") as (process, url):
        assert HfApi(url, token=False).create_repo("me/model")
        rest = [process.stdout.readline() for _ in range(2)]
        assert f"  export HF_ENDPOINT={url}\n" in rest
        assert "  export HF_TOKEN=any\n" in rest
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc and tgkill")
def test_program_stops_whichever_thread_gets_the_signal(start_server, tmp_path):
    with start_server(tmp_path) as (process, _):
        other = max(int(thread.name) for thread in Path(f"/proc/{process.pid}/task").iterdir())
        assert other != process.pid
        assert ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGTERM) == 0
        assert process.wait(timeout=20) == 0


def test_program_reads_its_token_from_the_environment(start_server, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALHUB_TOKEN", "secret")
    with start_server(tmp_path) as (_, url):
        with pytest.raises(HfHubHTTPError):
            HfApi(url, token=False).create_repo("me/model")
        assert HfApi(url, token="secret").create_repo("me/model")


def test_stopping_takes_no_longer_than_the_requests_that_are_running(tmp_path):
    took = []
    for _ in range(5):
        with LocalHub(tmp_path) as hub:
            HfApi(hub.url, token=False).create_repo("me/model", exist_ok=True)
            began = time.perf_counter()
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1


def test_a_download_that_is_running_when_the_hub_stops_is_completed(tmp_path, put):
    content = os.urandom(20_000_000)
    hub = LocalHub(tmp_path)
    with hub, socket.socket() as client:
        api = HfApi(hub.url, token=False)
        api.create_repo("me/model")
        put(api, {"model.safetensors": content})
        href = api.get_hf_file_metadata(url=f"{hub.url}/me/model/resolve/main/model.safetensors").location
        host, port = hub.url.removeprefix("http://").split(":")
        client.connect((host, int(port)))
        path = href.removeprefix(hub.url)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        received = client.recv(1000)
        stopping = threading.Thread(target=hub.__exit__, args=(None, None, None))
        stopping.start()
        time.sleep(0.05)
        while block := client.recv(1_000_000):
            received += block
        stopping.join()
    assert received.endswith(content)


def test_what_a_killed_server_left_is_deleted_after_a_day(tmp_path, put, git):
    with LocalHub(tmp_path) as hub:
        api = HfApi(hub.url, token=False)
        api.create_repo("me/model")
        put(api, {"a.txt": b"a"})
        api.create_discussion("me/model", title="A discussion")
    repo = tmp_path / "models/me/model.git"
    git("repack", "-q", "-d", cwd=repo)
    kept = {path for path in tmp_path.rglob("*") if path.is_file()}
    places = [
        tmp_path / "incoming/upload-",
        repo / "objects/tmp_object_git2_",
        repo / "objects/streamed_git2_",
        repo / "hub/.repo.json.",
        repo / "hub/discussions/.1.json.",
        repo / "objects/pack/pack-",
    ]
    old = [place.with_name(f"{place.name}old") for place in places]
    fresh = [place.with_name(f"{place.name}fresh") for place in places]
    for path in (*old, *fresh):
        path.write_bytes(b"part")
    yesterday = time.time() - 25 * 3600
    for path in (*old, *kept):
        os.utime(path, (yesterday, yesterday))
    with LocalHub(tmp_path) as hub:
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*kept, *fresh}
        assert HfApi(hub.url, token=False).list_repo_files("me/model") == [".gitattributes", "a.txt"]
    git("fsck", "--full", "--strict", cwd=repo)
