"""Types of inputs that are more than a number or a choice: paths, repo ids, lists."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from ..checkpoint.architectures import NanEchoPath
from ..hub.cards.hub_values import LANGUAGE, LICENSES, language_problem, license_problem
from ..hub.repo_id import MAX_REPO_ID, REPO


def split(value: object) -> object:
    """A list as text: items separated by commas or newlines."""
    if isinstance(value, str):
        return [part for part in (piece.strip() for piece in re.split(r"[,\n]", value)) if part]
    return value


def off_as_text(value: object) -> object:
    """`off` is false in YAML 1.1, so that other programs may write `verify: false`."""
    return "off" if value in ("false", "False", "FALSE") else value


def check_path(value: str) -> str:
    """Checked here, because the file system would refuse it only after the work is done."""
    if "\0" in value or len(value) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise PydanticCustomError("invalid_path", "not a valid path for a file or folder")
    return value


def _repo(value: str) -> str:
    """Checked here, because huggingface_hub would refuse it only after the work is done."""
    if not re.fullmatch(REPO, value):
        raise PydanticCustomError("string_pattern_mismatch", "not a valid repo id")
    return value


def distinct(values: list[str]) -> list[str]:
    """Refuses a list that has a value twice."""
    if duplicates := sorted({value for value in values if values.count(value) > 1}):
        raise PydanticCustomError("duplicates", "contains duplicates: {names}", {"names": ", ".join(duplicates)})
    return values


def _none_alone(values: list[str]) -> list[str]:
    if "none" in values and len(values) > 1:
        raise PydanticCustomError("none_and_others", "none excludes all others")
    return values


def _license(value: str) -> str:
    """Checked here, because the Hub would refuse the card only after the work is done."""
    if problem := license_problem(value):
        raise PydanticCustomError("unknown_license", "{problem}", {"problem": problem})
    return value


def _language(value: str) -> str:
    if problem := language_problem(value):
        raise PydanticCustomError("unknown_language", "{problem}", {"problem": problem})
    return value


# What JSON Schema can express of the checks above, for editors.
UNIQUE = {"uniqueItems": True}
PATH = {"type": "string", "maxLength": 4000, "pattern": r"^(?![\s\S]*\u0000)(?![\s\S]*[^/]{256})"}
License = Annotated[str, AfterValidator(_license), WithJsonSchema({"enum": list(LICENSES), "type": "string"})]
Language = Annotated[str, AfterValidator(_language), WithJsonSchema({"pattern": f"^(?:{LANGUAGE})$", "type": "string"})]
Languages = Annotated[list[Language], BeforeValidator(split), AfterValidator(distinct), Field(json_schema_extra=UNIQUE)]
PathText = Annotated[str, AfterValidator(check_path), WithJsonSchema(PATH)]
RepoId = Annotated[str, AfterValidator(_repo), WithJsonSchema({"pattern": f"^(?:{REPO})$", "type": "string"})]
Candidates = Annotated[
    list[PathText], BeforeValidator(split), AfterValidator(distinct), Field(min_length=2, json_schema_extra=UNIQUE)
]
NanEchoPaths = Annotated[
    list[Literal[NanEchoPath, "none"]],
    BeforeValidator(split),
    AfterValidator(distinct),
    AfterValidator(_none_alone),
    Field(min_length=1, json_schema_extra=UNIQUE),
]
PullRequests = Annotated[str, StringConstraints(pattern=r"^(open|[1-9][0-9]{0,8})$")]
REVISION = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
REPO_ID_FORM = "Use the form owner/name, such as my-org/my-model."
REPO_NAMES = (
    f"The Hub does not accept names that contain -- or .., start or end with - or ., end with .git, or are longer than "
    f"{MAX_REPO_ID} characters."
)
