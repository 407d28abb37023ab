"""Folders of transformers as checkpoints: imported exactly through every mode, or refused with the cause."""

import shutil
from pathlib import Path

import pytest

from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.corpus.tokenizer import load_tokenizer
from echoself_action.hub.client import open_hub

from ..conftest import Cli
from .reference import assert_reference

OUT = "echoself-model"
TRAIN = "--max-iters 2 --eval-interval 2 --batch-size 4 --device cpu --dtype float32 --decay 0"
TAKEN = {  # case -> its step
    "b02_sharded": 0,
    "b03_vocabmerges": 0,
    "b15_bert": 0,
    "b20_results/checkpoint-500": 500,
    "b20_results/checkpoint-2000": 2000,
}
REFUSED = {  # case -> what the message says
    "b01b_trainer_notok/checkpoint-500": ("has no tokenizer: neither tokenizer.json nor vocab.json", "or set tokenizer to"),
    "b05b_tok_larger": ("has a tokenizer with 260 ids, and its model has embeddings of 257, not of '<pad><user><bot>'",),
    "b20_results": ("has no config.json", "It contains checkpoints. Give one of them, for example", "checkpoint-2000"),
    "b21_head_apart": ("has an lm_head.weight that differs from its transformer.wte.weight", "output head of its own"),
}
MODES = {
    "pull": "pull",
    "deploy": "deploy --hub hub --repo-id me/m --dry-run",
    "train": f"train {TRAIN}",
    "cycle": f"cycle {TRAIN} --hub hub --repo-id me/m",
}


def reference_of(cases: Path, case: str) -> Path:
    folder = cases / "checkpoints" / case
    return folder if (folder / "reference.npz").is_file() else folder.parent


@pytest.mark.parametrize("case", TAKEN)
def test_the_folder_is_taken_exactly(echoself: Cli, cases: Path, case: str) -> None:
    folder = cases / "checkpoints" / case
    outputs = echoself("pull", f"--checkpoint {folder}")
    imported = Path(outputs["model_dir"])
    assert int(outputs["step"]) == TAKEN[case]
    if (reference_of(cases, case) / "reference.npz").is_file():
        assert_reference(imported, reference_of(cases, case))
    facts = read_metadata(imported)
    assert facts
    assert facts.parity
    assert facts.parity.argmax_agreement == 1.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", REFUSED)
