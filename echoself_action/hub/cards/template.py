"""A template of the model card, the input `card`: read, and checked before any work."""

import re
from pathlib import Path

import yaml

from .hub_values import front_matter_problems
from .sections import SECTIONS, front_matter, wrong_marks

_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*[ \t]*$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_JINJA = re.compile(r"(?<!\$)\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)  # ${{ }} is an expression of GitHub
_MARKS = f"Use the sections {', '.join(SECTIONS)}, each at most once, with both of its markers."
_SHOWN = 80  # characters of a placeholder


def read_template(path: Path) -> str:
    """The text. Raises OSError, or UnicodeDecodeError for a file that is not text."""
    return path.read_text(encoding="utf-8")


def template_problems(path: Path) -> list[tuple[str, str]]:
    """What is wrong with the template at `path`: messages that continue its path, each with a fix."""
    if not path.is_file():
        return [("is not a file", "Use the path of a Markdown file.")]
    try:
        text = read_template(path)
    except OSError as error:
        return [(f"can't be read: {error.strerror}", "Make it readable, or use another file.")]
    except UnicodeDecodeError as error:
        return [(f"is not text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}", "Save it as UTF-8.")]
    problems = [(f"has invalid front matter: {problem}", fix) for problem, fix in _front_matter_problems(text)]
    if wrong := wrong_marks(text):
        problems.append((f"has unknown or unpaired markers: {', '.join(wrong)}", _MARKS))
    if foreign := _placeholders(text):
        problems.append(
            (
                f"has placeholders of another template language, which are not replaced: {', '.join(foreign)}",
                f"Remove them. Generated text stands between markers. {_MARKS}",
            )
        )
    return problems


def _front_matter_problems(text: str) -> list[tuple[str, str]]:
    fix = "Write YAML between two lines of three dashes, as in https://huggingface.co/docs/hub/model-cards."
    found = front_matter(text)
    if found is None:
        begins = re.match(r"\ufeff?---[ \t]*\r?\n[ \t]*[\w-]+:", text)
        return [("it is not closed by a line with ---", fix)] if begins else []
    try:
        values = yaml.safe_load(found)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return [(" ".join(str(error).split()), fix)]
    if not isinstance(values or {}, dict):
        return [("it is not a mapping of keys to values", fix)]
    return [(problem, "Use values that the Hub accepts, or remove the key.") for problem in front_matter_problems(values or {})]


def _placeholders(text: str) -> list[str]:
    """Placeholders of Jinja, as in the templates of huggingface_hub, outside of code."""
    found = _JINJA.findall(_INLINE.sub("", _FENCE.sub("", text)))
    return list(dict.fromkeys(" ".join(one.split())[:_SHOWN] for one in found))
