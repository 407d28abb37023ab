"""deploy: check that the folder is the model, look at what is published, publish what differs, say what was done."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ..checkpoint.find import best, broken, resumable
from ..checkpoint.folder import ModelFolder, check_weights, remote_code
from ..checkpoint.metadata import ParityFacts
from ..checkpoint.parity import check_parity, in_words, record
from ..errors import GATE_REFUSED, CheckpointError
from ..evaluation.gate import judge
from ..hub.card import CardChoices, is_ours, model_card
from ..hub.client import Hub, open_hub, require_write_access
from ..hub.publish import (
    Change,
    Published,
    changes,
    ensure_repo,
    model_files,
    publish_model,
    publish_state,
    read_card,
    set_tag,
)
from ..hub.repo import MAIN, Remote, look_up
from ..inputs import Inputs, Outputs
from ..report.github import write_outputs, write_summary
from ..report.log import note, part, warn
from ..report.summary import loss_text, publishing_summary, refusal_summary
from .named import named_checkpoint
from .outputs import model_outputs


def run(inputs: Inputs) -> int:
    """The mode; returns the exit code."""
    model, newest = _folders(inputs)
    assert inputs.repo_id
    with open_hub(inputs.hub, inputs.token, note) as hub:
        if not inputs.dry_run:
            require_write_access(hub)
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        published = deploy_model(inputs, hub, remote, model, newest)
    outputs = model_outputs(model) | {"checkpoint": str(newest.path)} | published
    write_outputs(asdict(Outputs(**outputs)))
    return exit_code(inputs, outputs)


def deploy_model(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder, newest: ModelFolder) -> dict[str, str]:
    """Publish `model` on top of `remote`, and `newest` for training to go on from; returns the outputs of publishing.

    Where the gate refuses, nothing is published. Raises CheckpointError where the folder is not the model, HubError where
    the Hub refuses or has moved on.
    """
    check_weights(model)
    where = {"repo_url": hub.url(remote.repo_id), "revision": remote.revision}
    verdict = judge(inputs.gate, model)
    if inputs.gate != "none":
        where["gate_result"] = "passed" if verdict.passed else "refused"
    if not verdict.passed:
        warn(f"gate: {verdict.reason}. Nothing was published; the model stays in {model.path}.")
        write_summary(refusal_summary(where["repo_url"], verdict))
        return where | {"deployed": "false"}
    with part("Publishing"):
        parity = check_parity(model)
        note(f"stock transformers loads {model.path}: {in_words(parity)}")
        if not inputs.dry_run:
            model = record(model, parity)
        if remote_code(model.config):
            note("whoever loads it needs trust_remote_code=True: NanEcho is no architecture of transformers")
        files = model_files(model, _card(inputs, hub, remote, model, parity))
        if inputs.dry_run:
            _show_plan(changes(files, remote.model), where["repo_url"])
            return where | {"deployed": "false"}
        remote = ensure_repo(hub, remote, inputs.private)
        if inputs.upload_training_state and newest.has_training_state and remote.revision == MAIN:
            publish_state(hub, remote, newest, f"Training state at step {newest.step}")
        loss = loss_text(model.metadata.val_loss if model.metadata else None)
        published = publish_model(hub, remote, files, f"Step {model.step}, validation loss {loss}")
        _say(published, where["repo_url"])
        if inputs.tag:
            set_tag(hub, remote.repo_id, inputs.tag, published.commit)
            note(f"tag {inputs.tag} is on it")
    write_summary(publishing_summary(where["repo_url"], published, parity))
    return where | {
        "deployed": str(published.deployed).lower(),
        "commit_sha": published.commit,
        "tag": inputs.tag or "",
    }


def exit_code(inputs: Inputs, outputs: Mapping[str, str]) -> int:
    """Of a run that published, or was refused by the gate."""
    return GATE_REFUSED if outputs.get("gate_result") == "refused" and inputs.gate_fails_job else 0


def _folders(inputs: Inputs) -> tuple[ModelFolder, ModelFolder]:
    """What to publish, and the checkpoint of the same run that training goes on from."""
    if inputs.checkpoint:
        named = named_checkpoint(inputs)
        return named, named
    model, newest = best(inputs.output_dir), next(iter(resumable(inputs.output_dir)), None)
    if model is None or newest is None:
        raise CheckpointError(
            f"There is no checkpoint in {inputs.output_dir}. Nothing was published.",
            "Train first, or give checkpoint: the path of a model folder.",
        )
    for error in broken(inputs.output_dir):
        warn(f"{error.message} {model.path} is published instead of it.")
    same_run = model.metadata and newest.metadata and model.metadata.run_id == newest.metadata.run_id
    return model, newest if same_run else model


def _card(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder, parity: ParityFacts) -> str | None:
    if not is_ours(read_card(hub, remote)):
        note("the model card on the Hub was written by a person, and is left as it is")
        return None
    choices = CardChoices(license=inputs.license, language=inputs.language or ())
    return model_card(remote.repo_id, model, parity, choices)


def _show_plan(planned: Sequence[Change], url: str) -> None:
    note(f"dry run: this would go to {url}, and nothing else" if planned else f"dry run: {url} holds all of this already")
    for change in planned:
        note(f"  {'new' if change.is_new else 'changed'}  {change.size:>12,} bytes  {change.path}")


def _say(published: Published, url: str) -> None:
    if published.deployed:
        size = sum(change.size for change in published.changes)
        note(f"published {len(published.changes)} files, {size:,} bytes, to {url}: commit {published.commit}")
    else:
        note(f"{url} already holds this model at commit {published.commit}: nothing was sent")
