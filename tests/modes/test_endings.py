"""The four endings of a run: published, advanced, rolled_back and converged, each on a fresh runner with a local Hub."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.hub.client import open_hub
from echoself_action.hub.history import parse_history

from ..conftest import SMALL, Cli

CYCLE = f"cycle --hub hub --repo-id me/model --tokenizer bytes {SMALL}"
DIVERGES = "--learning-rate 12"
BECOMES_NAN = "--learning-rate 1e30 --grad-clip 0"
STANDS_STILL = "--learning-rate 1e-12"  # steps without a gain


class Night:
    """A cycle on a fresh runner, and what it left on the Hub."""

    def __init__(self, echoself: Cli, tmp_path: Path, more: str = "", code: int = 0) -> None:
        self.folder = Path(f"night-{len(list(tmp_path.glob('from-hub-*')))}")
        self.outputs = echoself(CYCLE, f"--output-dir {self.folder} {more}", code=code)
        place = tmp_path / f"from-hub-{self.folder.name}"
        with open_hub("hub", None) as hub:
            self.state_folder = Path(hub.api.snapshot_download("me/model", revision="training-state", local_dir=place))
            self.published = hub.api.file_exists("me/model", "model.safetensors")
        self.history = parse_history((self.state_folder / "metrics/history.jsonl").read_bytes()) if self.has_history else None
        facts = read_metadata(self.state_folder)
        assert facts
        self.facts = facts

    @property
    def has_history(self) -> bool:
        return (self.state_folder / "metrics/history.jsonl").exists()

    @property
    def result(self) -> str:
        return self.outputs["result"]

    @property
    def state(self) -> Any:
        return json.loads((self.state_folder / "training_state/state.json").read_bytes())

    @property
    def weights(self) -> bytes:
        return (self.state_folder / "model.safetensors").read_bytes()


@pytest.fixture
def night(echoself: Cli, workspace: Path, tmp_path: Path) -> Any:
    return lambda more="", code=0: Night(echoself, tmp_path, more, code)


def test_the_training_state_moves_on_although_the_gate_refuses_the_model(night: Any) -> None:
    nights = [night(), night("--gate max_val_loss=0.1"), night("--gate max_val_loss=0.1")]
    assert [one.result for one in nights] == ["published", "advanced", "advanced"]
    assert [one.facts.step for one in nights] == [16, 32, 48]
    assert [entry.result for entry in nights[2].history.entries] == ["published", "advanced", "advanced"]


def test_a_publish_takes_the_runs_before_it_into_its_history(night: Any, tmp_path: Path) -> None:
    night()
    night("--gate max_val_loss=0.1")
    assert night("--gate none").result == "published"
    with open_hub("hub", None) as hub:
        file = hub.api.hf_hub_download("me/model", "metrics/history.jsonl", local_dir=tmp_path / "history")
    history = parse_history(Path(file).read_bytes())
    assert [entry.result for entry in history.entries] == ["published", "advanced", "published"]
    assert len(history.publishes) == 2


@pytest.mark.parametrize("failing", [DIVERGES, BECOMES_NAN])
def test_a_run_that_diverges_is_rolled_back_and_the_next_one_is_sound(night: Any, failing: str) -> None:
    first, failed, after = night(), night(failing), night()
    assert [one.result for one in (first, failed)] == ["published", "rolled_back"]
    assert failed.weights == first.weights
    assert failed.state["rollbacks"] == 1
    assert failed.outputs["model_dir"].startswith(str(failed.folder))
    assert after.result in ("published", "advanced")
    assert (after.facts.step, after.state["rollbacks"]) == (32, 1)
    assert after.facts.settings["learning_rate"] == 1e-3  # below half of the rate that failed
    assert float(after.outputs["best_val_loss"]) < float(first.outputs["best_val_loss"])


def test_a_run_after_a_rolled_back_one_has_half_of_the_rate_and_other_batches(night: Any, echoself: Cli) -> None:
    night()
    failed, again = night(DIVERGES), night(DIVERGES)
    assert [one.result for one in (failed, again)] == ["rolled_back", "rolled_back"]
    assert (again.state["rollbacks"], again.state["max_learning_rate"]) == (2, 3.0)
    ends = [next(one.folder.glob("superseded-*/checkpoint-36-decayed")) for one in (failed, again)]
    assert (ends[0] / "model.safetensors").read_bytes() != (ends[1] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("failing", [DIVERGES, BECOMES_NAN])
def test_a_new_model_that_diverges_is_not_published_and_is_not_trained_again_the_same_way(night: Any, failing: str) -> None:
    failed = night(failing)
    assert (failed.result, failed.published) == ("rolled_back", False)
    assert (failed.facts.step, failed.state["rollbacks"]) == (0, 1)
    after = night()
    assert (after.result, after.facts.step) == ("published", 16)


def test_train_rolls_back_in_its_folder_and_deploy_publishes_the_state_of_the_next_run(echoself: Cli, workspace: Path) -> None:
    train = f"train --tokenizer bytes {SMALL}"
    first = echoself(train)
    failed = echoself(train, DIVERGES)
    assert (first["result"], failed["result"], failed["stopped_by"]) == ("advanced", "rolled_back", "max_iters")
    assert failed["checkpoint"] == "echoself-model/checkpoint-16"
    assert failed["model_dir"] == first["model_dir"]
    assert echoself("deploy --hub hub --repo-id me/model")["result"] == "published"
    assert echoself("deploy --hub hub --repo-id me/model")["result"] == ""
    assert echoself(train)["step"] == "36"


def test_a_model_converges_on_an_unchanged_corpus_until_its_text_changes_or_it_is_forced(
    night: Any, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    night()
    still = night(f"{STANDS_STILL} --patience 2"), night(f"{STANDS_STILL} --patience 2")
    assert [one.result for one in still] == ["advanced", "advanced"]
    converged = night("--patience 2"), night("--patience 2")
    assert [one.result for one in converged] == ["converged", "converged"]
    assert converged[1].weights == still[1].weights
    assert [entry.result for entry in converged[1].history.entries] == ["published", "advanced", "advanced", "converged"]
    assert "No steps were trained" in capsys.readouterr().out
    assert night("--patience 2 --force true").facts.step == still[1].facts.step + 16
    assert [night(f"{STANDS_STILL} --patience 2").result for _ in range(3)] == ["advanced", "advanced", "converged"]
    (workspace / "docs/new.md").write_text("Something new to learn, in many words.\n" * 500)
    assert night("--patience 2").result in ("published", "advanced")


def test_the_best_loss_of_a_run_is_known_to_the_next_one(night: Any) -> None:
    first, second = night(), night(STANDS_STILL)
    assert f"{first.facts.best_val_loss:.6f}" == first.outputs["val_loss"]
    assert second.facts.best_val_loss == first.facts.best_val_loss


def test_checkpoint_beats_the_hub_and_the_log_says_so(night: Any, echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    night()
    echoself(f"train --tokenizer bytes {SMALL} --max-iters 30 --output-dir other")
    capsys.readouterr()
    assert night("--checkpoint other/checkpoint-24").outputs["step"] == "44"
    start = [line for line in capsys.readouterr().out.splitlines() if line.startswith("start: ")]
    assert start == ["start: other/checkpoint-24, step 24: checkpoint: other/checkpoint-24 was given"]
    night()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("start: ")]
    assert line.endswith("the newest of me/model")


def test_weights_of_the_training_state_are_those_of_the_stable_phase(night: Any) -> None:
    first = night()
    stable = load_file(first.folder / "checkpoint-16/model.safetensors")
    assert all((load_file(first.state_folder / "model.safetensors")[name] == tensor).all() for name, tensor in stable.items())


def more_text(workspace: Path) -> None:
    """So many documents that some of them are held out."""
    for number in range(40):
        (workspace / f"docs/new-{number}.md").write_text(f"Document {number} has something new to learn. " * 40)


def test_a_failed_run_on_changed_text_does_not_count_the_runs_before_it(night: Any, workspace: Path) -> None:
    night()
    assert [night(f"{STANDS_STILL} --patience 2").result for _ in range(3)] == ["advanced", "advanced", "converged"]
    more_text(workspace)
    failed = night(f"{DIVERGES} --patience 2")
    assert (failed.result, failed.state["runs_without_gain"]) == ("rolled_back", 1)
    assert night("--patience 2").result in ("published", "advanced")


def test_a_run_whose_model_is_significantly_worse_than_the_published_one_is_rolled_back(
    night: Any, workspace: Path, tmp_path: Path
) -> None:
    """Without a decay phase its model is that of the stable phase; on new held-out text the two are compared by the gate."""
    first = night()
    more_text(workspace)
    worse = night(f"{STANDS_STILL} --decay 0")
    assert (worse.result, worse.outputs["gate_result"]) == ("rolled_back", "refused")
    assert (worse.facts.step, worse.state["rollbacks"]) == (first.facts.step, 1)
    assert worse.outputs["checkpoint"] == str(worse.folder / "checkpoint-16")
    summary = (tmp_path / "summary.md").read_text()
    assert "\n# Rolled back to step 16: the best model stays at " in summary  # after the summary of the first run
    assert "Its best model is not significantly better than the published model: " in summary


def test_the_summary_counts_the_runs_since_the_last_publish(night: Any, tmp_path: Path) -> None:
    night()
    for number in (1, 2):
        (tmp_path / "summary.md").unlink()
        night(STANDS_STILL if number == 1 else "--gate max_val_loss=0.1")  # nothing new to publish, then refused
        title, _, lead = (tmp_path / "summary.md").read_text().splitlines()[:3]
        assert title.startswith(f"# Advanced to step {16 + 16 * number}: ")
        assert ("This is run 2 since the last publish." in lead) is (number == 2)