def test_the_folder_is_refused_in_every_mode(
    echoself: Cli, workspace: Path, cases: Path, case: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(MODES[mode], f"--checkpoint {cases / 'checkpoints' / case}", code=3)
    said = capsys.readouterr().err
    assert all(part in said for part in REFUSED[case]), said
    assert not list(Path().glob(f"{OUT}/checkpoint-*"))


def test_a_given_tokenizer_completes_a_folder_without_one(echoself: Cli, cases: Path) -> None:
    case = cases / "checkpoints/b01b_trainer_notok"
    outputs = echoself("pull --tokenizer bytes", f"--checkpoint {case / 'checkpoint-500'}")
    assert outputs["step"] == "500"
    assert_reference(Path(outputs["model_dir"]), case)


def test_an_end_token_is_what_the_config_names(echoself: Cli, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = echoself("pull", f"--checkpoint {cases / 'checkpoints/b15_bert'}")
    assert "end of text: '[PAD]', the eos_token_id of its config.json; '<|endoftext|>' is not in" in capsys.readouterr().out
    tokenizer = load_tokenizer(Path(outputs["model_dir"]))
    assert (tokenizer.end_of_text, tokenizer.end_of_text_id) == ("[PAD]", 0)


@pytest.fixture
def results(cases: Path, workspace: Path) -> Path:
    """The output_dir of transformers' Trainer, which is that of this program, too."""
    shutil.copytree(cases / "checkpoints/b20_results", workspace / "results")
    for path in (workspace / "results", *(workspace / "results").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Path("results")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_checkpoints_of_the_trainer_in_output_dir_are_left_alone(
    echoself: Cli, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = files_of(results)
    train = f"train {TRAIN} --output-dir results --n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --tokenizer bytes"
    steps = [int(echoself(train, "--keep-checkpoints 1")["step"]) for _ in range(3)]
    assert steps == [2, 4, 6]
    assert files_of(results).items() >= theirs.items()
    output = capsys.readouterr().out
    assert "results/checkpoint-2000 and 3 more in results were not written by this program and are not used." in output
    assert "To resume from it, set checkpoint: results/checkpoint-2000" in output


def test_a_checkpoint_of_the_trainer_is_resumed_at_its_step_and_stays(echoself: Cli, results: Path) -> None:
    theirs = files_of(results)
    outputs = echoself(f"train {TRAIN} --output-dir results --checkpoint results/checkpoint-500")
    assert outputs["step"] == "502"
    assert Path("results/checkpoint-500-2/training_metadata.json").is_file()
    assert echoself(f"train {TRAIN} --output-dir results")["step"] == "504"  # the next run resumes ours
    assert files_of(results).items() >= theirs.items()


def test_a_step_that_the_trainer_has_taken_gets_another_name(echoself: Cli, results: Path) -> None:
    theirs = files_of(results)
    (results / "checkpoint-500").rename(results / "checkpoint-2")
    theirs = files_of(results)
    train = f"train {TRAIN} --output-dir results --n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --tokenizer bytes"
    assert [int(echoself(train)["step"]) for _ in range(2)] == [2, 4]
    assert Path("results/checkpoint-2-2/training_metadata.json").is_file()
    assert files_of(results).items() >= theirs.items()


def test_deploy_does_not_publish_them_unasked(echoself: Cli, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy = "deploy --hub hub --repo-id me/m --dry-run --output-dir results"
    echoself(deploy, code=3)
    assert "set checkpoint to the path of a model folder, such as results/checkpoint-2000" in capsys.readouterr().err
    assert echoself(deploy, "--checkpoint results/checkpoint-1000")["step"] == "1000"


def publish(folder: Path, repo_id: str = "them/theirs") -> str:
    """Put the files of a folder on the local Hub, as another program would; returns the commit."""
    with open_hub("hub", None) as hub:
        hub.api.create_repo(repo_id, exist_ok=True)
        return str(hub.api.upload_folder(repo_id=repo_id, folder_path=folder, ignore_patterns=["reference.npz"]).oid)


@pytest.mark.parametrize("case", [case for case in TAKEN if "/" not in case])
def test_a_model_on_the_hub_is_taken_exactly(echoself: Cli, cases: Path, case: str) -> None:
    commit = publish(cases / "checkpoints" / case)
    outputs = echoself("pull --hub hub --repo-id them/theirs")
    assert_reference(Path(outputs["model_dir"]), cases / "checkpoints" / case)
    facts = read_metadata(Path(outputs["model_dir"]))
    assert facts
    assert facts.imported_from
    assert facts.imported_from.file == f"them/theirs at {commit}"


@pytest.mark.parametrize("mode", ["pull", f"train {TRAIN}", f"cycle {TRAIN}"])
@pytest.mark.parametrize("case", [case for case in REFUSED if case.startswith("b05") or case.startswith("b21")])
def test_a_model_on_the_hub_is_refused_in_every_mode(
    echoself: Cli, workspace: Path, cases: Path, case: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(cases / "checkpoints" / case)
    echoself(mode, "--hub hub --repo-id them/theirs", code=3)
    said = capsys.readouterr().err
    assert all(part in said for part in REFUSED[case]), said
    assert "them/theirs at " in said
    assert not list(Path().glob(f"{OUT}/checkpoint-*"))


def test_a_cycle_goes_on_from_a_model_that_another_program_published(
    echoself: Cli, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(cases / "checkpoints/b02_sharded")
    cycle = f"cycle {TRAIN} --hub hub --repo-id them/theirs --learning-rate 1e-3"
    echoself(cycle)
    assert f"start: {OUT}/checkpoint-0, step 0: the newest of them/theirs" in capsys.readouterr().out
    echoself(cycle)  # the weights are random, so the first was rolled back: the next is of the same run
    assert "learning_rate is 0.0005 instead of 0.001: a run from this step at 0.001 was rolled back" in capsys.readouterr().out
