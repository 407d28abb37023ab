"""model.sig: who vouches for the files of a model. Written and read by model-signing (OpenSSF), as a Sigstore bundle.

It covers the model's files, the code that comes with a NanEcho, and provenance.json, which in turn has the sha256 of the
history. It leaves out the card, which people may go on editing. model-signing is an extra of this package, `sign`.
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

from ..checkpoint.model_folder import sha256
from ..errors import CheckpointError, HubError, InputError
from .repo import CODE_FILES, MODEL_FILES, PROVENANCE_FILE, SIGNATURE_FILE, Content

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from model_signing.verifying import Config

SIGNED = (*MODEL_FILES, *CODE_FILES, PROVENANCE_FILE)
ISSUER = "https://token.actions.githubusercontent.com"  # of the identities that GitHub gives to workflows
_MISMATCH = "Signature mismatch: "  # how model-signing begins where the signature is good and the files are others
# its message has the digests' bytes in it, and where there is a quote among them, Python puts a backslash before the others
_NAMED = re.compile(r"(?:Hash mismatch for \\?'|(?:Extra|Missing) files [^:]*: )([^'\\\]\"]+)")


class NotSignedError(Exception):
    """Why there can be no keyless signature here, in words."""


@dataclass(frozen=True)
class Signer:
    """Whoever signs: by the private key in the file `key`, or, where it is None, as the workflow that runs."""

    key: Path | None

    def sign(self, files: Mapping[str, Content]) -> bytes:
        """The content of model.sig for those of `files` that are signed. Raises NotSignedError where there can't be one."""
        if not is_installed():
            raise NotSignedError("model-signing is not installed here; in the action it comes with runtime: host")
        from model_signing.signing import Config

        config = Config()
        if self.key:
            config.use_elliptic_key_signer(private_key=self.key)
        else:
            token = _id_token()
            try:
                config.use_sigstore_signer(identity_token=token)
            except Exception as error:
                raise NotSignedError(f"Sigstore can't be reached: {_told(error, token)}") from error
        with _laid_out(files) as folder, TemporaryDirectory() as place:
            path = Path(place) / SIGNATURE_FILE
            try:
                config.sign(folder, path)
            except Exception as error:
                if self.key:
                    raise
                raise NotSignedError(f"Sigstore gave no certificate: {_told(error, token)}") from error
            return path.read_bytes()

    def has_signed(self, files: Mapping[str, Content], signature: bytes) -> bool:
        """Whether `signature` is already ours, of these very files: another one would differ, and say no more.

        Of a keyless one only what it says is compared: who reads it checks the rest.
        """
        if self.key is None:
            return _stated(signature) == {name: _digest(content) for name, content in _signed(files).items()}
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
    """Who has to have signed: the identity of a workflow, or the file of a public key; and what checks it."""

    name: str
    config: "Config"


def signer_of(sign: str) -> Signer:
    """`auto` is the workflow, anything else the path of a private key.

    Raises InputError where a key is given and is none, or model-signing is missing for it.
    """
    if sign == "auto":
        return Signer(None)
    _require_package("sign")
    path = Path(sign)
    try:
        _public_pem(path)
    except (ValueError, TypeError, AttributeError, OSError) as error:  # another kind of key has no curve
        # what the library says of a key never holds any of it, but that is for it to change
        raise InputError(
            f"sign: {path} can't be used as a private key ({type(error).__name__}). Nothing was done.",
            "It must be an elliptic curve key (P-256, P-384 or P-521) as PEM, without a password: "
            "openssl ecparam -name prime256v1 -genkey -noout -out key.pem makes one.",
        ) from None
    return Signer(path)


def signed_by(signer: str) -> SignedBy:
    """`signer` is the https address of a workflow, or the path of a public key.

    Raises InputError where model-signing is missing or the key is none, HubError where Sigstore's keys can't be had.
    """
    _require_package("signer")
    from model_signing.verifying import Config

    if signer.startswith("https://"):
        try:
            return SignedBy(signer, Config().use_sigstore_verifier(identity=signer, oidc_issuer=ISSUER))
        except Exception as error:
            raise HubError(
                f"Sigstore's own keys can't be fetched: {_told(error)}. The signature was not checked, and nothing was kept.",
                "Check the network, and run it again; or have the model signed with a key.",
            ) from error
    try:
        return SignedBy(signer, Config().use_elliptic_key_verifier(public_key=signer))
    except (ValueError, AttributeError, OSError) as error:
        raise InputError(
            f"signer: {signer} can't be used as a public key ({type(error).__name__}). Nothing was fetched.",
            "It must be an elliptic curve key as PEM, such as openssl ec -in key.pem -pubout -out key.pub makes.",
        ) from error


