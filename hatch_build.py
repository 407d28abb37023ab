"""Compiles native.c into the package where there is a compiler. Where there is none, training takes PyTorch's operations."""

import hashlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "echoself_action/model/libnative.so"


class Native(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  (hatchling's)
        if self.target_name != "wheel":
            return
        library = Path(self.root, LIBRARY)
        try:
            compile_native(library)
        except (OSError, subprocess.CalledProcessError) as error:
            library.unlink(missing_ok=True)
            self.app.display_warning(f"native.c was not compiled, and training on a CPU is slower without it: {error}")
            return
        build_data["artifacts"].append(LIBRARY)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_native(library: Path) -> None:
    """Put the library there, whole or not at all. It says which source it is of."""
    source, unfinished = library.with_name("native.c"), library.with_suffix(".part")
    digest = hashlib.blake2b(source.read_bytes(), digest_size=16).hexdigest()
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = ["-O3", "-std=gnu11", "-fPIC", "-shared", "-pthread", f'-DSOURCE="{digest}"']
    try:
        subprocess.run([*compiler, *flags, "-o", str(unfinished), str(source), "-lm"], check=True)
        unfinished.replace(library)
    finally:
        unfinished.unlink(missing_ok=True)
