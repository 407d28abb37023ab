"""The libraries of exported formats, of the extra `export` of this package: found, installed in a job of the action, and tried.

Few jobs export, so neither the image nor the venv of the action has them (215 MB). A job that does installs them beside the
venv, or in a container below RUNNER_TEMP: wheels of the versions that were tested. Their dependencies are installed already.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from importlib import invalidate_caches
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

from ...errors import InputError
from ...installation import DISTRIBUTION, export_command, has_pip
from .runtime_formats import PUBLISHED, RuntimeFormat

FOLDER_VARIABLE = "ECHOSELF_PACKAGES"  # the folder to install into, set by the action; elsewhere nothing is installed
_INSTALL_SECONDS = 600
_CALLS = {"xllamacpp": ".get_system_info()"}  # runs the compiled code; the others do when they are imported
# What pip needs of the environment. It gets no tokens.
_PIP_VARIABLES = ("PATH", "HOME", "LANG", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PIP_PREFIX, _PROXY_SUFFIX = "PIP_", "_proxy"


def require_libraries(formats: Sequence[str], note: Callable[[str], None]) -> None:
    """Make the libraries of `formats` importable, here and in child processes.

    Raises InputError if they are not installed and can't be, or if this machine can't run them.
    """
    wanted = [one for name, one in PUBLISHED.items() if name in formats]
    missing = {one.name: [name for name in one.libraries if not find_spec(name)] for one in wanted}
    if any(missing.values()) and (packages := os.environ.get(FOLDER_VARIABLE)):
        _use(_installed(Path(packages), ", ".join(missing), note))
        missing = {one.name: [name for name in one.libraries if not find_spec(name)] for one in wanted}
    for name, libraries in missing.items():
        if libraries:
            named = f"{' and '.join(libraries)}, which {'is' if len(libraries) == 1 else 'are'} not installed"
            raise InputError(
                f"formats: {name} needs {named}. Nothing was done.",
                f"Install the extra `export`: {export_command()}; or leave {name} out of formats.",
            )
    for one in wanted:
        require_usable(one)


def require_usable(one: RuntimeFormat, python: Sequence[str] = (sys.executable,)) -> None:
    """Try the libraries of a format with the command `python`, in a process that they may end.

    Raises InputError if this machine can't run them.
    """
    uses = [f"libraries.{name}{_CALLS.get(name, '')}" for name in one.libraries]
    program = "; ".join(["from echoself_action import libraries", *uses])
    tried = subprocess.run([*python, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if not tried.returncode:
        return
    libraries, leave = " and ".join(one.libraries), f"Use another machine, or leave {one.name} out of formats."
    if -tried.returncode == signal.SIGILL:
        raise InputError(
            f"formats: {one.name} needs {libraries}, compiled for a newer CPU than this one: on x86-64 one with AVX2, FMA, "
            "F16C and BMI2. Nothing was done.",
            leave,
        )
    said = tried.stderr.strip().splitlines()
    reason = said[-1] if said else f"exit code {tried.returncode}"
    raise InputError(f"formats: {one.name} needs {libraries}, which can't be loaded here ({reason}). Nothing was done.", leave)


def requirements() -> list[str]:
    """The requirements of the extra `export`, with their versions."""
    extra = [line.partition(";") for line in requires(DISTRIBUTION) or ()]
    return sorted(name.strip() for name, _, marker in extra if 'extra == "export"' in marker.replace("'", '"'))


def _use(folder: Path) -> None:
    """Import from `folder` too, here and in child processes. What it has is not installed elsewhere."""
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
    invalidate_caches()


def _installed(packages: Path, formats: str, note: Callable[[str], None]) -> Path:
    """The folder with the packages, installed if needed: under another name, and then renamed. Raises InputError."""
    names = requirements()
    python = f"{sys.implementation.cache_tag}-{sys.platform}-{os.uname().machine}"
    folder = packages / f"export-{python}-{zlib.crc32(' '.join(names).encode()):08x}"
    if _is_complete(folder):
        note(f"reusing the libraries of formats: {folder}")
    else:
        note(f"formats: {formats}: installing {', '.join(names)}")
        began = time.monotonic()
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-export-", dir=packages))
        try:
            _install(names, unfinished, formats)
            (unfinished / "complete").write_text(_contents(unfinished))
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            try:
                unfinished.rename(folder)
            except OSError:
                if not _is_complete(folder):  # another job may have installed the same in the meantime
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        note(f"installed in {time.monotonic() - began:.0f} s: {folder}")
    (folder / "used").touch()
    return folder


def _is_complete(folder: Path) -> bool:
    recorded = folder / "complete"
    return recorded.is_file() and recorded.read_text() == _contents(folder)


def _install(names: Sequence[str], folder: Path, formats: str) -> None:
    """Raises InputError with the end of pip's output."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _PIP_VARIABLES or name.startswith(_PIP_PREFIX) or name.lower().endswith(_PROXY_SUFFIX)
    }
    environment["TMPDIR"] = str(folder)  # not /tmp: a container's root may be read-only
    options = ["--no-input", "--disable-pip-version-check", "--no-cache-dir", "--quiet", "--retries=2"]
    # wheels only: no code of a package runs when it is installed
    command = [*_pip(), *options, "install", "--no-deps", "--no-compile", "--only-binary=:all:", f"--target={folder}", *names]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_INSTALL_SECONDS,
        )
        lines = done.stdout.strip().splitlines()
        failed = bool(done.returncode)
    except subprocess.TimeoutExpired:
        lines, failed = [f"pip did not end within {_INSTALL_SECONDS} s"], True
    except OSError as error:
        lines, failed = [f"{command[0]} can't be started: {error.strerror}"], True
    if failed:
        raise InputError(
            f"formats: {formats} needs packages that can't be installed here ({_reason(lines)}). Nothing was done.",
            "The job needs access to https://pypi.org, or to an index in PIP_INDEX_URL; or remove formats.",
        )


def _reason(lines: Sequence[str]) -> str:
    """What pip's output says about a failure: the error of the network, which it reports as a warning, else its last error."""
    network = [match[1] for line in lines if (match := re.search(r"\[Errno -?\d+\] ([\w ]+)", line))]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (network or errors or list(lines) or ["pip failed"])[-1]


def _pip() -> list[str]:
    """This Python's own pip, else the one in PATH, for this Python: the image's venv has none."""
    return [sys.executable, "-m", "pip"] if has_pip() else ["pip", f"--python={sys.executable}"]


def _contents(folder: Path) -> str:
    """The number and total size of the files, without bytecode, which Python adds later."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc" and path.parent != folder]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files)} bytes"
