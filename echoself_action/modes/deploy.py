"""deploy: publish a model folder to the Hub, if it passes the quality gate."""

import time
from dataclasses import replace

from ..checkpoint.model_folder import ModelFolder, check_weights
from ..checkpoint.select import best, broken, foreign_checkpoints, foreign_text, resumable
from ..config.mode_inputs import DeployInputs
from ..config.outputs import set_outputs
from ..errors import GATE_REFUSED, CheckpointError, MovedOnError
from ..evaluation.gate import is_relative
from ..formats.runtimes.export_libraries import require_libraries
from ..hub.access import require_repo_access, require_write_access
from ..hub.client import open_hub
from ..hub.repo import Remote, look_up
from ..hub.upload_checks import refuse_secrets
from ..preflight.export_check import formats_check
from ..preflight.hub_state import hub_checks
from ..publishing.card import check_card
from ..publishing.dataset import publish_dataset, with_dataset
from ..publishing.demo import add_demo, check_demo, publish_demo, repair_demo
from ..publishing.exports import add_exports, naming_demo
from ..publishing.fidelity_scores import add_fidelity
from ..publishing.plan import plan, plan_state, show_plan
from ..publishing.publication import Publication
from ..publishing.quality_gate import check_parity, check_parity_again, judge
from ..publishing.question_scores import add_questions
from ..publishing.release import release_target, tag_and_release
from ..publishing.sample import add_sample
from ..publishing.signing import sign, signer_for
from ..publishing.upload import open_pull_request, upload, upload_state
from ..report.checks import checks_summary, show_checks
from ..report.github_actions import model_outputs, write_summary
from ..report.job_summary.run_summary import RunOutcome, run_summary
from ..report.log import note, part, warn
from ..report.report_page import PublishReport, write_page
from ..starting.resolve_checkpoint import require_checkpoint, resolve_checkpoint
from ..training.result import LOG_FILE

_WAITS = (1, 2, 4, 0)  # seconds


def run(inputs: DeployInputs) -> int:
    """Run the mode; returns the exit code."""
    check_before_work(inputs)
    trained = None
    if inputs.checkpoint:
        require_checkpoint(inputs)
    else:
        trained = _trained(inputs)
    with open_hub(inputs.hub, inputs.token, note) as hub:
        access = None if inputs.dry_run else require_write_access(hub)
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        if access and not inputs.create_pr:
            require_repo_access(hub, remote, access)
        checks = [*hub_checks(inputs, hub, remote, access), *formats_check(inputs), *check_demo(inputs, hub, remote, access)]
        show_checks(checks)
        check_card(inputs, hub, remote)
        if trained:
            model, newest = trained
        else:
            model = newest = resolve_checkpoint(inputs)
        done = deploy(Publication(inputs, hub, remote, model, newest))
    outcome = RunOutcome(done.result, done.model, newest, done.reason, done.sample, publishing=done.outcome, report=done.report)
    write_summary(f"{run_summary(outcome).markdown()}\n{checks_summary(checks)}")
    set_outputs(model_outputs(model) | {"checkpoint": str(newest.path)} | done.outputs)
    return exit_code(done)


def check_before_work(inputs: DeployInputs) -> None:
    """Raises InputError for a signing key, a release or an export that would fail after the work is done."""
    with naming_demo(inputs):
        require_libraries(inputs.exported_formats, note)
    release_target(inputs)
    signer_for(inputs)


def deploy(publication: Publication) -> Publication:
    """Publish a model, unless the gate refuses it; returns what was done.

    If another job publishes first, the model is compared with theirs, once. Raises CheckpointError if the folder is damaged or
    must not be published, HubError if the Hub refuses.
    """
    check_weights(publication.model)
    if publication.ending == "converged":
        return _report(_without_model(publication))
    try:
        return _publish(publication)
    except MovedOnError:
        gates = (publication.inputs.gate, publication.inputs.evaluate_gate)
        theirs = _published_meanwhile(publication) if any(map(is_relative, gates)) else None
        if theirs is None:
            raise
    warn(f"another job published to {publication.remote.repo_id} meanwhile: comparing with its model")
    return _publish(replace(publication, remote=theirs))


