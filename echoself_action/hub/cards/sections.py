"""A Markdown file with parts that are ours, and text around them that is not: only our parts are ever replaced.

A part lies between `<!-- echoself:NAME -->` and `<!-- /echoself:NAME -->`. The YAML at the top belongs to whoever wrote the
file; ours fills in what it lacks, and the results.
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
    """A part of ours. A mark inside its content would end it early, so there it is none."""
    content = _MARK.sub(lambda found: found[0].replace("<!--", "<! --"), content.strip())
    return f"<!-- echoself:{name} -->\n{content}\n<!-- /echoself:{name} -->"


def has_sections(text: str) -> bool:
    """Whether there is a part to replace."""
    return _SECTION.search(text) is not None


def wrong_marks(text: str) -> list[str]:
    """The marks of a template that open or close nothing, or none of the parts that there are."""
    left = _SECTION.sub(lambda found: "" if found[1] in SECTIONS else found[0], text)
    return [found[0] for found in _MARK.finditer(left)]


def filled(text: str, sections: Mapping[str, str]) -> str:
    """`text` with the parts that `sections` has replaced."""
    return _SECTION.sub(lambda found: section(found[1], sections[found[1]]) if found[1] in sections else found[0], text)


def with_front_matter(text: str, ours: Mapping[str, Any], decided: Sequence[str]) -> str:
    """`text` with the YAML that it has at its top, and from `ours` what that lacks; of the keys in `decided`, ours always.

    Lists of tags and of datasets are joined. YAML that can't be read stays as it is: it is not ours to mend.
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
    for key in ("tags", "datasets"):
        if isinstance(theirs.get(key), list):
            merged[key] = theirs[key] + [one for one in ours.get(key, []) if one not in theirs[key]]
    return text if merged == theirs else f"---\n{_dumped(merged)}---\n{text[match.end() :]}"


def _dumped(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=float("inf"))
