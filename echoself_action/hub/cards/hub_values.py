"""The licenses and languages that the Hub accepts in the front matter of a card.

The Hub itself checks a whole card (`publishing/card.py` asks it before any work). These lists are for the check of the inputs,
which reports all problems at once and needs no network.
"""

import re
from difflib import get_close_matches

# The identifiers in the error message of the Hub, huggingface/huggingface_hub#4218.
_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
LICENSES = tuple(_LICENSES.split())
_SPECIAL_LANGUAGES = ("code", "multilingual")
# ISO 639-1, which has been complete since 2003. ISO 639-3 has 7,900 codes of three letters: the Hub checks those.
_ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu
fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km
kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om
or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to
tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_TWO_LETTERS = frozenset(_ISO_639_1.split())
_TAG = re.compile(r"([A-Za-z]{2,3})(-[A-Za-z0-9]{1,8}){1,3}")  # BCP 47, such as pt-BR
# The same as `language_problem`, as a regular expression of JSON Schema, which has no flag to ignore case.
_ANY_CASE = "|".join("".join(f"[{letter}{letter.upper()}]" for letter in code) for code in sorted(_TWO_LETTERS))
LANGUAGE = (
    f"{'|'.join((*_SPECIAL_LANGUAGES, *sorted(_TWO_LETTERS)))}|[a-z]{{3}}"
    rf"|(?:{_ANY_CASE}|[A-Za-z]{{3}})(?:-[A-Za-z0-9]{{1,8}}){{1,3}}"
)


def license_problem(value: object) -> str:
    """Why the Hub does not accept this license; "" if it does."""
    if value in LICENSES:
        return ""
    close = get_close_matches(str(value).lower(), LICENSES, 1)
    return "not a license identifier of the Hub" + (f" (the closest one is {close[0]})" if close else "")


def language_problem(value: object) -> str:
    """Why this is not a language of a card; "" if it is. A BCP 47 tag such as pt-BR is one: see `language_fields`."""
    tag = _TAG.fullmatch(value) if isinstance(value, str) else None
    return _code_problem(tag[1].lower() if tag else value)


def _code_problem(value: object) -> str:
    if value is False:
        return "YAML reads no as false: quote it"
    known = isinstance(value, str) and (
        value in _SPECIAL_LANGUAGES or value in _TWO_LETTERS or re.fullmatch("[a-z]{3}", value) is not None
    )
    return "" if known else "not an ISO 639 code (two or three lowercase letters)"


def language_fields(languages: list[str]) -> dict[str, list[str]]:
    """The fields of the front matter. The Hub accepts only ISO 639 codes as `language`, and tags as `language_bcp47`."""
    codes = [tag[1].lower() if (tag := _TAG.fullmatch(value)) else value for value in languages]
    tags = [value for value in languages if _TAG.fullmatch(value)]
    return {"language": list(dict.fromkeys(codes))} | ({"language_bcp47": tags} if tags else {}) if languages else {}


def front_matter_problems(values: dict[object, object]) -> list[str]:
    """What the Hub would not accept in front matter that a user wrote, as far as the lists tell."""
    problems = [
        f"license: {value!r} is {problem}" for value in _listed(values, "license") if (problem := license_problem(value))
    ]
    problems += [
        f"language: {value!r} is {problem}" for value in _listed(values, "language") if (problem := _code_problem(value))
    ]
    return problems + [f"the key {key!r} is not text" for key in values if not isinstance(key, str)]


def _listed(values: dict[object, object], key: str) -> list[object]:
    value = values.get(key)
    return value if isinstance(value, list) else [] if value is None else [value]