def _publish(publication: Publication) -> Publication:
    inputs = publication.inputs
    publication = judge(add_fidelity(add_questions(publication)))
    if not publication.verdict.passed:
        return _refuse(publication)
    with naming_demo(inputs), with_dataset(publication) as publication, part("Publishing"):
        publication = plan(add_exports(add_sample(check_parity(publication))))
        if publication.has_changes:
            publication = check_parity_again(publication)
        publication = add_demo(publication)
        if inputs.dry_run:
            show_plan(publication)
            return publication
        if publication.dataset and publication.dataset.repo:
            publication = plan(publish_dataset(publication))  # the model records the commit of its dataset
        publication = sign(publication)
        publication = open_pull_request(publication) if inputs.create_pr else tag_and_release(publish_demo(upload(publication)))
    return _report(publication)


def _refuse(publication: Publication) -> Publication:
    """Publish the training state alone: the next run goes on from it."""
    verdict = publication.verdict
    warn(f"gate: {verdict.full_reason}. The model was not published; it stays in {publication.model.path}.")
    return _report(_without_model(publication))


def _without_model(publication: Publication) -> Publication:
    """Publish the training state, and repair what an earlier run could not publish."""
    publication = add_sample(_publish_state(publication))
    return publication if publication.inputs.dry_run else repair_demo(publication)


def _publish_state(publication: Publication) -> Publication:
    with part("Publishing the training state"):
        publication = plan_state(publication)
        refuse_secrets(publication.state)
        if publication.inputs.dry_run:
            show_plan(publication)
            return publication
        return upload_state(publication)


def _report(publication: Publication) -> Publication:
    """Write the page."""
    published, verdict, url = publication.published, publication.verdict, publication.repo_url
    inputs = publication.inputs
    section = PublishReport(
        publication.remote.repo_id,
        url if publication.remote.model or published or publication.state_published else "",
        inputs.gate,
        verdict,
        published.commit if published and published.deployed else "",
        published.pr_url if published else "",
        publication.result,
        publication.reason,
        not publication.is_same_model,
        publication.history,
        publication.demo_url,
    )
    page = write_page(inputs.output_dir, inputs.output_dir / LOG_FILE, publication.model, publication.sample, section)
    return replace(publication, report=page)


def exit_code(done: Publication) -> int:
    """The exit code of a run with this end of `deploy`. Raises HubError if the model was published, but not its demo."""
    if done.demo_error:
        raise done.demo_error
    return GATE_REFUSED if done.outputs.get("gate_result") == "refused" and done.inputs.gate_fails_job else 0


def _trained(inputs: DeployInputs) -> tuple[ModelFolder, ModelFolder]:
    """The best model in output_dir, and the checkpoint of the same run that training resumes from. Raises CheckpointError."""
    model, newest = best(inputs.output_dir), next(iter(resumable(inputs.output_dir)), None)
    if model is None or newest is None:
        foreign = foreign_checkpoints(inputs.output_dir)
        raise CheckpointError(
            f"There is no checkpoint in {inputs.output_dir}.{f' {foreign_text(foreign)}' if foreign else ''} "
            "Nothing was published.",
            f"Train first, or set checkpoint to the path of a model folder{f', such as {foreign[-1]}' if foreign else ''}.",
        )
    for error in broken(inputs.output_dir):
        warn(f"{error.message} {model.path} is published instead.")
    same_run = model.metadata and newest.metadata and model.metadata.run_id == newest.metadata.run_id
    return model, newest if same_run else model


def _published_meanwhile(publication: Publication) -> Remote | None:
    """The repo with the model that another job has published since; None if its model has not changed.

    The other job publishes its training state first, so its model may take a few seconds to appear.
    """
    seen = publication.remote
    for wait in _WAITS:
        remote = look_up(publication.hub, seen.repo_id, seen.revision)
        before = seen.model.commit if seen.model else None
        if remote.model and remote.model.has_model and remote.model.commit != before:
            return remote
        time.sleep(wait)
    return None
