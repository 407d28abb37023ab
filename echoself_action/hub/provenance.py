"""provenance.json: the workflow run that published the files, and their checksums.

It is not signed. It detects files that were changed or replaced after the publish, and records where a model is from. It does
not protect against an attacker with write access to the repo, who can change it too.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..checkpoint.model_folder import sha256
from ..errors import CheckpointError
from .repo import CARD_FILE, MODEL_FILES, PROVENANCE_FILE, Content, size_of

Verify = Literal["auto", "require", "off"]
_RUN = {  # environment variables of GitHub Actions; none identifies the person who started the job
    "repository": "GITHUB_REPOSITORY",
    "commit": "GITHUB_SHA",
    "ref": "GITHUB_REF",
    "workflow": "GITHUB_WORKFLOW_REF",
    "event": "GITHUB_EVENT_NAME",
    "run_id": "GITHUB_RUN_ID",
    "run_attempt": "GITHUB_RUN_ATTEMPT",
}


class FileFacts(BaseModel):
    """A published file; `size` in bytes."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int


class Provenance(BaseModel):
    """`run` identifies the job that published, and is empty outside of GitHub Actions; `inputs_sha256` covers all inputs except
    the token. `files` are all published files except the card, which users may edit.
    """

    model_config = ConfigDict(frozen=True)

    format: str = "echoself-provenance/1"
    run: dict[str, str]
    inputs_sha256: str
    files: dict[str, FileFacts]


def provenance_of(files: Mapping[str, Content], inputs: Mapping[str, object]) -> bytes:
    """The content of provenance.json for a publish of `files` with `inputs`, which must be JSON without secrets."""
    run = this_run()
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    facts = {name: _facts(content) for name, content in sorted(files.items()) if name != CARD_FILE}
    return Provenance(run=run, inputs_sha256=digest, files=facts).model_dump_json(indent=2).encode() + b"\n"


def this_run() -> dict[str, str]:
    """The current job in GitHub Actions, with the URL of its page as `run_url`; empty elsewhere."""
    run = {name: os.environ[variable] for name, variable in _RUN.items() if os.environ.get(variable)}
    if {"repository", "run_id"} <= run.keys():
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        run["run_url"] = f"{server}/{run['repository']}/actions/runs/{run['run_id']}"
    return run


def verify_files(folder: Path, where: str, required: bool, say: Callable[[str], None]) -> None:
    """Check the model files in `folder` against its provenance.json. `where` names their source in messages.

    Raises CheckpointError if a file differs, or if there is no provenance.json and it is `required`.
    """
    path = folder / PROVENANCE_FILE
    if not path.is_file():
        if required:
            raise CheckpointError(
                f"{where} has no {PROVENANCE_FILE}, which verify: require requires. Nothing was kept.",
                "Publish it with this action, or pull it with verify: auto.",
            )
        return
    try:
        provenance = Provenance.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise CheckpointError(
            f"The {PROVENANCE_FILE} of {where} is invalid: {reason}. Nothing was kept.", "Publish the model again."
        ) from error
    here = [name for name in MODEL_FILES if (folder / name).is_file()]
    wrong = [name for name in here if provenance.files.get(name) != _facts(folder / name)]
    if wrong:
        raise CheckpointError(
            f"{where} was changed after it was published: {', '.join(wrong)} does not match its {PROVENANCE_FILE}. "
            "Nothing was kept.",
            "Check the history of the repo, and pull the commit before the change with revision. verify: off skips this check.",
        )
    say(f"all files match {PROVENANCE_FILE}{_by(provenance)}")


def _by(provenance: Provenance) -> str:
    run = provenance.run
    return f": published by {run.get('workflow', 'a workflow')}, {run['run_url']}" if "run_url" in run else ""


def _facts(content: Content) -> FileFacts:
    digest = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)
    return FileFacts(sha256=digest, size=size_of(content))
