"""`echoself doctor`: whether a job would start and what it would do, against a real Hub; and that it does nothing."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from localhub import Account, LocalHub

from echoself_action.__main__ import main

from ..conftest import SMALL, Cli

NEW = f"--repo-id me/model --tokenizer bytes {SMALL}"
ACCOUNTS = {
    "writer": Account("me", owns=frozenset({"me"})),
    "reader": Account("me", role="read", owns=frozenset({"me"})),
    "stranger": Account("stranger", owns=frozenset({"stranger"})),
    "scoped": Account("me", role="fineGrained", owns=frozenset(), resources=frozenset({"me/model"})),
}
Doctor = Callable[..., str]


@pytest.fixture
def doctor(workspace: Path, capsys: pytest.CaptureFixture[str], short_waits: None) -> Doctor:
    """Runs doctor, which must leave no trace, in the workspace or on a Hub in it; returns its lines, each on one."""

    def run(words: str, code: int = 0) -> str:
        before = traces()
        capsys.readouterr()
        assert main(["doctor", *words.split()]) == code
        assert traces() == before
        return re.sub(r"\n {18}", " ", capsys.readouterr().out)

    def traces() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in workspace.rglob("*") if path.is_file()}

    return run


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with LocalHub(tmp_path / "server", accounts=ACCOUNTS) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def line(output: str, subject: str, level: str = "OK") -> str:
    """The text of the first check of this subject, which must have this level."""
    found = re.search(rf"^(\w+) +{subject} +(.*)$", output, re.MULTILINE)
    assert found, output
    assert found[1] == level, output
    return found[2]


def test_a_first_job(doctor: Doctor, workspace: Path) -> None:
    output = doctor(f"cycle --hub local {NEW} --demo")
    assert line(output, "repo") == "me/model will be created, in a new local Hub in .echoself/hub"
    assert line(output, "demo").startswith("the static Space me/model-demo will be created; ")
    assert re.match(r"40 files, \d+ documents, 202 KB of text, about 200,000 tokens, \d+% held out", line(output, "corpus"))
    assert re.search(r"\d+ CPUs, no GPU used \(device: cpu\), (no )?native kernels.* GB of memory, .* GB of disk", output)
    plan = line(output, "plan")
    assert plan.startswith("would start a new model, and train about 20 steps of a 2-layer model of ")
    assert line(output, "publish") == "would publish it: it is the first (gate: improved)"
    assert output.endswith("The job would start.\n")


def test_preset_auto_chooses_as_the_run_does(
    doctor: Doctor, echoself: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoself_action.starting.sizing.flops_per_second", lambda *_: 2.0**34)  # its measurement may vary
    plan = line(doctor("train --max-minutes 0.05 --device cpu"), "plan")
    echoself("train --max-minutes 0.05 --device cpu")
    chosen = re.search(r"auto: (\d+) layers", capsys.readouterr().out)
    assert chosen
    assert f"of a {chosen[1]}-layer model of " in plan


def test_the_next_job_resumes_where_doctor_says(
    doctor: Doctor, begun: Cli, echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(f"cycle --hub hub {NEW}")
    output = doctor(f"--hub hub {NEW}")  # cycle is the default
    assert re.match(
        r"me/model in the local Hub hub has step 20, \d\.\d{4} bits per byte .* and its training state", line(output, "repo")
    )
    assert line(output, "plan").startswith("would resume at step 16 of me/model, and train about 20 steps of a 2-layer model")
    assert line(output, "publish").startswith("would publish it if it is significantly better than step 20, ")
    capsys.readouterr()
    echoself(f"cycle --hub hub {NEW}")
    log = capsys.readouterr().out
    assert "resuming at step 16: " in log
    first_lines = log.partition("Pulling")[0]
    assert first_lines.startswith("\nChecks\nOK       token    ")
    assert line(first_lines, "repo") == "me/model in the local Hub hub has a model and its training state"
    assert line(first_lines, "corpus") == "40 files, 202 KB"
    assert line(first_lines, "time") == "training ends after 8 minutes (max_minutes) or 20 steps (max_iters)"


def test_a_local_checkpoint_and_another_shape(doctor: Doctor, begun: Cli) -> None:
    begun(f"train --tokenizer bytes {SMALL}")
    plan = line(doctor(f"train --tokenizer bytes {SMALL}"), "plan")
    assert plan.startswith("would resume at step 16 of echoself-model/checkpoint-16, and train about 20 steps")
    assert "n_layer is 3, and the checkpoint has 2" in line(doctor(f"train {SMALL} --n-layer 3", 2), "plan", "problem")
    assert line(doctor("deploy --repo-id me/model --hub hub"), "model").startswith(
        "echoself-model/checkpoint-20-decayed: step 20"
    )
    doctor("train --resume never --confirm-fresh-start true --preset ci --device cpu")


def test_a_converged_model_says_that_nothing_would_be_trained(doctor: Doctor, begun: Cli) -> None:
    begun(f"train --tokenizer bytes {SMALL}")
    state = Path("echoself-model/checkpoint-16/training_state/state.json")
    state.write_text(state.read_text().replace('"runs_without_gain": 0', '"runs_without_gain": 5'))
    output = doctor(f"train {SMALL}")
    assert line(output, "plan", "warning").startswith("would train nothing: 5 runs in a row on this corpus did not reach a ")
    Path("docs/new.md").write_text("A new text, which was not there in the runs before.\n\n" * 9)
    assert line(doctor(f"train {SMALL}"), "plan").startswith("would resume at step 16")


@pytest.mark.parametrize(
    ("token", "repo_id", "code", "subject", "found"),
    [
        ("writer", "me/model", 0, "token", "write token of me, from HF_TOKEN"),
        ("scoped", "me/model", 0, "token", "fine-grained token of me, from HF_TOKEN"),
        ("writer", "me/new", 0, "repo", "/me/new does not exist, and will be created"),
        ("reader", "me/model", 4, "token", "The token of me is read-only"),
        ("wrong", "me/model", 4, "token", "rejected the token"),
        ("stranger", "me/model", 4, "access", "has no write access to me/model"),
        ("scoped", "me/private", 4, "access", "the token can't create it: it is fine-grained"),
    ],
)
def test_tokens(
    doctor: Doctor,
    server: LocalHub,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    repo_id: str,
    code: int,
    subject: str,
    found: str,
) -> None:
    api = HfApi(server.url, token="writer")
    api.create_repo("me/model")
    api.create_repo("me/private", private=True)
    monkeypatch.setenv("HF_TOKEN", token)
    output = doctor(f"cycle --tokenizer bytes {SMALL} --repo-id {repo_id}", code)
    assert found in line(output, subject, "problem" if code else "OK")
    assert output.rstrip().endswith("exit code 4: Hub error." if code else "The job would start.")


def test_no_token(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, server: LocalHub) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url.replace("127.0.0.1", "127.0.0.2"))  # not known as this machine
    monkeypatch.setattr("echoself_action.hub.retry.WAITS", ())
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:9")
    output = doctor(f"cycle {NEW}", 2)
    assert line(output, "token", "problem").startswith("hf_token: missing, but writing to http://127.0.0.2")
    assert "warning  token    keyless access is possible: this job has an id token, and HF_OIDC_RESOURCE is not set" in output


def test_keyless_access_without_an_id_token(doctor: Doctor, server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", "me/model")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    output = doctor(f"cycle {NEW}", 2)
    assert "HF_OIDC_RESOURCE requests keyless access, but this job has no id token" in line(output, "token", "problem")


@pytest.mark.parametrize(
    ("words", "code", "subject", "found"),
    [
        ("train --data none/*.md", 2, "corpus", "'none/*.md' matches no file"),
        ("train --data docs/*.md --data one.md", 2, "corpus", "but with val_fraction 0.1 none is in the"),
        ("train --resume must", 2, "plan", "resume: must, but there is no checkpoint in echoself-model"),
        ("train --checkpoint none", 3, "plan", "none is not a folder"),
        ("train --init-from ./none", 2, "plan", "init_from: './none' is neither an existing path nor a valid repo id"),
        ("deploy --repo-id me/model --hub hub", 3, "model", "There is no checkpoint in echoself-model"),
        ("pull --repo-id me/model --hub hub", 4, "repo", "There is no local Hub in hub, so me/model can't be pulled"),
    ],
)
def test_what_ends_a_job(doctor: Doctor, workspace: Path, words: str, code: int, subject: str, found: str) -> None:
    (workspace / "one.md").write_text("One document.")
    assert found in line(doctor(words.replace("train", f"train {SMALL}"), code), subject, "problem")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_missing(doctor: Doctor) -> None:
    found = line(doctor(f"train {SMALL} --device cuda", 2), "machine", "problem")
    assert found.startswith("device: cuda was set, and PyTorch finds no CUDA device")


def test_a_repo_without_a_model_can_not_be_pulled(doctor: Doctor, server: LocalHub) -> None:
    HfApi(server.url, token="writer").create_repo("me/model")
    assert "has no model at main, or is not accessible" in line(doctor("pull --repo-id me/model", 4), "repo", "problem")


def test_a_comparison_and_an_import(doctor: Doctor, begun: Cli) -> None:
    begun(f"cycle --hub hub {NEW}")
    compare = "compare --hub hub --candidates echoself-model,me/"
    assert line(doctor(f"{compare}model"), "models") == "would compare echoself-model (here), me/model (on the Hub)"
    assert "me/none does not exist on" in line(doctor(f"{compare}none", 4), "models", "problem")
    assert line(doctor("pull --checkpoint echoself-model/checkpoint-16"), "model").startswith("would import echoself-model/")
    assert "none is not a folder" in line(doctor("pull --checkpoint none", 3), "model", "problem")


def test_without_a_mode_and_a_repo_it_checks_training(doctor: Doctor) -> None:
    output = doctor("--device cpu --preset ci")
    assert output.startswith("would `train` start?")
    assert line(output, "repo") == "not used: repo_id is not set, so the model stays in output_dir"


def test_all_invalid_inputs_are_reported_at_once(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "cycle", "--n-layer", "x", "--gate", "y"]) == 2
    assert "3 inputs are invalid" in capsys.readouterr().err
    assert main(["doctor", "trian"]) == 2
    assert "doctor: 'trian' is not a valid mode" in capsys.readouterr().err


def test_what_is_skipped_in_the_corpus_is_a_warning(doctor: Doctor) -> None:
    Path("docs/broken.jsonl").write_text('{"text": "a record"}\n{broken\n')
    words = f"train --tokenizer bytes --data docs/* {SMALL}"
    assert "broken.jsonl" in line(doctor(words, 2), "corpus", "problem")
    assert "skipped records (1): docs/broken.jsonl" in line(doctor(f"{words} --on-bad-file skip"), "corpus", "warning")


def test_the_mode_and_the_models_of_the_file(doctor: Doctor, workspace: Path) -> None:
    (workspace / ".github").mkdir()
    inputs = "mode: train\npreset: ci\ndevice: cpu\nmodels:\n  one: {data: docs/*.md}\n  two: {data: none/*.md}\n"
    (workspace / ".github/echoself.yml").write_text(inputs)
    output = doctor("", 2)
    assert "one: would `train` start?" in output
    assert output.count("The job would start.") == 1
    assert output.rstrip().endswith("exit code 2: invalid input.")


def test_the_phases_of_the_run_and_what_does_not_fit_them(doctor: Doctor, workspace: Path) -> None:
    (workspace / ".github").mkdir()
    file, words = workspace / ".github/echoself.yml", f"train --tokenizer bytes {SMALL}"
    file.write_text("curriculum_iters: 30\nphases: [{name: one, share: 0.5, weights: {docs/*1.md: 0}}, {name: two}]\n")
    assert line(doctor(words), "phases") == "one to step 15, then two (2 of 2, the last, from step 15 on)"
    file.write_text("phases: [{name: one, weights: {doc/*.md: 0}}]\n")
    assert "phase one: weights: 'doc/*.md' matches none of the 40 files" in line(doctor(words, 2), "corpus", "problem")
    file.write_text("phases: [{name: one, connections: 0.5}]\n")
    assert "phase one: connections: the model is a GPT-2" in line(doctor(words, 2), "plan", "problem")


def test_a_job_summary_has_the_checks(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    doctor(f"train {SMALL} --tokenizer bytes")
    assert summary.read_text().startswith("## `train` would start\n\n<details><summary>Checks before the run</summary>\n\n|")
    assert "| OK | plan | would start a new model" in summary.read_text()