def verify_signature(files: Mapping[str, Content], signature: bytes, signer: SignedBy, where: str) -> None:
    """Hold those of `files` that are signed to `signature`. Raises CheckpointError: for another signer, or for other files."""
    from cryptography.exceptions import InvalidSignature
    from sigstore.errors import VerificationError

    with _laid_out(files) as folder, TemporaryDirectory() as place:
        path = Path(place) / SIGNATURE_FILE
        path.write_bytes(signature)
        try:
            signer.config.verify(folder, path)
        except Exception as error:  # it is a stranger's file: what is wrong with it may come out as anything
            said = str(error)
            if said.startswith(_MISMATCH):
                raise CheckpointError(
                    f"{where} is not what was signed: {', '.join(named_in(said))} was changed, added or taken away "
                    "afterwards. Nothing was kept.",
                    "Look at the repo's history, and pull the commit before the change with revision.",
                ) from error
            if isinstance(error, (InvalidSignature, VerificationError)) or said.startswith("Key mismatch"):
                raise CheckpointError(
                    f"{where} is not signed by {signer.name}: its {SIGNATURE_FILE} is another's, or forged. Nothing was kept.",
                    "Check signer. If it is right, somebody else has published there.",
                ) from error
            raise CheckpointError(
                f"The {SIGNATURE_FILE} of {where} can't be read ({type(error).__name__}). Nothing was kept.",
                "Publish the model again with sign; or check signer: a signature by a key needs the path of the public key, "
                "and one by a workflow its address.",
            ) from error


def named_in(mismatch: str) -> list[str]:
    """The files in what model-signing says of a mismatch."""
    return _NAMED.findall(mismatch)


def verify_folder(folder: Path, where: str, signer: SignedBy) -> None:
    """Hold the files of a folder to the model.sig in it. Raises CheckpointError, also where there is none."""
    path = folder / SIGNATURE_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{where} has no {SIGNATURE_FILE}, and signer asks for one. Nothing was kept.",
            "Publish it with sign, or pull it without signer.",
        )
    verify_signature({name: folder / name for name in SIGNED if (folder / name).is_file()}, path.read_bytes(), signer, where)


def is_installed() -> bool:
    try:
        import model_signing  # noqa: F401
    except ImportError:
        return False
    return True


def _require_package(name: str) -> None:
    if not is_installed():
        raise InputError(
            f"{name}: model-signing is not installed here. Nothing was done.",
            "In the action: runtime: host. In a clone: pip install '.[sign]', which has the version that this is tested with.",
        )


def _id_token() -> str:
    """GitHub's word for which workflow this is, made out for Sigstore. Raises NotSignedError."""
    from sigstore.oidc import IdentityError, detect_credential

    if not os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
        raise NotSignedError("this job may not ask GitHub who it is: it needs permissions: id-token: write")
    try:
        token = detect_credential()
    except (IdentityError, OSError) as error:
        raise NotSignedError(f"GitHub gave no id token for Sigstore: {_told(error)}") from error
    if not token:
        raise NotSignedError("there is no id token for Sigstore")
    return str(token)


def _told(error: Exception, secret: str = "") -> str:
    """What went wrong, in a line, without the token."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return said.replace(secret, "***") if secret else said


def _public_pem(key: Path) -> bytes:
    """The public half of a private key. Raises ValueError, TypeError, AttributeError or OSError for another."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    from model_signing.signing import Config

    Config().use_elliptic_key_signer(private_key=key)  # the kinds that it takes are its to say
    public: EllipticCurvePublicKey = load_pem_private_key(key.read_bytes(), None).public_key()  # type: ignore[assignment]
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _signed(files: Mapping[str, Content]) -> dict[str, Content]:
    return {name: content for name, content in files.items() if name in SIGNED}


@contextmanager
def _laid_out(files: Mapping[str, Content]) -> Iterator[Path]:
    """A folder with the files that are signed and no other, which is the shape that model-signing wants."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "model"
        folder.mkdir()
        for name, content in _signed(files).items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
                continue
            try:
                os.link(content.resolve(), folder / name)
            except OSError:  # on another disk
                shutil.copyfile(content, folder / name)
        yield folder


def _stated(signature: bytes) -> dict[str, str]:
    """The files and digests that a keyless signature names; empty where it is none, or can't be read."""
    try:
        bundle = json.loads(signature)
        keyless = "certificate" in bundle["verificationMaterial"]
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        named = {str(one["name"]): str(one["digest"]) for one in payload["predicate"]["resources"]}
    except (ValueError, KeyError, TypeError):
        return {}
    return named if keyless else {}


def _digest(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)
