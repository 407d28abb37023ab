"""npm packages that tests run: each set in a folder of its own below .venv, installed at its first use.

No package runs a script when it is installed.

    done = TRANSFORMERS_JS.run(Path(__file__).with_name("greedy.mjs"), str(folder))

runs `greedy.mjs` with Node.js; it imports the packages of the set by their names.
"""

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_VENV = Path(__file__).parent.parent / ".venv"
_IN_CI = os.environ.get("CI") == "true"


@dataclass(frozen=True)
class NodePackages:
    """`packages` as npm takes them: NAME@VERSION. Without `optional`, their optional dependencies are left out."""

    name: str
    packages: tuple[str, ...]
    optional: bool = True

    @property
    def folder(self) -> Path:
        return _VENV / f"node-{self.name}"

    def modules(self) -> Path:
        """The node_modules folder. Skips the test if it can't be installed, without npm or a network; fails it in CI."""
        if missing := [name for name in ("npm", "node") if not shutil.which(name)]:
            _unavailable(f"{missing[0]} is not installed on this machine (https://nodejs.org)")
        wanted, found = " ".join(self.packages), self.folder / "packages"
        with self._locked():
            if not found.exists() or found.read_text() != wanted:
                install = [
                    "npm",
                    "install",
                    "--silent",
                    "--no-save",
                    "--no-audit",
                    "--ignore-scripts",
                    "--prefix",
                    str(self.folder),
                ]
                install += [] if self.optional else ["--omit=optional"]
                done = subprocess.run([*install, *self.packages], capture_output=True, text=True, timeout=290)
                if done.returncode:
                    _unavailable(f"npm can't install {wanted}: {done.stderr[-500:]}")
                found.write_text(wanted)
        return self.folder / "node_modules"

    def run(self, script: Path, *arguments: str, stdin: str = "", timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a module with Node.js, which must exit with 0. `timeout` is in seconds.

        It runs as a copy beside the packages, because an import by name searches the folders above the file.
        """
        self.modules()
        copy = self.folder / script.name
        with self._locked():
            if not copy.exists() or copy.read_bytes() != script.read_bytes():
                copy.with_suffix(".new").write_bytes(script.read_bytes())
                copy.with_suffix(".new").replace(copy)
        command = ["node", str(copy), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{script.name} exited with {done.returncode}:\n{done.stderr[-3000:]}"
        return done

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Several processes run tests."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _unavailable(reason: str) -> None:
    if _IN_CI:
        pytest.fail(f"{reason}, and under CI=true its tests must run")
    pytest.skip(reason)


def _platform() -> str:
    """This machine as node-llama-cpp names its packages of compiled code."""
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x64"
    return f"mac-{machine}{'-metal' if machine == 'arm64' else ''}" if platform.system() == "Darwin" else f"linux-{machine}"


# GitHub does not say which version of Mermaid it has. This one is of the same year; 11.4 to 12.3 draw our charts alike.
GITHUB_MARKDOWN = NodePackages(
    "github-page",
    (
        "unified@11.0.5",
        "unist-util-visit@5.0.0",
        "remark-parse@11.0.0",
        "remark-gfm@4.0.1",
        "remark-rehype@11.1.2",
        "rehype-raw@7.0.0",
        "rehype-sanitize@6.0.0",
        "rehype-stringify@10.0.1",
        "github-markdown-css@5.9.0",
        "mermaid@11.12.0",
    ),
)
# llama.cpp for Node.js (85 MB). Its optional dependencies are the compiled code for all platforms and GPUs, of 1 GB.
LLAMA_CPP = NodePackages("llama-cpp", ("node-llama-cpp@3.22.1", f"@node-llama-cpp/{_platform()}@3.22.1"), optional=False)
# 470 MB: ONNX Runtime for Node.js and for browsers. Its script would download ONNX Runtime for CUDA.
TRANSFORMERS_JS = NodePackages("transformers", ("@huggingface/transformers@4.3.2",))
# Drives the Chromium that is installed, and has none of its own (14 MB).
PLAYWRIGHT = NodePackages("playwright", ("playwright-core@1.64.1",))
