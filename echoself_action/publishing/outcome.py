"""What became of a publish, for the job summary."""

from ..report.job_summary.run_summary import PublishOutcome
from .publication import Publication


def outcome_of(publication: Publication) -> PublishOutcome:
    """The outcome of a publish whose steps are done."""
    dataset, commit = publication.dataset, publication.dataset_commit
    of_documents = dataset.repo.hub.url(dataset.repo.remote.repo_id) if dataset and dataset.repo else publication.repo_url
    sent = publication.state_published
    return PublishOutcome(
        repo_url=publication.repo_url,
        gate=publication.inputs.gate,
        verdict=None if publication.ending == "converged" else publication.verdict,
        commit=publication.published,
        parity=publication.measured,
        history=publication.history,
        is_dry_run=publication.inputs.dry_run,
        proposal=publication.proposal,
        sends_state=sent is not None and sent.deployed,
        documents=f"{of_documents}/tree/{commit}" if commit else "",
        tag=publication.tag,
        release_url=publication.release_url,
    )
