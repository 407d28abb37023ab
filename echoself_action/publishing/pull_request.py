"""create_pr: the model as a pull request on the Hub, in place of a commit."""

from collections.abc import Mapping

from ..checkpoint.metadata import ParityFacts
from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import Inputs
from ..evaluation.gate import Verdict
from ..hub.endpoint import Hub
from ..hub.fetch import read_facts
from ..hub.publish import changes
from ..hub.pull_request import open_pull_request
from ..hub.repo import Content, Remote
from ..report.descriptions import pull_request_description
from ..report.github_actions import write_summary
from ..report.job_summary import pull_request_summary
from ..report.log import note


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
    text = pull_request_description(inputs.gate, verdict, parity, changes(files, remote.model), before, model.metadata)
    proposed = open_pull_request(hub, remote, files, title, text)
    url = hub.url(remote.repo_id)
    note(f"pull request: {proposed.pr_url}" if proposed.pr_url else f"{url} already holds this model: no pull request")
    write_summary(pull_request_summary(url, proposed.pr_url, text))
    return {"deployed": "false", "pr_url": proposed.pr_url, "commit_sha": proposed.commit}
