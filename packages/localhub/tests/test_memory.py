"""Memory of the server: it does not grow with the size of a file. benchmarks/memory.py measures all ways of a file."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SIZE = 10 * 1024 * 1024  # bytes: the largest file that git may hold
FILES = 2


def peak(process):
    """In bytes."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_regular_files_up_and_down_take_less_memory_than_one_of_them(start_server, ask, tmp_path):
    contents = {f"{number}.txt": bytes([number]) * SIZE for number in range(FILES)}
    lines = [{"key": "header", "value": {"summary": "Large files"}}]
    for path, content in contents.items():
        encoded = base64.b64encode(content).decode()
        lines.append({"key": "file", "value": {"path": path, "content": encoded, "encoding": "base64"}})
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with start_server(tmp_path) as (process, url):
        ask(url, "POST", "/api/repos/create", b'{"organization": "me", "name": "model"}')
        ask(url, "GET", "/me/model/resolve/main/.gitattributes")
        before = peak(process)
        assert ask(url, "POST", "/api/models/me/model/commit/main?create_pr=1", body).status == 200
        after_commit = peak(process)
        with ThreadPoolExecutor(FILES) as pool:
            answers = pool.map(lambda path: ask(url, "GET", f"/me/model/resolve/refs%2Fpr%2F1/{path}"), contents)
            assert [answer.body for answer in answers] == list(contents.values())
        diff = json.loads(ask(url, "GET", "/api/models/me/model/discussions/1?diff=1").body)["diff"]
        assert diff.count("The file is too large to be compared.") == FILES
        assert after_commit - before < SIZE
        assert peak(process) - before < 2 * SIZE
