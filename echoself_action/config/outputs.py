"""Every output of the action, declared once."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..report.github_actions import write_outputs


def _output(help: str) -> Any:
    return field(default="", metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Every mode gives every output; one that does not apply is empty."""

    checkpoint: str = _output("Path of the newest checkpoint.")
    model_dir: str = _output("Path of the model folder to use or deploy: the best checkpoint, or the one that was pulled.")
    step: str = _output("Optimizer steps behind the model in model_dir.")
    train_loss: str = _output("Training loss, nats per token.")
    val_loss: str = _output("Held-out loss of the model in model_dir, nats per token.")
    best_val_loss: str = _output("Lowest held-out loss so far.")
    tokens_per_second: str = _output("Training speed.")
    stopped_by: str = _output("max_iters, max_minutes or signal.")
    winner: str = _output("The candidate that is surely better than every other, as it was given; empty where none is.")
    gate_result: str = _output("passed or refused, where there is a gate.")
    deployed: str = _output("true where a new commit was published, false where nothing had changed.")
    repo_url: str = _output("Page of the repo on the Hub.")
    commit_sha: str = _output("Commit on the Hub that holds the model.")
    revision: str = _output("Branch, tag or commit that the model was fetched from or published to.")
    dataset_sha: str = _output("Commit on the Hub that holds the documents of the model, with upload_datasets.")
    pr_url: str = _output("Pull request on the Hub, with create_pr.")
    pull_requests: str = _output("With pull_requests, `passed` or `refused` for each, as JSON by its number.")
    tag: str = _output("Tag that was set on the Hub.")
    release_url: str = _output("Page of the release in this repository.")
    report: str = _output("Path of the HTML page.")
    models: str = _output("Of several models in one run: the outputs of each, as JSON by its name; the others are empty then.")


def set_outputs(values: Mapping[str, str]) -> None:
    """Set all outputs of the run: those in `values`, and the others empty. Raises TypeError for a name that is not declared."""
    write_outputs(asdict(Outputs(**values)))
