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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from echoself_action import native
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.split import is_validation
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


def usable() -> set[str]:
    """The instruction sets of this CPU that there are kernels for."""
    return set(native._usable())


def write_text(folder: Path) -> Path:
    """A text that programs can train on."""
    text = folder / "text.txt"
    text.write_text("".join(f"Sentence {i} says that {i * i} is a square.\n\n" for i in range(2000)))
    return text


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
@pytest.mark.parametrize(
    ("number", "script", "options", "children"),
    [
        (signal.SIGTERM, "benchmarks/speed.py", "--shapes baby --turns 1", 4),
        (signal.SIGKILL, "tests/stress/race.py", "--rounds 50", 3),
    ],
)
def test_a_benchmark_that_is_killed_leaves_no_process(
    tmp_path: Path, number: signal.Signals, script: str, options: str, children: int
) -> None:
    text = write_text(tmp_path)
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


@pytest.mark.skipif(native.instruction_set(torch.float32) is None, reason="no native kernels on this machine")
def test_speed_prints_the_table_of_the_documentation(tmp_path: Path) -> None:
    isa = next(name for name in native.DTYPE_NAMES if native.dtype_of(name) is torch.float32 and name in usable())
    options = ["--shapes", "auto", "--dropout", "0.1", "--turns", "1", "--seconds", "0", "--only", "ours", "--isa", isa]
    text = write_text(tmp_path)
    kept = ["--text", str(text), "--json", str(tmp_path / "figures.json")]
    command = [sys.executable, str(FOLDER / "speed.py"), *options, *kept]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert re.search(
        r"^auto, turn 1 of 1, tokens/s: ours [\d,]+; FMA peak [\d.]+ GFLOP/s; torch.mm ", done.stderr, re.MULTILINE
    )
    heading, _, columns, _, ours, peak, product, *_ = done.stdout.splitlines()
    assert f"limited to {isa.upper().replace('AVX5', 'AVX-5')} (ECHOSELF_ISA={isa}" in heading
    assert "float32" in heading
    assert "| of the FMA peak | of torch.mm's |" in columns
    assert re.match(r"\| `preset: auto`: \d layers, \d heads, .*, bpe:\d+, dropout 0.1 \| ours \| ", ours)
    assert "| FMA peak |" in peak
    assert "| torch.mm |" in product
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert 0 < figures["share of the FMA peak"]["auto: ours"]["median"] < 2
    assert figures["GFLOP/s"].keys() == {"auto: ours", "auto: FMA peak", "auto: torch.mm"}


