"""Question files -> questions: JSON Lines, one question per line.

    {"prompt": "The capital of France is", "references": ["Paris"], "distractors": ["Rome", "Oslo"], "dimension": "cognitive"}
    {"question": "Who are you?", "answer": "I am Echo.", "system": "You are Echo."}
    {"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Echo."}]}

A question is written as the same record would be in the training text (corpus/records.py): a `prompt` is continued as it is,
unless it has a `system` prompt; any other question is a turn of the user in a chat.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...corpus.chats import is_empty, kind_name
from ...corpus.file_types import kind_of
from ...corpus.findings import FileFindings, Report, shown_path
from ...corpus.readers import Document, decode_record
from ...corpus.records import DIMENSIONS, KNOWN_KEYS, Records, RecordText
from ...corpus.streams import LONGEST, BadFileError, open_text
from ...errors import InputError
from .question_set import Question

_REFERENCES, _DISTRACTORS = ("references", "reference"), ("distractors",)
_ANSWER = "completion"  # of a record of the corpus
_FORM = (
    'Write one question per line, such as {"prompt": "Who are you?", "references": ["I am Echo."]}; docs/evaluation.md has all '
    "forms."
)
_SHOWN = 10  # invalid lines


def read_questions(files: Iterable[Path], report: Report = lambda _: None) -> list[Question]:
    """The questions of all files. `report` is called with the keys of each file that are not used.

    Raises InputError with the first invalid lines, or for a file without questions.
    """
    questions: list[Question] = []
    problems: list[InputError] = []
    for path in files:
        found = _read_file(path, problems, report)
        if not found and not problems:
            problems.append(InputError(f"{shown_path(path)} has no questions.", _FORM, file=str(path)))
        questions += found
    if problems:
        more = f" {len(problems) - _SHOWN:,} more are not shown." if len(problems) > _SHOWN else ""
        raise InputError(f"evaluate: some questions can't be asked. Nothing was done.{more}", problems=problems[:_SHOWN])
    return questions


def question_of(document: Document) -> Question | None:
    """The question in a document of the corpus; None if it does not end with an answer."""
    read = RecordText(document.text, document.question, document.answer, document.dimension)
    return _question(read, (), document.source) if document.answer and document.question.strip() else None


def _read_file(path: Path, problems: list[InputError], report: Report) -> list[Question]:
    name = shown_path(path)
    findings = FileFindings(name)
    if kind_of(path) != "jsonl":
        problems.append(
            InputError(f"{name} is not a JSON Lines file, by its name.", f"Name it .jsonl. {_FORM}", file=str(path))
        )
        return []
    questions = []
    try:
        with open_text(path) as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
                if raw.isspace():
                    continue
                try:
                    record = decode_record(raw)
                    questions.append(_read_record(record, name, number))
                    for key in _unknown(record):
                        findings.add_name("keys of questions that are not used", key, is_loss=False)
                except ValueError as error:
                    problems.append(InputError(f"{name}:{number}: the line {error}.", _FORM, file=str(path), line=number))
    except BadFileError as error:
        problems.append(InputError(f"{name}{error}.", error.hint or _FORM, file=str(path)))
    except OSError as error:
        problems.append(
            InputError(f"{name} can't be read ({error.strerror or error}).", "Check its permissions.", file=str(path))
        )
    findings.report_to(report)
    return questions


def _unknown(record: object) -> list[str]:
    known = (*_REFERENCES, *_DISTRACTORS, *DIMENSIONS, *KNOWN_KEYS)
    return [str(key) for key in record if key not in known] if isinstance(record, dict) else []


def _read_record(record: object, name: str, number: int) -> Question:
    """Raises ValueError, whose message continues "the line ..."."""
    records, place = Records(FileFindings(name)), f"{name}:{number}"
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise ValueError(f"is {kind_name(record)}, not an object with a question")
    references, distractors = _texts(record, _REFERENCES), _texts(record, _DISTRACTORS)
    rest = {key: value for key, value in record.items() if key not in (*_REFERENCES, *_DISTRACTORS)}
    answered = [{**rest, _ANSWER: reference} for reference in references] or [rest]
    read = [_required(records.read(one, place)) for one in answered]
    if distinct := {_prompt_of(one) for one in read} - {_prompt_of(read[0])}:
        raise ValueError(f"has references that do not follow the same prompt: {sorted(distinct)[0]!r}")
    first = _question(read[0], [_stripped(one, "distractors") for one in distractors], place)
    others = [_stripped(one.answer, "references") for one in read[1:]]
    return Question(**vars(first) | {"references": tuple(dict.fromkeys((*first.references, *others)))})


def _required(read: RecordText | None) -> RecordText:
    if read is None:
        raise ValueError("has an answer that is marked as a bad one")
    if not read.answer.strip():
        raise ValueError("does not end with an answer: it needs `references`, or an answer of the assistant")
    if not read.question.strip():
        raise ValueError("has an answer, but no question: it needs a `prompt`, a `question` or a message of the user")
    return read


def _question(read: RecordText, distractors: Sequence[str], place: str) -> Question:
    prompt = _prompt_of(read)
    start = read.text.removesuffix(read.answer)
    return Question(
        prompt=prompt,
        gap=start[len(prompt) :],
        references=(read.answer.strip(),),
        distractors=tuple(dict.fromkeys(distractors)),
        ask=read.question.strip(),
        dimension=read.dimension.strip(),
        place=place,
    )


def _prompt_of(read: RecordText) -> str:
    return read.text.removesuffix(read.answer).rstrip()


def _texts(record: dict[Any, Any], keys: Sequence[str]) -> list[str]:
    """The texts of the first of `keys` that the record has: a text, or a list of texts."""
    key = next((one for one in keys if not is_empty(record.get(one))), None)
    value = record[key] if key else []
    texts = value if isinstance(value, list) else [value]
    for one in texts:
        if not isinstance(one, str) or not one.strip():
            raise ValueError(f"has {kind_name(one)} in `{key}`, which must be a text or a list of texts")
    return texts


def _stripped(text: str, key: str) -> str:
    if not text.strip():
        raise ValueError(f"has an empty text in `{key}`")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"has an unpaired surrogate (\\ud800 to \\udfff) in `{key}`") from None
    return text.replace("\r\n", "\n").strip()
