"""model.sig: the signature of the files of a model, a Sigstore bundle written and verified by model-signing (OpenSSF).

It covers the model files, the modeling code of a NanEcho, and provenance.json, which has the sha256 of the history. It does not
cover the card, which users may edit. model-signing is an optional dependency of this package: the extra `sign`.
"""

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .. import libraries
from ..checkpoint.model_folder import sha256
from ..errors import CheckpointError, HubError, InputError
from .repo import CODE_FILES, MODEL_FILES, PROVENANCE_FILE, SIGNATURE_FILE, Content

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from model_signing.verifying import Config

SIGNED = (*MODEL_FILES, *CODE_FILES, PROVENANCE_FILE)
ISSUER = "https://token.actions.githubusercontent.com"  # of the identities of GitHub Actions workflows
_MISMATCH = "Signature mismatch: "  # prefix of model-signing's error for a valid signature of other files
# the message contains the digests as bytes; if one of them is a quote, repr escapes the other quotes
_NAMED = re.compile(r"(?:Hash mismatch for \\?'|(?:Extra|Missing) files [^:]*: )([^'\\\]\"]+)")


class NotSignedError(Exception):
    """The model can't be signed keylessly here, for the reason in the message."""


@dataclass(frozen=True)
class Signer:
    """Signs with the private key in the file `key`, or, if it is None, with the identity of the running workflow."""

    key: Path | None

    def sign(self, files: Mapping[str, Content]) -> bytes:
        """The content of model.sig for the files of SIGNED in `files`. Raises NotSignedError."""
        if not is_installed():
            raise NotSignedError("model-signing is not installed; the action installs it with runtime: host")
        config = libraries.model_signing.signing.Config()
        if self.key:
            config.use_elliptic_key_signer(private_key=self.key)
        else:
            token = _id_token()
            try:
                config.use_sigstore_signer(identity_token=token)
            except Exception as error:
                raise NotSignedError(f"Sigstore can't be reached: {_error_line(error, token)}") from error
        with _signed_folder(files) as folder, TemporaryDirectory() as place:
            path = Path(place) / SIGNATURE_FILE
            try:
                config.sign(folder, path)
            except Exception as error:
                if self.key:
                    raise
                raise NotSignedError(f"Sigstore did not issue a certificate: {_error_line(error, token)}") from error
            return path.read_bytes()

    def has_signed(self, files: Mapping[str, Content], signature: bytes) -> bool:
        """Whether `signature` is by this signer and of these files, so that no new one is needed. Signatures are not
        deterministic.

        For a keyless signature only the digests are compared; it is verified by those who pull the model.
        """
        if self.key is None:
            return _keyless_digests(signature) == {name: _digest(content) for name, content in _signed(files).items()}
        with TemporaryDirectory() as place:
            public = Path(place) / "key.pub"
            public.write_bytes(_public_pem(self.key))
            try:
                verify_signature(files, signature, signed_by(str(public)), "")
            except CheckpointError:
                return False
        return True


@dataclass(frozen=True)
class SignedBy:
    """The expected signer: the identity of a workflow or the file of a public key, with the configuration that verifies it."""

    name: str
    config: "Config"


def signer_of(sign: str) -> Signer:
    """`auto` is the running workflow, anything else the path of a private key.

    Raises InputError for an invalid key, or for a key without model-signing installed.
    """
    if sign == "auto":
        return Signer(None)
    _require_package("sign")
    path = Path(sign)
    try:
        _public_pem(path)
    except (ValueError, TypeError, AttributeError, OSError) as error:  # other types of keys have no curve
        # the library's message is left out in case it ever contains part of the key
        raise InputError(
            f"sign: {path} can't be used as a private key ({type(error).__name__}). Nothing was done.",
            "It must be an elliptic curve key (P-256, P-384 or P-521) in PEM format, without a password: "
            "openssl ecparam -name prime256v1 -genkey -noout -out key.pem creates one.",
        ) from None
    return Signer(path)


def signed_by(signer: str) -> SignedBy:
    """`signer` is the https URL of a workflow, or the path of a public key.

    Raises InputError for an invalid key or without model-signing installed, HubError if Sigstore's keys can't be downloaded.
    """
    _require_package("signer")
    verifier = libraries.model_signing.verifying.Config()
    if signer.startswith("https://"):
        try:
            return SignedBy(signer, verifier.use_sigstore_verifier(identity=signer, oidc_issuer=ISSUER))
        except Exception as error:
            raise HubError(
                f"Sigstore's keys can't be downloaded: {_error_line(error)}. Nothing was kept.",
                "Check the network, then run again; or sign the model with a key.",
            ) from error
    try:
        return SignedBy(signer, verifier.use_elliptic_key_verifier(public_key=signer))
    except (ValueError, AttributeError, OSError) as error:
        raise InputError(
            f"signer: {signer} can't be used as a public key ({type(error).__name__}). Nothing was fetched.",
            "It must be an elliptic curve key in PEM format: openssl ec -in key.pem -pubout -out key.pub creates one.",
        ) from error


