"""Runs the action in a venv of its own, which later jobs of this machine reuse. Needs the standard library only.

    python3 host_runtime.py NAME      NAME distinguishes this job from others that install at the same time

A venv is for one Python, one set of dependencies and C sources, and a CPU or a GPU; it runs the Python code of the action's
folder. It is installed under another name and then renamed: no job sees an unfinished one, and two jobs may install at once.
"""

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

ACTION = Path(__file__).resolve().parent
GUIDE = "https://github.com/9cog/echoself-action/blob/main/docs/runtime.md"
UNUSED_DAYS = 14  # after which a venv is removed; no job runs for more than 5 days
QUIET_SECONDS = 15  # after which a line says that pip is still working
SHOWN_MB = 10  # the size from which a download has a line of its own
TAIL = 40  # lines of pip's log to show if it fails


def main(name: str) -> None:
    """Replace this process by the action's program in a venv, which is created if there is none that works."""
    began = time.monotonic()
    venv = venvs() / key()
    problem = defect(venv)
    if problem is None:
        print(f"reusing the venv {venv}", flush=True)
    else:
        signal.signal(signal.SIGTERM, _interrupt)
        if venv.exists():
            print(f"the venv {venv} is not usable and is replaced: {problem}", flush=True)
            shutil.rmtree(venv, ignore_errors=True)  # another job may do the same
        _remove_unused(venv.parent)
        _install(venv, venv.parent / f"unfinished-{name}", began)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError):  # a venv of another user
        (venv / "used").touch()
    os.environ["ECHOSELF_PACKAGES"] = str(venv.parent)  # a job that exports installs its libraries beside the venv
    python = str(_python(venv))
    os.execv(python, [python, str(ACTION / "entrypoint.py")])  # noqa: S606  no shell is wanted


def venvs() -> Path:
    """The folder for venvs: in the runner's tool cache, which outlives a job, if the job's user can write there."""
    for variable in ("RUNNER_TOOL_CACHE", "RUNNER_TEMP"):
        folder = Path(os.environ.get(variable) or os.environ["RUNNER_TEMP"]) / "echoself-action"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise SystemExit(_failed("no folder for the venv can be written", "Make RUNNER_TEMP writable for the user of the job."))


def key() -> str:
    """The name of the venv for this Python, this version of the action and this machine."""
    python = zlib.crc32(f"{sys.executable} {sys.version}".encode())
    files = subprocess.run([ACTION / "install.sh", "key"], capture_output=True, check=True, text=True).stdout.strip()
    return f"{'cuda' if _has_gpu() else 'cpu'}-{sys.version_info[0]}.{sys.version_info[1]}-{python:08x}-{files}"


def defect(venv: Path) -> str | None:
    """Why a venv can't be used; None if it can."""
    if not venv.is_dir():
        return "it does not exist"
    try:
        started = subprocess.run([_python(venv), "-c", ""], capture_output=True, text=True)
    except OSError as error:
        return f"its Python can't be started ({error.strerror})"
    if started.returncode:
        return f"its Python does not work ({started.stderr.strip()[-200:]})"
    recorded = venv / "complete"
    if not recorded.is_file() or recorded.read_text() != contents(venv):
        return "files of it are missing or were changed"
    return None


def contents(venv: Path) -> str:
    """The number and total size of the installed files, without the bytecode, which Python adds later."""
    sizes = [entry.stat(follow_symlinks=False).st_size for entry in _files(venv / "lib")]
    return f"{len(sizes)} files, {sum(sizes)} bytes"


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        if not entry.is_dir(follow_symlinks=False):
            yield entry
        elif entry.name != "__pycache__":
            yield from _files(entry.path)


