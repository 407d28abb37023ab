"""One record of a JSON or Parquet corpus -> its text, and what is not in it.

The shapes, in the order in which they are looked for:

- preference data: what is learnt is the prompt and the `chosen` answer; `rejected` is not
- `text`, after a `title`
- chats (chats.py): `messages` (OpenAI), `conversations` (ShareGPT), `contents` (Gemini), or just a list of messages
- `prompt` and `completion`; `instruction`, `input` and `output` (Alpaca); `question` and `answer`; and others of this kind

Values that are null or empty count as missing. Known keys that are not in the text, and all unknown keys, are named as
findings.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from .chats import (
    ANSWERS_LEFT_OUT,
    ASSISTANT,
    CONTENT_KEYS,
    ROLE_KEYS,
    SYSTEM,
    USER,
    ChatBlock,
    LeftOutError,
    Remarks,
    is_empty,
    json_text,
    kind_name,
    name_others,
    read_content,
    read_messages,
)
from .findings import FileFindings, shortened

_CHATS = ("messages", "conversations", "conversation", "contents")
_PROMPTS = ("prompt", "instruction", "question", "query", "problem", "input")
_PARTS_OF_PROMPTS = ("input", "context")  # after the prompt: Alpaca, Dolly
_ANSWERS = ("completion", "output", "response", "solution", "answer")
_CHOSEN = ("chosen", "preferred_output", "chosen_response")
_REJECTED = ("rejected", "non_preferred_output", "rejected_response")
_LABELS = ("label", "kto_tag")  # false: the answer is a bad one (TRL's unpaired preference, LLaMA-Factory)
_SYSTEMS = ("system", "system_prompt", "system_message", "systemInstruction", "system_instruction")
_TOOLS = ("tools", "functions")

# Keys of the known shapes: the columns that are read from a Parquet file.
KNOWN_KEYS = frozenset(
    {"text", "title", "history", *_CHATS, *_PROMPTS, *_PARTS_OF_PROMPTS, *_ANSWERS, *_CHOSEN, *_REJECTED}
    | {*_LABELS, *_SYSTEMS, *_TOOLS}
)
DIMENSIONS = ("dimension", "persona_dimension")
_MOST_TEXTS = 1000  # in a field that may repeat what is in the text
KEYS_NOT_LEARNT, TEXTS_NOT_LEARNT = "keys that are not learnt", "texts beside the one that is learnt"


@dataclass(frozen=True)
class RecordText:
    """The text of a record. If its last turn is an answer, `answer` is the end of the text, and `question` what the user said
    before it, or the prompt; otherwise they are empty. `dimension` is the persona dimension that the record names.
    """

    text: str
    question: str = ""
    answer: str = ""
    dimension: str = ""


def has_shape(keys: Collection[str]) -> bool:
    """Whether records with these keys can have a text."""
    prompts, answers = set(_PROMPTS).intersection(keys), set(_ANSWERS).intersection(keys)
    return bool({"text", *_CHATS, *_CHOSEN}.intersection(keys)) or (bool(answers) and len(prompts | answers) > 1)


class Records:
    """Converts the records of one file. `text_column` is the key of the text, if it is not one of a known shape."""

    def __init__(self, findings: FileFindings, text_column: str | None = None) -> None:
        self._findings = findings
        self._text_column = text_column

    def read(self, record: object, place: str) -> RecordText | None:
        """The text of the record at `place`, such as "line 3", with LF line ends; None if it must not be learnt.

        Raises ValueError if it has none, or can't be read in its shape; the message continues "line N ...".
        """
        remarks = Remarks()
        try:
            found = _text(record, self._text_column, remarks)
        except LeftOutError as error:
            self._findings.add("records left out", f"{place} {error}", is_loss=False)
            return None
        if is_empty(found.text):
            raise ValueError("has an empty text")
        try:
            found.text.encode()
        except UnicodeEncodeError:
            raise ValueError("has an unpaired surrogate (\\ud800 to \\udfff) in its text") from None
        for kind, example in remarks.others:
            self._findings.add(kind, f"{place}: {example}", is_loss=False)
        for name in remarks.texts:
            self._findings.add_name(TEXTS_NOT_LEARNT, name)
        for name in remarks.keys:
            self._findings.add_name(KEYS_NOT_LEARNT, name, is_loss=False)
        return RecordText(_with_lf(found.text), _with_lf(found.question), _with_lf(found.answer), _dimension(record))


def _with_lf(text: str) -> str:
    return text.replace("\r\n", "\n")


def _dimension(record: object) -> str:
    named = (record.get(key) for key in DIMENSIONS) if isinstance(record, dict) else ()
    return next((name for name in named if isinstance(name, str)), "")


def _text(record: object, text_column: str | None, remarks: Remarks) -> RecordText:
    if isinstance(record, list) and text_column is None:
        return _joined(read_messages(record, "messages", remarks))
    if not isinstance(record, dict):
        raise ValueError(f"is {kind_name(record)}, not an object with `text` or `messages`")
    reading = _Reading(record, remarks)
    text = reading.text() if text_column is None else reading.column(text_column)
    reading.remark_unused(text.text)
    return text


class _Reading:
    """One record on its way to a text. Values that are null or empty count as missing."""

    def __init__(self, record: Mapping[str, Any], remarks: Remarks) -> None:
        self._record = record
        self._given = {key: value for key, value in record.items() if not is_empty(value)}
        self._remarks = remarks
        self._used: set[str] = set()

    def column(self, name: str) -> RecordText:
        """The text in the field that the input text_column names."""
        if name not in self._record:
            raise ValueError(f"has no `{name}`, which text_column names (it has {_names(self._record)})")
        self._used.add(name)
        value = self._record[name]
        if isinstance(value, list):
            return _joined(read_messages(value, name, self._remarks))
        return RecordText(_string(value, name))

    def text(self) -> RecordText:
        """The text in the first known shape that fits."""
        text, chosen, chat = self._given.get("text"), self._first(_CHOSEN), self._first(_CHATS)
        if chosen and not (isinstance(text, str) and _is_in(text, self._given[chosen])):
            return self._answered(chat or self._first(_PROMPTS), chosen)
        if text is not None:
            return self._titled(_string(self._use("text"), "text"))
        answer = self._first(_ANSWERS)
        prompt = chat or next((key for key in _PROMPTS if key in self._given and key != answer), None)
        if prompt and (chat or answer):
            self._refuse_bad_answer()
            return self._answered(prompt, answer)
        raise ValueError(self._missing())

    def remark_unused(self, text: str) -> None:
        """Name what is in the record, but not in its text."""
        for key, value in self._given.items():
            if key in self._used:
                continue
            if key in _REJECTED and self._used.intersection(_CHOSEN):
                self._remarks.others.append(("rejected answers, which are not learnt", f"`{key}`"))
            elif key not in KNOWN_KEYS or not any(_strings(value)):
                self._remarks.keys[key] = None
            elif not _is_in(text, value):
                self._remarks.texts[key] = None

    def _first(self, keys: Sequence[str]) -> str | None:
        return next((key for key in keys if key in self._given), None)

    def _use(self, key: str | None) -> Any:
        if key is None:
            return None
        self._used.add(key)
        return self._given[key]

    def _titled(self, text: str) -> RecordText:
        title = self._given.get("title")
        if not isinstance(title, str):
            return RecordText(text)
        self._used.add("title")
        return RecordText(text if title.strip() in text else f"{title}\n\n{text}")

    def _answered(self, prompt_key: str | None, answer_key: str | None) -> RecordText:
        """A prompt, or the messages so far, and the answer. Two plain texts are joined as they are."""
        prompt = self._use(prompt_key)
        more = self._more_of_prompt(prompt, answer_key)
        before = self._before()
        is_text = isinstance(self._given.get(answer_key or ""), str)
        if is_text and not before and not more and prompt_key in (None, "prompt") and isinstance(prompt, str | None):
            return _continued(prompt or "", self._use(answer_key))
        asked = [] if prompt_key is None else self._blocks(prompt_key, prompt, USER, more)
        if prompt_key in _CHATS and answer_key not in _CHOSEN and asked and not asked[-1].speaker.startswith(USER):
            answer_key = None  # the messages have their answer
        answer = self._use(answer_key)
        said = [] if answer_key is None else self._blocks(answer_key, answer, ASSISTANT)
        blocks = _without_repetition(asked, said)
        self._require_answer(blocks)
        return _joined([*(block for block in before if block not in blocks[:2]), *blocks])

    def _more_of_prompt(self, prompt: object, answer_key: str | None) -> list[str]:
        """The fields that are further paragraphs of a prompt, without those that it contains already."""
        if not isinstance(prompt, str):
            return []
        unused = [key for key in _PARTS_OF_PROMPTS if key in self._given and key not in (*self._used, answer_key)]
        return [text for key in unused if (text := _string(self._use(key), key)) not in prompt]

    def _before(self) -> list[ChatBlock]:
        """The blocks before the prompt: system prompt, tools, and earlier turns."""
        blocks = []
        for key in _SYSTEMS:
            if key in self._given:
                blocks += self._blocks(key, self._use(key), SYSTEM)
        for key in _TOOLS:
            if key in self._given:
                tools = self._use(key)
                blocks.append(ChatBlock("Tools", tools if isinstance(tools, str) else json_text(tools)))
        if "history" in self._given:
            blocks += _history(self._use("history"), self._remarks)
        return blocks

    def _blocks(self, key: str, value: object, speaker: str, more: Sequence[str] = ()) -> list[ChatBlock]:
        """What `speaker` says, or messages: of anyone."""
        match value:
            case str() if key not in _CHATS:
                return [ChatBlock(speaker, "\n\n".join([value, *more]))]
            case bool() | int() | float():
                raise ValueError(f"has {kind_name(value)} as `{key}`, not text")
            case dict() if isinstance(value.get("messages"), list):  # OpenAI's preference data
                nested = _Reading(value, self._remarks)
                blocks = nested._before() + read_messages(value["messages"], f"{key}.messages", self._remarks)
                name_others(value, ("messages", *nested._used), f"{key}.", self._remarks)
                return blocks
            case dict() if not any(role in value for role in ROLE_KEYS):  # Gemini's system prompt, without a role
                return read_content(value, key, speaker, self._remarks)
            case list() if speaker == SYSTEM:  # Anthropic's, of parts
                return read_content(value, key, speaker, self._remarks)
            case _:
                return read_messages(value, key, self._remarks)

    def _refuse_bad_answer(self) -> None:
        for key in _LABELS:
            label = str(self._given.get(key)).lower()  # a table has it as text
            if label in ("true", "false"):
                self._used.add(key)
            if label == "false":
                raise LeftOutError(f"has `{key}`: false, so its answer is a bad one")

    def _require_answer(self, blocks: Sequence[ChatBlock]) -> None:
        left_out = any(kind == ANSWERS_LEFT_OUT for kind, _ in self._remarks.others)
        if left_out and not any(block.speaker.startswith(ASSISTANT) for block in blocks):
            raise LeftOutError(f"has only answers that are left out: {self._remarks.others[0][1]}")

    def _missing(self) -> str:
        """Why the record has no text."""
        record, known = self._record, _names(self._record)
        if any(key in record for key in ROLE_KEYS) and any(key in record for key in CONTENT_KEYS):
            return "is one message; a chat is a record with a list of `messages`, or a list of messages"
        for key in ("text", *_CHATS, *_CHOSEN):
            if key in record:
                return "has an empty text" if isinstance(record[key], str) else f"has {kind_name(record[key])} as `{key}`"
        if prompt := self._first(_PROMPTS):
            empty = next((f", but {kind_name(record[key])} as `{key}`" for key in _ANSWERS if key in record), "")
            return f"has `{prompt}` without an answer (it has {known}{empty})"
        return f"has neither `text` nor `messages` (it has {known}); text_column can name the field with the text"


def _history(history: object, remarks: Remarks) -> list[ChatBlock]:
    """Earlier turns: pairs of a question and an answer, or messages."""
    if isinstance(history, list) and history and all(isinstance(one, list) for one in history):
        if not all(len(one) == 2 and all(isinstance(text, str | None) for text in one) for one in history):
            raise ValueError("has a list as `history` whose items are not pairs of a question and an answer")
        pairs = [pair for one in history for pair in zip((USER, ASSISTANT), one, strict=True)]
        return [ChatBlock(speaker, text) for speaker, text in pairs if not is_empty(text)]
    return read_messages(history, "history", remarks)


def _without_repetition(asked: list[ChatBlock], said: list[ChatBlock]) -> list[ChatBlock]:
    """The prompt and the answer, of which one may contain the other: often both are whole conversations."""
    if said[: len(asked)] == asked or (len(asked) == 1 and asked[0] in said):
        return said
    return asked if said and asked[-len(said) :] == said else asked + said


def _continued(prompt: str, answer: str) -> RecordText:
    """Both as they are, with a blank line between them where neither has white space."""
    if prompt and answer.startswith(prompt):  # the whole conversation
        return RecordText(answer, prompt, answer.removeprefix(prompt).lstrip())
    gap = "\n\n" if prompt and not (prompt[-1].isspace() or answer[0].isspace()) else ""
    return RecordText(prompt + gap + answer, prompt, answer.lstrip())


def _joined(blocks: Sequence[ChatBlock]) -> RecordText:
    text = RecordText("\n\n".join(map(str, blocks)))
    asked = [block.text for block in blocks[:-1] if block.speaker.startswith(USER)]
    if not asked or not (blocks[-1].speaker == ASSISTANT or blocks[-1].speaker.startswith(f"{ASSISTANT} (")):
        return text
    return replace(text, question=asked[-1], answer=blocks[-1].text.lstrip())


def _string(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has {kind_name(value)} as `{key}`, not text")
    return value


def _strings(value: object) -> Iterator[str]:
    """The texts in a value that are more than white space."""
    match value:
        case str() if not is_empty(value):
            yield value
        case list():
            for one in value:
                yield from _strings(one)
        case dict():
            for one in value.values():
                yield from _strings(one)


def _is_in(text: str, value: object) -> bool:
    """Whether all texts in a value are in `text`; not so many that looking for them takes long."""
    strings = list(islice(_strings(value), _MOST_TEXTS + 1))
    return len(strings) <= _MOST_TEXTS and all(one.strip() in text for one in strings)


def _names(record: Mapping[str, Any]) -> str:
    return shortened(", ".join(map(str, record)) or "nothing")
