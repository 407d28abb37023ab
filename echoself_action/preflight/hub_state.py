"""The Hub: the access to it, the repo, and what is published there."""

import os
from urllib.parse import urlsplit

from ..checkpoint.metadata import Metadata
from ..config.inputs import Inputs
from ..hub.access import TokenAccess
from ..hub.endpoint import Hub
from ..hub.oidc import RESOURCE
from ..hub.repo import Remote
from ..report.checks import PreflightCheck


def hub_checks(inputs: Inputs, hub: Hub, remote: Remote, access: TokenAccess | None) -> list[PreflightCheck]:
    """The token and the repo of a job. `access`: None if it was not looked up, because nothing is published."""
    token = [token_check(hub, access, inputs.token is not None)] if access else []
    return [*token, repo_check(hub, remote, private=inputs.private)]


def token_check(hub: Hub, access: TokenAccess, given: bool) -> PreflightCheck:
    """The token that the job uses. `given`: it is that of the input hf_token."""
    if access.how == "none":
        return PreflightCheck("token", f"not needed: the Hub {hub.folder or hub.endpoint} is on this machine")
    if access.how == "keyless":
        return PreflightCheck(
            "token", f"keyless access to {os.environ[RESOURCE]}, which {urlsplit(hub.endpoint).hostname} grants this job"
        )
    source = "hf_token" if given else "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the login on this machine"
    return PreflightCheck("token", f"{access}, from {source}")


def repo_check(hub: Hub, remote: Remote, facts: Metadata | None = None, private: bool = False) -> PreflightCheck:
    """The repo and what is published; `facts` are of the published model, if they have been read."""
    where = f"{remote.repo_id} in the local Hub {hub.folder}" if hub.folder else hub.url(remote.repo_id)
    if remote.model is None and remote.state is None:
        return PreflightCheck("repo", f"{where} does not exist, and will be created{', as private' if private else ''}")
    if remote.model is None:
        return PreflightCheck("repo", f"{where} has no revision {remote.revision}, which will be created")
    if not (remote.model.has_model or remote.model.has_other_model):
        return PreflightCheck("repo", f"{where} exists, and has no model at {remote.revision} yet")
    what = f"step {facts.step:,}, {facts.val_loss_text}" if facts else "a model"
    state = " and its training state" if remote.state and remote.state.has_state else ", without a training state"
    return PreflightCheck("repo", f"{where} has {what}{state}")
