"""Every output of the action, declared once."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..report.github_actions import write_outputs


def _output(help: str) -> Any:
    return field(default="", metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Every mode sets every output; one that does not apply is empty."""

    checkpoint: str = _output("Path of the newest checkpoint.")
    model_dir: str = _output("Path of the model folder to use or deploy: the best checkpoint, or the pulled one.")
    step: str = _output("Optimizer step of the model in model_dir.")
    bits_per_byte: str = _output(
        "Validation loss of the model in model_dir in bits per byte, which is comparable across tokenizers."
    )
    train_loss: str = _output("Training loss of the model in model_dir, nats per token: the mean over the last steps.")
    val_loss: str = _output("Validation loss of the model in model_dir, nats per token.")
    best_val_loss: str = _output("Lowest validation loss so far, nats per token.")
    tokens_per_second: str = _output("Training speed of the run, without evaluations, saves and compiling.")
    stopped_by: str = _output("What ended training: max_iters, max_minutes, early_stopping or signal.")
    result: str = _output(
        "The end of the job: published (a better model), advanced (training moved on, no significantly better model yet), "
        "rolled_back (the run made the model worse; the next one takes another way) or converged (nothing was trained, because "
        "earlier runs on this corpus gained nothing)."
    )
    winner: str = _output(
        "The candidate that is significantly better than all others, as it was given; empty if there is none."
    )
    gate_result: str = _output("Verdict of the quality gate: passed or refused.")
    gate_reason: str = _output("Reason of that verdict, with the figures.")
    question_accuracy: str = _output("Accuracy of the model in model_dir on the questions of `evaluate`, a share.")
    deployed: str = _output("true if a new commit was published, false if nothing had changed or the gate refused.")
    repo_url: str = _output("URL of the model repo on the Hub.")
    commit_sha: str = _output("Commit on the Hub that holds the model.")
    revision: str = _output("Branch, tag or commit that the model was pulled from or published to.")
    dataset_sha: str = _output("Commit on the Hub that holds the documents, with upload_datasets.")
    demo_url: str = _output("URL of the Space that runs the model in the browser, with demo.")
    pr_url: str = _output("URL of the pull request on the Hub, with create_pr.")
    pull_requests: str = _output("Verdict of each reviewed pull request, passed or refused, as JSON by its number.")
    tag: str = _output("Tag that was set on the Hub.")
    release_url: str = _output("URL of the GitHub release.")
    report: str = _output("Path of the HTML report.")
    models: str = _output("Outputs of each model as JSON by its name, if the run has several; the others are then empty.")


def set_outputs(values: Mapping[str, str]) -> None:
    """Set all outputs of the run: those in `values`, and the others empty. Raises TypeError for a name that is not declared."""
    write_outputs(asdict(Outputs(**values)))
