"""Signed, short-lived claims: upload URLs, and tokens of the token exchange. Servers need no shared list of them."""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping


class SignatureError(Exception):
    """The signature is not this Hub's, or the claims are for another use or have expired."""


def sign(secret: bytes, use: str, claims: Mapping[str, str | int], lifetime: int) -> str:
    """Claims as URL-safe text, valid for `lifetime` seconds and for one kind of use."""
    body = _encode(json.dumps({**claims, "use": use, "exp": int(time.time()) + lifetime}, sort_keys=True).encode())
    return f"{body}.{_signature(secret, body)}"


def verify(secret: bytes, use: str, text: str) -> dict[str, str | int]:
    """The claims. Raises SignatureError."""
    body, _, signature = text.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(secret, body).encode()):
        raise SignatureError("the signature does not fit")
    claims: dict[str, str | int] = json.loads(decode(body))
    if claims["use"] != use:
        raise SignatureError(f"it is for {claims['use']}, not for {use}")
    if int(claims["exp"]) < time.time():
        raise SignatureError("it has run out")
    return claims


def decode(text: str) -> bytes:
    """Base64 as in URLs and JSON web tokens, without padding. Raises SignatureError."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise SignatureError("it is not base64") from None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signature(secret: bytes, body: str) -> str:
    return _encode(hmac.digest(secret, body.encode(), "sha256"))
