"""The YAML metadata of a README.md, and its validation by the Hub."""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from . import plain_yaml
from .refusal import bad_request, shorten
from .spaces import SDKS

_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
MAX_ERRORS = 20  # in one response
MAX_TAG_LENGTH = 100
MAX_SHORT_DESCRIPTION = 60  # characters
MAX_READ = 64 * 1024  # of a card, for its description and citation
MAX_DESCRIPTION = 2000
# each stops at the first character that ends it, so none can take more than a few readings of the text
_CODE_BLOCK = re.compile(r"^```[^\n`]*\n((?:(?!```)[^\n]*\n)*)```", re.MULTILINE)
_COMMENT_OR_TAG = re.compile(r"<[^<>]*>")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_MARKUP = re.compile(r"^\s{0,3}#{1,6}(?=\s)|[*`]+", re.MULTILINE)
_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 open-mdw openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""


def read_front_matter(readme: str) -> dict[str, Any]:
    """The card's metadata, to be read only; empty if it is missing or invalid. JSON can hold it."""
    match = _FRONT_MATTER.match(readme)
    return _metadata(match[1]) if match else {}


def read_description(readme: str) -> str:
    """The text of a card as the Hub shows it in lists: without metadata and markup, on one line."""
    text = _CODE_BLOCK.sub(" ", _FRONT_MATTER.sub("", readme, count=1)[:MAX_READ])
    text = _LINK.sub(r"\1", _COMMENT_OR_TAG.sub(" ", text))
    return " ".join(_MARKUP.sub(" ", text).split())[:MAX_DESCRIPTION]


def read_citation(readme: str) -> str | None:
    """The first BibTeX entry of a card that is in a code block."""
    for block in _CODE_BLOCK.finditer(readme[:MAX_READ]):
        if (content := block[1].strip()).startswith("@"):
            return content
    return None


@lru_cache(maxsize=64)
def _metadata(front_matter: str) -> dict[str, Any]:
    # every listing of repos reads all their cards
    try:
        data = plain_yaml.load(front_matter)
    except plain_yaml.PlainYamlError:
        return {}
    return data if isinstance(data, dict) and all(isinstance(key, str) for key in data) else {}


def check_size(readme: str) -> None:
    """Raises Refusal (400) if the metadata is too large to be read."""
    match = _FRONT_MATTER.match(readme)
    if match and len(match[1]) > plain_yaml.MAX_SIZE:
        raise bad_request(f"README.md: its metadata has {len(match[1])} characters, more than {plain_yaml.MAX_SIZE}")


