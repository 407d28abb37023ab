"""Compiles the native kernels when the package is built. Without a C compiler they are left out, and training uses PyTorch."""

import hashlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER, LIBRARY = "echoself_action/native", "native.bin"


class Native(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  (hatchling's)
        folder = Path(self.root, FOLDER)
        try:
            compile_native(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            (folder / LIBRARY).unlink(missing_ok=True)
            self.app.display_warning(f"{FOLDER} was not compiled, and training on a CPU is slower without it: {error}")
            return
        build_data["artifacts"].append(f"{FOLDER}/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_native(folder: Path) -> None:
    """Compile `folder`/csrc to `folder`/native.bin, which is replaced only when the compilation has succeeded. The library
    contains the digest of its sources."""
    hashed = hashlib.blake2b(digest_size=16)
    for file in sorted((folder / "csrc").glob("*.[ch]")):
        hashed.update(file.read_bytes())
    unfinished = folder / f"{LIBRARY}.part"
    flags = [
        "-O3",
        "-std=gnu11",
        "-fPIC",
        "-fvisibility=hidden",
        "-shared",
        "-pthread",
        f'-DSOURCES_DIGEST="{hashed.hexdigest()}"',
    ]
    sources = map(str, sorted((folder / "csrc").glob("*.c")))
    try:
        subprocess.run([*shlex.split(os.environ.get("CC", "cc")), *flags, "-o", str(unfinished), *sources, "-lm"], check=True)
        unfinished.replace(folder / LIBRARY)
    finally:
        unfinished.unlink(missing_ok=True)
