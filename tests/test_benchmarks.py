"""Every benchmark and stress test explains itself; figures are written as JSON and as a chart; no child process is left."""

import ast
import importlib
import importlib.util
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from echoself_action.formats.nanogpt import read as read_nanogpt
from echoself_action.formats.torch_file.reader import read_torch_file

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"
STRESS = ROOT / "tests/stress"
MAIN = '\nif __name__ == "__main__":\n'
SCRIPTS = sorted(
    str(path.relative_to(ROOT)) for path in (*FOLDER.glob("*.py"), *STRESS.glob("*.py")) if MAIN in path.read_text()
)
# all in one process: PyTorch and transformers are imported once
RUN_ALL = """
import contextlib, io, json, pathlib, runpy, sys
answers = {}
for name in sys.argv[1:]:
    sys.path[0] = str(pathlib.Path(name).parent)
    sys.argv, printed, code = [name, "--help"], io.StringIO(), None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            runpy.run_path(name, run_name="__main__")
        except SystemExit as end:
            code = end.code
        except Exception as error:
            code = repr(error)
    answers[name] = code, printed.getvalue()
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[object, str]]:
    """The exit code and the output of each script with --help."""
    command = [sys.executable, "-c", RUN_ALL, *SCRIPTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, tuple[object, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_explains_itself_and_can_keep_its_figures(name: str, answers: dict[str, tuple[object, str]]) -> None:
    code, printed = answers[name]
    assert code == 0, (code, printed)
    assert f"python {name}" in printed
    assert "--json" in printed
    assert "--plot" in printed


def test_run_bench_runs_scripts_only() -> None:
    """What scripts share is in benchmarks/common, where `./run bench` does not look."""
    assert [path.name for path in FOLDER.glob("*.py") if MAIN not in path.read_text()] == []


def imported_names() -> list[tuple[str, str]]:
    """What the scripts import from the package, also in the programs that they hold as strings."""
    found = set()
    for path in (*FOLDER.rglob("*.py"), *STRESS.glob("*.py")):
        for module, names in re.findall(
            r"^from (echoself_action[\w.]*) import (\([^)]*\)|.*)$", path.read_text(), re.MULTILINE
        ):
            found |= {(module, name.split()[0]) for name in names.partition("#")[0].strip("()\n ,").split(",")}
    return sorted(found)


@pytest.mark.parametrize(("module", "name"), imported_names())
def test_what_the_scripts_import_exists(module: str, name: str) -> None:
    package = importlib.import_module(module)
    assert hasattr(package, name) or importlib.util.find_spec(f"{module}.{name}")


def test_the_messages_that_the_torture_test_looks_for_are_the_packages() -> None:
    """With another message it would not find the moment to kill, or not notice a damaged checkpoint, and pass."""
    victims = (STRESS / "victims.py").read_text()
    (messages,) = re.findall(r"^PUBLISHING, .*? = (.*)$", victims, re.MULTILINE)
    package = "".join(path.read_text() for path in (ROOT / "echoself_action").rglob("*.py"))
    assert [message for message in ast.literal_eval(messages) if message not in package] == []


def descendants(mark: str) -> list[int]:
    """The processes that have `mark` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    ("script", "options", "children"),
    [("benchmarks/speed.py", "--shapes baby --turns 1", 4), ("tests/stress/race.py", "--rounds 50", 3)],
)
def test_a_benchmark_that_is_killed_leaves_no_process(
    tmp_path: Path, number: signal.Signals, script: str, options: str, children: int
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Sentence {i} says that {i * i} is a square.\n" for i in range(2000)))
    further = ["--text", str(text)] if "speed" in script else []
    mark = uuid.uuid4().hex
    environment = os.environ | {"ECHOSELF_TEST_MARK": mark, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / script), *options.split(), *further]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while len(descendants(mark)) <= children + 1:  # it, its watcher, and its children
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(30)
        deadline = time.monotonic() + 10
        while descendants(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert descendants(mark) == []
    finally:
        for left in descendants(mark):
            os.kill(left, signal.SIGKILL)


def test_the_rate_of_matrix_products_is_measured_within_seconds_where_bfloat16_is_slow(tmp_path: Path) -> None:
    """As on a CPU with AVX2 only, whose bfloat16 products of this size take minutes."""
    program = "import sys; sys.path[:0] = sys.argv[1:2]; import speed; sys.argv[1:] = ['cpu']; exec(speed.GEMM)"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-c", program, str(FOLDER)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        began = time.monotonic()
        assert process.stdout
        try:
            for _ in range(4):
                assert process.stdout.readline().endswith(" per second\n")
            assert time.monotonic() - began < 60
        finally:
            process.kill()


def test_a_measurement_comes_out_as_json_and_as_a_chart(tmp_path: Path) -> None:
    few = ["--shape", "baby", "--vocabularies", "65", "--tokens", "4", "--turns", "2"]
    kept = ["--json", str(tmp_path / "figures.json"), "--plot", str(tmp_path / "figures.png")]
    subprocess.run([sys.executable, str(FOLDER / "generation.py"), *few, *kept], check=True, cwd=ROOT)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["benchmark"] == "generation"
    assert "torch" in found["machine"]
    assert found["settings"] == {"shape": "baby", "vocabularies": "65", "tokens": 4, "turns": 2}
    rates = found["figures"]["tokens/s"]
    assert {"65: ours", "65: ours, no cache", "65: transformers"} <= rates.keys()
    for figure in rates.values():
        assert len(figure["values"]) == 2
        assert min(figure["values"]) == figure["least"] <= figure["median"] <= figure["most"] == max(figure["values"])
    picture = imread(tmp_path / "figures.png")
    assert picture.shape[0] > 100
    assert picture.std() > 0.01, "an empty picture"


def test_a_missing_output_folder_is_an_error_before_anything_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(STRESS / "race.py"), "--json", str(tmp_path / "none/figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert f"the folder {tmp_path / 'none'} for figures.json does not exist" in done.stderr


def test_the_reference_has_nanogpts_checkpoint_format_and_arithmetic(tmp_path: Path) -> None:
    data = tmp_path / "data/tokens"
    data.mkdir(parents=True)
    for part in ("train", "val"):
        np.random.default_rng(1).integers(20, size=2000).astype(np.uint16).tofile(data / f"{part}.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 20}))
    sizes = ["--n_layer=2", "--n_head=2", "--n_embd=16", "--block_size=8", "--max_iters=5", "--eval_interval=5"]
    command = [sys.executable, str(FOLDER / "common/nanogpt_reference/train.py"), "--dataset=tokens", "--out_dir=out", *sizes]
    printed = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    assert [line.split(":")[0] for line in printed.splitlines()] == ["step 0", *(f"iter {i}" for i in range(5)), "step 5"]
    sys.path.insert(0, str(FOLDER / "common/nanogpt_reference"))
    try:
        from model import GPT, GPTConfig  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    content = torch.load(tmp_path / "out/ckpt.pt", weights_only=True)
    theirs = GPT(GPTConfig(**content["model_args"]))
    theirs.load_state_dict(content["model"])
    ours = read_nanogpt(read_torch_file(tmp_path / "out/ckpt.pt"))
    ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours.logits(ids), theirs(ids, ids)[0].detach(), atol=1e-5, rtol=0)
    assert ours.step == 5
    assert ours.moments
