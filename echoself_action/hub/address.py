"""How `data` names a dataset on the Hub: hf://datasets/owner/name, with @ and a branch, tag or commit after it."""

import re

SCHEME = "hf://"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_FORM = re.compile(rf"hf://datasets/({_NAME}/{_NAME})(?:@({_NAME}(?:/{_NAME})*))?")


def parse_source(source: str) -> tuple[str, str] | None:
    """The repo and the revision, main where none is named; None where it has another form."""
    match = _FORM.fullmatch(source)
    return (match[1], match[2] or "main") if match else None
