"""The command line as a user meets it when something is wrong: the right exit code, one clear message, nothing half done."""

import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from localhub import LocalHub

from echoself_action import native
from echoself_action.__main__ import main
from echoself_action.hub import retry

ROOT = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]
TEXT = "".join(
    f"Paragraph {number} of a text to learn from, which is long enough to be cut into passages.\n\n" for number in range(900)
)
SMALL = "--tokenizer bytes --n-layer 1 --n-head 1 --n-embd 8 --block-size 16 --max-iters 5 --eval-interval 5 --device cpu"
SMALL += " --preset ci"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "text.md").write_text(TEXT)
    return folder


@pytest.fixture
def run(workspace: Path, tmp_path: Path) -> Run:
    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_TOKEN", "GITHUB_", "ECHOSELF"))}
        command = [sys.executable, "-m", "echoself_action", *(part for word in words for part in word.split())]
        settings = clean | {"HF_HOME": str(tmp_path / "hf")} | environment
        return subprocess.run(command, cwd=workspace, env=settings, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The command line in this process, which has loaded what a process of its own would load first: what others start from."""
    monkeypatch.chdir(workspace)
    return lambda words: main(words.split())


def refused(ended: subprocess.CompletedProcess[str], code: int, expected: str) -> None:
    """One clear message on stderr, no traceback."""
    assert ended.returncode == code, ended.stderr
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def left(workspace: Path) -> list[str]:
    """What a run left in the workspace, its caches aside."""
    return sorted(path.name for path in workspace.iterdir() if path.name != ".echoself")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trian", "Did you mean `echoself train`?"),
        ("help cicle", "Did you mean `echoself cycle`?"),
        ("train --n-layers 3", "Did you mean --n-layer?"),
        ("train --n-layer", "Argument --n-layer: expected one argument"),
        (f"train --data none/**/*.md {SMALL}", "'none/**/*.md' matches no file"),
        ("cycle --repo-id not-a-repo", "--repo-id: 'not-a-repo' has an invalid format"),
        ("trian", "mode: 'trian' is not a valid mode"),
        ("train --colour red", "--colour is not a flag of this mode"),
        ("train --gate none", "It is an input of deploy, cycle and compare"),
        ("train --preset ci --n-embd 130", "--n-embd: 130 is not divisible by n_head, 4"),
        (f"train {SMALL} --block-size 100000", "block_size"),
        ("cycle --repo-id me/model", "hf_token: missing, but writing to https://huggingface.co requires a token"),
        ("train --config none.yml", "config: none.yml can't be read"),
        ("cycle --repo-id me/model --hub ftp://x", "is not an http or https URL"),
    ],
)
def test_an_invalid_input_fails_before_any_work(run: Run, workspace: Path, words: str, expected: str) -> None:
    refused(run(words), 2, expected)
    assert left(workspace) == ["text.md"]


def test_an_unknown_key_in_the_file_is_named(run: Run, workspace: Path) -> None:
    (workspace / "my.yml").write_text("blok_size: 3\n")
    refused(run("train --config my.yml"), 2, "blok_size in my.yml: there is no such input")


@pytest.mark.parametrize("words", [f"cycle --repo-id me/model --hub local {SMALL}", "pull --repo-id a/b --hub folder", "hub"])
def test_a_local_hub_without_localhub_reports_how_to_install_it(workspace: Path, words: str) -> None:
    # -S ignores .pth files, and with them the editable install of localhub; all other packages are found
    path = f"{ROOT}{os.pathsep}{sysconfig.get_path('purelib')}"
    command = [sys.executable, "-S", "-m", "echoself_action", *words.split()]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "HF_HOME": str(workspace / ".echoself")}
    ended = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    refused(ended, 2, "needs the localhub package, which is not installed")
    assert f"-m pip install {ROOT}/packages/localhub\n" in ended.stderr
    assert left(workspace) == ["text.md"]


def test_an_unreachable_hub_is_reported_before_training(
    here: Callable[[str], int], workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr(retry, "WAITS", (0.1, 0.1, 0.1, 0.1))
    code = here(f"cycle --repo-id me/model --hub http://127.0.0.1:9 {SMALL}")
    refused(subprocess.CompletedProcess([], code, *capsys.readouterr()), 4, "http://127.0.0.1:9 can't be reached")
    assert left(workspace) == ["text.md"]


def test_a_private_repo_without_access_is_reported(
    here: Callable[[str], int], run: Run, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalHub(tmp_path / "hub", token="right") as server:
        with monkeypatch.context() as patch:
            patch.setenv("HF_TOKEN", "right")
            assert here(f"cycle --repo-id me/model --private --hub {server.url} {SMALL} --output-dir made") == 0
        for environment in ({}, {"HF_TOKEN": "wrong"}):
            ended = run(f"pull --repo-id me/model --hub {server.url}", **environment)
            refused(ended, 4, "me/model")
        ended = run(f"deploy --repo-id me/model --hub {server.url} --output-dir made", HF_TOKEN="wrong")
        refused(ended, 4, "looking up the token failed")
    assert left(workspace) == ["made", "text.md"]


def test_a_missing_revision_is_reported(here: Callable[[str], int], run: Run, workspace: Path) -> None:
    assert here(f"cycle --repo-id me/model --hub hub --output-dir made {SMALL}") == 0
    refused(run("pull --repo-id me/model --hub hub --revision v9"), 4, "does not exist at revision v9")
    assert left(workspace) == ["hub", "made", "text.md"]


def test_a_folder_that_is_not_a_model_is_reported(run: Run, workspace: Path) -> None:
    (workspace / "folder").mkdir()
    message = "folder has no config.json, so it is not a model of transformers. It was not used."
    refused(run(f"train --checkpoint folder {SMALL}"), 3, message)
    assert left(workspace) == ["folder", "text.md"]
    refused(run("deploy --repo-id me/model --hub hub --checkpoint folder"), 3, message)
    assert left(workspace) == ["folder", "text.md"]


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """A command prefix that gives `full` in the current folder a disk of two megabytes, for the command alone."""
    script = 'mkdir -p full && mount -t tmpfs -o size=2m none full && exec "$@"'
    prefix = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.getuid() else []), "sh", "-ec", script, "sh"]
    if subprocess.run([*prefix, "true"], cwd=tmp_path, check=False, capture_output=True).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("a small disk can't be mounted here, and under CI=true this test must run")
        pytest.skip("a small disk can't be mounted here")
    return prefix


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(small_disk: list[str], workspace: Path) -> None:
    command = [sys.executable, "-m", "echoself_action", "train", *SMALL.split(), "--n-embd", "256", "--output-dir", "full/out"]
    check = "; code=$?; find full -mindepth 2 ! -name .gitignore; exit $code"
    script = " ".join(command) + check
    ended = subprocess.run([*small_disk, "sh", "-c", script], cwd=workspace, capture_output=True, text=True, check=False)
    refused(ended, 3, "checkpoint-5-decayed could not be written")
    assert ended.stdout.splitlines()[-1] == "full/out/log.jsonl"


def test_a_temporarily_full_disk_loses_only_the_saves_of_that_time(small_disk: list[str], workspace: Path) -> None:
    """Something else takes the disk until a save has failed; the run goes on, and ends with all that it promised."""
    steps = "--n-embd 32 --max-iters 600 --max-minutes 1 --eval-interval 600 --checkpoint-interval 100 --keep-checkpoints 1"
    train = f"{sys.executable} -m echoself_action train {SMALL} {steps} --output-dir full/out"
    script = f"""
        head -c 2080000 /dev/zero >full/filler || true
        (until grep -q "could not be written" log; do sleep 0.05; done; rm full/filler) &
        {train} >log; code=$?
        wait; cat log; exit $code"""
    ended = subprocess.run([*small_disk, "sh", "-c", script], cwd=workspace, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "checkpoint-100 could not be written: [Errno 28] No space left on device" in ended.stdout
    assert "Training continues." in ended.stdout
    assert "checkpoint=full/out/checkpoint-" in ended.stdout


def test_every_mode_has_help(run: Run) -> None:
    assert "cycle" in run("--help").stdout
    shown = run("train --help", COLUMNS="80").stdout
    assert run("help train", COLUMNS="80").stdout == shown
    assert shown.index("  echoself train --data") < shown.index("  --learning-rate X ")
    assert "  --device auto|cpu|cuda\n" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "--tag" not in shown
    assert "--hf-token" not in shown


def test_without_a_mode_the_command_shows_what_there_is(run: Run, workspace: Path) -> None:
    ended = run("")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "usage: echoself MODE" in ended.stderr
    assert max(map(len, ended.stderr.splitlines())) <= 80
    (workspace / ".github").mkdir()
    (workspace / ".github/echoself.yml").write_text("mode: train\ndata: none/*.md\n")
    refused(run(""), 2, "'none/*.md' matches no file")


def test_help_may_be_cut_off(run: Run) -> None:
    """By `head`, for example, which closes the pipe."""
    command = f"{sys.executable} -m echoself_action train --help | true"
    ended = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_version_names_what_results_depend_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHOSELF_ISA", raising=False)  # as for the command
    first, second = run("--version").stdout.splitlines()
    package, torch, python = (metadata.version("echoself-action"), metadata.version("torch"), platform.python_version())
    assert first == f"echoself-action {package}, torch {torch}, Python {python}"
    assert second == f"native kernels: {native.best_instruction_set()}" or second.startswith("no native kernels: ")
    refused(run("--version", ECHOSELF_ISA="z80"), 2, "the kernels for 'z80' can't be used")


@pytest.mark.parametrize(("files", "advice"), [((), "The folder has no files"), (("a.txt", "b.txt", "c.png"), "**/*.txt")])
def test_a_folder_without_text_says_what_to_do(tmp_path: Path, files: tuple[str, ...], advice: str) -> None:
    for name in files:
        (tmp_path / name).write_text("text")
    code = "import sys; from echoself_action.__main__ import main; code = main(['train']); "
    code += "sys.exit(1 if 'torch' in sys.modules else code)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    refused(ended, 2, f"'**/*.md' matches no file under {tmp_path}")
    assert advice in ended.stderr
    assert left(tmp_path) == sorted(files)


def test_a_token_is_in_no_output(run: Run, workspace: Path, tmp_path: Path) -> None:
    token = "hf_neverseen123"
    with LocalHub(tmp_path / "hub", token=token) as server:
        inputs = {"repo_id": "me/model", "hub": server.url, "hf_token": token}
        summary = tmp_path / "summary.md"
        ended = run(f"cycle {SMALL}", ECHOSELF_INPUTS=json.dumps(inputs), GITHUB_STEP_SUMMARY=str(summary))
    assert ended.returncode == 0, ended.stderr
    assert token not in ended.stdout + ended.stderr + summary.read_text()
    for folder in (workspace, tmp_path / "hf"):
        for file in folder.rglob("*"):
            assert file.is_dir() or token.encode() not in file.read_bytes(), file


def test_an_interrupted_run_is_saved(workspace: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "echoself_action",
        "train",
        *SMALL.split(),
        "--max-iters",
        "1000000",
        "--log-interval",
        "5",
    ]
    process = subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("step"):
            process.send_signal(2)
            break
    rest = process.stdout.read()
    assert process.wait() == 130
    assert "stopped_by=signal" in rest
    assert list(workspace.glob("echoself-model/checkpoint-*/training_state/state.json"))
