"""How repos on the Hub are named, and how `data` names a dataset there: hf://datasets/owner/name, with @ and a revision."""

import re

SCHEME = "hf://"
MAX_REPO_ID = 96  # characters, on the Hub
# The rule of huggingface_hub.utils.validate_repo_id, which takes too long to import to check inputs; a revision may follow
_REPO_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
REPO = rf"(?=[^@]{{3,{MAX_REPO_ID}}}(?:@|$))(?![^@]*(?:--|\.\.|\.git(?:@|$))){_REPO_NAME}/{_REPO_NAME}"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_FORM = re.compile(rf"hf://datasets/({REPO})(?:@({_NAME}(?:/{_NAME})*))?")


def parse_source(source: str) -> tuple[str, str] | None:
    """The repo and the revision, main if none is named; None if the format is invalid."""
    match = _FORM.fullmatch(source)
    return (match[1], match[2] or "main") if match else None