def check_card(readme: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors, with which the Hub rejects the file, and warnings. `kind`: model, dataset or space."""
    match = _FRONT_MATTER.match(readme)
    if match is None:
        text = readme.removeprefix("\ufeff").lstrip()
        if text.startswith("---") and "\n---" not in text:
            return ["YAML metadata block is not closed: a line with --- is missing"], []
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = plain_yaml.load(match[1])
    except plain_yaml.PlainYamlError as error:
        return [f"Invalid YAML metadata: {error}"], []
    if data is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict):
        return ["YAML metadata must be a mapping of keys to values"], []
    problems = chain(
        _problems(data),
        _dataset_problems(data) if kind == "dataset" else (),
        _space_problems(data) if kind == "space" else (),
        _model_index_problems(data["model-index"]) if data.get("model-index") is not None else (),
    )
    errors = [shorten(problem) for problem in islice(problems, MAX_ERRORS)]
    warnings = []
    if kind != "space" and "license" not in data:
        warnings.append("no license is given: add `license: ...`")
    return errors, warnings


def with_license(readme: bytes, license_name: str) -> bytes:
    """The README.md of a new repo, with a license in its metadata. Raises Refusal (400) for an unknown one."""
    if license_name not in _LICENSES.split():
        raise bad_request(
            f"license: must be one of the Hub's identifiers (such as mit, apache-2.0, other), not {license_name!r}"
        )
    line = f"license: {license_name}\n".encode()
    return readme.replace(b"---\n", b"---\n" + line, 1) if readme else b"---\n" + line + b"---\n"


def _problems(data: dict[str, Any]) -> Iterator[str]:
    for key in data:
        if not isinstance(key, str):
            yield f"keys must be strings, not {key!r}"
    for value in _texts(data.get("license")):
        if not isinstance(value, str) or value not in _LICENSES.split():
            yield f'"license" must be one of the Hub\'s identifiers (such as mit, apache-2.0, other), not {value!r}'
    for value in _texts(data.get("language")):
        if not isinstance(value, str) or not _LANGUAGE.fullmatch(value):
            # YAML parses `no` (Norwegian) as false
            yield f'"language" must only contain ISO 639 codes such as en (quote "no"; tags are language_bcp47), not {value!r}'
    if data.get("tags") is not None and not isinstance(data["tags"], list):
        yield '"tags" must be an array'
    for value in data["tags"] if isinstance(data.get("tags"), list) else ():
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TAG_LENGTH:
            yield f'"tags" must contain text of up to {MAX_TAG_LENGTH} characters, not {value!r}'
    for key in ("datasets", "base_model"):
        for value in _texts(data.get(key)):
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                yield f'"{key}" must contain repo ids such as owner/name, not {value!r}'
    for key in ("pipeline_tag", "library_name", "license_name", "license_link"):
        if data.get(key) is not None and not isinstance(data[key], str):
            yield f'"{key}" must be a string, not {data[key]!r}'


def _dataset_problems(data: dict[str, Any]) -> Iterator[str]:
    """Checks `configs` and `size_categories` of a dataset, which the Hub's viewer uses."""
    for value in _texts(data.get("size_categories")):
        if value not in _SIZES:
            yield f'"size_categories" must be one of {", ".join(_SIZES)}, not {value!r}'
    configs = data.get("configs")
    if configs is not None and not isinstance(configs, list):
        yield '"configs" must be an array'
    for number, config in enumerate(configs if isinstance(configs, list) else ()):
        place = f'"configs[{number}]'
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            yield f'{place}.config_name" is required'
            continue
        files = config.get("data_files")
        for index, one in enumerate(files if isinstance(files, list) else ()):
            paths = _texts(one.get("path")) if isinstance(one, dict) and isinstance(one.get("split"), str) else []
            if not paths or not all(isinstance(path, str) for path in paths):
                yield f'{place}.data_files[{index}]" needs a split and a path'


def _space_problems(data: dict[str, Any]) -> Iterator[str]:
    """Checks the configuration of a Space."""
    if data.get("sdk") not in SDKS:
        yield f'"sdk" must be one of {", ".join(SDKS)}, not {data.get("sdk")!r}'
    for key in ("colorFrom", "colorTo"):
        if data.get(key) is not None and data[key] not in _COLORS:
            yield f'"{key}" must be one of {", ".join(_COLORS)}, not {data[key]!r}'
    for key in ("title", "emoji", "app_file", "short_description"):
        if data.get(key) is not None and not isinstance(data[key], str):
            yield f'"{key}" must be a string, not {data[key]!r}'
    if len(str(data.get("short_description") or "")) > MAX_SHORT_DESCRIPTION:
        yield f'"short_description" must be at most {MAX_SHORT_DESCRIPTION} characters long'
    for value in _texts(data.get("models")):
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            yield f'"models" must contain repo ids such as owner/name, not {value!r}'


_COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_SIZES = (
    *("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B"),
    *("100B<n<1T", "n>1T"),
)


def _texts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _model_index_problems(models: Any) -> Iterator[str]:
    if not isinstance(models, list):
        yield '"model-index" must be an array'
        return
    for number, model in enumerate(models):
        place = f'"model-index[{number}]'
        if not isinstance(model, dict):
            yield f'{place}" must be an object'
            continue
        if not isinstance(model.get("name"), str):
            yield f'{place}.name" is required'
        results = model.get("results")
        if not isinstance(results, list):
            yield f'{place}.results" must be an array'
            continue
        for index, result in enumerate(results):
            yield from _result_problems(result, f"{place}.results[{index}]")


def _result_problems(result: Any, place: str) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f'{place}" must be an object'
        return
    task, dataset, metrics = result.get("task"), result.get("dataset"), result.get("metrics")
    if not isinstance(task, dict) or not isinstance(task.get("type"), str):
        yield f'{place}.task.type" is required'
    if dataset is not None and not (
        isinstance(dataset, dict) and all(isinstance(dataset.get(k), str) for k in ("type", "name"))
    ):
        yield f'{place}.dataset" needs a type and a name'
    if not isinstance(metrics, list) or not metrics:
        yield f'{place}.metrics" must be an array with at least one metric'
        return
    for index, metric in enumerate(metrics):
        if not isinstance(metric, dict) or not isinstance(metric.get("type"), str) or "value" not in metric:
            yield f'{place}.metrics[{index}]" needs a type and a value'