def _install(venv: Path, unfinished: Path, began: float) -> None:
    print(f"installing the venv {venv} with Python {sys.version.split()[0]}, which later jobs reuse", flush=True)
    log = Path(os.environ["RUNNER_TEMP"]) / "echoself-pip.log"
    log.unlink(missing_ok=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _run([sys.executable, "-m", "venv", unfinished], "creating the venv", log, began)
        # without bytecode, of which a run needs a small part: Python adds that at the first use
        pip: list[str | Path] = [_python(unfinished), "-m", "pip", "--no-input", "--disable-pip-version-check"]
        quiet = {"PIP_COMPILE": "0", "PIP_PROGRESS_BAR": "off"}
        _run([ACTION / "install.sh", "torch", *pip], "installing PyTorch", log, began, quiet)
        # model-signing too, for which the image has no room
        packages = [str(ACTION / "packages/localhub"), f"{ACTION}[sign]"]
        _run([*pip, "install", *packages], "installing the other packages", log, began, quiet)
        (unfinished / "complete").write_text(contents(unfinished))
        try:
            unfinished.rename(venv)
        except OSError:
            if defect(venv) is not None:
                raise
            print("another job has installed the same venv in the meantime, which is used", flush=True)
    finally:
        _remove(unfinished)
    print(f"{time.monotonic() - began:5.0f} s  installed", flush=True)
    if os.environ.get("RUNNER_ENVIRONMENT") == "github-hosted":
        print(f"       with actions/cache, the next jobs don't install it again: {GUIDE}#cache", flush=True)


def _run(command: Sequence[str | Path], stage: str, log: Path, began: float, environment: dict[str, str] | None = None) -> None:
    """Run a command of the installation with a line about each thing that takes long. Exits with its log if it fails."""
    print(f"{time.monotonic() - began:5.0f} s  {stage}", flush=True)
    # a cancel waits until there is a process to end
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | (environment or {}),
        start_new_session=True,  # a cancel reaches this process only, which then ends the whole group
    )
    assert process.stdout
    lines: queue.Queue[str | None] = queue.Queue()

    def read(stream: Iterator[str]) -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, args=(process.stdout,), daemon=True).start()
    seen: list[str] = []
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        while True:
            try:
                line = lines.get(timeout=QUIET_SECONDS)
            except queue.Empty:
                print(f"{time.monotonic() - began:5.0f} s  still {stage}", flush=True)
                continue
            if line is None:
                break
            seen.append(line)
            if text := progress(line):
                print(f"{time.monotonic() - began:5.0f} s  {text}", flush=True)
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        with log.open("a") as file:
            file.writelines(seen)
    if code:
        for line in seen[-TAIL:]:
            print(f"  | {line.rstrip().replace('##[', '## [')}")  # indented and split, no line is a command to the runner
        raise SystemExit(_failed(f"{stage} failed", "The lines above are the last ones of pip's log."))


def _remove(folder: Path) -> None:
    """Remove a folder in which processes that were just killed may still create a file."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.1)


def progress(line: str) -> str | None:
    """What a line of pip's output says about something that takes long, in short; None for all others."""
    if match := re.match(r"\s*Downloading (?:\S*/)?([\w.]+)-(\d[\w.+!]*)\S* \(([\d.]+) (MB|GB)\)", line):
        megabytes = float(match[3]) * (1000 if match[4] == "GB" else 1)
        return f"downloading {match[1]} {match[2]} ({match[3]} {match[4]})" if megabytes >= SHOWN_MB else None
    if line.startswith("Installing collected packages:"):
        count = line.count(",") + 1
        return f"unpacking {count} package{'s' if count > 1 else ''}"
    if match := re.match(r"\s*Building wheel for ([\w.-]+) .*started", line):
        return f"building {match[1]}"
    return line.strip() if line.startswith("PyTorch's CPU build") else None


def _remove_unused(folder: Path) -> None:
    """Remove venvs that no job has used for days, of other versions of the action or of Python, and what killed jobs left."""
    now = time.time()
    for venv in folder.iterdir():
        used = venv / "used"
        try:
            age = now - (used if used.exists() else venv).stat().st_mtime
        except OSError:
            continue  # another job has just removed or renamed it
        if age > (1 if venv.name.startswith("unfinished-") else UNUSED_DAYS) * 24 * 3600:
            shutil.rmtree(venv, ignore_errors=True)
            print(f"removed the venv {venv.name}, unused for {age / 24 / 3600:.0f} days", flush=True)


def _has_gpu() -> bool:
    """Whether install.sh takes PyTorch's build for GPUs."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0
    except OSError:
        return False


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _failed(message: str, fix: str) -> int:
    """Report an error of the installation as launch.sh does; returns the exit code."""
    print(f"::error title=echoself-action::runtime: {message}. Nothing was done.%0A  {fix}", flush=True)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.write(f"## echoself-action: not done\n\n    runtime: {message}. Nothing was done.\n    {fix}\n")
    return 2


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        print("cancelled while the venv was installed; nothing is left of it")
        sys.exit(130)
