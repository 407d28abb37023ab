"""Plan what a publish changes: the files of each branch of the model repo, all checked before any of them is sent."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from .. import evaluation
from ..checkpoint.metadata import Ending
from ..checkpoint.model_folder import ModelFolder
from ..hub.cards.history_chart import history_files
from ..hub.endpoint import Hub
from ..hub.history import History, fetch_history, history_entry
from ..hub.provenance import provenance_of, this_run
from ..hub.publish import changes, describe_changes, model_files, state_files
from ..hub.repo import HISTORY_FILE, MAIN, PROVENANCE_FILE, STATE_BRANCH, Content, Listing, Remote
from ..hub.upload_checks import refuse_secrets
from ..report.log import note
from .card import card_of
from .publication import Publication


def plan(publication: Publication) -> Publication:
    """Add to the publication the files to upload and to delete. Raises CheckpointError if one of them must not be published."""
    inputs, remote, dataset = publication.inputs, publication.remote, publication.dataset
    publication = plan_state(publication)
    history, new_history = _with_publish(publication, publication.history)
    files = model_files(publication.model, card_of(publication, history)) | {**publication.export_files} | new_history
    removed = publication.outdated_exports
    if dataset and not dataset.repo:
        files |= dataset.files
        removed += dataset.removed
    files |= _provenance(publication, files)
    refuse_secrets({**publication.state, **files})
    differs = bool(changes(files, remote.model) or changes(publication.state, remote.state) or removed)
    return replace(
        publication,
        files=files,
        removed=removed,
        history=history,
        has_changes=differs or dataset is not None or inputs.sign != "off",
    )


def plan_state(publication: Publication) -> Publication:
    """Add the history so far, and the files of the training state's branch.

    A run that publishes no model adds its line of the history there, but only one for the runs after convergence.
    """
    publication = replace(publication, history=fetch_history(publication.hub, publication.remote))
    if not publication.publishes_state:
        return publication
    files, history = state_files(publication.resumable), publication.history
    publishes_model = publication.verdict.passed and not publication.is_same_model
    recorded = publication.ending == "converged" and history.entries and history.entries[-1].result == "converged"
    if not publishes_model and not recorded and (publication.ending or changes(files, publication.remote.state)):
        history = _followed_by(history, publication.latest or publication.model, publication.ending or "advanced")
        files[HISTORY_FILE] = history.content
    return replace(publication, state=files, history=history)


def show_plan(publication: Publication) -> None:
    """Print what would be published, with the differences to what is published."""
    hub, remote, dataset = publication.hub, publication.remote, publication.dataset
    note("dry run: this would be published, and nothing else")
    if dataset and dataset.repo:
        repo = dataset.repo
        _show_branch(repo.hub, repo.remote, MAIN, {**dataset.files, **repo.card}, repo.remote.model, dataset.removed)
    _show_branch(hub, remote, remote.revision, publication.files, remote.model, publication.removed)
    _show_branch(hub, remote, STATE_BRANCH, publication.state, remote.state, ())
    if demo := publication.demo:
        space = demo.space
        _show_branch(space.hub, space.remote, MAIN, demo.files, space.remote.model, demo.removed)


def _show_branch(
    hub: Hub, remote: Remote, branch: str, files: Mapping[str, Content], published: Listing | None, removed: tuple[str, ...]
) -> None:
    if not files:
        return
    changed = changes(files, published)
    note(f"{branch} of {hub.url(remote.repo_id)}: {sum(change.size for change in changed):,} bytes")
    for line in describe_changes(hub, remote.repo_id, changed, published, removed):
        note(line)


def _with_publish(publication: Publication, before: History) -> tuple[History, dict[str, bytes]]:
    """The history with this publish, and its files; no files without a new entry, as for weights that are already published."""
    if publication.is_same_model:
        return before, {}
    history = _followed_by(before, publication.model, "published")
    return history, history_files(history, publication.model.metadata) if history != before else {}


def _followed_by(history: History, model: ModelFolder, result: Ending) -> History:
    """`history` with a line for the run of this job with `model`; as it is for a model without metadata."""
    run = history_entry(model, history, this_run(), evaluation.bits_per_byte_of(model), datetime.now(UTC), result)
    return history.followed_by(run) if run else history


def _provenance(publication: Publication, files: Mapping[str, Content]) -> dict[str, Content]:
    """Empty if all other files are already published: publishing them again must not make a commit."""
    if not changes(files, publication.remote.model):
        return {}
    return {PROVENANCE_FILE: provenance_of(files, publication.inputs.model_dump(mode="json", exclude={"hf_token"}))}
