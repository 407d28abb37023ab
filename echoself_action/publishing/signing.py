"""sign: the signature of a publish, which goes into the same commit."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ..config.inputs import Inputs
from ..hub.endpoint import Hub
from ..hub.fetch import download
from ..hub.repo import PROVENANCE_FILE, SIGNATURE_FILE, Content, Remote
from ..hub.signature import NotSignedError, Signer, signer_of
from ..report.log import note, warn


def signer_for(inputs: Inputs) -> Signer | None:
    """Whoever is to sign, None where nobody is. Raises InputError for a key that is none, before any work."""
    return None if inputs.sign == "off" else signer_of(inputs.sign)


def signature_of(signer: Signer | None, hub: Hub, remote: Remote, files: Mapping[str, Content]) -> dict[str, Content]:
    """model.sig for a publish of `files`; nothing where it isn't signed, or where what is published is signed so already."""
    there = remote.model.files if remote.model else {}
    if signer is None:
        if SIGNATURE_FILE in there and PROVENANCE_FILE in files:
            warn(f"{remote.repo_id} has a {SIGNATURE_FILE}, which is not of what is published now: sign it again with sign.")
        return {}
    kept = {name: _published(hub, remote, name) for name in (PROVENANCE_FILE, SIGNATURE_FILE) if name in there}
    files = {**kept, **files}  # where nothing else has changed, there is no new provenance
    signature = files.get(SIGNATURE_FILE)
    if isinstance(signature, bytes) and signer.has_signed(files, signature):
        return {}
    try:
        made = signer.sign(files)
    except NotSignedError as error:
        warn(f"sign: auto: {error}. It is published without a signature.")
        return {}
    note(f"signed {'with a key' if signer.key else 'as this workflow'}: {SIGNATURE_FILE}")
    return {SIGNATURE_FILE: made}


def _published(hub: Hub, remote: Remote, name: str) -> bytes:
    assert remote.model
    with TemporaryDirectory() as folder:
        return download(hub, remote.repo_id, remote.model.commit, remote.model.files[name], Path(folder)).read_bytes()
