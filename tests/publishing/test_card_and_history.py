"""What a publish tells of itself: the card, the history in the same commit, and the page."""

import shutil
from pathlib import Path

import pytest
import yaml

from echoself_action.hub.client import open_hub
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.history import HISTORY_FILE, History, parse_history

from ..conftest import SMALL, Cli

CYCLE = f"cycle --hub hub --repo-id me/model --tokenizer bytes --gate none {SMALL}"


def published_file(hub: Hub, name: str, revision: str = "main") -> bytes:
    return Path(hub.api.hf_hub_download("me/model", name, revision=revision)).read_bytes()


def published_history() -> History:
    with open_hub("hub", None) as hub:
        return parse_history(published_file(hub, HISTORY_FILE))


def test_every_publish_adds_a_history_entry_in_its_own_commit(
    echoself: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/notes")
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    monkeypatch.setenv("GITHUB_SHA", "c0ffee")
    outputs = [echoself(CYCLE, f"--output-dir {name}") for name in ("one", "two")]
    with open_hub("hub", None) as hub:
        for number, output in enumerate(outputs, 1):
            assert len(parse_history(published_file(hub, HISTORY_FILE, output["commit_sha"])).entries) == number
        files = hub.api.list_repo_files("me/model")
        card = published_file(hub, "README.md").decode()
        assert published_file(hub, "metrics/history.png").startswith(b"\x89PNG")
    first, second = published_history().entries
    assert (first.step, second.step) == (20, 36)
    assert (first.commit, first.run_url) == ("c0ffee", "https://github.com/me/notes/actions/runs/7")
    assert second.val_loss == pytest.approx(float(outputs[1]["val_loss"]), abs=1e-6)
    assert second.bits_per_byte
    assert [name for name in files if name.startswith("runs/")][1:] == []
    assert "](metrics/history.png)" in card
    metrics = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]["metrics"]
    assert {metric["type"] for metric in metrics} == {"loss", "perplexity", "bits_per_byte"}
    summary = (tmp_path / "summary.md").read_text()
    assert 'x-axis "publish" [1, 2]\n' in summary
    assert "[`c0ffee`](https://github.com/me/notes/actions/runs/7)" in summary


def test_publishing_the_same_model_again_adds_no_history_line(echoself: Cli, begun: Cli) -> None:
    first = begun(CYCLE)
    before = published_history().content
    again = echoself("deploy --hub hub --repo-id me/model --gate none")
    assert (again["deployed"], again["commit_sha"]) == ("false", first["commit_sha"])
    other_license = echoself("deploy --hub hub --repo-id me/model --gate none --license mit")
    assert other_license["deployed"] == "true"  # the card alone
    assert published_history().content == before


def test_an_invalid_history_line_is_kept(echoself: Cli, begun: Cli) -> None:
    begun(CYCLE)
    with open_hub("hub", None) as hub:
        content = published_file(hub, HISTORY_FILE) + b"oops, no newline"
        hub.api.upload_file(path_or_fileobj=content, path_in_repo=HISTORY_FILE, repo_id="me/model")
    echoself(CYCLE)
    history = published_history()
    assert history.content.startswith(content + b"\n")
    assert [publish.step for publish in history.entries] == [20, 36]


def test_pull_downloads_the_history(echoself: Cli, begun: Cli) -> None:
    begun(CYCLE)
    shutil.rmtree("echoself-model")
    pulled = echoself("pull --hub hub --repo-id me/model")
    assert (Path(pulled["model_dir"]) / HISTORY_FILE).read_bytes() == published_history().content


def test_text_around_the_generated_sections_of_the_card_is_kept(echoself: Cli, begun: Cli) -> None:
    begun(CYCLE)
    with open_hub("hub", None) as hub:
        card = published_file(hub, "README.md").decode().replace("# model\n", "# Our model\n\nA word of ours.\n")
        hub.api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="me/model")
    echoself(CYCLE)
    with open_hub("hub", None) as hub:
        now = published_file(hub, "README.md").decode()
    assert "# Our model\n\nA word of ours.\n" in now
    assert "| Steps | 36 |" in now


def test_a_template_becomes_the_card(echoself: Cli, workspace: Path) -> None:
    Path("card.md").write_text("# Ours\n\n<!-- echoself:training -->\n<!-- /echoself:training -->\n\nThe end.\n")
    echoself(CYCLE, "--card card.md")
    with open_hub("hub", None) as hub:
        card = published_file(hub, "README.md").decode()
    assert "| Steps | 20 |" in card
    assert "Citation" not in card
    assert card.endswith("The end.\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "card.md is not a file."),
        ("<!-- echoself:trainin --><!-- /echoself:trainin -->", "has unknown or unpaired markers"),
    ],
)
def test_an_invalid_card_template_is_refused_before_any_work(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    if text:
        Path("card.md").write_text(text)
    echoself(CYCLE, "--card card.md", code=2)
    assert message in capsys.readouterr().err
    assert not Path("echoself-model").exists()


def test_every_run_that_trains_or_publishes_writes_a_report(echoself: Cli, workspace: Path) -> None:
    trained = echoself(f"train --tokenizer bytes {SMALL}")
    assert trained["report"] == "echoself-model/report.html"
    assert 'id="gate"' not in Path(trained["report"]).read_text()
    deployed = echoself("deploy --hub hub --repo-id me/model")
    assert "<h2>Published</h2>" in Path(deployed["report"]).read_text()
    refused = echoself(CYCLE.replace("none", "max_val_loss=0.1"))
    text = Path(refused["report"]).read_text()
    assert "<h2>Not published</h2>" in text
    assert "Validation loss of what was published" not in text  # there is one publish, and no line through it
