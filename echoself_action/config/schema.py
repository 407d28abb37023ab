"""The JSON schema of the YAML file, for editors and for `check-jsonschema`. `./run docs` writes it into docs/.

It is of draft 7, which all editors know. A value may be written in every form that load.py reads: a number as text, a list as
text with commas. What depends on other inputs or on the machine is left to load.py.
"""

import json
import re
from typing import Any

from ..input_field import MODES
from ..training.phases import phases_schema
from .input_types import PATH
from .inputs import DEFAULT_CONFIG, Inputs, help_with_default, modes_of
from .load import MODEL_NAME, REFUSED_IN_FILE, SHARED

# The published copy, which the documentation names: a branch tag follows the releases.
SCHEMA_URL = "https://raw.githubusercontent.com/9cog/echoself-action/v1/docs/echoself.schema.json"
_UNSET = {"$ref": "#/definitions/unset"}
_EXPONENT = "(?:[eE][+-]?[0-9]{1,2})?"
_DECIMAL = r"(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)"
# Numbers within limits, and the pattern of the texts that are such numbers, because JSON Schema has no limits for texts.
_NUMBER_FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "count": ({"type": "integer", "minimum": 0}, r"^\+?[0-9]+(?:_[0-9]+)*(?:\.0+)?$"),
    "positive_count": ({"type": "integer", "minimum": 1}, r"^\+?(?=[0-9_]*[1-9])[0-9]+(?:_[0-9]+)*(?:\.0+)?$"),
    "number": ({"type": "number", "minimum": 0}, rf"^\+?{_DECIMAL}{_EXPONENT}$"),
    "positive_number": ({"type": "number", "exclusiveMinimum": 0}, rf"^\+?(?=[0-9_.]*[1-9]){_DECIMAL}{_EXPONENT}$"),
    "fraction": (
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        rf"^\+?(?:0*\.[0-9]+(?:[eE]-[0-9]{{1,2}})?|0+(?:\.0*)?{_EXPONENT}|[0-9](?:\.[0-9]*)?[eE]-0?[1-9][0-9]?)$",
    ),
    "half": (
        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        r"^\+?(?=[0-9.]*[1-9])(?:0*\.(?:[0-4][0-9]*|50*)(?:[eE]-[0-9]{1,2})?"
        r"|(?:[0-4](?:\.[0-9]*)?|5(?:\.0*)?)[eE]-0?[1-9][0-9]?|[0-9](?:\.[0-9]*)?[eE]-0?(?:[2-9]|[1-9][0-9]))$",
    ),
}
_BOOLEAN_TEXTS = ("true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0")


def file_schema() -> dict[str, Any]:
    """The schema, as the JSON document that it is."""
    names = [name for name in Inputs.model_fields if name not in REFUSED_IN_FILE]
    own = {name: {"$ref": f"#/definitions/{name}"} for name in names}
    model = {"type": "object", "additionalProperties": False, "properties": {k: v for k, v in own.items() if k not in SHARED}}
    models = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{MODEL_NAME.pattern}$"},
        "additionalProperties": {"anyOf": [model, _UNSET]},
    }
    about = "Several models of one repository, by name: each has its own inputs, which override those above."
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": SCHEMA_URL,
        "title": f"echoself-action: {DEFAULT_CONFIG}",
        "description": "Inputs and settings of echoself-action. An input of the action or a flag overrides them.",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": own | {"models": {"description": about, "anyOf": [models, _UNSET]}},
        "definitions": {name: _definition(name) for name in names} | _SHARED_FORMS,
    }


def schema_text() -> str:
    """The content of the file."""
    return json.dumps(file_schema(), indent=1, ensure_ascii=False) + "\n"


def _definition(name: str) -> dict[str, Any]:
    modes = modes_of(name)
    where = "" if len(modes) == len(MODES) else f" Modes: {', '.join(modes)}."
    if name == "phases":
        forms = [phases_schema(_reference("number"), _reference("positive_number"))]
    else:
        forms = [form for kind in _types_of(name) for form in _forms(kind)]
    return {"description": f"{help_with_default(name)}{where}", "anyOf": [*forms, _UNSET]}


