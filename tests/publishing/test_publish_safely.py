"""What a publish is held to: no secret, no lost update, a plan that tells all, a pull request where that is asked for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from localhub import Account, LocalHub

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.select import best
from echoself_action.config.mode_inputs import DeployInputs
from echoself_action.errors import MovedOnError
from echoself_action.hub.client import open_hub
from echoself_action.hub.repo import Remote, look_up
from echoself_action.modes.deploy import deploy
from echoself_action.publishing.publication import Publication

from ..conftest import ROOT, SMALL, Cli
from ..hub.secret_kinds import SECRETS

DEPLOY = "deploy --hub hub --repo-id me/model"
WORSE = f"train --tokenizer bytes {SMALL} --output-dir worse"
BETTER = f"train --tokenizer bytes {SMALL} --max-iters 60 --output-dir better"


@pytest.fixture
def trained(begun: Cli) -> dict[str, str]:
    return begun(f"train --tokenizer bytes {SMALL}")


def titles(revision: str = "main") -> list[str]:
    with open_hub("hub", None) as hub:
        return [commit.title for commit in hub.api.list_repo_commits("me/model", revision=revision)]


def test_a_secret_is_reported_with_file_and_line_but_not_shown_and_nothing_is_published(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    planted = Path(trained["model_dir"]) / "generation_config.json"
    planted.write_text(json.dumps({"eos_token_id": 1, "note": SECRETS["github"]}, indent=2))
    for more in ("", "--dry-run", "--create-pr"):
        echoself(DEPLOY, more, code=3)
        logged = capsys.readouterr()
        assert "generation_config.json, line 3: GitHub Token" in logged.err
        assert SECRETS["github"] not in logged.err + logged.out
    with open_hub("hub", None) as hub:
        assert not hub.api.repo_exists("me/model")


def test_a_dry_run_shows_files_sizes_and_differences(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(DEPLOY, "--license mit")
    before = titles(), titles("training-state")
    (Path(trained["model_dir"]) / "generation_config.json").write_text('{"eos_token_id": 256, "do_sample": false}\n')
    capsys.readouterr()
    echoself(DEPLOY, "--dry-run --license apache-2.0")
    logged = capsys.readouterr().out
    assert re.search(r"changed +42 bytes  generation_config\.json", logged)
    assert "-license: mit" in logged
    assert "+license: apache-2.0" in logged
    assert '+{"eos_token_id": 256, "do_sample": false}' in logged
    assert "training-state of" in logged
    assert not re.search(r"(new|changed) .* model\.safetensors", logged)
    assert (titles(), titles("training-state")) == before


def test_a_pull_request_has_the_report_and_does_not_change_main_or_the_training_state(
    echoself: Cli, begun: Cli, tmp_path: Path
) -> None:
    begun(WORSE)
    begun(BETTER)
    accounts = {"guest": Account("guest", owns=frozenset({"guest"}))}
    with LocalHub(tmp_path / "server", token="owner", accounts=accounts) as server, pytest.MonkeyPatch.context() as patch:
        target = f"deploy --hub {server.url} --repo-id me/model --create-pr"
        patch.setenv("HF_TOKEN", "guest")
        echoself(target, "--output-dir worse", code=2)  # there is no repo yet
        patch.setenv("HF_TOKEN", "owner")
        first = echoself(target.removesuffix("--create-pr"), "--output-dir worse")
        patch.setenv("HF_TOKEN", "guest")
        echoself(target.removesuffix("--create-pr"), "--output-dir better", code=4)  # a guest may not write
        outputs = echoself(target, "--output-dir better")
        assert (outputs["gate_result"], outputs["deployed"]) == ("passed", "false")
        assert outputs["pr_url"].endswith("/me/model/discussions/1")
        assert echoself(target, "--output-dir better")["pr_url"] == outputs["pr_url"]  # the same again opens no other
        assert echoself(target, "--output-dir worse")["pr_url"] == ""  # it is what main has
        with open_hub(server.url, "owner") as hub:
            assert hub.api.model_info("me/model").sha == first["commit_sha"]
            assert hub.api.model_info("me/model", revision="refs/pr/1").sha == outputs["commit_sha"]
            details = hub.api.get_discussion_details("me/model", 1)
            files = hub.api.list_repo_files("me/model", revision="refs/pr/1")
        text = next(event.content for event in details.events if event.type == "comment")  # type: ignore[attr-defined]
    assert "**Gate `improved`:**" in text
    assert "| Step | 20 | 60 | +40 |" in text
    assert "provenance.json" in files
    assert not [name for name in files if name.startswith("training_state")]


def test_a_model_that_the_gate_refuses_is_not_proposed(echoself: Cli, trained: dict[str, str]) -> None:
    echoself(DEPLOY)
    assert echoself(DEPLOY, "--create-pr --gate max_val_loss=0.1")["pr_url"] == ""


def test_the_loser_of_a_race_is_compared_with_the_winner(echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """A better model than the winner's is published on top of it; a worse one is refused; without a gate nothing is."""
    begun(WORSE)
    begun(BETTER)
    for name, steps in {"first": 10, "winner": 40}.items():
        echoself(f"train --tokenizer bytes {SMALL} --max-iters {steps}", f"--output-dir {name}")
    with open_hub("hub", None) as hub:
        nothing = look_up(hub, "me/model", "main")
    echoself(DEPLOY, "--output-dir first")
    with open_hub("hub", None) as hub:
        stale = look_up(hub, "me/model", "main")
    winner = echoself(DEPLOY, "--output-dir winner")
    for seen in (nothing, stale):
        assert late("worse", seen).outputs["gate_result"] == "refused"
        assert "comparing with its model" in capsys.readouterr().out
    with pytest.raises(MovedOnError):
        late("worse", stale, gate="none")
    assert late("better", stale).outputs["deployed"] == "true"
    facts = best_of("better").metadata
    assert facts
    assert facts.compared
    assert facts.compared.against == winner["commit_sha"]
    assert [title.split(",")[0] for title in titles()[:3]] == ["Step 60", "Step 40", "Step 10"]


def best_of(folder: str) -> ModelFolder:
    found = best(Path(folder))
    assert found
    return found


def late(folder: str, seen: Remote, gate: str = "improved") -> Publication:
    """Deploy on top of what the Hub had when it was listed, as the second of two jobs does."""
    inputs = DeployInputs(mode="deploy", repo_id="me/model", output_dir=Path(folder), gate=gate)
    with open_hub("hub", None) as hub:
        return deploy(Publication(inputs, hub, seen, best_of(folder), best_of(folder)))


def test_two_concurrent_deploys_make_the_expected_commits(tmp_path: Path) -> None:
    """In processes of their own; `python tests/stress/race.py` does it fifty times."""
    command = [sys.executable, str(ROOT / "tests/stress/race.py"), "--rounds", "2"]
    logged = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert logged.returncode == 0, logged.stdout + logged.stderr
    assert logged.stdout.startswith("2 rounds")
