"""The numbers of one run are the same wherever they are reported: one definition each, in the same digits."""

import json
import re
from pathlib import Path

import pytest
import yaml

from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.hub.client import open_hub
from echoself_action.hub.history import parse_history

from ..conftest import SMALL, Cli

CYCLE = f"cycle --hub hub --repo-id me/model --tokenizer bpe:300 {SMALL} --log-interval 6"


def rows(markdown: str) -> dict[str, list[str]]:
    """The cells of tables by the first cell of their row."""
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line.startswith("| "))
    return {first: rest for first, *rest in cells}


def numbers(cells: list[str]) -> list[float]:
    return [float(cell) for cell in cells]


def test_log_outputs_summary_page_card_history_and_metadata_report_the_same_numbers(
    echoself: Cli, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = read_metadata(Path(echoself(CYCLE, "--output-dir one")["model_dir"]))
    capsys.readouterr()
    (tmp_path / "summary.md").unlink()
    outputs = echoself(CYCLE, "--output-dir two")
    log = capsys.readouterr().out
    facts = read_metadata(Path(outputs["model_dir"]))
    assert first
    assert facts
    assert facts.bytes_per_token
    assert facts.bytes_per_token > 1
    assert facts.bits_per_byte is not None
    assert facts.val_loss is not None
    assert facts.train_loss is not None
    assert facts.tokens_per_second
    bits, nats, train_loss = (f"{value:.4f}" for value in (facts.bits_per_byte, facts.val_loss, facts.train_loss))
    speed, step = f"{facts.tokens_per_second:,.0f}", str(facts.step)
    loss = f"{bits} bits per byte ({nats} nats per token)"

    # the log, and log.jsonl
    assert re.search(rf"step {step}/{step}  loss {train_loss}  .*  val {bits} bits/byte \({nats} nats\)\n", log)
    assert f"stopped by max_iters at step {step}, at {speed} tokens/s;" in log
    assert f"step {step}, validation loss {loss}" in log
    line = json.loads(Path("two/log.jsonl").read_text().splitlines()[-1])
    assert (line["step"], line["loss"], line["val_loss"]) == (facts.step, facts.train_loss, facts.val_loss)
    assert line["bits_per_byte"] == facts.bits_per_byte

    # outputs
    assert outputs["step"] == step
    assert outputs["bits_per_byte"] == f"{facts.bits_per_byte:.6f}"
    assert outputs["val_loss"] == f"{facts.val_loss:.6f}"
    assert outputs["train_loss"] == f"{facts.train_loss:.6f}"
    assert outputs["tokens_per_second"] == f"{facts.tokens_per_second:.0f}"

    # the job summary, where the gate's figures are the ones before and after
    summary = (tmp_path / "summary.md").read_text()
    cells = rows(summary)
    assert cells["Training loss"] == [f"{train_loss} nats per token"]
    assert cells["Speed"][0].startswith(f"{speed} tokens/s")
    assert summary.count("| before |") == 1
    # measured in other batches, so the last digit may be rounded differently
    assert numbers(cells["bits per byte"][:2]) == pytest.approx([first.bits_per_byte, facts.bits_per_byte], abs=1e-4)
    assert numbers(cells["nats per token"][:2]) == pytest.approx([first.val_loss, facts.val_loss], abs=1e-4)
    (before, now, _), (_, nats_now, _) = cells["bits per byte"], cells["nats per token"]
    assert (now, nats_now) == (bits, nats)
    assert summary.startswith(f"# Published: {before} \N{RIGHTWARDS ARROW} {bits} bits per byte\n")
    for chart in summary.split("```mermaid")[1:]:
        assert 'y-axis "bits per byte"' in chart
        assert f", {bits}]" in chart

    # the page
    page = Path(outputs["report"]).read_text()
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd>(\S+) <small>", page))
    assert (figures["Held-out text"], figures["Validation loss"], figures["Training loss"]) == (bits, nats, train_loss)
    assert (figures["Trained"], figures["Speed"]) == (step, speed)
    assert f"<td>{step}</td><td>{bits}</td><td>{nats}</td><td>{train_loss}</td>" in page

    # what is published: card, history and metadata
    with open_hub("hub", None) as hub:
        folder = Path(hub.api.snapshot_download("me/model", revision=outputs["commit_sha"], local_dir=tmp_path / "snapshot"))
    assert read_metadata(folder) == facts
    card = (folder / "README.md").read_text()
    cells = rows(card)
    assert cells["Held-out text"] == [f"{bits} bits per byte"]
    losses = (f"{nats} nats per token", f"{train_loss} nats per token")
    assert (cells["Validation loss"][0], cells["Training loss"][0]) == losses
    assert (cells["Steps"], cells["Training speed"]) == ([step], [f"{speed} tokens/s"])
    metrics = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["type"] == "bits_per_byte"
    assert metrics[0]["value"] == round(facts.bits_per_byte, 6)
    entry = parse_history((folder / "metrics/history.jsonl").read_bytes()).entries[-1]
    assert (entry.step, entry.bits_per_byte, entry.val_loss) == (facts.step, facts.bits_per_byte, facts.val_loss)
    assert (entry.train_loss, entry.tokens_per_second) == (facts.train_loss, facts.tokens_per_second)
    for table in (summary, card):
        [newest] = [row for row in table.splitlines() if row.startswith("| 20") and f"| {step} |" in row]
        assert f"| {step} | {bits} | {nats} |" in newest
        assert f"| {speed} |" in newest


def test_without_a_gate_a_run_is_compared_with_the_best_before_it(echoself: Cli, workspace: Path, tmp_path: Path) -> None:
    """Not with the stable checkpoint that it resumed from, which is worse than the model that was published."""
    cycle = f"{CYCLE} --gate none"
    first = echoself(cycle, "--output-dir one")
    (tmp_path / "summary.md").unlink()
    second = echoself(cycle, "--output-dir two")
    cells = rows((tmp_path / "summary.md").read_text())
    assert cells["step"][:2] == [first["step"], second["step"]]
    before, now = (f"{float(outputs['val_loss']):.4f}" for outputs in (first, second))
    assert cells["nats per token"][:2] == [before, now]