def _types_of(name: str) -> list[dict[str, Any]]:
    """The JSON schemas of the parsed value, without null: pydantic's, with the pattern that it leaves out for some types."""
    found = {key: value for key, value in _SCHEMA["properties"][name].items() if key in _KEYWORDS}
    kinds = found.pop("anyOf", [{}])
    patterns = [pattern for item in Inputs.model_fields[name].metadata if (pattern := getattr(item, "pattern", None))]
    own = found | ({"pattern": patterns[0]} if patterns else {})
    return [kind | own for kind in kinds if kind != {"type": "null"}]


def _forms(kind: dict[str, Any]) -> list[dict[str, Any]]:
    """The forms in which the YAML may have a value of this type."""
    match kind.get("type"):
        case "boolean":
            return [_reference("boolean")]
        case "integer" | "number":
            return [_reference(_NUMBERS[json.dumps(kind, sort_keys=True)])]
        case "array":
            (item,) = _forms(kind["items"])
            items = {"allOf": [item, {"minLength": 1}]}  # beside a $ref, other keywords have no effect
            return [kind | {"items": items}, _text({"type": "string", "pattern": _text_list(kind)})]
        case "string" if kind == PATH:
            return [_reference("path")]
        case "string" if "enum" not in kind:
            return [_text(kind)]
    return [kind]


def _text(kind: dict[str, Any]) -> dict[str, Any]:
    """A text; some texts are numbers, true or false to a reader of YAML, and load.py reads them as they are written."""
    pattern = kind.get("pattern", "")
    types, limits = ["string"], {}
    if re.search(pattern, "7"):
        types.append("number" if re.search(pattern, "1.5") else "integer")
        limits = {"minimum": 1} if not re.search(pattern, "0") else {"minimum": 0} if not re.search(pattern, "-1") else {}
    if re.search(pattern, "true") and re.search(pattern, "True"):
        types.append("boolean")
    return kind | {"type": types if len(types) > 1 else "string"} | limits


def _text_list(kind: dict[str, Any]) -> str:
    """The pattern of a list as text, with commas or newlines between its items."""
    items, least = kind["items"], int(kind.get("minItems", 0))
    if items == PATH:
        limits = r"^(?![\s\S]*\u0000)(?![\s\S]*[^/,\n]{256})(?![\s\S]*[^,\n]{4001})"  # of PATH
        return limits + (r"[\s\S]*[^,\s]" + r"[^,\n]*[,\n][\s\S]*[^,\s]" * (least - 1) if least else "")
    choices = "|".join(map(re.escape, items.get("enum", ()))) or str(items["pattern"]).removeprefix("^").removesuffix("$")
    several = rf"(?:{choices})(?:\s*[,\n][,\s]*(?:{choices})){{{max(least - 1, 0)},}}"
    return rf"^[,\s]*{several}[,\s]*$" if least else rf"^[,\s]*(?:{several})?[,\s]*$"


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}


_SCHEMA = Inputs.model_json_schema()
_KEYWORDS = {"type", "anyOf", "enum", "const", "pattern", "items", "minItems", "uniqueItems", "maxLength"} | {
    f"{kind}{end}" for kind in ("", "exclusive") for end in ("minimum", "maximum", "Minimum", "Maximum")
}
_BOOLEAN_TEXT = "|".join("".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in text) for text in _BOOLEAN_TEXTS)
_SHARED_FORMS: dict[str, dict[str, Any]] = {
    "unset": {"type": ["null", "string"], "maxLength": 0},  # no description and no enum: editors would show them
    "path": _text(PATH),
    "boolean": {
        "anyOf": [
            {"type": "boolean"},
            {"type": "integer", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": f"^(?:{_BOOLEAN_TEXT})$"},
        ]
    },
} | {name: {"anyOf": [kind, {"type": "string", "pattern": pattern}]} for name, (kind, pattern) in _NUMBER_FORMS.items()}
_NUMBERS = {json.dumps(kind, sort_keys=True): name for name, (kind, _) in _NUMBER_FORMS.items()}
