"""Compiles the native kernels when the package is built. Without a C compiler they are left out, and training uses PyTorch."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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


# The compiler's options for each instruction set, the best ones first (csrc/isa has a header for each)
_AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma"]
_AVX2 = ["-mavx2", "-mfma"]
INSTRUCTION_SETS = {
    "x86_64": {"avx512_bf16": [*_AVX512, "-mavx512bf16"], "avx512": _AVX512, "avx2": _AVX2, "avx2_bf16": _AVX2},
    "aarch64": {"neon_bf16": ["-march=armv8.2-a+bf16"], "neon": ["-march=armv8-a"]},
}
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-fvisibility=hidden", "-pthread"]


def compile_native(folder: Path, compiler: str | None = None, machine: str | None = None, extra: Sequence[str] = ()) -> None:
    """Compile `folder`/csrc to `folder`/native.bin, which is replaced only when the compilation has succeeded.

    The kernels are compiled once for each instruction set of `machine` (default: this one) that the compiler knows, and the
    library contains the digest of its sources. `compiler` is $CC or cc by default; `extra` are further options of it. Raises
    OSError or CalledProcessError if it fails for all of them.
    """
    sources, known = folder / "csrc", INSTRUCTION_SETS.get(machine or platform.machine(), {})
    command = [*shlex.split(compiler or os.environ.get("CC", "cc")), *FLAGS, *extra]
    unfinished = folder / f"{LIBRARY}.part"
    with tempfile.TemporaryDirectory() as objects:

        def compiled(isa: str) -> str | None:
            made = f"{objects}/{isa}.o"
            header = f'-DISA_HEADER="isa/{isa}.h"'
            done = subprocess.run(
                [*command, *known[isa], header, "-c", sources / "kernels.c", "-o", made], capture_output=True, text=True
            )
            if done.returncode:
                print(
                    f"{command[0]} can't compile the kernels for {isa}, so there are none:\n{done.stderr[-2000:]}",
                    file=sys.stderr,
                )
            return None if done.returncode else made

        with ThreadPoolExecutor(len(known) or 1) as threads:
            made = dict(zip(known, threads.map(compiled, known), strict=True))
        found = [isa for isa in known if made[isa]]
        if known and not found:
            raise OSError(f"{command[0]} compiled no kernels")
        defines = [f'-DSOURCES_DIGEST="{digest(sources)}"', f"-DINSTRUCTION_SETS={' '.join(f'X({isa})' for isa in found)}"]
        once = [str(sources / name) for name in ("pool.c", "dispatch.c")]
        try:
            linked = [*once, *(f"{objects}/{isa}.o" for isa in found)]
            subprocess.run([*command, "-shared", *defines, *linked, "-o", str(unfinished), "-lm"], check=True)
            unfinished.replace(folder / LIBRARY)
        finally:
            unfinished.unlink(missing_ok=True)


def digest(sources: Path) -> str:
    """The digest of the C sources, as native/__init__.py computes it."""
    hashed = hashlib.blake2b(digest_size=16)
    for file in sorted(sources.rglob("*.[ch]")):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()
