"""deploy: check that the folder is the model, look at what is published, publish what differs, say what was done."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import evaluation
from ..checkpoint.metadata import ParityFacts, in_words
from ..checkpoint.model_folder import ModelFolder, check_weights, record
from ..checkpoint.select import best, broken, resumable
from ..config.inputs import DeployInputs
from ..config.outputs import set_outputs
from ..errors import GATE_REFUSED, CheckpointError, MovedOnError
from ..evaluation.gate import is_relative
from ..hub.client import open_hub, require_write_access
from ..hub.endpoint import Hub
from ..hub.history import fetch_history
from ..hub.publish import Published, ensure_repo, publish_model, publish_state
from ..hub.repo import Remote, look_up
from ..publishing.plan import planned_for, show_plan, write_report
from ..publishing.pull_request import propose
from ..publishing.quality_gate import published_facts, verdict_on
from ..publishing.release import name_published, release_target
from ..publishing.signing import signature_of, signer_for
from ..report.github_actions import model_outputs, write_summary
from ..report.job_summary import loss_text, publishing_summary, refusal_summary
from ..report.log import note, part, warn
from ..report.report_page import Publishing
from ..starting.resolve_checkpoint import resolve_checkpoint

if TYPE_CHECKING:
    from ..publishing.dataset import Documents


def run(inputs: DeployInputs) -> int:
    """The mode; returns the exit code."""
    release_target(inputs)
    signer_for(inputs)  # a key that is none ends the run here, before the work
    model, newest = _folders(inputs)
    with open_hub(inputs.hub, inputs.token, note) as hub:
        if not inputs.dry_run:
            require_write_access(hub)
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        published = deploy_model(inputs, hub, remote, model, newest)
    outputs = model_outputs(model) | {"checkpoint": str(newest.path)} | published
    set_outputs(outputs)
    return exit_code(inputs, outputs)


def deploy_model(
    inputs: DeployInputs, hub: Hub, remote: Remote, model: ModelFolder, newest: ModelFolder, text: str | None = None
) -> dict[str, str]:
    """Publish `model` on top of `remote`, and `newest` for training to go on from; returns the outputs of publishing.

    `text` is a sample of the model for the page, where one is drawn already.

    Where the gate refuses, nothing is published. Where somebody else was first, the model is held to theirs, once. Raises
    CheckpointError where the folder is not the model or must not be published, HubError where the Hub refuses or has moved on.
    """
    check_weights(model)
    try:
        return _deploy(inputs, hub, remote, model, newest, text)
    except MovedOnError:
        ahead = _theirs(hub, remote) if is_relative(inputs.gate) else None
        if ahead is None:
            raise
    warn(f"somebody published to {remote.repo_id} in the meantime: the model is compared with theirs now")
    return _deploy(inputs, hub, ahead, model, newest, text)


def _deploy(
    inputs: DeployInputs, hub: Hub, remote: Remote, model: ModelFolder, newest: ModelFolder, text: str | None
) -> dict[str, str]:
    where = {"repo_url": hub.url(remote.repo_id), "revision": remote.revision}
    verdict = verdict_on(inputs, hub, remote, model)
    if inputs.gate != "none":
        where["gate_result"] = "passed" if verdict.passed else "refused"
    if not verdict.passed:
        warn(f"gate: {verdict.reason}. Nothing was published; the model stays in {model.path}.")
        write_summary(refusal_summary(where["repo_url"], verdict))
        publishing = Publishing(where["repo_url"], verdict, history=fetch_history(hub, remote).publishes)
        return where | {"deployed": "false"} | write_report(inputs, model, text, publishing)
    with _documents(inputs, hub, remote, model) as documents, part("Publishing"):
        known = None if inputs.dry_run else published_facts(hub, remote, model)  # the same weights have the same figures
        known_parity = known.parity if known else None
        parity = known_parity or _checked(model)
        if not inputs.dry_run:
            if known:
                model = record(model, anew=True, parity=known.parity, compared=known.compared, dataset=known.dataset)
            model = record(model, parity=parity)
            model = record(model, anew=True, compared=verdict.compared)
        if model.architecture.code_files:
            name = model.architecture.display_name
            note(f"loading it needs trust_remote_code=True: {name} is not an architecture of transformers")
        planned = planned_for(inputs, hub, remote, model, newest, parity, documents)
        sends = documents is not None or inputs.sign != "off" or planned.differs_from(remote)
        if sends and known_parity:
            parity = _checked(model)
        if not sends and text is None:
            text = ""  # all of it is there already: PyTorch would be loaded for the page's sample alone
        if inputs.dry_run:
            show_plan(hub, remote, planned, documents)
            return where | {"deployed": "false"}
        if documents:
            from ..publishing.dataset import publish_documents  # is there already, as documents are

            if dataset := publish_documents(inputs, documents, model):
                model = record(model, anew=True, dataset=dataset)
                planned = planned_for(inputs, hub, remote, model, newest, parity, documents)
                where["dataset_sha"] = dataset.commit
        planned = replace(planned, files={**planned.files, **signature_of(signer_for(inputs), hub, remote, planned.files)})
        if inputs.create_pr:
            proposed = propose(inputs, hub, remote, model, planned.files, _title(model), (verdict, parity))
            publishing = Publishing(where["repo_url"], verdict, pr_url=proposed["pr_url"], history=planned.history)
            return where | proposed | write_report(inputs, model, text, publishing)
        remote = ensure_repo(hub, remote, inputs.private)
        if planned.state:
            publish_state(hub, remote, newest, f"Training state at step {newest.step}")
        published = publish_model(hub, remote, planned.files, _title(model), planned.removed)
        if documents and not documents.hub:
            where["dataset_sha"] = published.commit
        _say(published, where["repo_url"])
        named = name_published(inputs, hub, remote.repo_id, model, published.commit, verdict.reason)
    write_summary(publishing_summary(where["repo_url"], published, parity, verdict, planned.history))
    publishing = Publishing(where["repo_url"], verdict, published.commit if published.deployed else "", history=planned.history)
    return (
        where
        | write_report(inputs, model, text, publishing)
        | {
            "deployed": str(published.deployed).lower(),
            "commit_sha": published.commit,
        }
        | named
    )


def _documents(
    inputs: DeployInputs, hub: Hub, remote: Remote, model: ModelFolder
) -> "AbstractContextManager[Documents | None]":
    if not inputs.upload_datasets:
        return nullcontext()
    from ..publishing.dataset import documents_of  # loads pyarrow and the tokenizers

    return documents_of(inputs, hub, remote, model)


def _checked(model: ModelFolder) -> ParityFacts:
    """The check that nothing is sent without."""
    parity = evaluation.check_parity(model)
    note(f"stock transformers loads {model.path}: {in_words(parity)}")
    return parity


def exit_code(inputs: DeployInputs, outputs: Mapping[str, str]) -> int:
    """Of a run that published, or was refused by the gate."""
    return GATE_REFUSED if outputs.get("gate_result") == "refused" and inputs.gate_fails_job else 0


def _folders(inputs: DeployInputs) -> tuple[ModelFolder, ModelFolder]:
    """What to publish, and the checkpoint of the same run that training goes on from."""
    if inputs.checkpoint:
        named = resolve_checkpoint(inputs)
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


def _theirs(hub: Hub, lost: Remote) -> Remote | None:
    """The repo with what the winner of a race published; None where it is not the model that moved.

    A winner publishes its training state first, so the model is waited for a little.
    """
    for wait in _WAITS:
        ahead = look_up(hub, lost.repo_id, lost.revision)
        before = lost.model.commit if lost.model else None
        if ahead.model and ahead.model.has_model and ahead.model.commit != before:
            return ahead
        time.sleep(wait)
    return None


_WAITS = (1, 2, 4, 0)  # seconds


def _title(model: ModelFolder) -> str:
    return f"Step {model.step}, validation loss {loss_text(model.metadata.val_loss if model.metadata else None)}"


def _say(published: Published, url: str) -> None:
    if published.deployed:
        size = sum(change.size for change in published.changes)
        note(f"published {len(published.changes)} files, {size:,} bytes, to {url}: commit {published.commit}")
    else:
        note(f"{url} already holds this model at commit {published.commit}: nothing was sent")
