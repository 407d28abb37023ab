"""Sign what is published: the signature is part of the same commit."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..config.mode_inputs import DeployInputs
from ..hub.fetch import download
from ..hub.repo import PROVENANCE_FILE, SIGNATURE_FILE
from ..hub.signature import NotSignedError, Signer, signer_of
from ..report.log import note, warn
from .publication import Publication


def signer_for(inputs: DeployInputs) -> Signer | None:
    """The signer; None with `sign: off`. Raises InputError for an invalid key, before any work."""
    return None if inputs.sign == "off" else signer_of(inputs.sign)


def sign(publication: Publication) -> Publication:
    """Add model.sig to the files, unless signing is off or the published signature is already valid for them."""
    remote, files, signer = publication.remote, publication.files, signer_for(publication.inputs)
    published = remote.model.files if remote.model else {}
    if signer is None:
        if SIGNATURE_FILE in published and PROVENANCE_FILE in files:
            warn(f"{remote.repo_id} has a {SIGNATURE_FILE} that will not match the new files. Set sign to sign them again.")
        return publication
    kept = {name: _download(publication, name) for name in (PROVENANCE_FILE, SIGNATURE_FILE) if name in published}
    signed = {**kept, **files}  # if nothing else has changed, there is no new provenance
    signature = signed.get(SIGNATURE_FILE)
    if isinstance(signature, bytes) and signer.has_signed(signed, signature):
        return publication
    try:
        made = signer.sign(signed)
    except NotSignedError as error:
        warn(f"sign: auto: {error}. Publishing without a signature.")
        return publication
    note(f"signed {'with a key' if signer.key else 'as this workflow'}: {SIGNATURE_FILE}")
    return replace(publication, files={**files, SIGNATURE_FILE: made})


def _download(publication: Publication, name: str) -> bytes:
    remote = publication.remote
    assert remote.model
    with TemporaryDirectory() as folder:
        return download(
            publication.hub, remote.repo_id, remote.model.commit, remote.model.files[name], Path(folder)
        ).read_bytes()
