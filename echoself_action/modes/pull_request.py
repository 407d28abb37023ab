"""create_pr: the model as a pull request on the Hub, in place of a commit."""

from collections.abc import Mapping

from ..checkpoint.folder import ModelFolder
from ..checkpoint.metadata import ParityFacts
from ..evaluation.gate import Verdict
from ..hub.checksum import Content
from ..hub.client import Hub
from ..hub.fetch import read_facts
from ..hub.propose import propose_model
from ..hub.publish import changes
from ..hub.repo import Remote
from ..inputs import Inputs
from ..report.github import write_summary
from ..report.log import note
from ..report.proposal import proposal_summary, proposal_text


def propose(
    inputs: Inputs,
    hub: Hub,
    remote: Remote,
    model: ModelFolder,
    files: Mapping[str, Content],
    title: str,
    checked: tuple[Verdict, ParityFacts],
) -> dict[str, str]:
    """Open a pull request with the gate's report, or find the open one; returns the outputs. The training state stays here."""
    verdict, parity = checked
    before = read_facts(hub, remote.repo_id, remote.model) if remote.model else None
    text = proposal_text(inputs.gate, verdict, parity, changes(files, remote.model), before, model.metadata)
    proposed = propose_model(hub, remote, files, title, text)
    url = hub.url(remote.repo_id)
    note(f"pull request: {proposed.pr_url}" if proposed.pr_url else f"{url} already holds this model: no pull request")
    write_summary(proposal_summary(url, proposed.pr_url, text))
    return {"deployed": "false", "pr_url": proposed.pr_url, "commit_sha": proposed.commit}
