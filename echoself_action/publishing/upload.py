"""Upload what was planned: as commits on the branches of the model repo, or as a pull request."""

from dataclasses import replace

from ..hub import pull_request
from ..hub.fetch import read_facts
from ..hub.publish import CommitResult, changes, ensure_repo, publish_model, publish_state
from ..hub.repo import STATE_BRANCH
from ..report.descriptions import pull_request_description
from ..report.log import note
from .publication import Publication


def upload_state(publication: Publication) -> Publication:
    """Commit the training state. Raises HubError if the Hub refuses, or if another job published meanwhile."""
    if not publication.state:
        return publication
    hub, ending = publication.hub, publication.ending
    remote = ensure_repo(hub, publication.remote, publication.inputs.private)
    title = f"Training state at step {publication.resumable.step}" + (f" ({ending})" if ending else "")
    published = publish_state(hub, remote, publication.state, title)
    if published.deployed:
        note(f"training state at step {publication.resumable.step}: commit {published.commit} on branch {STATE_BRANCH}")
    return replace(publication, remote=remote, state_published=published)


def upload(publication: Publication) -> Publication:
    """Commit the training state, then the model. Raises HubError as `upload_state`."""
    publication = upload_state(publication)
    hub = publication.hub
    remote = ensure_repo(hub, publication.remote, publication.inputs.private)
    published = publish_model(hub, remote, publication.files, _title(publication), publication.removed)
    if published.deployed:
        log_upload(published, publication.repo_url)
    else:
        note(f"{publication.repo_url} already holds this model at commit {published.commit}: nothing was sent")
    with_model = publication.dataset is not None and publication.dataset.repo is None
    dataset_commit = published.commit if with_model else publication.dataset_commit
    return replace(publication, remote=remote, published=published, dataset_commit=dataset_commit)


def open_pull_request(publication: Publication) -> Publication:
    """Open a pull request with the report of the gate, or find the open one. The training state is not published."""
    hub, remote = publication.hub, publication.remote
    before = read_facts(hub, remote.repo_id, remote.model) if remote.model else None
    changed = changes(publication.files, remote.model)
    text = pull_request_description(
        publication.inputs.gate,
        publication.verdict,
        publication.parity,
        changed,
        before,
        publication.model.metadata,
        publication.removed,
    )
    published = pull_request.open_pull_request(hub, remote, publication.files, _title(publication), text, publication.removed)
    url, pr_url = publication.repo_url, published.pr_url
    note(f"pull request: {pr_url}" if pr_url else f"{url} already holds this model: no pull request was opened")
    return replace(publication, published=published, proposal=text if pr_url else "")


def log_upload(published: CommitResult, url: str) -> None:
    """Log the size and the commit of what was sent."""
    size = sum(change.size for change in published.changes)
    note(f"published {len(published.changes)} files, {size:,} bytes, to {url}: commit {published.commit}")


def _title(publication: Publication) -> str:
    facts = publication.model.metadata
    return f"Step {publication.model.step}, validation loss {facts.val_loss_text if facts else 'not evaluated'}"
