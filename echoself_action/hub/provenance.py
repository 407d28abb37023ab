"""provenance.json: which workflow run published these files, and what they were then.

It is not signed: it shows a file that was changed or swapped afterwards, by a person or an accident, and where a model is from.
It does not stop somebody who may write to the repo and rewrites it as well.
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
_RUN = {  # of the variables that GitHub gives a job; none says who started it
    "repository": "GITHUB_REPOSITORY",
    "commit": "GITHUB_SHA",
    "ref": "GITHUB_REF",
    "workflow": "GITHUB_WORKFLOW_REF",
    "event": "GITHUB_EVENT_NAME",
    "run_id": "GITHUB_RUN_ID",
    "run_attempt": "GITHUB_RUN_ATTEMPT",
}


class FileFacts(BaseModel):
    """A file as it was published; `size` in bytes."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int


class Provenance(BaseModel):
    """`run` is the job that published, empty on a machine of one's own; `inputs_sha256` is of all its inputs but the token.

    `files` are those of the publish but the card, which people may go on editing.
    """

    model_config = ConfigDict(frozen=True)

    format: str = "echoself-provenance/1"
    run: dict[str, str]
    inputs_sha256: str
    files: dict[str, FileFacts]


def provenance_of(files: Mapping[str, Content], inputs: Mapping[str, object]) -> bytes:
    """The content of provenance.json for a publish of `files` with `inputs`, which are JSON and hold no secret."""
    run = this_run()
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    facts = {name: _facts(content) for name, content in sorted(files.items()) if name != CARD_FILE}
    return Provenance(run=run, inputs_sha256=digest, files=facts).model_dump_json(indent=2).encode() + b"\n"


def this_run() -> dict[str, str]:
    """What GitHub says of the job that this is, with its page as `run_url`; empty on a machine of one's own."""
    run = {name: os.environ[variable] for name, variable in _RUN.items() if os.environ.get(variable)}
    if {"repository", "run_id"} <= run.keys():
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        run["run_url"] = f"{server}/{run['repository']}/actions/runs/{run['run_id']}"
    return run


def verify_files(folder: Path, where: str, required: bool, say: Callable[[str], None]) -> None:
    """Hold the model files in `folder` to the provenance.json beside them. `where` is what they were fetched from.

    Raises CheckpointError where a file is not as it was published, or where there is no provenance and it is `required`.
    """
    path = folder / PROVENANCE_FILE
    if not path.is_file():
        if required:
            raise CheckpointError(
                f"{where} has no {PROVENANCE_FILE}, and verify: require asks for one. Nothing was kept.",
                "Publish it with this action, or pull it with verify: auto.",
            )
        return
    try:
        provenance = Provenance.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise CheckpointError(
            f"The {PROVENANCE_FILE} of {where} can't be read: {reason}. Nothing was kept.", "Publish the model again."
        ) from error
    here = [name for name in MODEL_FILES if (folder / name).is_file()]
    wrong = [name for name in here if provenance.files.get(name) != _facts(folder / name)]
    if wrong:
        raise CheckpointError(
            f"{where} was changed after it was published: {', '.join(wrong)} is not what its {PROVENANCE_FILE} says. "
            "Nothing was kept.",
            "Look at the repo's history, and pull the commit before the change with revision. verify: off takes it as it is.",
        )
    say(f"every file is as it was published{_by(provenance)}")


def _by(provenance: Provenance) -> str:
    run = provenance.run
    return f": {run.get('workflow', 'a workflow')}, {run['run_url']}" if "run_url" in run else ""


def _facts(content: Content) -> FileFacts:
    digest = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)
    return FileFacts(sha256=digest, size=size_of(content))
