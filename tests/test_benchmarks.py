"""Every script in benchmarks/ says what it takes, and what it measures comes out as JSON and as a chart."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from echoself_action.formats.nanogpt import read_nanogpt
from echoself_action.formats.torch_file.reader import read_foreign

FOLDER = Path(__file__).parent.parent / "benchmarks"
FILES = sorted(path.stem for path in FOLDER.glob("*.py"))
SCRIPTS = [name for name in FILES if '\nif __name__ == "__main__":\n' in (FOLDER / f"{name}.py").read_text(encoding="utf-8")]
# all in one process: PyTorch and transformers are imported once
RUN_ALL = """
import contextlib, io, json, runpy, sys
folder, *names = sys.argv[1:]
sys.path[0], told = folder, {}
for name in names:
    sys.argv, said, code = [f"{folder}/{name}.py", "--help"], io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code
        except Exception as error:
            code = repr(error)
    told[name] = code, said.getvalue()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, tuple[object, str]]:
    """How each file ends when it is run with --help, and what it says."""
    command = [sys.executable, "-c", RUN_ALL, str(FOLDER), *FILES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    answers: dict[str, tuple[object, str]] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_explains_itself_and_its_figures_can_be_kept(name: str, told: dict[str, tuple[object, str]]) -> None:
    code, said = told[name]
    assert code == 0, (code, said)
    assert f"python benchmarks/{name}.py" in said
    assert "--json" in said
    assert "--plot" in said


@pytest.mark.parametrize("name", sorted({*FILES} - {*SCRIPTS}))
def test_what_benchmarks_share_does_nothing_when_all_files_are_run(name: str, told: dict[str, tuple[object, str]]) -> None:
    assert told[name] == [None, ""]


@pytest.mark.slow
def test_a_measurement_comes_out_as_json_and_as_a_chart(tmp_path: Path) -> None:
    few = ["--shape", "baby", "--vocabularies", "65", "--tokens", "4", "--turns", "2"]
    kept = ["--json", str(tmp_path / "figures.json"), "--plot", str(tmp_path / "figures.png")]
    subprocess.run([sys.executable, str(FOLDER / "generation.py"), *few, *kept], check=True, cwd=FOLDER.parent)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["benchmark"] == "generation"
    assert "torch" in found["machine"]
    assert found["settings"] == {"shape": "baby", "vocabularies": "65", "tokens": 4, "turns": 2}
    rates = found["figures"]["tokens/s"]
    assert {"65: ours", "65: ours, anew", "65: transformers"} <= rates.keys()
    for figure in rates.values():
        assert len(figure["values"]) == 2
        assert min(figure["values"]) == figure["least"] <= figure["median"] <= figure["most"] == max(figure["values"])
    picture = imread(tmp_path / "figures.png")
    assert picture.shape[0] > 100
    assert picture.std() > 0.01, "an empty picture"


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "race.py"), "--json", str(tmp_path / "none/figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent)
    assert done.returncode == 2
    assert f"there is no folder {tmp_path / 'none'} to write figures.json to" in done.stderr


@pytest.mark.slow
def test_the_reference_is_nanogpt_by_its_checkpoint_and_its_arithmetic(tmp_path: Path) -> None:
    data = tmp_path / "data/tokens"
    data.mkdir(parents=True)
    for part in ("train", "val"):
        np.random.default_rng(1).integers(20, size=2000).astype(np.uint16).tofile(data / f"{part}.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 20}))
    sizes = ["--n_layer=2", "--n_head=2", "--n_embd=16", "--block_size=8", "--max_iters=5", "--eval_interval=5"]
    command = [sys.executable, str(FOLDER / "reference/train.py"), "--dataset=tokens", "--out_dir=out", *sizes]
    said = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    assert [line.split(":")[0] for line in said.splitlines()] == ["step 0", *(f"iter {i}" for i in range(5)), "step 5"]
    sys.path.insert(0, str(FOLDER / "reference"))
    try:
        from model import GPT, GPTConfig  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    content = torch.load(tmp_path / "out/ckpt.pt", weights_only=True)
    theirs = GPT(GPTConfig(**content["model_args"]))
    theirs.load_state_dict(content["model"])
    ours = read_nanogpt(read_foreign(tmp_path / "out/ckpt.pt"))
    ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours.logits(ids), theirs(ids, ids)[0].detach(), atol=1e-5, rtol=0)
    assert ours.step == 5
    assert ours.moments