def verify_signature(files: Mapping[str, Content], signature: bytes, signer: SignedBy, where: str) -> None:
    """Verify `signature` for the files of SIGNED in `files`. Raises CheckpointError for another signer or other files."""
    not_valid = (libraries.cryptography.exceptions.InvalidSignature, libraries.sigstore.errors.VerificationError)
    with _signed_folder(files) as folder, TemporaryDirectory() as place:
        path = Path(place) / SIGNATURE_FILE
        path.write_bytes(signature)
        try:
            signer.config.verify(folder, path)
        except Exception as error:  # the file is untrusted, so any exception is possible
            message = str(error)
            if message.startswith(_MISMATCH):
                raise CheckpointError(
                    f"{where} does not match its signature: {', '.join(named_in(message))} was changed, added or removed after "
                    "signing. Nothing was kept.",
                    "Check the history of the repo, and pull the commit before the change with revision.",
                ) from error
            if isinstance(error, not_valid) or message.startswith("Key mismatch"):
                raise CheckpointError(
                    f"{where} is not signed by {signer.name}: its {SIGNATURE_FILE} is not a valid signature by this signer. "
                    "Nothing was kept.",
                    "Check signer. If it is correct, the model was published by someone else.",
                ) from error
            raise CheckpointError(
                f"The {SIGNATURE_FILE} of {where} can't be read ({type(error).__name__}). Nothing was kept.",
                "Publish the model again with sign. Or check signer: use the path of the public key for a signature by a key, "
                "and the URL of the workflow for one by a workflow.",
            ) from error


def named_in(mismatch: str) -> list[str]:
    """The file names in a mismatch error of model-signing."""
    return _NAMED.findall(mismatch)


def verify_folder(folder: Path, where: str, signer: SignedBy) -> None:
    """Verify the files of a folder with its model.sig. Raises CheckpointError, also if it has none."""
    path = folder / SIGNATURE_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{where} has no {SIGNATURE_FILE}, which signer requires. Nothing was kept.",
            "Publish it with sign, or pull it without signer.",
        )
    verify_signature({name: folder / name for name in SIGNED if (folder / name).is_file()}, path.read_bytes(), signer, where)


def is_installed() -> bool:
    try:
        libraries.model_signing  # noqa: B018
    except ImportError:
        return False
    return True


def _require_package(name: str) -> None:
    if not is_installed():
        raise InputError(
            f"{name}: model-signing is not installed. Nothing was done.",
            "In the action, use runtime: host. In a clone: pip install '.[sign]' installs the tested version.",
        )


def _id_token() -> str:
    """The OIDC id token of this workflow, for Sigstore. Raises NotSignedError."""
    if not os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
        raise NotSignedError("this job has no permission for an id token: it needs permissions: id-token: write")
    try:
        token = libraries.sigstore.oidc.detect_credential()
    except (libraries.sigstore.oidc.IdentityError, OSError) as error:
        raise NotSignedError(f"GitHub did not issue an id token for Sigstore: {_error_line(error)}") from error
    if not token:
        raise NotSignedError("there is no id token for Sigstore")
    return str(token)


def _error_line(error: Exception, secret: str = "") -> str:
    """The error message on one line, without the token."""
    line = " ".join(str(error).split())[:300] or type(error).__name__
    return line.replace(secret, "***") if secret else line


def _public_pem(key: Path) -> bytes:
    """The public half of a private key. Raises ValueError, TypeError, AttributeError or OSError for an invalid key."""
    libraries.model_signing.signing.Config().use_elliptic_key_signer(private_key=key)  # it checks the type of the key
    serialization = libraries.cryptography.hazmat.primitives.serialization
    public: EllipticCurvePublicKey = serialization.load_pem_private_key(key.read_bytes(), None).public_key()  # type: ignore[assignment]
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _signed(files: Mapping[str, Content]) -> dict[str, Content]:
    return {name: content for name, content in files.items() if name in SIGNED}


@contextmanager
def _signed_folder(files: Mapping[str, Content]) -> Iterator[Path]:
    """A temporary folder with exactly the signed files, as model-signing requires."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "model"
        folder.mkdir()
        for name, content in _signed(files).items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
                continue
            try:
                os.link(content.resolve(), folder / name)
            except OSError:  # on another file system
                shutil.copyfile(content, folder / name)
        yield folder


def _keyless_digests(signature: bytes) -> dict[str, str]:
    """The files and digests in a keyless signature; empty for any other content."""
    try:
        bundle = json.loads(signature)
        keyless = "certificate" in bundle["verificationMaterial"]
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        named = {str(resource["name"]): str(resource["digest"]) for resource in payload["predicate"]["resources"]}
    except (ValueError, KeyError, TypeError):
        return {}
    return named if keyless else {}


def _digest(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)