LIMIT = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from common.instruction_sets import limit_to
limit_to("avx2")
import torch
print(torch.backends.cpu.get_cpu_capability(), flush=True)
code = "import torch; from echoself_action import native; "
code += "print(torch.backends.cpu.get_cpu_capability(), native.fastest_dtype())"
subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.mark.skipif("avx2" not in usable(), reason="no native kernels for AVX2 on this machine")
def test_an_instruction_set_limits_this_process_its_children_and_pytorch() -> None:
    command = [sys.executable, "-c", LIMIT, str(FOLDER)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["AVX2", "AVX2", "torch.float32"]


def test_an_instruction_set_of_another_machine_is_an_error() -> None:
    isa = next(name for name in native.DTYPE_NAMES if name not in usable())
    command = [sys.executable, str(FOLDER / "evaluation.py"), "--isa", isa]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"--isa {isa}: " in done.stderr
    assert "can't be used" in done.stderr
    assert done.stdout == ""


def test_the_share_of_evaluations_is_that_of_the_job_summary(tmp_path: Path) -> None:
    options = ["--presets", "auto", "--minutes", "0.02", "--text", str(write_text(tmp_path))]
    command = [sys.executable, str(FOLDER / "evaluation.py"), *options, "--json", str(tmp_path / "figures.json")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert 0 < figures["share of evaluations"]["auto"]["median"] < 1


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


def test_exported_files_are_measured_in_their_runtimes(model_folder: ModelFolder, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "exports.py"), str(model_folder.path), "--tokens", "4", "--turns", "1"]
    kept = ["--json", str(tmp_path / "figures.json")]
    done = subprocess.run([*command, *kept], check=True, cwd=ROOT, capture_output=True, text=True)
    name = f"{model_folder.path.name}, step 0"
    rows = [line.split(" | ")[1:] for line in done.stdout.splitlines() if line.startswith(f"| {name} |")]
    files = ["model-F32.gguf", "model-F16.gguf", "model-Q8_0.gguf", "onnx/model.onnx", "onnx/model_quantized.onnx"]
    assert [row[0] for row in rows] == ["transformers", *files]
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert figures["tokens/s, of transformers'"].keys() == {f"{name}: {file}" for file in files}
    assert figures["max abs. logit difference"][f"{name}: onnx/model.onnx"]["median"] <= 1e-4


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


SCENES = ROOT / "tests/data/scenes"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The benchmarks whose rules are tested here, as modules."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("nights", "recipes", "compressor")
    found: dict[str, ModuleType] = {name: importlib.import_module(name) for name in names}
    yield SimpleNamespace(**found, corpora=importlib.import_module("common.corpora"))
    for name in [name for name in sys.modules if name in names or name.partition(".")[0] == "common"]:
        del sys.modules[name]


def series(scripts: SimpleNamespace, *changes: tuple[int, dict[str, object]]) -> list[object]:
    """Eight nights without a fault, with the changes to the nights of these numbers."""
    model, night = scripts.nights.Model, scripts.nights.Night
    nights = [
        night(
            corpus="a", number=number, result="published", exit_code=0, seconds=90.0, step=number * 10,
            trained=f"losses {number}",
            published=model(number * 10, 3 - number / 10, f"model {number}"),
            state=model(number * 8, 3.1 - number / 10, f"state {number}"),
        )
        for number in range(1, 9)
    ]  # fmt: skip
    for number, change in changes:
        nights[number - 1] = replace(nights[number - 1], **change)
    return nights


def failed(scripts: SimpleNamespace, nights: list[object]) -> list[str]:
    given = SimpleNamespace(tolerance=0.002)
    return [sentence for passed, sentence in scripts.nights.checked("a", nights, given) if not passed]


def test_nights_without_a_fault_pass(scripts: SimpleNamespace) -> None:
    assert failed(scripts, series(scripts)) == []
    nights = series(scripts)
    seventh = nights[6]
    kept = {"published": seventh.published, "state": seventh.state}  # type: ignore[attr-defined]
    assert failed(scripts, [*nights[:7], replace(nights[7], result="converged", trained="", seconds=8, **kept)]) == []  # type: ignore[type-var]


def test_each_fault_of_a_night_fails_its_check(scripts: SimpleNamespace) -> None:
    model, nights = scripts.nights.Model, series(scripts)
    fourth = nights[3]
    kept = {"published": fourth.published, "state": fourth.state}  # type: ignore[attr-defined]
    for changes, words in (
        ([(5, {"published": model(50, 2.7, "worse")})], "the published curve never rises"),
        ([(5, {"published": model(50, float("nan"), "diverged")})], "the published curve never rises"),
        ([(6, {"trained": "losses 5"})], "no two nights trained the same bits (night 6 as 5)"),
        ([(6, {"state": model(40, 2.6, "state 4")})], "no two nights trained the same bits (night 6 as 4)"),
        ([(6, {"state": model(40, 2.6, "model 5")})], "no two nights trained the same bits (night 6 as 5)"),
        ([(5, kept | {"result": "advanced"})], "the training state never gets stuck (night 5)"),
        (
            [(5, {"result": "converged"}), (6, {"result": "converged", "seconds": 20.5})],
            "nights after converged take under 20 s",
        ),
        ([(5, {"exit_code": 1})], "exit code 0 each night but the killed one (night 5: 1)"),
        ([(5, {"poisoned": True}), (6, {"state": model(48, 3.5, "bad")})], "the night after learning_rate 0.5 is fine"),
        ([(8, {"killed": True, "exit_code": -9})], "recovered from the kill"),
    ):
        (sentence,) = failed(scripts, series(scripts, *changes))
        assert words in sentence


def test_a_killed_night_may_be_repeated_and_a_rolled_back_one_may_leave_the_state(scripts: SimpleNamespace) -> None:
    nights = series(scripts)
    kept = {"published": nights[3].published, "state": nights[3].state}  # type: ignore[attr-defined]
    killed = kept | {"killed": True, "exit_code": -9, "result": "", "trained": "losses 6"}
    assert failed(scripts, series(scripts, (5, killed))) == []
    assert failed(scripts, series(scripts, (5, kept | {"result": "rolled_back", "poisoned": True}))) == []


def test_before_a_corpus_grows_a_tenth_is_held_back_and_no_document_changes_its_split(
    scripts: SimpleNamespace, tmp_path: Path
) -> None:
    text = tmp_path / "one.txt"
    text.write_text("\n\n".join(path.read_text() for path in sorted(SCENES.glob("*.md"))))
    for corpus in (SCENES, text):
        part = tmp_path / f"part of {corpus.stem}"
        pattern = scripts.nights.copy_corpus(corpus, part, 0.9)
        assert pattern.startswith("part of ")
        left = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        whole = sum(path.stat().st_size for path in scripts.corpora.files_of(corpus))
        assert 0.85 < left / whole < 0.95
        before, after = (
            scripts.corpora.split_text(part if corpus.is_dir() else part / text.name),
            scripts.corpora.split_text(corpus),
        )
        everything = "".join(after.held_out)
        assert all(document in everything for document in before.held_out)


def test_the_split_of_a_benchmark_is_the_packages(scripts: SimpleNamespace, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.md").write_text(f"Text {number}, é.\n")
    found = scripts.corpora.split_text(tmp_path)
    assert found.held_out
    assert all(is_validation(text, 0.1) for text in found.held_out)
    assert sorted(found.train + found.held_out) == sorted(path.read_text() for path in tmp_path.glob("*.md"))
    assert found.held_out_bytes == len("".join(found.held_out).encode())


def test_bits_per_byte_of_a_model_that_knows_nothing(scripts: SimpleNamespace, model_folder: ModelFolder) -> None:
    """A model whose weights are zero gives each of its 257 ids the same probability."""
    from safetensors.torch import load_file, save_file

    weights = {name: torch.zeros_like(tensor) for name, tensor in load_file(model_folder.path / "model.safetensors").items()}
    save_file(weights, model_folder.path / "model.safetensors")
    documents = ["A text, é.", "Another one."]
    size = len("".join(documents).encode())
    expected = np.log2(model_folder.config.vocab_size) * (size + len(documents) - 1) / (size - 1)
    assert scripts.corpora.bits_per_byte_of_folder(model_folder.path, documents) == pytest.approx(expected)


def test_recipes_are_compared_seed_by_seed(scripts: SimpleNamespace) -> None:
    paired = scripts.recipes.paired
    assert paired({1: 2.2, 2: 2.4, 3: 2.1}, {1: 2.0, 2: 2.2, 3: 1.9}) == ("1.0987", "24.65", "yes")
    assert paired({1: 2.0, 2: 2.4}, {1: 2.1, 2: 2.2})[2] == "no"
    assert paired({1: 2.0}, {1: 2.5}) == ("0.8000", "", "")
    assert paired({4: 2.0}, {1: 2.5}) == ("", "", "")


def test_a_compressor_reads_each_held_out_document_after_the_training_text(scripts: SimpleNamespace) -> None:
    seen = []

    def added(train: bytes, text: bytes) -> float:
        seen.append((train, text))
        return 8.0 if text == b"a" else 5.0

    assert scripts.compressor.alone(added, b"train", ["a", "bc"]) == 6
    assert seen == [(b"train", b"a"), (b"train", b"bc")]


def test_recipes_can_be_measured_in_parts_and_summed_up(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ["--json", str(tmp_path / "runs.json"), "--minutes", "0.03", "--seeds", "1"]
    command = [str(FOLDER / "recipes.py"), "--corpus", str(SCENES), *kept]
    subprocess.run([sys.executable, *command, "--only", "nanogpt-chars"], check=True, cwd=ROOT, capture_output=True)
    measured = (tmp_path / "runs.json").read_text()
    for again in (["--only", "nanogpt-chars"], ["--summary"]):  # what was measured is not measured again
        monkeypatch.setattr(sys, "argv", [*command, *again])
        scripts.recipes.main()
        (run,) = json.loads((tmp_path / "runs.json").read_text())["runs"]
        assert run == json.loads(measured)["runs"][0]
        assert (run["corpus"], run["candidate"], run["seed"]) == ("scenes", "nanogpt-chars", 1)
        assert 1 < run["bits_per_byte"] < 9
        assert "| scenes | 0.03 | nanogpt-chars | 1 |" in capsys.readouterr().out


def test_nights_come_out_as_json_and_as_a_chart_and_can_be_continued(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second night is killed in its training: it leaves the Hub as it was."""
    kept = ["--json", str(tmp_path / "nights.json"), "--plot", str(tmp_path / "nights.png"), "--work", str(tmp_path / "work")]
    options = ["--corpus", str(SCENES), "--seconds", "2", "--preset", "ci", "--kill", "2", *kept]
    for nights in ("1", "2"):
        monkeypatch.setattr(sys, "argv", [str(FOLDER / "nights.py"), *options, "--nights", nights])
        with pytest.raises(SystemExit) as ended:
            scripts.nights.main()
        printed = capsys.readouterr().out
    assert ended.value.code == 1, printed
    assert "FAIL scenes: recovered from the kill (night 2 is the last, so nothing shows it)" in printed
    first, second = json.loads((tmp_path / "nights.json").read_text())["nights"]
    assert (first["exit_code"], second["exit_code"], second["killed"]) == (0, -9, True)
    assert first["published"] == second["published"]
    assert 1 < first["published"]["bits_per_byte"] < 9
    assert imread(tmp_path / "nights.png").std() > 0.01, "an empty picture"
    assert (tmp_path / "nights.svg").read_text().startswith("<?xml")
