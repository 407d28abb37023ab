"""The first lines of a job: what it has found before it starts to work, by requests that it makes anyway."""

from collections.abc import Sequence

from ..config.inputs import Inputs
from ..hub.access import TokenAccess
from ..hub.endpoint import Hub
from ..hub.repo import Remote
from ..report.checks import PreflightCheck, check_lines
from ..report.log import note, part
from .hub_state import repo_check, token_check


def hub_checks(inputs: Inputs, hub: Hub, remote: Remote, access: TokenAccess | None) -> list[PreflightCheck]:
    """The token and the repo. `access`: None if it was not looked up, because nothing is published."""
    token = [token_check(hub, access, inputs.token is not None)] if access else []
    return [*token, repo_check(hub, remote, private=inputs.private)]


def show_checks(checks: Sequence[PreflightCheck]) -> None:
    with part("Checks"):
        note(check_lines(checks))
