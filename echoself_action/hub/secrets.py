"""Finds what looks like a secret in text to be published, with the detectors of detect-secrets and some more patterns.

Only detectors of tokens with a distinctive format are used: those by entropy, or by a word such as `password`, match every
digest and every vocabulary. Nothing is verified with the issuer of a token: no network is used.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from .. import libraries

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

ALLOWED = "pragma: allowlist secret"  # on a line: marks a false positive, as in detect-secrets
_DETECTORS = (
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
_MORE = {  # formats without a detector in detect-secrets
    "Hugging Face token": r"(?:hf|api_org)_[A-Za-z]{34}(?![A-Za-z0-9])|hf_(?:oauth|jwt)_[\w.=-]{20,}",
    "GitHub fine-grained token": r"github_pat_[A-Za-z0-9_]{22,}",
    "Anthropic key": r"sk-ant-[A-Za-z0-9_-]{20,}",
    "OpenAI key": r"sk-(?:proj|svcacct)-[A-Za-z0-9_-]{20,}",
    "Google API key": r"AIza[A-Za-z0-9_-]{35}",
    "npm token": r"npm_[A-Za-z0-9]{36}",
    "encrypted private key": r"BEGIN ENCRYPTED PRIVATE KEY",
}


@dataclass(frozen=True)
class Find:
    """A match that looks like a secret of this kind: characters `start` to `end`, on `line` (from 1)."""

    kind: str
    line: int
    start: int
    end: int


def find_secrets(text: str) -> list[Find]:
    """All matches in `text`, in order and without overlaps."""
    finds: list[Find] = []
    for kind, start, end in sorted(_matches(text), key=lambda match: match[1]):
        if finds and start < finds[-1].end:
            continue
        line_start = text.rfind("\n", 0, start) + 1
        line = text[line_start:].split("\n", 1)[0] if text.find(ALLOWED, line_start) >= 0 else ""
        if ALLOWED not in line:
            finds.append(Find(kind, text.count("\n", 0, start) + 1, start, end))
    return finds


def without_secrets(text: str) -> str:
    """`text` with every match replaced by its kind: a model may have memorised a secret."""
    for find in reversed(find_secrets(text)):
        text = f"{text[: find.start]}[{find.kind}, left out]{text[find.end :]}"
    return text


def _matches(text: str) -> Iterator[tuple[str, int, int]]:
    for kind, form in _MORE.items():
        for match in re.finditer(form, text):
            yield kind, match.start(), match.end()
    for detector in _detectors():
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                if any(
                    detector.analyze_string(match.group())
                ):  # some detectors check more than the pattern, such as that a JWT decodes
                    yield detector.secret_type, match.start(), match.end()


@cache
def _detectors() -> Sequence["RegexBasedDetector"]:
    known: dict[str, Any] = libraries.detect_secrets.core.plugins.util.get_mapping_from_secret_type_to_class()
    classes = {found.__name__: found for found in known.values()}
    return [classes[name]() for name in _DETECTORS]
