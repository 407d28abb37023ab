"""A Markdown file with generated sections and text of its author: only the generated sections are replaced.

A section is between `<!-- echoself:NAME -->` and `<!-- /echoself:NAME -->`. The front matter (YAML at the top) belongs to the
author too: only missing keys and the results are filled in.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

SECTIONS = ("about", "use", "results", "training", "continue", "limits", "citation")
_SECTION = re.compile(r"<!-- echoself:([a-z]+) -->.*?<!-- /echoself:\1 -->", re.DOTALL)
_MARK = re.compile(r"<!-- /?echoself:([^ ]*) -->")
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)


def section(name: str, content: str) -> str:
    """A generated section. A mark inside its content would end it early, so it is escaped."""
    content = _MARK.sub(lambda found: found[0].replace("<!--", "<! --"), content.strip())
    return f"<!-- echoself:{name} -->\n{content}\n<!-- /echoself:{name} -->"


def has_sections(text: str) -> bool:
    """Whether there is a section to replace."""
    return _SECTION.search(text) is not None


def wrong_marks(text: str) -> list[str]:
    """The marks of a template that are unpaired, or do not name one of SECTIONS."""
    left = _SECTION.sub(lambda found: "" if found[1] in SECTIONS else found[0], text)
    return [found[0] for found in _MARK.finditer(left)]


def front_matter(text: str) -> str | None:
    """The YAML at the top of `text`; None if there is none."""
    match = _FRONT_MATTER.match(text)
    return match[1] if match else None


def front_matter_values(text: str) -> dict[Any, Any]:
    """The keys and values at the top of `text`; empty if there are none, or they are not valid."""
    try:
        values = yaml.safe_load(front_matter(text) or "")
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def filled(text: str, sections: Mapping[str, str]) -> str:
    """`text` with the sections in `sections` replaced."""
    return _SECTION.sub(lambda found: section(found[1], sections[found[1]]) if found[1] in sections else found[0], text)


def with_front_matter(text: str, ours: Mapping[str, Any], decided: Sequence[str]) -> str:
    """`text` with the keys of `ours` added to its front matter if they are missing; the keys in `decided` are always set, or
    removed if `ours` lacks them.

    Lists of tags, datasets and models are merged. Front matter that is not valid YAML is left unchanged.
    """
    match = _FRONT_MATTER.match(text)
    if match is None:
        return f"---\n{_dumped(ours)}---\n\n{text}"
    try:
        theirs = yaml.safe_load(match[1]) or {}
    except yaml.YAMLError:
        return text
    if not isinstance(theirs, dict):
        return text
    merged = {**theirs, **{key: value for key, value in ours.items() if key in decided or key not in theirs}}
    merged = {key: value for key, value in merged.items() if key in ours or key not in decided}
    for key in ("tags", "datasets", "models"):
        if isinstance(theirs.get(key), list):
            merged[key] = theirs[key] + [one for one in ours.get(key, []) if one not in theirs[key]]
    return text if merged == theirs else f"---\n{_dumped(merged)}---\n{text[match.end() :]}"


def _dumped(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=float("inf"))
